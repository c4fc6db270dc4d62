//! What differs between two configurations, in words for the person who has changed the file. Pure.
//!
//! Each configuration is written out as paths with their values, as the file has them; so nothing can be forgotten that
//! is not missing in the whole list, and the compiler says what is ([`list`] names every field).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::keys;
use super::model::*;
use crate::admit::Networks;
use crate::admit::routes::Route;
use crate::admit::sources::RateLimit;
use crate::base::hash;

/// See the module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Diff {
    /// One line a change, in the order of the file.
    pub changes: Vec<String>,
    /// Those of them that only a restart can make.
    pub needs_restart: Vec<String>,
}

/// What changes from `before` to `after`.
pub fn diff(before: &Config, after: &Config) -> Diff {
    let (old, new) = (list(before), list(after));
    let mut diff = Diff::default();
    for item in &new.items {
        match old.item(&item.path) {
            None => diff.changes.extend(item.shown_alone("added", |parent| old.item(parent).is_none())),
            Some(was) if was.value != item.value && !item.is_thing => {
                let line = format!("{} {}", item.shown(), item.change_from(was));
                let stays = RESTART.iter().any(|table| item.path.starts_with(table));
                if stays && !LIVE.contains(&&*item.path) {
                    diff.needs_restart.push(line.clone());
                }
                diff.changes.push(line);
            }
            Some(_) => {}
        }
    }
    let gone = old.items.iter().filter(|item| new.item(&item.path).is_none());
    diff.changes.extend(gone.filter_map(|item| item.shown_alone("removed", |parent| new.item(parent).is_none())));
    diff.changes.extend(reordered(before, after));
    diff
}

/// Tables of which the process has made something that stays for its life.
const RESTART: [&str; 4] = ["process.", "log.", "access_log.", "admin."];
/// Keys of these tables that can change all the same.
const LIVE: [&str; 3] = ["process.shutdown_delay", "process.shutdown_grace", "log.level"];

/// A key, or a thing that has keys.
struct Item {
    path: String,
    /// Of a thing: what is said of it when it comes or goes.
    value: String,
    /// Of what may hold a secret: how much it is, which is all that is ever shown of it. Lines of a change go to the
    /// log, to the API and to whoever asks for a reload.
    measure: Option<Measure>,
    /// The thing it belongs to; empty for keys of tables that are always there.
    parent: String,
    is_thing: bool,
}

/// What is shown of what may hold a secret.
enum Measure {
    Bytes(usize),
    /// What of it is none, and how much the rest is.
    Part(String),
}

impl Item {
    /// What it was and what it is; of what may hold a secret only how much.
    fn change_from(&self, was: &Item) -> String {
        let shown = |item: &Item| match &item.measure {
            None => item.value.clone(),
            Some(Measure::Bytes(count)) => format!("{count} bytes"),
            Some(Measure::Part(part)) => part.clone(),
        };
        match (&was.measure, &self.measure) {
            (None, None) => format!("{} → {}", was.value, self.value),
            (Some(Measure::Bytes(was)), Some(Measure::Bytes(is))) => format!("changed ({was} → {is} bytes)"),
            _ => format!("changed ({} → {})", shown(was), shown(self)),
        }
    }

    /// What is said of something that only one of both has. Keys of a thing that comes or goes need no line each.
    fn shown_alone(&self, what: &str, parent_is_alone: impl Fn(&str) -> bool) -> Option<String> {
        let Item { path, value, parent, is_thing, .. } = self;
        if !parent.is_empty() && parent_is_alone(parent) {
            return None;
        }
        let name = match path.split_once('.') {
            Some(("listeners", name)) => format!("listener {name}"),
            Some(("pools", name)) if parent.is_empty() => format!("pool {name}"),
            _ => path.clone(),
        };
        match is_thing {
            true if value.is_empty() => Some(format!("{name} {what}")),
            true => Some(format!("{name} {what} ({value})")),
            // A key that means nothing now, as its check is another one: that is a line already.
            false => None,
        }
    }

    /// The key behind its table.
    fn shown(&self) -> String {
        let (table, key) = self.path.rsplit_once('.').unwrap_or_default();
        format!("{table}: {key}")
    }
}

#[derive(Default)]
struct List {
    items: Vec<Item>,
    places: BTreeMap<String, usize>,
    table: String,
    parent: String,
}

impl List {
    fn item(&self, path: &str) -> Option<&Item> {
        self.places.get(path).map(|place| &self.items[*place])
    }

    fn push(&mut self, path: String, value: String, is_thing: bool) {
        self.places.insert(path.clone(), self.items.len());
        self.items.push(Item { path, value, measure: None, parent: self.parent.clone(), is_thing });
    }

    /// From here on keys are of this table.
    fn table(&mut self, table: impl Into<String>) {
        self.table = table.into();
    }

    /// A thing that may come and go, within another one if `parent` is not empty. Keys that follow are its own.
    fn thing(&mut self, parent: &str, path: String, what: String) {
        parent.clone_into(&mut self.parent);
        self.push(path.clone(), what, true);
        (self.parent, self.table) = (path.clone(), path);
    }

    fn key(&mut self, key: &str, value: impl Display) {
        self.push(format!("{}.{key}", self.table), value.to_string(), false);
    }

    /// A key whose value is compared and never shown.
    fn secret(&mut self, key: &str, value: String, measure: Measure) {
        self.key(key, value);
        if let Some(item) = self.items.last_mut() {
            item.measure = Some(measure);
        }
    }

    /// A long list is shown by its beginning, so it is told by all of it whether it is the same.
    fn networks(&mut self, key: &str, value: &Networks) {
        let all: Vec<String> = value.list().iter().map(ToString::to_string).collect();
        let mark = hash::stable(all.join(",").as_bytes(), 0);
        self.key(key, format_args!("{value} (#{:04x})", mark as u16));
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.key(key, keys::shown(value.as_micros()));
    }
}

fn list(config: &Config) -> List {
    let Config { process, log, access_log, admin, dns, listeners, pools } = config;
    let mut list = List::default();
    let Process { workers, pin_workers, connections_max, shutdown_delay, shutdown_grace, .. } = process;
    let Process { busy_poll, receive_buffers_max, user, group, .. } = process;
    list.table("process");
    list.key("workers", workers.map_or_else(|| "auto".to_string(), |count| count.to_string()));
    list.key("pin_workers", pin_workers);
    list.key("connections_max", connections_max.map_or_else(|| "auto".to_string(), |count| count.to_string()));
    list.time("shutdown_delay", *shutdown_delay);
    list.time("shutdown_grace", *shutdown_grace);
    list.time("busy_poll", *busy_poll);
    list.key("receive_buffers_max", keys::shown_size(*receive_buffers_max));
    list.key("user", user.as_deref().unwrap_or("as started"));
    list.key("group", group.as_deref().unwrap_or("as started"));
    let Log { level, json, output } = log;
    list.table("log");
    list.key("level", format!("{level:?}").to_lowercase());
    list.key("format", if *json { "json" } else { "text" });
    list.key("output", shown(output));
    list.table("access_log");
    list.key("output", access_log.as_ref().map_or_else(|| "off".to_string(), |access| shown(&access.output)));
    list.key("format", access_log.as_ref().map_or("off", |access| access.format.name()));
    let Admin { socket, socket_mode, listen, hosts } = admin;
    list.table("admin");
    list.key("socket", socket.as_ref().map_or_else(|| "off".to_string(), |path| path.display().to_string()));
    list.key("socket_mode", format_args!("{socket_mode:04o}"));
    list.key("listen", listen.map_or_else(|| "off".to_string(), |address| address.to_string()));
    list.key("hosts", hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    self::dns(&mut list, dns);
    listeners.iter().for_each(|each| listener(&mut list, each));
    pools.iter().for_each(|each| pool(&mut list, each));
    list
}

fn dns(list: &mut List, dns: &Dns) {
    let Dns { servers, timeout, attempts } = dns;
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    list.table("dns");
    list.key("servers", if servers.is_empty() { "of the system".to_string() } else { servers.join(", ") });
    list.key("timeout", timeout.map_or("of the system".to_string(), |timeout| keys::shown(timeout.as_micros())));
    list.key("attempts", attempts.map_or("of the system".to_string(), |attempts| attempts.to_string()));
}

fn shown(output: &Output) -> String {
    match output {
        Output::Stderr => "stderr".to_string(),
        Output::Stdout => "stdout".to_string(),
        Output::File(path) => path.display().to_string(),
    }
}

fn listener(list: &mut List, listener: &Listener) {
    let Listener { name, binds, pool, unix_mode, backlog, connections_max, .. } = listener;
    let Listener { rules, source_limits, proxy, preread, .. } = listener;
    let binds: Vec<String> = binds.iter().map(|address| address.to_string()).collect();
    list.thing("", format!("listeners.{name}"), binds.join(", "));
    list.key("bind", binds.join(", "));
    list.key("pool", pool);
    list.key("unix_mode", format_args!("{unix_mode:04o}"));
    list.key("backlog", backlog);
    list.key("connections_max", connections_max.map_or(0, |most| most.get()));
    list.key("source_connections_max", source_limits.connections_max);
    let RateLimit { count, unit_ns } = source_limits.rate;
    list.key("source_rate_max", format_args!("{count}/{}", if unit_ns == 60_000_000_000 { "m" } else { "s" }));
    list.key("source_prefix_v6", source_limits.prefix_v6);
    list.networks("allow", &rules.allow);
    list.networks("deny", &rules.deny);
    list.key("accept_proxy", if proxy.is_some() { "required" } else { "off" });
    if let Some(AcceptProxy { trusted, timeout }) = proxy {
        list.networks("proxy_trusted", trusted);
        list.time("proxy_timeout", *timeout);
    }
    let Some(Preread { routes, timeout, refuses_unmatched }) = preread else {
        list.key("routes", "none");
        return;
    };
    list.time("preread_timeout", *timeout);
    list.key("unmatched", if *refuses_unmatched { "refuse" } else { "default" });
    list.key("routes", routes.iter().map(shown_route).collect::<Vec<_>>().join("; "));
}

fn shown_route(route: &Route<Arc<str>>) -> String {
    let names = route.names.iter().map(ToString::to_string);
    let protocols = route.protocols.iter().map(|protocol| format!("alpn {protocol}"));
    format!("{} to {}", names.chain(protocols).collect::<Vec<_>>().join(", "), route.pool)
}

fn pool(list: &mut List, pool: &Pool) {
    let Pool { name, balance, limits, queue, check, ejection, backends, .. } = pool;
    let Dial { send_proxy, source } = &pool.dial;
    let Pool { close_on_backend_down, drain_timeout, use_all_when_down, slow_start, .. } = pool;
    let Pool { address_family, hold: Hold { obsolete, denied }, .. } = pool;
    let path = format!("pools.{name}");
    list.thing("", path.clone(), String::new());
    list.key("balance", balance.name());
    let (key, factor) = match balance {
        Balance::ConsistentHash { key, balance_factor } => (Some(*key), *balance_factor),
        Balance::RoundRobin | Balance::LeastConn | Balance::Random | Balance::Failover => (None, None),
    };
    list.key("hash_key", if key == Some(HashKey::SourceIpPort) { "source_ip_port" } else { "source_ip" });
    list.key("hash_balance_factor", factor.unwrap_or(0));
    let Limits { connect_timeout, connect_attempts, idle_timeout, half_close_timeout, .. } = limits;
    let Limits { lifetime_max, drain_idle, keepalive, user_timeout, receive_buffer, unsent_max, .. } = limits;
    list.time("connect_timeout", *connect_timeout);
    list.key("connect_attempts", connect_attempts);
    list.key("queue_max", queue.max);
    list.time("queue_timeout", queue.timeout);
    list.time("idle_timeout", *idle_timeout);
    list.time("half_close_timeout", *half_close_timeout);
    list.time("lifetime_max", *lifetime_max);
    list.time("drain_idle", *drain_idle);
    list.key("on_backend_down", if *close_on_backend_down { "close" } else { "keep" });
    list.time("drain_timeout", *drain_timeout);
    list.key("when_all_down", if *use_all_when_down { "use_all" } else { "refuse" });
    list.time("slow_start", *slow_start);
    list.key("address_family", address_family.name());
    list.time("obsolete_hold", *obsolete);
    list.time("denied_hold", *denied);
    list.key(
        "send_proxy",
        match send_proxy {
            None => "off",
            Some(Version::V1) => "v1",
            Some(Version::V2) => "v2",
        },
    );
    list.key("source", format_args!("\"{source}\""));
    list.time("keepalive", *keepalive);
    list.time("user_timeout", *user_timeout);
    list.key("receive_buffer", keys::shown_size(*receive_buffer));
    list.key("unsent_max", keys::shown_size(*unsent_max));
    list.table(format!("{path}.check"));
    self::check(list, check.as_ref());
    let off = Ejection { failures: 0, hangups: 0, window: Duration::ZERO, duration: Duration::ZERO, percent_max: 0 };
    let Ejection { failures, hangups, window, duration, percent_max } = ejection.unwrap_or(off);
    list.table(format!("{path}.ejection"));
    list.key("failures", failures);
    list.key("hangups", hangups);
    if failures > 0 || hangups > 0 {
        list.time("window", window);
        list.time("duration", duration);
        list.key("percent_max", percent_max);
    }
    for Backend { name, target, backup, connections_max, weight, disabled } in backends {
        list.thing(&path, format!("{path}.backends.{name}"), target.to_string());
        list.key("address", target);
        list.key("weight", weight);
        list.key("backup", backup);
        list.key("connections_max", connections_max.map_or(0, |most| most.get()));
        list.key("disabled", disabled);
    }
}

fn check(list: &mut List, check: Option<&Check>) {
    let Some(check) = check else {
        list.key("type", "off");
        return;
    };
    let Check { kind, role, lag_max, interval, fast_interval, down_interval, timeout, rise, fall, .. } = check;
    let Check { initial_up, port, lag_strict, header, .. } = check;
    list.key("type", kind.name());
    list.time("interval", *interval);
    list.time("fast_interval", *fast_interval);
    list.time("down_interval", *down_interval);
    list.time("timeout", *timeout);
    list.key("rise", rise);
    list.key("fall", fall);
    list.key("initial", if *initial_up { "up" } else { "down" });
    list.key("port", port.unwrap_or(0));
    let mut account = |login: &Option<Login>| {
        let file = login.as_ref().and_then(|login| login.password_file.as_ref());
        list.key("user", login.as_ref().map_or("", |login| &login.user));
        list.key("password_file", file.map(|file| file.display().to_string()).unwrap_or_default());
    };
    match kind {
        CheckKind::Tcp => {}
        CheckKind::SendExpect { steps } => {
            let expect =
                |step: &Step| step.expect.as_ref().map_or(String::new(), |pattern| pattern.as_str().to_string());
            let whole = |step: &Step| format!("{} / {}", step.send.escape_ascii(), expect(step));
            // One step is what `send` and `expect` say. Each key stands there, else its change would not show.
            let (one, more) = if let [one] = steps.as_slice() { (Some(one), &[][..]) } else { (None, &steps[..]) };
            let (sent, expected) = (one.map_or(&[][..], |step| &step.send), one.map(expect).unwrap_or_default());
            list.secret("send", sent.escape_ascii().to_string(), Measure::Bytes(sent.len()));
            let length = Measure::Bytes(expected.len());
            list.secret("expect", expected, length);
            let all: usize = more.iter().map(|step| step.send.len() + expect(step).len()).sum();
            let measure = Measure::Part(format!("{} steps of {all} bytes", more.len()));
            list.secret("steps", more.iter().map(whole).collect::<Vec<_>>().join(", "), measure);
        }
        CheckKind::Http { path, status, drain_status } => {
            // What stands behind `?` may be a token.
            match path.split_once('?') {
                Some((alone, query)) => {
                    let measure = format!("{alone} with a query of {} bytes", query.len());
                    list.secret("path", path.clone(), Measure::Part(measure));
                }
                None => list.key("path", path),
            }
            list.key("status", format_args!("{status:?}"));
            list.key("drain_status", format_args!("{drain_status:?}"));
        }
        CheckKind::Postgresql { login, database } => {
            account(login);
            list.key("database", database);
        }
        CheckKind::Mysql { login } | CheckKind::Redis { login } => account(login),
    }
    list.key("role", role.map_or("any", Role::name));
    list.time("lag_max", *lag_max);
    list.key("lag_strict", lag_strict);
    list.key(
        "send_proxy",
        match header {
            CheckHeader::Auto => "auto",
            CheckHeader::Off => "off",
            CheckHeader::Local => "local",
            CheckHeader::Named => "proxy",
        },
    );
}

/// The order of the backends of a pool means something, that of everything else does not.
fn reordered(before: &Config, after: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for pool in &after.pools {
        let Some(old) = before.pools.iter().find(|old| old.name == pool.name) else { continue };
        let common = |one: &Pool, other: &Pool| -> Vec<String> {
            let has = |name: &str| other.backends.iter().any(|backend| *backend.name == *name);
            one.backends.iter().map(|backend| backend.name.to_string()).filter(|name| has(name)).collect()
        };
        let (was, is) = (common(old, pool), common(pool, old));
        if was != is {
            lines.push(format!("pools.{}.backends: order {} → {}", pool.name, was.join(", "), is.join(", ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests;
