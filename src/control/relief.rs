//! Relieving the ringway before, and being relieved by the one that comes
//! ([`take_over`](crate::take_over)).

use tracing::info;

use super::lifecycle::LifecycleEvent;
use super::notify;
use super::run::ControlLoop;
use crate::api::command::{Loan, Successor};
use crate::snapshot::table::Phase;

impl ControlLoop {
    /// Whether this one serves: immediately, or, where another one is to be relieved, when that is done.
    pub(super) async fn has_succeeded(&mut self) -> bool {
        if !self.succession.has_predecessor() {
            return true;
        }
        let is_late = self.succession.is_late(self.control.clock.now());
        if !is_late && !self.control.fleet.borrow().is_looked_over() {
            return false;
        }
        self.publisher.publish(&self.control, Phase::Serving);
        // From here on both accept; nothing that can fail is left.
        self.sockets.commit(&|name| self.control.fleet.borrow().listener(name));
        self.succession.relieve().await;
        notify::main_process();
        true
    }

    /// Sees to it that clients find the unix sockets.
    pub(super) fn mend_socket_files(&mut self) {
        if self.lifecycle.phase().accepts()
            && !self.control.is_relieved.get()
            && self.succession.forbids_change().is_none()
        {
            self.sockets.mend(&|name| self.control.fleet.borrow().listener(name));
            self.succession.mend_socket_file();
        }
    }

    /// Every listening socket, for another ringway; else why not.
    pub(super) fn lend(&mut self) -> Result<Loan, String> {
        if self.lifecycle.phase() != Phase::Serving {
            return Err("it is shutting down".to_owned());
        }
        if let Some(why) = self.succession.forbids_change() {
            return Err(why.to_owned());
        }
        Ok(self.succession.lend(self.sockets.lend()))
    }

    /// Another ringway accepts: this one stops serving the API and leaves the sockets to it.
    pub(super) async fn relieved(&mut self, by: Successor) -> Option<LifecycleEvent> {
        info!(pid = by.pid, "another ringway has taken over");
        if let Some(pid) = by.pid {
            notify::succeeded_by(pid);
        }
        self.control.is_relieved.set(true);
        self.sockets.leave();
        self.succession.close().await;
        // Asked for shutdown meanwhile, it drains already; a second time would be the end of its sessions.
        (self.lifecycle.phase() == Phase::Serving).then_some(LifecycleEvent::Relieved)
    }
}
