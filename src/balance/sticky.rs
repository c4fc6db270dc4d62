//! Which backend a client had last, for pools in which clients keep theirs: shared by all workers, without locks, in
//! memory that never grows.
//!
//! The table of a pool has 262,144 places. A client address has sixteen possible places, eight in each of two buckets;
//! the second bucket follows from the first one and the tag (Fan, Andersen, Kaminsky, Mitzenmacher, "Cuckoo Filter",
//! 2014), so an entry can be moved to another table without its address. A place is free again when its client has no
//! session and its time is over. If none of the sixteen is free, the client goes that has been without a session for
//! the longest time. Clients with sessions never go.
//!
//! A place is one word with client, backend and number of open sessions, and it changes only as a whole. Two workers
//! may put one client into two places at the same moment. Therefore a worker that has taken a place looks once more; if
//! it sees the client in another place, it takes itself out and begins again. All accesses to words are in one order
//! (SeqCst). Two sessions that are the first ones of a client and begin at the same moment may get two backends; the
//! client keeps one of them.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::base::hash;
use crate::base::id::BackendId;
use crate::base::time::Moment;

/// Places per bucket.
const WAYS: usize = 8;
/// Buckets: a power of two; together 262,144 places, 4 MiB.
const BUCKETS: usize = 1 << 15;

/// Bits of a word that count open sessions.
const OPEN: u64 = (1 << 16) - 1;
/// Where the bits of the backend begin, which is 0 or one more than its slot.
const BACKEND_AT: u32 = 16;
/// Bits of the backend.
const BACKEND: u64 = ((1 << 20) - 1) << BACKEND_AT;
/// Where the bits of the client begin.
const TAG_AT: u32 = 36;
/// After this many attempts a session is not remembered. It takes two workers in perfect step to reach a second one.
const ATTEMPTS: u32 = 100;

/// A session of a client that is remembered, until [`StickyTable::leave`]: the number of its place, from 1.
#[derive(Debug, Eq, PartialEq)]
pub struct StickyPermit(NonZeroU32);

/// What became of a client that begins a session.
#[derive(Debug, Eq, PartialEq)]
pub struct StickyEntered {
    /// Its place; [`StickyPermit::NOBODY`] if there is none for it, or if it has too many sessions.
    pub permit: StickyPermit,
    /// Another client had to go for it before its time was over.
    pub evicts: bool,
}

/// An entry, as it goes from one process to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StickyEntry {
    /// One of the two buckets of the client.
    pub bucket: u32,
    /// What tells it from the other clients of its buckets.
    pub tag: u32,
    /// Its backend.
    pub backend: BackendId,
    /// When its last session ended; now, if it has one.
    pub idle_since: Moment,
}

/// The clients of one pool.
#[derive(Debug, Default)]
pub struct StickyTable {
    /// Made when the first client comes, because most pools remember none.
    places: OnceLock<Box<[StickyPlace]>>,
}

/// One place of the table.
#[derive(Debug, Default)]
struct StickyPlace {
    /// Tag, backend and open sessions; 0 if no client was ever here.
    word: AtomicU64,
    /// When the last session ended, as a moment; means something only while none is open.
    idle_since: AtomicU64,
}

/// A client, and the places where it can be.
#[derive(Clone, Copy)]
struct Name {
    /// The tag at its place in a word, never 0.
    tag: u64,
    /// The first places of its two buckets.
    buckets: [usize; 2],
}

impl Name {
    /// From the hash of its address.
    fn of(key: u64) -> Name {
        Name::from(key as u32, (key >> TAG_AT) as u32)
    }

    /// From one of its buckets and its tag.
    fn from(bucket: u32, tag: u32) -> Name {
        let tag = u64::from(tag).max(1);
        let first = bucket as usize % BUCKETS;
        let second = first ^ (hash::stable(&tag.to_le_bytes(), 0) as usize % BUCKETS);
        Name { tag: tag << TAG_AT, buckets: [first * WAYS, second * WAYS] }
    }

    /// All places where the client can be.
    fn places(self) -> impl Iterator<Item = usize> {
        self.buckets.into_iter().flat_map(|first| first..first + WAYS)
    }
}

/// The part of a word that says which client it is.
fn tag_of(word: u64) -> u64 {
    word >> TAG_AT << TAG_AT
}

/// The backend in a word.
fn backend_of(word: u64) -> Option<BackendId> {
    let number = ((word & BACKEND) >> BACKEND_AT) as u32;
    number.checked_sub(1).map(BackendId)
}

/// The bits of a backend; none for a slot that is too great to be remembered.
fn bits_of(backend: BackendId) -> u64 {
    let bits = (u64::from(backend.0) + 1) << BACKEND_AT;
    if bits & !BACKEND == 0 { bits } else { 0 }
}

impl StickyTable {
    /// A session of a client begins, whose address has that hash. Clients keep their backend for `keep_ns` after their
    /// last session.
    pub fn enter(&self, key: u64, keep_ns: u64, now: Moment) -> StickyEntered {
        let name = Name::of(key);
        for _ in 0..ATTEMPTS {
            let (place, before, after, evicts) = match self.find(name, None) {
                Some((_, word)) if word & OPEN == OPEN => break,
                Some((place, word)) if word & OPEN == 0 && self.is_over(place, keep_ns, now) => {
                    (place, word, name.tag | 1, false)
                }
                Some((place, word)) => (place, word, word + 1, false),
                None => {
                    let Some((place, word, evicts)) = self.room(name, keep_ns, now) else { break };
                    (place, word, name.tag | 1, evicts)
                }
            };
            if self.places()[place].word.compare_exchange(before, after, SeqCst, SeqCst).is_err() {
                continue;
            }
            if tag_of(before) != name.tag && self.find(name, Some(place)).is_some() {
                self.take_out(place);
                continue;
            }
            let permit = NonZeroU32::new(place as u32 + 1).map_or(StickyPermit::NOBODY, StickyPermit);
            return StickyEntered { permit, evicts };
        }
        StickyEntered { permit: StickyPermit::NOBODY, evicts: false }
    }

    /// The backend that the client of that session has; `None` if it has none yet, or its time was over.
    pub fn backend(&self, permit: &StickyPermit) -> Option<BackendId> {
        backend_of(self.places().get(permit.place())?.word.load(SeqCst))
    }

    /// The client of that session has this backend from now on.
    pub fn remember(&self, permit: &StickyPermit, backend: BackendId) {
        let Some(place) = self.places().get(permit.place()) else { return };
        let with = |word: u64| {
            let after = word & !BACKEND | bits_of(backend);
            (after != word).then_some(after)
        };
        let _ = place.word.fetch_update(SeqCst, SeqCst, with); // it may be there already
    }

    /// The session has ended; exactly once per permit.
    pub fn leave(&self, permit: StickyPermit, now: Moment) {
        let Some(place) = self.places().get(permit.place()) else { return };
        place.idle_since.fetch_max(now.0, SeqCst);
        let before = place.word.fetch_sub(1, SeqCst);
        debug_assert!(before & OPEN > 0, "a client with sessions was forgotten");
    }

    /// Every client that has a backend, and whose time is not over.
    pub fn entries(&self, keep_ns: u64, now: Moment) -> impl Iterator<Item = StickyEntry> {
        let places = self.places.get().map(|places| &places[..]).unwrap_or_default();
        places.iter().enumerate().filter_map(move |(index, place)| {
            let word = place.word.load(SeqCst);
            let is_open = word & OPEN > 0;
            let idle_since = if is_open { now } else { Moment(place.idle_since.load(Relaxed)) };
            let is_over = !is_open && now >= idle_since.after_ns(keep_ns);
            let (bucket, tag) = ((index / WAYS) as u32, (word >> TAG_AT) as u32);
            backend_of(word).filter(|_| !is_over).map(|backend| StickyEntry { bucket, tag, backend, idle_since })
        })
    }

    /// Takes an entry over from another process, unless the client is known here or there is no free place for it.
    pub fn restore(&self, entry: StickyEntry, keep_ns: u64, now: Moment) {
        let name = Name::from(entry.bucket, entry.tag);
        if self.find(name, None).is_some() {
            return;
        }
        if let Some((place, before, false)) = self.room(name, keep_ns, now) {
            let after = name.tag | bits_of(entry.backend);
            if self.places()[place].word.compare_exchange(before, after | 1, SeqCst, SeqCst).is_ok() {
                // Its one session is that of this moment.
                self.places()[place].idle_since.store(entry.idle_since.0, SeqCst);
                self.places()[place].word.fetch_sub(1, SeqCst);
            }
        }
    }

    /// The place of a client, other than `except`, and its word.
    fn find(&self, name: Name, except: Option<usize>) -> Option<(usize, u64)> {
        let words = name.places().map(|place| (place, self.places()[place].word.load(SeqCst)));
        words.into_iter().find(|&(place, word)| tag_of(word) == name.tag && Some(place) != except)
    }

    /// Whether the time of a client without sessions is over.
    fn is_over(&self, place: usize, keep_ns: u64, now: Moment) -> bool {
        now >= Moment(self.places()[place].idle_since.load(SeqCst)).after_ns(keep_ns)
    }

    /// A place for a client, its word, and whether another client has to go for it: a free one of the bucket that has
    /// more of them, else the one whose client has been without a session for longest. `None` if all have sessions.
    fn room(&self, name: Name, keep_ns: u64, now: Moment) -> Option<(usize, u64, bool)> {
        let free = |first: usize| {
            let words = (first..first + WAYS).map(|place| (place, self.places()[place].word.load(SeqCst)));
            words.filter(move |&(place, word)| word == 0 || word & OPEN == 0 && self.is_over(place, keep_ns, now))
        };
        let roomier = name.buckets.into_iter().max_by_key(|first| free(*first).count());
        if let Some((place, word)) = roomier.and_then(|first| free(first).next()) {
            return Some((place, word, false));
        }
        let words = name.places().map(|place| (place, self.places()[place].word.load(SeqCst)));
        let idle = words.filter(|(_, word)| word & OPEN == 0);
        let oldest = idle.min_by_key(|(place, _)| self.places()[*place].idle_since.load(Relaxed));
        oldest.map(|(place, word)| (place, word, true))
    }

    /// Undoes [`StickyTable::enter`]. The last session leaves nothing behind, so that the client is not found there
    /// again.
    fn take_out(&self, place: usize) {
        let without = |word: u64| Some(if word & OPEN <= 1 { 0 } else { word - 1 });
        let _ = self.places()[place].word.fetch_update(SeqCst, SeqCst, without); // it never says no
    }

    /// The table, made if necessary.
    fn places(&self) -> &[StickyPlace] {
        self.places.get_or_init(|| (0..BUCKETS * WAYS).map(|_| StickyPlace::default()).collect())
    }
}

impl StickyPermit {
    /// Of a session whose client is not remembered.
    pub const NOBODY: StickyPermit = StickyPermit(NonZeroU32::MAX);

    /// The index of the place.
    fn place(&self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cfg(test)]
mod tests;
