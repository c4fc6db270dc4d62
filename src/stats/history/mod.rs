//! The last ten minutes, one sample per second: plots begin with what happened before they are opened. Pure.
//!
//! Control reads every counter once per second and hands the [`Reading`] over (`api::reading`); a sample is the
//! difference of two readings. Seconds are numbered from 1 since the start of the process. Every series ends with the
//! same second, so one number tells what all samples belong to. Memory is bounded by [`SAMPLES_BYTES_MAX`]: with more
//! backends than it has room for, fewer seconds are kept of each.

mod counted;
mod series;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::base::id::BackendId;
use crate::base::time::Moment;
pub use counted::{
    BackendCount, BackendSample, ListenerCount, ListenerSample, PoolCount, PoolSample, Quantiles, TotalCount,
    TotalSample,
};
pub use series::{Counted, Series};
use series::{First, Sampling};

/// Seconds that are kept.
pub const SECONDS_MAX: usize = 600;
/// Of all samples together, in bytes: ten minutes of some 1,400 backends, or a minute and a half of 10,000.
pub const SAMPLES_BYTES_MAX: usize = 16 << 20;
/// Marks that are kept; a flapping fleet loses the oldest.
pub const MARKS_MAX: usize = 1024;

/// Nanoseconds of a sample.
const SECOND_NS: u64 = 1_000_000_000;

/// Every counter at one moment. A series whose counter is not in it is forgotten.
#[derive(Debug, Default)]
pub struct Reading {
    /// Of the process.
    pub total: TotalCount,
    /// By name.
    pub listeners: Vec<(Arc<str>, ListenerCount)>,
    /// By name.
    pub pools: Vec<(Arc<str>, PoolCount)>,
    /// By identity.
    pub backends: Vec<(BackendKey, BackendCount)>,
}

/// Which backend a series belongs to. The slot alone is not enough, because slots are used again.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BackendKey {
    /// Its slot.
    pub id: BackendId,
    /// Name of its pool.
    pub pool: Arc<str>,
    /// Its own name.
    pub name: Arc<str>,
}

/// Something that happened in a second, to be drawn on the plots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// The second.
    pub second: u64,
    /// When exactly.
    pub at: Moment,
    /// What.
    pub event: HistoryEvent,
}

/// What a [`Mark`] stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HistoryEvent {
    /// A backend changed its state.
    State {
        /// Name of the pool.
        pool: Arc<str>,
        /// Name of the backend.
        backend: Arc<str>,
        /// The state it had.
        from: &'static str,
        /// The state it has.
        to: &'static str,
        /// Why.
        reason: String,
    },
    /// A configuration was applied while ringway ran: how many there were since the start, that one included.
    Configured(u64),
}

/// Samples of everything, and what happened meanwhile.
#[derive(Debug)]
pub struct History {
    /// The last second that has a sample; 0 before the first one.
    second: u64,
    /// When it ended.
    sampled_at: Moment,
    /// Of the whole process.
    total: Series<(), TotalCount>,
    /// Of each listener, in the order of the last reading.
    listeners: Vec<Series<Arc<str>, ListenerCount>>,
    /// Of each pool, in the order of the last reading.
    pools: Vec<Series<Arc<str>, PoolCount>>,
    /// Of each backend, in the order of the last reading.
    backends: Vec<Series<BackendKey, BackendCount>>,
    /// What happened, the oldest first.
    marks: VecDeque<Mark>,
    /// How many bytes all samples can take.
    bytes_max: usize,
}

impl History {
    /// Nothing sampled yet. `now` is when the first second begins.
    pub fn new(now: Moment) -> History {
        History::bounded(now, SAMPLES_BYTES_MAX)
    }

    /// As [`History::new`], with another bound on the bytes of all samples.
    fn bounded(now: Moment, bytes_max: usize) -> History {
        History {
            second: 0,
            sampled_at: now,
            total: Series::new((), TotalCount::default()),
            listeners: Vec::new(),
            pools: Vec::new(),
            backends: Vec::new(),
            marks: VecDeque::new(),
            bytes_max,
        }
    }

    /// Takes a reading that was made at `now`. If it is late, the seconds since the last one all get the mean: their
    /// sum is right. A reading within half a second of the last sample waits for the next one.
    pub fn on_reading(&mut self, reading: Reading, now: Moment) {
        let passed_ns = now.since_ns(self.sampled_at);
        let seconds = (passed_ns + SECOND_NS / 2) / SECOND_NS;
        if seconds == 0 {
            return;
        }
        // Names that come back count on, backends begin at zero, and so does everything with the process.
        let named = if self.second == 0 { First::AtZero } else { First::AtCount };
        self.second += seconds;
        self.sampled_at = now;
        let keep = self.seconds_kept(&reading);
        let copies = usize::try_from(seconds).unwrap_or(keep).min(keep);
        let pace = Sampling { lasted_s: passed_ns as f32 / SECOND_NS as f32, copies, keep };
        self.total.on_count(reading.total, pace, |(), _| {});
        series::follow(&mut self.listeners, reading.listeners, pace, named, |_, _| {});
        let mut sums: HashMap<Arc<str>, BackendSample> = HashMap::new();
        series::follow(&mut self.backends, reading.backends, pace, First::AtZero, |backend, sample| {
            *sums.entry(backend.pool.clone()).or_default() += *sample;
        });
        series::follow(&mut self.pools, reading.pools, pace, named, |pool, sample| {
            sample.backends = sums.get(pool).copied().unwrap_or_default();
        });
        let oldest = self.second.saturating_sub(SECONDS_MAX as u64);
        while self.marks.front().is_some_and(|mark| mark.second <= oldest) {
            self.marks.pop_front();
        }
    }

    /// Something happened: it belongs to the second that is not sampled yet.
    pub fn on_event(&mut self, event: HistoryEvent, now: Moment) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark { second: self.second + 1, at: now, event });
    }

    /// The last second that has a sample; 0 before the first one.
    pub fn second(&self) -> u64 {
        self.second
    }

    /// When that second ended.
    pub fn sampled_at(&self) -> Moment {
        self.sampled_at
    }

    /// Of the process.
    pub fn total(&self) -> &Series<(), TotalCount> {
        &self.total
    }

    /// Of each listener.
    pub fn listeners(&self) -> &[Series<Arc<str>, ListenerCount>] {
        &self.listeners
    }

    /// Of each pool.
    pub fn pools(&self) -> &[Series<Arc<str>, PoolCount>] {
        &self.pools
    }

    /// Of each backend.
    pub fn backends(&self) -> &[Series<BackendKey, BackendCount>] {
        &self.backends
    }

    /// What happened in the seconds after that one, and has a sample beside it. The oldest first.
    pub fn marks_after(&self, second: u64) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(move |mark| mark.second > second && mark.second <= self.second)
    }

    /// How many seconds there is room for.
    fn seconds_kept(&self, reading: &Reading) -> usize {
        let of = |count: usize, bytes: usize| count * bytes;
        let bytes = size_of::<TotalSample>()
            + of(reading.listeners.len(), size_of::<ListenerSample>())
            + of(reading.pools.len(), size_of::<PoolSample>())
            + of(reading.backends.len(), size_of::<BackendSample>());
        (self.bytes_max / bytes).clamp(1, SECONDS_MAX)
    }
}

#[cfg(test)]
mod tests;
