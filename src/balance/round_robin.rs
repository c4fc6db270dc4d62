//! Smooth weighted round robin, exact over all workers.
//!
//! Idea: the order of one whole round (the sum of the weights over their greatest common divisor) is computed when the
//! table is built, and a pick is one shared `fetch_add` and one load. The order is that of a perfectly fair queue: the
//! k-th share of a backend with weight w may be served from slot (k-1)·S/w on and is due by slot k·S/w; of those that
//! may, the one due first is served. So after any t picks a backend is less than one pick away from t·w/S, while
//! nginx's smooth WRR may be further off, and a pick costs the same for two backends and for a thousand.
//!
//! Cost a pick: one atomic add, one division, one load. Cost to build: O(S log N).
//! Source: Bennett and Zhang, WF2Q, INFOCOM 1996; Stoica and Abdel-Wahab, EEVDF, 1995.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::bounds::{self, Bounds};
use super::policy::{Policy, Row};
use super::{Ask, Candidate, Counts, Pick, Ready, exhausted, turn, weight_unit};
use crate::base::id::PoolId;

/// Turns that a session takes at most while those whose turns they are start slowly.
const TURNS: u64 = 64;

/// The policy, for a pool that says nothing more of it.
pub const POLICY: Policy = Policy::of(&Row {
    word: "round_robin",
    takes: &[],
    is_tied: false,
    sends_all_to_one: false,
    why: |_, _| "it is the first session; whose turn it is does not depend on the client".to_string(),
    ready: |_, candidates, slow_start_ns| Arc::new(RoundRobin::new(candidates, slow_start_ns)),
});

/// One round, written out.
#[derive(Debug)]
pub struct RoundRobin {
    /// Places, each as often as its weight says.
    round: Box<[u32]>,
    bounds: Bounds,
}

impl RoundRobin {
    /// Writes the round of `candidates` out; their weights are not 0.
    pub fn new(candidates: &[Candidate<'_>], slow_start_ns: u64) -> RoundRobin {
        let unit = usize::from(weight_unit(candidates));
        let weights: Vec<usize> = candidates.iter().map(|candidate| usize::from(candidate.weight) / unit).collect();
        let round: Box<[u32]> = fair_order(&weights).into_iter().map(|place| place as u32).collect();
        #[cfg(debug_assertions)]
        super::invariants::check_shares(&round, weights.iter().copied());
        RoundRobin { round, bounds: Bounds::new(candidates, slow_start_ns) }
    }
}

impl Ready for RoundRobin {
    /// A backend that was tried or is full is passed over by walking on in the round.
    fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        if self.round.is_empty() {
            return Pick::Nobody;
        }
        let turn = turn(pool, counts, ask);
        if ask.tried.is_empty() && self.bounds.are_open(ask.now) {
            let id = self.bounds.ids[self.round[self.slot(turn)] as usize];
            counts.opened(id);
            return Pick::Backend(id);
        }
        if exhausted(&self.bounds.ids, ask.tried) {
            return Pick::Nobody;
        }
        if !self.bounds.have_room(counts, ask.tried) {
            return Pick::Full;
        }
        if self.bounds.are_ramping(ask.now)
            && let Some(picked) = self.pick_ramping(turn, pool, counts, ask)
        {
            return picked;
        }
        self.walk(turn, counts, ask, |_| true).map_or(Pick::Full, |picked| picked.unwrap_or(Pick::Full))
    }
}

impl RoundRobin {
    /// A turn of one that starts slowly counts by the share that it has by now, else the session takes another turn:
    /// so the others keep their proportions.
    #[cold]
    fn pick_ramping(&self, first: u64, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Option<Pick> {
        let greatest = self.bounds.greatest_share(ask.now);
        let mut turn = first;
        for further in 1..=TURNS {
            // Golden ratio: its multiples are spread evenly, also those of every S-th turn.
            let chance = (turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
            let admits = |place| bounds::admits(self.bounds.share(place, ask.now), greatest, chance);
            match self.walk(turn, counts, ask, admits) {
                Some(Some(picked)) => return Some(picked),
                // Of a session that had its turn, the turns behind it are looked at and not taken.
                Some(None) if ask.tried.is_empty() => turn = counts.turn(pool),
                Some(None) => turn = counts.next_turn(pool) + further,
                None => return Some(Pick::Full),
            }
        }
        None
    }

    /// From the slot of that turn on to the first that was not tried and has room. `None` if there is none,
    /// `Some(None)` if that one has no turn now.
    fn walk(&self, turn: u64, counts: &Counts, ask: Ask<'_>, admits: impl Fn(usize) -> bool) -> Option<Option<Pick>> {
        let at = self.slot(turn);
        for &place in self.round[at..].iter().chain(&self.round[..at]) {
            let (place, id) = (place as usize, self.bounds.ids[place as usize]);
            if ask.tried.contains(&id) || !self.bounds.has_room(place, counts) {
                continue;
            }
            if !admits(place) {
                return Some(None);
            }
            if self.bounds.take(place, counts) {
                return Some(Some(Pick::Backend(id)));
            }
        }
        None
    }

    #[inline]
    fn slot(&self, turn: u64) -> usize {
        (turn % self.round.len() as u64) as usize
    }
}

/// Index of the candidate of each slot of a round, S = sum of `weights` slots.
pub(super) fn fair_order(weights: &[usize]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let slots: usize = weights.iter().sum();
    // Shares by the slot they may be served from: lists through `next`, for a candidate waits for one share at a time.
    let mut from = vec![NONE; slots];
    let mut next = vec![NONE; weights.len()];
    let mut share = vec![1usize; weights.len()];
    for index in (0..weights.len()).rev() {
        next[index] = std::mem::replace(&mut from[0], index);
    }
    let mut due = BinaryHeap::with_capacity(weights.len());
    let mut order = Vec::with_capacity(slots);
    for slot in 0..slots {
        let mut index = from[slot];
        while index != NONE {
            due.push(Reverse(deadline(share[index], weights[index], index)));
            index = next[index];
        }
        // More shares may be served from slots up to this one than slots have gone by: floor(x) + 1 > x, summed up.
        let Some(Reverse(first)) = due.pop() else { break };
        let index = (first & INDEX) as usize;
        order.push(index);
        if share[index] < weights[index] {
            let start = (share[index] * slots).div_ceil(weights[index]).max(slot + 1);
            share[index] += 1;
            next[index] = std::mem::replace(&mut from[start], index);
        }
    }
    debug_assert_eq!(order.len(), slots);
    order
}

/// Low bits of a deadline: whose.
const INDEX: u64 = (1 << 28) - 1;

/// When the `number`-th share is due, then the place in the file, in one number. The fraction of a round
/// `number/weight` is cut to 34 bits: two different ones with weights below 2^16 differ by more than 2^-32, so their
/// order stays exact.
fn deadline(number: usize, weight: usize, index: usize) -> u64 {
    let fraction = ((number as u64) << 34) / weight as u64;
    fraction << 28 | index as u64 & INDEX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::BackendId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn after_any_number_of_picks_each_backend_is_less_than_one_pick_from_its_share(
            weights in proptest::collection::vec(1usize..=256, 1..20)
        ) {
            let slots: usize = weights.iter().sum();
            let order = fair_order(&weights);
            prop_assert_eq!(order.len(), slots);
            let mut picked = vec![0usize; weights.len()];
            for (slot, &index) in order.iter().enumerate() {
                picked[index] += 1;
                for (count, weight) in picked.iter().zip(&weights) {
                    let ahead = (count * slots).abs_diff((slot + 1) * weight);
                    prop_assert!(ahead < slots, "{weights:?}: slot {slot}, {picked:?}");
                }
            }
            prop_assert_eq!(picked, weights);
        }
    }

    #[test]
    fn heavy_backends_are_spread_and_not_served_in_a_row() {
        assert_eq!(fair_order(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(fair_order(&[5, 1, 1]), [0, 1, 0, 0, 2, 0, 0]);
        assert_eq!(fair_order(&[]), [] as [usize; 0]);
    }

    #[test]
    fn common_divisors_do_not_make_the_round_longer() {
        let names = ["a", "b"];
        let candidates: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| Candidate::new(BackendId(index as u32), name, [200, 100][index]))
            .collect();
        assert_eq!(RoundRobin::new(&candidates, 0).round.len(), 3);
    }
}
