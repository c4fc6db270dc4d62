//! The unix socket of the admin server, and its file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::base::address::Address;
use crate::kernel::Options;
use crate::sys::socket;
use crate::sys::socket_file::{AtEnd, SocketFile};

/// More than may be served at once; who comes in a burst need not be refused.
const BACKLOG: u32 = 64;

/// Bound, and its file removed with it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
    pub(super) mode: u32,
}

impl Socket {
    /// Binds it with that mode from its first moment. A stale file nobody listens on is replaced.
    ///
    /// # Errors
    /// The path cannot be bound, or somebody listens there.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Socket> {
        Ok(Socket { listener: bind(path, mode)?, file: SocketFile::at(path, AtEnd::Remove)?, mode })
    }

    /// One that another ringway has bound there, and is about to leave to this one: until then the file is its own.
    ///
    /// # Errors
    /// There is no such file.
    pub fn adopt(fd: OwnedFd, path: &Path, mode: u32) -> io::Result<Socket> {
        Ok(Socket { listener: UnixListener::from(fd), file: SocketFile::at(path, AtEnd::Leave)?, mode })
    }
}

/// Without anybody who sees to its file.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let address = Address::Unix(path.to_path_buf());
    socket::listen(&address, BACKLOG, mode, &Options::default()).map(UnixListener::from)
}

/// Gives the file its mode, if another ringway has made it with another one.
///
/// # Errors
/// The file is another program's.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    match fs::symlink_metadata(path)?.mode() & 0o777 == mode {
        true => Ok(()),
        false => socket::set_mode(path, mode),
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
