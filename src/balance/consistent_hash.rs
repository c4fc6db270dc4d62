//! Consistent hashing by Maglev.
//!
//! Idea: each backend has its own random order of the 65537 slots, drawn from its name; they take turns, and each takes
//! the first slot of its order that is free. A key is looked up by its remainder. All share the slots evenly (within
//! 1 % at 100 backends), and when one of N goes, little more than its own 1/N of the keys move. Names alone decide: the
//! order of the file, the worker and the machine do not. A backend of weight w has w/max turns a round.
//!
//! A backend that was tried, is full, or is above its bound is passed over by walking on in the slots: every worker,
//! and every ringway, walks the same way. With a balance factor of c per cent, no backend is above ceil(c/100 · its
//! share of the sessions with the new one): a popular key spills to its neighbours instead of drowning its own backend.
//!
//! Cost a pick: one remainder by a constant, one load. Cost to build: 65537 · ln N looks at slots; 128 KiB.
//! Source: Eisenbud and others, Maglev, NSDI 2016, section 3.4; the weights as in Envoy's `maglev_lb`; the bound from
//! Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018.

use std::sync::Arc;

use super::bounds::{self, Bounds};
use super::policy::{Policy, Row};
use super::{Ask, Candidate, Counts, Pick, Ready, exhausted};
use crate::base::hash;
use crate::base::id::PoolId;

/// Slots of a table: prime, so that every skip reaches every slot, and more than 100 times any sensible pool.
const SLOTS: usize = 65_537;
/// A slot that no backend has taken.
const FREE: u16 = u16::MAX;

/// The policy, for a pool that says nothing more of it.
pub const POLICY: Policy = Policy::of(&Row {
    word: "consistent_hash",
    takes: &["hash_key", "hash_balance_factor"],
    is_tied: true,
    sends_all_to_one: false,
    why,
    ready: |policy, candidates, slow_start_ns| {
        Arc::new(ConsistentHash::new(candidates, policy.balance_factor(), slow_start_ns))
    },
});

/// What decided, in words.
fn why(policy: Policy, key: u64) -> String {
    let slot = key % SLOTS as u64;
    match policy.balance_factor() {
        None => format!(
            "its slot {slot} of {SLOTS} belongs to that name, on every ringway with backends of these names and weights"
        ),
        Some(factor) => format!(
            "its slot {slot} of {SLOTS} belongs to that name; above {factor} % of its share, its sessions go on to the \
             next"
        ),
    }
}

/// The slots, each with the place of its backend; no slots if there are no candidates.
#[derive(Debug)]
pub struct ConsistentHash {
    slots: Box<[u16]>,
    weights: Box<[u32]>,
    weights_sum: u64,
    balance_factor: Option<u32>,
    bounds: Bounds,
}

impl ConsistentHash {
    /// Fills the slots; the weights of `candidates` are not 0. Of more than 65535, the first by name count: a pool of
    /// that size has no even share of the slots any more.
    pub fn new(candidates: &[Candidate<'_>], balance_factor: Option<u32>, slow_start_ns: u64) -> ConsistentHash {
        let mut sorted = candidates.to_vec();
        sorted.sort_unstable_by_key(|candidate| candidate.name);
        sorted.truncate(FREE as usize);
        let weights: Box<[u32]> = sorted.iter().map(|candidate| candidate.weight.into()).collect();
        let slots = fill(&sorted);
        #[cfg(debug_assertions)]
        super::invariants::check_slots(&slots, sorted.len());
        ConsistentHash {
            slots,
            weights_sum: weights.iter().map(|&weight| u64::from(weight)).sum(),
            weights,
            balance_factor,
            bounds: Bounds::new(&sorted, slow_start_ns),
        }
    }
}

impl Ready for ConsistentHash {
    /// The first backend on the ring from the key on that can take the session.
    fn pick(&self, _: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        if self.slots.is_empty() {
            return Pick::Nobody;
        }
        let at = (ask.key % SLOTS as u64) as usize;
        if ask.tried.is_empty() && self.balance_factor.is_none() && self.bounds.are_open(ask.now) {
            let id = self.bounds.ids[self.slots[at] as usize];
            counts.opened(id);
            return Pick::Backend(id);
        }
        self.pick_bounded(at, counts, ask)
    }
}

impl ConsistentHash {
    /// The same, past those that have more than their share.
    fn pick_bounded(&self, at: usize, counts: &Counts, ask: Ask<'_>) -> Pick {
        let ids = &self.bounds.ids;
        if exhausted(ids, ask.tried) {
            return Pick::Nobody;
        }
        if !self.bounds.have_room(counts, ask.tried) {
            return Pick::Full;
        }
        let usable = |place: usize| !ask.tried.contains(&ids[place]) && self.bounds.has_room(place, counts);
        if self.bounds.are_ramping(ask.now) {
            let greatest = self.bounds.greatest_share(ask.now);
            let limits = self.limits(counts);
            let admits = |place: usize| {
                // Of the keys of a slowly starting backend always the same ones come to it first.
                let chance = hash::stable(&ask.key.to_le_bytes(), place as u64 + 1) as u32;
                bounds::admits(self.bounds.share(place, ask.now), greatest, chance)
            };
            if let Some(picked) = self.walk(at, counts, |place| usable(place) && admits(place), &limits) {
                return picked;
            }
        }
        if self.balance_factor.is_some()
            && let Some(picked) = self.walk(at, counts, usable, &self.limits(counts))
        {
            return picked;
        }
        // Those within their bounds were tried or are full: the bound is for balance, not to turn clients away.
        loop {
            if let Some(picked) = self.walk(at, counts, usable, &Share::NONE) {
                return picked;
            }
            if !self.bounds.have_room(counts, ask.tried) {
                return Pick::Full;
            }
        }
    }

    /// How many sessions each may have by the balance factor, counted with the one that comes.
    fn limits(&self, counts: &Counts) -> Share {
        let Some(factor) = self.balance_factor else { return Share::NONE };
        Share { product: (self.bounds.open(counts) + 1) * u64::from(factor), divisor: self.weights_sum * 100 }
    }

    /// From that slot on to the first that is usable and within its limit. `None` if there is none. That is asked of
    /// the backends first, which are fewer than the slots.
    fn walk(&self, at: usize, counts: &Counts, usable: impl Fn(usize) -> bool, limits: &Share) -> Option<Pick> {
        let is_below = |place: usize| counts.connections(self.bounds.ids[place]) < limits.of(self.weights[place]);
        if !(0..self.weights.len()).any(|place| usable(place) && is_below(place)) {
            return None;
        }
        for &place in self.slots[at..].iter().chain(&self.slots[..at]) {
            let place = usize::from(place);
            if usable(place) {
                let most = self.bounds.most(place).min(limits.of(self.weights[place]));
                if counts.try_open(self.bounds.ids[place], most) {
                    return Some(Pick::Backend(self.bounds.ids[place]));
                }
            }
        }
        None
    }
}

/// Sessions by weight.
struct Share {
    product: u64,
    divisor: u64,
}

impl Share {
    const NONE: Share = Share { product: 0, divisor: 0 };

    /// The share of a backend with that weight.
    fn of(&self, weight: u32) -> u32 {
        if self.divisor == 0 {
            return u32::MAX;
        }
        // Less than 2^33 sessions, a factor below 2^17, a weight below 2^9.
        u32::try_from((self.product * u64::from(weight)).div_ceil(self.divisor)).unwrap_or(u32::MAX).max(1)
    }
}

/// A backend's walk over the slots.
struct Walk {
    at: usize,
    skip: usize,
    /// Its turn comes each time this reaches the greatest weight.
    credit: u32,
    weight: u32,
}

/// The ring: which candidate has which place.
fn fill(candidates: &[Candidate<'_>]) -> Box<[u16]> {
    let Some(heaviest) = candidates.iter().map(|candidate| u32::from(candidate.weight)).max() else {
        return Box::default();
    };
    let mut walks: Vec<Walk> = candidates
        .iter()
        .map(|candidate| Walk {
            at: (hash::stable(candidate.name.as_bytes(), 1) % SLOTS as u64) as usize,
            skip: (hash::stable(candidate.name.as_bytes(), 2) % (SLOTS as u64 - 1)) as usize + 1,
            credit: 0,
            weight: candidate.weight.into(),
        })
        .collect();
    let mut slots = vec![FREE; SLOTS].into_boxed_slice();
    let mut taken = 0;
    loop {
        for (index, walk) in walks.iter_mut().enumerate() {
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            while slots[walk.at] != FREE {
                walk.step();
            }
            slots[walk.at] = index as u16;
            walk.step();
            taken += 1;
            if taken == SLOTS {
                return slots;
            }
        }
    }
}

impl Walk {
    /// Goes on to the next place.
    fn step(&mut self) {
        self.at += self.skip;
        if self.at >= SLOTS {
            self.at -= SLOTS;
        }
    }
}
