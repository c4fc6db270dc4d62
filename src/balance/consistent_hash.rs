//! Consistent hashing by Maglev.
//!
//! Idea: each backend has its own random order of the 65537 slots, drawn from its name; they take turns, and each takes
//! the first slot of its order that is free. A key is looked up by its remainder. All share the slots evenly (within
//! 1 % at 100 backends), and when one of N goes, little more than its own 1/N of the keys move. Names alone decide: the
//! order of the file, the worker and the machine do not. A backend of weight w has w/max turns a round.
//!
//! Cost a pick: one remainder by a constant, one load. Cost to build: 65537 · ln N looks at slots; 128 KiB.
//! Source: Eisenbud and others, Maglev, NSDI 2016, section 3.4; the weights as in Envoy's `maglev_lb`.

use super::{Candidate, exhausted};
use crate::base::hash;
use crate::base::id::BackendId;

/// Slots of a table: prime, so that every skip reaches every slot, and more than 100 times any sensible pool.
const SLOTS: usize = 65_537;
/// A slot that nobody has taken.
const FREE: u16 = u16::MAX;

/// The slots, each with the place of its backend in `candidates`; no slots if there are no candidates.
#[derive(Debug)]
pub struct ConsistentHash {
    slots: Box<[u16]>,
    candidates: Box<[BackendId]>,
}

impl ConsistentHash {
    /// Fills the slots; the weights of `candidates` are not 0. Of more than 65535, the first by name count: a pool of
    /// that size has no even share of the slots any more.
    pub fn new(candidates: &[Candidate<'_>]) -> ConsistentHash {
        let mut sorted = candidates.to_vec();
        sorted.sort_unstable_by_key(|candidate| candidate.name);
        sorted.truncate(FREE as usize);
        ConsistentHash { slots: fill(&sorted), candidates: sorted.iter().map(|candidate| candidate.id).collect() }
    }

    /// The backend of `key`; those in `tried` are passed over by walking on in the slots.
    #[inline]
    pub fn pick(&self, key: u64, tried: &[BackendId]) -> Option<BackendId> {
        if self.slots.is_empty() {
            return None;
        }
        let at = (key % SLOTS as u64) as usize;
        let backend = |&slot: &u16| self.candidates[slot as usize];
        if tried.is_empty() {
            return Some(backend(&self.slots[at]));
        }
        if exhausted(&self.candidates, tried) {
            return None;
        }
        self.slots[at..].iter().chain(&self.slots[..at]).map(backend).find(|id| !tried.contains(id))
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
    fn step(&mut self) {
        self.at += self.skip;
        if self.at >= SLOTS {
            self.at -= SLOTS;
        }
    }
}
