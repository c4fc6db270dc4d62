//! How many connections a client may have, and how fast it may make them: exact over all workers, without locks, in
//! memory that never grows.
//!
//! A table of a million sources. A source has sixteen places, eight in each of two buckets that a keyed hash (SipHash)
//! names, so nobody can aim at a bucket; the one with more room takes it (Azar, Broder, Karlin and Upfal, "Balanced
//! Allocations", 1994). A place is free again when its source has no connection and as many tokens as it may have,
//! which is the same as never having been there. If none of the sixteen is free, the one without connections that is
//! nearest to that is forgotten, and its source gets its tokens back early.
//!
//! A place is a word that holds the source and its open connections, and is only changed as a whole: a place with
//! connections stays its source's. Two workers may put one source into two places at the same moment. So whoever has
//! counted itself looks once more, and takes itself out and begins anew if it sees its source elsewhere; all accesses
//! to words are in one order (SeqCst), so of two that race at least one sees the other.
//!
//! The rate is a token bucket, kept as the moment at which it will be full again (GCRA, ITU-T I.371).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::Refused;
use crate::base::id::ListenerId;
use crate::base::time::Moment;

/// Places in a bucket: two cache lines.
const WAYS: usize = 8;
/// Buckets: a million places, 16 MiB.
const BUCKETS: usize = 1 << 17;

/// Of a word: open connections, and above them which source has them.
const OPEN: u64 = (1 << 24) - 1;
/// One that has begun anew so often never will; it takes two workers that go in step to make it two.
const ATTEMPTS: u32 = 1000;

/// New connections in a unit of time; the bucket holds one unit's worth.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RateLimit {
    /// Connections in a unit; 0 is no limit.
    pub count: u32,
    /// The unit.
    pub unit_ns: u64,
}

impl RateLimit {
    /// Between two tokens.
    fn interval_ns(self) -> u64 {
        (self.unit_ns / u64::from(self.count.max(1))).max(1)
    }
}

/// What a listener allows each source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// Connections at once; 0 is no limit.
    pub connections_max: u32,
    /// New connections.
    pub rate: RateLimit,
    /// IPv6 clients count by so many bits.
    pub prefix_v6: u8,
}

impl Quota {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.connections_max == 0 && self.rate.count == 0
    }

    /// Whether a source that has so many connections may have one more.
    fn has_room(&self, open: u64) -> bool {
        open < OPEN && (self.connections_max == 0 || open < u64::from(self.connections_max))
    }
}

/// A connection that is counted, until [`Sources::leave`]: the number of its place.
#[derive(Debug, Eq, PartialEq)]
pub struct Permit(usize);

/// How many connections each client address has, and how many it has made of late.
pub struct Sources {
    key: RandomState,
    buckets: usize,
    /// Made when the first source comes: most processes have no such limits.
    places: OnceLock<Box<[SourcePlace]>>,
}

#[derive(Default)]
struct SourcePlace {
    /// [`Name::tag`] and open connections; 0 where there never was a source.
    word: AtomicU64,
    /// When the token bucket is full again.
    full_at: AtomicU64,
}

/// A source, and where it may be.
#[derive(Clone, Copy)]
struct Name {
    /// 40 bits of a hash under a secret key, not 0, in the upper bits. Together with the buckets they tell a million
    /// sources apart but for one time in fifty thousand.
    tag: u64,
    /// First places of its buckets; they may be the same.
    buckets: [usize; 2],
}

impl Name {
    fn places(self) -> impl Iterator<Item = usize> {
        self.buckets.into_iter().flat_map(|first| first..first + WAYS)
    }
}

impl Sources {
    /// An empty table, keyed by what nobody else knows.
    pub fn new(key: RandomState) -> Sources {
        Sources::with_buckets(key, BUCKETS)
    }

    fn with_buckets(key: RandomState, buckets: usize) -> Sources {
        Sources { key, buckets, places: OnceLock::new() }
    }

    /// Counts a connection of that client, if it may have one more. A refused one counts for nothing.
    pub fn enter(&self, listener: ListenerId, client: IpAddr, limits: &Quota, now: Moment) -> Result<Permit, Refused> {
        let name = self.name(listener, client, limits.prefix_v6);
        for attempt in 0..ATTEMPTS {
            let Some(place) = self.count(name, limits, now)? else { continue };
            if self.find(name, Some(place)).is_some() {
                self.take_out(place);
                // Two that are in step fall out of it.
                (0..place % 61 * attempt as usize).for_each(|_| std::hint::spin_loop());
                continue;
            }
            if !self.take_token(place, limits.rate, now) {
                self.leave(Permit(place));
                return Err(Refused::SourceRate);
            }
            return Ok(Permit(place));
        }
        Err(Refused::SourceLimit)
    }

    /// The connection is closed. Owed exactly once for each permit.
    pub fn leave(&self, permit: Permit) {
        let before = self.places()[permit.0].word.fetch_sub(1, SeqCst);
        debug_assert!(before & OPEN > 0, "a source with connections was forgotten");
    }

    /// Counts one more where the source is, or puts it somewhere; `None` if somebody else was faster.
    fn count(&self, name: Name, limits: &Quota, now: Moment) -> Result<Option<usize>, Refused> {
        let (place, before, after) = match self.find(name, None) {
            Some((_, word)) if !limits.has_room(word & OPEN) => return Err(Refused::SourceLimit),
            Some((place, word)) => (place, word, word + 1),
            None => {
                let (place, word) = self.room(name, now).ok_or(Refused::SourceLimit)?;
                (place, word, name.tag | 1)
            }
        };
        let entry = &self.places()[place];
        if before & !OPEN != name.tag && entry.full_at.load(Relaxed) > now.0 {
            // Its tokens are not those of the one that is forgotten.
            entry.full_at.store(0, Relaxed);
        }
        Ok(entry.word.compare_exchange(before, after, SeqCst, SeqCst).ok().map(|_| place))
    }

    /// Where the source is, other than there, and its word.
    fn find(&self, name: Name, except: Option<usize>) -> Option<(usize, u64)> {
        let words = name.places().map(|place| (place, self.places()[place].word.load(SeqCst)));
        words.into_iter().find(|&(place, word)| word & !OPEN == name.tag && Some(place) != except)
    }

    /// A place for it, and its word: a free one of the bucket that has more of them, or else the one whose source loses
    /// the least. `None` if all have connections.
    fn room(&self, name: Name, now: Moment) -> Option<(usize, u64)> {
        let idle = |first: usize| {
            let words = (first..first + WAYS).map(|place| (place, self.places()[place].word.load(SeqCst)));
            let idle = words.filter(|&(_, word)| word & OPEN == 0);
            idle.map(|(place, word)| (self.places()[place].full_at.load(Relaxed), place, word))
        };
        let free = |first: &usize| idle(*first).filter(|&(full_at, ..)| full_at <= now.0).count();
        let roomier = name.buckets.into_iter().max_by_key(free).filter(|first| free(first) > 0);
        let found = match roomier {
            Some(first) => idle(first).min(),
            None => name.buckets.into_iter().flat_map(idle).min(),
        };
        found.map(|(_, place, word)| (place, word))
    }

    /// Undoes [`Sources::count`]. The last one leaves nothing behind, so that it is not found there again.
    fn take_out(&self, place: usize) {
        let without = |word: u64| Some(if word & OPEN <= 1 { 0 } else { word - 1 });
        let _ = self.places()[place].word.fetch_update(SeqCst, SeqCst, without); // it never says no
    }

    fn take_token(&self, place: usize, rate: RateLimit, now: Moment) -> bool {
        let without_one = |full_at: u64| {
            let after = Moment(full_at.max(now.0)).after_ns(rate.interval_ns());
            (after <= now.after_ns(rate.unit_ns)).then_some(after.0)
        };
        rate.count == 0 || self.places()[place].full_at.fetch_update(Relaxed, Relaxed, without_one).is_ok()
    }

    fn name(&self, listener: ListenerId, client: IpAddr, prefix_v6: u8) -> Name {
        let (is_v6, bits) = match client.to_canonical() {
            IpAddr::V4(address) => (false, u128::from(address.to_bits())),
            IpAddr::V6(address) => {
                let host_bits = 128 - u32::from(prefix_v6.clamp(1, 128));
                (true, address.to_bits() >> host_bits << host_bits)
            }
        };
        let hash = self.key.hash_one((listener.0, is_v6, bits));
        let bucket = |bits: u64| bits as usize % self.buckets * WAYS;
        let tag = hash & !OPEN;
        Name { tag: if tag == 0 { OPEN + 1 } else { tag }, buckets: [bucket(hash), bucket(hash.rotate_right(17))] }
    }

    fn places(&self) -> &[SourcePlace] {
        self.places.get_or_init(|| (0..self.buckets * WAYS).map(|_| SourcePlace::default()).collect())
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("is_used", &self.places.get().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
