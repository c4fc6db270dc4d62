//! When to check next.
//!
//! The time between checks varies by 10 % either way, so that the checks of many backends, or of many ringways, do not
//! stay in step. The chance comes from the caller, as nothing here reads a random source.
//!
//! The next check begins when the one before has ended, so checks of one target never overlap.

use super::monitor::Trend;

/// No check comes sooner than this after the last, whatever is configured.
const PAUSE_MIN_NS: u64 = 10_000_000;

/// Times between checks in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// While it is up.
    pub steady_ns: u64,
    /// While its state is changing.
    pub fast_ns: u64,
    /// While it is down.
    pub down_ns: u64,
}

/// Nanoseconds until the next check; `chance` is any number, evenly distributed.
pub fn pause_ns(trend: Trend, intervals: Intervals, chance: u64) -> u64 {
    let base_ns = match trend {
        Trend::Unknown => return 0,
        Trend::Up => intervals.steady_ns,
        Trend::Changing => intervals.fast_ns,
        Trend::Down => intervals.down_ns,
    };
    let spread_ns = base_ns / 5;
    (base_ns - spread_ns / 2 + chance % (spread_ns + 1)).max(PAUSE_MIN_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVALS: Intervals = Intervals { steady_ns: 2_000_000_000, fast_ns: 500_000_000, down_ns: 1_000_000_000 };

    proptest! {
        #[test]
        fn each_pause_is_within_a_tenth_of_its_interval(chance: u64) {
            for (trend, interval_ns) in
                [(Trend::Up, 2_000_000_000u64), (Trend::Changing, 500_000_000), (Trend::Down, 1_000_000_000)]
            {
                prop_assert!(pause_ns(trend, INTERVALS, chance).abs_diff(interval_ns) <= interval_ns / 10);
            }
        }
    }

    #[test]
    fn pauses_differ_and_the_first_check_is_at_once() {
        let least = pause_ns(Trend::Up, INTERVALS, 0);
        let most = pause_ns(Trend::Up, INTERVALS, INTERVALS.steady_ns / 5);
        assert_eq!((least, most), (1_800_000_000, 2_200_000_000));
        assert_eq!(pause_ns(Trend::Unknown, INTERVALS, 77), 0);
    }

    #[test]
    fn checks_never_spin() {
        let none = Intervals { steady_ns: 0, fast_ns: 0, down_ns: 0 };
        assert_eq!(pause_ns(Trend::Down, none, 3), PAUSE_MIN_NS);
    }
}
