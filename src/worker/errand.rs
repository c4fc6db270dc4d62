//! What control has a worker do that is not in a table: tables are data, and carry no descriptors.

use super::Worker;
use super::acceptors::ListenSocket;
use crate::base::id::ListenerId;
use crate::kernel::Kernel;

/// What a worker is to do, mostly with its listening sockets.
pub enum Errand {
    /// Accept from this one too.
    Open(ListenSocket),
    /// Connections that come to this address belong to another listener now.
    Assign {
        /// See [`ListenSocket::address`].
        address: u32,
        /// Whose they are.
        listener: ListenerId,
    },
    /// Accept no more from this address.
    Close {
        /// See [`ListenSocket::address`].
        address: u32,
    },
    /// Something that each thread can only do for itself. It must not wait.
    Run(Box<dyn FnOnce() + Send>),
}

impl<K: Kernel> Worker<K> {
    /// Does what control wants of the listening sockets. To be called when it has woken this worker.
    pub(super) fn run_errands(&mut self) {
        // The table that knows the listeners was published before they were sent.
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
        // What is accepted now may be another listener's, and that may be near its limit.
        self.leave_room();
    }
}
