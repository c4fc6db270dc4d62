//! Clients of a pool that wait: first in, first out over all workers, without a lock.
//!
//! Each client that begins to wait draws a ticket of its pool. Its own worker keeps it, and makes known the ticket of
//! the oldest one it has. So everybody can see which worker has the oldest of all, and nobody but that worker ever
//! touches it: a client that leaves, or is called and finds no place, needs no agreement.
//!
//! What keeps the queue moving is one rule: after each event that may have made room for the oldest, its worker is told
//! to look. Such events are a place that became free, a client that began to wait or ceased to, and a new table. Who
//! made room counts it free before it looks whether anybody waits; who begins to wait is counted before it looks for
//! room; so one of the two sees the other. A look too many does no harm.
//!
//! While anybody waits, a newcomer takes no place but draws a ticket, or it would take the place of somebody older.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::base::slots::Slots;

/// A place in a queue: who has the lower one came first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// What workers know of the clients that wait for one pool.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    drawn: AtomicU64,
    /// By worker: the ticket of its oldest client, 0 if it has none.
    heads: Slots<AtomicU64>,
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

    /// Makes known which client of `worker` is its oldest.
    pub fn set_head(&self, worker: usize, oldest: Option<Ticket>) {
        self.heads.get(worker).store(oldest.map_or(0, |Ticket(number)| number), SeqCst);
    }

    /// The worker that has the oldest client of all.
    pub fn oldest(&self, workers: usize) -> Option<usize> {
        let head = |worker: usize| Some((self.heads.existing(worker)?.load(SeqCst), worker));
        (0..workers).filter_map(head).filter(|&(number, _)| number > 0).min().map(|(_, worker)| worker)
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
        queue.set_head(3, Some(tickets[0]));
        queue.set_head(1, Some(tickets[1]));
        queue.set_head(0, Some(tickets[2]));
        assert_eq!(queue.oldest(4), Some(3));
        queue.set_head(3, None);
        queue.leave();
        assert_eq!((queue.oldest(4), queue.waiting()), (Some(1), 2));
        assert_eq!(queue.oldest(1), Some(0));
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
