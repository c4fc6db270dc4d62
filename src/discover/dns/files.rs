//! The files that say how names are looked up. They are read when they have changed, also when another file has taken
//! their place.
//!
//! ringway may have become another user and may have given up files since its start, so a file that it cannot open is
//! read by another process (`app::names`).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;

use tracing::warn;

use super::conf::Surroundings;
use crate::discover::dns::ReadFile;

/// The files.
pub const NAME_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];
/// Which interfaces speak IPv6. It is that of the thread, because a test may have a network of its own.
const INTERFACES: &str = "/proc/thread-self/net/if_inet6";
/// How much of a file is read. Lists of blocked names have a few megabytes.
const BYTES_MAX: u64 = 16 << 20;

/// The texts of the files, and what shows that one has changed.
#[derive(Default)]
pub(super) struct Files {
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The text of `/etc/hosts`.
    pub hosts: String,
    /// The text of `/etc/nsswitch.conf`.
    pub nsswitch: String,
    /// What the files looked like when they were read.
    stamps: Option<[Stamp; 3]>,
    /// Whether a change of interfaces counts, and what they were.
    follows_interfaces: bool,
    /// The text of [`INTERFACES`] at that time.
    interfaces: String,
    /// Reads a file that this process cannot open.
    read_by: Option<ReadFile>,
}

/// What shows that a file has changed: device, inode, length, and both times to the nanosecond. `None` if there is no
/// file.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

impl Files {
    /// Reads what has changed. True if anything has.
    pub(super) fn look(&mut self) -> bool {
        let stamps = NAME_FILES.map(stamp);
        let interfaces = if self.follows_interfaces { read(INTERFACES, "", None) } else { self.interfaces.clone() };
        let before = self.stamps.replace(stamps);
        let is_same = interfaces == self.interfaces;
        self.interfaces = interfaces;
        if before == Some(stamps) {
            return !is_same;
        }
        let before = before.unwrap_or_default();
        let read_by = self.read_by.as_ref();
        let files = [&mut self.resolv_conf, &mut self.hosts, &mut self.nsswitch];
        for (((path, text), now), before) in NAME_FILES.iter().zip(files).zip(stamps).zip(before) {
            if now != before {
                *text = read(path, text, read_by);
            }
        }
        true
    }

    /// Sets how files are read that this process cannot open.
    pub(super) fn read_by(&mut self, read_by: Option<ReadFile>) {
        self.read_by = read_by;
    }

    /// Sets whether a change of the interfaces counts as a change.
    pub(super) fn follow_interfaces(&mut self, follows: bool) {
        self.follows_interfaces = follows;
    }

    /// What else influences lookups, besides the files.
    pub(super) fn surroundings(&mut self) -> Surroundings {
        self.interfaces = read(INTERFACES, "", None);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Surroundings {
            hostname: read("/proc/sys/kernel/hostname", "", None).trim().to_owned(),
            local_domain: variable("LOCALDOMAIN"),
            options: variable("RES_OPTIONS"),
            interfaces: self.interfaces.clone(),
        }
    }
}

/// What a file looks like now.
fn stamp(path: &str) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
    Some((data.dev(), data.ino(), data.len(), times))
}

/// The text of a file. It is empty if there is no file, and `before` if the file cannot be read any more.
fn read(path: &str, before: &str, read_by: Option<&ReadFile>) -> String {
    let itself = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = match itself() {
        // Another file is in the place of the one that the process could read when it started.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => read_by.map_or(Err(error), |read| read(path)),
        other => other,
    };
    match read {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            warn!(%error, "cannot read {path}: what it said before stays in use");
            before.to_owned()
        }
    }
}
