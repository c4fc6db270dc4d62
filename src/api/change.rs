//! What the operator changes: backends, and the configuration as a whole.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, Fault, Place, Refusal};
use super::server::Who;
use crate::api::command;
use crate::fleet::order::{Change, Mode, SetError, Target};

/// The body of `PATCH /v1/pools/{pool}/backends/{backend}`; what is not there stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    weight: Option<u16>,
    state: Option<Mode>,
    connections_max: Option<u32>,
    deadline_ms: Option<u64>,
}

/// What was changed, a line each.
#[derive(Serialize)]
pub(super) struct Changed {
    changes: Vec<String>,
}

pub(super) async fn set(
    State(admin): State<Admin>,
    Extension(Who(by)): Extension<Who>,
    Path((pool, backend)): Path<(String, String)>,
    body: Bytes,
) -> Answer<Changed> {
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"it takes {"weight": 5, "state": "drain", "deadline_ms": 30000, "connections_max": 10}"#;
        Refusal::nonsense(format!("{error}; {example} or a part of that"))
    })?;
    let Wanted { weight, state, connections_max, deadline_ms } = wanted;
    if weight.is_none() && state.is_none() && connections_max.is_none() && deadline_ms.is_none() {
        return Err(Refusal::nonsense("nothing is to be changed: give weight, state or connections_max"));
    }
    let change = Change { weight, state, connections_max, deadline: deadline_ms.map(Duration::from_millis) };
    match admin.asker.set(Target { pool, backend }, change, by).await? {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(error @ SetError::NotFound(_)) => Err(Refusal::unknown(error.to_string())),
        Err(error @ SetError::Invalid(_)) => Err(Refusal::nonsense(error.to_string())),
    }
}

pub(super) async fn reload(State(admin): State<Admin>) -> Answer<Changed> {
    match admin.asker.reload().await? {
        Ok(changes) => Ok(Json(Changed { changes })),
        Err(faults) => {
            Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, faults.into_iter().map(Fault::from).collect()))
        }
    }
}

impl From<command::Fault> for Fault {
    fn from(fault: command::Fault) -> Fault {
        let place = |(file, line, column): (std::sync::Arc<str>, usize, usize)| Place { file, line, column };
        Fault { message: fault.message, place: fault.place.map(place) }
    }
}
