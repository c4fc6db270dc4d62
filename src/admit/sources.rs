//! How many connections a client address has, and how fast it makes new ones: exact over all workers, without locks, in
//! memory that never grows.
//!
//! The table has a million places. A source address has sixteen possible places, eight in each of two buckets that a
//! keyed hash (SipHash) chooses, so an attacker cannot aim at a bucket. The bucket with more room takes it (Azar,
//! Broder, Karlin and Upfal, "Balanced Allocations", 1994). A place is free again when its source has no connection and
//! all its tokens, which is the same as never having been there. If none of the sixteen is free, the source without
//! connections that is nearest to that state is forgotten, and gets its tokens back early.
//!
//! A place is one word with the source and its open connections, and it changes only as a whole: a place with
//! connections stays with its source. Two workers may put one source into two places at the same moment. Therefore a
//! worker that has counted looks once more; if it sees the source in another place, it takes itself out and begins
//! again. All accesses to words are in one order (SeqCst), so of two workers that race at least one sees the other.
//!
//! The rate is a token bucket, stored as the moment when it will be full again (GCRA, ITU-T I.371).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::Refused;
use crate::base::id::ListenerId;
use crate::base::time::Moment;

/// Places per bucket: two cache lines.
const WAYS: usize = 8;
/// Buckets: together a million places, 16 MiB.
const BUCKETS: usize = 1 << 17;

/// The part of a word that counts open connections; the upper part says which source they belong to.
const OPEN: u64 = (1 << 24) - 1;
/// After this many attempts a connection is refused. It takes two workers in perfect step to reach a second attempt.
const ATTEMPTS: u32 = 1000;

/// How many new connections per unit of time; the bucket holds as many as one unit gives.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RateLimit {
    /// Connections per unit; 0 is no limit.
    pub count: u32,
    /// The unit, in nanoseconds.
    pub unit_ns: u64,
}

impl RateLimit {
    /// The time from one token to the next.
    fn interval_ns(self) -> u64 {
        (self.unit_ns / u64::from(self.count.max(1))).max(1)
    }
}

/// What a listener allows each source address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// Open connections; 0 is no limit.
    pub connections_max: u32,
    /// The rate of new connections.
    pub rate: RateLimit,
    /// How many leading bits of an IPv6 address make one source.
    pub prefix_v6: u8,
}

impl Quota {
    /// Whether there is no limit at all.
    pub fn is_none(&self) -> bool {
        self.connections_max == 0 && self.rate.count == 0
    }

    /// Whether a source with this many open connections can have one more.
    fn has_room(&self, open: u64) -> bool {
        open < OPEN && (self.connections_max == 0 || open < u64::from(self.connections_max))
    }
}

/// A connection that is counted, until [`Sources::leave`] gives it back: the number of its place.
#[derive(Debug, Eq, PartialEq)]
pub struct Permit(u32);

/// Whose sessions a limit counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SourceScope {
    /// Those of this listener.
    listener: ListenerId,
    /// Those of one of its routes, by a number that stays with what the route says; 0 is all of the listener's.
    route: u64,
}

impl From<ListenerId> for SourceScope {
    /// All sessions of a listener.
    fn from(listener: ListenerId) -> SourceScope {
        SourceScope { listener, route: 0 }
    }
}

impl SourceScope {
    /// The sessions of one of its routes.
    pub fn of_route(listener: ListenerId, route: u64) -> SourceScope {
        SourceScope { listener, route: route.max(1) }
    }
}

/// How many connections each client address has, and how many it has made lately.
pub struct Sources {
    /// The key of the hash.
    key: RandomState,
    /// How many buckets there are; fewer in tests.
    buckets: usize,
    /// Made when the first source comes, because most processes have no such limits.
    places: OnceLock<Box<[SourcePlace]>>,
}

/// One place of the table.
#[derive(Default)]
struct SourcePlace {
    /// [`Name::tag`] and the number of open connections; 0 if no source was ever here.
    word: AtomicU64,
    /// When the token bucket is full again, as a moment.
    full_at: AtomicU64,
}

/// A source, and the places where it can be.
#[derive(Clone, Copy)]
struct Name {
    /// The upper 40 bits of a hash with a secret key, never 0. Together with the bucket they tell a million sources
    /// apart, except for one time in fifty thousand.
    tag: u64,
    /// The first places of its two buckets, which may be the same.
    buckets: [usize; 2],
}

impl Name {
    /// All places where the source can be.
    fn places(self) -> impl Iterator<Item = usize> {
        self.buckets.into_iter().flat_map(|first| first..first + WAYS)
    }
}

impl Sources {
    /// An empty table. The key must be secret.
    pub fn new(key: RandomState) -> Sources {
        Sources::with_buckets(key, BUCKETS)
    }

    /// The same, with another number of buckets.
    fn with_buckets(key: RandomState, buckets: usize) -> Sources {
        Sources { key, buckets, places: OnceLock::new() }
    }

    /// Counts a connection of this client, if it can have one more. A refused connection counts for nothing.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn enter(
        &self,
        scope: impl Into<SourceScope>,
        client: IpAddr,
        limits: &Quota,
        now: Moment,
    ) -> Result<Permit, Refused> {
        let name = self.name(scope.into(), client, limits.prefix_v6);
        for attempt in 0..ATTEMPTS {
            let Some(place) = self.count(name, limits, now)? else { continue };
            if self.find(name, Some(place)).is_some() {
                self.take_out(place);
                // Workers that are in step get out of it by waiting for different times.
                (0..place % 61 * attempt as usize).for_each(|_| std::hint::spin_loop());
                continue;
            }
            if !self.take_token(place, limits.rate, now) {
                self.leave(Permit(place as u32));
                return Err(Refused::SourceRate);
            }
            return Ok(Permit(place as u32));
        }
        Err(Refused::SourceLimit)
    }

    /// Gives back a connection that has ended; exactly once per permit.
    pub fn leave(&self, permit: Permit) {
        let before = self.places()[permit.0 as usize].word.fetch_sub(1, SeqCst);
        debug_assert!(before & OPEN > 0, "a source with connections was forgotten");
    }

    /// Counts one more connection at the place of the source, or gives the source a place. `None` if another worker was
    /// faster.
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
            // The tokens belong to the source that is being forgotten.
            entry.full_at.store(0, Relaxed);
        }
        Ok(entry.word.compare_exchange(before, after, SeqCst, SeqCst).ok().map(|_| place))
    }

    /// The place of the source, other than `except`, and its word.
    fn find(&self, name: Name, except: Option<usize>) -> Option<(usize, u64)> {
        let words = name.places().map(|place| (place, self.places()[place].word.load(SeqCst)));
        words.into_iter().find(|&(place, word)| word & !OPEN == name.tag && Some(place) != except)
    }

    /// A place for the source, and its word: a free one of the bucket that has more of them, else the one whose source
    /// loses least. `None` if all places have connections.
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

    /// Undoes [`Sources::count`]. The last connection leaves nothing behind, so that the source is not found there
    /// again.
    fn take_out(&self, place: usize) {
        let without = |word: u64| Some(if word & OPEN <= 1 { 0 } else { word - 1 });
        let _ = self.places()[place].word.fetch_update(SeqCst, SeqCst, without); // it never says no
    }

    /// Takes a token, if there is one.
    fn take_token(&self, place: usize, rate: RateLimit, now: Moment) -> bool {
        let without_one = |full_at: u64| {
            let after = Moment(full_at.max(now.0)).after_ns(rate.interval_ns());
            (after <= now.after_ns(rate.unit_ns)).then_some(after.0)
        };
        rate.count == 0 || self.places()[place].full_at.fetch_update(Relaxed, Relaxed, without_one).is_ok()
    }

    /// The hash of a source: its tag and its buckets.
    fn name(&self, scope: SourceScope, client: IpAddr, prefix_v6: u8) -> Name {
        let (is_v6, bits) = match client.to_canonical() {
            IpAddr::V4(address) => (false, u128::from(address.to_bits())),
            IpAddr::V6(address) => {
                let host_bits = 128 - u32::from(prefix_v6.clamp(1, 128));
                (true, address.to_bits() >> host_bits << host_bits)
            }
        };
        let hash = self.key.hash_one((scope, is_v6, bits));
        let bucket = |bits: u64| bits as usize % self.buckets * WAYS;
        let tag = hash & !OPEN;
        Name { tag: if tag == 0 { OPEN + 1 } else { tag }, buckets: [bucket(hash), bucket(hash.rotate_right(17))] }
    }

    /// The table, made if necessary.
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
