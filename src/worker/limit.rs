//! As many client connections as there may be, of the process and of each listener. Who comes when there are as many
//! waits in the backlog; those few that were accepted all the same wait here (`early`).

use super::Worker;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::kernel::{Fd, Kernel, Sockets};

/// Between looks while as many connections are open as may be; another worker may close one.
const FULL_RETRY_NS: u64 = 10_000_000;
/// The same where there is no other worker: its own sessions say when they end (`admit_waiting`).
const FULL_RETRY_ALONE_NS: u64 = 1_000_000_000;

/// What has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    Process,
    Listener,
}

impl<K: Kernel> Worker<K> {
    /// Keeps a connection that there is no room for. If too many wait already, it is the youngest, and is reset.
    pub(super) fn came_early(&mut self, fd: Fd, listener: ListenerId) {
        if self.acceptors.early().len() >= self.shared.early_max {
            self.turn_away(fd);
            return;
        }
        self.acceptors.early().push(fd, listener);
    }

    /// Frees a descriptor for a session that was admitted, at the cost of the youngest client that was not: it is
    /// reset. Where none waits here, another worker is asked to give up one of its own; whether there is one now.
    pub(super) fn give_up_youngest(&mut self) -> bool {
        let Some(fd) = self.acceptors.early().pop_youngest() else {
            self.shared.want_descriptor();
            return false;
        };
        self.shared.sub_load(self.index);
        self.kernel.sockets().end_on_close(fd, true);
        self.kernel.close_now(fd);
        true
    }

    /// Whoever waits is looked after, even if nothing happens on this worker: it may wait for another one's session.
    pub(super) fn look_again(&mut self, full: Full, listener: ListenerId) {
        match full {
            Full::Process => self.pause(self.full_retry_ns()),
            Full::Listener => self.hold(listener, self.full_retry_ns()),
        }
    }

    fn full_retry_ns(&self) -> u64 {
        if self.shared.workers() == 1 { FULL_RETRY_ALONE_NS } else { FULL_RETRY_NS }
    }

    /// Counts a session of the process and of its listener, if there is room for one, and nobody of that listener waits
    /// who came before.
    pub(super) fn reserve(&self, listener: ListenerId) -> Result<(), Full> {
        if self.acceptors.has_early(listener) { Err(Full::Listener) } else { self.reserve_next(listener) }
    }

    /// Counts a session of the process and of its listener, if there is room for one. Its client is the next one.
    fn reserve_next(&self, listener: ListenerId) -> Result<(), Full> {
        let counts = &self.shared.counts;
        if counts.process_opened() > self.shared.connections_max {
            counts.process_closed();
            return Err(Full::Process);
        }
        if !counts.listener_try_open(listener, self.most_of(listener)) {
            counts.process_closed();
            return Err(Full::Listener);
        }
        Ok(())
    }

    /// The inverse of [`Worker::reserve`].
    pub(super) fn give_back(&self, listener: ListenerId) {
        self.shared.counts.process_closed();
        self.shared.counts.listener_closed(listener);
    }

    /// Connections a listener may have.
    fn most_of(&self, listener: ListenerId) -> u32 {
        self.acceptors.bound(listener).most
    }

    /// Has this turn admit who waits, as there may be room. To be called when a session has ended: there are
    /// descriptors again, too. Not from here, because one that is admitted may end at once, and many wait.
    pub(super) fn admit_waiting(&mut self) {
        self.acceptors.look_now(self.turn.now);
    }

    /// Whether it was the process that had no room.
    fn admit_those_with_room(&mut self) -> bool {
        let (mut next, mut full) = (0, Vec::new());
        while let Some((fd, listener)) = self.acceptors.early().get(next) {
            if full.contains(&listener) {
                next += 1;
                continue;
            }
            match self.reserve_next(listener) {
                Ok(()) => {
                    self.acceptors.early().remove(next);
                    self.begin(fd, listener);
                }
                Err(Full::Process) => return true,
                Err(Full::Listener) => {
                    // It may have waited for the process until now.
                    self.look_again(Full::Listener, listener);
                    full.push(listener);
                }
            }
        }
        false
    }

    /// To be called once a turn.
    #[inline]
    pub(super) fn retry_accepting(&mut self) {
        if self.turn.now >= self.acceptors.retry_at() {
            self.retry_accepting_now();
        }
    }

    #[cold]
    fn retry_accepting_now(&mut self) {
        if !self.acceptors.early().is_empty() && self.shared.takes_wanted_descriptor() {
            self.give_up_youngest();
        }
        // Those that wait only for their own listener do not keep the others from being accepted.
        let is_full =
            self.admit_those_with_room() || self.shared.counts.process_connections() >= self.shared.connections_max;
        if self.acceptors.may_resume(self.turn.now) {
            let again = self.turn.now.after_ns(self.full_retry_ns());
            self.acceptors.resume_at(if is_full { again } else { Moment::NEVER });
            if !is_full {
                self.open_listeners();
            }
        }
        if self.acceptors.has_held_due(self.turn.now) {
            self.look_at_held();
        }
    }

    /// Accepts of listeners again that have room now.
    pub(super) fn look_at_held(&mut self) {
        let still_held = self.release_held();
        // Some may wait for a listener that is being removed.
        let look_again = still_held || !self.acceptors.early().is_empty();
        let at = if look_again { self.turn.now.after_ns(self.full_retry_ns()) } else { Moment::NEVER };
        self.acceptors.look_at_held_at(at);
    }
}
