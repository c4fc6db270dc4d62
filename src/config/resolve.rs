//! From what was written to what it means: the one maker of [`Config`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::check;
use super::error::{Places, Problem};
use super::keys::Section;
use super::listener::listener;
use super::model::*;
use super::raw::{self, Raw, Table};
use super::value::{self, At, Value};
use crate::base::address::Address;
use crate::base::host;

/// Resolves a file. What it returns is a configuration only if `faults` is empty afterwards: things that were wrong
/// before are left out of it, so that what depends on them is still looked at.
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
    let mut check = Check { places, faults };
    check.binds(raw, &config.admin);
    check.process(raw);
    check.pools(raw);
    check.loops(raw, &config);
    config
}

fn process(table: &Table) -> Process {
    let name = |key| match table.get(key) {
        Some(Value::Text(name)) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    let count = |key| match table.get(key) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    Process {
        workers: count("workers").and_then(|number| NonZeroUsize::new(number as usize)),
        pin_workers: flag(table, "pin_workers"),
        // 0 is "no limit", and then the descriptor limit is the one there is.
        connections_max: count("connections_max").filter(|number| *number > 0),
        shutdown_delay: duration(table, "shutdown_delay"),
        shutdown_grace: duration(table, "shutdown_grace"),
        busy_poll: duration(table, "busy_poll"),
        receive_buffers_max: size(table, "receive_buffers_max"),
        user: name("user"),
        group: name("group"),
    }
}

fn log(table: &Table) -> Log {
    let level = match word(table, "level") {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    let output = output(table).unwrap_or(Output::Stderr);
    Log { level, json: word(table, "format") == "json", output }
}

fn access_log(table: &Table) -> Option<AccessLog> {
    let format = if word(table, "format") == "tcplog" { AccessFormat::Tcplog } else { AccessFormat::Json };
    Some(AccessLog { output: output(table)?, format })
}

/// `None` is off.
fn output(table: &Table) -> Option<Output> {
    match table.get("output") {
        Some(Value::Text(path)) => Some(Output::File(path.into())),
        _ => match word(table, "output") {
            "stderr" => Some(Output::Stderr),
            "stdout" => Some(Output::Stdout),
            _ => None,
        },
    }
}

fn admin(table: &Table) -> Admin {
    let socket = match table.get("socket") {
        Some(Value::Text(path)) if !path.is_empty() => Some(PathBuf::from(path)),
        _ => None,
    };
    let listen = match table.get("listen") {
        Some(Value::Listen(address)) => *address,
        _ => None,
    };
    let hosts = match table.get("hosts") {
        Some(Value::ServerNames(names)) => names.clone(),
        _ => Vec::new(),
    };
    Admin { socket, socket_mode: mode(table, "socket_mode"), listen, hosts }
}

fn dns(table: &Table) -> Dns {
    let servers = match table.get("servers") {
        Some(Value::NameServers(servers)) => servers.clone(),
        other => disagree("servers", other),
    };
    // What the file does not say, the system says; it has the same defaults.
    let is_ours = |key: &str| !servers.is_empty() || table.is_written(key);
    Dns {
        timeout: is_ours("timeout").then(|| duration(table, "timeout")),
        attempts: is_ours("attempts").then(|| number(table, "attempts")),
        servers,
    }
}

fn pool(raw: &raw::Pool, faults: &mut Vec<At<Problem>>) -> Pool {
    let hash_key = match word(&raw.table, "hash_key") {
        "source_ip" => HashKey::SourceIp,
        _ => HashKey::SourceIpPort,
    };
    let balance = match word(&raw.table, "balance") {
        "least_conn" => Balance::LeastConn,
        "consistent_hash" => {
            let balance_factor = Some(number(&raw.table, "hash_balance_factor")).filter(|factor| *factor > 0);
            Balance::ConsistentHash { key: hash_key, balance_factor }
        }
        "random" => Balance::Random,
        "failover" => Balance::Failover,
        _ => Balance::RoundRobin,
    };
    Pool {
        name: Arc::from(raw.name.as_str()),
        balance,
        limits: limits(&raw.table),
        queue: Queue { max: number(&raw.table, "queue_max"), timeout: duration(&raw.table, "queue_timeout") },
        dial: dial(&raw.table),
        close_on_backend_down: word(&raw.table, "on_backend_down") == "close",
        drain_timeout: duration(&raw.table, "drain_timeout"),
        use_all_when_down: word(&raw.table, "when_all_down") == "use_all",
        slow_start: duration(&raw.table, "slow_start"),
        address_family: match word(&raw.table, "address_family") {
            "ipv4" => AddressFamily::Ipv4,
            "ipv6" => AddressFamily::Ipv6,
            _ => AddressFamily::Any,
        },
        hold: Hold { obsolete: duration(&raw.table, "obsolete_hold"), denied: duration(&raw.table, "denied_hold") },
        check: check(&raw.check, faults),
        ejection: ejection(&raw.ejection),
        backends: raw.backends.iter().filter_map(backend).collect(),
    }
}

fn limits(table: &Table) -> Limits {
    Limits {
        connect_timeout: duration(table, "connect_timeout"),
        connect_attempts: number(table, "connect_attempts"),
        idle_timeout: duration(table, "idle_timeout"),
        half_close_timeout: duration(table, "half_close_timeout"),
        lifetime_max: duration(table, "lifetime_max"),
        drain_idle: duration(table, "drain_idle"),
        keepalive: duration(table, "keepalive"),
        user_timeout: duration(table, "user_timeout"),
        receive_buffer: size(table, "receive_buffer"),
        unsent_max: size(table, "unsent_max"),
    }
}

/// Bytes; zero for the kernel's own.
fn size(table: &Table, key: &str) -> u32 {
    match table.get(key) {
        Some(Value::Size(bytes)) => *bytes,
        _ => 0,
    }
}

fn dial(table: &Table) -> Dial {
    let send_proxy = match word(table, "send_proxy") {
        "v1" => Some(Version::V1),
        "v2" => Some(Version::V2),
        _ => None,
    };
    let source = match table.get("source") {
        Some(Value::Source(source)) => source.clone(),
        other => disagree("source", other),
    };
    Dial { send_proxy, source }
}

fn ejection(table: &Table) -> Option<Ejection> {
    let ejection = Ejection {
        failures: number(table, "failures"),
        hangups: number(table, "hangups"),
        window: duration(table, "window"),
        duration: duration(table, "duration"),
        percent_max: number(table, "percent_max"),
    };
    (ejection.failures > 0 || ejection.hangups > 0).then_some(ejection)
}

/// `None` exactly when its address was wrong.
fn backend(table: &Table) -> Option<Backend> {
    let Some(Value::Target(target)) = table.get("address") else { return None };
    Some(Backend {
        name: Arc::from(backend_name(table)?),
        target: target.clone(),
        backup: flag(table, "backup"),
        connections_max: NonZeroU32::new(number(table, "connections_max")),
        weight: number(table, "weight"),
        disabled: flag(table, "disabled"),
    })
}

/// The name of a backend, or its address.
pub(super) fn backend_name(table: &Table) -> Option<String> {
    match (table.get("name"), table.get("address")) {
        (Some(Value::Text(name)), _) => Some(name.clone()),
        (_, Some(Value::Target(target))) => Some(target.to_string()),
        _ => None,
    }
}

/// A text that is the same for two targets exactly if they are written for the same address.
fn same_place(target: &Target) -> String {
    match target {
        Target::Address(Address::Tcp(SocketAddr::V6(address))) if address.scope_id() != 0 => address.to_string(),
        Target::Address(Address::Tcp(address)) => format!("{}:{}", address.ip().to_canonical(), address.port()),
        Target::Address(other) => other.to_string(),
        Target::Host { name, port } => format!("{}:{port}", host::without_dot(name).to_ascii_lowercase()),
    }
}

/// Whether that backend is behind a host name, and called so.
fn is_host_called(table: &Table, name: &str) -> bool {
    let is_host = matches!(table.get("address"), Some(Value::Target(Target::Host { .. })));
    is_host && backend_name(table).is_some_and(|its| its == name)
}

pub(super) fn duration(table: &Table, key: &str) -> Duration {
    match table.get(key) {
        Some(Value::Duration(duration)) => *duration,
        other => disagree(key, other),
    }
}

pub(super) fn flag(table: &Table, key: &str) -> bool {
    match table.get(key) {
        Some(Value::Bool(flag)) => *flag,
        other => disagree(key, other),
    }
}

pub(super) fn word(table: &Table, key: &str) -> &'static str {
    match table.get(key) {
        Some(Value::Word(word)) => word,
        other => disagree(key, other),
    }
}

/// A number whose range in the key list fits `N`.
pub(super) fn number<N: TryFrom<u64>>(table: &Table, key: &str) -> N {
    match table.get(key) {
        Some(Value::Integer(number)) => N::try_from(*number).unwrap_or_else(|_| disagree(key, table.get(key))),
        other => disagree(key, other),
    }
}

pub(super) fn mode(table: &Table, key: &'static str) -> u32 {
    match table.get(key) {
        Some(Value::Mode(mode)) => *mode,
        other => disagree(key, other),
    }
}

/// Every key that is asked for has a default in the list, so a table always holds it; every run of the program and of
/// the tests comes through here for every key, so a mistake cannot hide.
pub(super) fn disagree(key: &str, found: Option<&Value>) -> ! {
    panic!("the key list and the resolver disagree about `{key}`: {found:?}")
}

const EVERY_V4: &str = "0.0.0.0 is every IPv4 address of this host: write one of both, or another port";
const EVERY_V6: &str = "[::] is every IPv6 address of this host: write one of both, or another port";

/// What can be wrong between keys.
pub(super) struct Check<'a, 't> {
    places: &'a Places<'t>,
    pub(super) faults: &'a mut Vec<At<Problem>>,
}

impl Check<'_, '_> {
    /// No address twice; port 0 is another one each time.
    fn binds(&mut self, raw: &Raw, admin: &Admin) {
        let mut seen: HashMap<Address, usize> = HashMap::new();
        let mut all_addresses: HashMap<(u16, bool), Vec<(IpAddr, usize)>> = HashMap::new();
        let mut all: Vec<(Range<usize>, Address)> = Vec::new();
        if let Some(address) = admin.listen {
            all.push((raw.admin.span_of("listen"), Address::Tcp(address)));
        }
        if let Some(path) = &admin.socket {
            all.push((raw.admin.span_of("socket"), Address::Unix(path.clone())));
        }
        for listener in &raw.listeners {
            if let Some(Value::Binds(binds)) = listener.table.get("bind") {
                all.extend(binds.iter().cloned());
            }
        }
        all.sort_by_key(|(span, _)| span.start);
        for (span, address) in all {
            let any_port = matches!(&address, Address::Tcp(address) if address.port() == 0);
            let line = self.places.line(span.start);
            if let (false, Address::Tcp(tcp)) = (any_port, &address) {
                let beside = all_addresses.entry((tcp.port(), tcp.is_ipv4())).or_default();
                let covers = |other: &&(IpAddr, usize)| {
                    other.0 != tcp.ip() && (other.0.is_unspecified() || tcp.ip().is_unspecified())
                };
                if let Some((other, line)) = beside.iter().find(covers) {
                    let (every, one) = if other.is_unspecified() { (*other, tcp.ip()) } else { (tcp.ip(), *other) };
                    let what = format!("port {} of {one}", tcp.port());
                    let hint = if every.is_ipv4() { EVERY_V4 } else { EVERY_V6 };
                    self.faults.push((span, Problem::Duplicate { what, line: *line, hint }));
                    continue;
                }
                beside.push((tcp.ip(), line));
            }
            if let (false, Some(line)) = (any_port, seen.insert(address.clone(), line)) {
                let hint = "every listener, `admin.listen` and `admin.socket` need an address of their own";
                self.faults.push((span, Problem::Duplicate { what: format!("`{address}`"), line, hint }));
            }
        }
    }

    /// What belongs to a socket or a log that there is none of.
    fn process(&mut self, raw: &Raw) {
        let is_off = |table: &Table, key| matches!(table.get(key), Some(Value::Text(text)) if text.is_empty());
        let mut needs = |table: &Table, key: &'static str, what: &str, hint: &str| {
            let problem = Problem::Needs { key, what: what.to_string(), hint: hint.to_string() };
            self.faults.push((table.span_of(key), problem));
        };
        if is_off(&raw.admin, "socket") && raw.admin.is_asked_for(Section::Admin, "socket_mode") {
            needs(&raw.admin, "socket_mode", "`socket`", "leave it out, or add the path of a socket");
        }
        let has_log = output(&raw.access_log).is_some();
        if !has_log && raw.access_log.is_asked_for(Section::AccessLog, "format") {
            needs(&raw.access_log, "format", "`output`", "leave it out, or say where the access log goes");
        }
    }

    fn pools(&mut self, raw: &Raw) {
        if raw.listeners.is_empty() && !raw.has_wrong_listeners {
            self.faults.push((0..0, Problem::NoListener));
        }
        for listener in &raw.listeners {
            self.leads_somewhere(&listener.table, raw);
            listener.routes.iter().for_each(|route| self.leads_somewhere(route, raw));
            self.listener(listener);
        }
        for pool in &raw.pools {
            if pool.backends.is_empty() && !pool.has_wrong_backends {
                self.faults.push((pool.table.span.clone(), Problem::EmptyPool(pool.name.clone())));
            }
            self.backend_names(pool);
            self.backend_addresses(pool);
            self.primary(pool);
            self.balance(pool);
            self.source(pool);
        }
    }

    /// Where connections come from must be able to reach somebody.
    fn source(&mut self, pool: &raw::Pool) {
        let Some(Value::Source(LocalAddress::Addresses(all))) = pool.table.get("source") else { return };
        let known = |backend: &Table| match backend.get("address") {
            Some(Value::Target(Target::Address(Address::Tcp(address)))) => Some(address.is_ipv6()),
            _ => None,
        };
        let has_host = pool
            .backends
            .iter()
            .any(|backend| matches!(backend.get("address"), Some(Value::Target(Target::Host { .. }))));
        for address in all.iter() {
            if !has_host && !pool.backends.iter().filter_map(known).any(|is_v6| is_v6 == address.is_ipv6()) {
                let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
                let problem = Problem::BadValue {
                    key: "source".to_string(),
                    found: format!("\"{address}\""),
                    hint: format!("the pool has no {family} backend that it could be used for"),
                };
                self.faults.push((pool.table.span_of("source"), problem));
            }
        }
    }

    /// The pool of a listener or of a route.
    fn leads_somewhere(&mut self, table: &Table, raw: &Raw) {
        let Some(Value::Text(pool)) = table.get("pool") else { return };
        if raw.has_wrong_pools || raw.pools.iter().any(|known| known.name == *pool) {
            return;
        }
        let hint = match value::nearest(pool, raw.pools.iter().map(|known| known.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add [pools.{pool}] with [[pools.{pool}.backends]]"),
        };
        self.faults.push((table.span_of("pool"), Problem::UnknownPool { pool: pool.clone(), hint }));
    }

    /// What belongs to one policy means nothing to the others.
    fn balance(&mut self, pool: &raw::Pool) {
        let balance = word(&pool.table, "balance");
        let mut needs = |key: &'static str, what: &str, hint: &str| {
            let problem = Problem::Needs { key, what: what.to_string(), hint: hint.to_string() };
            self.faults.push((pool.table.span_of(key), problem));
        };
        for key in ["hash_key", "hash_balance_factor"] {
            if balance != "consistent_hash" && pool.table.is_asked_for(Section::Pool, key) {
                needs(key, "balance = \"consistent_hash\"", "leave it out, or change `balance`");
            }
        }
        if balance == "failover" && pool.table.is_asked_for(Section::Pool, "slow_start") {
            needs("slow_start", "a policy that shares", "failover sends everybody to one backend; leave it out");
        }
        let factor: u32 = number(&pool.table, "hash_balance_factor");
        if (1..=100).contains(&factor) {
            let hint = "every backend must be allowed more than its share; write 101 or more, as in 125".to_string();
            let problem = Problem::BadValue { key: "hash_balance_factor".to_string(), found: factor.to_string(), hint };
            self.faults.push((pool.table.span_of("hash_balance_factor"), problem));
        }
    }

    /// To use what is not the primary when there is none would be to write anywhere.
    fn primary(&mut self, pool: &raw::Pool) {
        if word(&pool.check, "role") == "primary" && word(&pool.table, "when_all_down") == "use_all" {
            let problem = Problem::BadValue {
                key: "when_all_down".to_string(),
                found: "\"use_all\" where the check has role = \"primary\"".to_string(),
                hint: "a backend that is not the primary takes no writes; leave it at \"refuse\"".to_string(),
            };
            self.faults.push((pool.table.span_of("when_all_down"), problem));
        }
    }

    /// One server twice would get two shares, two limits, and two votes on who the primary is.
    fn backend_addresses(&mut self, pool: &raw::Pool) {
        let mut seen: HashMap<String, (Option<String>, usize)> = HashMap::new();
        for backend in &pool.backends {
            let Some(Value::Target(target)) = backend.get("address") else { continue };
            let (name, span) = (backend_name(backend), backend.span_of("address"));
            let line = self.places.line(span.start);
            match seen.entry(same_place(target)) {
                Entry::Vacant(place) => _ = place.insert((name, line)),
                // Two without a `name` are called the same, which has been said.
                Entry::Occupied(first) if first.get().0 == name => {}
                Entry::Occupied(first) => {
                    let hint = "a pool has each address once; for a greater share raise its `weight`";
                    let (what, line) = (format!("the address `{target}`"), first.get().1);
                    self.faults.push((span, Problem::Duplicate { what, line, hint }));
                }
            }
        }
    }

    fn backend_names(&mut self, pool: &raw::Pool) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for backend in &pool.backends {
            let Some(name) = backend_name(backend) else { continue };
            let span = match backend.get("name") {
                Some(_) => backend.span_of("name"),
                None => backend.span_of("address"),
            };
            let line = self.places.line(span.start);
            if let Some(line) = seen.insert(name.clone(), line) {
                let hint = "give each backend of a pool a `name` of its own";
                let problem = Problem::Duplicate { what: format!("the backend name `{name}`"), line, hint };
                self.faults.push((span.clone(), problem));
            }
            let numbered = name.rsplit_once('#').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
            let taken = numbered.and_then(|(base, _)| pool.backends.iter().find(|other| is_host_called(other, base)));
            if let Some(other) = taken {
                let (what, line) = (format!("the backend name `{name}`"), self.places.line(other.span.start));
                let hint = "further addresses of a host name are called so; choose another `name`";
                self.faults.push((span, Problem::Duplicate { what, line, hint }));
            }
        }
    }
}
