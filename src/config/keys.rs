//! Every key there is: where it stands, what it takes, and its default.
//!
//! This list is the one source. The reader looks every written key up here, the resolver takes its defaults from here,
//! and a test holds `conf/reference.toml` against it.

/// The tables of a configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)]
pub enum Section {
    Process,
    Log,
    AccessLog,
    Admin,
    Dns,
    Listener,
    Route,
    Pool,
    Check,
    Ejection,
    Backend,
}

impl Section {
    /// As the documentation writes it.
    pub fn title(self) -> &'static str {
        match self {
            Section::Process => "[process]",
            Section::Log => "[log]",
            Section::AccessLog => "[access_log]",
            Section::Admin => "[admin]",
            Section::Dns => "[dns]",
            Section::Listener => "[listeners.NAME]",
            Section::Route => "[[listeners.NAME.routes]]",
            Section::Pool => "[pools.NAME]",
            Section::Check => "[pools.NAME.check]",
            Section::Ejection => "[pools.NAME.ejection]",
            Section::Backend => "[[pools.NAME.backends]]",
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number between these, both included.
    Integer(u64, u64),
    /// Likewise, or `"auto"`.
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
    /// Any text.
    Text,
    /// The name of something.
    Name,
    /// New connections in a unit of time: `"20/s"`, `"600/m"`.
    Rate,
    /// A list of networks and addresses of clients.
    Networks,
    /// A list of names of TLS servers.
    ServerNames,
    /// A list of names of protocols.
    Protocols,
    /// Where connections to backends come from: an address or a list, `"client"`, or empty.
    Source,
    /// A list of HTTP status codes and ranges of them.
    Statuses,
    /// A list of questions and answers.
    Steps,
    /// Where to listen: one or a list, port ranges allowed.
    Binds,
    /// Where to connect to.
    Target,
    /// `ip:port`, or empty.
    IpPortOrOff,
    /// A list of name servers.
    NameServers,
    /// Path of a unix socket, or empty.
    SocketOrOff,
}

/// Which spans of time a key takes, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Whether zero, "off", is one of them.
    pub zero: bool,
    /// The least but zero.
    pub min_us: u64,
    /// The greatest.
    pub max_us: u64,
    /// All are multiples of this.
    pub step_us: u64,
}

impl Span {
    /// What it takes, as `conf/reference.toml` and the messages write it.
    pub fn range(&self) -> String {
        let whole = if self.step_us >= 1_000_000 { " in whole seconds" } else { "" };
        let off = if self.zero { ", 0s = off" } else { "" };
        format!("from {} to {}{whole}{off}", shown(self.min_us.into()), shown(self.max_us.into()))
    }
}

/// A time as the file has it: in the greatest unit that leaves a whole number.
pub(super) fn shown(us: u128) -> String {
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    match units.iter().find(|(unit_us, _)| us > 0 && us.is_multiple_of(*unit_us)) {
        Some((unit_us, unit)) => format!("{}{unit}", us / unit_us),
        None => "0s".to_string(),
    }
}

/// A number of bytes as the file has it.
pub(super) fn shown_size(bytes: u32) -> String {
    match bytes {
        0 => "auto".to_string(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ => format!("{}KiB", bytes >> 10),
    }
}

/// Which sizes a key takes, as `conf/reference.toml` and the messages write it.
pub fn range_of_sizes(min: u32, max: u32) -> String {
    format!("from {} to {}", shown_size(min), shown_size(max))
}

/// What stands for a key that is not written.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// This, written as TOML.
    Is(&'static str),
    /// Nothing: the key must be given. The text is an example.
    Required(&'static str),
    /// Nothing, and that has its own meaning.
    Absent,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table it stands in.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What stands for it.
    pub default: Default,
}

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
const YEAR: u64 = 365 * 24 * 3600 * S;

/// A limit: 1 ms to a year, zero turns it off.
const LIMIT: Kind = Kind::Duration(Span { zero: true, min_us: MS, max_us: YEAR, step_us: MS });
/// A pace or a deadline that must exist: 1 ms to a day.
const PACE: Kind = Kind::Duration(Span { zero: false, min_us: MS, max_us: 24 * 3600 * S, step_us: MS });
/// Of one server, as in `/etc/resolv.conf`.
const DNS_TIMEOUT: Kind = Kind::Duration(Span { zero: false, min_us: 100 * MS, max_us: 30 * S, step_us: MS });
/// Spinning: more than a second would only be a mistake of the unit.
const SPIN: Kind = Kind::Duration(Span { zero: true, min_us: 1, max_us: S, step_us: 1 });
/// TCP_KEEPIDLE: whole seconds, at most 32767 (MAX_TCP_KEEPIDLE).
const KEEPALIVE: Kind = Kind::Duration(Span { zero: true, min_us: S, max_us: 32767 * S, step_us: S });
/// TCP_USER_TIMEOUT: milliseconds in an int, here up to 24 days.
const USER_TIMEOUT: Kind = Kind::Duration(Span { zero: true, min_us: MS, max_us: 24 * 24 * 3600 * S, step_us: MS });
/// Below it a window would be a few segments; above it nobody means it.
const BUFFER: Kind = Kind::AutoOrSize(16 << 10, 1 << 30);
/// Receive buffers of a worker: from those that its kernel is given first to as many as can be numbered.
const RECEIVE_BUFFERS: Kind = Kind::AutoOrSize(4 << 20, 512 << 20);
const COUNT: Kind = Kind::Integer(0, u32::MAX as u64);

/// A key with its default.
const fn key(section: Section, name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { section, name, kind, default: Default::Is(default) }
}

/// A key that must be given.
const fn required(section: Section, name: &'static str, kind: Kind, example: &'static str) -> Key {
    Key { section, name, kind, default: Default::Required(example) }
}

/// Every key, in the order of the contract.
pub const KEYS: &[Key] = {
    use Kind::*;
    use Section::*;
    &[
        key(Process, "workers", AutoOr(1, 1024), "\"auto\""),
        key(Process, "pin_workers", Bool, "true"),
        key(Process, "connections_max", AutoOr(0, 1 << 30), "\"auto\""),
        key(Process, "shutdown_delay", LIMIT, "\"0s\""),
        key(Process, "shutdown_grace", LIMIT, "\"30s\""),
        key(Process, "busy_poll", SPIN, "\"0us\""),
        key(Process, "receive_buffers_max", RECEIVE_BUFFERS, "\"auto\""),
        key(Process, "user", Text, "\"\""),
        key(Process, "group", Text, "\"\""),
        key(Log, "level", Word(&["error", "warn", "info", "debug"]), "\"info\""),
        key(Log, "format", Word(&["text", "json"]), "\"text\""),
        key(Log, "output", WordOrPath(&["stderr", "stdout"]), "\"stderr\""),
        key(AccessLog, "output", WordOrPath(&["off", "stderr", "stdout"]), "\"off\""),
        key(AccessLog, "format", Word(&["json", "tcplog"]), "\"json\""),
        key(Admin, "socket", SocketOrOff, "\"\""),
        key(Admin, "socket_mode", Mode, "\"0600\""),
        key(Admin, "listen", IpPortOrOff, "\"\""),
        key(Admin, "hosts", ServerNames, "[]"),
        key(Dns, "servers", NameServers, "[]"),
        key(Dns, "timeout", DNS_TIMEOUT, "\"5s\""),
        key(Dns, "attempts", Integer(1, 5), "2"),
        required(Listener, "bind", Binds, "bind = \"0.0.0.0:5432\""),
        required(Listener, "pool", Name, "pool = \"NAME\""),
        key(Listener, "unix_mode", Mode, "\"0666\""),
        key(Listener, "backlog", Integer(1, 65535), "4096"),
        key(Listener, "connections_max", COUNT, "0"),
        key(Listener, "source_connections_max", COUNT, "0"),
        key(Listener, "source_rate_max", Rate, "\"0/s\""),
        key(Listener, "source_prefix_v6", Integer(1, 128), "64"),
        key(Listener, "allow", Networks, "[]"),
        key(Listener, "deny", Networks, "[]"),
        key(Listener, "accept_proxy", Word(&["off", "required"]), "\"off\""),
        key(Listener, "proxy_trusted", Networks, "[]"),
        key(Listener, "proxy_timeout", LIMIT, "\"5s\""),
        key(Listener, "preread_timeout", LIMIT, "\"5s\""),
        key(Listener, "unmatched", Word(&["default", "refuse"]), "\"default\""),
        Key { default: Default::Absent, ..key(Route, "sni", ServerNames, "[]") },
        Key { default: Default::Absent, ..key(Route, "alpn", Protocols, "[]") },
        required(Route, "pool", Name, "pool = \"NAME\""),
        key(Pool, "balance", Word(&BALANCE), "\"round_robin\""),
        key(Pool, "hash_key", Word(&["source_ip", "source_ip_port"]), "\"source_ip\""),
        key(Pool, "hash_balance_factor", Integer(0, 100_000), "0"),
        key(Pool, "connect_timeout", LIMIT, "\"3s\""),
        key(Pool, "connect_attempts", Integer(1, 100), "3"),
        key(Pool, "queue_max", COUNT, "1024"),
        key(Pool, "queue_timeout", LIMIT, "\"5s\""),
        key(Pool, "idle_timeout", LIMIT, "\"1h\""),
        key(Pool, "half_close_timeout", LIMIT, "\"60s\""),
        key(Pool, "lifetime_max", LIMIT, "\"0s\""),
        key(Pool, "drain_idle", LIMIT, "\"0s\""),
        key(Pool, "on_backend_down", Word(&["close", "keep"]), "\"close\""),
        key(Pool, "drain_timeout", LIMIT, "\"30s\""),
        key(Pool, "when_all_down", Word(&["refuse", "use_all"]), "\"refuse\""),
        key(Pool, "slow_start", LIMIT, "\"0s\""),
        key(Pool, "address_family", Word(&["any", "ipv4", "ipv6"]), "\"any\""),
        key(Pool, "obsolete_hold", LIMIT, "\"30s\""),
        key(Pool, "denied_hold", LIMIT, "\"5m\""),
        key(Pool, "send_proxy", Word(&["off", "v1", "v2"]), "\"off\""),
        key(Pool, "source", Source, "\"\""),
        key(Pool, "keepalive", KEEPALIVE, "\"60s\""),
        key(Pool, "user_timeout", USER_TIMEOUT, "\"0s\""),
        key(Pool, "receive_buffer", BUFFER, "\"auto\""),
        key(Pool, "unsent_max", BUFFER, "\"auto\""),
        key(Check, "type", Word(&CHECKS), "\"tcp\""),
        key(Check, "interval", PACE, "\"2s\""),
        key(Check, "fast_interval", PACE, "\"500ms\""),
        key(Check, "down_interval", PACE, "\"1s\""),
        key(Check, "timeout", PACE, "\"1500ms\""),
        key(Check, "rise", Integer(1, 1000), "2"),
        key(Check, "fall", Integer(1, 1000), "3"),
        key(Check, "initial", Word(&["up", "down"]), "\"up\""),
        key(Check, "port", Integer(0, 65535), "0"),
        key(Check, "send", Text, "\"\""),
        key(Check, "expect", Text, "\"\""),
        key(Check, "steps", Steps, "[]"),
        key(Check, "path", Text, "\"/health\""),
        key(Check, "status", Statuses, "[200]"),
        key(Check, "drain_status", Statuses, "[]"),
        key(Check, "user", Text, "\"\""),
        key(Check, "password_file", Text, "\"\""),
        key(Check, "database", Text, "\"postgres\""),
        key(Check, "role", Word(&["any", "primary", "replica"]), "\"any\""),
        key(Check, "lag_max", LIMIT, "\"0s\""),
        key(Check, "lag_strict", Bool, "false"),
        key(Check, "send_proxy", Word(&["auto", "off", "local", "proxy"]), "\"auto\""),
        key(Ejection, "failures", Integer(0, 10_000), "5"),
        key(Ejection, "hangups", Integer(0, 10000), "10"),
        key(Ejection, "window", PACE, "\"10s\""),
        key(Ejection, "duration", PACE, "\"10s\""),
        key(Ejection, "percent_max", Integer(0, 100), "50"),
        Key { default: Default::Absent, ..key(Backend, "name", Name, "\"\"") },
        required(Backend, "address", Target, "address = \"10.0.0.1:5432\""),
        key(Backend, "weight", Integer(0, 256), "1"),
        key(Backend, "backup", Bool, "false"),
        key(Backend, "connections_max", COUNT, "0"),
        key(Backend, "disabled", Bool, "false"),
    ]
};

/// Names of the policies.
const BALANCE: [&str; 5] = ["round_robin", "least_conn", "consistent_hash", "random", "failover"];
/// Names of the checks.
const CHECKS: [&str; 7] = ["off", "tcp", "send_expect", "http", "postgresql", "mysql", "redis"];

/// The keys of one table.
pub fn of(section: Section) -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().filter(move |key| key.section == section)
}

/// One key by name.
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    of(section).find(|key| key.name == name)
}
