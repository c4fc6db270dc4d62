//! What is likely behind a check that fails: a server that expects TLS or a PROXY header tells that in its own way, or
//! not at all.
//!
//! The guess is added to the reason of the failure, for the person who reads it at 3 a.m. It never changes the result.

use super::budget::Budget;
use super::{Ask, CheckFailure};
use crate::config::model::CheckKind;

/// The beginning of a TLS alert: a record of type 21, version 3.
const TLS_ALERT: [u8; 2] = [21, 3];

/// The failure, with the likely cause where there is one.
pub(super) fn with_the_likely(failure: CheckFailure, ask: &Ask, budget: &Budget) -> CheckFailure {
    let has_spoken = matches!(failure, CheckFailure::Broken { .. } | CheckFailure::Answer(_));
    match likely(ask, &budget.first(), &failure).filter(|_| has_spoken) {
        Some(cause) => CheckFailure::Likely { failure: Box::new(failure), cause },
        None => failure,
    }
}

/// What the first bytes of the server, or their absence, suggest; `None` if they suggest nothing.
fn likely(ask: &Ask, first: &[u8], failure: &CheckFailure) -> Option<&'static str> {
    let has_header = ask.opening.header.is_some();
    let is_clear = !ask.tls.is_required();
    if is_clear && first.starts_with(&TLS_ALERT) {
        return Some("it seems to expect TLS: `check.tls = \"require\"` speaks it");
    }
    let is_bad_request = matches!(ask.kind, CheckKind::Http(_))
        && matches!(failure, CheckFailure::Answer(text) if text.contains(" was answered 400 "));
    match (first.is_empty() || is_bad_request, has_header) {
        (false, _) => None,
        (true, true) => {
            Some("it may expect no PROXY header (`check.send_proxy = \"off\"` leaves it out of checks), or expect TLS")
        }
        (true, false) => {
            Some("it may expect a PROXY header (set `send_proxy` of the pool, or `check.send_proxy`), or expect TLS")
        }
    }
}
