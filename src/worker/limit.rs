//! The limits of client connections, of the process (`connections_max`) and of each listener. A client that comes when
//! a limit is reached waits in the backlog of the kernel; the few connections that were accepted all the same wait in
//! `early`.
//!
//! A place is counted before its connection is accepted or admitted ([`Worker::reserve`]) and given back when the
//! session is over (`execute::forget`) or never begins ([`Worker::give_back`]). Counters are shared by all workers, so
//! another worker may free the place that a client of this one waits for: hence the looks every few milliseconds.

use super::Worker;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::kernel::{Fd, Kernel, Sockets};

/// How often a worker looks for room while a limit is reached; another worker may have closed a session.
const FULL_RETRY_NS: u64 = 10_000_000;
/// The same if there is no other worker. Its own sessions call `admit_waiting` when they end, so this is only a safety
/// net.
const FULL_RETRY_ALONE_NS: u64 = 1_000_000_000;

/// Which limit is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    /// `connections_max` of the process.
    Process,
    /// The limit of the listener, or an older connection of it waits here.
    Listener,
}

impl<K: Kernel> Worker<K> {
    /// Keeps a connection for which there is no room. If too many wait already, this one, the youngest, is reset.
    pub(super) fn came_early(&mut self, fd: Fd, listener: ListenerId) {
        if self.acceptors.early().len() >= self.shared.early_max {
            self.turn_away(fd);
            return;
        }
        self.acceptors.early().push(fd, listener);
    }

    /// Frees a descriptor for a session that was admitted, by resetting the youngest connection that was not. If none
    /// waits here, another worker is asked to give one up. True if a descriptor is free now.
    pub(super) fn give_up_youngest(&mut self) -> bool {
        let Some(fd) = self.acceptors.early().pop_youngest() else {
            self.shared.want_descriptor();
            return false;
        };
        self.shared.sub_load(self.index);
        self.kernel.sockets().end_on_close(fd, true);
        // Immediately: the descriptor is needed now.
        self.kernel.close_now(fd);
        true
    }

    /// Schedules another look even if this worker sees no event: the place may be freed by another worker.
    pub(super) fn look_again(&mut self, full: Full, listener: ListenerId) {
        match full {
            Full::Process => self.pause(self.full_retry_ns()),
            Full::Listener => self.hold(listener, self.full_retry_ns()),
        }
    }

    /// How long until that look.
    fn full_retry_ns(&self) -> u64 {
        if self.shared.workers() == 1 { FULL_RETRY_ALONE_NS } else { FULL_RETRY_NS }
    }

    /// Counts a session of the process and of its listener, if both have room and no older connection of this listener
    /// waits here.
    ///
    /// # Errors
    /// Which limit is reached; then nothing is counted.
    pub(super) fn reserve(&self, listener: ListenerId) -> Result<(), Full> {
        if self.acceptors.has_early(listener) { Err(Full::Listener) } else { self.reserve_next(listener) }
    }

    /// The same as [`Worker::reserve`], for the connection whose turn it is: it does not wait for older ones.
    ///
    /// # Errors
    /// Which limit is reached; then nothing is counted.
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

    /// Gives back what [`Worker::reserve`] has counted.
    pub(super) fn give_back(&self, listener: ListenerId) {
        self.shared.counts.process_closed();
        self.shared.counts.listener_closed(listener);
    }

    /// How many connections this listener can have.
    fn most_of(&self, listener: ListenerId) -> u32 {
        self.acceptors.bound(listener).most
    }

    /// Lets this turn admit connections that wait, as there may be room and descriptors again. Called when a session
    /// has ended. They are not admitted here, because each of them may end immediately and call this again, and many
    /// wait.
    pub(super) fn admit_waiting(&mut self) {
        self.acceptors.look_now(self.turn.now);
    }

    /// Begins sessions for connections that wait in `early`, oldest first, as far as there is room. True if the process
    /// has no room left.
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
                    // Until now it may have waited for the process.
                    self.look_again(Full::Listener, listener);
                    full.push(listener);
                }
            }
        }
        false
    }

    /// Looks whether accepting can go on. Called once per turn; in most turns it only compares a moment.
    #[inline]
    pub(super) fn retry_accepting(&mut self) {
        if self.turn.now >= self.acceptors.retry_at() {
            self.retry_accepting_now();
        }
    }

    /// Admits connections that wait, ends a pause, and releases listeners that were held.
    #[cold]
    fn retry_accepting_now(&mut self) {
        if !self.acceptors.early().is_empty() && self.shared.takes_wanted_descriptor() {
            self.give_up_youngest();
        }
        // Connections that wait only for their own listener do not keep other listeners from accepting.
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

    /// Accepts again for listeners that have room now, and schedules the next look at the others.
    pub(super) fn look_at_held(&mut self) {
        let still_held = self.release_held();
        // Some may wait for a listener that is being removed.
        let look_again = still_held || !self.acceptors.early().is_empty();
        let at = if look_again { self.turn.now.after_ns(self.full_retry_ns()) } else { Moment::NEVER };
        self.acceptors.look_at_held_at(at);
    }
}
