//! What a configuration means. A value of these types cannot be wrong: `resolve` is the only maker.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Address;

/// A whole configuration. Listeners and pools keep the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[listeners.*]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[pools.*]`; every listener's pool is here.
    pub pools: Vec<Pool>,
}

/// `[process]`
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `None`: one a CPU of the affinity mask.
    pub workers: Option<NonZeroUsize>,
    /// Pin each worker to its CPU.
    pub pin_workers: bool,
    /// `None`: from the descriptor limit.
    pub connections_max: Option<u64>,
    /// How long TERM waits for sessions; zero: not at all.
    pub shutdown_grace: Duration,
    /// Spin this long before a worker sleeps; zero: sleep at once.
    pub busy_poll: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What is worth a line.
    pub level: LogLevel,
    /// JSON lines rather than text.
    pub json: bool,
    /// Standard output rather than standard error.
    pub to_stdout: bool,
}

/// `log.level`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where `/metrics`, `/live` and `/ready` are served.
    pub listen: Option<std::net::SocketAddr>,
}

/// `[listeners.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// NAME.
    pub name: Arc<str>,
    /// Each address, port ranges written out; at least one, no two the same in a configuration.
    pub binds: Vec<Address>,
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Permission bits of unix sockets.
    pub unix_mode: u32,
    /// Accept queue of each socket.
    pub backlog: u32,
}

/// `[pools.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// NAME.
    pub name: Arc<str>,
    /// The policy.
    pub balance: Balance,
    /// What the limits of its sessions are.
    pub limits: Limits,
    /// Reset the sessions of a backend that goes down.
    pub close_on_backend_down: bool,
    /// Health check; `None` is `type = "off"`.
    pub check: Option<Check>,
    /// In file order; names are unique; at least one.
    pub backends: Vec<Backend>,
}

/// `balance` with what belongs to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest open sessions by weight.
    LeastConn,
    /// Maglev, by this key.
    ConsistentHash(HashKey),
}

/// `hash_key`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum HashKey {
    SourceIp,
    SourceIpPort,
}

/// What a session captures when it is admitted. Zero turns a limit off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// For each attempt.
    pub connect_timeout: Duration,
    /// Attempts in all, at least 1.
    pub connect_attempts: u32,
    /// No byte either way.
    pub idle_timeout: Duration,
    /// No byte, after one side's FIN.
    pub half_close_timeout: Duration,
    /// Age, give or take 10 %.
    pub lifetime_max: Duration,
    /// Idle time before TCP keepalive probes.
    pub keepalive: Duration,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Duration,
}

/// `[pools.NAME.check]`: connects, and that is all, so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Between checks.
    pub interval: Duration,
    /// While the state is changing.
    pub fast_interval: Duration,
    /// While it is down.
    pub down_interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Successes in a row that bring it up, at least 1.
    pub rise: u32,
    /// Failures in a row that take it down, at least 1.
    pub fall: u32,
    /// Whether it counts as up before the first result.
    pub initial_up: bool,
    /// Port to check; `None` is the backend's own.
    pub port: Option<u16>,
}

/// `[[pools.NAME.backends]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique in its pool.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// 0 to 256; 0 takes no new sessions.
    pub weight: u16,
    /// Taken out by the operator.
    pub disabled: bool,
}

/// Where a configuration came from, for messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// `ringway run --listen … --backend …`.
    CommandLine,
}
