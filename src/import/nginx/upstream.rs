//! From an `upstream` or an address, with the settings of a server, to a pool.
//!
//! What nginx has by default is written out, because ringway's defaults are others:
//!
//! | nginx | ringway |
//! |---|---|
//! | `proxy_connect_timeout 60s`, `proxy_timeout 10m` | `connect_timeout`, `idle_timeout` |
//! | all servers are tried | `connect_attempts`: as many as there are |
//! | `max_fails=1 fail_timeout=10s` | `ejection`, without a limit on how many are out; none with a single server |
//! | no checks | `type = "off"` |
//! | sessions of a server that fails go on | `on_backend_down = "keep"` |
//! | a client is refused when all are at `max_conns` | `queue_max = 0` |
//!
//! Settings of a server belong to the pool here, so an upstream that two servers use in different ways becomes two
//! pools.

use super::Job;
use super::tree::Directive;
use crate::import::address::{self, ServerPlace};
use crate::import::note::{Origin, Refusal};
use crate::import::sheet::{BackendSheet, KeyTable, PoolSheet};
use crate::import::time;

/// Addresses that a host name is expected to have, for counting attempts.
const PER_NAME: u64 = 4;

/// Makes the pool for a target, or finds the one that is the same. Returns its name.
///
/// Two servers that use an upstream in the same way share its pool, and so its turn and its limits, as they do in nginx
/// with `zone`.
///
/// # Errors
/// The line that cannot be said.
pub fn pool<'a>(
    job: &mut Job<'a>,
    server: &'a Directive,
    target: &str,
    wanted: &str,
    at: &Origin,
    keepalive: Option<&(String, Origin)>,
) -> Result<String, Refusal> {
    let mut pool = match job.upstreams.get(target).copied() {
        Some(upstream) => of_upstream(job, upstream)?,
        None => {
            let place = address::nginx_server(target).map_err(|text| (at.clone(), text))?;
            let mut pool = PoolSheet::new(wanted, at);
            pool.keys.set("balance", "round_robin", at);
            pool.ejection.set("failures", 0, at);
            pool.ejection.set("hangups", 0, at);
            pool.backends.push(BackendSheet { origin: at.clone(), keys: one_address(&place, at) });
            pool
        }
    };
    settings(job, server, &mut pool, keepalive)?;
    health_check(job, server, &mut pool)?;
    let same =
        |other: &PoolSheet| values(&other.keys) == values(&pool.keys) && values(&other.check) == values(&pool.check);
    let made = job.made.entry((pool.origin.clone(), target.to_string())).or_default();
    if let Some(place) = made.iter().find(|place| same(&job.sheet.pools[**place])) {
        return Ok(job.sheet.pools[*place].name.clone());
    }
    pool.name = job.names.1.take(&pool.name);
    made.push(job.sheet.pools.len());
    let name = pool.name.clone();
    job.sheet.pools.push(pool);
    Ok(name)
}

/// What keys say, wherever it was written.
fn values(keys: &KeyTable) -> Vec<(&'static str, &crate::import::sheet::Written)> {
    keys.entries.iter().map(|entry| (entry.key, &entry.value)).collect()
}

/// A backend with an address alone.
fn one_address(place: &ServerPlace, origin: &Origin) -> KeyTable {
    let mut keys = KeyTable::default();
    keys.set("address", place.address(), origin);
    keys
}

/// What the words of the servers of an upstream come to together.
#[derive(Default)]
struct Failing {
    /// `max_fails` and `fail_timeout`, of each server.
    all: Vec<(u64, u64, Origin)>,
    /// Whether a server has a limit.
    is_limited: bool,
    /// Only one family of addresses is looked up.
    slow_start: Option<(u64, Origin)>,
}

/// The pool of an upstream.
fn of_upstream(job: &mut Job<'_>, upstream: &Directive) -> Result<PoolSheet, Refusal> {
    let mut pool = PoolSheet::new(upstream.arg(0), &upstream.origin);
    pool.keys.set("balance", "round_robin", &upstream.origin);
    let mut failing = Failing::default();
    for one in upstream.inner() {
        let fault = |text: String| (one.origin.clone(), text);
        match one.name.as_str() {
            "server" => {
                let keys = server(job, one, &mut failing).map_err(fault)?;
                pool.backends.push(BackendSheet { origin: one.origin.clone(), keys });
            }
            "zone" | "state" => {
                job.notes.note(&one.origin, format!("`{}` is left out: workers always share", one.shown()))
            }
            "queue" => {
                pool.keys.set("queue_max", one.arg(0).parse::<u64>().unwrap_or(1024), &one.origin);
                let timeout = one.args.iter().find_map(|arg| time::of_nginx(arg.strip_prefix("timeout=")?));
                pool.keys.set("queue_timeout", time::shown(timeout.unwrap_or(60_000_000)), &one.origin);
            }
            "resolver" | "resolver_timeout" => {
                job.notes.note(&one.origin, "name servers are those of the whole process: [dns]")
            }
            _ => balance(job, one, &mut pool.keys).map_err(fault)?,
        }
    }
    if let Some((us, origin)) = &failing.slow_start {
        pool.keys.set("slow_start", time::shown(*us), origin);
    }
    if failing.is_limited && pool.keys.get("queue_max").is_none() {
        // nginx refuses a client when all servers are full.
        pool.keys.set("queue_max", 0, &upstream.origin);
    }
    ejection(job, &failing, &mut pool);
    Ok(pool)
}

/// A server of an upstream.
fn server(job: &mut Job<'_>, line: &Directive, failing: &mut Failing) -> Result<KeyTable, String> {
    let place = address::nginx_server(line.arg(0))?;
    let (mut keys, origin) = (one_address(&place, &line.origin), &line.origin);
    let (mut fails, mut timeout_us) = (1, 10_000_000);
    for arg in &line.args[1..] {
        let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
        let number = || value.parse::<u64>().map_err(|_| format!("`{arg}`: that is no number"));
        let us = || time::of_nginx(value).ok_or_else(|| format!("`{arg}`: that is no time"));
        match name {
            "weight" => match number()? {
                1 => {}
                weight => keys.set("weight", weight, origin),
            },
            "backup" => keys.set("backup", true, origin),
            "down" => keys.set("disabled", true, origin),
            "max_conns" => {
                let count = number()?;
                failing.is_limited |= count > 0;
                keys.set("connections_max", count, origin);
            }
            "max_fails" => fails = number()?,
            "fail_timeout" => timeout_us = us()?,
            "slow_start" => failing.slow_start = Some((us()?, origin.clone())),
            "resolve" => job.notes.note(origin, "names are always looked up again"),
            "service" => {
                return Err(
                    "ringway finds SRV records with [pools.NAME.discover], which the importer does not write".into()
                );
            }
            "drain" => keys.set("weight", 0, origin),
            _ => return Err(format!("`{arg}` is no word of a server that this importer knows")),
        }
    }
    failing.all.push((fails, timeout_us, origin.clone()));
    Ok(keys)
}

/// How a server is chosen.
///
/// `hash` of the client's address is what a consistent hash is for. Any other text would have to be known of each
/// client, which needs a look into the stream.
fn balance(job: &mut Job<'_>, line: &Directive, keys: &mut KeyTable) -> Result<(), String> {
    let origin = &line.origin;
    let words: Vec<&str> = line.args.iter().map(String::as_str).collect();
    match (line.name.as_str(), words.as_slice()) {
        ("least_conn", []) => keys.set("balance", "least_conn", origin),
        ("hash", [key, rest @ ..]) => {
            let key = key.replace(['{', '}'], "");
            let by_port = match key.as_str() {
                "$remote_addr" | "$binary_remote_addr" => false,
                "$remote_addr$remote_port" | "$remote_addr:$remote_port" | "$binary_remote_addr$remote_port" => true,
                other => return Err(format!("ringway hashes the client's address, not `{other}`")),
            };
            keys.set("balance", "consistent_hash", origin);
            if by_port {
                keys.set("hash_key", "source_ip_port", origin);
            }
            if !rest.contains(&"consistent") {
                job.notes.note(origin, "ringway's hash is consistent: fewer clients move when a server goes");
            }
        }
        ("random", [] | ["two"] | ["two", "least_conn"]) => {
            keys.set("balance", "random", origin);
            if words.is_empty() {
                job.notes.note(origin, "ringway takes the better of two random ones");
            }
        }
        ("ip_hash", _) => {
            return Err("`ip_hash` is no word of `stream`; `hash $remote_addr consistent` is consistent_hash".into());
        }
        (name, _) => return Err(format!("ringway cannot balance by `{name}`")),
    }
    Ok(())
}

/// Servers that failed are left alone for a while, as many as there are.
///
/// nginx counts per server, ringway has one number per pool: of those that are written the smallest counts, since it
/// takes a server out earlier. `max_fails=0` for one server says nothing of the others.
fn ejection(job: &mut Job<'_>, failing: &Failing, pool: &mut PoolSheet) {
    let Some((_, _, first)) = failing.all.first() else { return };
    let ejection = &mut pool.ejection;
    let counting: Vec<&(u64, u64, Origin)> = failing.all.iter().filter(|one| one.0 > 0 && one.1 > 0).collect();
    let said = counting.iter().filter(|one| (one.0, one.1) != (1, 10_000_000));
    let strictest = said.min_by_key(|one| one.0).or(counting.first());
    // With one server nginx does not count.
    let Some((fails, us, origin)) = strictest.map(|one| (*one).clone()).filter(|_| failing.all.len() > 1) else {
        ejection.set("failures", 0, first);
        ejection.set("hangups", 0, first);
        return;
    };
    if let Some(other) = failing.all.iter().find(|one| (one.0, one.1) != (fails, us)) {
        job.notes
            .note(&other.2, format!("max_fails={fails} fail_timeout={} holds for the whole pool", time::shown(us)));
    }
    let window = time::shown(us.clamp(1_000, 86_400_000_000));
    ejection.set("failures", fails.min(10_000), &origin);
    ejection.set("hangups", 0, &origin);
    ejection.set("window", window.clone(), &origin);
    ejection.set("duration", window, &origin);
    ejection.set("percent_max", 100, &origin);
}

/// The settings of the server that leads to a pool.
///
/// `proxy_next_upstream_tries 0` is nginx's default: every server, each once. A host name stands for several, so more
/// attempts are allowed where one is written; a server that was tried is not tried again while another one is left.
fn settings<'a>(
    job: &mut Job<'a>,
    server: &'a Directive,
    pool: &mut PoolSheet,
    keepalive: Option<&(String, Origin)>,
) -> Result<(), Refusal> {
    let here = server.origin.clone();
    let set_time = |job: &Job<'a>, pool: &mut PoolSheet, name: &str, key: &'static str, default: u64| {
        let line = job.setting(server, name);
        let us = line.and_then(|line| time::of_nginx(line.arg(0))).unwrap_or(default);
        pool.keys.set(key, time::shown(us), line.map_or(&here, |line| &line.origin));
    };
    set_time(job, pool, "proxy_connect_timeout", "connect_timeout", 60_000_000);
    set_time(job, pool, "proxy_timeout", "idle_timeout", 600_000_000);
    let is_name = |backend: &BackendSheet| {
        let address = backend.keys.text("address").unwrap_or_default();
        address::nginx_server(address).is_ok_and(|place| place.is_name())
    };
    let all: u64 = pool.backends.iter().map(|backend| if is_name(backend) { PER_NAME } else { 1 }).sum();
    let next = job.setting(server, "proxy_next_upstream").filter(|line| line.arg(0) == "off");
    let tries = job.setting(server, "proxy_next_upstream_tries");
    let limit = tries.and_then(|line| line.arg(0).parse::<u64>().ok()).filter(|tries| *tries > 0);
    let attempts = match (next, limit) {
        (Some(_), _) => 1,
        (None, Some(limit)) => limit,
        (None, None) => all,
    };
    let origin = next.or(tries).map_or(&here, |line| &line.origin).clone();
    pool.keys.set("connect_attempts", attempts.clamp(1, 100), &origin);
    pool.keys.set("on_backend_down", "keep", &here);
    if let Some(line) = job.setting(server, "proxy_protocol").filter(|line| line.arg(0) == "on") {
        pool.keys.set("send_proxy", "v1", &line.origin);
    }
    if let Some(line) = job.setting(server, "proxy_bind").filter(|line| line.arg(0) != "off") {
        let is_client =
            ["$remote_addr", "$remote_addr:$remote_port"].contains(&line.arg(0)) && line.arg(1) == "transparent";
        match line.arg(0) {
            _ if is_client => pool.keys.set("source", "client", &line.origin),
            address if !address.contains('$') && line.args.len() == 1 => pool.keys.set("source", address, &line.origin),
            _ => return Err((line.origin.clone(), format!("ringway cannot connect from `{}`", line.args.join(" ")))),
        }
    }
    if let Some((time, origin)) = keepalive {
        pool.keys.set("keepalive", time.clone(), origin);
    }
    let resolver = job.setting(server, "resolver").filter(|line| line.args.iter().any(|arg| arg == "ipv6=off"));
    if let Some(line) = resolver.filter(|_| pool.backends.iter().any(is_name)) {
        pool.keys.set("address_family", "ipv4", &line.origin);
    }
    Ok(())
}

/// Checks, which nginx only has in its commercial version.
///
/// `jitter` spreads checks, which ringway does by itself; `mandatory` and `persistent` are about the first check, which
/// decides here alone.
fn health_check<'a>(job: &mut Job<'a>, server: &'a Directive, pool: &mut PoolSheet) -> Result<(), Refusal> {
    let Some(line) = job.setting(server, "health_check") else {
        pool.check.set("type", "off", &pool.origin);
        return Ok(());
    };
    let (origin, check) = (&line.origin, &mut pool.check);
    check.set("type", "tcp", origin);
    let timeout = job.setting(server, "health_check_timeout").and_then(|line| time::of_nginx(line.arg(0)));
    let (mut interval, mut rise, mut fall) = (5_000_000, 1, 1);
    for arg in &line.args {
        let fault = |text: &str| Err((origin.clone(), format!("`{arg}`: {text}")));
        let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
        match (name, value.parse::<u64>()) {
            ("interval", _) => interval = time::of_nginx(value).unwrap_or(interval),
            ("passes", Ok(number)) => rise = number,
            ("fails", Ok(number)) => fall = number,
            ("port", Ok(number)) => check.set("port", number, origin),
            ("jitter" | "mandatory" | "persistent", _) => {}
            ("match", _) => conversation(job.stream, value, check).map_err(|text| (origin.clone(), text))?,
            ("udp", _) => return fault("ringway passes on TCP alone"),
            _ => return fault("it is no word of a check that this importer knows"),
        }
    }
    for key in ["interval", "fast_interval", "down_interval"] {
        check.set(key, time::shown(interval.clamp(1_000, 86_400_000_000)), origin);
    }
    check.set("timeout", time::shown(timeout.unwrap_or(5_000_000).clamp(1_000, 86_400_000_000)), origin);
    check.set("rise", rise.clamp(1, 1000), origin);
    check.set("fall", fall.clamp(1, 1000), origin);
    Ok(())
}

/// What a `match` sends and expects.
fn conversation(stream: &[Directive], name: &str, check: &mut KeyTable) -> Result<(), String> {
    let block = stream.iter().find(|one| one.name == "match" && one.arg(0) == name);
    let block = block.ok_or_else(|| format!("there is no match `{name}`"))?;
    check.set("type", "send_expect", &block.origin);
    for one in block.inner() {
        match (one.name.as_str(), one.args.as_slice()) {
            ("send", [text]) => check.set("send", text.replace('\r', "\\r").replace('\n', "\\n"), &one.origin),
            ("expect", [kind, regex]) if kind.starts_with('~') => {
                let flag = if kind == "~*" { "(?i)" } else { "" };
                check.set("expect", format!("{flag}{regex}"), &one.origin);
            }
            ("expect", [text]) => check.set("expect", regex_of(text), &one.origin),
            _ => return Err(format!("ringway cannot say `{}`", one.shown())),
        }
    }
    Ok(())
}

/// An expression that matches this text.
fn regex_of(text: &str) -> String {
    let is_sign = |c: char| c.is_ascii_punctuation() && !"-_:/,;'\"!@#%&=<>~`".contains(c);
    text.chars().flat_map(|c| is_sign(c).then_some('\\').into_iter().chain([c])).collect()
}
