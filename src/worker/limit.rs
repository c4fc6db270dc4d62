//! As many client connections as there may be, of the process and of each listener. Who comes when there are as many
//! waits: most of them in the backlog, and those that were accepted before it was noticed here.

use super::turn::Worker;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::uring::Fd;

/// Between looks while as many connections are open as may be; another worker may close one.
const FULL_RETRY_NS: u64 = 10_000_000;

/// What has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Full {
    Process,
    Listener,
}

impl Worker {
    /// Makes a session of a connection, or lets it wait if there are as many as may be.
    pub(super) fn admit(&mut self, fd: Fd, listener: ListenerId) {
        let goes_before = |&(_, other): &(Fd, ListenerId)| other == listener;
        let must_wait = match self.acceptors.waiting.iter().any(goes_before) {
            true => Err(Full::Listener),
            false => self.reserve(listener),
        };
        match must_wait {
            Ok(()) => self.begin(fd, listener),
            Err(full) => {
                self.acceptors.waiting.push_back((fd, listener));
                self.look_again(full, listener);
            }
        }
    }

    /// Whoever waits is looked after, even if nothing happens on this worker: it may wait for another one's session.
    fn look_again(&mut self, full: Full, listener: ListenerId) {
        match full {
            Full::Process => self.pause(FULL_RETRY_NS),
            Full::Listener => {
                self.hold(listener);
                self.acceptors.held_until = self.acceptors.held_until.min(self.now.after_ns(FULL_RETRY_NS));
            }
        }
    }

    /// Counts a session of the process and of its listener, if there is room for one.
    fn reserve(&self, listener: ListenerId) -> Result<(), Full> {
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

    /// Connections a listener may have.
    fn most_of(&self, listener: ListenerId) -> u32 {
        let most = self.reader.pin().listener(listener).and_then(|entry| entry.connections_max);
        most.map_or(u32::MAX, |most| most.get())
    }

    /// Has this turn admit who waits, as there may be room. To be called when a session has ended: there are
    /// descriptors again, too. Not from here, because one that is admitted may end at once, and many wait.
    pub(super) fn admit_waiting(&mut self) {
        for at in [&mut self.acceptors.retry_at, &mut self.acceptors.held_until] {
            if *at != Moment::NEVER {
                *at = self.now;
            }
        }
    }

    /// Whether it was the process that had no room.
    fn admit_those_with_room(&mut self) -> bool {
        let (mut next, mut full) = (0, Vec::new());
        while let Some(&(fd, listener)) = self.acceptors.waiting.get(next) {
            if full.contains(&listener) {
                next += 1;
                continue;
            }
            match self.reserve(listener) {
                Ok(()) => {
                    self.acceptors.waiting.remove(next);
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
        if self.now >= self.acceptors.retry_at() {
            self.retry_accepting_now();
        }
    }

    #[cold]
    fn retry_accepting_now(&mut self) {
        // Those that wait only for their own listener do not keep the others from being accepted.
        let is_full = self.admit_those_with_room();
        if self.now >= self.acceptors.retry_at {
            self.acceptors.retry_at = if is_full { self.now.after_ns(FULL_RETRY_NS) } else { Moment::NEVER };
            if !is_full {
                self.open_listeners();
            }
        }
        if self.now >= self.acceptors.held_until {
            self.look_at_held();
        }
    }

    /// Accepts of listeners again that have room, and whose clients that came too early have been admitted.
    pub(super) fn look_at_held(&mut self) {
        let waits = |listener| self.acceptors.waiting.iter().any(|&(_, other)| other == listener);
        let has_room = |listener| self.shared.counts.listener_connections(listener) < self.most_of(listener);
        let held = self.acceptors.held();
        let with_room: Vec<ListenerId> = held.filter(|&listener| has_room(listener) && !waits(listener)).collect();
        let still_held = self.release_held(&with_room);
        // Some may wait for a listener that is being removed.
        let look_again = still_held || !self.acceptors.waiting.is_empty();
        self.acceptors.held_until = if look_again { self.now.after_ns(FULL_RETRY_NS) } else { Moment::NEVER };
    }
}
