//! The clients of this worker that wait for a backend. How the order over all workers comes about is in
//! [`balance::queue`](crate::balance::queue).

use std::collections::BTreeMap;

use super::slots::Key;
use super::turn::Worker;
use crate::balance::queue::Ticket;
use crate::base::id::PoolId;
use crate::base::time::Moment;
use crate::session::{Event, Picked};
use crate::uring::token::{Operation, Token};

/// Between looks at the queues if nothing happens: should a message between workers ever be late or lost, nobody waits
/// much longer for it than this.
const LOOK_INTERVAL_NS: u64 = 10_000_000;
/// Before another attempt to connect to a primary that could not be connected to.
const SCOUT_NS: u64 = 100_000_000;
/// Due whenever somebody looks.
const AT_ONCE: Moment = Moment(0);
/// Rounds over the queues in one turn of the loop; more are left to the next one.
const ROUNDS_MAX: u32 = 16;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// In the line.
    Line(Ticket),
    /// Beside it, because backends that others could use are not for this one: it has tried them. It does not hold
    /// those behind it up, and nobody calls it but the clock, the table and its own worker.
    Aside,
}

/// What a slot knows of the queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    pub place: Option<Place>,
    pub since: Moment,
}

#[derive(Default)]
struct Line {
    line: BTreeMap<Ticket, Key>,
    /// With the moment of the next attempt.
    aside: Vec<(Key, Moment)>,
}

impl Line {
    /// Those aside may try again at once.
    fn release(&mut self) {
        self.aside.iter_mut().for_each(|(_, again_at)| *again_at = AT_ONCE);
    }

    /// Those aside that try again now. After a failed attempt one of them does at a time: a thousand that try together
    /// would do a server that is coming up no good.
    fn due(&mut self, now: Moment) -> Vec<Key> {
        let released = self.aside.iter().filter(|&&(_, again_at)| again_at == AT_ONCE);
        let mut due: Vec<Key> = released.map(|&(key, _)| key).collect();
        if due.is_empty()
            && let Some(&(scout, _)) = self.aside.iter().find(|&&(_, again_at)| now >= again_at)
        {
            due.push(scout);
            self.aside.iter_mut().for_each(|(_, again_at)| *again_at = (*again_at).max(now.after_ns(SCOUT_NS)));
        }
        due
    }
}

/// All queues of a worker, as far as they are its own.
pub(super) struct Waiters {
    pools: BTreeMap<PoolId, Line>,
    /// Where something may have changed.
    to_serve: Vec<PoolId>,
    look_at: Moment,
}

impl Waiters {
    pub fn new() -> Waiters {
        Waiters { pools: BTreeMap::new(), to_serve: Vec::new(), look_at: Moment::NEVER }
    }

    /// When the worker has to look at them although nothing happened.
    pub fn look_at(&self) -> Moment {
        if self.to_serve.is_empty() { self.look_at } else { Moment::default() }
    }

    /// Something has changed for that pool: the oldest one may find a backend.
    pub fn serve(&mut self, pool: PoolId) {
        if !self.to_serve.contains(&pool) {
            self.to_serve.push(pool);
        }
    }

    /// Something may have changed for every pool.
    pub fn serve_all(&mut self) {
        for (&pool, line) in &mut self.pools {
            line.release();
            if !self.to_serve.contains(&pool) {
                self.to_serve.push(pool);
            }
        }
    }

    /// A session of that pool was connected, so others may be too.
    #[inline]
    pub fn connected(&mut self, pool: PoolId) {
        if !self.pools.is_empty()
            && let Some(line) = self.pools.get_mut(&pool).filter(|line| !line.aside.is_empty())
        {
            line.release();
            self.serve(pool);
        }
    }

    fn oldest(&self, pool: PoolId) -> Option<(Ticket, Key)> {
        let (&ticket, &key) = self.pools.get(&pool)?.line.first_key_value()?;
        Some((ticket, key))
    }
}

impl Worker {
    /// Puts a session that found no backend into the queue.
    pub(super) fn wait_in_queue(&mut self, key: Key, pool: PoolId, max: u32) -> Picked {
        let Some(slot) = self.slots.get_mut(key) else { return Picked::Nobody };
        let queue = self.shared.counts.queue(pool);
        let Some(ticket) = queue.enter(max) else { return Picked::QueueFull };
        let line = self.waiters.pools.entry(pool).or_default();
        slot.waiting.since = self.now;
        if let Some(draft) = &mut slot.draft {
            draft.waits(queue.waiting());
        }
        if slot.tried.is_empty() {
            slot.waiting.place = Some(Place::Line(ticket));
            line.line.insert(ticket, key);
            queue.set_head(self.index, line.line.first_key_value().map(|(&oldest, _)| oldest));
        } else {
            slot.waiting.place = Some(Place::Aside);
            line.aside.push((key, self.now.after_ns(SCOUT_NS)));
        }
        self.waiters.look_at = self.waiters.look_at.min(self.now.after_ns(LOOK_INTERVAL_NS));
        // There may have become room since it looked.
        self.waiters.serve(pool);
        Picked::Wait
    }

    /// A session leaves the queue, with a backend or without.
    pub(super) fn leave_queue(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let (pool, waiting) = (slot.pool, std::mem::take(&mut slot.waiting));
        let (Some(place), Some(line)) = (waiting.place, self.waiters.pools.get_mut(&pool)) else { return };
        let queue = self.shared.counts.queue(pool);
        match place {
            Place::Line(ticket) => {
                line.line.remove(&ticket);
                queue.set_head(self.index, line.line.first_key_value().map(|(&oldest, _)| oldest));
            }
            Place::Aside => line.aside.retain(|&(other, _)| other != key),
        }
        queue.leave();
        if line.line.is_empty() && line.aside.is_empty() {
            self.waiters.pools.remove(&pool);
        }
        let waited_ns = self.now.since_ns(waiting.since);
        if let Some(draft) = &mut slot.draft {
            draft.waited(waited_ns);
        }
        self.stats().pools.get(pool.index()).queue_ns.record_ns(waited_ns);
        // What it waited for may be for the next one.
        self.waiters.serve(pool);
    }

    /// To be called once a turn, after everything that may have made room.
    #[inline]
    pub(super) fn serve_queues(&mut self) {
        if self.now >= self.waiters.look_at() {
            self.serve_queues_now();
        }
    }

    fn serve_queues_now(&mut self) {
        if self.now >= self.waiters.look_at {
            let pools: Vec<PoolId> = self.waiters.pools.keys().copied().collect();
            pools.into_iter().for_each(|pool| self.waiters.serve(pool));
        }
        for _ in 0..ROUNDS_MAX {
            let pools = std::mem::take(&mut self.waiters.to_serve);
            if pools.is_empty() {
                break;
            }
            pools.into_iter().for_each(|pool| self.serve_queue(pool));
        }
        let waits = !self.waiters.pools.is_empty();
        self.waiters.look_at = if waits { self.now.after_ns(LOOK_INTERVAL_NS) } else { Moment::NEVER };
    }

    fn serve_queue(&mut self, pool: PoolId) {
        self.serve_aside(pool);
        loop {
            let queue = self.shared.counts.queue(pool);
            match queue.oldest(self.shared.workers()) {
                None => return,
                Some(worker) if worker != self.index => {
                    self.call(worker, pool);
                    return;
                }
                Some(_) => {}
            }
            let Some((ticket, key)) = self.waiters.oldest(pool) else {
                debug_assert!(false, "a head without a client");
                queue.set_head(self.index, None);
                return;
            };
            self.tell(key, Event::Called);
            if self.waiters.oldest(pool).is_some_and(|(oldest, _)| oldest == ticket) {
                // Nobody has room for it, and so not for anybody behind it.
                return;
            }
        }
    }

    fn serve_aside(&mut self, pool: PoolId) {
        let Some(line) = self.waiters.pools.get_mut(&pool).filter(|line| !line.aside.is_empty()) else { return };
        let afresh = self.reader.pin().pool(pool).is_some_and(|pool| pool.waits_for_primary);
        // One for which there was no room looks each time; one that has tried everybody waits a while.
        let due = if afresh { line.due(self.now) } else { line.aside.iter().map(|&(key, _)| key).collect() };
        for key in due {
            if afresh && let Some(slot) = self.slots.get_mut(key) {
                slot.tried.clear();
            }
            self.tell(key, Event::Called);
            if let Some(line) = self.waiters.pools.get_mut(&pool)
                && let Some((_, again_at)) = line.aside.iter_mut().find(|(other, _)| *other == key)
            {
                *again_at = self.now.after_ns(SCOUT_NS);
            }
        }
    }

    /// Tells another worker to look at that queue. If it is gone, so are its clients.
    fn call(&mut self, worker: usize, pool: PoolId) {
        if let Some(ring) = self.shared.ring(worker) {
            let there = Token::plain(Operation::Queue, pool.0);
            self.ring.message(ring, 0, there, Token::plain(Operation::Forget, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn after_failed_attempts_one_at_a_time_tries_again_and_all_do_once_there_is_a_reason() {
        let aside = (0..3).map(|index| (key(index), Moment(10))).collect();
        let mut line = Line { line: BTreeMap::new(), aside };
        assert_eq!(line.due(Moment(9)), []);
        assert_eq!(line.due(Moment(10)), [key(0)]);
        assert_eq!(line.due(Moment(10 + SCOUT_NS - 1)), [], "the others wait for what comes of it");
        assert_eq!(line.due(Moment(10 + SCOUT_NS)), [key(0)]);
        line.release();
        assert_eq!(line.due(Moment(11)), [key(0), key(1), key(2)]);
    }
}
