//! `PUT /v1/config`: what another configuration changes, and what follows from it for sockets and sessions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The answer of another configuration: what has changed, and what follows from it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AppliedConfig {
    /// One line per change; empty if nothing changes.
    pub changes: Vec<String>,
    /// What follows for sockets and sessions.
    pub consequences: ConfigConsequences,
}

/// What follows from another configuration, at the moment of the request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConfigConsequences {
    /// Addresses that are listened on from then on, a line each.
    pub opened: Vec<String>,
    /// Addresses that are not listened on any more, a line each. Their open sessions go on.
    pub closed: Vec<String>,
    /// Backends that drain.
    pub drained: Vec<DrainedBackend>,
    /// Open sessions that will be cut, unless they end before.
    pub sessions_cut: u64,
}

/// A backend that drains.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DrainedBackend {
    /// The pool.
    pub pool: Arc<str>,
    /// Its name.
    pub backend: Arc<str>,
    /// Where it is.
    pub address: String,
    /// Its open sessions.
    pub sessions: u32,
    /// After this time they are cut; `None` if they can go on until they end.
    pub deadline_ms: Option<u64>,
}
