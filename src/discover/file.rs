//! Backends in files, in the format of Prometheus' `file_sd`: a list of groups of targets with labels.
//!
//! ```text
//! [{ "targets": ["10.0.0.1:5432", "db2.example:5432"], "labels": { "ringway_weight": "2" } }]
//! ```
//!
//! Once per second `stat` is asked about each file, and one of which it says something new is read: a file that is
//! replaced in place, one that is renamed over another, and a link that leads elsewhere (a ConfigMap of Kubernetes) all
//! show there. A file with one wrong value counts as it was before; a file that is gone has no targets.

mod targets;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::found::{Answer, FOUND_MAX, Found, News};
use super::settings::FileSource;
use crate::sys::reading::{self, FileMark, mark_of};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that was changed so recently can change again without a sign of it in what `stat` says: the clock of the file
/// system moves in steps of some milliseconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// How many files a pattern can stand for.
const FILES_MAX: usize = 1_000;

/// Follows the files for ever.
pub async fn follow(settings: &FileSource, tell: &dyn Fn(News)) {
    let mut known = KnownFiles::default();
    loop {
        let (path, seen) = (settings.path.clone(), known.marks());
        // They may be on a disk that does not answer.
        let looked = tokio::task::spawn_blocking(move || look(&path, &seen)).await;
        match looked.unwrap_or_else(|error| Err(format!("reading panicked, which is a bug of ringway: {error}"))) {
            Ok(files) => tell(known.on(files)),
            Err(why) => tell(News::Failed(why)),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The mark of a file; `None` if it says nothing.
type Mark = Option<FileMark>;

/// What a look has found of one file.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Seen {
    /// It is as it was.
    Same,
    /// It has these targets.
    Read(Mark, Vec<Found>),
    /// It cannot be used, for this reason.
    Bad(Mark, String),
}

/// A file as it was read last.
#[derive(Clone, Debug, Default)]
struct KnownFile {
    /// What `stat` said of it then.
    mark: Mark,
    /// Its targets, when it was good last.
    found: Vec<Found>,
    /// Why it cannot be used as it is now; `None` if it can.
    fault: Option<String>,
}

/// Every file as it was read last. Pure.
#[derive(Clone, Debug, Default)]
struct KnownFiles {
    /// By their paths. Of two that have the same target, the first one counts.
    files: BTreeMap<PathBuf, KnownFile>,
    /// There was a look.
    has_looked: bool,
}

impl KnownFiles {
    /// What `stat` said of each.
    fn marks(&self) -> BTreeMap<PathBuf, Mark> {
        self.files.iter().map(|(path, file)| (path.clone(), file.mark)).collect()
    }

    /// Takes what a look has found, and says what follows.
    fn on(&mut self, seen: BTreeMap<PathBuf, Seen>) -> News {
        let is_same = self.has_looked
            && seen.len() == self.files.len()
            && seen.iter().all(|(path, seen)| *seen == Seen::Same && self.files.contains_key(path));
        if is_same && self.files.values().all(|file| file.fault.is_none()) {
            return News::Confirmed;
        }
        self.has_looked = true;
        self.files.retain(|path, _| seen.contains_key(path));
        for (path, seen) in seen {
            let file = self.files.entry(path).or_default();
            match seen {
                Seen::Same => {}
                Seen::Read(mark, found) => *file = KnownFile { mark, found, fault: None },
                Seen::Bad(mark, why) => (file.mark, file.fault) = (mark, Some(why)),
            }
        }
        let mut faults = self.files.iter().filter_map(|(path, file)| Some((path, file.fault.as_ref()?)));
        let first = faults.next().map(|(path, why)| format!("{}: {why}", path.display()));
        let more = faults.count();
        let trouble = first.map(|first| if more > 0 { format!("{first}; and {more} more") } else { first });
        let mut places = HashSet::new();
        let all = self.files.values().flat_map(|file| &file.found);
        let mut found: Vec<Found> = all.filter(|found| places.insert(found.address())).cloned().collect();
        let mut remarks = Vec::new();
        if found.len() > FOUND_MAX {
            remarks.push(format!("{} targets are more than {FOUND_MAX}; the last ones are left out", found.len()));
            found.truncate(FOUND_MAX);
        }
        if self.files.is_empty() {
            remarks.push("there is no such file".to_owned());
        }
        News::Answer(Answer { found, trouble, remarks })
    }
}

/// Looks at every file of a pattern. `known` is what `stat` said of those that were read before. Blocks.
fn look(pattern: &Path, known: &BTreeMap<PathBuf, Mark>) -> Result<BTreeMap<PathBuf, Seen>, String> {
    let mut files = BTreeMap::new();
    for path in matching(pattern)? {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => continue,
            // Reading a pipe or a device could take for ever.
            Ok(metadata) if !metadata.is_file() => {
                files.insert(path, Seen::Bad(None, "it is no regular file".to_owned()));
                continue;
            }
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                files.insert(path, Seen::Bad(None, error.to_string()));
                continue;
            }
        };
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let is_settled = age.is_some_and(|age| age >= SETTLED_AFTER);
        let mark = is_settled.then(|| mark_of(&metadata));
        let seen = match known.get(&path) {
            Some(before) if before.is_some() && *before == mark => Seen::Same,
            _ => read(&path).map_or_else(|why| Seen::Bad(mark, why), |found| Seen::Read(mark, found)),
        };
        files.insert(path, seen);
    }
    Ok(files)
}

/// Reads one file.
fn read(path: &Path) -> Result<Vec<Found>, String> {
    let bytes = reading::bounded(path, FILE_MAX).map_err(|error| error.to_string())?;
    targets::read(&bytes)
}

/// The files that a path stands for, whose last part can have `*` in it.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(folder) = pattern.parent().filter(|_| name.contains('*')) else { return Ok(vec![pattern.to_path_buf()]) };
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        let is_hidden = |file: &str| file.starts_with('.') && !name.starts_with('.');
        if entry.file_name().to_str().is_some_and(|file| !is_hidden(file) && fits(name, file)) {
            found.push(entry.path());
        }
        if found.len() > FILES_MAX {
            return Err(format!("{} stands for more than {FILES_MAX} files", pattern.display()));
        }
    }
    Ok(found)
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
