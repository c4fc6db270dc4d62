//! What the log and the plots say of changes that the fleet has decided.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::fleet::{Notice, Transition};
use crate::health::State;
use crate::stats::history::HistoryEvent;

/// A change of state as a mark on the plots.
pub(super) fn event_of(transition: &Transition) -> HistoryEvent {
    HistoryEvent::State {
        pool: transition.pool.clone(),
        backend: transition.backend.clone(),
        from: transition.from.name(),
        to: transition.to.state.name(),
        reason: transition.to.reason.to_string(),
    }
}

/// Logs a change of state, one line per backend: its new state, the reason, and how long it had the old one.
pub(super) fn log_transition(transition: &Transition) {
    let Transition { pool, backend, from, to, lasted_ns, .. } = transition;
    let lasted = humantime::format_duration(Duration::from_millis(lasted_ns / 1_000_000));
    let (reason, state) = (&to.reason, to.state);
    match state {
        State::Up => info!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is up"),
        State::Down | State::Ejected => {
            warn!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is {state}");
        }
        _ => info!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is {state}"),
    }
}

/// Logs something that is no change of state but that the operator must know, and what it means.
pub(super) fn log_notice(notice: &Notice) {
    match notice {
        Notice::Rivals { pool, backends: [one, other], used } => {
            let used = used.as_deref().unwrap_or("neither");
            error!(%pool, "two backends say that they are the primary: {one} and {other}; used is {used}");
        }
        Notice::Stale { pool, begins: true, .. } => {
            warn!(%pool, "no replica is within `lag_max`: the least stale ones serve");
        }
        Notice::Stale { pool, begins: false, .. } => info!(%pool, "stale replicas no longer serve"),
        Notice::TooMany { pool, backend, left_out } => {
            warn!(%pool, %backend, left_out, "the name of this backend has more addresses than ringway uses");
        }
    }
    debug!(?notice, "noticed");
}
