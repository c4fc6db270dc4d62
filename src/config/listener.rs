//! Listeners: what was written of them, to what it means; and what can be wrong between their keys.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::error::Problem;
use super::keys::Section;
use super::model::{AcceptProxy, Listener, Preread};
use super::raw::{self, Table};
use super::resolve::{Check, disagree, duration, mode, number, word};
use super::value::Value;
use crate::admit::routes::{NamePattern, Route};
use crate::admit::sources::{Quota, RateLimit};
use crate::admit::{Networks, Rules};
use crate::base::address::Address;

/// `None` exactly when something of it was wrong.
pub(super) fn listener(raw: &raw::Listener) -> Option<Listener> {
    let table = &raw.table;
    let Some(Value::Binds(binds)) = table.get("bind") else { return None };
    Some(Listener {
        name: Arc::from(raw.name.as_str()),
        binds: binds.iter().map(|(_, address)| address.clone()).collect(),
        pool: pool(table)?,
        unix_mode: mode(table, "unix_mode"),
        backlog: number(table, "backlog"),
        connections_max: NonZeroU32::new(number(table, "connections_max")),
        rules: Rules { allow: networks(table, "allow"), deny: networks(table, "deny") },
        source_limits: Quota {
            connections_max: number(table, "source_connections_max"),
            rate: rate(table, "source_rate_max"),
            prefix_v6: number(table, "source_prefix_v6"),
        },
        proxy: (word(table, "accept_proxy") == "required").then(|| AcceptProxy {
            trusted: networks(table, "proxy_trusted"),
            timeout: duration(table, "proxy_timeout"),
        }),
        preread: (!raw.routes.is_empty()).then(|| Preread {
            routes: raw.routes.iter().filter_map(route).collect(),
            timeout: duration(table, "preread_timeout"),
            refuses_unmatched: word(table, "unmatched") == "refuse",
        }),
    })
}

fn pool(table: &Table) -> Option<Arc<str>> {
    match table.get("pool") {
        Some(Value::Text(pool)) => Some(Arc::from(pool.as_str())),
        _ => None,
    }
}

fn route(table: &Table) -> Option<Route<Arc<str>>> {
    Some(Route { names: names(table), protocols: protocols(table), pool: pool(table)? })
}

fn names(table: &Table) -> Vec<NamePattern> {
    match table.get("sni") {
        Some(Value::ServerNames(names)) => names.clone(),
        _ => Vec::new(),
    }
}

fn protocols(table: &Table) -> Vec<String> {
    match table.get("alpn") {
        Some(Value::Protocols(names)) => names.clone(),
        _ => Vec::new(),
    }
}

fn networks(table: &Table, key: &str) -> Networks {
    match table.get(key) {
        Some(Value::Networks(list)) => Networks::new(list.clone()),
        other => disagree(key, other),
    }
}

fn rate(table: &Table, key: &str) -> RateLimit {
    match table.get(key) {
        Some(Value::Rate(rate)) => *rate,
        other => disagree(key, other),
    }
}

impl Check<'_, '_> {
    /// Keys that mean nothing without another one.
    pub(super) fn listener(&mut self, raw: &raw::Listener) {
        let table = &raw.table;
        let is_written = |key: &str| table.is_asked_for(Section::Listener, key);
        let mut needs = |key: &'static str, what: &str, hint: &str| {
            let problem = Problem::Needs { key, what: what.to_string(), hint: hint.to_string() };
            self.faults.push((table.span_of(key), problem));
        };
        if word(table, "accept_proxy") == "required" {
            if networks(table, "proxy_trusted").is_empty() {
                let hint = "say who may send the header, as in [\"10.0.0.0/8\"]: whoever may can claim any address";
                needs("accept_proxy", "`proxy_trusted`", hint);
            }
        } else {
            for key in ["proxy_trusted", "proxy_timeout"] {
                if is_written(key) {
                    needs(key, "accept_proxy = \"required\"", "leave it out, or expect a header");
                }
            }
        }
        let is_limited = number::<u32>(table, "source_connections_max") > 0 || rate(table, "source_rate_max").count > 0;
        if is_written("source_prefix_v6") && !is_limited {
            needs("source_prefix_v6", "`source_connections_max` or `source_rate_max`", "leave it out, or add a limit");
        }
        let is_unix = |value: &Value| match value {
            Value::Binds(binds) => binds.iter().any(|(_, address)| matches!(address, Address::Unix(_))),
            _ => false,
        };
        if is_written("unix_mode") && table.get("bind").is_some_and(|binds| !is_unix(binds)) {
            needs("unix_mode", "a `bind` to a unix socket", "leave it out, or add \"unix:/path\" to `bind`");
        }
        if raw.routes.is_empty() {
            for key in ["preread_timeout", "unmatched"] {
                if is_written(key) {
                    needs(key, "routes", "leave it out, or add [[listeners.NAME.routes]]");
                }
            }
        }
        for route in raw.routes.iter().filter(|route| !route.is_wrong) {
            if names(route).is_empty() && protocols(route).is_empty() {
                self.faults.push((route.span.clone(), Problem::RouteForAll));
            }
        }
    }
}

#[cfg(test)]
mod tests;
