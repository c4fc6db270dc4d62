//! From what was written to what it means: the only maker of [`Config`].
//!
//! Each function reads one table and fills one type of the model. A key is read by its name and in its type; if the
//! name or type were wrong, the program would stop at its start, in every test (`Table::held`). What can be wrong
//! between keys is left to `between` and `check`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use super::address;
use super::between::between;
use super::check::check;
use super::discover::discover;
use super::error::{Places, Problem};
use super::listener::listener;
use super::model::*;
use super::raw::{self, Raw, Table};
use super::value::At;
use crate::kernel::driver::Driver;
use crate::tls::client::ServerNameSource;

/// Resolves a file. The result counts only if `faults` is empty afterwards: things that were wrong are left out of it,
/// so that what depends on them is still checked.
pub(super) fn resolve(raw: &Raw, places: &Places<'_>, faults: &mut Vec<At<Problem>>) -> Config {
    let config = Config {
        process: process(&raw.process),
        log: log(&raw.log),
        access_log: access_log(&raw.access_log),
        admin: admin(&raw.admin),
        dns: dns(&raw.dns),
        listeners: raw.listeners.iter().filter_map(listener).collect(),
        pools: raw.pools.iter().map(|raw| pool(raw, faults)).collect(),
    };
    between(raw, &config, places, faults);
    config
}

/// `[process]`.
fn process(table: &Table) -> Process {
    Process {
        workers: table.number_or_auto("workers").and_then(NonZeroUsize::new),
        io: Driver::of_name(table.word("io")),
        pin_workers: table.flag("pin_workers"),
        // 0 means "no limit", and then the limit of descriptors decides.
        connections_max: table.number_or_auto("connections_max").filter(|number| *number > 0),
        shutdown_delay: table.duration("shutdown_delay"),
        shutdown_grace: table.duration("shutdown_grace"),
        busy_poll: table.duration("busy_poll"),
        receive_buffers_max: table.size("receive_buffers_max"),
        user: table.text_or_off("user").map(str::to_string),
        group: table.text_or_off("group").map(str::to_string),
    }
}

/// `[log]`.
fn log(table: &Table) -> Log {
    let level = match table.word("level") {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    let output = output(table).unwrap_or(Output::Stderr);
    Log { level, json: table.word("format") == "json", output }
}

/// `[access_log]`; `None` if it is off.
fn access_log(table: &Table) -> Option<AccessLog> {
    let format = if table.word("format") == "tcplog" { AccessFormat::Tcplog } else { AccessFormat::Json };
    Some(AccessLog { output: output(table)?, format, skip_empty: table.flag("skip_empty") })
}

/// Where a log goes; `None` if it is off.
fn output(table: &Table) -> Option<Output> {
    match table.word_or_path("output") {
        Err(place) => Some(match address::syslog(place) {
            Some(server) => Output::Syslog(server),
            None => Output::File(place.into()),
        }),
        Ok("stderr") => Some(Output::Stderr),
        Ok("stdout") => Some(Output::Stdout),
        Ok(_) => None,
    }
}

/// `[admin]`.
fn admin(table: &Table) -> Admin {
    Admin {
        socket: table.text_or_off("socket").map(PathBuf::from),
        socket_mode: table.mode("socket_mode"),
        listen: table.listen("listen"),
        probes: table.listen("probes"),
        hosts: table.server_names("hosts").to_vec(),
    }
}

/// `[dns]`.
fn dns(table: &Table) -> Dns {
    let servers = table.name_servers("servers").to_vec();
    // Without name servers in the file, the system's resolv.conf decides what the file does not write.
    let is_ours = |key: &str| !servers.is_empty() || table.is_written(key);
    Dns {
        timeout: is_ours("timeout").then(|| table.duration("timeout")),
        attempts: is_ours("attempts").then(|| table.number("attempts")),
        servers,
    }
}

/// `[pools.NAME]` with everything below it. The keys of its check are checked on the way.
fn pool(raw: &raw::Pool, faults: &mut Vec<At<Problem>>) -> Pool {
    let hash_key = match raw.table.word("hash_key") {
        "source_ip" => HashKey::SourceIp,
        _ => HashKey::SourceIpPort,
    };
    let tls = raw.tls.as_ref().map(pool_tls);
    let hold = Hold { obsolete: raw.table.duration("obsolete_hold"), denied: raw.table.duration("denied_hold") };
    let balance_factor = Some(raw.table.number("hash_balance_factor")).filter(|factor| *factor > 0);
    Pool {
        name: Arc::from(raw.name.as_str()),
        balance: Policy::named(raw.table.word("balance")).hashing(hash_key, balance_factor),
        limits: limits(&raw.table),
        queue: Queue { max: raw.table.number("queue_max"), timeout: raw.table.duration("queue_timeout") },
        dial: dial(&raw.table),
        awaits_first_byte: raw.table.word("connect_on") == "first_byte",
        close_on_backend_down: raw.table.word("on_backend_down") == "close",
        close_on_main_up: raw.table.word("on_main_up") == "close",
        drain_timeout: raw.table.duration("drain_timeout"),
        use_all_when_down: raw.table.word("when_all_down") == "use_all",
        fallback: raw.table.text_or_off("fallback").map(Arc::from),
        up_min: raw.table.number("up_min"),
        sticky: raw.table.duration("sticky"),
        slow_start: raw.table.duration("slow_start"),
        address_family: match raw.table.word("address_family") {
            "ipv4" => AddressFamily::Ipv4,
            "ipv6" => AddressFamily::Ipv6,
            _ => AddressFamily::Any,
        },
        hold,
        check: check(&raw.check, tls.as_ref(), faults),
        tls,
        ejection: ejection(&raw.ejection),
        discover: raw.discover.as_ref().and_then(|table| discover(table, hold)),
        backends: raw.backends.iter().filter_map(backend).collect(),
    }
}

/// The limits of a pool's sessions.
fn limits(table: &Table) -> Limits {
    Limits {
        connect_timeout: table.duration("connect_timeout"),
        connect_attempts: table.number("connect_attempts"),
        idle_timeout: table.duration("idle_timeout"),
        half_close_timeout: table.duration("half_close_timeout"),
        lifetime_max: table.duration("lifetime_max"),
        drain_idle: table.duration("drain_idle"),
        keepalive: table.duration("keepalive"),
        user_timeout: table.duration("user_timeout"),
        receive_buffer: table.size("receive_buffer"),
        unsent_max: table.size("unsent_max"),
    }
}

/// How connections to a pool's backends begin.
fn dial(table: &Table) -> Dial {
    let send_proxy = match table.word("send_proxy") {
        "v1" => Some(Version::V1),
        "v2" => Some(Version::V2),
        _ => None,
    };
    Dial { send_proxy, source: table.source("source").clone() }
}

/// `[pools.NAME.tls]`. What is wrong between its keys is found in `between`.
fn pool_tls(table: &Table) -> PoolTls {
    let path = |key: &str| table.text_or_off(key).map(PathBuf::from);
    PoolTls {
        server_name: match table.text("server_name") {
            "" => ServerNameSource::Host,
            "client" => ServerNameSource::Client,
            name => ServerNameSource::Given(name.into()),
        },
        trust: match (table.flag("verify"), path("ca_file")) {
            (false, _) => Trust::Unverified,
            (true, None) => Trust::System,
            (true, Some(file)) => Trust::File(file),
        },
        pair: path("cert").zip(path("key")).map(|(cert, key)| CertificatePair { cert, key }),
        min_version: if table.word("min_version") == "1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
        alpn: table.protocols("alpn").to_vec(),
        starttls: if table.word("starttls") == "postgresql" { Starttls::Postgresql } else { Starttls::Off },
        loaded: Loaded::default(),
    }
}

/// `[pools.NAME.ejection]`; `None` if it would never eject.
fn ejection(table: &Table) -> Option<Ejection> {
    let ejection = Ejection {
        failures: table.number("failures"),
        hangups: table.number("hangups"),
        window: table.duration("window"),
        duration: table.duration("duration"),
        percent_max: table.number("percent_max"),
    };
    (ejection.failures > 0 || ejection.hangups > 0).then_some(ejection)
}

/// `[[pools.NAME.backends]]`; `None` exactly when the address was wrong.
pub(super) fn backend(table: &Table) -> Option<Backend> {
    Some(Backend {
        name: Arc::from(table.name_or_address()?),
        target: table.find_target("address")?.clone(),
        backup: table.number("backup"),
        connections_max: NonZeroU32::new(table.number("connections_max")),
        weight: table.number("weight"),
        disabled: table.flag("disabled"),
        check_address: table.check_address("check_address").cloned(),
        origin: BackendOrigin::File,
        rests: None,
    })
}
