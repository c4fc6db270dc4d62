//! Listening sockets, as control has them changed. Who binds them and hands them to workers is above both.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::base::id::ListenerId;
use crate::config::model::Config;

/// Binds what a configuration names.
pub trait ListeningSockets: Send {
    /// Binds what is new in `config`, and changes nothing else. What was prepared before and not committed is let go.
    ///
    /// # Errors
    /// Something could not be bound; then nothing is.
    fn prepare(&mut self, config: &Config) -> Result<(), SocketsRefused>;

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

/// Why a socket could not be bound.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SocketsRefused {
    /// The key, the address, the cause and the remedy.
    pub message: String,
    /// In use, which may be over in a moment: sockets that a reload has closed are gone when their workers say so.
    pub may_pass: bool,
}
