//! What is sampled, and how a sample follows from two counts. Counts only grow; a sample has rates per second, and the
//! value at the end of the second for what goes up and down.

use super::series::Counted;
use crate::base::refused::Refused;
use crate::stats::Distribution;

/// What the process has counted so far.
#[derive(Clone, Debug, Default)]
pub struct TotalCount {
    /// Open client connections.
    pub connections: u64,
    /// Client connections that were accepted.
    pub accepted: u64,
    /// Bytes delivered, in both directions together.
    pub bytes: u64,
    /// Time that each worker spent working, in nanoseconds.
    pub busy_ns: Vec<u64>,
}

/// One second of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TotalSample {
    /// Open client connections at its end.
    pub connections: u32,
    /// Client connections that were accepted.
    pub sessions: f32,
    /// Bytes delivered, in both directions together.
    pub bytes: f32,
    /// Part of the time that the busiest worker worked, from 0 to 1.
    pub busy: f32,
}

impl Counted for TotalCount {
    type Sample = TotalSample;

    /// What happened between two counts, per second where it is a rate.
    fn since(&self, before: &TotalCount, lasted_s: f32) -> TotalSample {
        let busy = self.busy_ns.iter().zip(before.busy_ns.iter().chain(std::iter::repeat(&0)));
        let share = |(now, then): (&u64, &u64)| rate(*now, *then, lasted_s) / 1e9;
        TotalSample {
            connections: whole(self.connections),
            sessions: rate(self.accepted, before.accepted, lasted_s),
            bytes: rate(self.bytes, before.bytes, lasted_s),
            busy: busy.map(share).fold(0.0, f32::max).min(1.0),
        }
    }
}

/// What a listener has counted so far.
#[derive(Clone, Debug, Default)]
pub struct ListenerCount {
    /// Open client connections.
    pub connections: u64,
    /// Client connections that were accepted.
    pub accepted: u64,
    /// Clients that were refused, by [`Refused`].
    pub refused: [u64; Refused::COUNT],
}

/// One second of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ListenerSample {
    /// Open client connections at its end.
    pub connections: u32,
    /// Client connections that were accepted.
    pub sessions: f32,
    /// Clients that were refused, by [`Refused`].
    pub refused: [f32; Refused::COUNT],
}

impl Counted for ListenerCount {
    type Sample = ListenerSample;

    /// What happened between two counts, per second where it is a rate.
    fn since(&self, before: &ListenerCount, lasted_s: f32) -> ListenerSample {
        ListenerSample {
            connections: whole(self.connections),
            sessions: rate(self.accepted, before.accepted, lasted_s),
            refused: std::array::from_fn(|reason| rate(self.refused[reason], before.refused[reason], lasted_s)),
        }
    }
}

/// What a pool has counted so far.
#[derive(Clone, Debug, Default)]
pub struct PoolCount {
    /// Clients that wait for a backend.
    pub queue_length: u64,
    /// Sessions that no backend took.
    pub refused: u64,
    /// Sessions that waited in the queue for too long.
    pub queue_timeouts: u64,
    /// Attempts after the first of a session.
    pub retries: u64,
    /// How long connecting to a backend took.
    pub connect: Distribution,
    /// How long clients waited in the queue, of those that had to.
    pub queue: Distribution,
}

/// One second of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolSample {
    /// The sum over its backends. A backend that is removed later stays in it.
    pub backends: BackendSample,
    /// Clients that wait for a backend, at its end.
    pub queue_length: u32,
    /// Sessions that no backend took.
    pub refused: f32,
    /// Sessions that waited in the queue for too long.
    pub queue_timeouts: f32,
    /// Attempts after the first of a session.
    pub retries: f32,
    /// How long connecting took, in milliseconds.
    pub connect_ms: Quantiles,
    /// How long clients waited, in milliseconds.
    pub queue_ms: Quantiles,
}

impl Counted for PoolCount {
    type Sample = PoolSample;

    /// What happened between two counts, per second where it is a rate.
    fn since(&self, before: &PoolCount, lasted_s: f32) -> PoolSample {
        PoolSample {
            backends: BackendSample::default(),
            queue_length: whole(self.queue_length),
            refused: rate(self.refused, before.refused, lasted_s),
            queue_timeouts: rate(self.queue_timeouts, before.queue_timeouts, lasted_s),
            retries: rate(self.retries, before.retries, lasted_s),
            connect_ms: Quantiles::of(&self.connect.since(&before.connect)),
            queue_ms: Quantiles::of(&self.queue.since(&before.queue)),
        }
    }
}

/// What a backend has counted so far.
#[derive(Clone, Debug, Default)]
pub struct BackendCount {
    /// Open sessions.
    pub connections: u32,
    /// Connections that were established.
    pub established: u64,
    /// Attempts that failed.
    pub connect_errors: u64,
    /// Bytes delivered to it.
    pub bytes_to_backend: u64,
    /// Bytes from it delivered to clients.
    pub bytes_to_client: u64,
}

/// One second of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BackendSample {
    /// Sessions at its end.
    pub connections: u32,
    /// Connections that were established.
    pub sessions: f32,
    /// Attempts that failed.
    pub connect_errors: f32,
    /// Bytes delivered to it.
    pub bytes_to_backend: f32,
    /// Bytes from it delivered to clients.
    pub bytes_to_client: f32,
}

impl std::ops::AddAssign for BackendSample {
    /// Adds what another backend did.
    fn add_assign(&mut self, other: BackendSample) {
        self.connections = self.connections.saturating_add(other.connections);
        self.sessions += other.sessions;
        self.connect_errors += other.connect_errors;
        self.bytes_to_backend += other.bytes_to_backend;
        self.bytes_to_client += other.bytes_to_client;
    }
}

impl Counted for BackendCount {
    type Sample = BackendSample;

    /// What happened between two counts, per second where it is a rate.
    fn since(&self, before: &BackendCount, lasted_s: f32) -> BackendSample {
        BackendSample {
            connections: self.connections,
            sessions: rate(self.established, before.established, lasted_s),
            connect_errors: rate(self.connect_errors, before.connect_errors, lasted_s),
            bytes_to_backend: rate(self.bytes_to_backend, before.bytes_to_backend, lasted_s),
            bytes_to_client: rate(self.bytes_to_client, before.bytes_to_client, lasted_s),
        }
    }
}

/// The median, the 90th and the 99th percentile, in milliseconds; `None` for a second without values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles(pub Option<[f32; 3]>);

impl Quantiles {
    /// The fractions of the three.
    pub const PARTS: [f64; 3] = [0.5, 0.9, 0.99];

    /// They are as exact as the buckets.
    fn of(times: &Distribution) -> Quantiles {
        let mut found = [0.0; 3];
        for (found, part) in found.iter_mut().zip(Quantiles::PARTS) {
            let Some(at_ns) = times.quantile_ns(part) else { return Quantiles(None) };
            *found = (at_ns / 1e6) as f32;
        }
        Quantiles(Some(found))
    }
}

/// A rate per second. A counter that is lower than before was set back to 0.
fn rate(now: u64, before: u64, lasted_s: f32) -> f32 {
    now.checked_sub(before).unwrap_or(now) as f32 / lasted_s
}

/// A number in 32 bits, or the largest of those.
fn whole(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
