//! The unix socket `admin.socket`, and its file.
//!
//! A user that can open the file can change everything, so its mode counts: it is set before the first client can
//! connect.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::base::address::{Address, BindAddress};
use crate::kernel::Options;
use crate::sys::listener;
use crate::sys::socket_file::{self, AtEnd, SocketFile};

/// Longer than the number of connections that are served, so that a burst of clients is not refused.
const BACKLOG: u32 = 64;

/// A bound socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    /// Where clients connect.
    pub(super) listener: UnixListener,
    /// Its file, and whether it is removed at the end.
    pub(super) file: SocketFile,
    /// The mode that the file must have, such as 0o600.
    pub(super) mode: u32,
}

impl Socket {
    /// Binds the socket; its file has this mode from the first moment. A stale file, on which nothing listens, is
    /// replaced.
    ///
    /// # Errors
    /// The path cannot be bound, or another program listens there.
    ///
    /// # Errors
    /// The path cannot be bound, or another program listens there.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Socket> {
        Ok(Socket { listener: bind(path, mode)?, file: SocketFile::at(path, AtEnd::Remove)?, mode })
    }

    /// Uses a socket that another ringway has bound and is about to leave to this one. Until it does, the file belongs
    /// to the other one and is not removed by this one.
    ///
    /// # Errors
    /// There is no such file.
    pub fn adopt(fd: OwnedFd, path: &Path, mode: u32) -> io::Result<Socket> {
        Ok(Socket { listener: UnixListener::from(fd), file: SocketFile::at(path, AtEnd::Leave)?, mode })
    }
}

/// Binds the socket only; the caller keeps its file.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let place = BindAddress::everywhere(Address::Unix(path.to_path_buf()));
    listener::listen(&place, BACKLOG, mode, false, &Options::default()).map(UnixListener::from)
}

/// Sets the mode of the file, if it differs (another ringway may have made it).
///
/// # Errors
/// The file is another program's.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    match fs::symlink_metadata(path)?.mode() & 0o777 == mode {
        true => Ok(()),
        false => socket_file::set_mode(path, mode),
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
