//! What the API answers, as far as it is shown.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub phase: String,
    pub generation: u64,
    pub table_generation: u64,
    pub connections: u64,
    pub workers: Vec<Worker>,
    pub limits: Limits,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Limits {
    pub connections_max: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Worker {
    pub worker: usize,
    pub is_running: bool,
    pub table_generation: u64,
    pub connections: u64,
    pub accepted_total: u64,
    pub busy_seconds_total: f64,
    pub copied_bytes_total: u64,
    pub spliced_bytes_total: u64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Listeners {
    pub listeners: Vec<Listener>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Listener {
    pub name: String,
    pub bind: Vec<String>,
}

/// As much of it as is drawn.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct History {
    /// Number of the newest second.
    pub second: u64,
    pub total: Total,
    pub marks: Vec<Mark>,
}

/// A value per second, the newest last.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Total {
    pub sessions_per_s: Vec<f64>,
    pub bytes_per_s: Vec<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Mark {
    pub second: u64,
    /// The state that a backend has since; `None` where a configuration was applied.
    pub to: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Pools {
    pub pools: Vec<Pool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Pool {
    pub name: String,
    pub balance: Option<String>,
    pub listeners: Vec<String>,
    pub backends_up: usize,
    pub connections: u64,
    pub connections_total: u64,
    pub queue_length: u64,
    pub refused_total: u64,
    pub removed: bool,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Backend {
    pub name: String,
    pub address: Option<String>,
    pub state: String,
    pub reason: String,
    pub since_ms: u64,
    pub weight: u16,
    pub backup: bool,
    pub connections: u32,
    pub connections_max: u32,
    pub connections_total: u64,
    pub connect_errors_total: u64,
    pub sessions_cut_total: u64,
    pub bytes_to_backend: u64,
    pub bytes_to_client: u64,
    pub checks: Checks,
    pub set_by_hand: Vec<String>,
    pub drain_left_ms: Option<u64>,
    pub removed: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Checks {
    pub success_total: u64,
    pub failure_total: u64,
    pub mean_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Detail {
    pub pool: String,
    #[serde(flatten)]
    pub backend: Backend,
    pub history: Vec<Past>,
    pub check: Option<Check>,
    pub transcript: Option<Vec<Line>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Check {
    #[serde(rename = "type")]
    pub kind: String,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub rise: u32,
    pub fall: u32,
    pub role: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Past {
    pub state: String,
    pub reason: String,
    pub since: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Line {
    pub at_ms: u64,
    pub text: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Sessions {
    pub sessions: Vec<Session>,
    pub matching: u64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Session {
    pub id: String,
    pub client: Option<String>,
    pub listener: String,
    pub pool: String,
    pub backend: Option<String>,
    /// An older ringway does not say it.
    #[serde(default)]
    pub backend_local: Option<String>,
    pub worker: usize,
    pub state: String,
    pub age_ms: u64,
    pub idle_ms: u64,
    pub bytes_to_backend: u64,
    pub bytes_to_client: u64,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Changed {
    pub changes: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Killed {
    pub killed: u64,
}
