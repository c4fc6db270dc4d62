//! What the tests are made of: [`Ringway`], the built program; [`Listener`] and [`Backend`], what stands behind it;
//! [`Peer`], one end of a connection; [`bytes`], streams that are known byte by byte.

pub mod address;
pub mod api;
pub mod authority;
pub mod backend;
pub mod browser;
pub mod bytes;
pub mod dns;
pub mod etcd;
pub mod kubernetes;
pub mod mariadb;
pub mod metrics;
pub mod network;
pub mod patroni;
pub mod peer;
pub mod postgresql;
pub mod process;
pub mod redis;
pub mod ringway;
pub mod secure;
pub mod secure_server;

use std::time::{Duration, Instant};

pub use api::Api;
pub use backend::{Backend, Listener};
pub use dns::{Dns, Says};
pub use metrics::Metrics;
pub use peer::{End, Peer};
pub use ringway::Ringway;

/// How long a test waits for what must happen: long, because only a test that fails waits to the end.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    let waited = wait_for(PATIENCE, is_so);
    assert!(waited.is_some(), "waited for {PATIENCE:?}, and still not: {what}");
}

/// Waits until something is so, and says how long that took; `None` if it was not within the limit.
pub fn wait_for(limit: Duration, mut is_so: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    loop {
        if is_so() {
            return Some(begun.elapsed());
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How long something takes.
pub fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = action();
    (begun.elapsed(), result)
}

/// Fails unless `took` is about `expected`: not earlier than 5 % before it, and not later than a busy machine explains.
#[track_caller]
pub fn assert_about(took: Duration, expected: Duration) {
    let latest = expected.mul_f64(1.05) + Duration::from_millis(400);
    assert!(took >= expected.mul_f64(0.95) && took <= latest, "took {took:?}, and {expected:?} was expected");
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Which mode of the relay a direction is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Copy,
    Splice,
}

impl Mode {
    pub const BOTH: [Mode; 2] = [Mode::Copy, Mode::Splice];

    /// Brings the direction `from` → `to` into this mode, with the first bytes of a stream; how many they were.
    pub fn enter(self, from: &mut Peer, to: &mut Peer, key: bytes::Key) -> u64 {
        let len = match self {
            Mode::Copy => 1000,
            Mode::Splice => 4 << 20,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| from.send_keyed(key, 0, len));
            to.expect_keyed(key, 0, len);
        });
        len
    }

    /// Checks that it was this mode that moved the bytes.
    #[track_caller]
    pub fn assert_was_used(self, ringway: &Ringway) {
        let spliced = ringway.metrics().count("worker_spliced_bytes_total", &[]);
        assert_eq!(spliced > 1 << 20, self == Mode::Splice, "{self:?}, and {spliced} bytes were spliced");
    }
}
