//! Time as a number. [`Clock`] is the one reader of the operating system's clock; everything else is told.

use std::time::{Duration, SystemTime};

/// A moment on the monotonic clock, in nanoseconds since some moment before the process started.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(pub u64);

impl Moment {
    /// A moment later than any that is reached: the deadline of something that has none.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `span_ns` nanoseconds later; [`Moment::NEVER`] absorbs.
    #[inline]
    pub fn after_ns(self, span_ns: u64) -> Moment {
        Moment(self.0.saturating_add(span_ns))
    }

    /// Nanoseconds from `earlier` to `self`, 0 if it is not earlier.
    #[inline]
    pub fn since_ns(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Reads CLOCK_MONOTONIC, so a step of the wall clock fires no timeout.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When the clock was made, on CLOCK_MONOTONIC.
    origin: std::time::Instant,
}

impl Clock {
    /// The moment a clock begins with.
    pub const ORIGIN: Moment = Moment(1_000_000_000);

    /// A clock whose moments count from now, plus one second so that "a second ago" is never negative.
    #[allow(clippy::disallowed_methods, clippy::new_without_default)]
    pub fn new() -> Clock {
        Clock { origin: std::time::Instant::now() }
    }

    /// The moment it is.
    #[inline]
    pub fn now(&self) -> Moment {
        Clock::ORIGIN.after_ns(self.origin.elapsed().as_nanos() as u64)
    }

    /// What a clock on the wall shows at that moment, going by what it shows now. For people alone.
    pub fn wall(&self, at: Moment) -> SystemTime {
        let (now, wall) = (self.now(), SystemTime::now());
        let past = wall.checked_sub(Duration::from_nanos(now.since_ns(at)));
        past.and_then(|past| past.checked_add(Duration::from_nanos(at.since_ns(now)))).unwrap_or(wall)
    }
}

/// A time of day in seconds since 1970; 0 for what was before.
pub fn unix_s(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds of a duration, saturating (584 years).
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
