//! Times in buckets fine enough for a percentile: eight buckets per doubling, so a value is at most 9 % off.
//!
//! The buckets of the metrics ([`stats::cell`](crate::stats::cell)) are too wide for a demo that ends with a
//! percentile.

use crate::stats::Counter;

/// Buckets from one power of two to the next.
const PER_DOUBLING: u64 = 8;
/// The first bucket ends at 2^10 ns; the last one begins beyond 2^41 ns (37 minutes).
const FIRST_EXPONENT: u64 = 10;
/// How many buckets there are.
const BUCKETS: usize = 256;

/// The times that one client measured. It has one writer, so a record is a plain store.
pub(super) struct Latencies([Counter; BUCKETS]);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(std::array::from_fn(|_| Counter::default()))
    }
}

impl Latencies {
    /// Records one time.
    pub(super) fn record_ns(&self, ns: u64) {
        self.0[bucket(ns)].add(1);
    }

    /// Adds what was recorded so far to a sum.
    pub(super) fn add_to(&self, sum: &mut LatencySpread) {
        for (sum, bucket) in sum.0.iter_mut().zip(&self.0) {
            *sum += bucket.get();
        }
    }
}

/// What several clients recorded up to one moment.
#[derive(Clone, Debug)]
pub(super) struct LatencySpread([u64; BUCKETS]);

impl Default for LatencySpread {
    fn default() -> LatencySpread {
        LatencySpread([0; BUCKETS])
    }
}

impl LatencySpread {
    /// What was recorded after `earlier`.
    pub(super) fn since(&self, earlier: &LatencySpread) -> LatencySpread {
        LatencySpread(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// The time in nanoseconds that the fraction `share` (0 to 1) of all records did not exceed; `None` without
    /// records.
    pub(super) fn percentile_ns(&self, share: f64) -> Option<u64> {
        let count: u64 = self.0.iter().sum();
        let rank = (share * count as f64).ceil() as u64;
        let mut seen = 0;
        let at = self.0.iter().position(|&bucket| {
            seen += bucket;
            seen >= rank && seen > 0
        })?;
        Some(upper_bound_ns(at))
    }
}

/// The bucket of a time: its power of two and the next three bits, as a floating-point number has them.
fn bucket(ns: u64) -> usize {
    if ns < 1 << FIRST_EXPONENT {
        return 0;
    }
    let exponent = u64::from(ns.ilog2());
    let within = (ns >> (exponent - 3)) - PER_DOUBLING;
    (((exponent - FIRST_EXPONENT) * PER_DOUBLING + within + 1) as usize).min(BUCKETS - 1)
}

/// The longest time that falls into this bucket.
fn upper_bound_ns(bucket: usize) -> u64 {
    let Some(above) = (bucket as u64).checked_sub(1) else { return 1 << FIRST_EXPONENT };
    let (exponent, within) = (above / PER_DOUBLING + FIRST_EXPONENT, above % PER_DOUBLING);
    (PER_DOUBLING + within + 1) << (exponent - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_a_bucket_that_is_at_most_an_eighth_too_long() {
        for ns in [1_024, 1_500, 50_000, 99_999, 1_000_000, 123_456_789, 60_000_000_000] {
            let bound = upper_bound_ns(bucket(ns));
            assert!(bound > ns && bound <= ns + ns / 8 + 1, "{ns} {bound}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn percentiles_count_from_below() {
        let latencies = Latencies::default();
        (0..99).for_each(|_| latencies.record_ns(10_000));
        latencies.record_ns(1_000_000);
        let mut all = LatencySpread::default();
        assert_eq!(all.percentile_ns(0.5), None);
        latencies.add_to(&mut all);
        assert!(all.percentile_ns(0.5).is_some_and(|ns| (10_000..12_000).contains(&ns)));
        assert!(all.percentile_ns(0.99).is_some_and(|ns| ns < 12_000));
        assert!(all.percentile_ns(0.999).is_some_and(|ns| ns > 1_000_000));
        assert_eq!(all.since(&all).percentile_ns(0.5), None);
    }
}
