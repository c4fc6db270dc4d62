//! What policies must know across workers: open sessions of each backend, the turn of each pool.
//!
//! One cache-padded atomic each, touched once when a session takes a backend and once when it gives it back. The counts
//! outlive every table, so a published change neither loses nor doubles a session. Accesses are relaxed but where a
//! queue depends on them: each number stands alone, and read-modify-write operations on one atomic are exact in any
//! order.
//!
//! A queue depends on the open sessions of a backend that has a limit. A session that gives its place back takes one
//! from the count and then looks whether a client waits; a client that begins to wait counts itself and then looks for
//! room. One of the two sees the other only if all four accesses have one order, so all four are sequentially
//! consistent: a relaxed look for room could be made (on ARM) before others see that the client waits. On x86 both cost
//! the same.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use super::queue::Queue;
use super::sticky::StickyTable;
use crate::base::id::{BackendId, ListenerId, PoolId, SplitId};
use crate::base::slots::Slots;

/// Counts shared by all workers.
#[derive(Debug, Default)]
pub struct Counts {
    /// By [`BackendId`].
    pub backends: Slots<BackendTally>,
    /// By [`PoolId`].
    pub pools: Slots<PoolPosition>,
    /// By [`ListenerId`].
    pub listeners: Slots<ListenerTally>,
    /// By [`SplitId`].
    pub splits: Slots<SplitPosition>,
    /// Of the process.
    pub process: ProcessCount,
    /// Where turns begin.
    first_turn: u64,
}

/// Of one backend. A cache line pair of its own: the adjacent-line prefetcher works on 128 bytes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BackendTally {
    /// Sessions that took this backend and have not closed their connection to it.
    pub connections: AtomicU32,
    /// Attempts that failed, of sessions whose line in the access log will name them.
    pub mentions: AtomicU32,
}

/// Of one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolPosition {
    /// Picks so far: whose turn it is in round robin, and among equals in least_conn.
    pub position: AtomicU64,
    /// Clients that wait for one of its backends.
    pub queue: Queue,
    /// Which backend its clients had last.
    pub sticky: StickyTable,
}

/// Of one split of sessions among pools.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct SplitPosition(AtomicU64);

/// Of one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerTally {
    /// Client connections that are open.
    pub connections: AtomicU32,
    /// How near that is to the listener's limit.
    pub nearness: Nearness,
}

/// Whether more connections could come together than there is room for.
#[derive(Debug, Default)]
pub struct Nearness(AtomicBool);

impl Nearness {
    /// There is `room` for so many, and as many as `burst` could come; whether that has just become too few. It takes a
    /// little more room to be far again than to be near, so that not every connection changes it.
    #[inline]
    pub fn update(&self, room: u64, burst: u64) -> bool {
        let is_near = self.0.load(Relaxed);
        if !is_near && room < burst {
            return !self.0.swap(true, Relaxed);
        }
        if is_near && room >= burst + burst / 8 {
            self.0.store(false, Relaxed);
        }
        false
    }
}

/// Of the process.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ProcessCount {
    /// Client connections that are open.
    pub connections: AtomicU64,
    /// How near that is to the limit of the process.
    pub nearness: Nearness,
}

impl Counts {
    /// Counts with nothing open.
    pub fn new() -> Counts {
        Counts::default()
    }

    /// The same, with turns that begin there. Chosen by chance, it keeps many ringways that start together from sending
    /// their first clients to the same backends.
    pub fn beginning_at(first_turn: u32) -> Counts {
        Counts { first_turn: first_turn.into(), ..Counts::default() }
    }

    /// One more session on `backend`. A session picked through [`Picker`](super::Picker) is counted there already.
    #[inline]
    pub fn opened(&self, backend: BackendId) {
        self.backends.get(backend.index()).connections.fetch_add(1, Relaxed);
    }

    /// One more session on `backend`, unless it has `most` already; whether it was counted.
    #[inline]
    pub fn try_open(&self, backend: BackendId, most: u32) -> bool {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        add_below(&self.backends.get(backend.index()).connections, most)
    }

    /// The connection to `backend` is closed, or never came about. Owed exactly once for each pick.
    #[inline]
    pub fn closed(&self, backend: BackendId) {
        // Before a worker looks whether a client waits for the place: see `queue`.
        let before = self.backends.get(backend.index()).connections.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "{backend:?} closed more often than opened");
    }

    /// The record of a session that lives will name `backend`.
    #[inline]
    pub fn mentioned(&self, backend: BackendId) {
        self.backends.get(backend.index()).mentions.fetch_add(1, Relaxed);
    }

    /// That record was made. Owed exactly once for each [`Counts::mentioned`].
    #[inline]
    pub fn recorded(&self, backend: BackendId) {
        let before = self.backends.get(backend.index()).mentions.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "{backend:?} recorded more often than mentioned");
    }

    /// Whether no session has `backend`, or will name it.
    pub fn is_unused(&self, backend: BackendId) -> bool {
        let count = self.backends.get(backend.index());
        count.connections.load(SeqCst) == 0 && count.mentions.load(SeqCst) == 0
    }

    /// Open sessions of `backend` over all workers.
    #[inline]
    pub fn connections(&self, backend: BackendId) -> u32 {
        #[cfg(test)]
        tests::LOOKS.set(tests::LOOKS.get() + 1);
        // See the module: whether there is room may be asked by a client that has just started to wait.
        self.backends.get(backend.index()).connections.load(SeqCst)
    }

    /// One more client connection of `listener`, unless it has `most` already; whether it was counted.
    #[inline]
    pub fn listener_try_open(&self, listener: ListenerId, most: u32) -> bool {
        add_below(&self.listeners.get(listener.index()).connections, most)
    }

    /// A client connection of `listener` was closed. Owed exactly once for each that was counted.
    #[inline]
    pub fn listener_closed(&self, listener: ListenerId) {
        let before = self.listeners.get(listener.index()).connections.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "{listener:?} closed more often than opened");
    }

    /// Open client connections of `listener` over all workers.
    #[inline]
    pub fn listener_connections(&self, listener: ListenerId) -> u32 {
        self.listeners.get(listener.index()).connections.load(Relaxed)
    }

    /// Whether connections of `listener` are to be accepted one by one.
    #[inline]
    pub fn is_near_limit(&self, listener: ListenerId) -> bool {
        self.process.nearness.0.load(Relaxed) || self.listeners.get(listener.index()).nearness.0.load(Relaxed)
    }

    /// One more client connection; returns how many are open with it.
    #[inline]
    pub fn process_opened(&self) -> u64 {
        self.process.connections.fetch_add(1, Relaxed) + 1
    }

    /// A client connection was closed. Owed exactly once for each [`Counts::process_opened`].
    #[inline]
    pub fn process_closed(&self) {
        let before = self.process.connections.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "more client connections closed than opened");
    }

    /// Open client connections of the process.
    #[inline]
    pub fn process_connections(&self) -> u64 {
        self.process.connections.load(Relaxed)
    }

    /// The turn that is next in `pool`, without taking it: for another attempt of a session that had its turn.
    #[inline]
    pub fn next_turn(&self, pool: PoolId) -> u64 {
        self.first_turn + self.pools.get(pool.index()).position.load(Relaxed)
    }

    /// Clients that wait for `pool`.
    #[inline]
    pub fn queue(&self, pool: PoolId) -> &Queue {
        &self.pools.get(pool.index()).queue
    }

    /// Which backend the clients of `pool` had last.
    #[inline]
    pub fn sticky(&self, pool: PoolId) -> &StickyTable {
        &self.pools.get(pool.index()).sticky
    }

    /// The next turn of `split`: each number goes to one caller, over all workers.
    #[inline]
    pub fn split_turn(&self, split: SplitId) -> u64 {
        self.first_turn + self.splits.get(split.index()).0.fetch_add(1, Relaxed)
    }

    /// The next turn of `pool`: each number goes to one caller, over all workers.
    #[inline]
    pub fn turn(&self, pool: PoolId) -> u64 {
        self.first_turn + self.pools.get(pool.index()).position.fetch_add(1, Relaxed)
    }
}

/// Counts one more, unless there are `most` already; `u32::MAX` is no limit, and then no caller tries twice.
#[inline]
fn add_below(count: &AtomicU32, most: u32) -> bool {
    if most == u32::MAX {
        count.fetch_add(1, Relaxed);
        return true;
    }
    // See the module: that there is no room is what makes a client wait.
    count.fetch_update(SeqCst, SeqCst, |open| (open < most).then_some(open + 1)).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::sync::Barrier;

    use super::*;

    thread_local! {
        /// Looks at the open sessions of a backend, by this thread.
        pub(in crate::balance) static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// A place is given back while a client begins to wait: one sees the other, else the client waits beside a free
    /// place. This machine may keep the order by itself; the accesses must keep it on every machine.
    #[test]
    fn a_place_that_is_given_back_sees_the_client_that_begins_to_wait_or_is_seen_by_it() {
        let (counts, backend, pool) = (Counts::new(), BackendId(0), PoolId(0));
        for round in 0..2_000 {
            assert!(counts.try_open(backend, 1), "round {round}");
            let go = Barrier::new(2);
            let (saw_waiting, saw_room) = std::thread::scope(|scope| {
                let gives_back = scope.spawn(|| {
                    go.wait();
                    counts.closed(backend);
                    counts.queue(pool).waiting() > 0
                });
                go.wait();
                let ticket = counts.queue(pool).enter(u32::MAX);
                let saw_room = counts.try_open(backend, 1);
                assert!(ticket.is_some());
                (gives_back.join().unwrap(), saw_room)
            });
            assert!(saw_waiting || saw_room, "round {round}: each missed the other");
            counts.queue(pool).leave();
            if saw_room {
                counts.closed(backend);
            }
        }
    }

    #[test]
    fn counts_are_exact_over_threads() {
        let counts = Counts::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counts.opened(BackendId(3));
                        counts.process_opened();
                        counts.turn(PoolId(0));
                    }
                    (0..9_999).for_each(|_| counts.closed(BackendId(3)));
                    (0..9_998).for_each(|_| counts.process_closed());
                });
            }
        });
        assert_eq!(counts.connections(BackendId(3)), 4);
        assert_eq!(counts.process_connections(), 8);
        assert_eq!(counts.turn(PoolId(0)), 40_000);
        assert_eq!(counts.connections(BackendId(4)), 0);
    }
}
