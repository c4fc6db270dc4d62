//! The one published pointer.
//!
//! To publish swaps the pointer. A reader pins it for one turn of its loop, and a table that was replaced is freed when
//! no pin is left that could have seen it (epoch-based reclamation: Fraser, "Practical lock-freedom", 2004, as in
//! crossbeam-epoch). Neither side ever waits for the other.
//!
//! The pointer is the truth. [`Cell::generation`] only says, without a pin, that there is something new. It is stored
//! after the pointer, so a thread that reads a generation and then pins sees that table or a later one.

use std::cell::OnceCell;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::epoch::{self, Atomic, Collector, LocalHandle, Owned};
use crossbeam::queue::SegQueue;

use super::table::Table;

/// A table is unseen when the epoch has moved on twice since; once more, for a reader in between.
const EPOCHS: usize = 3;

/// Holds the current table. One thread publishes, any number of threads read.
pub struct Cell {
    /// Never null.
    current: Atomic<Table>,
    /// The generation of `current`, stored after it.
    generation: AtomicU64,
    /// Belongs to this cell alone, so that pins of other data do not keep old tables.
    collector: Collector,
    /// Tables that no reader can see any more. The thread that finds that out, mostly a worker, puts them here; the
    /// thread that publishes frees them, because to free a table with a long list of networks takes longer than a
    /// worker's turn should.
    unseen: Arc<SegQueue<Box<Table>>>,
}

impl Cell {
    /// A cell that holds `table`.
    pub fn new(table: Table) -> Cell {
        let generation = AtomicU64::new(table.generation);
        let unseen = Arc::new(SegQueue::new());
        Cell { current: Atomic::new(table), generation, collector: Collector::new(), unseen }
    }

    /// Makes `table` the current one. Only one thread (control) can publish, and the generation must be greater than
    /// all before.
    pub fn publish(&self, table: Table) {
        let generation = table.generation;
        debug_assert!(generation > self.generation(), "tables are published in order");
        let handle = self.collector.register();
        let guard = handle.pin();
        let old = self.current.swap(Owned::new(table), Ordering::AcqRel, &guard);
        let unseen = self.unseen.clone();
        let take = move || {
            // SAFETY: `old` was reachable through `current` alone, which no longer holds it, and the swap gave it to us
            // only; this runs once, after the pins of readers that still see it.
            let table = unsafe { old.into_owned() };
            unseen.push(table.into_box());
        };
        // SAFETY: a table may be sent to another thread, and so may the queue; neither borrows anything.
        unsafe { guard.defer_unchecked(take) };
        guard.flush();
        self.generation.store(generation, Ordering::Release);
        self.free_unseen();
    }

    /// Frees tables that no reader can see any more. The publishing thread calls it some time after a publication.
    pub fn sweep(&self) {
        let handle = self.collector.register();
        // As often as the epoch must move on before what was replaced last is unseen.
        for _ in 0..EPOCHS {
            handle.pin().flush();
        }
        self.free_unseen();
    }

    /// Frees the tables in the list.
    fn free_unseen(&self) {
        while let Some(table) = self.unseen.pop() {
            drop(table);
        }
    }

    /// The generation of the current table; during a publication, for a moment, that of the one before.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A reader for the calling thread. A thread makes one and keeps it.
    pub fn reader(self: &Arc<Cell>) -> Reader {
        Reader { held: OnceCell::new(), handle: self.collector.register(), cell: self.clone() }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let current = std::mem::replace(&mut self.current, Atomic::null());
        // SAFETY: never null before, and every reader holds an `Arc` of this cell, so no reader can see the table now.
        drop(unsafe { current.into_owned() });
    }
}

/// Reads a [`Cell`] on one thread.
pub struct Reader {
    /// The table of [`Reader::table`], and the pin that keeps it from being freed.
    held: OnceCell<(NonNull<Table>, epoch::Guard)>,
    /// This thread's part of the collector.
    handle: LocalHandle,
    /// What is read.
    cell: Arc<Cell>,
}

impl Reader {
    /// The current table, for one turn of a loop. It must not be held during a wait, because it keeps all tables that
    /// are replaced meanwhile.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        let (table, guard) = self.pin_current();
        Guard { table, _guard: guard, _reader: self }
    }

    /// Pins the epoch and reads the pointer.
    fn pin_current(&self) -> (NonNull<Table>, epoch::Guard) {
        let guard = self.handle.pin();
        let table = self.cell.current.load(Ordering::Acquire, &guard);
        // SAFETY: never null between `new` and `drop`, and a published table is never written again.
        (NonNull::from(unsafe { table.deref() }), guard)
    }

    /// The table of this turn: the one that was current at the first call since [`Reader::let_go`]. A pin is a full
    /// memory fence, and one turn may call this hundreds of times.
    #[inline]
    pub fn table(&self) -> &Table {
        let (table, _) = self.held.get_or_init(|| self.pin_current());
        // SAFETY: it was current when the guard beside it pinned the epoch, so it is not freed before the guard is
        // dropped, which takes `&mut self`.
        unsafe { table.as_ref() }
    }

    /// Ends the turn's hold on the table. It must be called before each wait, because tables that are replaced
    /// meanwhile are kept.
    #[inline]
    pub fn let_go(&mut self) {
        self.held.take();
    }

    /// The generation of the current table: see [`Cell::generation`].
    #[inline]
    pub fn generation(&self) -> u64 {
        self.cell.generation()
    }
}

/// The table as it was when it was pinned.
pub struct Guard<'r> {
    /// The table that was current.
    table: NonNull<Table>,
    /// Keeps `table` from being freed.
    _guard: epoch::Guard,
    /// The cell outlives the guard, because its reader does.
    _reader: &'r Reader,
}

impl Deref for Guard<'_> {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        // SAFETY: it was current when `_guard` pinned the epoch, so it is not freed before `_guard` is dropped, and the
        // reference does not outlive `self`.
        unsafe { self.table.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::table::{ListenerEntry, Phase};

    /// A table whose every part tells its generation; `name` is what the test watches for being freed.
    fn table(generation: u64, name: &Arc<str>) -> Table {
        let entry = |id| {
            Some(ListenerEntry {
                id,
                name: name.clone(),
                pool: crate::base::id::PoolId(generation as u32),
                route: crate::base::id::RouteId(0),
                split: None,
                fallbacks: Box::default(),
                connections_max: None,
                backlog: 0,
                addresses: 0,
                admission: None,
                retired: false,
            })
        };
        let listeners = (0..8).map(|id| entry(crate::base::id::ListenerId(id))).collect();
        Table { generation, phase: Phase::Serving, listeners, routes: vec![], pools: vec![], backends: vec![] }
    }

    #[test]
    fn a_reader_keeps_the_table_it_pinned() {
        let name: Arc<str> = "x".into();
        let cell = Arc::new(Cell::new(table(1, &name)));
        let reader = cell.reader();
        let pinned = reader.pin();
        cell.publish(table(2, &name));
        assert_eq!((pinned.generation, cell.generation(), reader.generation()), (1, 2, 2));
        assert_eq!(cell.reader().pin().generation, 2);
        drop(pinned);
        assert_eq!(reader.pin().generation, 2);
    }

    #[test]
    fn a_turn_sees_one_table_and_keeps_it_no_longer() {
        let name: Arc<str> = "x".into();
        let cell = Arc::new(Cell::new(table(1, &name)));
        let mut reader = cell.reader();
        let first = reader.table();
        cell.publish(table(2, &"y".into()));
        cell.sweep();
        assert!(std::ptr::eq(first, reader.table()));
        assert_eq!((first.generation, first.listeners.len(), Arc::strong_count(&name)), (1, 8, 9), "it is there still");
        reader.let_go();
        cell.sweep();
        assert_eq!((reader.table().generation, Arc::strong_count(&name)), (2, 1));
    }

    /// That may take long, and a worker's clients would wait for it.
    #[test]
    fn a_reader_frees_no_table() {
        let name: Arc<str> = "x".into();
        let cell = Arc::new(Cell::new(table(1, &name)));
        let reader = cell.reader();
        cell.publish(table(2, &"y".into()));
        (0..10_000).for_each(|_| drop(reader.pin()));
        assert_eq!(Arc::strong_count(&name), 9, "eight listeners of the first table are called so");
        cell.sweep();
        assert_eq!(Arc::strong_count(&name), 1);
    }

    #[test]
    fn every_table_is_freed_once_nobody_reads_it() {
        let name: Arc<str> = "x".into();
        let cell = Arc::new(Cell::new(table(1, &name)));
        let reader = cell.reader();
        for generation in 2..5_000 {
            let pinned = reader.pin();
            cell.publish(table(generation, &name));
            drop(pinned);
        }
        let kept = Arc::strong_count(&name) / 8;
        assert!(kept < 1_000, "{kept} tables kept");
        drop(reader);
        drop(cell);
        assert_eq!(Arc::strong_count(&name), 1);
    }

    #[test]
    fn readers_see_whole_tables_in_order() {
        let name: Arc<str> = "x".into();
        let cell = Arc::new(Cell::new(table(1, &name)));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let (reader, mut last) = (cell.reader(), 0);
                    while last < 2_000 {
                        let announced = reader.generation();
                        let pinned = reader.pin();
                        assert!(pinned.generation >= announced.max(last), "went back");
                        last = pinned.generation;
                        let whole =
                            |entry: &Option<ListenerEntry>| entry.as_ref().map(|e| u64::from(e.pool.0)) == Some(last);
                        assert!(pinned.listeners.iter().all(whole), "torn");
                    }
                });
            }
            (2..=2_000).for_each(|generation| cell.publish(table(generation, &name)));
        });
    }
}
