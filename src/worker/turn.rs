//! The loop of a worker.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Spec;
use super::accept::Acceptors;
use super::pause::Pauses;
use super::record::reason_to_end;
use super::roster::Surveys;
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
use crate::session::{Effects, Event};
use crate::snapshot::cell::Reader;
use crate::snapshot::table::{BackendEntry, Phase};
use crate::stats::WorkerStats;
use crate::stats::record::Reason;
use crate::uring::buffers::Buffers;
use crate::uring::pipes::Pipes;
use crate::uring::ring::{Completion, Ring, Wait};
use crate::uring::socket::Destination;

/// Bytes that a bulk half moves in its turn while others wait, and while nobody does.
const BUDGET_CONTENDED: u32 = 1 << 20;
const BUDGET_ALONE: u32 = 4 << 20;
/// While sessions hold every buffer: before some of them are ended, and between two times; and how many at once.
const EXHAUSTED_NS: u64 = 1_000_000_000;
const ENDED_AT_ONCE: usize = 64;
/// Between looks at memory that is not used any more.
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
    /// Halves that try something again later.
    pub(super) pauses: Pauses,
    pub(super) effects: Effects,
    /// Halves in splice mode that wait for their turn.
    pub(super) ready: VecDeque<(Key, Side)>,
    /// Receives that found no buffer, oldest first.
    pub(super) starved: VecDeque<(Key, Side)>,
    /// Where each backend is, by its id, as of the table that was seen last.
    pub(super) destinations: Vec<Option<Box<Destination>>>,
    /// As of the table before: connects of this turn, which the kernel has not seen yet, refer to them.
    retired_destinations: Vec<Option<Box<Destination>>>,
    /// By backend id: its sessions are to end, as of the table that was seen last, and have been ended.
    ended: Vec<bool>,
    pub(super) reader: Reader,
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) now: Moment,
    pub(super) random: fastrand::Rng,
    pub(super) phase: Phase,
    generation: u64,
    housekeeping_at: Moment,
    /// Since when sessions hold every buffer while others wait for one; [`Moment::NEVER`] if they do not.
    exhausted_at: Moment,
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
            pauses: Pauses::default(),
            effects: Effects::default(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            destinations: Vec::new(),
            retired_destinations: Vec::new(),
            ended: Vec::new(),
            reader: shared.cell.reader(),
            index: spec.index,
            now,
            random: fastrand::Rng::new(),
            phase: Phase::Serving,
            generation: 0,
            housekeeping_at: now,
            exhausted_at: Moment::NEVER,
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
            if let Err(error) = self.wait(before) {
                // What is open cannot be served without it, and its peers must not wait for ever.
                (self.shared.give_up)(self.index, &error);
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
        let next = self
            .wheel
            .next()
            .min(self.acceptors.retry_at())
            .min(self.silence.look_at())
            .min(self.waiters.look_at())
            .min(self.pauses.next())
            .min(self.exhausted_at.after_ns(EXHAUSTED_NS));
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
        while let Some((key, half)) = self.pauses.due(self.now) {
            self.tell(key, Event::Relay(relay::Event::Resumed { half }));
        }
        self.look_after_silence();
        self.retry_accepting();
        self.serve_queues();
        self.survey();
        if self.now >= self.housekeeping_at {
            self.keep_house();
        }
        if !self.starved.is_empty() || self.exhausted_at != Moment::NEVER {
            self.end_longest_stalled();
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

    /// When sessions hold every buffer for long, those go that have held theirs for the longest time without moving a
    /// byte: else nobody of this worker would be heard any more.
    fn end_longest_stalled(&mut self) {
        if self.starved.is_empty() || !self.buffers.is_exhausted() {
            self.exhausted_at = Moment::NEVER;
            return;
        }
        self.exhausted_at = self.exhausted_at.min(self.now);
        if self.now.since_ns(self.exhausted_at) < EXHAUSTED_NS {
            return;
        }
        self.exhausted_at = self.now;
        let holders = self.slots.keys_where(|slot| slot.session.is_relaying() && slot.session.holds_buffers());
        let since = |key: &Key| self.slots.get(*key).map(|slot| slot.session.active_at());
        let mut holders: Vec<(Option<Moment>, Key)> = holders.iter().map(|key| (since(key), *key)).collect();
        holders.sort_unstable_by_key(|&(active_at, _)| active_at);
        for (_, key) in holders.into_iter().take(ENDED_AT_ONCE) {
            self.end_for(key, Who::Resource, Reason::Memory);
        }
    }

    /// Takes over what is new in the table.
    fn look_at_table(&mut self) {
        let reader = self.reader.pin();
        self.generation = reader.generation;
        let destinations = reader.backends.iter().map(|backend| destination_of(backend.as_ref())).collect();
        self.retired_destinations = std::mem::replace(&mut self.destinations, destinations);
        let (ended, leave) = newly_ended(&reader.backends, &self.ended);
        self.ended = ended;
        let phase = reader.phase;
        drop(reader);
        self.learn_bounds();
        self.end_sessions_of(&leave);
        self.waiters.serve_all();
        self.enter_phase(phase);
        self.stats().worker.generation.set(self.generation);
    }

    /// Ends the sessions of some backends, or has them try another one. To be called once a change: those that come to
    /// such a backend later find out themselves (`connect_ended`).
    fn end_sessions_of(&mut self, backends: &[Option<Reason>]) {
        if backends.is_empty() {
            return;
        }
        let reason = |slot: &Slot| *backends.get(slot.backend?.index())?;
        for key in self.slots.keys_where(|slot| reason(slot).is_some()) {
            let Some((reason, slot)) = self.slots.get(key).and_then(|slot| Some((reason(slot)?, slot))) else {
                continue;
            };
            if slot.session.is_connecting() {
                // No byte has moved: another backend may have it.
                self.cancel_connect(key);
            } else if slot.hindered_by != 0 {
                self.stop_trying(key);
            } else {
                self.cut(key, reason);
            }
        }
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
        self.buffers.trim();
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

/// Which backends are to have no sessions now, by id; and if that is new of some, why they are to end, for those only.
fn newly_ended(backends: &[Option<BackendEntry>], before: &[bool]) -> (Vec<bool>, Vec<Option<Reason>>) {
    let reason = |backend: &BackendEntry| backend.end_sessions.then(|| reason_to_end(backend));
    let mut reasons: Vec<_> = backends.iter().map(|backend| backend.as_ref().and_then(reason)).collect();
    let ended = reasons.iter().map(Option::is_some).collect();
    for (reason, _) in reasons.iter_mut().zip(before).filter(|(_, was_ended)| **was_ended) {
        *reason = None;
    }
    if reasons.iter().all(Option::is_none) {
        reasons.clear();
    }
    (ended, reasons)
}

fn destination_of(backend: Option<&BackendEntry>) -> Option<Box<Destination>> {
    Some(Box::new(Destination::new(backend?.address.as_ref()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::PoolId;
    use crate::health::State;

    fn backend(id: u32, end_sessions: bool) -> Option<BackendEntry> {
        Some(BackendEntry {
            id: BackendId(id),
            pool: PoolId(0),
            name: "b".into(),
            address: None,
            weight: 1,
            backup: false,
            connections_max: None,
            state: State::Down,
            end_sessions,
            retired: false,
        })
    }

    /// A backend that is down stays so for many tables, and all sessions are looked at once only.
    #[test]
    fn sessions_are_looked_at_when_a_backend_goes_and_not_while_it_is_gone() {
        let table = |down: [bool; 3]| vec![backend(0, down[0]), backend(1, down[1]), None, backend(3, down[2])];
        let ended = |down, before: &[bool]| {
            let (ended, reasons) = newly_ended(&table(down), before);
            (ended, (0..).zip(reasons).filter_map(|(id, reason)| reason.map(|_| id)).collect::<Vec<u32>>())
        };
        let (gone, new) = ended([false, true, true], &[]);
        assert_eq!(new, [1, 3]);
        let (gone, new) = ended([true, true, true], &gone);
        assert_eq!(new, [0]);
        assert!(newly_ended(&table([true, true, true]), &gone).1.is_empty(), "nobody is to be looked for");
        let (gone, new) = ended([true, false, true], &gone);
        assert!(new.is_empty());
        assert_eq!(ended([true, true, true], &gone).1, [1], "it came back, and has gone again");
    }
}
