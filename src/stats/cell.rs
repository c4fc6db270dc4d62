//! Numbers that one thread writes and any thread reads.
//!
//! An addition is a relaxed load and a relaxed store, without a locked instruction: as cheap as a plain integer, and
//! exact because there is one writer. A reader sees each number whole, at most a moment old, and costs the writer
//! nothing but a shared cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows. It has one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the writer can call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Adds `amount`, or takes back what was counted too early. Only the writer can call it.
    #[inline]
    pub fn correct(&self, amount: i64) {
        self.0.store(self.0.load(Relaxed).saturating_add_signed(amount), Relaxed);
    }

    /// The sum so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets it back to 0. Any thread can call it, once the writer adds no more.
    pub fn restart(&self) {
        self.0.store(0, Relaxed);
    }
}

/// A number that goes up and down. It has one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `amount`. Only the writer can call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.set(self.get() + amount);
    }

    /// Subtracts `amount`. Only the writer can call it. It stops at 0, which is reached only by mistake.
    #[inline]
    pub fn sub(&self, amount: u64) {
        debug_assert!(self.get() >= amount, "a gauge went below 0");
        self.set(self.get().saturating_sub(amount));
    }

    /// Sets the value. Only the writer can call it. Everything that the writer stored before is visible to a thread
    /// that reads this value by [`Gauge::get`]: the store releases and the load acquires, so `running` can stand for
    /// what was done before it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, std::sync::atomic::Ordering::Release);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Upper bounds of the buckets in nanoseconds; the last bucket (above an hour) has none. They reach from a connect
/// within one host to a session that lasts.
pub const BOUNDS_NS: [u64; 19] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
    600_000_000_000,
    3_600_000_000_000,
];

/// Times, counted in the buckets of [`BOUNDS_NS`]. It has one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative: each value counts in one bucket.
    buckets: [Counter; BOUNDS_NS.len() + 1],
    /// The sum of all values.
    sum_ns: Counter,
}

impl Histogram {
    /// Counts a time in nanoseconds; only the writer may.
    #[inline]
    pub fn record_ns(&self, value_ns: u64) {
        let bucket = BOUNDS_NS.partition_point(|&bound_ns| bound_ns < value_ns);
        self.buckets[bucket].add(1);
        self.sum_ns.add(value_ns);
    }

    /// Sets it back to nothing. Any thread can call it, once the writer records no more.
    pub fn restart(&self) {
        self.buckets.iter().chain([&self.sum_ns]).for_each(Counter::restart);
    }

    /// Adds what was recorded so far to `into`.
    pub fn add_to(&self, into: &mut Distribution) {
        for (sum, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        into.sum_ns += self.sum_ns.get();
    }
}

/// The sum of several histograms.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// Values of each bucket, not cumulative; the last one is beyond every bound.
    pub buckets: [u64; BOUNDS_NS.len() + 1],
    /// Sum of the values in nanoseconds.
    pub sum_ns: u64,
}

impl Distribution {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was recorded after `before`, which must be a sum of the same histograms. If one was set back meanwhile,
    /// everything since then counts.
    pub fn since(&self, before: &Distribution) -> Distribution {
        if self.buckets.iter().zip(&before.buckets).any(|(now, then)| now < then) {
            return self.clone();
        }
        Distribution {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket] - before.buckets[bucket]),
            sum_ns: self.sum_ns.wrapping_sub(before.sum_ns),
        }
    }

    /// The time in nanoseconds that the fraction `part` of the values does not exceed; `None` without values. Within a
    /// bucket the values count as evenly spread, as in Prometheus' `histogram_quantile`, and what is above every bound
    /// counts as the last bound.
    pub fn quantile_ns(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let (wanted, mut below) = (part * count as f64, 0.0);
        for (bucket, &values) in self.buckets.iter().enumerate() {
            let values = values as f64;
            if values > 0.0 && below + values >= wanted {
                let Some(&upper) = BOUNDS_NS.get(bucket) else { break };
                let lower = if bucket == 0 { 0 } else { BOUNDS_NS[bucket - 1] };
                return Some(lower as f64 + (upper - lower) as f64 * ((wanted - below) / values).clamp(0.0, 1.0));
            }
            below += values;
        }
        BOUNDS_NS.last().map(|&bound| bound as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS_NS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_value_counts_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for value_ns in [0, 50_000, 50_001, 3_600_000_000_000, 3_600_000_000_001] {
            histogram.record_ns(value_ns);
        }
        let mut sum = Distribution::default();
        histogram.add_to(&mut sum);
        histogram.add_to(&mut sum);
        let last = BOUNDS_NS.len();
        assert_eq!([sum.buckets[0], sum.buckets[1], sum.buckets[last - 1], sum.buckets[last]], [4, 2, 2, 2]);
        assert_eq!((sum.count(), sum.sum_ns), (10, 2 * 7_200_000_100_002));
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_where_that_part_is_reached() {
        let mut times = Distribution::default();
        assert_eq!(times.quantile_ns(0.5), None);
        times.buckets[1] = 50; // above 50 µs, up to 100 µs
        times.buckets[4] = 49; // above 500 µs, up to 1 ms
        times.buckets[BOUNDS_NS.len()] = 1;
        assert_eq!(times.quantile_ns(0.0), Some(50_000.0));
        assert_eq!(times.quantile_ns(0.25), Some(75_000.0));
        assert_eq!(times.quantile_ns(0.5), Some(100_000.0));
        assert_eq!(times.quantile_ns(0.99), Some(1_000_000.0));
        assert_eq!(times.quantile_ns(1.0), Some(3_600_000_000_000.0), "beyond every bound");
    }

    #[test]
    fn what_was_recorded_since_is_the_difference_or_all_of_what_began_anew() {
        let (before, more, anew) = (Histogram::default(), Histogram::default(), Histogram::default());
        before.record_ns(7);
        [7, 70_000].iter().for_each(|value| more.record_ns(*value));
        anew.record_ns(90_000);
        let [before, more, anew] = [before, more, anew].map(|histogram| {
            let mut sum = Distribution::default();
            histogram.add_to(&mut sum);
            sum
        });
        let since = more.since(&before);
        assert_eq!((since.count(), since.buckets[1], since.sum_ns), (1, 1, 70_000));
        assert_eq!(anew.since(&before), anew);
    }

    #[test]
    fn gauges_go_both_ways() {
        let gauge = Gauge::default();
        gauge.add(5);
        gauge.sub(2);
        assert_eq!(gauge.get(), 3);
        gauge.set(1);
        assert_eq!(gauge.get(), 1);
    }
}
