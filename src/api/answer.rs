//! The shapes that every handler of the API answers in: JSON on success, and a refusal otherwise.
//!
//! A refusal has a status and one or more faults, as `{"errors": [{"message": "…"}]}`. Each message is one line that
//! says what is wrong with the request, so a handler never answers with a bare status.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::words::ApiFault;

/// The result of a handler: 200 with JSON, or a refusal.
pub(crate) type ApiResult<T> = Result<Json<T>, Refusal>;

/// A request that was not carried out: with which status, and why.
#[derive(Debug)]
pub struct Refusal {
    /// With which status it is answered.
    status: StatusCode,
    /// What is wrong; at least one.
    faults: Vec<ApiFault>,
}

impl Refusal {
    /// 400: a parameter or the body of the request cannot be understood.
    pub(crate) fn nonsense(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: the request names something that does not exist.
    pub(crate) fn unknown(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }

    /// 503: ringway cannot do it now, but the same request may succeed later.
    pub(crate) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A refusal with this status and one message.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, faults: vec![ApiFault { message: message.into(), place: None }] }
    }

    /// A refusal with several messages, such as all errors of a configuration.
    pub(crate) fn of(status: StatusCode, faults: Vec<ApiFault>) -> Refusal {
        Refusal { status, faults }
    }
}

/// The parameters of a request (the part after `?`).
///
/// # Errors
/// One of them is unknown or cannot be read; the message names it.
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
