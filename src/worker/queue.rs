//! The clients of this worker that wait for a backend.
//!
//! Each worker keeps its own clients in order ([`balance::line`](crate::balance::line)), and tells the others only
//! which of them is next, by its ticket ([`balance::queue`](crate::balance::queue)). So a pool has one order over all
//! workers without a lock: the worker that holds the oldest ticket calls its client, and a worker that sees that
//! another one has the oldest tells it so with a message.

use super::Worker;
use super::slots::SlotKey;
use crate::balance::line::{LineStep, WaitReason, Waiting};
use crate::base::id::PoolId;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Kernel, Op};
use crate::session::{Event, Picked};

/// How often one turn of the loop goes over the queues that have something to do; the rest is left to the next turn.
const ROUNDS_MAX: u32 = 16;

impl<K: Kernel> Worker<K> {
    /// Puts a session that found no backend into the queue of its pool. `max` is the limit of all workers together.
    pub(super) fn wait_in_queue(&mut self, key: SlotKey, pool: PoolId, max: u32) -> Picked {
        let Some(slot) = self.slots.get_mut(key) else { return Picked::Nobody };
        let queue = self.shared.counts.queue(pool);
        let Some(ticket) = queue.enter(max) else { return Picked::QueueFull };
        if let Some(draft) = &mut slot.draft {
            draft.waits(queue.waiting());
        }
        let detour = slot.detour_mut();
        let place = self.waiters.enter(pool, ticket, key, &detour.tried, self.turn.now);
        detour.waiting = Waiting { place: Some(place), since: self.turn.now };
        queue.set_heads(self.index, self.waiters.heads(pool));
        Picked::Wait
    }

    /// Takes a session out of the queue, with a backend or without, and records how long it waited.
    pub(super) fn leave_queue(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let (pool, waiting) = (slot.pool, slot.take_waiting());
        let Some(place) = waiting.place else { return };
        let queue = self.shared.counts.queue(pool);
        self.waiters.leave(pool, place);
        queue.set_heads(self.index, self.waiters.heads(pool));
        queue.leave();
        let waited_ns = self.turn.now.since_ns(waiting.since);
        if let Some(draft) = &mut slot.draft {
            draft.waited(waited_ns);
        }
        self.stats().pools.get(pool.index()).queue_ns.record_ns(waited_ns);
    }

    /// Looks at the queues that have something to do. Called once per turn, after everything that may have made room.
    #[inline]
    pub(super) fn serve_queues(&mut self) {
        if self.turn.now >= self.waiters.look_at() {
            self.serve_queues_now();
        }
    }

    /// Serves the queues that have something to do, in rounds: a session that is called may fail and make the next one
    /// due.
    fn serve_queues_now(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let due = self.waiters.due(self.turn.now);
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(|(pool, reason)| self.serve_queue(pool, reason));
        }
    }

    /// Serves the queue of one pool. Each session that is called picks again; the loop ends when the next one finds no
    /// room or belongs to another worker.
    fn serve_queue(&mut self, pool: PoolId, reason: WaitReason) {
        let afresh = self.known.reader.table().pool(pool).is_some_and(|pool| pool.waits_for_primary);
        let mut look = self.waiters.begin(pool, reason, afresh, self.turn.now);
        loop {
            let queue = self.shared.counts.queue(pool);
            match self.waiters.next(&mut look, queue, self.index, self.shared.workers()) {
                LineStep::Call { key, afresh } => {
                    if afresh && let Some(slot) = self.slots.get_mut(key) {
                        slot.detour_mut().tried.clear();
                    }
                    self.tell(key, Event::Called);
                }
                LineStep::Tell(worker) => self.tell_worker(worker, pool),
                LineStep::Done => return,
            }
        }
    }

    /// Tells another worker to look at this queue. A worker that is gone has no clients.
    fn tell_worker(&mut self, worker: usize, pool: PoolId) {
        if let Some(port) = self.shared.port(worker) {
            let there = Token::plain(Operation::Queue, pool.0);
            self.kernel.push(Token::plain(Operation::Forget, 0), Op::Message { port, result: 0, there });
        }
    }
}
