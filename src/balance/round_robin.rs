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

use super::{Candidate, exhausted};
use crate::base::id::BackendId;

/// One round, written out.
#[derive(Debug)]
pub struct RoundRobin {
    round: Box<[BackendId]>,
    /// Each candidate once.
    candidates: Box<[BackendId]>,
}

impl RoundRobin {
    /// Writes the round of `candidates` out; their weights are not 0.
    pub fn new(candidates: &[Candidate<'_>]) -> RoundRobin {
        let divisor = candidates.iter().fold(0, |divisor, candidate| gcd(divisor, candidate.weight as usize)).max(1);
        let weights: Vec<usize> = candidates.iter().map(|candidate| candidate.weight as usize / divisor).collect();
        RoundRobin {
            round: fair_order(&weights).into_iter().map(|index| candidates[index].id).collect(),
            candidates: candidates.iter().map(|candidate| candidate.id).collect(),
        }
    }

    /// The backend of that turn; those in `tried` are passed over by walking on in the round.
    #[inline]
    pub fn pick(&self, turn: u64, tried: &[BackendId]) -> Option<BackendId> {
        if self.round.is_empty() {
            return None;
        }
        let at = (turn % self.round.len() as u64) as usize;
        if tried.is_empty() {
            return Some(self.round[at]);
        }
        if exhausted(&self.candidates, tried) {
            return None;
        }
        self.round[at..].iter().chain(&self.round[..at]).find(|id| !tried.contains(id)).copied()
    }
}

/// Index of the candidate of each slot of a round, S = sum of `weights` slots.
fn fair_order(weights: &[usize]) -> Vec<usize> {
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

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            .map(|(index, name)| Candidate { id: BackendId(index as u32), name, weight: [200, 100][index] })
            .collect();
        assert_eq!(RoundRobin::new(&candidates).round.len(), 3);
    }
}
