//! `ringway import FILE`: reads the file and those beside it, and writes what `import` makes of them.
//!
//! Remarks go to standard error, one line each. If something was refused, nothing is written unless it is asked for:
//! a configuration with a part missing must not be taken for a whole one.
//!
//! | exit | |
//! |---|---|
//! | 0 | everything is carried over; notes may say how it differs |
//! | 1 | something was refused, or OUT cannot be written |
//! | 2 | the file cannot be read, or is of neither program |

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::args::{ImportFormat, ImportOptions};
use super::failure::Failure;
use crate::import::{self, Files, Language};

/// The longest file that is read: some hundred times the largest one that was seen.
const FILE_MAX: u64 = 64 << 20;

/// The command.
pub(super) fn import(options: &ImportOptions) -> Result<(), Failure> {
    let name = options.file.display().to_string();
    let text = Beside.text(&options.file).map_err(|error| Failure::Usage(unread(&name, &error)))?;
    let language = match options.format {
        Some(ImportFormat::Haproxy) => Some(Language::Haproxy),
        Some(ImportFormat::Nginx) => Some(Language::Nginx),
        None => import::guess(&text),
    };
    let Some(language) = language else {
        let text = format!("{name} looks like no configuration of HAProxy or nginx; say which with --format");
        return Err(Failure::Usage(text));
    };
    let translation =
        import::translate(&text, &name, language, &Beside).map_err(|fault| Failure::Usage(fault.to_string()))?;
    for note in &translation.notes {
        let _ = writeln!(io::stderr(), "{note}"); // if this fails, there is no other place to write to
    }
    let refused = translation.refused();
    if (refused == 0 || options.partial) && !translation.toml.is_empty() {
        match &options.output {
            None => super::print(translation.toml.as_bytes())?,
            Some(path) => write(path, &translation.toml)?,
        }
    }
    match (refused, options.partial) {
        (0, _) => Ok(()),
        (count, true) => Err(anyhow::anyhow!("{} not carried over", lines(count)).into()),
        (count, false) => {
            let text = format!("{} not carried over, so nothing is written; --partial writes the rest", lines(count));
            Err(anyhow::anyhow!(text).into())
        }
    }
}

/// So many lines, as the subject of a sentence.
fn lines(count: usize) -> String {
    if count == 1 { "1 line is".to_string() } else { format!("{count} lines are") }
}

/// Writes a file as a whole or not at all.
///
/// The text goes to a file beside it first, which then takes its name. So a program that reads the file never sees half
/// of it, and a full disk leaves the old one.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_file_name(format!(
        ".{}.{}",
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        std::process::id()
    ));
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside); // it may not be there
        Failure::RunTime(anyhow::anyhow!("cannot write {}: {error}", path.display()))
    })
}

/// Why the file could not be read.
fn unread(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {name}"),
        _ => format!("cannot read {name}: {error}"),
    }
}

/// The files of this machine, and the environment of this process.
struct Beside;

impl Files for Beside {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            return Err(io::Error::other("it is a directory; name the file"));
        }
        if !meta.is_file() {
            return Err(io::Error::other("it is a pipe, a socket or a device; save its text to a file and name that"));
        }
        // Some files have another length than they say.
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(io::Error::other(format!("it has more than {} MiB; name the configuration", FILE_MAX >> 20)));
        }
        // Comments may be in any encoding.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let part = part.as_os_str();
            let text = part.to_string_lossy();
            if !text.contains(['*', '?', '[']) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let mut next = Vec::new();
            for folder in &found {
                let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                for entry in fs::read_dir(here).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let is_hidden = name.to_string_lossy().starts_with('.') && !text.starts_with('.');
                    if !is_hidden && fits(&text, &name.to_string_lossy()) {
                        next.push(folder.join(name));
                    }
                }
            }
            found = next;
        }
        found.retain(|path| path.exists());
        found.sort();
        Ok(found)
    }
}

/// Whether a name fits a pattern of a shell: `*`, `?` and `[…]`.
///
/// A star takes as little as possible; where that leads nowhere, the last one takes one more (as in glob(7), and in
/// linear memory).
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it has taken.
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < name.len() {
        let (taken, is_fit) = match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
                continue;
            }
            Some('?') => (1, true),
            Some('[') => set(&pattern[at..], name[here]),
            Some(c) => (1, *c == name[here]),
            None => (0, false),
        };
        if is_fit {
            at += taken;
            here += 1;
        } else if let Some((back, took)) = star {
            (at, here, star) = (back + 1, took + 1, Some((back, took + 1)));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Whether a character is in the set at the beginning of a pattern, and how long the set is.
fn set(pattern: &[char], c: char) -> (usize, bool) {
    let Some(end) = pattern.iter().skip(2).position(|c| *c == ']').map(|at| at + 2) else {
        return (1, c == '[');
    };
    let (is_not, inner) = match pattern[1] {
        '!' | '^' => (true, &pattern[2..end]),
        _ => (false, &pattern[1..end]),
    };
    let mut rest = inner;
    let mut is_in = false;
    while let Some((first, tail)) = rest.split_first() {
        rest = match tail {
            ['-', last, tail @ ..] => {
                is_in |= (*first..=*last).contains(&c);
                tail
            }
            _ => {
                is_in |= *first == c;
                tail
            }
        };
    }
    (end + 1, is_in != is_not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_is_read_and_no_more_of_it_than_the_limit() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            assert!(Beside.text(Path::new(path)).is_err(), "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "x").unwrap();
        assert_eq!(Beside.text(&path).unwrap(), "x");
        fs::File::create(&path).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(Beside.text(&path).unwrap_err().to_string().contains("more than 64 MiB"));
    }

    #[test]
    fn a_pattern_fits_as_in_a_shell() {
        for (pattern, name, is_fit) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*a*b*", "xxaxxbxx", true),
            ("??.conf", "ab.conf", true),
            ("[0-9]*", "10-global", true),
            ("[!0-9]*", "10-global", false),
            ("a[", "a[", true),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Beside.matching(&folder.path().join("*.conf")).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.conf", "b.conf"]);
    }
}
