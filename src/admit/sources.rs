//! How many connections a client may have, and how fast it may make them: exact over all workers, in memory that never
//! grows.
//!
//! A table of a million sources. A source has sixteen places, eight in each of two buckets that a keyed hash (SipHash)
//! names, so nobody can aim at a bucket; the one with more room takes it (Azar, Broder, Karlin and Upfal, "Balanced
//! Allocations", 1994). A place is free again when its source has no connection and as many tokens as it may have,
//! which is the same as never having been there. If none of the sixteen is free, the one without connections that is
//! nearest to that is forgotten, and its source gets its tokens back early.
//!
//! Buckets are locked for some tens of nanoseconds. It is the one lock of the data plane: an entry is three numbers
//! that belong together, and listeners without such limits never come here.
//!
//! The rate is a token bucket, kept as the moment at which it will be full again (GCRA, ITU-T I.371).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Refused;
use crate::base::id::ListenerId;
use crate::base::time::Moment;

/// Places in a bucket.
const WAYS: usize = 8;
/// Buckets: a million places.
const BUCKETS: usize = 1 << 17;

/// New connections in a unit of time; the bucket holds one unit's worth.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rate {
    /// Connections in a unit; 0 is no limit.
    pub count: u32,
    /// The unit.
    pub unit_ns: u64,
}

impl Rate {
    /// Between two tokens.
    fn interval_ns(self) -> u64 {
        (self.unit_ns / u64::from(self.count.max(1))).max(1)
    }
}

/// What a listener allows each source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at once; 0 is no limit.
    pub connections_max: u32,
    /// New connections.
    pub rate: Rate,
    /// IPv6 clients count by so many bits.
    pub prefix_v6: u8,
}

impl Limits {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.connections_max == 0 && self.rate.count == 0
    }
}

/// A place in the table: the source's, until [`Sources::leave`].
#[derive(Debug, Eq, PartialEq)]
pub struct Permit(u64);

/// See the module.
pub struct Sources {
    key: RandomState,
    buckets_wanted: usize,
    /// Made when the first source comes: most processes have no such limits.
    buckets: OnceLock<Box<[Bucket]>>,
}

type Bucket = Mutex<[Entry; WAYS]>;

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Keyed hash of listener and source; 0 where there never was one. 64 bits under a secret key: two of a million
    /// sources are taken for one with a probability of 2^-25.
    tag: u64,
    /// When its token bucket is full again.
    full_at: Moment,
    /// Open connections.
    open: u32,
}

impl Entry {
    /// Nothing would be lost with it.
    fn is_free(&self, now: Moment) -> bool {
        self.open == 0 && self.full_at <= now
    }
}

impl Sources {
    /// An empty table, keyed by what nobody else knows.
    pub fn new(key: RandomState) -> Sources {
        Sources::with_buckets(key, BUCKETS)
    }

    fn with_buckets(key: RandomState, buckets_wanted: usize) -> Sources {
        Sources { key, buckets_wanted, buckets: OnceLock::new() }
    }

    /// Counts a connection of that client, if it may have one more. A refused one counts for nothing.
    pub fn enter(&self, listener: ListenerId, client: IpAddr, limits: &Limits, now: Moment) -> Result<Permit, Refused> {
        let tag = self.tag(listener, client, limits.prefix_v6);
        let mut place = self.place(tag);
        let entry = place.find_or_make(tag, now).ok_or(Refused::SourceLimit)?;
        if limits.connections_max > 0 && entry.open >= limits.connections_max {
            return Err(Refused::SourceLimit);
        }
        if limits.rate.count > 0 {
            let full_at = entry.full_at.max(now).after_ns(limits.rate.interval_ns());
            if full_at > now.after_ns(limits.rate.unit_ns) {
                return Err(Refused::SourceRate);
            }
            entry.full_at = full_at;
        }
        entry.tag = tag;
        entry.open += 1;
        Ok(Permit(tag))
    }

    /// The connection is closed. Owed exactly once for each permit.
    pub fn leave(&self, permit: Permit) {
        let mut place = self.place(permit.0);
        if let Some(entry) = place.find(permit.0) {
            entry.open = entry.open.saturating_sub(1);
        } else {
            debug_assert!(false, "a source with connections was forgotten");
        }
    }

    fn tag(&self, listener: ListenerId, client: IpAddr, prefix_v6: u8) -> u64 {
        let (is_v6, bits) = match client.to_canonical() {
            IpAddr::V4(address) => (false, u128::from(address.to_bits())),
            IpAddr::V6(address) => {
                let host_bits = 128 - u32::from(prefix_v6.min(128));
                (true, address.to_bits() >> host_bits.min(127) << host_bits.min(127))
            }
        };
        self.key.hash_one((listener.0, is_v6, bits)).max(1)
    }

    /// Both buckets of a source, locked in their order.
    fn place(&self, tag: u64) -> Place<'_> {
        let wanted = self.buckets_wanted;
        let buckets = self.buckets.get_or_init(|| (0..wanted).map(|_| Bucket::default()).collect());
        let (one, other) = (tag as usize % wanted, (tag >> 32) as usize % wanted);
        // Nobody panics with a lock held: the process would end.
        let lock = |index: usize| buckets[index].lock().unwrap_or_else(PoisonError::into_inner);
        let first = lock(one.min(other));
        Place { first, second: (one != other).then(|| lock(one.max(other))) }
    }
}

struct Place<'a> {
    first: MutexGuard<'a, [Entry; WAYS]>,
    second: Option<MutexGuard<'a, [Entry; WAYS]>>,
}

impl Place<'_> {
    fn find(&mut self, tag: u64) -> Option<&mut Entry> {
        let second = self.second.iter_mut().flat_map(|bucket| bucket.iter_mut());
        self.first.iter_mut().chain(second).find(|entry| entry.tag == tag)
    }

    /// The entry of that source, or one that it may have; it is the source's once its tag is set. `None` if all
    /// have connections of others.
    fn find_or_make(&mut self, tag: u64, now: Moment) -> Option<&mut Entry> {
        // Asked twice, because the compiler cannot see that a `None` borrows nothing.
        if self.find(tag).is_some() {
            return self.find(tag);
        }
        let bucket = if self.second_has_more_room(now) { self.second.as_mut()? } else { &mut self.first };
        let forgotten = bucket.iter_mut().filter(|entry| entry.open == 0).min_by_key(|entry| entry.full_at)?;
        *forgotten = Entry::default();
        Some(forgotten)
    }

    /// By free places; where there are none, by who is nearest to being one.
    fn second_has_more_room(&self, now: Moment) -> bool {
        let free = |bucket: &[Entry; WAYS]| bucket.iter().filter(|entry| entry.is_free(now)).count();
        let oldest = |bucket: &[Entry; WAYS]| {
            let idle = bucket.iter().filter(|entry| entry.open == 0);
            idle.map(|entry| entry.full_at).min().unwrap_or(Moment::NEVER)
        };
        self.second.as_ref().is_some_and(|second| match (free(&self.first), free(second)) {
            (0, 0) => oldest(second) < oldest(&self.first),
            (first, second) => second > first,
        })
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("is_used", &self.buckets.get().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
