//! What differs between two configurations, in words for the person who has changed the file. Pure.
//!
//! Each configuration is written out as a list of paths with their values, as the file writes them:
//!
//! ```text
//! listeners.web.backlog        4096
//! pools.db                     (a thing: it can come and go)
//! pools.db.backends.a.weight   1
//! ```
//!
//! Two lists are compared path by path. The list is a walk over [`keys::KEYS`], and each key's row says how its value
//! is read, so no key can be forgotten here.

mod consequences;

use std::collections::BTreeMap;

use super::keys::{self, Thing};
use super::model::{Config, Lead, Listener, ListenerTls, Pool};
use super::shown::{self, Shown};
use crate::admit::Networks;
use crate::admit::routes::{Route, RouteGuard};
pub use consequences::{Consequences, consequences};

/// What has changed from one configuration to another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Diff {
    /// One line per change, in the order of the file.
    pub changes: Vec<String>,
    /// Those changes that take effect only after a restart.
    pub needs_restart: Vec<String>,
}

/// Compares two configurations.
pub fn diff(before: &Config, after: &Config) -> Diff {
    let (old, new) = (list(before), list(after));
    let mut diff = Diff::default();
    for item in &new.items {
        match old.item(&item.path) {
            None => diff.changes.extend(item.shown_alone("added", |parent| old.item(parent).is_none())),
            Some(was) if was.shown.value != item.shown.value && !item.is_thing => {
                let line = format!("{} {}", item.name(), item.shown.change_from(&was.shown));
                if item.needs_restart {
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

/// A key with its value, or a thing that has keys: a listener, its TLS, a pool, a backend.
struct Item {
    /// Where it stands, such as `pools.db.balance`.
    path: String,
    /// The value. For a thing: what is said of it when it comes or goes.
    shown: Shown,
    /// The thing that it belongs to; empty for keys of tables that always exist.
    parent: String,
    /// A listener, its TLS, a pool or a backend, not a key.
    is_thing: bool,
    /// A change takes effect only after a restart.
    needs_restart: bool,
}

impl Item {
    /// The line for something that only one configuration has. Keys of a thing that comes or goes get no lines of their
    /// own.
    fn shown_alone(&self, what: &str, parent_is_alone: impl Fn(&str) -> bool) -> Option<String> {
        let Item { path, shown: Shown { value, .. }, parent, is_thing, .. } = self;
        if !parent.is_empty() && parent_is_alone(parent) {
            return None;
        }
        let name = match path.split_once('.') {
            Some(("listeners", name)) if parent.is_empty() => format!("listener {name}"),
            Some(("pools", name)) if parent.is_empty() => format!("pool {name}"),
            _ => path.clone(),
        };
        match is_thing {
            true if value.is_empty() => Some(format!("{name} {what}")),
            true => Some(format!("{name} {what} ({value})")),
            // A key without a value, because the check is of another kind now: the change of `type` has a line already.
            false => None,
        }
    }

    /// Table and key: `pools.db: balance`.
    fn name(&self) -> String {
        let (table, key) = self.path.rsplit_once('.').unwrap_or_default();
        format!("{table}: {key}")
    }
}

/// A configuration as a list of paths with their values.
#[derive(Default)]
struct List {
    /// In the order of the file.
    items: Vec<Item>,
    /// By path: the place in `items`.
    places: BTreeMap<String, usize>,
    /// The thing to which the next keys belong.
    parent: String,
}

impl List {
    /// The item at this path.
    fn item(&self, path: &str) -> Option<&Item> {
        self.places.get(path).map(|place| &self.items[*place])
    }

    /// Adds an item at the end.
    fn push(&mut self, path: String, shown: Shown, is_thing: bool, needs_restart: bool) {
        self.places.insert(path.clone(), self.items.len());
        self.items.push(Item { path, shown, parent: self.parent.clone(), is_thing, needs_restart });
    }

    /// Adds a thing that can come and go; `parent` is the thing it is in, or empty. The next keys belong to it.
    fn thing(&mut self, parent: &str, path: &str, what: String) {
        parent.clone_into(&mut self.parent);
        self.push(path.to_string(), Shown { value: what, measure: None }, true, false);
        path.clone_into(&mut self.parent);
    }

    /// Adds every key of one table.
    fn keys(&mut self, table: &str, thing: Thing<'_>) {
        for (key, shown) in keys::shown(thing) {
            self.push(format!("{table}.{}", key.name), shown, false, key.needs_restart);
        }
    }
}

/// Writes a configuration out, in the order of the file.
fn list(config: &Config) -> List {
    let Config { process, log, access_log, admin, dns, listeners, pools } = config;
    let mut list = List::default();
    list.keys("process", Thing::Process(process));
    list.keys("log", Thing::Log(log));
    list.keys("access_log", Thing::AccessLog(access_log.as_ref()));
    list.keys("admin", Thing::Admin(admin));
    list.keys("dns", Thing::Dns(dns));
    for listener in listeners {
        let path = format!("listeners.{}", listener.name);
        list.thing("", &path, shown::joined(&listener.binds));
        list.keys(&path, Thing::Listener(listener));
        let routes = Shown { value: routes(listener), measure: None };
        list.push(format!("{path}.routes"), routes, false, false);
        if let Some(tls) = &listener.tls {
            let its_path = format!("{path}.tls");
            list.thing(&path, &its_path, certificates(tls));
            list.keys(&its_path, Thing::ListenerTls(tls));
        }
    }
    for pool in pools {
        let path = format!("pools.{}", pool.name);
        list.thing("", &path, String::new());
        list.keys(&path, Thing::Pool(pool));
        if let Some(tls) = &pool.tls {
            let its_path = format!("{path}.tls");
            list.thing(&path, &its_path, String::new());
            list.keys(&its_path, Thing::PoolTls(tls));
            path.clone_into(&mut list.parent);
        }
        list.keys(&format!("{path}.check"), Thing::Check(pool.check.as_ref()));
        list.keys(&format!("{path}.ejection"), Thing::Ejection(pool.ejection.as_ref()));
        if pool.discover.is_some() {
            let its_path = format!("{path}.discover");
            list.thing(&path, &its_path, String::new());
            list.keys(&its_path, Thing::Discover(pool.discover.as_ref()));
            path.clone_into(&mut list.parent);
        }
        for backend in &pool.backends {
            let its_path = format!("{path}.backends.{}", backend.name);
            list.thing(&path, &its_path, backend.target.to_string());
            list.keys(&its_path, Thing::Backend(backend));
        }
    }
    list
}

/// Where the certificates of a listener are, for when its TLS comes or goes.
fn certificates(tls: &ListenerTls) -> String {
    let dir = tls.certificate_dir.iter().map(|dir| dir.display().to_string());
    tls.certificates.iter().map(ToString::to_string).chain(dir).collect::<Vec<_>>().join(", ")
}

/// The routes of a listener in one text. They have no names, so they are shown as a whole.
fn routes(listener: &Listener) -> String {
    let lead = |lead: &Lead| if lead.split.is_empty() { lead.pool.to_string() } else { shown::joined(&lead.split) };
    let shown = |route: &Route<Lead>| {
        let speaks = route.protocol.map(|protocol| format!("protocol {}", protocol.name()));
        let names = route.names.iter().map(ToString::to_string);
        let protocols = route.protocols.iter().map(|protocol| format!("alpn {protocol}"));
        let what = speaks.into_iter().chain(names).chain(protocols).collect::<Vec<_>>().join(", ");
        format!("{what} to {}{}", lead(&route.pool), guard(&route.guard))
    };
    match &listener.preread {
        None => "none".to_string(),
        Some(preread) => preread.routes.iter().map(shown).collect::<Vec<_>>().join("; "),
    }
}

/// What a route asks of its clients beyond what they say, as the file writes it; nothing if it asks for nothing.
fn guard(guard: &RouteGuard) -> String {
    let list = |name: &str, networks: &Networks| format!("{name} {}", shown::joined(networks.list()));
    let RouteGuard { rules, source_limits } = guard;
    let allow = rules.allow.as_ref().map(|allow| list("allow", allow));
    let deny = Some(list("deny", &rules.deny)).filter(|_| !rules.deny.is_empty());
    let most = source_limits.map(|limits| limits.connections_max).filter(|most| *most > 0);
    let most = most.map(|most| format!("source_connections_max {most}"));
    let rate = source_limits.map(|limits| limits.rate).filter(|rate| rate.count > 0);
    let rate = rate.map(|rate| format!("source_rate_max {}", keys::rate(rate)));
    let all: Vec<String> = [allow, deny, most, rate].into_iter().flatten().collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}

/// The lines for pools whose backends changed their order, which matters to some policies. The order of everything else
/// does not matter.
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
