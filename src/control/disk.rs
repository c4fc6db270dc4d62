//! What a configuration names, as this process finds it: its environment and its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Outside;
use crate::sys::reading;

/// The longest file of networks, in bytes: some four million of them.
const FILE_MAX: u64 = 64 << 20;

/// The environment of this process, and what it can read.
pub struct Disk;

impl Outside for Disk {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// Blocks. A pipe or a device is refused: reading it could take for ever.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        reading::bounded(path, FILE_MAX)
    }

    /// Blocks.
    fn folder(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    /// Blocks. Where the distribution keeps them; one that cannot be read is left out.
    fn authorities(&self) -> io::Result<Vec<Vec<u8>>> {
        let found = rustls_native_certs::load_native_certs();
        match (found.certs.is_empty(), found.errors.first()) {
            (true, Some(error)) => Err(io::Error::other(error.to_string())),
            (true, None) => {
                Err(io::Error::other("none was found; install ca-certificates, or name a file with `ca_file`"))
            }
            (false, _) => Ok(found.certs.into_iter().map(|der| der.as_ref().to_vec()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_no_more_than_fits() {
        assert!(Disk.file(Path::new("/dev/zero")).unwrap_err().to_string().contains("no regular file"));
        assert!(Disk.file(Path::new("/")).unwrap_err().to_string().contains("no regular file"));
        assert_eq!(Disk.file(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, "10.0.0.0/8\n").unwrap();
        assert_eq!(Disk.file(&path).unwrap(), b"10.0.0.0/8\n");
        std::fs::File::create(&path).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(Disk.file(&path).unwrap_err().to_string().contains("more than 64 MiB"));
    }
}
