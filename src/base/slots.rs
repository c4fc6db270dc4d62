//! An array by slot number that grows under its readers.
//!
//! Chunk `k` has `64 << k` entries and is made the first time one of them is asked for. Nothing ever moves or goes
//! away before the array itself, so a reference may be kept, and a read costs one load more than a plain array.
//!
//! Counters and shared counts are kept in it, by the ids of listeners, pools and backends: a reload can add a backend
//! while workers count.

use std::sync::OnceLock;

/// Entries of the first chunk; each further chunk has twice as many as the one before.
const FIRST: usize = 64;
/// Enough chunks for every `u32` slot number.
const CHUNKS: usize = 27;

/// Append-only array. Any thread may call [`Slots::get`]; two that race for a new chunk agree on one.
#[derive(Debug)]
pub struct Slots<T> {
    /// Each is made when one of its entries is first asked for.
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T: Default> Slots<T> {
    /// An array with nothing in it: no memory is taken before the first [`Slots::get`].
    pub const fn new() -> Slots<T> {
        Slots { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// The entry with that number, made (with its whole chunk) if it is new. Panics above
    /// `u32::MAX`, which no id reaches.
    #[inline]
    pub fn get(&self, index: usize) -> &T {
        let (chunk, offset) = place(index);
        match self.chunks[chunk].get() {
            Some(entries) => &entries[offset],
            None => &self.grow(chunk)[offset],
        }
    }

    /// The entries from that number to the end of its chunk, made if new: for loops over neighbours.
    #[inline]
    pub fn run(&self, index: usize) -> &[T] {
        let (chunk, offset) = place(index);
        match self.chunks[chunk].get() {
            Some(entries) => &entries[offset..],
            None => &self.grow(chunk)[offset..],
        }
    }

    /// The entry with that number if its chunk exists.
    pub fn existing(&self, index: usize) -> Option<&T> {
        let (chunk, offset) = place(index);
        self.chunks.get(chunk)?.get()?.get(offset)
    }

    /// Every entry of every chunk that exists, with its number; many may never have been asked for.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.chunks.iter().enumerate().flat_map(|(chunk, entries)| {
            let first = FIRST * ((1 << chunk) - 1);
            let entries = entries.get().map(|entries| &entries[..]).unwrap_or_default();
            entries.iter().enumerate().map(move |(offset, entry)| (first + offset, entry))
        })
    }

    /// Makes a chunk.
    #[cold]
    fn grow(&self, chunk: usize) -> &[T] {
        self.chunks[chunk].get_or_init(|| (0..FIRST << chunk).map(|_| T::default()).collect())
    }
}

impl<T: Default> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

/// Chunk of a slot number, and the place in it.
#[inline]
fn place(index: usize) -> (usize, usize) {
    let shifted = index + FIRST;
    let chunk = (shifted.ilog2() - FIRST.ilog2()) as usize;
    (chunk, shifted - (FIRST << chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_number_has_one_place_and_the_places_are_dense() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(place(index), expected);
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX as usize).0 < CHUNKS);
    }

    #[test]
    fn entries_never_move() {
        let slots = Slots::<AtomicUsize>::new();
        let first: *const AtomicUsize = slots.get(3);
        slots.get(3).store(7, Relaxed);
        slots.get(100_000).store(8, Relaxed);
        assert!(std::ptr::eq(first, slots.get(3)));
        assert_eq!(slots.get(3).load(Relaxed), 7);
    }

    #[test]
    fn a_run_ends_with_its_chunk() {
        let slots = Slots::<AtomicUsize>::new();
        for (index, length) in [(0, 64), (63, 1), (64, 128), (100, 92), (192, 256)] {
            assert_eq!(slots.run(index).len(), length);
            assert!(std::ptr::eq(&slots.run(index)[0], slots.get(index)));
        }
    }

    #[test]
    fn iteration_sees_what_exists_and_makes_nothing() {
        let slots = Slots::<AtomicUsize>::new();
        assert_eq!(slots.iter().count(), 0);
        assert!(slots.existing(64).is_none());
        slots.get(64).store(5, Relaxed);
        assert_eq!(slots.iter().count(), 128);
        let set: Vec<_> = slots.iter().filter(|(_, entry)| entry.load(Relaxed) != 0).map(|(index, _)| index).collect();
        assert_eq!(set, [64]);
    }

    #[test]
    fn threads_that_race_for_a_chunk_share_it() {
        let slots = Slots::<AtomicUsize>::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|index| assert!(slots.get(index).fetch_add(1, Relaxed) < 4)));
            }
        });
        assert!((0..1000).all(|index| slots.get(index).load(Relaxed) == 4));
    }
}
