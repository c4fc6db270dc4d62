//! Fewest open sessions by weight.
//!
//! Idea: of all candidates the one with the least (open + 1) / weight, that is, the least loaded once the new session
//! is on it; among equals the first from the pool's turn on, so ties go in round robin. The look at the counts and the
//! count of the new session are made one by a compare-and-exchange on the chosen backend: a worker whose choice is out
//! of date looks again, so two workers never both take what was the least loaded place for one.
//!
//! Cost a pick: one load and one comparison a candidate, one division, two atomic writes. A scan beats any shared heap
//! up to some thousand backends, as nothing needs a lock and the counts are read at every core's leisure.
//! Source: the weighting is that of LVS `ip_vs_wlc` and HAProxy `lb_fwlc`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::bounds::Bounds;
use super::policy::{Policy, Row};
use super::{Ask, Candidate, Counts, Pick, Ready, exhausted, turn};
use crate::base::id::{BackendId, PoolId};

/// The policy, for a pool that says nothing more of it.
pub const POLICY: Policy = Policy::of(&Row {
    word: "least_conn",
    takes: &[],
    is_tied: false,
    sends_all_to_one: false,
    why: |_, _| "all are idle, and it is the first session; open sessions by weight decide, not the client".to_string(),
    ready: |_, candidates, slow_start_ns| Arc::new(LeastConn::new(candidates, slow_start_ns)),
});

/// The candidates in file order.
#[derive(Debug)]
pub struct LeastConn {
    bounds: Bounds,
    weights: Box<[u32]>,
}

/// The best so far: (open + 1) / weight, and at which place.
struct Best {
    load: u64,
    weight: u64,
    place: usize,
}

/// Worse than any.
const NOBODY: Best = Best { load: 1, weight: 0, place: usize::MAX };

impl LeastConn {
    /// Their weights are not 0.
    pub fn new(candidates: &[Candidate<'_>], slow_start_ns: u64) -> LeastConn {
        LeastConn {
            bounds: Bounds::new(candidates, slow_start_ns),
            weights: candidates.iter().map(|candidate| candidate.weight.into()).collect(),
        }
    }
}

impl Ready for LeastConn {
    fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        let turn = turn(pool, counts, ask); // settles ties
        let length = self.weights.len();
        if length == 0 {
            return Pick::Nobody;
        }
        let start = (turn % length as u64) as usize;
        if !self.bounds.are_open(ask.now) {
            return self.pick_bounded(start, counts, ask);
        }
        loop {
            let best = self.least(start..length, NOBODY, counts, ask.tried);
            let best = self.least(0..start, best, counts, ask.tried);
            let Some(&id) = self.bounds.ids.get(best.place) else { return Pick::Nobody };
            if is_taken(id, best.load, counts) {
                return Pick::Backend(id);
            }
        }
    }
}

impl LeastConn {
    /// With limits or slow starts: a weight counts by the share that the backend has by now.
    fn pick_bounded(&self, start: usize, counts: &Counts, ask: Ask<'_>) -> Pick {
        let ids = &self.bounds.ids;
        loop {
            let mut best = NOBODY;
            for place in (start..ids.len()).chain(0..start) {
                let open = counts.connections(ids[place]);
                let load = u64::from(open) + 1;
                let weight = (u64::from(self.weights[place]) * self.bounds.share(place, ask.now)).max(1);
                let better = u128::from(load) * u128::from(best.weight) < u128::from(best.load) * u128::from(weight);
                if better && open < self.bounds.most(place) && !ask.tried.contains(&ids[place]) {
                    best = Best { load, weight, place };
                }
            }
            match ids.get(best.place) {
                None if exhausted(ids, ask.tried) => return Pick::Nobody,
                None => return Pick::Full,
                Some(&id) if is_taken(id, best.load, counts) => return Pick::Backend(id),
                Some(_) => {}
            }
        }
    }

    /// The better of `best` and the least loaded of `places`; the earlier one among equals.
    #[inline]
    fn least(&self, places: Range<usize>, mut best: Best, counts: &Counts, tried: &[BackendId]) -> Best {
        for run in &self.bounds.runs {
            let (mut at, end) = (run.places.start.max(places.start), run.places.end.min(places.end));
            while at < end {
                let cells = counts.backends.run(run.first.index() + at - run.places.start);
                let weights = &self.weights[at..end];
                for (offset, (cell, &weight)) in cells.iter().zip(weights).enumerate() {
                    let place = at + offset;
                    let load = u64::from(cell.connections.load(Relaxed)) + 1;
                    let weight = u64::from(weight);
                    // Cross-multiplied, so that it is exact.
                    if load * best.weight < best.load * weight && !tried.contains(&self.bounds.ids[place]) {
                        best = Best { load, weight, place };
                    }
                }
                at += cells.len().min(weights.len());
            }
        }
        best
    }
}

/// Takes the place that was seen to be the `load`-th of that backend. A failure means that another worker opened or
/// closed a session there meanwhile, so one of the two made progress.
#[inline]
fn is_taken(id: BackendId, load: u64, counts: &Counts) -> bool {
    let connections = &counts.backends.get(id.index()).connections;
    let (open, taken) = (load as u32 - 1, load as u32);
    connections.compare_exchange(open, taken, Relaxed, Relaxed).is_ok()
}
