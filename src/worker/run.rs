//! The loop of a worker.

use std::io;

use super::{ToEnd, Worker};
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::{Buffers, Kernel, Wait};
use crate::relay;
use crate::session::Event;
use crate::stats::record::EndReason;

/// Bytes that a bulk half moves in its turn while others wait, and while none does.
const BUDGET_CONTENDED: u32 = 1 << 20;
/// The same while no other session has anything to do.
const BUDGET_ALONE: u32 = 4 << 20;
/// Bytes of stalled pipes that are moved into buffers in one turn, of which one pipe may hold all.
const UNLOADED_A_TURN: u32 = 1 << 20;
/// While sessions hold every buffer: before some of them are ended, and between two times; and how many together.
const EXHAUSTED_NS: u64 = 1_000_000_000;
/// So many are ended together; the next ones get the buffers that these give back.
const ENDED_AT_ONCE: usize = 64;
/// Timers of one turn. Thousands of sessions that came together have theirs together, and the first one takes eight
/// system calls (keepalive).
const TIMERS_A_TURN: usize = 64;
/// Attempts to have the last operations taken.
const FINISHING_ENTERS_MAX: u32 = 1000;
/// Between looks at memory that is not used any more.
const HOUSEKEEPING_NS: u64 = 1_000_000_000;

impl<K: Kernel> Worker<K> {
    /// Arms what wakes the worker.
    pub fn start(&mut self) {
        self.shared.set_port(self.index, Some(self.kernel.port()));
        self.kernel.await_bell(self.shared.bell(self.index));
        self.look_at_table();
        self.open_listeners();
        self.stats().worker.features.set(u64::from(self.kernel.has_credit()));
        self.stats().worker.running.set(1);
    }

    /// Serves until the table says otherwise and the last session is gone.
    pub fn run(mut self) {
        let mut busy_since = self.kernel.now();
        while !self.is_done() {
            let before = self.kernel.now();
            self.stats().worker.busy_ns.add(before.since_ns(busy_since));
            let result = self.wait(before);
            busy_since = self.kernel.now();
            if let Err(error) = result.and_then(|()| self.turn()) {
                // What is open cannot be served without it, and its peers must not wait for ever.
                return (self.shared.give_up)(self.index, &error);
            }
        }
        self.finish();
    }

    /// How long there is nothing to do before something has completed.
    #[inline]
    pub fn rest(&mut self, now: Moment) -> Wait {
        let rest = self.rests_until(now);
        #[cfg(debug_assertions)]
        self.turn.watch.rests(rest == Wait::No);
        rest
    }

    /// How long this worker can sleep: not at all while something is left to do, else until its next deadline.
    #[inline]
    fn rests_until(&mut self, now: Moment) -> Wait {
        // A receive that starved while buffers are free: there may be more of them than buffers, and those that were
        // fed need not take any.
        let can_feed = self.buffers_for_starved() > 0;
        let agenda = &self.agenda;
        let is_busy = !(agenda.ready.is_empty() && agenda.to_end.is_empty() && agenda.to_drain.is_empty());
        let is_busy = is_busy || !agenda.handshakes.is_empty();
        if is_busy || self.surveys.are_under_way() || can_feed || self.turn.hurried || !self.turn.batch.is_empty() {
            return Wait::No;
        }
        let next = self
            .wheel
            .next()
            .min(self.acceptors.retry_at())
            .min(self.silence.look_at())
            .min(self.waiters.look_at())
            .min(self.agenda.pauses.next())
            .min(self.agenda.exhausted_at.after_ns(EXHAUSTED_NS));
        match next {
            Moment::NEVER => Wait::Forever,
            at if at <= now => Wait::No,
            at => Wait::For(at.since_ns(now)),
        }
    }

    /// Waits for completions, no longer than that.
    ///
    /// # Errors
    /// The kernel is of no use any more.
    #[inline]
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.known.reader.let_go();
        let result = self.kernel.enter(wait, &mut self.turn.batch);
        if self.turn.hurried {
            // A kernel that is short of memory takes a part, and says nothing yet of what was sent quietly.
            self.turn.hurried = self.kernel.has_queued();
        }
        result
    }

    /// Waits for completions, after a spin of `busy_poll` if that is configured.
    #[inline]
    fn wait(&mut self, now: Moment) -> io::Result<()> {
        let rest = self.rest(now);
        if self.shared.busy_poll_ns > 0 && rest != Wait::No && self.spin(now, rest)? {
            return Ok(());
        }
        self.enter(rest)
    }

    /// Looks for completions without sleeping, and no longer than until there is something else to do; true if there
    /// is one, or something to do.
    fn spin(&mut self, now: Moment, rest: Wait) -> io::Result<bool> {
        let next = if let Wait::For(ns) = rest { now.after_ns(ns) } else { Moment::NEVER };
        let until = now.after_ns(self.shared.busy_poll_ns).min(next);
        loop {
            self.enter(Wait::No)?;
            if !self.turn.batch.is_empty() {
                return Ok(true);
            }
            if self.kernel.now() >= until {
                return Ok(until == next);
            }
            std::hint::spin_loop();
        }
    }

    /// To be called when it is done: the last session's closes are queued, and its client waits for them as long as
    /// another worker goes on.
    pub fn finish(&mut self) {
        // The kernel may have no memory to take all of them the first time.
        for _ in 0..FINISHING_ENTERS_MAX {
            if self.enter(Wait::No).is_err() || !self.kernel.has_queued() {
                break;
            }
        }
        self.shared.set_port(self.index, None);
        self.stats().worker.running.set(0);
    }

    /// Sends what has waited for the rest of the turn's bytes.
    #[inline]
    fn send_gathered(&mut self) {
        if self.turn.gathering.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.turn.gathering);
        for (key, half) in all.drain(..) {
            self.tell(key, Event::Relay(relay::Event::Gathered { half }));
        }
        self.turn.gathering = all;
    }

    /// Does everything that there is to do, but for what is done in parts.
    ///
    /// # Errors
    /// The kernel is of no use any more.
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn.now = self.kernel.now();
        self.turn.unload_budget = UNLOADED_A_TURN;
        self.turn.handshakes_ns = 0;
        self.go_on_with_handshakes();
        let mut batch = std::mem::take(&mut self.turn.batch);
        for completion in batch.drain(..) {
            self.dispatch(completion);
        }
        self.turn.batch = batch;
        self.send_gathered();
        self.run_one_bulk()?;
        for _ in 0..TIMERS_A_TURN {
            let Some(index) = self.wheel.expire(self.turn.now) else { break };
            if let Some(key) = self.slots.tenant(index) {
                self.tell(key, Event::Timer);
            }
        }
        if self.known.reader.generation() != self.known.generation {
            self.look_at_table();
        }
        while let Some((key, half)) = self.agenda.pauses.due(self.turn.now) {
            self.tell(key, Event::Relay(relay::Event::Resumed { half }));
        }
        let left = self.end_some();
        self.drain_some(left);
        self.look_after_silence();
        self.retry_accepting();
        self.serve_queues();
        self.survey();
        if self.turn.now >= self.agenda.housekeeping_at {
            self.keep_house();
        }
        if !self.agenda.starved.is_empty() || self.agenda.exhausted_at != Moment::NEVER {
            self.end_longest_stalled();
        }
        self.feed_starved();
        #[cfg(debug_assertions)]
        self.check_invariants();
        Ok(())
    }

    /// One half in splice mode a turn: what is small goes between.
    fn run_one_bulk(&mut self) -> io::Result<()> {
        if self.agenda.ready.is_empty() {
            return Ok(());
        }
        if self.kernel.has_queued() {
            // The answers to what is small are on their way before the bulk begins.
            self.enter(Wait::No)?;
        }
        let Some((key, half)) = self.agenda.ready.pop_front() else { return Ok(()) };
        let alone = self.agenda.ready.is_empty() && self.turn.batch.is_empty();
        let budget = if alone { BUDGET_ALONE } else { BUDGET_CONTENDED };
        self.tell(key, Event::Relay(relay::Event::Turn { half, budget }));
        Ok(())
    }

    /// Receives that found no buffer are armed again: oldest first, and no more than there are buffers. Last in a turn,
    /// because everything else in it may release buffers (a timer or a kill ends a session that holds some), and if
    /// nothing is in flight, no completion follows by which those could be noticed.
    fn feed_starved(&mut self) {
        let mut free = self.buffers_for_starved();
        while free > 0
            && let Some((key, side)) = self.agenda.starved.pop_front()
        {
            // One that has ended meanwhile takes none, and there may be many of those.
            free -= u16::from(self.slots.get(key).is_some_and(|slot| !slot.session.is_ending()));
            self.tell(key, Event::Relay(relay::Event::Fed { side }));
        }
    }

    /// Buffers there are for receives that found none; 0 if there is no such receive.
    #[inline]
    fn buffers_for_starved(&mut self) -> u16 {
        if self.agenda.starved.is_empty() {
            return 0;
        }
        self.kernel.buffers().publish();
        self.kernel.buffers().available()
    }

    /// When sessions hold every buffer for long, those go that have held theirs for the longest time without moving a
    /// byte: else no session of this worker could receive any more.
    fn end_longest_stalled(&mut self) {
        if self.agenda.starved.is_empty() || !self.kernel.buffers().is_exhausted() {
            self.agenda.exhausted_at = Moment::NEVER;
            return;
        }
        self.agenda.exhausted_at = self.agenda.exhausted_at.min(self.turn.now);
        if self.turn.now.since_ns(self.agenda.exhausted_at) < EXHAUSTED_NS {
            return;
        }
        self.agenda.exhausted_at = self.turn.now;
        let mut holders = self.slots.keys_where(|slot| slot.session.is_relaying() && slot.session.holds_buffers());
        holders.sort_by_cached_key(|&key| self.slots.get(key).map(|slot| slot.session.active_at()));
        let end = |key| ToEnd { key, who: Who::Resource, reason: EndReason::Memory, backend: None };
        self.agenda.to_end.extend(holders.into_iter().take(ENDED_AT_ONCE).map(end));
    }

    /// What is done once per second: memory that was not used goes back to the kernel.
    fn keep_house(&mut self) {
        self.agenda.housekeeping_at = self.turn.now.after_ns(HOUSEKEEPING_NS);
        self.kernel.buffers().trim();
        self.turn.vats.trim();
    }

    /// Whether it has nothing more to serve.
    pub fn is_done(&self) -> bool {
        // A connection that another worker has sent here wakes this one when it comes.
        let is_idle = self.slots.is_empty() && self.acceptors.are_closed();
        !self.known.phase.accepts() && is_idle && self.shared.may_end(self.index)
    }
}

#[cfg(test)]
mod tests;
