//! The file of a unix socket that must stay where it is.

use std::io;

use tracing::{error, warn};

use super::socket_file::{AtEnd, Found, SocketFile};

/// The file of a unix socket, and what was last said of it.
#[derive(Debug)]
pub struct WatchedFile {
    /// The file, with its identity.
    file: SocketFile,
    /// What the last look found, so that each thing is logged once and not at every look.
    told: Option<Found>,
}

impl WatchedFile {
    /// Nothing was said of it.
    pub fn new(file: SocketFile) -> WatchedFile {
        WatchedFile { file, told: None }
    }

    /// The file.
    pub fn file(&self) -> &SocketFile {
        &self.file
    }

    /// Where the file is gone, what `bind` has bound in its place.
    pub fn mend<T>(&mut self, bind: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let found = self.file.look();
        let is_news = self.told.replace(found) != Some(found);
        let path = self.file.path().to_path_buf();
        match found {
            Found::Ours => None,
            Found::AnothersOwn if is_news => {
                warn!(path = %path.display(), "the file of this socket was replaced by another program: clients that \
                      connect there do not reach ringway");
                None
            }
            Found::AnothersOwn => None,
            Found::Nothing => match bind().and_then(|bound| Ok((bound, SocketFile::at(&path, AtEnd::Remove)?))) {
                Ok((bound, file)) => {
                    warn!(path = %path.display(), "the file of this socket was removed; ringway has bound it again, \
                          and clients find it");
                    *self = WatchedFile::new(file);
                    Some(bound)
                }
                Err(error) if is_news => {
                    error!(path = %path.display(), %error, "the file of this socket was removed, and ringway cannot \
                           bind it again: no client finds it");
                    None
                }
                Err(_) => None,
            },
        }
    }
}
