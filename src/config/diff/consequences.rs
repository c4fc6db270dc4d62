//! What a change of the configuration does to sockets and sessions, as far as two files can say it. Pure.
//!
//! A changed listener that keeps its address opens nothing, also if it has another name. A backend is its name and its
//! address together: with another address it is another server, and the sessions of the one before end.

use std::collections::{HashMap, HashSet};

use crate::base::address::BindAddress;
use crate::config::model::{Config, Pool};
use crate::config::shown::of_time;

/// What follows when one configuration takes the place of another. One line each, in the order of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Consequences {
    /// Addresses that are listened on from then on.
    pub opened: Vec<String>,
    /// Addresses that are not listened on any more.
    pub closed: Vec<String>,
    /// Backends whose sessions end.
    pub drained: Vec<String>,
}

impl Consequences {
    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        [self.opened.as_slice(), &self.closed, &self.drained].concat()
    }
}

/// What follows when `after` takes the place of `before`.
pub fn consequences(before: &Config, after: &Config) -> Consequences {
    let (old, new) = (addresses(before), addresses(after));
    let only_in = |one: &[(&str, BindAddress)], other: &[(&str, BindAddress)], what: &str| {
        let there: HashSet<&BindAddress> = other.iter().map(|(_, place)| place).collect();
        let alone = one.iter().filter(|(_, place)| !there.contains(place));
        alone.map(|(name, place)| format!("{what} {place} (listener {name})")).collect::<Vec<_>>()
    };
    let closed = only_in(&old, &new, "closes").into_iter().map(|line| line + ": its open sessions go on");
    Consequences { opened: only_in(&new, &old, "opens"), closed: closed.collect(), drained: drained(before, after) }
}

/// Every address with its listener.
fn addresses(config: &Config) -> Vec<(&str, BindAddress)> {
    let of = |listener: &'_ crate::config::model::Listener| listener.binds.len();
    let mut all = Vec::with_capacity(config.listeners.iter().map(of).sum());
    for listener in &config.listeners {
        all.extend(listener.places().map(|place| (&*listener.name, place)));
    }
    all
}

/// Backends that are gone, or are at another address: a name with another address is another server.
fn drained(before: &Config, after: &Config) -> Vec<String> {
    let pools: HashMap<&str, &Pool> = after.pools.iter().map(|pool| (&*pool.name, pool)).collect();
    let mut lines = Vec::new();
    for pool in &before.pools {
        let now = pools.get(&*pool.name).copied();
        let stays: HashMap<&str, _> =
            now.into_iter().flat_map(|pool| &pool.backends).map(|backend| (&*backend.name, &backend.target)).collect();
        // The pool as it is now says how long sessions can go on; one that is gone said it before.
        let timeout = now.unwrap_or(pool).drain_timeout;
        let end = match timeout.is_zero() {
            true => "as soon as its sessions end by themselves".to_string(),
            false => format!("within {}", of_time(timeout.as_micros())),
        };
        let gone = pool.backends.iter().filter(|backend| stays.get(&*backend.name) != Some(&&backend.target));
        lines.extend(
            gone.map(|backend| format!("drains {} ({}) of pool {}, {end}", backend.name, backend.target, pool.name)),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn of(bind: &str, backends: &str, more: &str) -> Config {
        let text =
            format!("[listeners.web]\nbind = [{bind}]\npool = \"p\"\n[pools.p]\n{more}\nbackends = [{backends}]\n");
        load(&text, "f", &|_: &str| None).unwrap()
    }

    #[test]
    fn sockets_that_open_and_close_and_sessions_that_drain_are_told() {
        let a = r#"{ name = "a", address = "10.0.0.1:80" }"#;
        let b = r#"{ name = "b", address = "10.0.0.2:80" }"#;
        let before = of(r#""127.0.0.1:80", "127.0.0.1:81""#, &format!("{a}, {b}"), "");
        assert_eq!(consequences(&before, &before), Consequences::default());
        let after = of(r#""127.0.0.1:80", "127.0.0.1:82""#, &b.replace("0.2", "0.3"), "drain_timeout = \"5s\"");
        assert_eq!(
            consequences(&before, &after).lines(),
            [
                "opens 127.0.0.1:82 (listener web)",
                "closes 127.0.0.1:81 (listener web): its open sessions go on",
                "drains a (10.0.0.1:80) of pool p, within 5s",
                "drains b (10.0.0.2:80) of pool p, within 5s",
            ]
        );
        let without_end = of(r#""127.0.0.1:80", "127.0.0.1:81""#, a, "drain_timeout = \"0s\"");
        let lines = consequences(&before, &without_end).lines();
        assert_eq!(lines, ["drains b (10.0.0.2:80) of pool p, as soon as its sessions end by themselves"]);
    }
}
