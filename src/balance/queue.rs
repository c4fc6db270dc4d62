//! Clients of a pool that wait: first in, first out over all workers, without a lock.
//!
//! Each client that begins to wait draws a ticket of its pool. Its own worker keeps it, and makes known the ticket of
//! the oldest one it has. So every worker can see which one has the oldest of all, and only that worker ever touches
//! it: a client that leaves, or is called and finds no place, needs no agreement. In which order a worker calls its own
//! clients, and which of them stand aside, is in [`line`](super::line).
//!
//! What keeps the queue moving is one rule: after each event that may have made room for the oldest, its worker is told
//! to look. Such events are a place that became free, a client that began to wait or ceased to, and a new table. A
//! worker that made room counts it free before it looks whether a client waits. A client that begins to wait is counted
//! before it looks for room; so one of the two sees the other. A look too many does no harm.
//!
//! While a client waits, a newcomer takes no place but draws a ticket, or it would take the place of an older one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::base::slots::Slots;

/// A place in a queue: the client with the lower one came first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// What workers know of the clients that wait for one pool.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    drawn: AtomicU64,
    /// By worker: the ticket of the oldest client in its line, 0 if it has none.
    heads: Slots<AtomicU64>,
    /// The same of those that stand aside, see [`line`](super::line).
    aside: Slots<AtomicU64>,
}

impl Queue {
    /// One more client waits, unless `max` do already.
    pub fn enter(&self, max: u32) -> Option<Ticket> {
        if self.waiting.fetch_update(SeqCst, SeqCst, |waiting| (waiting < max).then_some(waiting + 1)).is_err() {
            return None;
        }
        Some(Ticket(self.drawn.fetch_add(1, SeqCst) + 1))
    }

    /// A client waits no more. Owed exactly once for each ticket.
    pub fn leave(&self) {
        let before = self.waiting.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "more clients left the queue than entered it");
    }

    /// Clients that wait.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Makes known which clients of `worker` are its oldest: in the line, and aside.
    pub fn set_heads(&self, worker: usize, [line, aside]: [Option<Ticket>; 2]) {
        let number = |oldest: Option<Ticket>| oldest.map_or(0, |Ticket(number)| number);
        self.heads.get(worker).store(number(line), SeqCst);
        self.aside.get(worker).store(number(aside), SeqCst);
    }

    /// The oldest client of all that stand in the line, and the worker that has it.
    pub fn oldest(&self, workers: usize) -> Option<(Ticket, usize)> {
        let head = |worker: usize| Some((self.heads.existing(worker)?.load(SeqCst), worker));
        let first = (0..workers).filter_map(head).filter(|&(number, _)| number > 0).min();
        first.map(|(number, worker)| (Ticket(number), worker))
    }

    /// The workers, without `me`, where a client stands aside that came before the first one in the line.
    pub fn before_the_line(&self, workers: usize, me: usize) -> Vec<usize> {
        let first = self.oldest(workers).map_or(u64::MAX, |(Ticket(number), _)| number);
        let is_before = |worker: &usize| {
            let oldest = self.aside.existing(*worker).map_or(0, |number| number.load(SeqCst));
            oldest > 0 && oldest < first
        };
        (0..workers).filter(|&worker| worker != me).filter(is_before).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_all_workers_is_first() {
        let queue = Queue::default();
        assert_eq!((queue.oldest(4), queue.waiting()), (None, 0));
        let tickets: Vec<Ticket> = (0..3).map(|_| queue.enter(10).unwrap()).collect();
        queue.set_heads(3, [Some(tickets[0]), None]);
        queue.set_heads(1, [Some(tickets[1]), None]);
        queue.set_heads(0, [None, Some(tickets[2])]);
        assert_eq!(queue.oldest(4), Some((tickets[0], 3)));
        queue.set_heads(3, [None; 2]);
        queue.leave();
        assert_eq!((queue.oldest(4), queue.waiting()), (Some((tickets[1], 1)), 2));
        assert_eq!(queue.oldest(1), None);
        assert!(queue.before_the_line(4, 2).is_empty(), "it came after the first one in the line");
        queue.set_heads(1, [None; 2]);
        assert_eq!(queue.before_the_line(4, 2), [0]);
        assert!(queue.before_the_line(4, 0).is_empty());
    }

    #[test]
    fn no_more_wait_than_may_over_threads() {
        let queue = Queue::default();
        let entered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter_map(|_| queue.enter(700)).collect::<Vec<_>>()))
                .collect();
            let mut all: Vec<Ticket> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            all.sort_unstable();
            all.dedup();
            all.len()
        });
        assert_eq!((entered, queue.waiting()), (700, 700));
        assert!(queue.enter(700).is_none() && queue.enter(0).is_none());
        queue.leave();
        assert!(queue.enter(700).is_some());
    }
}
