//! Answers in JSON, and refusals that say what is wrong.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::words::ApiFault;

/// What a handler comes to.
pub(crate) type ApiResult<T> = Result<Json<T>, Refusal>;

/// A request that was not carried out, and why.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    faults: Vec<ApiFault>,
}

impl Refusal {
    /// The request makes no sense.
    pub(crate) fn nonsense(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// What it names is not there.
    pub(crate) fn unknown(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    /// ringway cannot do it now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, faults: vec![ApiFault { message: message.into(), place: None }] }
    }

    /// For several reasons.
    pub(crate) fn of(status: StatusCode, faults: Vec<ApiFault>) -> Refusal {
        Refusal { status, faults }
    }
}

/// What stands behind the `?` of a request; a refusal if it is not understood.
pub(super) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    match query {
        Ok(Query(asked)) => Ok(asked),
        Err(error) => Err(Refusal::nonsense(error.body_text())),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            errors: Vec<ApiFault>,
        }
        (self.status, Json(Body { errors: self.faults })).into_response()
    }
}
