//! What a key is: its table, what it takes, its default, and how its value is read back for `diff`.
//!
//! A new key is one row in `keys` with these parts, and a field in the model. The reader of files, the messages about
//! wrong values and the comparison of two configurations use the row; tests compare `conf/reference.toml` with it.

use crate::config::model::{self, AccessLog, CheckKind, Ejection};
use crate::config::shown::{Shown, of_size, of_time};
use crate::discover::settings::Discover;

/// The tables of a configuration; [`Section::title`] shows how each is written.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Section {
    /// `[process]`: threads, limits, shutdown, user.
    Process,
    /// `[log]`: ringway's own log.
    Log,
    /// `[access_log]`: one line per session.
    AccessLog,
    /// `[admin]`: the API and the metrics.
    Admin,
    /// `[dns]`: how host names are looked up.
    Dns,
    /// `[listeners.NAME]`: where clients connect.
    Listener,
    /// `[listeners.NAME.tls]`: TLS that ends at a listener.
    ListenerTls,
    /// `[[listeners.NAME.routes]]`: which pool a client gets by its TLS.
    Route,
    /// `[pools.NAME]`: backends that serve the same thing.
    Pool,
    /// `[pools.NAME.tls]`: TLS to the backends.
    PoolTls,
    /// `[pools.NAME.check]`: how they are checked.
    Check,
    /// `[pools.NAME.ejection]`: when real failures take one out.
    Ejection,
    /// `[pools.NAME.discover]`: where backends are found.
    Discover,
    /// `[[pools.NAME.backends]]`: one server, or a host name.
    Backend,
}

impl Section {
    /// Its header as the documentation writes it.
    pub fn title(self) -> &'static str {
        match self {
            Section::Process => "[process]",
            Section::Log => "[log]",
            Section::AccessLog => "[access_log]",
            Section::Admin => "[admin]",
            Section::Dns => "[dns]",
            Section::Listener => "[listeners.NAME]",
            Section::ListenerTls => "[listeners.NAME.tls]",
            Section::Route => "[[listeners.NAME.routes]]",
            Section::Pool => "[pools.NAME]",
            Section::PoolTls => "[pools.NAME.tls]",
            Section::Check => "[pools.NAME.check]",
            Section::Ejection => "[pools.NAME.ejection]",
            Section::Discover => "[pools.NAME.discover]",
            Section::Backend => "[[pools.NAME.backends]]",
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// `true`, `false` or one of these words.
    BoolOr(&'static [&'static str]),
    /// `true`, `false`, or a level from 1 to this: `true` is 1, `false` is none.
    Level(u64),
    /// A number between these, both included.
    Integer(u64, u64),
    /// A number between these, both included, or `"auto"`.
    AutoOr(u64, u64),
    /// A span of time.
    Duration(Span),
    /// Bytes, from the first to the second number of them, or `"auto"`.
    AutoOrSize(u32, u32),
    /// Octal permission bits.
    Mode,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or the path of a file.
    WordOrPath(&'static [&'static str]),
    /// The same, or a syslog server: `"syslog:/dev/log"`, `"syslog:udp:127.0.0.1:514"`.
    WordPathOrSyslog(&'static [&'static str]),
    /// Any text.
    Text,
    /// The name of something.
    Name,
    /// The name of a network interface, or empty.
    Interface,
    /// A number of new connections per unit of time: `"20/s"`, `"600/m"`, `"10/3s"`.
    Rate,
    /// A list of networks and addresses: `["10.0.0.0/8", "unix:"]`.
    Networks,
    /// Path of a file with a network per line, or empty.
    NetworkFile,
    /// A list of server names of TLS: `["*.example.org"]`.
    ServerNames,
    /// A list of protocol names of ALPN: `["postgresql"]`.
    Protocols,
    /// The source of connections to backends: an address or a list of them, `"client"`, or empty.
    Source,
    /// A list of HTTP status codes and ranges: `[200, "300-399"]`.
    Statuses,
    /// A table of headers: `{ X-Token = "…" }`.
    Headers,
    /// A list of ports: `[135, 59532]`.
    Ports,
    /// A list of steps of a check: `[{ send = '…', expect = '…' }]`.
    Steps,
    /// A list of pools with their shares: `[{ pool = "a", weight = 90 }]`.
    Split,
    /// A list of certificates with their keys: `[{ cert = "/x.crt", key = "/x.key" }]`.
    Certificates,
    /// Path of a file or a folder, or empty.
    PathOrOff,
    /// Where to listen: an address or a list of them; port ranges are allowed.
    Binds,
    /// Where to connect to: an address, a host name with a port, or a unix socket.
    Target,
    /// `ip:port`, `:port`, `unix:/path`, or empty.
    CheckAddress,
    /// `ip:port`, or empty.
    IpPortOrOff,
    /// A list of name servers: `["10.0.0.53:53"]`.
    NameServers,
    /// A list of servers that speak HTTP: `["http://10.0.0.1:2379"]`.
    Endpoints,
    /// A server that speaks HTTP, or empty.
    EndpointOrOff,
    /// Path of a unix socket, or empty.
    SocketOrOff,
}

/// The times that a key takes, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Whether zero, which means "off", is allowed.
    pub zero: bool,
    /// The shortest time, apart from zero.
    pub min_us: u64,
    /// The longest time.
    pub max_us: u64,
    /// Every time must be a multiple of this.
    pub step_us: u64,
}

impl Span {
    /// The range in words, as `conf/reference.toml` and messages write it.
    pub fn range(&self) -> String {
        let whole = if self.step_us >= 1_000_000 { " in whole seconds" } else { "" };
        let off = if self.zero { ", 0s = off" } else { "" };
        format!("from {} to {}{whole}{off}", of_time(self.min_us.into()), of_time(self.max_us.into()))
    }
}

/// The range of a size in words, as `conf/reference.toml` and messages write it.
pub fn range_of_sizes(min: u32, max: u32) -> String {
    format!("from {} to {}", of_size(min), of_size(max))
}

/// What stands for a key that is not written.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// This value, written as TOML.
    Is(&'static str),
    /// Nothing: the key must be written. The text is an example.
    Required(&'static str),
    /// Nothing, which has a meaning of its own.
    Absent,
}

/// A row of the list of keys.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table in which it stands.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What stands for it if it is not written.
    pub default: Default,
    /// For `[pools.NAME.check]` and `[pools.NAME.discover]`: the kinds (`type`) that use it; empty means all of them.
    pub(in crate::config) kinds: &'static [&'static str],
    /// The key that can stand for this one, if it must be written.
    pub(in crate::config) instead: Option<&'static str>,
    /// Whether a change takes effect only after a restart.
    pub(in crate::config) needs_restart: bool,
    /// How its value is read from a configuration.
    pub(super) show: Show,
}

/// How the value of a key is read from the meaning of a configuration, by table. The functions return `None` if the key
/// has no effect there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    Process(fn(&model::Process) -> Option<Shown>),
    Log(fn(&model::Log) -> Option<Shown>),
    AccessLog(fn(Option<&AccessLog>) -> Option<Shown>),
    Admin(fn(&model::Admin) -> Option<Shown>),
    Dns(fn(&model::Dns) -> Option<Shown>),
    Listener(fn(&model::Listener) -> Option<Shown>),
    ListenerTls(fn(&model::ListenerTls) -> Option<Shown>),
    Pool(fn(&model::Pool) -> Option<Shown>),
    PoolTls(fn(&model::PoolTls) -> Option<Shown>),
    Check(fn(Option<&model::Check>) -> Option<Shown>),
    /// A key that only some kinds of check use.
    OfChecks(fn(&CheckKind) -> Option<Shown>),
    Ejection(fn(Option<&Ejection>) -> Option<Shown>),
    Discover(fn(Option<&Discover>) -> Option<Shown>),
    Backend(fn(&model::Backend) -> Option<Shown>),
    /// A route has no keys here, because all routes of a listener are shown together.
    Whole,
}

/// A table of a configuration, in its meaning: what [`Show`] reads from.
#[derive(Clone, Copy)]
pub(in crate::config) enum Thing<'a> {
    Process(&'a model::Process),
    Log(&'a model::Log),
    AccessLog(Option<&'a AccessLog>),
    Admin(&'a model::Admin),
    Dns(&'a model::Dns),
    Listener(&'a model::Listener),
    ListenerTls(&'a model::ListenerTls),
    Pool(&'a model::Pool),
    PoolTls(&'a model::PoolTls),
    Check(Option<&'a model::Check>),
    Ejection(Option<&'a Ejection>),
    Discover(Option<&'a Discover>),
    Backend(&'a model::Backend),
}

impl Key {
    /// Its value in this table; `None` if it has no effect there.
    pub(super) fn shown(&self, thing: Thing<'_>) -> Option<Shown> {
        match (self.show, thing) {
            (Show::Process(show), Thing::Process(process)) => show(process),
            (Show::Log(show), Thing::Log(log)) => show(log),
            (Show::AccessLog(show), Thing::AccessLog(log)) => show(log),
            (Show::Admin(show), Thing::Admin(admin)) => show(admin),
            (Show::Dns(show), Thing::Dns(dns)) => show(dns),
            (Show::Listener(show), Thing::Listener(listener)) => show(listener),
            (Show::ListenerTls(show), Thing::ListenerTls(tls)) => show(tls),
            (Show::Pool(show), Thing::Pool(pool)) => show(pool),
            (Show::PoolTls(show), Thing::PoolTls(tls)) => show(tls),
            (Show::Check(show), Thing::Check(check)) => show(check),
            (Show::OfChecks(show), Thing::Check(Some(check))) if self.kinds.contains(&check.kind.name()) => {
                show(&check.kind)
            }
            (Show::Ejection(show), Thing::Ejection(ejection)) => show(ejection),
            (Show::Discover(show), Thing::Discover(discover)) => show(discover),
            (Show::Backend(show), Thing::Backend(backend)) => show(backend),
            _ => None,
        }
    }

    /// The same key, but a reload can change it, although the rest of its table needs a restart.
    pub(super) const fn live(self) -> Key {
        Key { needs_restart: false, ..self }
    }

    /// The same key, but it must be written.
    pub(super) const fn required(self, example: &'static str) -> Key {
        Key { default: Default::Required(example), ..self }
    }

    /// The same key, which need not be written where another one is.
    pub(super) const fn unless(self, instead: &'static str) -> Key {
        Key { instead: Some(instead), ..self }
    }

    /// The same key, but to leave it out means something that no value means.
    pub(super) const fn absent(self) -> Key {
        Key { default: Default::Absent, ..self }
    }

    /// The same key, but only these kinds of check, or of source, use it.
    pub(super) const fn of(self, kinds: &'static [&'static str]) -> Key {
        Key { kinds, ..self }
    }
}
