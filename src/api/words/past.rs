//! The last ten minutes: a column per number, the newest value last.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::Word;

/// `GET /v1/history`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryAnswer {
    /// Number of the newest second, from 1 since the start; for `since`.
    pub second: u64,
    /// When it ended.
    pub at: String,
    /// The most values that a column has. One that has fewer began later.
    pub seconds: usize,
    pub interval_ms: u64,
    pub total: TotalHistory,
    pub listeners: Vec<ListenerHistory>,
    pub pools: Vec<PoolHistory>,
    /// The oldest first.
    pub marks: Vec<HistoryMark>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TotalHistory {
    pub connections: Column,
    pub sessions_per_s: Column,
    pub bytes_per_s: Column,
    /// From 0 to 1, of the busiest worker.
    pub busy: Column,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListenerHistory {
    pub name: Arc<str>,
    pub connections: Column,
    pub sessions_per_s: Column,
    /// Of the reasons for which there was a client.
    pub refused_per_s: BTreeMap<Word, Column>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PoolHistory {
    pub name: Arc<str>,
    #[serde(flatten)]
    pub traffic: Traffic,
    pub queue_length: Column,
    pub refused_per_s: Column,
    pub queue_timeouts_per_s: Column,
    pub retries_per_s: Column,
    pub connect_ms: Times,
    pub queue_ms: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<BackendHistory>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendHistory {
    pub name: Arc<str>,
    #[serde(flatten)]
    pub traffic: Traffic,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Traffic {
    pub connections: Column,
    pub sessions_per_s: Column,
    pub connect_errors_per_s: Column,
    pub bytes_to_backend_per_s: Column,
    pub bytes_to_client_per_s: Column,
}

/// `null` in a second in which there was nothing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Times {
    pub p50: Column,
    pub p90: Column,
    pub p99: Column,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryMark {
    pub second: u64,
    pub at: String,
    #[serde(flatten)]
    pub event: Happening,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Happening {
    State { pool: Arc<str>, backend: Arc<str>, from: Word, to: Word, reason: String },
    Configured { generation: u64 },
}

/// Values of one number, `None` where there was nothing. Three digits behind the point are enough for a plot.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Column(pub Vec<Option<f32>>);

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|value| value.map(Rounded)))
    }
}

struct Rounded(f32);

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = (f64::from(self.0) * 1000.0).round() / 1000.0;
        if rounded.fract() == 0.0 {
            // None is negative or above what a u64 holds; `as` would stop at the ends.
            return serializer.serialize_u64(rounded as u64);
        }
        serializer.serialize_f64(rounded)
    }
}
