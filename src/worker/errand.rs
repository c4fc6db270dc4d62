//! What control asks of one worker that cannot stand in a table: tables are data and carry no descriptors.
//!
//! A reload opens and closes listening sockets this way. Control publishes the table first, then leaves the errands in
//! the worker's queue ([`Shared`](super::Shared)) and rings its bell.

use super::Worker;
use super::acceptors::ListenSocket;
use crate::base::id::ListenerId;
use crate::kernel::Kernel;

/// One thing to do, mostly with listening sockets.
pub enum Errand {
    /// Accept from this socket too.
    Open(ListenSocket),
    /// Connections that come to this address belong to another listener from now on.
    Assign {
        /// See [`ListenSocket::address`].
        address: u32,
        /// The listener.
        listener: ListenerId,
    },
    /// Stop accepting on this address and close its sockets.
    Close {
        /// See [`ListenSocket::address`].
        address: u32,
    },
    /// Run this on the worker's thread, because each thread can do it only for itself (such as giving up capabilities).
    /// It must not block.
    Run(Box<dyn FnOnce() + Send>),
}

impl<K: Kernel> Worker<K> {
    /// Does everything in the queue. Called when control has woken this worker.
    pub(super) fn run_errands(&mut self) {
        // The table that knows the new listeners was published before the errands were sent, so the old one is dropped
        // first.
        self.known.reader.let_go();
        while let Some(errand) = self.shared.next_errand(self.index) {
            match errand {
                // A worker that ends opens nothing.
                Errand::Open(_) if self.acceptors.are_closing() => {}
                Errand::Open(socket) => self.open_listener(socket),
                Errand::Run(task) => task(),
                Errand::Assign { address, listener } => {
                    self.acceptors.assign(address, listener);
                    self.look_at_held();
                }
                Errand::Close { address } => self.close_address(address),
            }
        }
        // What is accepted now may belong to another listener, which may be near its limit.
        self.leave_room();
    }
}
