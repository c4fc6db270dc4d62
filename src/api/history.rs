//! The last ten minutes, in JSON: a column per number, the newest value last.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize, Serializer};

use super::Admin;
use super::answer::{Answer, Refusal};
use crate::base::refused::Refused;
use crate::base::time::{Clock, Moment};
use crate::stats::history::{self, Counted};
use crate::stats::history::{
    BackendCount, BackendKey, BackendSample, Event, ListenerCount, Mark, PoolCount, Quantiles, SECONDS_MAX, Series,
    TotalCount,
};

/// Samples of backends in one answer: a bigger fleet gets fewer seconds. At most some 2 MB of JSON.
const BACKEND_SAMPLES_MAX: usize = 100_000;

/// What of it, as it stands behind the `?`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only what is newer than this second. One that is not there yet was another process's: then everything.
    since: Option<u64>,
    /// At most that many.
    seconds: Option<usize>,
    /// Only this pool.
    pool: Option<String>,
    /// Whether backends are wanted; they are, unless this is false.
    backends: Option<bool>,
}

/// `GET /v1/history`
#[derive(Debug, Serialize)]
pub(super) struct History {
    /// Number of the newest second, from 1 since the start; for `since`.
    second: u64,
    /// When it ended.
    at: String,
    /// The most values that a column has. One that has fewer began later.
    seconds: usize,
    interval_ms: u64,
    total: Total,
    listeners: Vec<Listener>,
    pools: Vec<Pool>,
    /// The oldest first.
    marks: Vec<Marked>,
}

#[derive(Debug, Serialize)]
struct Total {
    connections: Column,
    sessions_per_s: Column,
    bytes_per_s: Column,
    /// From 0 to 1, of the busiest worker.
    busy: Column,
}

#[derive(Debug, Serialize)]
struct Listener {
    name: Arc<str>,
    connections: Column,
    sessions_per_s: Column,
    /// Of the reasons for which there was a client.
    refused_per_s: std::collections::BTreeMap<&'static str, Column>,
}

#[derive(Debug, Serialize)]
struct Pool {
    name: Arc<str>,
    #[serde(flatten)]
    traffic: Traffic,
    queue_length: Column,
    refused_per_s: Column,
    queue_timeouts_per_s: Column,
    retries_per_s: Column,
    connect_ms: Times,
    queue_ms: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<Vec<Backend>>,
}

#[derive(Debug, Serialize)]
struct Backend {
    name: Arc<str>,
    #[serde(flatten)]
    traffic: Traffic,
}

#[derive(Debug, Serialize)]
struct Traffic {
    connections: Column,
    sessions_per_s: Column,
    connect_errors_per_s: Column,
    bytes_to_backend_per_s: Column,
    bytes_to_client_per_s: Column,
}

/// `null` in a second in which there was nothing.
#[derive(Debug, Serialize)]
struct Times {
    p50: Column,
    p90: Column,
    p99: Column,
}

#[derive(Debug, Serialize)]
struct Marked {
    second: u64,
    at: String,
    #[serde(flatten)]
    event: MarkedEvent,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum MarkedEvent {
    State { pool: Arc<str>, backend: Arc<str>, from: &'static str, to: &'static str, reason: String },
    Configured { generation: u64 },
}

/// Values of one number. Three digits behind the point are enough for a plot.
#[derive(Debug, PartialEq)]
struct Column(Vec<Option<f32>>);

impl Serialize for Column {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|value| value.map(Short)))
    }
}

struct Short(f32);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = (f64::from(self.0) * 1000.0).round() / 1000.0;
        if rounded.fract() == 0.0 {
            // None is negative or above what a u64 holds; `as` would stop at the ends.
            return serializer.serialize_u64(rounded as u64);
        }
        serializer.serialize_f64(rounded)
    }
}

pub(super) async fn history(
    State(admin): State<Admin>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<History> {
    let Query(wanted) = wanted.map_err(|error| Refusal::nonsense(error.body_text()))?;
    if wanted.seconds.is_some_and(|seconds| seconds == 0 || seconds > SECONDS_MAX) {
        return Err(Refusal::nonsense(format!("seconds must be between 1 and {SECONDS_MAX}")));
    }
    let clock = admin.clock;
    let answer = admin.asker.history(move |history| excerpt(history, &wanted, clock)).await?;
    answer.map(Json)
}

/// Control makes it, so it takes no more than is wanted.
fn excerpt(history: &history::History, wanted: &Wanted, clock: Clock) -> Result<History, Refusal> {
    let is_wanted = |name: &Arc<str>| wanted.pool.as_ref().is_none_or(|pool| **name == **pool);
    if let Some(pool) = wanted.pool.as_ref().filter(|_| !history.pools().iter().any(|pool| is_wanted(pool.key()))) {
        return Err(Refusal::unknown(format!("there is no pool {pool}")));
    }
    let since = wanted.since.filter(|since| *since <= history.second()).unwrap_or(0);
    let new = usize::try_from(history.second() - since).unwrap_or(SECONDS_MAX);
    let mut most = new.min(wanted.seconds.unwrap_or(SECONDS_MAX));
    let backends: Vec<_> = match wanted.backends {
        Some(false) => Vec::new(),
        _ => history.backends().iter().filter(|backend| is_wanted(&backend.key().pool)).collect(),
    };
    most = most.min(BACKEND_SAMPLES_MAX / backends.len().max(1)).max(usize::from(new > 0));
    let backends_of = |pool: &Arc<str>| {
        let own = backends.iter().filter(|backend| backend.key().pool == *pool);
        own.map(|series| backend(series, most)).collect()
    };
    let pools = history.pools().iter().filter(|pool| is_wanted(pool.key())).map(|series| {
        let backends = (wanted.backends != Some(false)).then(|| backends_of(series.key()));
        pool(series, most, backends)
    });
    let oldest = since.max(history.second() - most as u64);
    let marks = history.marks_after(oldest).filter(|mark| match &mark.event {
        Event::State { pool, .. } => is_wanted(pool),
        Event::Configured(_) => true,
    });
    Ok(History {
        second: history.second(),
        at: wall(history.sampled_at(), clock),
        seconds: most,
        interval_ms: 1000,
        total: total(history.total(), most),
        listeners: history.listeners().iter().map(|series| listener(series, most)).collect(),
        marks: marks.map(|mark| marked(mark, clock)).collect(),
        pools: pools.collect(),
    })
}

/// One number of the newest samples.
fn column<K, C: Counted>(series: &Series<K, C>, most: usize, of: impl Fn(&C::Sample) -> f32) -> Column {
    Column(series.newest(most).map(|sample| Some(of(sample))).collect())
}

fn total(series: &Series<(), TotalCount>, most: usize) -> Total {
    Total {
        connections: column(series, most, |sample| sample.connections as f32),
        sessions_per_s: column(series, most, |sample| sample.sessions),
        bytes_per_s: column(series, most, |sample| sample.bytes),
        busy: column(series, most, |sample| sample.busy),
    }
}

fn listener(series: &Series<Arc<str>, ListenerCount>, most: usize) -> Listener {
    let refused = Refused::ALL.into_iter().filter_map(|reason| {
        let refused = column(series, most, |sample| sample.refused[reason as usize]);
        let any = refused.0.iter().any(|rate| rate.is_some_and(|rate| rate > 0.0));
        any.then(|| (reason.name(), refused))
    });
    Listener {
        name: series.key().clone(),
        connections: column(series, most, |sample| sample.connections as f32),
        sessions_per_s: column(series, most, |sample| sample.sessions),
        refused_per_s: refused.collect(),
    }
}

fn pool(series: &Series<Arc<str>, PoolCount>, most: usize, backends: Option<Vec<Backend>>) -> Pool {
    Pool {
        name: series.key().clone(),
        traffic: traffic(series, most, |sample| sample.backends),
        queue_length: column(series, most, |sample| sample.queue_length as f32),
        refused_per_s: column(series, most, |sample| sample.refused),
        queue_timeouts_per_s: column(series, most, |sample| sample.queue_timeouts),
        retries_per_s: column(series, most, |sample| sample.retries),
        connect_ms: times(series.newest(most).map(|sample| sample.connect_ms)),
        queue_ms: times(series.newest(most).map(|sample| sample.queue_ms)),
        backends,
    }
}

fn backend(series: &Series<BackendKey, BackendCount>, most: usize) -> Backend {
    Backend { name: series.key().name.clone(), traffic: traffic(series, most, |sample| *sample) }
}

fn traffic<K, C: Counted>(series: &Series<K, C>, most: usize, of: fn(&C::Sample) -> BackendSample) -> Traffic {
    Traffic {
        connections: column(series, most, |sample| of(sample).connections as f32),
        sessions_per_s: column(series, most, |sample| of(sample).sessions),
        connect_errors_per_s: column(series, most, |sample| of(sample).connect_errors),
        bytes_to_backend_per_s: column(series, most, |sample| of(sample).bytes_to_backend),
        bytes_to_client_per_s: column(series, most, |sample| of(sample).bytes_to_client),
    }
}

fn times(samples: impl Iterator<Item = Quantiles>) -> Times {
    let mut columns = [const { Vec::new() }; 3];
    for Quantiles(quantiles) in samples {
        for (at, column) in columns.iter_mut().enumerate() {
            column.push(quantiles.map(|all| all[at]));
        }
    }
    let [p50, p90, p99] = columns.map(Column);
    Times { p50, p90, p99 }
}

fn marked(mark: &Mark, clock: Clock) -> Marked {
    let event = match mark.event.clone() {
        Event::State { pool, backend, from, to, reason } => MarkedEvent::State { pool, backend, from, to, reason },
        Event::Configured(generation) => MarkedEvent::Configured { generation },
    };
    Marked { second: mark.second, at: wall(mark.at, clock), event }
}

fn wall(at: Moment, clock: Clock) -> String {
    humantime::format_rfc3339_millis(clock.wall(at)).to_string()
}
