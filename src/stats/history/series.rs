//! Samples of one thing, the newest last.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Room is made for this many samples at a time: a series that is young takes little, and one that is full no more than
/// it holds.
const GROWTH: usize = 60;

/// What was counted of something up to a moment.
pub trait Counted {
    /// What follows from two of them.
    type Sample: Clone + Copy;

    /// What happened in the `lasted_s` seconds since `before`. A counter that is lower than before was set back to 0.
    fn since(&self, before: &Self, lasted_s: f32) -> Self::Sample;
}

/// How a count becomes samples.
#[derive(Clone, Copy)]
pub(super) struct Sampling {
    /// Seconds since the count before.
    pub lasted_s: f32,
    /// Samples that it becomes.
    pub copies: usize,
    /// Samples that are kept.
    pub keep: usize,
}

/// The samples of one thing. `K` says of what.
#[derive(Debug)]
pub struct Series<K, C: Counted> {
    /// What it belongs to.
    key: K,
    /// The last count, from which the next sample is computed.
    last: C,
    /// One per second.
    samples: VecDeque<C::Sample>,
}

impl<K, C: Counted> Series<K, C> {
    /// No sample yet; the first one will be of what is counted beyond `first`.
    pub fn new(key: K, first: C) -> Series<K, C> {
        Series { key, last: first, samples: VecDeque::new() }
    }

    /// What it is of.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The newest `most` samples, the newest last. A series that is younger than that has fewer.
    pub fn newest(&self, most: usize) -> impl ExactSizeIterator<Item = &C::Sample> {
        self.samples.range(self.samples.len().saturating_sub(most)..)
    }

    /// Adds `copies` samples of what was counted in `lasted_s` seconds, and keeps the newest `keep`. `amend` adds what
    /// is known from elsewhere.
    pub(super) fn on_count(&mut self, count: C, pace: Sampling, amend: impl FnOnce(&K, &mut C::Sample)) {
        let Sampling { lasted_s, copies, keep } = pace;
        let mut sample = count.since(&self.last, lasted_s);
        amend(&self.key, &mut sample);
        self.last = count;
        let too_many = (self.samples.len() + copies).saturating_sub(keep).min(self.samples.len());
        self.samples.drain(..too_many);
        if self.samples.capacity() > keep + GROWTH {
            self.samples.shrink_to(keep);
        }
        for _ in 0..copies {
            if self.samples.len() == self.samples.capacity() {
                self.samples.reserve_exact(GROWTH.min(keep));
            }
            self.samples.push_back(sample);
        }
    }
}

/// Where a series that is new begins.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum First {
    /// Everything that is counted of it happened since the last sample.
    AtZero,
    /// What is counted of it may be old: it has no sample yet.
    AtCount,
}

/// Brings `all` into the order of `counts`. What is not among them is forgotten.
pub(super) fn follow<K: Clone + Eq + Hash, C: Counted + Default>(
    all: &mut Vec<Series<K, C>>,
    counts: Vec<(K, C)>,
    pace: Sampling,
    first: First,
    mut amend: impl FnMut(&K, &mut C::Sample),
) {
    // Mostly nothing came or went.
    let is_same = all.len() == counts.len() && all.iter().zip(&counts).all(|(series, (key, _))| series.key == *key);
    if is_same {
        for (series, (_, count)) in all.iter_mut().zip(counts) {
            series.on_count(count, pace, &mut amend);
        }
        return;
    }
    let mut before: HashMap<K, Series<K, C>> = all.drain(..).map(|series| (series.key.clone(), series)).collect();
    for (key, count) in counts {
        let known =
            before.remove(&key).or_else(|| (first == First::AtZero).then(|| Series::new(key.clone(), C::default())));
        all.push(match known {
            Some(mut series) => {
                series.on_count(count, pace, &mut amend);
                series
            }
            None => Series::new(key, count),
        });
    }
}
