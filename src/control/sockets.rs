//! Listening sockets, as control has them changed. Who binds them and hands them to workers is above both.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::{error, warn};

use crate::base::id::ListenerId;
use crate::config::model::Config;
use crate::sys::socket_file::{AtEnd, Found, SocketFile};

/// Binds what a configuration names.
pub trait Sockets: Send {
    /// Binds what is new in `config`, and changes nothing else. What was prepared before and not committed is let go.
    ///
    /// # Errors
    /// Something could not be bound; then nothing is.
    fn prepare(&mut self, config: &Config) -> Result<(), Refused>;

    /// Has workers accept from what was prepared, and no more from what is gone. The table that knows the listeners
    /// must be published before.
    fn commit(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>);

    /// Every socket that workers accept from, for another process to accept from as well. Let go of them soon: until
    /// then they stay open.
    fn lend(&self) -> Vec<Arc<OwnedFd>>;

    /// Sees whether the files of unix sockets are still there, and binds those anew that are gone: until then no client
    /// finds them.
    fn mend(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>);

    /// Another ringway listens on them from now on: files stay if they are that one's.
    fn leave(&mut self);
}

/// The file of a unix socket, and what was last said of it.
#[derive(Debug)]
pub struct WatchedFile {
    file: SocketFile,
    /// Said once, not every time somebody looks.
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
                    warn!(path = %path.display(), "the file of this socket was removed; ringway has bound it anew");
                    *self = WatchedFile::new(file);
                    Some(bound)
                }
                Err(error) if is_news => {
                    error!(path = %path.display(), %error, "the file of this socket was removed, and ringway cannot \
                           bind it anew: no client finds it");
                    None
                }
                Err(_) => None,
            },
        }
    }
}

/// Why a socket could not be bound.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The key, the address, the cause and the remedy.
    pub message: String,
    /// In use, which may be over in a moment: sockets that a reload has closed are gone when their workers say so.
    pub may_pass: bool,
}
