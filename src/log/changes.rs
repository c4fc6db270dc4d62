//! What the log says of changes that the fleet has decided: one line each, with the reason.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::fleet::{Notice, Transition};
use crate::health::State;
use crate::snapshot::table::Table;

/// Logs a change of state, one line per backend: its new state, the reason, and how long it had the old one.
pub(crate) fn log_transition(transition: &Transition) {
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

/// Logs which pools fall back, and which no longer do. At the start there is no table before.
pub(crate) fn log_fallbacks(before: Option<&Table>, after: &Table) {
    for pool in after.pools.iter().flatten() {
        let was = before.and_then(|before| before.pool(pool.id)?.falls_to);
        let name = &pool.name;
        match pool.falls_to.and_then(|fallback| after.pool(fallback)) {
            _ if was == pool.falls_to => {}
            Some(fallback) => {
                warn!(pool = %name, fallback = %fallback.name, "too few backends take sessions: the fallback serves");
            }
            None => info!(pool = %name, "enough backends take sessions again: the fallback no longer serves"),
        }
    }
}

/// Logs something that is no change of state but that the operator must know, and what it means.
pub(crate) fn log_notice(notice: &Notice) {
    match notice {
        Notice::Rivals { pool, backends: [one, other], used } => {
            let used = used.as_deref().unwrap_or("neither");
            error!(%pool, "two backends say that they are the primary: {one} and {other}; used is {used}; stop one of \
                           them, or make it a replica");
        }
        Notice::Stale { pool, begins: true, .. } => {
            warn!(%pool, "no replica is within `lag_max`: the least stale ones serve");
        }
        Notice::Stale { pool, begins: false, .. } => info!(%pool, "stale replicas no longer serve"),
        Notice::MainUp { pool, backend } => {
            info!(%pool, %backend, "takes sessions again: those of the backups are cut (on_main_up)");
        }
        Notice::TooMany { pool, backend, left_out } => {
            warn!(%pool, %backend, left_out, "the name of this backend has more addresses than ringway uses: the \
                                              others get no sessions");
        }
    }
    debug!(?notice, "noticed");
}
