//! The handlers that change something: a backend at run time, and the whole configuration by a reload.
//!
//! Both only pass the change on to control ([`Asker`](super::command::Asker)) and wait: the answer comes when every
//! worker serves by the new table, or after some seconds if one does not. They are reached through `admin.socket`
//! alone.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::ApiContext;
use super::answer::{ApiResult, Refusal};
use super::server::Asking;
use super::words::{ApiFault, BackendChange, Changed, FaultPlace};
use crate::api::command;
use crate::fleet::order::{BackendName, Change, SetError};

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
    match admin.asker.set(BackendName { pool, backend }, change, by).await? {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(error @ SetError::NotFound(_)) => Err(Refusal::unknown(error.to_string())),
        Err(error @ SetError::Invalid(_)) => Err(Refusal::nonsense(error.to_string())),
    }
}

/// `POST /v1/reload`: reads the configuration again and applies it. 422 with every error if it cannot be used.
pub(super) async fn reload(State(admin): State<ApiContext>) -> ApiResult<Changed> {
    match admin.asker.reload().await? {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(faults) => {
            Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, faults.into_iter().map(ApiFault::from).collect()))
        }
    }
}

impl From<command::ReloadFault> for ApiFault {
    fn from(fault: command::ReloadFault) -> ApiFault {
        let place = |(file, line, column): (std::sync::Arc<str>, usize, usize)| FaultPlace { file, line, column };
        ApiFault { message: fault.message, place: fault.place.map(place) }
    }
}
