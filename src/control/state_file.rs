//! `process.state_file`: what the API has set, added and removed, written so that it survives the end of the process at
//! any moment.
//!
//! A new file is written beside the old one, brought to the disk, and renamed over it, so that there is always one
//! whole file. It is written before the change is made: a change that was answered is in the file. What cannot be read
//! is copied aside and not used, because ringway must be able to start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::time::Clock;
use crate::fleet::{Kept, TimeOfDay};

/// The permission bits of the file: configurations can have secrets in them.
const MODE: u32 = 0o600;
/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// What the file had at the start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// What was kept; nothing if there is no file, or none that can be used.
    pub kept: Kept,
    /// What a person must know of it.
    pub warnings: Vec<String>,
}

/// What time of day it is now.
pub(super) fn time_of_day(clock: Clock) -> TimeOfDay {
    let now = clock.now();
    let since_1970 = clock.wall(now).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    TimeOfDay { now, now_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
}

/// Reads the file; without one nothing was kept. `now_s` is the time of day in seconds since 1970, for the name of a
/// copy. Blocks.
pub fn read(path: &Path, now_s: u64) -> Restored {
    let read = fs::metadata(path).and_then(|found| match found.len() {
        length if length > FILE_MAX => Err(io::Error::other(format!("it has {length} bytes, more than {FILE_MAX}"))),
        _ => fs::read(path),
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Restored::default(),
        Err(error) => return unusable(path, &error.to_string(), None),
    };
    let kept: Kept = match serde_json::from_slice(&bytes) {
        Ok(kept) => kept,
        Err(error) => return unusable(path, &error.to_string(), Some(now_s)),
    };
    match kept.is_of_this_version() {
        true => Restored { kept, warnings: Vec::new() },
        false => unusable(path, &format!("it is of version {}, which is not known here", kept.version), Some(now_s)),
    }
}

/// A file that is not used. With a time it is copied aside, because the next change writes it anew.
fn unusable(path: &Path, why: &str, copy_at_s: Option<u64>) -> Restored {
    let copied = copy_at_s.map(|at_s| {
        let aside = beside(path, &format!("corrupt-{at_s}"));
        match fs::copy(path, &aside) {
            Ok(_) => format!("; it was copied to {}", aside.display()),
            Err(error) => format!("; it could not be copied to {}: {error}", aside.display()),
        }
    });
    let warning = format!(
        "state_file {} cannot be used: {why}{}; what was set, added and removed before is lost, and ringway starts as \
         its configuration says",
        path.display(),
        copied.unwrap_or_default()
    );
    Restored { kept: Kept::default(), warnings: vec![warning] }
}

/// Writes the file. Blocks until it is on the disk.
///
/// # Errors
/// It could not be written; the file is as it was.
pub fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(kept)?;
    bytes.push(b'\n');
    let new = beside(path, "new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename itself is on the disk when the folder is.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A file beside another one, with something behind its name.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_broken_is_copied_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(read(&path, 1).warnings.is_empty(), "no file is no fault");
        let kept = Kept::empty();
        write(&path, &kept).unwrap();
        assert_eq!(read(&path, 1).kept, kept);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, MODE);
        for text in ["", "{", "[]", "{\"version\": 99}", "{\"version\": 1, \"backends\": 7}"] {
            fs::write(&path, text).unwrap();
            let restored = read(&path, 77);
            assert_eq!(restored.kept, Kept::default(), "{text}");
            assert!(restored.warnings[0].contains("state.json.corrupt-77"), "{:?}", restored.warnings);
            assert_eq!(fs::read_to_string(folder.path().join("state.json.corrupt-77")).unwrap(), text);
        }
        assert!(write(Path::new("/nowhere/state.json"), &kept).is_err());
    }
}
