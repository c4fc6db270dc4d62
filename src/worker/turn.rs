//! The loop of a worker.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Spec;
use super::accept::Acceptors;
use super::record::reason_to_end;
use super::shared::Shared;
use super::silence::Silence;
use super::slots::{Key, Slot, Slots};
use crate::balance::line::Waiters;
use crate::base::id::BackendId;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::base::wheel::Wheel;
use crate::relay;
use crate::roster::survey::Surveys;
use crate::session::{Effects, Event};
use crate::snapshot::cell::Reader;
use crate::snapshot::table::{BackendEntry, Phase};
use crate::stats::WorkerStats;
use crate::stats::record::Reason;
use crate::uring::buffers::Buffers;
use crate::uring::pipes::Pipes;
use crate::uring::ring::{Completion, Ring, Wait};
use crate::uring::socket::Destination;
use crate::uring::system;

/// Bytes that a bulk half moves in its turn while others wait, and while nobody does.
const BUDGET_CONTENDED: u32 = 1 << 20;
const BUDGET_ALONE: u32 = 4 << 20;
/// Between counts of kernel threads.
const HOUSEKEEPING_NS: u64 = 1_000_000_000;

/// One worker. The ring is dropped before the memory it refers to.
pub struct Worker {
    pub(super) ring: Ring,
    pub(super) buffers: Buffers,
    pub(super) pipes: Pipes,
    pub(super) slots: Slots,
    pub(super) wheel: Wheel,
    pub(super) acceptors: Acceptors,
    pub(super) silence: Silence,
    pub(super) waiters: Waiters<Key>,
    pub(super) surveys: Surveys,
    pub(super) effects: Effects,
    /// Halves in splice mode that wait for their turn.
    pub(super) ready: VecDeque<(Key, Side)>,
    /// Receives that found no buffer, oldest first.
    pub(super) starved: VecDeque<(Key, Side)>,
    /// Where each backend is, by its id, as of the table that was seen last.
    pub(super) destinations: Vec<Option<Box<Destination>>>,
    /// As of the table before: connects of this turn, which the kernel has not seen yet, refer to them.
    retired_destinations: Vec<Option<Box<Destination>>>,
    pub(super) reader: Reader,
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) now: Moment,
    pub(super) random: fastrand::Rng,
    pub(super) phase: Phase,
    generation: u64,
    housekeeping_at: Moment,
    batch: Vec<Completion>,
    /// What a client has said so far, while it is looked at; no memory before there is one that must say something.
    pub(super) peeked: Vec<u8>,
}

impl Worker {
    pub fn new(spec: Spec, ring: Ring, buffers: Buffers) -> Worker {
        let shared = spec.shared;
        let now = shared.clock.now();
        Worker {
            ring,
            buffers,
            pipes: Pipes::new(shared.pipes_max),
            slots: Slots::default(),
            wheel: Wheel::new(now),
            acceptors: Acceptors::new(spec.sockets),
            silence: Silence::new(),
            waiters: Waiters::default(),
            surveys: Surveys::default(),
            effects: Effects::default(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            destinations: Vec::new(),
            retired_destinations: Vec::new(),
            reader: shared.cell.reader(),
            index: spec.index,
            now,
            random: fastrand::Rng::new(),
            phase: Phase::Serving,
            generation: 0,
            housekeeping_at: now,
            batch: Vec::with_capacity(4096),
            peeked: Vec::new(),
            shared,
        }
    }

    /// Arms what wakes the worker.
    pub fn start(&mut self) {
        self.shared.set_ring(self.index, Some(self.ring.fd()));
        self.ring.watch(self.shared.event(self.index));
        self.look_at_table();
        self.open_listeners();
        self.stats().worker.features.set(u64::from(self.shared.features.recv_credit));
        self.stats().worker.running.set(1);
    }

    /// Serves until the table says otherwise and the last session is gone.
    pub fn run(mut self) {
        let mut busy_since = self.shared.clock.now();
        while !self.is_done() {
            self.buffers.publish();
            let before = self.shared.clock.now();
            self.stats().worker.busy_ns.add(before.since_ns(busy_since));
            if self.wait(before).is_err() {
                // Only a bug makes enter fail; what is open cannot be served without it.
                break;
            }
            self.now = self.shared.clock.now();
            busy_since = self.now;
            self.turn();
        }
        // The last session's closes are queued, and its client waits for them as long as another worker goes on.
        let _ = self.ring.enter(Wait::No);
        self.shared.set_ring(self.index, None);
        self.stats().worker.running.set(0);
    }

    #[inline]
    fn wait(&mut self, now: Moment) -> std::io::Result<()> {
        // A receive that starved while buffers are free: there may be more of them than buffers, and those that were
        // fed need not take any.
        let can_feed = !self.starved.is_empty() && self.buffers.available() > 0;
        if !self.ready.is_empty() || self.surveys.are_under_way() || can_feed {
            return self.ring.enter(Wait::No);
        }
        let next =
            self.wheel.next().min(self.acceptors.retry_at()).min(self.silence.look_at()).min(self.waiters.look_at());
        if self.shared.busy_poll_ns > 0 && self.spin(now, next)? {
            return Ok(());
        }
        let wait = match next {
            Moment::NEVER => Wait::Forever,
            at if at <= now => Wait::No,
            at => Wait::For(at.since_ns(now)),
        };
        self.ring.enter(wait)
    }

    /// Looks for completions without sleeping, and no longer than until there is something else to do; true if there
    /// is one, or something to do.
    fn spin(&mut self, now: Moment, next: Moment) -> std::io::Result<bool> {
        let until = now.after_ns(self.shared.busy_poll_ns).min(next);
        loop {
            self.ring.enter(Wait::No)?;
            if self.ring.is_ready() {
                return Ok(true);
            }
            if self.shared.clock.now() >= until {
                return Ok(until == next);
            }
            std::hint::spin_loop();
        }
    }

    fn turn(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.ring.completions(&mut batch);
        for completion in batch.drain(..) {
            self.dispatch(completion);
        }
        self.batch = batch;
        self.run_one_bulk();
        while let Some(index) = self.wheel.expire(self.now) {
            if let Some(key) = self.slots.tenant(index) {
                self.tell(key, Event::Timer);
            }
        }
        if self.reader.generation() != self.generation {
            self.look_at_table();
        }
        self.look_after_silence();
        self.retry_accepting();
        self.serve_queues();
        self.survey();
        if self.now >= self.housekeeping_at {
            self.keep_house();
        }
        self.feed_starved();
    }

    /// One half in splice mode a turn: what is small goes between.
    fn run_one_bulk(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        if self.ring.has_queued() {
            // The answers to what is small are on their way before the bulk begins. An error shows at the next wait.
            self.buffers.publish();
            let _ = self.ring.enter(Wait::No);
        }
        let Some((key, half)) = self.ready.pop_front() else { return };
        let alone = self.ready.is_empty() && !self.ring.is_ready();
        let budget = if alone { BUDGET_ALONE } else { BUDGET_CONTENDED };
        self.tell(key, Event::Relay(relay::Event::Turn { half, budget }));
    }

    /// Receives that found no buffer are armed again: oldest first, and no more than there are buffers. Last in a turn,
    /// because everything else in it may release buffers (a timer or a kill ends a session that holds some), and if
    /// nothing is in flight, no completion follows by which those could be noticed.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        self.buffers.publish();
        let mut free = self.buffers.available();
        while free > 0
            && let Some((key, side)) = self.starved.pop_front()
        {
            free -= 1;
            self.tell(key, Event::Relay(relay::Event::Fed { side }));
        }
    }

    /// Takes over what is new in the table.
    fn look_at_table(&mut self) {
        let reader = self.reader.pin();
        self.generation = reader.generation;
        let destinations = reader.backends.iter().map(|backend| destination_of(backend.as_ref())).collect();
        self.retired_destinations = std::mem::replace(&mut self.destinations, destinations);
        let down = reader.backends.iter().flatten().filter(|backend| backend.end_sessions);
        let down: Vec<_> = down.map(|backend| (backend.id, reason_to_end(backend))).collect();
        let phase = reader.phase;
        drop(reader);
        let reason = |slot: &Slot| down.iter().find(|&&(id, _)| slot.backend == Some(id)).map(|&(_, reason)| reason);
        let ended = match down.is_empty() {
            true => Vec::new(),
            false => self.slots.keys_where(|slot| reason(slot).is_some()),
        };
        for key in ended {
            let Some(reason) = self.slots.get(key).and_then(reason) else { continue };
            if self.slots.get(key).is_some_and(|slot| slot.session.is_connecting()) {
                // No byte has moved: another backend may have it.
                self.cancel_connect(key);
            } else {
                self.cut(key, reason);
            }
        }
        self.waiters.serve_all();
        self.enter_phase(phase);
        self.stats().worker.generation.set(self.generation);
    }

    /// Ends a session whose backend is no longer to have it.
    fn cut(&mut self, key: Key, reason: Reason) {
        let Some(slot) = self.slots.get(key).filter(|slot| !slot.session.is_ending()) else { return };
        if let Some(backend) = slot.backend {
            self.stats().backends.get(backend.index()).sessions_cut_total.add(1);
        }
        self.end_for(key, Who::Down, reason);
    }

    /// Makes sure that it is known where a backend is: it may have been picked by a table that is newer than the one
    /// that was taken over.
    pub(super) fn learn_destination(&mut self, backend: BackendId) {
        let index = backend.index();
        if self.destinations.get(index).is_some_and(Option::is_some) {
            return;
        }
        let found = destination_of(self.reader.pin().backend(backend));
        if self.destinations.len() <= index {
            self.destinations.resize_with(index + 1, || None);
        }
        self.destinations[index] = found;
    }

    fn enter_phase(&mut self, phase: Phase) {
        self.phase = phase;
        if phase != Phase::Serving {
            self.close_listeners();
        }
        if phase == Phase::Stopping {
            self.turn_away_waiting();
            for key in self.slots.keys_where(|slot| !slot.session.is_ending()) {
                self.end_for(key, Who::Killed, Reason::Shutdown);
            }
        }
    }

    fn keep_house(&mut self) {
        self.housekeeping_at = self.now.after_ns(HOUSEKEEPING_NS);
        self.stats().worker.iou_wrk_threads.set(system::kernel_worker_threads());
    }

    fn is_done(&self) -> bool {
        // A connection that another worker has sent here wakes this one when it comes.
        let is_idle = self.slots.is_empty() && self.acceptors.are_closed();
        self.phase != Phase::Serving && is_idle && self.shared.may_end(self.index)
    }

    #[inline]
    pub(super) fn stats(&self) -> &WorkerStats {
        &self.shared.stats.workers[self.index]
    }
}

fn destination_of(backend: Option<&BackendEntry>) -> Option<Box<Destination>> {
    Some(Box::new(Destination::new(backend?.address.as_ref()?).ok()?))
}

#[cfg(test)]
mod tests;
