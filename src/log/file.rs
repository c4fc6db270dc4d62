//! A log file that is written while control goes on.
//!
//! A write to a file can hang with its disk, and control must not wait: its ring does the write, or a thread where
//! control has no ring. A file is opened on a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(not(target_env = "musl"))]
use tokio_uring::buf::BoundedBuf;

use crate::kernel::driver::Driver;
use crate::sys::system;

/// The mode of a new log file. The log names clients, so other users of the host cannot read it.
const MODE: u32 = 0o640;

/// Opens a log file to append to, and makes it if it does not exist.
///
/// # Errors
/// One line with the remedy.
pub fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    // To open a pipe waits for its reader, and to write to it can wait for ever.
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo() || found.file_type().is_socket()) {
        return Err(format!("{shown} is a pipe or a socket: write to a file, or to \"stdout\" or \"stderr\""));
    }
    let mut options = OpenOptions::new();
    // A user that can write to the folder must not choose, by a link, what is appended to.
    options.append(true).create(true).mode(MODE).custom_flags(system::NO_FOLLOW);
    options.open(path).map_err(|error| {
        let remedy = match error.kind() {
            _ if system::is_link(&error) => "it is a symbolic link: name the file itself (\"stdout\" for /dev/stdout)",
            io::ErrorKind::NotFound => "its directory does not exist: create it",
            io::ErrorKind::PermissionDenied => "not allowed: let ringway's user write to the file and its directory",
            io::ErrorKind::IsADirectory => "it is a directory: name a file in it",
            io::ErrorKind::ReadOnlyFilesystem => {
                "the file system is read-only: ReadWritePaths= or LogsDirectory= in \
                                                  systemd, a volume in a container"
            }
            _ => return format!("cannot open {shown}: {error}"),
        };
        format!("cannot open {shown}: {remedy}")
    })
}

/// A log file that is open.
pub(super) struct LogFile {
    /// Where it was opened, for opening it again.
    path: PathBuf,
    /// The open file.
    file: Handle,
    /// What control runs on.
    driver: Driver,
    /// The file ends within a line, because a write failed half way.
    torn: bool,
}

/// A file, and what writes it while control goes on.
enum Handle {
    /// Control's ring does the writes.
    #[cfg(not(target_env = "musl"))]
    Ring(tokio_uring::fs::File),
    /// A thread does the writes, and can block.
    Thread(Arc<File>),
}

impl Handle {
    /// A handle on an open file.
    fn new(file: File, driver: Driver) -> Handle {
        match driver {
            #[cfg(not(target_env = "musl"))]
            Driver::IoUring => Handle::Ring(tokio_uring::fs::File::from_std(file)),
            _ => Handle::Thread(Arc::new(file)),
        }
    }

    /// Appends a part of `lines`, from the byte at `from` on: how many bytes, and the lines.
    async fn write(&self, lines: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        match self {
            #[cfg(not(target_env = "musl"))]
            Handle::Ring(file) => {
                let (result, part) = file.write_at(lines.slice(from..), 0).submit().await;
                (result, part.into_inner())
            }
            Handle::Thread(file) => {
                let file = file.clone();
                let write = move || ((&*file).write(&lines[from..]), lines);
                match tokio::task::spawn_blocking(write).await {
                    Ok(written) => written,
                    Err(error) => (Err(io::Error::other(error)), Vec::new()),
                }
            }
        }
    }

    /// Closes it.
    async fn close(self) {
        #[cfg(not(target_env = "musl"))]
        if let Handle::Ring(file) = self {
            let _ = file.close().await;
        }
    }
}

impl LogFile {
    /// Takes over a file that was opened by [`open`]. `driver` is what control runs on.
    pub(super) fn new(path: PathBuf, file: File, driver: Driver) -> LogFile {
        LogFile { path, file: Handle::new(file, driver), driver, torn: false }
    }

    /// Where the file was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines. Returns how many of them are lost, and why.
    pub(super) async fn write(&mut self, mut lines: Vec<u8>) -> (u64, Option<io::Error>) {
        if self.torn {
            // The next line must not continue the one that was cut short.
            lines.insert(0, b'\n');
        }
        let (mut buffer, mut written) = (lines, 0);
        let error = loop {
            let (result, lines) = self.file.write(buffer, written).await;
            buffer = lines;
            match result {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if written == buffer.len() {
                break None;
            }
        };
        let (lost, torn) = damage(&buffer, written, self.torn);
        self.torn = torn;
        (lost, error)
    }

    /// Opens the path again and closes the old file, as after a rotation.
    ///
    /// # Errors
    /// It cannot be opened. The old file stays in use.
    pub(super) async fn reopen(&mut self) -> Result<(), String> {
        let path = self.path.clone();
        // On a thread of its own: a file system that hangs must not hang control.
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        let file = opened.map_err(|error| error.to_string())??;
        let old = std::mem::replace(&mut self.file, Handle::new(file, self.driver));
        self.torn = false;
        old.close().await;
        Ok(())
    }
}

/// What a write left behind, of which `written` bytes succeeded: how many lines are lost, and whether the file ends
/// within a line.
fn damage(lines: &[u8], written: usize, was_torn: bool) -> (u64, bool) {
    let (there, rest) = lines.split_at(written);
    let lost = rest.iter().filter(|&&byte| byte == b'\n').count() as u64;
    match there.last() {
        // The first byte is the line end for the torn line; it ends none of these lines.
        None => (lost - u64::from(was_torn), was_torn),
        Some(&last) => (lost, last != b'\n'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_whole_are_lost_and_do_not_run_into_the_next_ones() {
        assert_eq!(damage(b"ab\ncd\n", 6, false), (0, false));
        assert_eq!(damage(b"ab\ncd\n", 3, false), (1, false));
        assert_eq!(damage(b"ab\ncd\n", 4, false), (1, true));
        assert_eq!(damage(b"ab\ncd\n", 0, false), (2, false));
        assert_eq!(damage(b"\nab\n", 0, true), (1, true));
        assert_eq!(damage(b"\nab\n", 1, true), (1, false));
        assert_eq!(damage(b"\nab\n", 2, true), (1, true));
    }

    #[test]
    fn what_cannot_be_a_log_file_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| open(&folder.path().join(name)).map(|_| ());
        assert_eq!(at("new"), Ok(()));
        assert!(at("none/x").unwrap_err().contains("its directory does not exist: create it"));
        assert!(at("").unwrap_err().contains("it is a directory"));
        std::os::unix::fs::symlink(folder.path().join("new"), folder.path().join("link")).unwrap();
        assert!(at("link").unwrap_err().contains("name the file itself"));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(at("s").unwrap_err().contains("pipe or a socket"));
    }
}
