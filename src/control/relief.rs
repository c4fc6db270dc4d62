//! Control's part of a take-over: relieving the ringway before, and being relieved by the next one. What is said
//! between the two is in [`take_over`](crate::take_over).

use tracing::info;

use super::lifecycle::LifecycleEvent;
use super::notify;
use super::run::ControlLoop;
use crate::api::command::{Loan, Successor};
use crate::snapshot::table::Phase;

impl ControlLoop {
    /// Whether this ringway serves: immediately, or, if it has to relieve another one, when that has been done. Called
    /// again and again until it is true.
    pub(super) async fn has_succeeded(&mut self) -> bool {
        if !self.succession.has_predecessor() {
            return true;
        }
        let is_late = self.succession.is_late(self.control.clock.now());
        if !is_late && !self.control.fleet.borrow().is_looked_over() {
            return false;
        }
        self.publisher.publish(&self.control, Phase::Serving);
        // From here on both accept, and nothing is left that can fail.
        self.sockets.commit(&|name| self.control.fleet.borrow().listener(name));
        self.succession.relieve().await;
        notify::main_process();
        true
    }

    /// Binds unix sockets again whose files were removed, so that clients find them.
    pub(super) fn mend_socket_files(&mut self) {
        if self.lifecycle.phase().accepts()
            && !self.control.is_relieved.get()
            && self.succession.forbids_change().is_none()
        {
            self.sockets.mend(&|name| self.control.fleet.borrow().listener(name));
            self.succession.mend_socket_file();
        }
    }

    /// Every listening socket, for another ringway.
    ///
    /// # Errors
    /// Why there are none now, in one line.
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
        // If shutdown was asked for meanwhile, it drains already; a second time would reset its sessions.
        (self.lifecycle.phase() == Phase::Serving).then_some(LifecycleEvent::Relieved)
    }
}
