//! What a configuration means. A value of these types cannot be wrong: `resolve` is the only maker.

mod check;
mod listener;
mod names;

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::routes::NamePattern;
pub use crate::balance::{HashKey, Policy};
use crate::base::address::Address;
pub use crate::discover::dns::Dns;
pub use crate::health::Role;
pub use crate::health::ask::{CheckKind, Login, Pattern, Step};
use crate::kernel::driver::Driver;
pub use crate::wire::proxy::Version;
pub use check::{Check, CheckHeader};
pub use listener::{AcceptProxy, Listener, Preread};
pub use names::{AddressFamily, Hold};

/// A whole configuration. Listeners and pools keep the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[access_log]`; `None` is off.
    pub access_log: Option<AccessLog>,
    /// `[admin]`
    pub admin: Admin,
    /// `[dns]`
    pub dns: Dns,
    /// `[listeners.*]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[pools.*]`; every listener's pool is here.
    pub pools: Vec<Pool>,
}

/// `[process]`
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// `None`: one a CPU of the affinity mask, but no more than the CPU quota of the control group.
    pub workers: Option<NonZeroUsize>,
    /// `None`: io_uring where this process may use it, else epoll.
    pub io: Option<Driver>,
    /// Pin each worker to its CPU.
    pub pin_workers: bool,
    /// `None`: from the descriptor limit and the memory.
    pub connections_max: Option<u64>,
    /// How long new connections are served after TERM, while `/ready` says that ringway is leaving.
    pub shutdown_delay: Duration,
    /// How long TERM waits for sessions; zero: not at all.
    pub shutdown_grace: Duration,
    /// Spin this long before a worker sleeps; zero: sleep at once.
    pub busy_poll: Duration,
    /// Bytes of receive buffers of each worker; 0: as many as there may be, or the memory allows.
    pub receive_buffers_max: u32,
    /// Whom to become once the listeners are bound; `None`: stay.
    pub user: Option<String>,
    /// The group to become then; `None`: stay.
    pub group: Option<String>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What is worth a line.
    pub level: LogLevel,
    /// JSON lines rather than text.
    pub json: bool,
    /// Where it goes.
    pub output: Output,
}

/// Where lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to that file.
    File(PathBuf),
}

/// `[access_log]`
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where it goes.
    pub output: Output,
    /// What a line looks like.
    pub format: AccessFormat,
}

/// `access_log.format`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessFormat {
    /// One object a line.
    Json,
    /// HAProxy's text form.
    Tcplog,
}

impl AccessFormat {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            AccessFormat::Json => "json",
            AccessFormat::Tcplog => "tcplog",
        }
    }
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

impl LogLevel {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Unix socket with the whole API.
    pub socket: Option<PathBuf>,
    /// Its permission bits.
    pub socket_mode: u32,
    /// Where metrics and what can be read of the API are served.
    pub listen: Option<std::net::SocketAddr>,
    /// Names by which that may be asked for the API and the page; addresses and localhost always.
    pub hosts: Vec<NamePattern>,
}

/// `[pools.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// NAME.
    pub name: Arc<str>,
    /// The policy.
    pub balance: Policy,
    /// What the limits of its sessions are.
    pub limits: Limits,
    /// Clients that wait.
    pub queue: Queue,
    /// Reset the sessions of a backend that goes down.
    pub close_on_backend_down: bool,
    /// How long sessions of a backend that is removed or drained may live on; zero: without end.
    pub drain_timeout: Duration,
    /// While no backend is up, all of them are used, and not none. Never with a check that wants a primary.
    pub use_all_when_down: bool,
    /// From zero to its whole weight, after a backend came up; zero: at once.
    pub slow_start: Duration,
    /// Which addresses of host names are used.
    pub address_family: AddressFamily,
    /// How long addresses of host names stay that are not answered any more.
    pub hold: Hold,
    /// How its backends are connected to.
    pub dial: Dial,
    /// Health check; `None` is `type = "off"`.
    pub check: Option<Check>,
    /// What failed connects of real traffic do; `None` is `failures = 0`.
    pub ejection: Option<Ejection>,
    /// In file order; names are unique; at least one.
    pub backends: Vec<Backend>,
}

impl Pool {
    /// Whether its sessions are for a primary only.
    pub fn wants_primary(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.role == Some(Role::Primary))
    }
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
    /// No byte, while the backend or the process drains.
    pub drain_idle: Duration,
    /// Idle time before TCP keepalive probes.
    pub keepalive: Duration,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Duration,
    /// SO_RCVBUF of both sides, in bytes; zero: the kernel's own.
    pub receive_buffer: u32,
    /// TCP_NOTSENT_LOWAT of both sides, in bytes; zero: the kernel's own.
    pub unsent_max: u32,
}

/// What a connection to a backend begins with, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dial {
    /// A PROXY header of that version goes first.
    pub send_proxy: Option<Version>,
    /// The local address.
    pub source: LocalAddress,
}

/// `source`
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LocalAddress {
    /// The kernel chooses.
    #[default]
    Any,
    /// One of these, of the backend's family, in turn; not empty.
    Addresses(Arc<[IpAddr]>),
    /// The client's own (TPROXY).
    Client,
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Any => Ok(()),
            LocalAddress::Client => f.write_str("client"),
            LocalAddress::Addresses(all) => {
                f.write_str(&all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Clients of a pool that wait, because every usable backend has as many connections as it may have, or because it is
/// not known who the primary is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Queue {
    /// How many; 0 is nobody.
    pub max: u32,
    /// How long; zero: without end.
    pub timeout: Duration,
}

/// `[pools.NAME.ejection]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// Failed connects within the window; 0: they eject nobody.
    pub failures: u32,
    /// Sessions within the window that the backend ended within a second without having sent a byte; 0: likewise.
    /// Not both are 0.
    pub hangups: u32,
    /// How far back failures count.
    pub window: Duration,
    /// How long the first time; doubled each time, up to five minutes.
    pub duration: Duration,
    /// How many of the pool's backends may be ejected at once.
    pub percent_max: u32,
}

/// Where a backend is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// Known.
    Address(Address),
    /// To be looked up.
    Host {
        /// As it is written.
        name: Arc<str>,
        /// The port on each of its addresses.
        port: u16,
    },
}

impl Target {
    /// The address, where it needs no looking up.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Target::Address(address) => Some(address),
            Target::Host { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// `[[pools.NAME.backends]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique in its pool.
    pub name: Arc<str>,
    /// Where it listens.
    pub target: Target,
    /// Used only while no other is up, or after every other failed to connect in a session.
    pub backup: bool,
    /// Sessions it takes at once; `None`: however many there are.
    pub connections_max: Option<NonZeroU32>,
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
