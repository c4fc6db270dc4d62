//! Two random choices, weighted.
//!
//! Idea: of two different candidates, drawn by weight, the one with fewer open sessions by weight. That is nearly as
//! even as looking at all of them, costs the same for two backends and for a thousand, and many balancers that do not
//! know of each other do not all rush to the one that looks idle.
//!
//! Cost a pick: two draws, two loads, one atomic write.
//! Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 1996.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::bounds::{self, Bounds};
use super::policy::{Policy, Row};
use super::{Ask, Candidate, Counts, Pick, Ready, exhausted, weight_unit};
use crate::base::id::PoolId;
use crate::base::time::Moment;

/// Draws that meet no usable backend before the next usable one is taken.
const DRAWS: u32 = 8;

/// The policy, for a pool that says nothing more of it.
pub const POLICY: Policy = Policy::of(&Row {
    word: "random",
    takes: &[],
    is_tied: false,
    sends_all_to_one: false,
    why: |_, _| "one of two random ones, the less loaded; the client does not matter".to_string(),
    ready: |_, candidates, slow_start_ns| Arc::new(Random::new(candidates, slow_start_ns)),
});

/// Places, each as often as its weight says.
#[derive(Debug)]
pub struct Random {
    urn: Box<[u32]>,
    weights: Box<[u32]>,
    bounds: Bounds,
}

impl Random {
    /// Their weights are not 0.
    pub fn new(candidates: &[Candidate<'_>], slow_start_ns: u64) -> Random {
        let unit = weight_unit(candidates);
        let copies = |(place, candidate): (usize, &Candidate<'_>)| {
            std::iter::repeat_n(place as u32, usize::from(candidate.weight / unit))
        };
        let urn: Box<[u32]> = candidates.iter().enumerate().flat_map(copies).collect();
        #[cfg(debug_assertions)]
        super::invariants::check_shares(&urn, candidates.iter().map(|one| usize::from(one.weight / unit)));
        Random {
            urn,
            weights: candidates.iter().map(|candidate| candidate.weight.into()).collect(),
            bounds: Bounds::new(candidates, slow_start_ns),
        }
    }
}

impl Ready for Random {
    /// The better one of two that are drawn.
    fn pick(&self, _: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        if exhausted(&self.bounds.ids, ask.tried) {
            return Pick::Nobody;
        }
        let greatest =
            if self.bounds.are_ramping(ask.now) { self.bounds.greatest_share(ask.now) } else { bounds::WHOLE };
        let mut chance = Chance(ask.random);
        loop {
            if !self.bounds.have_room(counts, ask.tried) {
                return Pick::Full;
            }
            let first = self.draw(counts, ask, greatest, &mut chance, usize::MAX);
            let Some(first) = first.or_else(|| self.next_usable(counts, ask, &mut chance)) else { return Pick::Full };
            let second = self.draw(counts, ask, greatest, &mut chance, first).unwrap_or(first);
            let place = if self.is_less_loaded(second, first, counts, ask.now) { second } else { first };
            // It may have become full just now; then another one is looked for.
            if self.bounds.take(place, counts) {
                return Pick::Backend(self.bounds.ids[place]);
            }
        }
    }
}

impl Random {
    /// By the weight that each has by now.
    #[inline]
    fn is_less_loaded(&self, second: usize, first: usize, counts: &Counts, now: Moment) -> bool {
        let load = |place: usize| {
            let open = counts.backends.get(self.bounds.ids[place].index()).connections.load(Relaxed);
            u128::from(open) + 1
        };
        let weight = |place: usize| u128::from((u64::from(self.weights[place]) * self.bounds.share(place, now)).max(1));
        load(second) * weight(first) < load(first) * weight(second)
    }

    /// A candidate by weight that has room and was not tried, another one than `but`; `None` if the draws meet none.
    #[inline]
    fn draw(&self, counts: &Counts, ask: Ask<'_>, greatest: u64, chance: &mut Chance, but: usize) -> Option<usize> {
        for _ in 0..DRAWS {
            let place = self.urn[chance.below(self.urn.len())] as usize;
            let usable = place != but && self.is_usable(place, counts, ask);
            if usable && bounds::admits(self.bounds.share(place, ask.now), greatest, chance.next()) {
                return Some(place);
            }
        }
        None
    }

    /// A backend that has room and was not tried, if there is one.
    #[cold]
    fn next_usable(&self, counts: &Counts, ask: Ask<'_>, chance: &mut Chance) -> Option<usize> {
        let start = chance.below(self.urn.len());
        let places = self.urn[start..].iter().chain(&self.urn[..start]).map(|&place| place as usize);
        places.into_iter().find(|&place| self.is_usable(place, counts, ask))
    }

    /// Whether a backend can take the session.
    #[inline]
    fn is_usable(&self, place: usize, counts: &Counts, ask: Ask<'_>) -> bool {
        !ask.tried.contains(&self.bounds.ids[place]) && self.bounds.has_room(place, counts)
    }
}

/// Random numbers that follow from one (SplitMix64, Steele and others, OOPSLA 2014).
struct Chance(u64);

impl Chance {
    /// The next random number.
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 32) as u32
    }

    /// A random number below that one.
    fn below(&mut self, length: usize) -> usize {
        ((u64::from(self.next()) * length as u64) >> 32) as usize
    }
}
