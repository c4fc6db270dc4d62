//! The file of a unix socket: its mode, whether it is still ours, and that it goes when we do.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::listener;

/// Dropped, it goes as [`AtEnd`] says, unless it is another program's by then.
#[derive(Debug)]
pub struct SocketFile {
    /// Where it is.
    path: PathBuf,
    /// By which it is told from another file at the same path.
    identity: FileIdentity,
    /// What becomes of it when this is dropped.
    at_end: Cell<AtEnd>,
}

/// What becomes of the file when this process is done with the socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtEnd {
    /// It is removed.
    Remove,
    /// Another ringway may listen on the same socket: it is removed if no program listens any more.
    RemoveUnlessServed,
    /// It is left to the program that has bound it for us.
    Leave,
}

/// What is where the file was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// The file itself.
    Ours,
    /// Nothing, or a socket that no program listens on.
    Nothing,
    /// Another program listens there, or it is no socket.
    AnothersOwn,
}

/// Device, inode and birth: which file it is, whatever it is called. An inode number is given out again.
type FileIdentity = (u64, u64, Option<SystemTime>);

impl SocketFile {
    /// The one that is there now.
    ///
    /// # Errors
    /// There is none.
    pub fn at(path: &Path, at_end: AtEnd) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_path_buf(), identity: identity(path)?, at_end: Cell::new(at_end) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there now. Asks whether a program listens only where the file is not ours.
    pub fn look(&self) -> Found {
        match fs::symlink_metadata(&self.path) {
            Ok(_) if self.is_there() => Found::Ours,
            Ok(found) => {
                use std::os::unix::fs::FileTypeExt;
                let is_stale = found.file_type().is_socket() && !listener::is_served(&self.path);
                if is_stale { Found::Nothing } else { Found::AnothersOwn }
            }
            Err(_) => Found::Nothing,
        }
    }

    /// From now on another ringway may listen on the same socket, and then its file stays. It must be dropped when this
    /// process listens no more.
    pub fn share(&self) {
        if self.at_end.get() == AtEnd::Remove {
            self.at_end.set(AtEnd::RemoveUnlessServed);
        }
    }

    /// From now on it is ours to remove.
    pub fn claim(&self) {
        self.at_end.set(AtEnd::Remove);
    }

    /// Whether the file at the path is still the one that was made.
    fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let goes = match self.at_end.get() {
            AtEnd::Remove => self.is_there(),
            AtEnd::RemoveUnlessServed => self.is_there() && !listener::is_served(&self.path),
            AtEnd::Leave => false,
        };
        if goes {
            let _ = fs::remove_file(&self.path); // a stale file is replaced by the next start
        }
    }
}

/// Device, inode and time of creation of what is there now: an inode alone is soon used again.
/// Permission bits of the file of a unix socket. Whatever else is there keeps its own: in a folder of another user, a
/// path may lead to another file from one moment to the next, so it is followed once.
///
/// # Errors
/// There is no socket, or the kernel refuses.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use nix::fcntl::OFlag;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    // Not by `OpenOptions`, which drops O_PATH with musl: there it counts among the modes of access.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = std::fs::File::from(nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?);
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("it is no socket any more"));
    }
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(this, std::fs::Permissions::from_mode(mode))
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino(), found.created().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_file_is_ours_until_it_is_removed_or_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _socket = UnixListener::bind(&path).unwrap();
        let file = SocketFile::at(&path, AtEnd::Remove).unwrap();
        assert_eq!(file.look(), Found::Ours);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.look(), Found::Nothing);
        let other = UnixListener::bind(&path).unwrap();
        assert_eq!(file.look(), Found::AnothersOwn);
        drop(other);
        assert_eq!(file.look(), Found::Nothing, "nobody listens there");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "not a socket").unwrap();
        assert_eq!(file.look(), Found::AnothersOwn);
        drop(file);
        assert!(path.exists(), "it is not ours to remove");
    }

    #[test]
    fn a_shared_file_goes_only_when_nobody_listens_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        let [one, other] = [(); 2].map(|()| SocketFile::at(&path, AtEnd::Remove).unwrap());
        one.share();
        drop(one);
        assert!(path.exists());
        other.share();
        drop(socket);
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_the_program_that_started_us_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let file = SocketFile::at(&path, AtEnd::Leave).unwrap();
        file.share();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_mode_is_set_of_a_socket_and_of_nothing_else() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let [path, file, link] = ["socket", "file", "link"].map(|name| folder.path().join(name));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::fs::write(&file, "").unwrap();
        symlink(&path, &link).unwrap();
        for mode in [0o600, 0o660] {
            set_mode(&path, mode).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert!(set_mode(&file, 0o666).is_err() && set_mode(&link, 0o666).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
}
