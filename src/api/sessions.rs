//! The handlers for sessions: `GET` and `DELETE /v1/sessions`, over all workers.
//!
//! Each worker gets the same request in its mailbox and answers when it has gone through its sessions, a slice per turn
//! ([`roster::survey`]). So the answer is not a snapshot of one moment: a session that begins or ends meanwhile may or
//! may not be in it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::ApiContext;
use super::answer::{ApiResult, Refusal, asked};
use super::server::Asking;
use super::words::{Killed, SessionStatus, Sessions};
use crate::base::id::BackendId;
use crate::roster::{self, Filter, RosterRecord, RosterRequest, SessionId, What};
use crate::snapshot::table::{BackendEntry, Table};

/// How many sessions an answer has if the request does not say.
const LIMIT_DEFAULT: usize = 1_000;
/// How many sessions a request can ask for.
const LIMIT_MAX: usize = 100_000;
/// How long the answer of a worker is awaited. A worker that needs longer is stuck, or has just ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parameters of a request: which sessions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    /// `POOL/NAME`.
    backend: Option<String>,
    /// An address or a network in CIDR notation.
    client: Option<String>,
    /// How many are listed; only for lists.
    limit: Option<usize>,
}

/// `GET /v1/sessions`: the open sessions that match, oldest first.
pub(super) async fn list(
    State(admin): State<ApiContext>,
    wanted: Result<Query<SessionsQuery>, QueryRejection>,
) -> ApiResult<Sessions> {
    let wanted = asked(wanted)?;
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        return Err(Refusal::nonsense(format!("limit goes up to {LIMIT_MAX}")));
    }
    let filter = filter_of(&admin, &wanted)?;
    let roster::Answer { mut records, matching } = ask(&admin, &filter, What::List { limit }).await?;
    records.sort_by_key(|record| (std::cmp::Reverse(record.age_ns), record.id));
    records.truncate(limit);
    let reader = admin.cell.reader();
    let table = reader.pin();
    let sessions = records.iter().map(|record| describe(record, &table)).collect();
    Ok(Json(Sessions { sessions, matching }))
}

/// `DELETE /v1/sessions/{id}`: resets one session.
pub(super) async fn kill_one(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    Path(id): Path<String>,
) -> ApiResult<Killed> {
    let id: SessionId = id.parse().map_err(|error: roster::NotAnId| Refusal::nonsense(error.to_string()))?;
    let filter = Filter { id: Some(id), ..Filter::default() };
    match ask(&admin, &filter, What::Kill).await?.matching {
        0 => Err(Refusal::unknown(format!("there is no session {id}; it may have ended"))),
        killed => {
            tracing::info!(session = %id, %by, "session killed by the operator");
            Ok(Json(Killed { killed }))
        }
    }
}

/// `DELETE /v1/sessions`: resets all sessions that match. At least one condition must be given, so that a typing error
/// does not close everything.
pub(super) async fn kill_many(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    wanted: Result<Query<SessionsQuery>, QueryRejection>,
) -> ApiResult<Killed> {
    let wanted = asked(wanted)?;
    if wanted.limit.is_some() {
        return Err(Refusal::nonsense("limit is for lists; all sessions that match are closed"));
    }
    if wanted.backend.is_none() && wanted.client.is_none() {
        return Err(Refusal::nonsense("say which sessions: backend=POOL/NAME, client=CIDR, or both"));
    }
    let filter = filter_of(&admin, &wanted)?;
    let killed = ask(&admin, &filter, What::Kill).await?.matching;
    let (backend, client) = (wanted.backend.as_deref().unwrap_or("any"), wanted.client.as_deref().unwrap_or("any"));
    tracing::info!(backend, client, killed, %by, "sessions killed by the operator");
    Ok(Json(Killed { killed }))
}

/// Turns parameters into what workers compare with.
///
/// # Errors
/// A parameter makes no sense, or the backend does not exist.
fn filter_of(admin: &ApiContext, wanted: &SessionsQuery) -> Result<Filter, Refusal> {
    let backends = match &wanted.backend {
        None => None,
        Some(name) => {
            let reader = admin.cell.reader();
            let table = reader.pin();
            Some(backends_of(&table, name)?)
        }
    };
    let client = wanted.client.as_deref().map(network).transpose()?;
    Ok(Filter { backends, client, id: None })
}

/// All backends of this name, including removed ones: a user who names a backend means every session that it has.
fn backends_of(table: &Table, name: &str) -> Result<Vec<BackendId>, Refusal> {
    if !name.contains('/') {
        return Err(Refusal::nonsense("a backend is named POOL/NAME, as in db/a"));
    }
    // Names can contain slashes.
    let is_called = |entry: &&BackendEntry| {
        let pool = table.pool(entry.pool).map_or("", |pool| &pool.name);
        let rest = name.strip_prefix(pool).and_then(|rest| rest.strip_prefix('/'));
        rest == Some(&*entry.name)
    };
    let found: Vec<_> = table.backends.iter().flatten().filter(is_called).map(|entry| entry.id).collect();
    if found.is_empty() {
        return Err(Refusal::unknown(format!("there is no backend `{name}`; see `ringway ctl backends`")));
    }
    Ok(found)
}

/// An address or a network in CIDR notation.
fn network(text: &str) -> Result<IpNet, Refusal> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let parsed = text.parse::<IpNet>().or_else(|_| address());
    parsed.map_err(|_| Refusal::nonsense(format!("{text:?} is neither an address nor a CIDR, as in 10.0.0.0/8")))
}

/// Sends the request to every worker that can have such sessions, and adds up their answers.
///
/// # Errors
/// A worker did not answer in time.
async fn ask(admin: &ApiContext, filter: &Filter, what: What) -> Result<roster::Answer, Refusal> {
    let (sender, mut answers) = mpsc::channel(admin.stats.workers.len());
    let concerned = |worker: &usize| {
        let is_running = admin.stats.workers[*worker].worker.running.get() != 0;
        is_running && filter.id.is_none_or(|id| id.worker() == *worker)
    };
    for worker in (0..admin.stats.workers.len()).filter(concerned) {
        let sender = sender.clone();
        // The channel has room for the answer of each worker. After the time-out nothing reads it any more, and the
        // answer is lost.
        let reply = Box::new(move |answer| drop(sender.try_send(answer)));
        (admin.ask)(worker, RosterRequest { filter: filter.clone(), what, reply });
    }
    drop(sender);
    let mut all = roster::Answer::default();
    let gather = async {
        while let Some(mut answer) = answers.recv().await {
            all.records.append(&mut answer.records);
            all.matching += answer.matching;
        }
    };
    match timeout(PATIENCE, gather).await {
        Ok(()) => Ok(all),
        Err(_) => Err(Refusal::unavailable(format!("a worker did not answer within {} s", PATIENCE.as_secs()))),
    }
}

/// What the API says of one session, with names in place of ids.
fn describe(record: &RosterRecord, table: &Table) -> SessionStatus {
    // A pool, listener or backend that was removed may keep sessions for a while, but not its name.
    let removed = || Arc::from("(removed)");
    SessionStatus {
        id: record.id.to_string(),
        client: record.client.as_ref().map(|client| match client {
            crate::base::address::Address::Unix(path) if path.as_os_str().is_empty() => "unix:".to_owned(),
            client => client.to_string(),
        }),
        listener: table.listener(record.listener).map_or_else(removed, |listener| listener.name.clone()),
        pool: table.pool(record.pool).map_or_else(removed, |pool| pool.name.clone()),
        backend: record.backend.map(|id| table.backend(id).map_or_else(removed, |backend| backend.name.clone())),
        backend_local: record.backend_local.map(|own| own.to_string()),
        worker: record.id.worker(),
        state: record.stage.name().into(),
        age_ms: record.age_ns / 1_000_000,
        idle_ms: record.idle_ns / 1_000_000,
        bytes_to_backend: record.bytes[0],
        bytes_to_client: record.bytes[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_named_by_address_or_network() {
        for (text, inside, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.0/8", "10.9.9.9", "11.0.0.0"),
            ("10.1.2.3/8", "10.9.9.9", "11.0.0.0"),
            ("fd00::/8", "fd00::1", "fe80::1"),
            ("::1", "::1", "::2"),
        ] {
            let network = network(text).unwrap();
            let holds = |address: &str| network.contains(&address.parse::<IpAddr>().unwrap());
            assert!(holds(inside) && !holds(outside), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "a", "10.0.0.1:80", "unix:"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
