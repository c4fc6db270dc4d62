//! Listening sockets, as control has them changed. `app` binds them and hands them to workers, because it alone knows
//! both.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::base::id::ListenerId;
use crate::config::model::Config;

/// Binds the addresses of a configuration and has workers accept on them.
pub trait ListeningSockets: Send {
    /// Binds what is new in `config`, and changes nothing else. What was prepared before and not committed is closed.
    ///
    /// # Errors
    /// Something could not be bound; then nothing is.
    fn prepare(&mut self, config: &Config) -> Result<(), SocketsRefused>;

    /// Has workers accept on what was prepared, and stop on what is no longer configured. `listener` gives the id of a
    /// name; the table with these listeners must have been published.
    fn commit(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>);

    /// Every socket on which workers accept, for another process to accept on as well. They stay open while the
    /// returned values are held, so that must be short.
    fn lend(&self) -> Vec<Arc<OwnedFd>>;

    /// Looks whether the files of unix sockets still exist, and binds those again that do not: without its file no
    /// client finds a socket.
    fn mend(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>);

    /// Another ringway listens on these sockets from now on, so the files of unix sockets stay.
    fn leave(&mut self);
}

/// Why a socket could not be bound.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SocketsRefused {
    /// One line: the key, the address, the cause, and what to do.
    pub message: String,
    /// Whether it may work in a moment: the address is in use, perhaps by a socket that a reload has just given up.
    pub may_pass: bool,
}
