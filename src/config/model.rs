//! What a configuration means. A value of these types cannot be wrong, because `resolve` alone makes them.
//!
//! Field docs name the key by its table; `conf/reference.toml` explains the keys to users. Units are in the type
//! (`Duration`) or in the doc. "`None`" stands for what a file writes as `0`, `""` or `"off"`, unless the doc says
//! something else.

mod chains;
mod check;
mod listener;
mod names;
mod target;
mod tls;

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::routes::NamePattern;
pub use crate::balance::{HashKey, Policy};
pub use crate::discover::dns::Dns;
pub use crate::discover::settings::Discover;
pub use crate::health::Role;
pub use crate::health::ask::{CheckKind, CheckTls, Galera, HttpAsk, Login, Pattern, Step, Trust};
use crate::kernel::driver::Driver;
pub use crate::wire::proxy::Version;
pub use chains::Chains;
pub use check::{Check, CheckAddress, CheckHeader};
pub use listener::{AcceptProxy, Lead, Listener, NetworkFile, Preread, SplitShare};
pub use names::{AddressFamily, Hold};
pub use target::{Target, at_client_port, shifted};
pub use tls::{CertificatePair, ClientAuth, ListenerTls, Loaded, PoolTls, Starttls, TlsVersion};

/// A whole configuration. Listeners and pools keep the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[access_log]`; `None` means that there is none.
    pub access_log: Option<AccessLog>,
    /// `[admin]`
    pub admin: Admin,
    /// `[dns]`
    pub dns: Dns,
    /// `[listeners.*]`; at least one.
    pub listeners: Vec<Listener>,
    /// `[pools.*]`; the pool of every listener is among them.
    pub pools: Vec<Pool>,
}

/// `[process]`: what holds for the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// How many workers; `None` means one per CPU of the affinity mask, but no more than the CPU quota of the control
    /// group.
    pub workers: Option<NonZeroUsize>,
    /// What the workers run on; `None` means io_uring where this process may use it, and else epoll.
    pub io: Option<Driver>,
    /// Whether each worker stays on its own CPU, where there is one for each and none is left.
    pub pin_workers: bool,
    /// The limit on open client connections; `None` means as many as descriptors and memory allow.
    pub connections_max: Option<u64>,
    /// How long new connections are still served after SIGTERM, while `/ready` says that ringway is leaving.
    pub shutdown_delay: Duration,
    /// How long open sessions can go on after that; zero ends them immediately.
    pub shutdown_grace: Duration,
    /// How long a worker spins before it sleeps; zero means that it sleeps immediately.
    pub busy_poll: Duration,
    /// Bytes of receive buffers per worker; 0 means as many as the numbering and the memory allow.
    pub receive_buffers_max: u32,
    /// The user to become when the listeners are bound; `None` means no change.
    pub user: Option<String>,
    /// The group to become then; `None` means no change.
    pub group: Option<String>,
    /// Where what the API set, added and removed is kept over a restart; `None` means that it is not.
    pub state_file: Option<PathBuf>,
}

/// `[log]`: ringway's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The least severity that is logged.
    pub level: LogLevel,
    /// JSON lines instead of text.
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
    /// This file, appended to.
    File(PathBuf),
    /// This syslog server, a message for each line.
    Syslog(SyslogServer),
}

/// Where a syslog server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SyslogServer {
    /// At this socket of datagrams, as `/dev/log` is.
    Unix(PathBuf),
    /// There, over UDP (RFC 5426).
    Udp(std::net::SocketAddr),
}

impl fmt::Display for SyslogServer {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyslogServer::Unix(path) => write!(f, "syslog:{}", path.display()),
            SyslogServer::Udp(address) => write!(f, "syslog:udp:{address}"),
        }
    }
}

/// `[access_log]`: one line per session.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where it goes.
    pub output: Output,
    /// What a line looks like.
    pub format: AccessFormat,
    /// Whether sessions are left out in which the client sent nothing and nothing went wrong.
    pub skip_empty: bool,
}

/// `access_log.format`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessFormat {
    /// One JSON object per line.
    Json,
    /// The text form of HAProxy's `option tcplog`.
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
pub enum LogLevel {
    /// Something does not work, and an operator must act.
    Error,
    /// Something is wrong, and ringway goes on.
    Warn,
    /// What an operator wants to see: changes of state, reloads, signals.
    Info,
    /// Also every check and every table.
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

/// `[admin]`: the API and the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The unix socket that serves the whole API.
    pub socket: Option<PathBuf>,
    /// The permission bits of its file.
    pub socket_mode: u32,
    /// The address that serves metrics, and the API for reading.
    pub listen: Option<std::net::SocketAddr>,
    /// The address that serves `/live` and `/ready` alone.
    pub probes: Option<std::net::SocketAddr>,
    /// Names by which `listen` can be asked; addresses and localhost always work.
    pub hosts: Vec<NamePattern>,
}

/// `[pools.NAME]`: backends that serve the same thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// NAME.
    pub name: Arc<str>,
    /// The policy.
    pub balance: Policy,
    /// The limits of its sessions.
    pub limits: Limits,
    /// How clients wait for a backend.
    pub queue: Queue,
    /// Whether the sessions of a backend that goes down are reset.
    pub close_on_backend_down: bool,
    /// Whether the sessions of backups are reset when a backend that is none comes up. Never true without a check and a
    /// backup.
    pub close_on_main_up: bool,
    /// How long sessions of a removed or drained backend can go on; zero means without end.
    pub drain_timeout: Duration,
    /// Whether all backends are used while none is up. Never true for a pool that wants the primary.
    pub use_all_when_down: bool,
    /// The pool that serves new sessions while fewer than `up_min` backends of this one take sessions.
    pub fallback: Option<Arc<str>>,
    /// With fewer backends that take new sessions than this, the pool takes none: those of the level that serves count.
    /// At least 1.
    pub up_min: u32,
    /// How long a client keeps its backend after its last session; zero means that none does.
    pub sticky: Duration,
    /// How long a backend that came up takes to reach its whole weight; zero means immediately.
    pub slow_start: Duration,
    /// Which addresses of a host name are used.
    pub address_family: AddressFamily,
    /// How long addresses of a host name stay in use when answers no longer have them.
    pub hold: Hold,
    /// How connections to its backends begin.
    pub dial: Dial,
    /// Whether a backend is chosen only when the client has sent something, or has sent its FIN.
    pub awaits_first_byte: bool,
    /// TLS to the backends; `None` means that bytes go to them as they are.
    pub tls: Option<PoolTls>,
    /// The health check; `None` means `type = "off"`.
    pub check: Option<Check>,
    /// What failed connects of real sessions lead to; `None` means that backends are never ejected.
    pub ejection: Option<Ejection>,
    /// Where more backends are found; `None` means nowhere.
    pub discover: Option<Discover>,
    /// The backends in the order of the file, with unique names; at least one, unless others are found. While ringway
    /// runs, those that were found or added stand behind them, and any of them can have been removed.
    pub backends: Vec<Backend>,
}

impl Pool {
    /// Whether its sessions must go to the primary.
    pub fn wants_primary(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.role == Some(Role::Primary))
    }
}

/// The limits that a session takes with it when it is admitted: a reload changes them for new sessions only. Zero turns
/// a limit off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How long one attempt to connect can take.
    pub connect_timeout: Duration,
    /// How many attempts a session has in all; at least 1.
    pub connect_attempts: u32,
    /// How long no byte can move in either direction.
    pub idle_timeout: Duration,
    /// The same after one side has sent its FIN.
    pub half_close_timeout: Duration,
    /// How old a session can become, plus or minus 10 %.
    pub lifetime_max: Duration,
    /// The same as `idle_timeout`, while the backend or the process drains.
    pub drain_idle: Duration,
    /// How long a connection is idle before the kernel probes it (TCP keepalive).
    pub keepalive: Duration,
    /// How long sent data can remain unacknowledged (TCP_USER_TIMEOUT).
    pub user_timeout: Duration,
    /// SO_RCVBUF of both connections, in bytes; zero leaves it to the kernel.
    pub receive_buffer: u32,
    /// TCP_NOTSENT_LOWAT of both connections, in bytes; zero leaves it to the kernel.
    pub unsent_max: u32,
}

/// How a connection to a backend begins, and from which address it comes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dial {
    /// The version of the PROXY header that is sent first; `None` sends none.
    pub send_proxy: Option<Version>,
    /// The source address.
    pub source: LocalAddress,
}

/// The source address of connections to backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LocalAddress {
    /// The kernel chooses.
    #[default]
    Any,
    /// One of these addresses of this host, of the backend's family, in turn; never empty.
    Addresses(Arc<[IpAddr]>),
    /// The client's own address (TPROXY).
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

/// How clients wait for a backend: because every usable backend has as many sessions as it can have, or because it is
/// not known which backend is the primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Queue {
    /// How many clients can wait; 0 means none.
    pub max: u32,
    /// How long a client can wait; zero means without end.
    pub timeout: Duration,
}

/// `[pools.NAME.ejection]`: when a backend is taken out because of its real sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// How many failed connects within the window; 0 means that they never eject.
    pub failures: u32,
    /// How many sessions within the window that the backend ended within a second without sending a byte; 0 means that
    /// they never eject. At least one of both is not 0.
    pub hangups: u32,
    /// How far back failures count.
    pub window: Duration,
    /// How long the first ejection lasts; doubled each time, up to five minutes.
    pub duration: Duration,
    /// How many percent of the pool's backends can be ejected together.
    pub percent_max: u32,
}

/// `[[pools.NAME.backends]]`: one server, or several behind one host name.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Its name, unique in the pool.
    pub name: Arc<str>,
    /// Where it listens.
    pub target: Target,
    /// 0 if it is no backup. Else its level: it is used only while no backend of a lower level is up, or after all of
    /// those failed to connect in a session.
    pub backup: u16,
    /// How many open sessions it can have; `None` means any number.
    pub connections_max: Option<NonZeroU32>,
    /// Its share, 0 to 256; with 0 it takes no new sessions.
    pub weight: u16,
    /// Whether the operator has taken it out.
    pub disabled: bool,
    /// Where it is checked; `None` means at its own address.
    pub check_address: Option<CheckAddress>,
    /// Where it comes from.
    pub origin: BackendOrigin,
    /// Why its source has it take no new sessions while it keeps those it has; `None` if it takes them.
    pub rests: Option<Arc<str>>,
}

/// Where a backend comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BackendOrigin {
    /// It stands in the file, or in the options of the command line.
    #[default]
    File,
    /// It was added while ringway runs.
    Added,
    /// It was found; by a source of this `type`.
    Found(&'static str),
}

impl BackendOrigin {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            BackendOrigin::File => "config",
            BackendOrigin::Added => "api",
            BackendOrigin::Found(kind) => kind,
        }
    }
}

/// Where a configuration came from. Messages name it, and a reload reads it again.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The options of `ringway run --listen … --backend …`.
    CommandLine,
}
