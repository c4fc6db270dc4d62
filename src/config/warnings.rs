//! What a configuration can say but hardly means. Pure: what depends on the host is asked through [`Host`].
//!
//! `ringway check` prints the warnings, and a start and a reload log them. None of them keeps ringway from serving.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use super::loops;
use super::model::{Backend, Chains, Config, Listener, NetworkFile, Pool, Target};
use super::shown;
use crate::base::address::Address;

/// The port of MySQL and MariaDB.
const MYSQL: u16 = 3306;

/// What has to be known of the host for which a configuration is checked.
pub struct Host<'a> {
    /// Whether this host has an address.
    pub has_address: &'a dyn Fn(IpAddr) -> bool,
    /// Why ringway cannot read a file; `None` if it can.
    pub cannot_read: &'a dyn Fn(&Path) -> Option<String>,
    /// What is wrong with the user and the group that ringway is to become; `None` if nothing is.
    pub no_account: Option<String>,
}

/// All warnings, one line each: what, where, and what to do.
pub fn warnings(config: &Config, host: &Host<'_>) -> Vec<String> {
    let mut all: Vec<String> = host.no_account.iter().cloned().collect();
    for listener in &config.listeners {
        all.extend(without_clients(listener));
        all.extend(unreadable_lists(listener, host));
        let files = listener.tls.iter().flat_map(|tls| tls.paths());
        all.extend(unreadable_certificates(&format!("listener {}", listener.name), files, host));
    }
    let reached = reached(config);
    for pool in &config.pools {
        all.extend(without_listener(&reached, pool));
        all.extend(without_weight(pool));
        all.extend(slow_check(pool));
        all.extend(mute_to_mysql(pool));
        all.extend(unreadable(pool, host));
        let files = pool.tls.iter().flat_map(|tls| tls.paths());
        all.extend(unreadable_certificates(&format!("pool {}", pool.name), files, host));
    }
    // Ways that certainly lead back are errors, not warnings.
    let around = loops::find(config, host.has_address).into_iter().filter(|found| !found.is_certain);
    all.extend(around.map(|found| {
        let pool = &found.pool;
        format!("pool {pool}: connections may go around: {}; give the backend an address behind ringway", found.way)
    }));
    all
}

/// Warns of a list that lets no client in: a file without networks is not the same as no file.
fn without_clients(listener: &Listener) -> Option<String> {
    listener.rules.allow.as_ref().filter(|allow| allow.is_empty())?;
    let path = &listener.allow_file.as_ref()?.path;
    let name = &listener.name;
    Some(format!("listener {name}: `allow_file` {} has no network, so no client can connect", path.display()))
}

/// Warns of lists that the user that will serve cannot read: the next reload would be refused.
fn unreadable_lists(listener: &Listener, host: &Host<'_>) -> Vec<String> {
    let files = [("allow_file", &listener.allow_file), ("deny_file", &listener.deny_file)];
    let unread = |(key, file): (&str, &Option<NetworkFile>)| {
        let path = &file.as_ref()?.path;
        let why = (host.cannot_read)(path)?;
        let name = &listener.name;
        Some(format!("listener {name}: `{key}` {} cannot be read again at a reload: {why}", path.display()))
    };
    files.into_iter().filter_map(unread).collect()
}

/// Warns of certificates and keys of `whose` that the user that will serve cannot read: what replaces them would not be
/// read.
fn unreadable_certificates<'a>(
    whose: &str,
    files: impl Iterator<Item = (&'static str, &'a Path)>,
    host: &Host<'_>,
) -> Vec<String> {
    let unread = |(key, file): (&str, &Path)| {
        let why = (host.cannot_read)(file)?;
        Some(format!("{whose}: `{key}` {} cannot be read: {why}", file.display()))
    };
    files.filter(|(key, _)| *key != "certificate_dir").filter_map(unread).collect()
}

/// The pools that clients can get, by a listener, a route or a fallback.
fn reached(config: &Config) -> HashSet<&str> {
    let chains = Chains::of(config);
    let shares = config.listeners.iter().flat_map(Listener::shares).map(|share| &share.pool);
    let named = config.listeners.iter().flat_map(Listener::pools).chain(shares);
    named.flat_map(|name| chains.from(name)).map(|pool| &*pool.name).collect()
}

/// Warns of a pool that no client can get.
fn without_listener(reached: &HashSet<&str>, pool: &Pool) -> Option<String> {
    (!reached.contains(&*pool.name)).then(|| {
        let name = &pool.name;
        let remedy = format!("write pool = \"{name}\" in one, or remove the pool");
        format!("pool {name}: no listener, route or fallback leads to it; {remedy}")
    })
}

/// Warns of a pool in which no backend takes a session.
fn without_weight(pool: &Pool) -> Option<String> {
    // A source may find some that do.
    if pool.discover.is_some() || pool.backends.iter().any(|backend| backend.weight > 0 && !backend.disabled) {
        return None;
    }
    let what = match pool.backends.iter().filter(|backend| backend.disabled).count() {
        0 => "every backend has weight 0",
        count if count == pool.backends.len() => "every backend is disabled",
        _ => "every backend is disabled or has weight 0",
    };
    let remedy = "its clients are reset; give one a `weight`, or enable one";
    Some(format!("pool {}: {what}, so {remedy}", pool.name))
}

/// Warns of a check that can take longer than its interval: the next check begins only when this one has ended.
fn slow_check(pool: &Pool) -> Option<String> {
    let check = pool.check.as_ref().filter(|check| check.timeout > check.interval)?;
    let [timeout, interval] = [check.timeout, check.interval].map(|time| shown::of_time(time.as_micros()));
    let fall = check.fall;
    Some(format!(
        "pool {}: the check's `timeout` ({timeout}) is longer than its `interval` ({interval}), so a backend that \
         does not answer is found after {fall} times {timeout}; lower `timeout`",
        pool.name
    ))
}

/// Warns of what a check cannot read: such a check has no result, whatever happens to the backend.
fn unreadable(pool: &Pool, host: &Host<'_>) -> Vec<String> {
    let unread = |(key, file): (&str, &Path)| {
        let why = (host.cannot_read)(file)?;
        Some(format!("pool {}: `{key}` {} cannot be read: {why}", pool.name, file.display()))
    };
    pool.check.iter().flat_map(|check| check.files()).filter_map(unread).collect()
}

/// Warns of a check that only connects to MySQL: it succeeds as long as the host accepts connections.
fn mute_to_mysql(pool: &Pool) -> Option<String> {
    let check = pool.check.as_ref().filter(|check| check.is_bare())?;
    let port = |backend: &Backend| match check.place(backend.check_address.as_ref(), &backend.target) {
        Target::Address(Address::Tcp(address)) => Some(address.port()),
        Target::Address(Address::Unix(_)) | Target::AtClientPort { .. } => None,
        Target::Host { port, .. } => Some(port),
    };
    let is_mysql = pool.backends.iter().any(|backend| port(backend) == Some(MYSQL));
    is_mysql.then(|| {
        let name = &pool.name;
        format!("pool {name}: a check of type \"tcp\" at port {MYSQL} only connects; type = \"mysql\" asks the server")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    const BASE: &str = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n[pools.p]\n";

    fn warned(more: &str) -> Vec<String> {
        let host = Host {
            has_address: &|ip| ip.to_string() == "10.0.0.7",
            cannot_read: &|path| (path != "/good").then(|| "it does not exist".to_string()),
            no_account: None,
        };
        warnings(&load(&format!("{BASE}{more}\n"), "f", &|_: &str| None).unwrap(), &host)
    }

    #[test]
    fn what_is_as_it_should_be_is_not_warned_of() {
        for more in [
            "backends = [{ address = \"10.0.0.1:80\" }]",
            "backends = [{ address = \"10.0.0.1:80\", weight = 0 }, { address = \"10.0.0.2:80\" }]",
            "backends = [{ address = \"10.0.0.1:80\" }]\ncheck = { timeout = \"2s\", interval = \"2s\" }",
            "backends = [{ address = \"10.0.0.1:80\" }]\ncheck = { type = \"redis\", password_file = \"/good\" }",
            "backends = [{ address = \"10.0.0.7:81\" }]",
            "discover = { type = \"srv\", name = \"_db._tcp.example\" }",
        ] {
            assert_eq!(warned(more), [""; 0], "{more}");
        }
    }

    #[test]
    fn each_thing_that_is_hardly_meant_is_one_line_with_its_pool() {
        for (more, says) in [
            (
                "backends = [{ address = \"10.0.0.1:80\" }]\n[[pools.q.backends]]\naddress = \"10.0.0.1:80\"",
                "pool q: no listener, route or fallback leads to it; write pool = \"q\" in one",
            ),
            ("backends = [{ address = \"10.0.0.1:80\", weight = 0 }]", "pool p: every backend has weight 0, so"),
            ("backends = [{ address = \"10.0.0.1:80\", disabled = true }]", "pool p: every backend is disabled, so"),
            (
                "backends = [{ address = \"10.0.0.1:80\", weight = 0 }, { address = \"10.0.0.2:80\", disabled = true \
                 }]",
                "pool p: every backend is disabled or has weight 0, so",
            ),
            (
                "backends = [{ address = \"10.0.0.1:80\" }]\ncheck = { timeout = \"5s\", fall = 4 }",
                "pool p: the check's `timeout` (5s) is longer than its `interval` (2s), so a backend that does not \
                 answer is found after 4 times 5s; lower `timeout`",
            ),
            (
                "backends = [{ address = \"10.0.0.1:80\" }]\ncheck = { type = \"redis\", password_file = \"/bad\" }",
                "pool p: `password_file` /bad cannot be read: it does not exist",
            ),
            (
                "backends = [{ address = \"10.0.0.1:80\" }]\n[listeners.l.tls]\ncertificate_dir = \"/d\"\n\
                 certificates = [{ cert = \"/good\", key = \"/bad\" }]",
                "listener l: `key` /bad cannot be read: it does not exist",
            ),
            (
                "backends = [{ address = \"10.0.0.7:80\" }]",
                "pool p: connections may go around: listener l → pool p → backend 10.0.0.7:80 (an address of this \
                 host) → listener l;",
            ),
        ] {
            let found = warned(more);
            assert!(matches!(found.as_slice(), [line] if line.starts_with(says)), "{more}: {found:?}");
        }
    }

    /// The second one is reached when the first one is down, the third one when both are.
    #[test]
    fn a_pool_that_another_one_falls_back_to_has_a_listener() {
        let backends = "backends = [{ address = \"10.0.0.1:80\" }]";
        let more = |fallback: &str| {
            format!("{fallback}{backends}\n[pools.q]\nfallback = \"r\"\n{backends}\n[pools.r]\n{backends}")
        };
        assert_eq!(warned(&more("fallback = \"q\"\n")), [""; 0]);
        let alone = warned(&more(""));
        assert!(alone.len() == 2 && alone[0].starts_with("pool q: no listener") && alone[1].starts_with("pool r: no"));
    }

    /// A route is a way to a pool, too.
    #[test]
    fn a_pool_of_a_route_has_a_listener() {
        let more = "backends = [{ address = \"10.0.0.1:80\" }]\n[pools.q]\nbackends = [{ address = \"10.0.0.1:80\" }]\n\
                    [[listeners.l.routes]]\nalpn = [\"x\"]\npool = \"q\"";
        assert_eq!(warned(more), [""; 0]);
    }

    #[test]
    fn a_check_that_only_connects_to_a_mysql_is_named() {
        let of = |address: &str, check: &str| {
            warned(&format!("[[pools.p.backends]]\naddress = \"{address}\"\n[pools.p.check]\n{check}")).len()
        };
        assert_eq!(of("10.0.0.1:3306", ""), 1, "the default");
        assert_eq!(of("db.example:3306", "type = \"tcp\""), 1);
        assert_eq!(of("10.0.0.1:3306", "type = \"mysql\""), 0);
        assert_eq!(of("10.0.0.1:3306", "port = 9200"), 0);
        assert_eq!(of("10.0.0.1:5432", "port = 3306"), 1);
        assert_eq!(of("10.0.0.1:5432", ""), 0);
    }
}
