//! The vocabulary of the API: what the server answers, and what `ringway ctl` and `ringway top` read. One set of types,
//! so that the two cannot differ.
//!
//! Their fields are the keys of the JSON, which `docs/api.md` describes. A field that an older ringway does not send
//! has a default; everything else must be there.
#![allow(missing_docs)]

mod past;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::order::Mode;
pub use past::{
    BackendHistory, Column, Happening, HistoryAnswer, HistoryMark, ListenerHistory, PoolHistory, Times, TotalHistory,
    Traffic,
};

/// One of a few words that ringway knows, as the name of a state.
pub type Word = Cow<'static, str>;

/// `GET /v1/status`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    pub version: Word,
    /// What the workers run on: `io_uring` or `epoll`; and why.
    pub io: Word,
    pub io_reason: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub phase: Word,
    /// Configurations applied since the start.
    pub generation: u64,
    /// Number of the table that workers are to serve by.
    pub table_generation: u64,
    pub connections: u64,
    pub workers: Vec<WorkerStatus>,
    pub limits: ProcessLimits,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProcessLimits {
    /// 0 is none.
    pub connections_max: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorkerStatus {
    pub worker: usize,
    pub is_running: bool,
    /// Number of the table that it serves by.
    pub table_generation: u64,
    pub connections: u64,
    pub accepted_total: u64,
    pub busy_seconds_total: f64,
    pub copied_bytes_total: u64,
    pub spliced_bytes_total: u64,
}

/// `GET /v1/listeners`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listeners {
    pub listeners: Vec<ListenerStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListenerStatus {
    pub name: Arc<str>,
    pub bind: Vec<String>,
    pub pool: Arc<str>,
    pub connections: u64,
    /// 0 is no limit.
    pub connections_max: u32,
    pub connections_total: u64,
    pub refused_total: u64,
    pub accept_proxy: bool,
    pub routes: Vec<RouteStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RouteStatus {
    pub sni: Vec<String>,
    pub alpn: Vec<String>,
    pub pool: Arc<str>,
}

/// `GET /v1/pools`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pools {
    pub pools: Vec<PoolStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PoolStatus {
    pub name: Arc<str>,
    pub balance: Option<Word>,
    pub listeners: Vec<Arc<str>>,
    pub check: Option<CheckSettings>,
    /// Backends that take new sessions.
    pub backends_up: usize,
    /// Backends that are fit and not of the role that is wanted.
    #[serde(default)]
    pub backends_standby: usize,
    pub connections: u64,
    pub connections_total: u64,
    pub queue_length: u64,
    pub refused_total: u64,
    /// No longer configured; it only keeps the sessions it has.
    pub removed: bool,
    pub backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckSettings {
    #[serde(rename = "type")]
    pub kind: Word,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub rise: u32,
    pub fall: u32,
    pub role: Option<Word>,
}

/// `GET /v1/pools/{pool}/backends`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Backends {
    pub backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendStatus {
    pub name: Arc<str>,
    pub address: Option<String>,
    pub state: Word,
    pub reason: String,
    pub since: String,
    pub since_ms: u64,
    pub weight: u16,
    pub backup: bool,
    pub connections: u32,
    /// 0 is no limit.
    pub connections_max: u32,
    pub connections_total: u64,
    pub connect_errors_total: u64,
    /// Sessions that it ended within a second without having sent a byte.
    #[serde(default)]
    pub hangups_total: u64,
    /// Sessions reset because it went down, was drained or removed.
    pub sessions_cut_total: u64,
    pub bytes_to_backend: u64,
    pub bytes_to_client: u64,
    pub checks: CheckCounts,
    /// What was set at run time and differs from the file.
    pub set_by_hand: Vec<Word>,
    /// Until its drain resets the sessions that are left.
    pub drain_left_ms: Option<u64>,
    /// No longer configured, or no longer at this address.
    pub removed: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CheckCounts {
    pub success_total: u64,
    pub failure_total: u64,
    /// Of servers that live and refuse the account of the check.
    #[serde(default)]
    pub refused_total: u64,
    /// That could not be made.
    #[serde(default)]
    pub unknown_total: u64,
    pub mean_ms: Option<f64>,
}

/// `GET /v1/pools/{pool}/backends/{backend}`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendDetail {
    pub pool: Arc<str>,
    #[serde(flatten)]
    pub backend: BackendStatus,
    /// The states it was in, the one it is in last.
    pub history: Vec<PastState>,
    pub check: Option<CheckSettings>,
    /// How the last check went; `None` if there was none.
    pub transcript: Option<Vec<CheckLine>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PastState {
    pub state: Word,
    pub reason: String,
    pub since: String,
    pub since_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckLine {
    pub at_ms: u64,
    pub text: String,
}

/// `GET /v1/sessions`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sessions {
    /// Oldest first.
    pub sessions: Vec<SessionStatus>,
    /// How many there are; more than are listed if there are more than the limit.
    pub matching: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionStatus {
    pub id: String,
    /// `None` once the connection has no peer any more.
    pub client: Option<String>,
    pub listener: Arc<str>,
    pub pool: Arc<str>,
    pub backend: Option<Arc<str>>,
    /// Ringway's own address of the connection to the backend.
    #[serde(default)]
    pub backend_local: Option<String>,
    pub worker: usize,
    pub state: Word,
    pub age_ms: u64,
    pub idle_ms: u64,
    pub bytes_to_backend: u64,
    pub bytes_to_client: u64,
}

/// `DELETE /v1/sessions`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Killed {
    pub killed: u64,
}

/// The body of `PATCH /v1/pools/{pool}/backends/{backend}`; what is not there stays as it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackendChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// What was changed, a line each.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Changed {
    pub changes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApiFault {
    /// One line: what, and what to do.
    pub message: String,
    /// Of a configuration: where.
    #[serde(flatten)]
    pub place: Option<FaultPlace>,
}

/// A place in a file, counted from 1.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FaultPlace {
    pub file: Arc<str>,
    pub line: usize,
    pub column: usize,
}
