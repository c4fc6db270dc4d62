//! The handlers that change something: a backend at run time, and the whole configuration by a reload or by a text.
//!
//! All of them only pass the change on to control ([`Asker`](super::command::Asker)) and wait: the answer comes when
//! every worker serves by the new table, or after some seconds if one does not. They are reached through `admin.socket`
//! alone.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;

use super::ApiContext;
use super::answer::{ApiResult, Refusal, asked};
use super::server::Asking;
use super::words::{ApiFault, AppliedConfig, BackendChange, Changed, ConfigConsequences, DrainedBackend, FaultPlace};
use crate::api::command;
use crate::config;
use crate::fleet::order::{BackendName, Change, SetError, Wish};

/// `PATCH /v1/pools/{pool}/backends/{backend}`: changes weight, state or limit of a backend. All keys of the body are
/// applied, or none.
pub(super) async fn set(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    Path((pool, backend)): Path<(String, String)>,
    body: Bytes,
) -> ApiResult<Changed> {
    let wanted: BackendChange = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"it takes {"weight": 5, "state": "drain", "deadline_ms": 30000, "connections_max": 10}"#;
        Refusal::nonsense(format!("{error}; {example} or a part of that"))
    })?;
    let BackendChange { weight, state, connections_max, deadline_ms } = wanted;
    if weight.is_none() && state.is_none() && connections_max.is_none() && deadline_ms.is_none() {
        return Err(Refusal::nonsense("nothing is to be changed: give weight, state or connections_max"));
    }
    let change = Change { weight, state, connections_max, deadline: deadline_ms.map(Duration::from_millis) };
    answer(admin.asker.wish(Wish::Set(BackendName { pool, backend }, change), by).await?)
}

/// `POST /v1/pools/{pool}/backends`: adds a backend, with the keys of the configuration. 201; 409 if its name or its
/// place is taken.
pub(super) async fn add(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    Path(pool): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Changed>), Refusal> {
    let keys: serde_json::Value = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"it takes {"name": "c", "address": "10.0.0.3:5432", "weight": 5}: the keys of a backend"#;
        Refusal::nonsense(format!("{error}; {example}"))
    })?;
    let backend = config::added_backend(&keys)
        .map_err(|faults| unusable(faults.into_iter().map(|message| ApiFault { message, place: None })))?;
    let wish = Wish::Add { pool, backend: Box::new(backend) };
    Ok((StatusCode::CREATED, answer(admin.asker.wish(wish, by).await?)?))
}

/// The parameters of a DELETE, or its body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// When the remaining sessions are reset. 0 means never; without it the pool's `drain_timeout` counts.
    deadline_ms: Option<u64>,
}

/// `DELETE /v1/pools/{pool}/backends/{backend}`: drains a backend, and then it is gone.
pub(super) async fn remove(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    Path((pool, backend)): Path<(String, String)>,
    query: Result<Query<Removal>, QueryRejection>,
    body: Bytes,
) -> ApiResult<Changed> {
    let of_body: Removal = match body.is_empty() {
        true => Removal::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| Refusal::nonsense(format!(r#"{error}; it takes {{"deadline_ms": 30000}}"#)))?,
    };
    let deadline_ms = asked(query)?.deadline_ms.or(of_body.deadline_ms);
    let target = BackendName { pool, backend };
    answer(admin.asker.wish(Wish::Remove { target, deadline: deadline_ms.map(Duration::from_millis) }, by).await?)
}

/// The answer to a change of one backend.
fn answer(result: Result<Vec<String>, SetError>) -> ApiResult<Changed> {
    match result {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(error @ SetError::NotFound(_)) => Err(Refusal::unknown(error.to_string())),
        Err(error @ SetError::Invalid(_)) => Err(Refusal::nonsense(error.to_string())),
        Err(error @ SetError::Taken(_)) => Err(Refusal::new(StatusCode::CONFLICT, error.to_string())),
        Err(error @ SetError::NotKept(_)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// The parameters of `PUT /v1/config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dryness {
    /// 1: only say what would follow.
    dry_run: Option<u8>,
}

/// `PUT /v1/config`: puts a whole configuration in the place of the file, until the next reload. 422 with every error
/// if it cannot be used.
pub(super) async fn put(
    State(admin): State<ApiContext>,
    Extension(Asking(by)): Extension<Asking>,
    query: Result<Query<Dryness>, QueryRejection>,
    body: Bytes,
) -> ApiResult<AppliedConfig> {
    let is_dry_run = match asked(query)?.dry_run {
        None | Some(0) => false,
        Some(1) => true,
        Some(_) => return Err(Refusal::nonsense("dry_run is 1 or 0")),
    };
    let text = config::text_of(body.to_vec())
        .map_err(|why| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the configuration: {why}")))?;
    match admin.asker.put(text, is_dry_run, by).await? {
        Ok(applied) => Ok(Json(AppliedConfig::from(applied))),
        Err(faults) => Err(unusable(faults.into_iter().map(ApiFault::from))),
    }
}

/// 422: what was given can be read, and not be used.
fn unusable(faults: impl Iterator<Item = ApiFault>) -> Refusal {
    Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, faults.collect())
}

impl From<command::Applied> for AppliedConfig {
    fn from(applied: command::Applied) -> AppliedConfig {
        let command::Applied { changes, opened, closed, drained } = applied;
        let drained = drained.into_iter().map(|(leaver, sessions)| DrainedBackend {
            pool: leaver.pool,
            backend: leaver.backend,
            address: leaver.address,
            sessions,
            deadline_ms: Some(leaver.drain_timeout.as_millis() as u64).filter(|ms| *ms > 0),
        });
        let drained: Vec<DrainedBackend> = drained.collect();
        let cut = drained.iter().filter(|one| one.deadline_ms.is_some()).map(|one| u64::from(one.sessions));
        let sessions_cut = cut.sum();
        AppliedConfig { changes, consequences: ConfigConsequences { opened, closed, drained, sessions_cut } }
    }
}

/// `POST /v1/reload`: reads the configuration again and applies it. 422 with every error if it cannot be used.
pub(super) async fn reload(State(admin): State<ApiContext>) -> ApiResult<Changed> {
    match admin.asker.reload().await? {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(faults) => Err(unusable(faults.into_iter().map(ApiFault::from))),
    }
}

impl From<command::ReloadFault> for ApiFault {
    fn from(fault: command::ReloadFault) -> ApiFault {
        let place = |(file, line, column): (std::sync::Arc<str>, usize, usize)| FaultPlace { file, line, column };
        ApiFault { message: fault.message, place: fault.place.map(place) }
    }
}
