//! The words of `GET /v1/history`: the last ten minutes, one column per number, the newest value last.
//!
//! Columns of an answer end at the same second. A shorter one belongs to something that began later.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::Word;

/// `GET /v1/history`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryAnswer {
    /// The number of the newest second, counted from the start of the process; the next request sends it as `since`.
    pub second: u64,
    /// When that second ended, as UTC.
    pub at: String,
    /// How many values the longest column has.
    pub seconds: usize,
    /// From one value to the next.
    pub interval_ms: u64,
    /// The whole process.
    pub total: TotalHistory,
    /// The listeners.
    pub listeners: Vec<ListenerHistory>,
    /// The pools.
    pub pools: Vec<PoolHistory>,
    /// What happened in these seconds, the oldest first.
    pub marks: Vec<HistoryMark>,
}

/// The columns of the process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TotalHistory {
    /// Open client connections at the end of the second.
    pub connections: Column,
    /// Sessions that began.
    pub sessions_per_s: Column,
    /// Bytes in both directions.
    pub bytes_per_s: Column,
    /// How busy the busiest worker was, from 0 to 1.
    pub busy: Column,
}

/// The columns of one listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListenerHistory {
    /// Its name.
    pub name: Arc<str>,
    /// Open client connections at the end of the second.
    pub connections: Column,
    /// Connections that were accepted.
    pub sessions_per_s: Column,
    /// Refused clients per reason; only reasons that occurred in these seconds.
    pub refused_per_s: BTreeMap<Word, Column>,
}

/// The columns of one pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PoolHistory {
    /// Its name.
    pub name: Arc<str>,
    /// Its backends together.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Clients that waited for a backend at the end of the second.
    pub queue_length: Column,
    /// Clients that got no backend.
    pub refused_per_s: Column,
    /// Clients that waited for too long.
    pub queue_timeouts_per_s: Column,
    /// Sessions that tried another backend.
    pub retries_per_s: Column,
    /// How long connecting took.
    pub connect_ms: Times,
    /// How long clients waited for a backend.
    pub queue_ms: Times,
    /// Its backends; `None` if they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<BackendHistory>>,
}

/// The columns of one backend.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendHistory {
    /// Its name.
    pub name: Arc<str>,
    /// What it served.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// The columns that a pool and a backend have in common.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Traffic {
    /// Open sessions at the end of the second.
    pub connections: Column,
    /// Sessions that were connected.
    pub sessions_per_s: Column,
    /// Attempts to connect that failed.
    pub connect_errors_per_s: Column,
    /// Bytes from clients to backends.
    pub bytes_to_backend_per_s: Column,
    /// Bytes from backends to clients.
    pub bytes_to_client_per_s: Column,
}

/// Quantiles of durations, in milliseconds; `null` for a second in which nothing was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Times {
    /// Half of them took no longer.
    pub p50: Column,
    /// 90 % of them took no longer.
    pub p90: Column,
    /// 99 % of them took no longer.
    pub p99: Column,
}

/// Something that happened, to be drawn into a plot.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryMark {
    /// In which second.
    pub second: u64,
    /// When, as UTC.
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub event: Happening,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Happening {
    /// A backend changed its state.
    State {
        /// Its pool.
        pool: Arc<str>,
        /// Its name.
        backend: Arc<str>,
        /// The state before.
        from: Word,
        /// The state since then.
        to: Word,
        /// Why, one line.
        reason: String,
    },
    /// A configuration was applied.
    Configured {
        /// How many have been applied, this one included.
        generation: u64,
    },
}

/// The values of one number; `None` for a second without one. They are written with at most three digits behind the
/// point, which is enough for a plot.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Column(pub Vec<Option<f32>>);

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|value| value.map(Rounded)))
    }
}

/// A value that is written with at most three digits behind the point.
struct Rounded(f32);

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = (f64::from(self.0) * 1000.0).round() / 1000.0;
        if rounded.fract() == 0.0 {
            // No value is negative or more than a u64 holds; if one were, `as` would stop at the end of the range.
            return serializer.serialize_u64(rounded as u64);
        }
        serializer.serialize_f64(rounded)
    }
}
