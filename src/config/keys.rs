//! Every key of a configuration: where it stands, what it takes, its default, and how a change of it is shown.
//!
//! This list is the one source. The reader looks every written key up in it, defaults and ranges come from it, `diff`
//! walks it, and a test compares `conf/reference.toml` with it. A row reads:
//!
//! ```text
//! pool("queue_timeout", LIMIT, "\"5s\"", |it| time(it.queue.timeout)),
//! table name            takes  default   how the value is shown
//! ```
//!
//! Suffixes change a row: `.required(example)` has no default, `.absent()` means something when it is missing,
//! `.live()` can be reloaded although its table cannot, `.of(kinds)` belongs to some
//! kinds of check or of source.

mod key;
mod values;

use super::model;
use super::model::{AccessLog, CheckKind, Ejection, Role, Trust};
use super::shown::{Shown, joined, joined_or, list, mode, networks, or, size, text, time};
use crate::balance;
use crate::discover::found::{BACKUP_MAX, WEIGHT_MAX};
use crate::discover::settings::Discover;
use crate::kernel::driver::Driver;
use key::Show;
pub(super) use key::Thing;
pub use key::{Default, Key, Kind, Section, Span, range_of_sizes};
pub(super) use values::rate;
use values::*;

/// A millisecond, in microseconds.
const MS: u64 = 1_000;
/// A second, in microseconds.
const S: u64 = 1_000_000;
/// A year of 365 days, in microseconds.
const YEAR: u64 = 365 * 24 * 3600 * S;

/// A time limit: 1 ms to a year; zero turns it off.
const LIMIT: Kind = Kind::Duration(Span { zero: true, min_us: MS, max_us: YEAR, step_us: MS });
/// An interval or a deadline that cannot be turned off: 1 ms to a day.
const PACE: Kind = Kind::Duration(Span { zero: false, min_us: MS, max_us: 24 * 3600 * S, step_us: MS });
/// How long one name server has to answer, with the bounds of `/etc/resolv.conf` (resolv.conf(5)).
const DNS_TIMEOUT: Kind = Kind::Duration(Span { zero: false, min_us: 100 * MS, max_us: 30 * S, step_us: MS });
/// How long to spin. More than a second can only be a wrong unit.
const SPIN: Kind = Kind::Duration(Span { zero: true, min_us: 1, max_us: S, step_us: 1 });
/// TCP_KEEPIDLE: whole seconds, at most 32767 (MAX_TCP_KEEPIDLE).
const KEEPALIVE: Kind = Kind::Duration(Span { zero: true, min_us: S, max_us: 32767 * S, step_us: S });
/// TCP_USER_TIMEOUT: milliseconds in an int, here up to 24 days.
const USER_TIMEOUT: Kind = Kind::Duration(Span { zero: true, min_us: MS, max_us: 24 * 24 * 3600 * S, step_us: MS });
/// Bytes of a socket buffer. Less would be a window of a few segments; more is a mistake.
const BUFFER: Kind = Kind::AutoOrSize(16 << 10, 1 << 30);
/// Bytes of receive buffers per worker: from what its kernel gets at the start to the number that can be addressed.
const RECEIVE_BUFFERS: Kind = Kind::AutoOrSize(4 << 20, 512 << 20);
/// A count; 0 usually means "no limit".
const COUNT: Kind = Kind::Integer(0, u32::MAX as u64);

/// A key with its default. Of some tables the process makes things that stay for its life, so their keys need a
/// restart.
const fn key(section: Section, name: &'static str, kind: Kind, default: &'static str, show: Show) -> Key {
    // These tables become something that stays for the life of the process.
    let needs_restart = matches!(section, Section::Process | Section::Log | Section::AccessLog | Section::Admin);
    Key { section, name, kind, default: Default::Is(default), kinds: &[], instead: None, needs_restart, show }
}

/// For each table: a function that makes a row, from the name of the key, what it takes, its default and how it is
/// shown.
macro_rules! tables {
    ($($name:ident: $section:ident, $show:ident($of:ty);)*) => {
        $(const fn $name(
            name: &'static str,
            kind: Kind,
            default: &'static str,
            show: fn($of) -> Option<Shown>,
        ) -> Key {
            key(Section::$section, name, kind, default, Show::$show(show))
        })*
    };
}

tables! {
    process: Process, Process(&model::Process);
    log: Log, Log(&model::Log);
    access: AccessLog, AccessLog(Option<&AccessLog>);
    admin: Admin, Admin(&model::Admin);
    dns: Dns, Dns(&model::Dns);
    listener: Listener, Listener(&model::Listener);
    tls: ListenerTls, ListenerTls(&model::ListenerTls);
    pool: Pool, Pool(&model::Pool);
    backend_tls: PoolTls, PoolTls(&model::PoolTls);
    check: Check, Check(Option<&model::Check>);
    asked: Check, OfChecks(&CheckKind);
    ejection: Ejection, Ejection(Option<&Ejection>);
    discover: Discover, Discover(Option<&Discover>);
    backend: Backend, Backend(&model::Backend);
}

/// A row of a route. Routes are shown as a whole.
const fn route(name: &'static str, kind: Kind, default: &'static str) -> Key {
    key(Section::Route, name, kind, default, Show::Whole)
}

/// Every key, in the order of `conf/reference.toml`.
pub const KEYS: &[Key] = {
    use Kind::*;
    &[
        process("workers", AutoOr(1, 1024), "\"auto\"", |it| or(it.workers, "auto")),
        process("io", Word(&["auto", "io_uring", "epoll"]), "\"auto\"", |it| or(it.io.map(Driver::name), "auto")),
        process("pin_workers", Bool, "true", |it| text(it.pin_workers)),
        process("connections_max", AutoOr(0, 1 << 30), "\"auto\"", |it| or(it.connections_max, "auto")),
        process("shutdown_delay", LIMIT, "\"0s\"", |it| time(it.shutdown_delay)).live(),
        process("shutdown_grace", LIMIT, "\"30s\"", |it| time(it.shutdown_grace)).live(),
        process("busy_poll", SPIN, "\"0us\"", |it| time(it.busy_poll)),
        process("receive_buffers_max", RECEIVE_BUFFERS, "\"auto\"", |it| size(it.receive_buffers_max)),
        process("user", Text, "\"\"", |it| or(it.user.as_ref(), "as started")),
        process("group", Text, "\"\"", |it| or(it.group.as_ref(), "as started")),
        process("state_file", PathOrOff, "\"\"", |it| path_or_off(it.state_file.as_ref())),
        log("level", Word(&["error", "warn", "info", "debug"]), "\"info\"", |it| text(it.level.name())).live(),
        log("format", Word(&["text", "json"]), "\"text\"", |it| text(if it.json { "json" } else { "text" })),
        log("output", WordOrPath(&["stderr", "stdout"]), "\"stderr\"", |it| text(output(&it.output))),
        access("output", WordPathOrSyslog(&["off", "stderr", "stdout"]), "\"off\"", |it| {
            or(it.map(|it| output(&it.output)), "off")
        }),
        access("format", Word(&["json", "tcplog"]), "\"json\"", |it| or(it.map(|it| it.format.name()), "off")),
        access("skip_empty", Bool, "false", |it| text(it?.skip_empty)),
        admin("socket", SocketOrOff, "\"\"", |it| or(it.socket.as_ref().map(|path| path.display()), "off")),
        admin("socket_mode", Mode, "\"0600\"", |it| mode(it.socket_mode)),
        admin("listen", IpPortOrOff, "\"\"", |it| or(it.listen, "off")),
        admin("probes", IpPortOrOff, "\"\"", |it| or(it.probes, "off")),
        admin("hosts", ServerNames, "[]", |it| list(&it.hosts)),
        dns("servers", NameServers, "[]", |it| joined_or(&it.servers, OF_SYSTEM)),
        dns("timeout", DNS_TIMEOUT, "\"5s\"", |it| it.timeout.map_or_else(|| text(OF_SYSTEM), time)),
        dns("attempts", Integer(1, 5), "2", |it| or(it.attempts, OF_SYSTEM)),
        listener("bind", Binds, "", |it| list(&it.binds)).required("bind = \"0.0.0.0:5432\""),
        listener("pool", Name, "", |it| text(Some(&it.pool).filter(|_| it.has_pool && it.split.is_empty())?))
            .required("pool = \"NAME\"")
            .unless("split"),
        listener("split", Split, "[]", |it| joined_or(&it.split, "none")),
        listener("unix_mode", Mode, "\"0666\"", |it| mode(it.unix_mode)),
        listener("freebind", Bool, "false", |it| text(it.freebind)),
        listener("interface", Interface, "\"\"", |it| or(it.interface.as_ref(), "any")),
        listener("backlog", Integer(1, 65535), "4096", |it| text(it.backlog)),
        listener("connections_max", COUNT, "0", |it| count(it.connections_max)),
        listener("source_connections_max", COUNT, "0", |it| text(it.source_limits.connections_max)),
        listener("source_rate_max", Rate, "\"0/s\"", |it| text(rate(it.source_limits.rate))),
        listener("source_prefix_v6", Integer(1, 128), "64", |it| text(it.source_limits.prefix_v6)),
        listener("source_unlimited", Networks, "[]", |it| networks(&it.source_unlimited)),
        listener("allow", Networks, "[]", |it| networks(&it.allow)),
        listener("deny", Networks, "[]", |it| networks(&it.deny)),
        listener("allow_file", NetworkFile, "\"\"", |it| network_file(it.allow_file.as_ref())),
        listener("deny_file", NetworkFile, "\"\"", |it| network_file(it.deny_file.as_ref())),
        listener("accept_proxy", Word(&["off", "required"]), "\"off\"", |it| {
            or(it.proxy.as_ref().map(|_| "required"), "off")
        }),
        listener("proxy_trusted", Networks, "[]", |it| networks(&it.proxy.as_ref()?.trusted)),
        listener("proxy_timeout", LIMIT, "\"5s\"", |it| time(it.proxy.as_ref()?.timeout)),
        listener("preread_timeout", LIMIT, "\"5s\"", |it| time(it.preread.as_ref()?.timeout)),
        listener("unmatched", Word(&["default", "refuse"]), "\"default\"", |it| {
            text(if it.preread.as_ref()?.refuses_unmatched { "refuse" } else { "default" })
        }),
        tls("certificates", Certificates, "[]", |it| joined_or(&it.certificates, "none")),
        tls("certificate_dir", PathOrOff, "\"\"", |it| path_or_off(it.certificate_dir.as_ref())),
        tls("unknown_name", Word(&["default", "refuse"]), "\"default\"", |it| {
            text(if it.refuses_unknown_names { "refuse" } else { "default" })
        }),
        tls("min_version", Word(&["1.2", "1.3"]), "\"1.2\"", |it| text(it.min_version.name())),
        tls("alpn", Protocols, "[]", |it| joined_or(&it.alpn, "none")),
        tls("client_auth", Word(&["off", "optional", "required"]), "\"off\"", |it| text(it.client_auth.name())),
        tls("client_ca", PathOrOff, "\"\"", |it| path_or_off(it.client_ca.as_ref())),
        tls("client_crl", PathOrOff, "\"\"", |it| path_or_off(it.client_crl.as_ref())),
        tls("handshake_timeout", LIMIT, "\"5s\"", |it| time(it.handshake_timeout)),
        tls("tickets", Bool, "true", |it| text(it.has_tickets)),
        tls("starttls", Word(&["off", "postgresql"]), "\"off\"", |it| text(it.starttls.name())),
        tls("plaintext", Word(&["refuse", "allow"]), "\"refuse\"", |it| {
            text(if it.allows_plaintext { "allow" } else { "refuse" })
        }),
        route("protocol", Word(&ROUTED), "\"any\""),
        route("sni", ServerNames, "").absent(),
        route("alpn", Protocols, "").absent(),
        route("pool", Name, "").required("pool = \"NAME\"").unless("split"),
        route("split", Split, "[]"),
        route("allow", Networks, "[]"),
        route("deny", Networks, "[]"),
        route("source_connections_max", COUNT, "0"),
        route("source_rate_max", Rate, "\"0/s\""),
        pool("balance", Word(&balance::WORDS), "\"round_robin\"", |it| text(it.balance.name())),
        pool("hash_key", Word(&["source_ip", "source_ip_port"]), "\"source_ip\"", |it| {
            text(it.balance.hash_key().unwrap_or_default().name())
        }),
        pool("hash_balance_factor", Integer(0, 100_000), "0", |it| text(it.balance.balance_factor().unwrap_or(0))),
        pool("sticky", LIMIT, "\"0s\"", |it| time(it.sticky)),
        pool("connect_on", Word(&["accept", "first_byte"]), "\"accept\"", |it| {
            text(if it.awaits_first_byte { "first_byte" } else { "accept" })
        }),
        pool("connect_timeout", LIMIT, "\"3s\"", |it| time(it.limits.connect_timeout)),
        pool("connect_attempts", Integer(1, 100), "3", |it| text(it.limits.connect_attempts)),
        pool("queue_max", COUNT, "1024", |it| text(it.queue.max)),
        pool("queue_timeout", LIMIT, "\"5s\"", |it| time(it.queue.timeout)),
        pool("idle_timeout", LIMIT, "\"1h\"", |it| time(it.limits.idle_timeout)),
        pool("half_close_timeout", LIMIT, "\"60s\"", |it| time(it.limits.half_close_timeout)),
        pool("lifetime_max", LIMIT, "\"0s\"", |it| time(it.limits.lifetime_max)),
        pool("drain_idle", LIMIT, "\"0s\"", |it| time(it.limits.drain_idle)),
        pool("on_backend_down", Word(&["close", "keep"]), "\"close\"", |it| {
            text(if it.close_on_backend_down { "close" } else { "keep" })
        }),
        pool("on_main_up", Word(&["keep", "close"]), "\"keep\"", |it| {
            text(if it.close_on_main_up { "close" } else { "keep" })
        }),
        pool("drain_timeout", LIMIT, "\"30s\"", |it| time(it.drain_timeout)),
        pool("when_all_down", Word(&["refuse", "use_all"]), "\"refuse\"", |it| {
            text(if it.use_all_when_down { "use_all" } else { "refuse" })
        }),
        pool("fallback", Text, "\"\"", |it| or(it.fallback.as_ref(), "none")),
        pool("up_min", Integer(1, 10_000), "1", |it| text(it.up_min)),
        pool("slow_start", LIMIT, "\"0s\"", |it| time(it.slow_start)),
        pool("address_family", Word(&["any", "ipv4", "ipv6"]), "\"any\"", |it| text(it.address_family.name())),
        pool("obsolete_hold", LIMIT, "\"30s\"", |it| time(it.hold.obsolete)),
        pool("denied_hold", LIMIT, "\"5m\"", |it| time(it.hold.denied)),
        pool("send_proxy", Word(&["off", "v1", "v2"]), "\"off\"", |it| or(it.dial.send_proxy.map(version), "off")),
        pool("source", Source, "\"\"", |it| text(format_args!("\"{}\"", it.dial.source))),
        pool("keepalive", KEEPALIVE, "\"60s\"", |it| time(it.limits.keepalive)),
        pool("user_timeout", USER_TIMEOUT, "\"0s\"", |it| time(it.limits.user_timeout)),
        pool("receive_buffer", BUFFER, "\"auto\"", |it| size(it.limits.receive_buffer)),
        pool("unsent_max", BUFFER, "\"auto\"", |it| size(it.limits.unsent_max)),
        backend_tls("server_name", Text, "\"\"", |it| text(shown_name(&it.server_name))),
        backend_tls("ca_file", PathOrOff, "\"\"", |it| trusted(&it.trust)),
        backend_tls("verify", Bool, "true", |it| text(it.trust != Trust::Unverified)),
        backend_tls("cert", PathOrOff, "\"\"", |it| path_or_off(it.pair.as_ref().map(|pair| &pair.cert))),
        backend_tls("key", PathOrOff, "\"\"", |it| path_or_off(it.pair.as_ref().map(|pair| &pair.key))),
        backend_tls("min_version", Word(&["1.2", "1.3"]), "\"1.2\"", |it| text(it.min_version.name())),
        backend_tls("alpn", Protocols, "[]", |it| joined_or(&it.alpn, "none")),
        backend_tls("starttls", Word(&["off", "postgresql"]), "\"off\"", |it| text(it.starttls.name())),
        check("type", Word(&CHECKS), "\"tcp\"", |it| or(it.map(|it| it.kind.name()), "off")),
        check("interval", PACE, "\"2s\"", |it| time(it?.interval)),
        check("fast_interval", PACE, "\"500ms\"", |it| time(it?.fast_interval)),
        check("down_interval", PACE, "\"1s\"", |it| time(it?.down_interval)),
        check("timeout", PACE, "\"1500ms\"", |it| time(it?.timeout)),
        check("rise", Integer(1, 1000), "2", |it| text(it?.rise)),
        check("fall", Integer(1, 1000), "3", |it| text(it?.fall)),
        check("initial", Word(&["up", "down"]), "\"up\"", |it| text(if it?.initial_up { "up" } else { "down" })),
        check("port", Integer(0, 65535), "0", |it| text(it?.port.unwrap_or(0))),
        check("also_ports", Ports, "[]", |it| text(joined(&it?.also_ports))),
        check("agent_port", Integer(0, 65535), "0", |it| text(it?.agent_port.unwrap_or(0))),
        check("tls", Word(&["off", "prefer", "require"]), "", |it| text(it?.tls.name())).absent(),
        check("verify", Bool, "true", |it| text(*it?.tls.trust()? != Trust::Unverified)),
        check("ca_file", Text, "\"\"", ca_file),
        check("server_name", Text, "\"\"", server_name),
        asked("send", Text, "\"\"", send).of(&["send_expect"]),
        asked("expect", Text, "\"\"", expect).of(&["send_expect", "http"]),
        asked("steps", Steps, "[]", steps).of(&["send_expect"]),
        asked("method", Text, "\"GET\"", |it| text(&http(it)?.method)).of(&["http"]),
        asked("host", Text, "\"\"", |it| or(Some(&http(it)?.host).filter(|host| !host.is_empty()), "the address"))
            .of(&["http"]),
        asked("headers", Headers, "{}", headers).of(&["http"]),
        asked("path", Text, "\"/health\"", path).of(&["http"]),
        asked("status", Statuses, "[200]", status).of(&["http"]),
        asked("drain_status", Statuses, "[]", drain_status).of(&["http"]),
        asked("user", Text, "\"\"", |it| text(it.login().map_or("", |login| &login.user))).of(DATABASES),
        asked("password_file", Text, "\"\"", password_file).of(DATABASES),
        asked("database", Text, "\"postgres\"", database).of(&["postgresql"]),
        asked("galera", BoolOr(&["donor"]), "false", galera).of(&["mysql"]),
        check("role", Word(&["any", "primary", "replica"]), "\"any\"", |it| text(it?.role.map_or("any", Role::name)))
            .of(DATABASES),
        check("lag_max", LIMIT, "\"0s\"", |it| time(it?.lag_max)).of(DATABASES),
        check("lag_strict", Bool, "false", |it| text(it?.lag_strict)).of(DATABASES),
        check("send_proxy", Word(&["auto", "off", "local", "proxy"]), "\"auto\"", |it| text(it?.header.name())),
        ejection("failures", Integer(0, 10_000), "5", |it| text(it.map_or(0, |it| it.failures))),
        ejection("hangups", Integer(0, 10000), "10", |it| text(it.map_or(0, |it| it.hangups))),
        ejection("window", PACE, "\"10s\"", |it| time(it?.window)),
        ejection("duration", PACE, "\"10s\"", |it| time(it?.duration)),
        ejection("percent_max", Integer(0, 100), "50", |it| text(it?.percent_max)),
        discover("type", Word(&SOURCES), "", |it| or(it.map(|it| it.source.kind()), "none")).required("type = \"srv\""),
        discover("name", Text, "\"\"", srv_name).of(&["srv"]),
        discover("path", PathOrOff, "\"\"", file_path).of(&["file"]),
        discover("endpoints", Endpoints, "[\"http://127.0.0.1:2379\"]", endpoints).of(&["etcd", "patroni"]),
        discover("prefix", Text, "\"\"", prefix).of(&["etcd"]),
        discover("scope", Text, "\"\"", scope).of(&["patroni"]),
        discover("namespace", Text, "\"\"", namespace).of(&["patroni", "kubernetes"]),
        discover("address", EndpointOrOff, "\"\"", |it| text(&consul(it)?.endpoint)).of(&["consul", "nomad"]),
        discover("service", Text, "\"\"", service).of(&["consul", "nomad", "kubernetes"]),
        discover("tag", Text, "\"\"", |it| or(Some(&consul(it)?.tag).filter(|tag| !tag.is_empty()), "any"))
            .of(&["consul", "nomad"]),
        discover("passing", Bool, "true", |it| text(consul(it)?.passing)).of(&["consul"]),
        discover("port", Text, "\"\"", |it| {
            or(Some(&kubernetes(it)?.port).filter(|port| !port.is_empty()), "the only one")
        })
        .of(&["kubernetes"]),
        discover("kubeconfig", PathOrOff, "\"\"", |it| path_or_off(kubernetes(it)?.kubeconfig.as_ref()))
            .of(&["kubernetes"]),
        discover("ca_file", PathOrOff, "\"\"", |it| {
            or(access_of(it)?.ca_file.as_ref().map(|it| it.display()), OF_SYSTEM)
        })
        .of(OVER_HTTP),
        discover("cert", PathOrOff, "\"\"", |it| path_or_off(access_of(it)?.cert.as_ref())).of(OVER_HTTP),
        discover("key", PathOrOff, "\"\"", |it| path_or_off(access_of(it)?.key.as_ref())).of(OVER_HTTP),
        discover("user", Text, "\"\"", |it| or(access_of(it)?.user.as_ref(), "none")).of(&["etcd", "patroni"]),
        discover("password_file", PathOrOff, "\"\"", |it| path_or_off(access_of(it)?.password_file.as_ref()))
            .of(&["etcd", "patroni"]),
        discover("token_file", PathOrOff, "\"\"", |it| path_or_off(access_of(it)?.token_file.as_ref()))
            .of(&["consul", "nomad"]),
        discover("empty", Word(&["keep", "drop"]), "\"keep\"", |it| {
            text(if it?.drops_empty { "drop" } else { "keep" })
        }),
        // There is no change of a name: a backend with another name is another backend.
        backend("name", Name, "", |_| None).absent(),
        backend("address", Target, "", |it| text(&it.target)).required("address = \"10.0.0.1:5432\""),
        backend("weight", Integer(0, WEIGHT_MAX as u64), "1", |it| text(it.weight)),
        backend("backup", Level(BACKUP_MAX as u64), "false", |it| text(level(it.backup))),
        backend("connections_max", COUNT, "0", |it| count(it.connections_max)),
        backend("disabled", Bool, "false", |it| text(it.disabled)),
        backend("check_address", CheckAddress, "\"\"", |it| or(it.check_address.as_ref(), "its own")),
    ]
};

/// What a route can ask a client to speak.
const ROUTED: [&str; 6] = ["any", "tls", "ssh", "http", "postgresql", "other"];
/// The kinds of check.
const CHECKS: [&str; 7] = ["off", "tcp", "send_expect", "http", "postgresql", "mysql", "redis"];
/// Where backends are found.
const SOURCES: [&str; 7] = ["srv", "file", "etcd", "patroni", "consul", "nomad", "kubernetes"];
/// The sources that are asked by HTTP, and that can need a certificate.
const OVER_HTTP: &[&str] = &["etcd", "patroni", "consul", "nomad"];
/// The kinds of check that can log in.
const DATABASES: &[&str] = &["postgresql", "mysql", "redis"];

/// What is shown for a key that the system's own configuration decides.
const OF_SYSTEM: &str = "of the system";

/// Every key that has a value in this table, with the value.
pub(super) fn shown(thing: Thing<'_>) -> impl Iterator<Item = (&'static Key, Shown)> {
    KEYS.iter().filter_map(move |key| Some((key, key.shown(thing)?)))
}

/// The keys of one table, in the order of the list.
pub fn of(section: Section) -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().filter(move |key| key.section == section)
}

/// One key, by its table and name.
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    of(section).find(|key| key.name == name)
}
