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

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{Candidate, Counts};
use crate::base::id::BackendId;

/// The candidates in file order.
#[derive(Debug)]
pub struct LeastConn {
    candidates: Box<[Weighted]>,
}

#[derive(Clone, Copy, Debug)]
struct Weighted {
    id: BackendId,
    weight: u32,
}

/// The best so far: (open + 1) / weight, and whose.
struct Best<'a> {
    load: u64,
    weight: u64,
    id: BackendId,
    open: u32,
    cell: &'a AtomicU32,
}

impl LeastConn {
    /// Their weights are not 0.
    pub fn new(candidates: &[Candidate<'_>]) -> LeastConn {
        let weighted = |candidate: &Candidate<'_>| Weighted { id: candidate.id, weight: candidate.weight.into() };
        LeastConn { candidates: candidates.iter().map(weighted).collect() }
    }

    /// Picks and counts; `turn` settles ties.
    #[inline]
    pub fn pick(&self, turn: u64, counts: &Counts, tried: &[BackendId]) -> Option<BackendId> {
        if self.candidates.is_empty() {
            return None;
        }
        let start = (turn % self.candidates.len() as u64) as usize;
        let (late, early) = self.candidates.split_at(start);
        loop {
            let best = least(late, least(early, None, counts, tried), counts, tried)?;
            // A failure means that another worker opened or closed a session here meanwhile: somebody made progress.
            if best.cell.compare_exchange(best.open, best.open + 1, Relaxed, Relaxed).is_ok() {
                return Some(best.id);
            }
        }
    }
}

/// The better of `best` and the least loaded of `candidates`; the earlier one among equals.
#[inline]
fn least<'a>(
    candidates: &[Weighted],
    mut best: Option<Best<'a>>,
    counts: &'a Counts,
    tried: &[BackendId],
) -> Option<Best<'a>> {
    for &Weighted { id, weight } in candidates {
        let cell = &counts.backends.get(id.index()).connections;
        let open = cell.load(Relaxed);
        let (load, weight) = (u64::from(open) + 1, u64::from(weight));
        // Cross-multiplied, so that it is exact.
        let better = best.as_ref().is_none_or(|best| load * best.weight < best.load * weight);
        if better && !tried.contains(&id) {
            best = Some(Best { load, weight, id, open, cell });
        }
    }
    best
}
