//! `GET /v1/history`: the last ten minutes in JSON, one column per number, the newest value last.
//!
//! The samples are kept by [`stats::history`](crate::stats::history). Control makes the excerpt on its own thread,
//! because the samples are its own; the text is made on the thread of the request.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::ApiContext;
use super::answer::{ApiResult, Refusal, asked};
use super::words::{
    BackendHistory, Column, Happening, HistoryAnswer, HistoryMark, ListenerHistory, PoolHistory, Times, TotalHistory,
    Traffic,
};
use crate::base::refused::Refused;
use crate::base::time::{Clock, Moment};
use crate::stats::history::{self, Counted};
use crate::stats::history::{
    BackendCount, BackendKey, BackendSample, HistoryEvent, ListenerCount, Mark, PoolCount, Quantiles, SECONDS_MAX,
    Series, TotalCount,
};

/// How many samples of backends one answer can have. With more backends the answer has fewer seconds. This bounds it to
/// about 2 MB of JSON.
const BACKEND_SAMPLES_MAX: usize = 100_000;

/// The parameters of the request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Only samples that are newer than this second. A second that this process has not reached comes from an earlier
    /// process, and then everything is sent.
    since: Option<u64>,
    /// At most this many seconds, 1 to [`SECONDS_MAX`].
    seconds: Option<usize>,
    /// Only this pool.
    pool: Option<String>,
    /// Whether backends are wanted; they are unless this is false.
    backends: Option<bool>,
}

/// The handler.
pub(super) async fn history(
    State(admin): State<ApiContext>,
    wanted: Result<Query<HistoryQuery>, QueryRejection>,
) -> ApiResult<HistoryAnswer> {
    let wanted = asked(wanted)?;
    if wanted.seconds.is_some_and(|seconds| seconds == 0 || seconds > SECONDS_MAX) {
        return Err(Refusal::nonsense(format!("seconds must be between 1 and {SECONDS_MAX}")));
    }
    let clock = admin.clock;
    let answer = admin.asker.history(move |history| excerpt(history, &wanted, clock)).await?;
    answer.map(Json)
}

/// Makes the answer. It runs on control's thread, so it reads only what the request asks for.
///
/// # Errors
/// There is no pool of the name that was asked for.
fn excerpt(history: &history::History, wanted: &HistoryQuery, clock: Clock) -> Result<HistoryAnswer, Refusal> {
    let is_wanted = |name: &Arc<str>| wanted.pool.as_ref().is_none_or(|pool| **name == **pool);
    if let Some(pool) = wanted.pool.as_ref().filter(|_| !history.pools().iter().any(|pool| is_wanted(pool.key()))) {
        return Err(Refusal::unknown(format!("there is no pool `{pool}`; see `ringway ctl pools`")));
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
        HistoryEvent::State { pool, .. } => is_wanted(pool),
        HistoryEvent::Configured(_) => true,
    });
    Ok(HistoryAnswer {
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

/// One number of the `most` newest samples of a series, oldest first.
fn column<K, C: Counted>(series: &Series<K, C>, most: usize, of: impl Fn(&C::Sample) -> f32) -> Column {
    Column(series.newest(most).map(|sample| Some(of(sample))).collect())
}

/// The columns of the whole process.
fn total(series: &Series<(), TotalCount>, most: usize) -> TotalHistory {
    TotalHistory {
        connections: column(series, most, |sample| sample.connections as f32),
        sessions_per_s: column(series, most, |sample| sample.sessions),
        bytes_per_s: column(series, most, |sample| sample.bytes),
        busy: column(series, most, |sample| sample.busy),
    }
}

/// The columns of one listener. A reason to refuse has a column only if it occurred in these seconds.
fn listener(series: &Series<Arc<str>, ListenerCount>, most: usize) -> ListenerHistory {
    let refused = Refused::ALL.into_iter().filter_map(|reason| {
        let refused = column(series, most, |sample| sample.refused[reason as usize]);
        let any = refused.0.iter().any(|rate| rate.is_some_and(|rate| rate > 0.0));
        any.then(|| (reason.name().into(), refused))
    });
    ListenerHistory {
        name: series.key().clone(),
        connections: column(series, most, |sample| sample.connections as f32),
        sessions_per_s: column(series, most, |sample| sample.sessions),
        refused_per_s: refused.collect(),
    }
}

/// The columns of one pool, with those of its backends if they are wanted.
fn pool(series: &Series<Arc<str>, PoolCount>, most: usize, backends: Option<Vec<BackendHistory>>) -> PoolHistory {
    PoolHistory {
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

/// The columns of one backend.
fn backend(series: &Series<BackendKey, BackendCount>, most: usize) -> BackendHistory {
    BackendHistory { name: series.key().name.clone(), traffic: traffic(series, most, |sample| *sample) }
}

/// The columns that pools and backends have in common; `of` finds them in a sample.
fn traffic<K, C: Counted>(series: &Series<K, C>, most: usize, of: fn(&C::Sample) -> BackendSample) -> Traffic {
    Traffic {
        connections: column(series, most, |sample| of(sample).connections as f32),
        sessions_per_s: column(series, most, |sample| of(sample).sessions),
        connect_errors_per_s: column(series, most, |sample| of(sample).connect_errors),
        bytes_to_backend_per_s: column(series, most, |sample| of(sample).bytes_to_backend),
        bytes_to_client_per_s: column(series, most, |sample| of(sample).bytes_to_client),
    }
}

/// Turns samples of quantiles into three columns.
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

/// One mark: something that happened, with its second.
fn marked(mark: &Mark, clock: Clock) -> HistoryMark {
    let event = match mark.event.clone() {
        HistoryEvent::State { pool, backend, from, to, reason } => {
            Happening::State { pool, backend, from: from.into(), to: to.into(), reason }
        }
        HistoryEvent::Configured(generation) => Happening::Configured { generation },
    };
    HistoryMark { second: mark.second, at: wall(mark.at, clock), event }
}

/// A moment as UTC, such as `2026-11-28T17:55:35.980Z`.
fn wall(at: Moment, clock: Clock) -> String {
    humantime::format_rfc3339_millis(clock.wall(at)).to_string()
}
