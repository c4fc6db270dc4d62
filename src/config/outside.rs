//! What a configuration takes from outside of its text.

use std::io;
use std::path::{Path, PathBuf};

/// Where a reader finds what a configuration names: variables, and lists that stand in files of their own.
///
/// A closure that gives variables is one without files.
pub trait Outside {
    /// The value of an environment variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The paths of what is in a folder.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn folder(&self, _path: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "folders are not read here"))
    }

    /// The certificate authorities of this host, each in the form of DER.
    ///
    /// # Errors
    /// Why there are none.
    fn authorities(&self) -> io::Result<Vec<Vec<u8>>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "they are not read here"))
    }
}

impl<F: Fn(&str) -> Option<String>> Outside for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }

    fn file(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "files are not read here"))
    }
}
