//! The unix socket of the admin server, and its file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::base::address::Address;
use crate::kernel::Options;
use crate::sys::socket;

/// More than may be served at once; who comes in a burst need not be refused.
const BACKLOG: u32 = 64;

/// Bound, and its file removed with it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    file: File,
}

impl Socket {
    /// Binds it with that mode from its first moment. A stale file nobody listens on is replaced.
    ///
    /// # Errors
    /// The path cannot be bound, or somebody listens there.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Socket> {
        let bound = socket::listen(&Address::Unix(path.to_path_buf()), BACKLOG, mode, &Options::default())?;
        let listener = UnixListener::from(bound);
        let identity = identity(path)?;
        Ok(Socket { listener, file: File { path: path.to_path_buf(), mode, identity } })
    }

    /// One that another ringway has bound there, and is about to leave to this one.
    ///
    /// # Errors
    /// There is no such file.
    pub fn adopt(fd: OwnedFd, path: &Path, mode: u32) -> io::Result<Socket> {
        let identity = identity(path)?;
        Ok(Socket { listener: UnixListener::from(fd), file: File { path: path.to_path_buf(), mode, identity } })
    }

    /// Its parts; the file is removed when the second is dropped.
    pub(super) fn split(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }
}

/// Device and inode: which file it is, whatever it is called.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removed when dropped, unless another ringway has put its own there meanwhile.
#[derive(Debug)]
pub(in crate::control) struct File {
    path: PathBuf,
    mode: u32,
    identity: (u64, u64),
}

impl File {
    /// Gives it its mode, if another ringway has made it with another one.
    ///
    /// # Errors
    /// The file is somebody else's.
    pub(in crate::control) fn set_mode(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path)?.mode() & 0o777 == self.mode {
            true => Ok(()),
            false => socket::set_mode(&self.path, self.mode),
        }
    }

    /// Another ringway has taken over: the file stays if that one serves there. To be called when this one listens no
    /// more.
    pub(in crate::control) fn leave(self) {
        if socket::is_served(&self.path) {
            std::mem::forget(self);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path); // a stale file is replaced by the next start
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_file_has_its_mode_and_goes_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin");
        for mode in [0o600, 0o660, 0o666] {
            let socket = Socket::bind(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            assert!(UnixStream::connect(&path).is_ok());
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "nobody removed it");
        let live = Socket::bind(&path, 0o600).unwrap();
        assert_eq!(Socket::bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the live one still listens");
        drop(live);
        fs::write(&path, "not a socket").unwrap();
        assert!(Socket::bind(&path, 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin");
        let old = Socket::bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = Socket::bind(&path, 0o600).unwrap();
        drop(old);
        assert!(UnixStream::connect(&path).is_ok());
    }
}
