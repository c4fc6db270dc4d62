//! What stands in a candidate's way: its limit of sessions, and a slow start.
//!
//! Most pools have neither, and [`Bounds::are_open`] tells that with one look. Where there is one, the policies take a
//! slower way over every candidate.
//!
//! Slow start is a share that grows from zero to one with the time since the backend came up, read at each pick: no
//! step, no table to publish. Where every candidate is starting, the shares count relative to the greatest.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::{Candidate, Counts};
use crate::base::id::BackendId;
use crate::base::time::Moment;

/// A whole share.
pub(super) const WHOLE: u64 = 1 << 16;
/// Most sessions of a backend without a limit.
const UNLIMITED: u32 = u32::MAX;

/// Of the candidates of one policy, by their places in it.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub ids: Box<[BackendId]>,
    /// The same by ascending neighbours: most pools are one run, and a scan of a run is a plain loop.
    pub runs: Box<[Run]>,
    /// Most sessions; empty if no candidate has a limit.
    most: Box<[u32]>,
    /// When its slow start began, [`Moment::NEVER`] if it has none; empty if no candidate has one.
    ramp_from: Box<[Moment]>,
    slow_start_ns: u64,
    /// The last slow start is over.
    ramps_over_at: Moment,
}

/// Candidates `places` have the ids from `first` on.
#[derive(Debug)]
pub(super) struct Run {
    pub first: BackendId,
    pub places: Range<usize>,
}

fn runs_of(candidates: &[Candidate<'_>]) -> Box<[Run]> {
    let mut runs: Vec<Run> = Vec::new();
    for (place, candidate) in candidates.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.first.index() + run.places.len() == candidate.id.index() => run.places.end = place + 1,
            _ => runs.push(Run { first: candidate.id, places: place..place + 1 }),
        }
    }
    runs.into()
}

impl Bounds {
    pub fn new(candidates: &[Candidate<'_>], slow_start_ns: u64) -> Bounds {
        let limited = candidates.iter().any(|candidate| candidate.connections_max.is_some());
        let most = candidates.iter().map(|candidate| candidate.connections_max.map_or(UNLIMITED, |most| most.get()));
        let ramps = candidates.iter().filter_map(|candidate| candidate.ramp_from).filter(|_| slow_start_ns > 0);
        let ramp_from = candidates.iter().map(|candidate| candidate.ramp_from.unwrap_or(Moment::NEVER));
        let last = ramps.max();
        Bounds {
            ids: candidates.iter().map(|candidate| candidate.id).collect(),
            runs: runs_of(candidates),
            most: if limited { most.collect() } else { Box::default() },
            ramp_from: if last.is_some() { ramp_from.collect() } else { Box::default() },
            slow_start_ns,
            ramps_over_at: last.map_or(Moment::default(), |last| last.after_ns(slow_start_ns)),
        }
    }

    /// Whether every backend can take a session: there is no limit, and no slow start at this moment.
    #[inline]
    pub fn are_open(&self, now: Moment) -> bool {
        self.most.is_empty() && now >= self.ramps_over_at
    }

    #[inline]
    pub fn most(&self, place: usize) -> u32 {
        self.most.get(place).copied().unwrap_or(UNLIMITED)
    }

    /// Whether it has room for one more session just now.
    #[inline]
    pub fn has_room(&self, place: usize, counts: &Counts) -> bool {
        self.most.is_empty() || counts.connections(self.ids[place]) < self.most[place]
    }

    /// Whether a backend that was not tried has room just now. To be asked before a walk over slots, of which there are
    /// many for each backend: while all are full, a walk would see every slot.
    #[inline]
    pub fn have_room(&self, counts: &Counts, tried: &[BackendId]) -> bool {
        (0..self.ids.len()).any(|place| self.has_room(place, counts) && !tried.contains(&self.ids[place]))
    }

    /// Counts one more session there, unless it is full.
    #[inline]
    pub fn take(&self, place: usize, counts: &Counts) -> bool {
        counts.try_open(self.ids[place], self.most(place))
    }

    /// Open sessions of all.
    pub fn open(&self, counts: &Counts) -> u64 {
        let mut open = 0;
        for run in &self.runs {
            let mut at = 0;
            while at < run.places.len() {
                let cells = counts.backends.run(run.first.index() + at);
                let cells = &cells[..cells.len().min(run.places.len() - at)];
                open += cells.iter().map(|cell| u64::from(cell.connections.load(Relaxed))).sum::<u64>();
                at += cells.len();
            }
        }
        open
    }

    /// Its share by now, up to [`WHOLE`].
    #[inline]
    pub fn share(&self, place: usize, now: Moment) -> u64 {
        match self.ramp_from.get(place) {
            None | Some(&Moment::NEVER) => WHOLE,
            Some(&from) => share_after(now.since_ns(from), self.slow_start_ns),
        }
    }

    /// Whether any candidate has less than its whole share.
    #[inline]
    pub fn are_ramping(&self, now: Moment) -> bool {
        now < self.ramps_over_at
    }

    /// The greatest share that any candidate has, which counts as the whole.
    pub fn greatest_share(&self, now: Moment) -> u64 {
        (0..self.ids.len()).map(|place| self.share(place, now)).max().unwrap_or(WHOLE)
    }
}

/// The share after that time.
fn share_after(since_ns: u64, slow_start_ns: u64) -> u64 {
    if since_ns >= slow_start_ns {
        return WHOLE;
    }
    (u128::from(since_ns) * u128::from(WHOLE) / u128::from(slow_start_ns)) as u64
}

/// Whether something with this share has its turn: of many evenly distributed chances, `share` in `greatest` say yes.
#[inline]
pub(super) fn admits(share: u64, greatest: u64, chance: u32) -> bool {
    share >= greatest || (u64::from(chance) * greatest) >> 32 < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_evenly_from_nothing_to_the_whole() {
        let minute_ns = 60_000_000_000;
        let shares: Vec<u64> = (0..=4).map(|quarter| share_after(quarter * minute_ns / 4, minute_ns)).collect();
        assert_eq!(shares, [0, WHOLE / 4, WHOLE / 2, WHOLE * 3 / 4, WHOLE]);
        assert_eq!(share_after(u64::MAX, minute_ns), WHOLE);
        assert_eq!(share_after(u64::MAX - 1, u64::MAX), WHOLE - 1);
    }

    #[test]
    fn chances_are_admitted_by_share() {
        for share in [0, 1, WHOLE / 3, WHOLE - 1, WHOLE] {
            let admitted = (0..10_000u64).filter(|n| admits(share, WHOLE, (n * 429_496) as u32)).count() as u64;
            assert!(admitted.abs_diff(share * 10_000 / WHOLE) <= 1, "{share}: {admitted}");
        }
        assert!(admits(0, 0, u32::MAX), "if everybody begins just now, nobody is behind");
    }
}
