//! What holds after each turn, checked in builds with debug assertions: the counters agree with what there is, each
//! buffer and each pipe is held by exactly one session, and no worker is busy without effect.
//!
//! To check every session takes time, so it is done every few turns, and more often while there are few sessions.
//!
//! A failed check panics. In tests that is a failed test; release builds do not have this module.

use super::Worker;
use crate::base::id::{BackendId, ListenerId};
use crate::base::side::Side;
use crate::kernel::{Buffers, Kernel, Pipes};

/// With no more than `FEW` sessions all of them are checked every `TURNS_OF_FEW` turns, with more every `TURNS_OF_MANY`
/// turns.
const FEW: usize = 16;
/// While there are few.
const TURNS_OF_FEW: u32 = 4;
/// While there are many.
const TURNS_OF_MANY: u32 = 256;
/// How many turns in a row can do nothing and still leave something to be done immediately.
const IDLE_TURNS_MAX: u32 = 1000;

/// What is known of the turns so far.
#[derive(Default)]
pub(super) struct InvariantWatch {
    /// How many turns there were.
    turns: u32,
    /// Whether something happened in this turn: a completion, an effect, a session that was ended.
    has_moved: bool,
    /// How many turns in a row had no effect and left work.
    idle: u32,
}

impl InvariantWatch {
    /// Notes that something happened in this turn.
    #[inline]
    pub fn moved(&mut self) {
        self.has_moved = true;
    }

    /// Ends a turn. `at_once` is true if the next wait will be none, because the worker says that it has more to do.
    pub fn rests(&mut self, at_once: bool) {
        let is_idle = at_once && !std::mem::take(&mut self.has_moved);
        self.idle = if is_idle { self.idle + 1 } else { 0 };
        assert!(self.idle < IDLE_TURNS_MAX, "a worker is busy, and nothing comes of it");
    }
}

/// What all sessions of a worker hold, added up.
#[derive(Default)]
struct Sum {
    /// Receive buffers.
    leases: usize,
    /// Pipes.
    pipes: usize,
    /// Sessions in a queue.
    waiting: usize,
    /// Sessions that wait for a descriptor.
    wanting: usize,
    /// Numbers of open descriptors, also of listening sockets.
    descriptors: Vec<i32>,
    /// One entry per session that holds a backend.
    backends: Vec<BackendId>,
    /// One entry per session.
    listeners: Vec<ListenerId>,
}

impl<K: Kernel> Worker<K> {
    /// Checks the cheap numbers after each turn, and all sessions every few turns.
    pub(super) fn check_invariants(&mut self) {
        self.turn.watch.turns = self.turn.watch.turns.wrapping_add(1);
        let sessions = self.slots.len();
        let early = self.acceptors.early().len();
        assert_eq!(self.stats().worker.connections.get(), sessions as u64, "sessions that are counted");
        assert!(self.shared.counts.process_connections() >= sessions as u64, "the process has fewer than this worker");
        let load = self.shared.load(self.index);
        assert!(load >= (sessions + early) as u64, "{load} connections are counted here, of {sessions} and {early}");
        let turns = if sessions <= FEW { TURNS_OF_FEW } else { TURNS_OF_MANY };
        if self.turn.watch.turns.is_multiple_of(turns) {
            self.slots.check_invariants();
            let sum = self.sum();
            self.check_lent(&sum);
            self.check_counts(sum);
        }
    }

    /// Adds up what all sessions hold, and checks what must hold of each.
    fn sum(&mut self) -> Sum {
        let mut sum = Sum::default();
        sum.descriptors.extend(self.acceptors.descriptors().map(|fd| fd.0));
        let early = (0..self.acceptors.early().len()).filter_map(|place| self.acceptors.early().get(place));
        sum.descriptors.extend(early.map(|(fd, _)| fd.0));
        for slot in self.slots.iter() {
            let session = &slot.session;
            let fds = Side::BOTH.map(|side| slot.fd(side));
            assert!(fds[Side::Client.index()].is_some(), "a session without a client");
            let [_, backend] = fds;
            assert!(backend.is_none() || slot.backend.is_some(), "a connection to no backend");
            let needs_one = session.is_connecting() || session.is_relaying();
            assert!(!needs_one || backend.is_some(), "it connects, or relays, and has no descriptor");
            let is_hindered = slot.detour().hindered_by != 0;
            assert!(!is_hindered || backend.is_none(), "what it waits for is there");
            assert_eq!(session.is_waiting(), slot.detour().waiting.place.is_some(), "it waits, or has its place");
            sum.leases += session.leases();
            sum.pipes += session.pipes();
            sum.waiting += usize::from(session.is_waiting());
            sum.wanting += usize::from(slot.detour().ticket.is_some());
            sum.descriptors.extend(fds.into_iter().flatten().map(|fd| fd.0));
            assert!(!session.has_backend() || slot.backend.is_some(), "it has a backend, and nobody knows which");
            sum.backends.extend(slot.backend.filter(|_| session.has_backend()));
            sum.listeners.push(slot.listener);
        }
        sum
    }

    /// Checks that buffers and pipes that are out of stock are exactly those that sessions hold.
    fn check_lent(&mut self, sum: &Sum) {
        // These completions came while the turn was under way and were not dispatched yet.
        let untold = self.turn.batch.iter().filter(|completion| completion.buffer.is_some()).count();
        assert_eq!(usize::from(self.kernel.buffers().leased()), sum.leases + untold, "buffers that sessions hold");
        let lent = self.kernel.pipes().lent() + self.turn.vats.lent();
        assert_eq!(lent, sum.pipes, "pipes that sessions hold");
        self.turn.vats.check_invariants();
    }

    /// Checks the counters that all workers share. Other workers count their sessions in them too, so with more than
    /// one worker they are only a lower bound.
    fn check_counts(&self, mut sum: Sum) {
        assert_eq!(self.waiters.len(), sum.waiting, "sessions that wait");
        assert_eq!(self.agenda.wanting.len(), sum.wanting, "sessions that wait for a descriptor");
        sum.descriptors.sort_unstable();
        assert!(sum.descriptors.windows(2).all(|pair| pair[0] != pair[1]), "a descriptor is there twice");
        sum.backends.sort_unstable();
        for own in sum.backends.chunk_by(|one, other| one == other) {
            let all = self.shared.counts.connections(own[0]) as usize;
            let is_alone = self.shared.workers() == 1;
            assert!(all == own.len() || (all > own.len() && !is_alone), "{:?} has {all} of {}", own[0], own.len());
        }
        sum.listeners.sort_unstable();
        for own in sum.listeners.chunk_by(|one, other| one == other) {
            let gauge = self.stats().listeners.get(own[0].index()).connections.get();
            assert_eq!(gauge, own.len() as u64, "clients of {:?}", own[0]);
            let all = self.shared.counts.listener_connections(own[0]);
            assert!(all as usize >= own.len(), "{:?} has {all} of {}", own[0], own.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_worker_that_is_busy_with_nothing_is_noticed_and_one_that_gets_on_is_not() {
        let mut watch = InvariantWatch::default();
        for _ in 0..10 * IDLE_TURNS_MAX {
            watch.moved();
            watch.rests(true);
        }
        (0..10 * IDLE_TURNS_MAX).for_each(|_| watch.rests(false));
        (1..IDLE_TURNS_MAX).for_each(|_| watch.rests(true));
        let next = catch_unwind(AssertUnwindSafe(|| watch.rests(true)));
        assert!(next.is_err());
    }
}
