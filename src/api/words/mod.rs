//! The vocabulary of the API: what the server answers and what `ringway ctl` and `ringway top` read. Both use these
//! types, so they cannot differ.
//!
//! The fields are the keys of the JSON; `docs/api.md` shows them with examples. Rules for a change: a field that an
//! older ringway does not send has a default, everything else must be there; a field never changes its meaning; a
//! reader ignores fields that it does not know. Names say their unit (`_ms`, `_per_s`), and `_total` marks a number
//! that only grows, since the start of the process.

mod applied;
mod certificates;
mod past;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::order::Mode;
pub use applied::{AppliedConfig, ConfigConsequences, DrainedBackend};
pub use certificates::{CertificateStatus, Certificates};
pub use past::{
    BackendHistory, Column, Happening, HistoryAnswer, HistoryMark, ListenerHistory, PoolHistory, Times, TotalHistory,
    Traffic,
};

/// One of a few words that ringway uses itself, such as the name of a state.
pub type Word = Cow<'static, str>;

/// `GET /v1/status`: the process and its workers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// The version of ringway.
    pub version: Word,
    /// What the workers run on: `io_uring` or `epoll`.
    pub io: Word,
    /// Why, in one line.
    pub io_reason: String,
    /// The number of the process.
    pub pid: u32,
    /// How long the process has been running.
    pub uptime_ms: u64,
    /// `serving`, `leaving`, `draining` or `stopping`.
    pub phase: Word,
    /// How many configurations have been applied since the start.
    pub generation: u64,
    /// The number of the newest table. A worker uses it when its own number has reached it.
    pub table_generation: u64,
    /// Open client connections of all workers.
    pub connections: u64,
    /// The workers, by their numbers.
    pub workers: Vec<WorkerStatus>,
    /// The limits of the process.
    pub limits: ProcessLimits,
}

/// The limits of the process that can be reached.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProcessLimits {
    /// The limit on open client connections; 0 means none.
    pub connections_max: u64,
}

/// One worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorkerStatus {
    /// Its number, from 0.
    pub worker: usize,
    /// Whether it serves; false while it starts and after its end.
    pub is_running: bool,
    /// The number of the table that it uses.
    pub table_generation: u64,
    /// Open client connections.
    pub connections: u64,
    /// Connections that it has accepted, including those it handed over.
    pub accepted_total: u64,
    /// How long it has worked rather than waited. Divided by the uptime: how busy it was.
    pub busy_seconds_total: f64,
    /// Bytes that went through buffers.
    pub copied_bytes_total: u64,
    /// Bytes that went through pipes (splice).
    pub spliced_bytes_total: u64,
}

/// `GET /v1/listeners`: the configured listeners.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listeners {
    /// In the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
}

/// One listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListenerStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The addresses on which it listens.
    pub bind: Vec<String>,
    /// The only network interface on which they accept; empty if they accept on every one.
    #[serde(default)]
    pub interface: Arc<str>,
    /// The pool that serves clients that no route leads elsewhere; of a split its first one that gets any. Empty if
    /// they are refused.
    pub pool: Arc<str>,
    /// The pools among which these clients are divided; empty if `pool` serves all of them.
    #[serde(default)]
    pub split: Vec<ShareStatus>,
    /// Open client connections.
    pub connections: u64,
    /// The limit on open client connections; 0 means none.
    pub connections_max: u32,
    /// Connections that were accepted.
    pub connections_total: u64,
    /// Connections that were refused, for all reasons together.
    pub refused_total: u64,
    /// Whether clients must send a PROXY header.
    pub accept_proxy: bool,
    /// Its routes, in the order in which they are tried.
    pub routes: Vec<RouteStatus>,
}

/// A route: the clients that it is for, and the pool that serves them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RouteStatus {
    /// Server names of TLS, `*.example.org` among them; empty for any.
    pub sni: Vec<String>,
    /// Protocols of ALPN; empty for any.
    pub alpn: Vec<String>,
    /// The pool; of a split its first one that gets any.
    pub pool: Arc<str>,
    /// The pools among which these clients are divided; empty if `pool` serves all of them.
    #[serde(default)]
    pub split: Vec<ShareStatus>,
}

/// A pool that gets a share of new sessions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ShareStatus {
    /// The pool.
    pub pool: Arc<str>,
    /// Its share: so many of as many as all weights of the split together; with 0 it gets none.
    pub weight: u16,
}

/// `GET /v1/pools`: all pools, including removed ones that still have sessions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pools {
    /// In the order of the configuration.
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The balancing policy; `None` if the pool was removed.
    pub balance: Option<Word>,
    /// The listeners that lead to it.
    pub listeners: Vec<Arc<str>>,
    /// Its shares of their clients, where they divide those that no route leads elsewhere.
    #[serde(default)]
    pub shares: Vec<ListenerShare>,
    /// How its backends are checked; `None` without checks.
    pub check: Option<CheckSettings>,
    /// How many backends take new sessions.
    pub backends_up: usize,
    /// How many backends are healthy but do not have the wanted role.
    #[serde(default)]
    pub backends_standby: usize,
    /// Open sessions, over all backends.
    pub connections: u64,
    /// Sessions that were connected.
    pub connections_total: u64,
    /// Clients that wait for a backend.
    pub queue_length: u64,
    /// Clients that got no backend: none was usable, or the queue was full.
    pub refused_total: u64,
    /// The level of the backups that serve new sessions; 0 while others do, or none does.
    #[serde(default)]
    pub backup_level: u16,
    /// The pool that serves new sessions while fewer than `up_min` backends take them; `None` if there is none.
    #[serde(default)]
    pub fallback: Option<Arc<str>>,
    /// Fewer backends that take new sessions count as none.
    #[serde(default)]
    pub up_min: u32,
    /// How long a client keeps its backend after its last session; 0 means that none does.
    #[serde(default)]
    pub sticky_ms: u64,
    /// Clients that lost their backend before that time, because too many others came.
    #[serde(default)]
    pub sticky_evictions_total: u64,
    /// The pool that serves its new sessions now; `None` if it does so itself.
    #[serde(default)]
    pub falls_back_to: Option<Arc<str>>,
    /// Where more backends are found; `None` if nowhere.
    #[serde(default)]
    pub discovery: Option<DiscoveryStatus>,
    /// It is no longer configured, and only keeps its last sessions.
    pub removed: bool,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
}

/// The source of a pool's backends.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DiscoveryStatus {
    /// The `type` of the source.
    #[serde(rename = "type")]
    pub kind: Word,
    /// What is asked, and where.
    pub place: String,
    /// Whether it can be asked now, and all that it says can be read.
    pub up: bool,
    /// Why not; `None` if it is up, and before it was asked.
    pub trouble: Option<String>,
    /// When it was heard last, as UTC; `None` before it was.
    pub confirmed: Option<String>,
    /// How long ago that was.
    pub confirmed_ms: Option<u64>,
    /// How many backends it has found.
    pub backends: usize,
    /// Its last answer had no backend, and those from before stay.
    pub keeps_empty: bool,
}

/// The share of a pool in the clients of a listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListenerShare {
    /// The listener.
    pub listener: Arc<str>,
    /// The weight of the pool in its split.
    pub weight: u16,
    /// The weights of all pools of the split together.
    pub of: u32,
}

/// How backends are checked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckSettings {
    /// The kind of check, such as `tcp` or `postgresql`.
    #[serde(rename = "type")]
    pub kind: Word,
    /// From one check to the next.
    pub interval_ms: u64,
    /// How long a check can take.
    pub timeout_ms: u64,
    /// Successful checks in a row until a backend is up.
    pub rise: u32,
    /// Failed checks in a row until a backend is down.
    pub fall: u32,
    /// The wanted role (`primary` or `replica`); `None` for any.
    pub role: Option<Word>,
}

/// `GET /v1/pools/{pool}/backends`: the backends of one pool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Backends {
    /// In the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// One backend.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendStatus {
    /// Its name; of a host name with several addresses each has one of its own.
    pub name: Arc<str>,
    /// Where it is; `None` while its host name has no address.
    pub address: Option<String>,
    /// Where it comes from: `config`, `api`, or the `type` of the source that has found it.
    #[serde(default = "config")]
    pub origin: Word,
    /// How long ago its source was heard; `None` if no source has found it.
    #[serde(default)]
    pub confirmed_ms: Option<u64>,
    /// `up`, `standby`, `down`, `ejected`, `draining` or `maintenance`.
    pub state: Word,
    /// Why it is in this state, one line.
    pub reason: String,
    /// Since when, as UTC.
    pub since: String,
    /// For how long.
    pub since_ms: u64,
    /// Its weight, 0 to 256; with 0 it takes no new sessions.
    pub weight: u16,
    /// Whether it serves only if no other backend does.
    pub backup: bool,
    /// Its level among the backups: it serves only if none of a lower level does. 0 if it is no backup.
    #[serde(default)]
    pub backup_level: u16,
    /// Open sessions.
    pub connections: u32,
    /// The limit on open sessions; 0 means none.
    pub connections_max: u32,
    /// Sessions that were connected.
    pub connections_total: u64,
    /// Attempts to connect that failed.
    pub connect_errors_total: u64,
    /// Sessions that it ended within a second without sending a byte.
    #[serde(default)]
    pub hangups_total: u64,
    /// Sessions that were reset because it went down, was drained or removed.
    pub sessions_cut_total: u64,
    /// Bytes from clients to it.
    pub bytes_to_backend: u64,
    /// Bytes from it to clients.
    pub bytes_to_client: u64,
    /// How often it was checked.
    pub checks: CheckCounts,
    /// The keys that were set at run time and differ from the file.
    pub set_by_hand: Vec<Word>,
    /// Until its drain resets the remaining sessions; `None` without a drain or without a deadline.
    pub drain_left_ms: Option<u64>,
    /// It is no longer configured, or no longer has this address.
    pub removed: bool,
}

/// The origin of the backends of a ringway that knows no other.
fn config() -> Word {
    "config".into()
}

/// How often a backend was checked, by result.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CheckCounts {
    /// Checks that succeeded.
    pub success_total: u64,
    /// Checks that failed.
    pub failure_total: u64,
    /// Checks of a server that lives but refuses the account of the check.
    #[serde(default)]
    pub refused_total: u64,
    /// Checks that ringway could not make itself, for example without a free descriptor.
    #[serde(default)]
    pub unknown_total: u64,
    /// How long a check took on average; `None` before the first one.
    pub mean_ms: Option<f64>,
}

/// `GET /v1/pools/{pool}/backends/{backend}`: one backend with its past.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendDetail {
    /// The pool.
    pub pool: Arc<str>,
    /// What a list says of it too.
    #[serde(flatten)]
    pub backend: BackendStatus,
    /// The last states it was in, the current one last.
    pub history: Vec<PastState>,
    /// How it is checked; `None` without checks.
    pub check: Option<CheckSettings>,
    /// The steps of its last check; `None` before the first one.
    pub transcript: Option<Vec<CheckLine>>,
}

/// A state that a backend was in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PastState {
    /// The state.
    pub state: Word,
    /// Why it was in this state.
    pub reason: String,
    /// When it began, as UTC.
    pub since: String,
    /// How long ago it began.
    pub since_ms: u64,
}

/// One step of a check.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CheckLine {
    /// When it happened, counted from the beginning of the check.
    pub at_ms: u64,
    /// What happened.
    pub text: String,
}

/// `GET /v1/sessions`: the sessions that match.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sessions {
    /// Oldest first.
    pub sessions: Vec<SessionStatus>,
    /// How many sessions match; more than are listed if the limit was reached.
    pub matching: u64,
}

/// One session.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionStatus {
    /// Its id, for `DELETE /v1/sessions/{id}`.
    pub id: String,
    /// Address of the client, or `unix:` and a path; `None` if its connection has no peer any more.
    pub client: Option<String>,
    /// The listener that it came through.
    pub listener: Arc<str>,
    /// The pool that serves it.
    pub pool: Arc<str>,
    /// The backend; `None` before one is chosen.
    pub backend: Option<Arc<str>>,
    /// The address from which ringway connected to the backend.
    #[serde(default)]
    pub backend_local: Option<String>,
    /// The worker that serves it.
    pub worker: usize,
    /// `preread`, `queued`, `connecting`, `open` or `closing`.
    pub state: Word,
    /// Since it was accepted.
    pub age_ms: u64,
    /// Since bytes moved last.
    pub idle_ms: u64,
    /// Bytes from the client to the backend.
    pub bytes_to_backend: u64,
    /// Bytes from the backend to the client.
    pub bytes_to_client: u64,
}

/// The answer of both `DELETE` requests.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Killed {
    /// How many sessions were reset.
    pub killed: u64,
}

/// The body of `PATCH /v1/pools/{pool}/backends/{backend}`. What it does not contain stays as it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackendChange {
    /// 0 to 256; with 0 it takes no new sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Whether it is used, drained or in maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Mode>,
    /// The limit on open sessions; 0 means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Only beside `"state": "drain"`: when the remaining sessions are reset. 0 means never; without it the pool's
    /// `drain_timeout` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The answer of a change.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Changed {
    /// One line per change; empty if nothing had to be changed.
    pub changes: Vec<String>,
}

/// One thing that is wrong with a request or a configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApiFault {
    /// One line: what is wrong, and what to do.
    pub message: String,
    /// Where in a file, if it is in one.
    #[serde(flatten)]
    pub place: Option<FaultPlace>,
}

/// A place in a file, counted from 1.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FaultPlace {
    /// Its path.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}
