//! From a written listener to its meaning: addresses, limits, rules, routes.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use super::model::{
    AcceptProxy, CertificatePair, ClientAuth, Lead, Listener, ListenerTls, Loaded, NetworkFile, Preread, SplitShare,
    Starttls, TlsVersion,
};
use super::raw::{self, Table};
use super::value::{WrittenPair, WrittenShare};
use crate::admit::routes::{Route, RouteGuard};
use crate::admit::sources::Quota;
use crate::admit::{Networks, Rules};
use crate::wire::first_bytes::Protocol;

/// The meaning of a listener; `None` exactly when something of it was wrong, which was reported then.
pub(super) fn listener(raw: &raw::Listener) -> Option<Listener> {
    let table = &raw.table;
    let (allow, deny) = (table.networks("allow"), table.networks("deny"));
    let routes: Arc<[Route<Lead>]> = raw.routes.iter().filter_map(|route| self::route(route, table)).collect();
    let own = lead(table);
    let has_pool = own.is_some();
    let Lead { pool, split } = match own {
        Some(own) => own,
        None => Lead { pool: routes.first()?.pool.pool.clone(), split: Arc::default() },
    };
    Some(Listener {
        name: Arc::from(raw.name.as_str()),
        binds: table.find_binds("bind")?.iter().map(|(_, address)| address.clone()).collect(),
        pool,
        has_pool,
        split,
        unix_mode: table.mode("unix_mode"),
        freebind: table.flag("freebind"),
        interface: table.text_or_off("interface").map(Arc::from),
        backlog: table.number("backlog"),
        connections_max: NonZeroU32::new(table.number("connections_max")),
        rules: rules(table, &allow, &deny),
        allow,
        deny,
        allow_file: table.network_file("allow_file").cloned(),
        deny_file: table.network_file("deny_file").cloned(),
        source_limits: quota(table, table),
        source_unlimited: table.networks("source_unlimited"),
        proxy: (table.word("accept_proxy") == "required").then(|| AcceptProxy {
            trusted: table.networks("proxy_trusted"),
            timeout: table.duration("proxy_timeout"),
        }),
        preread: (!raw.routes.is_empty()).then(|| Preread {
            routes,
            timeout: table.duration("preread_timeout"),
            refuses_unmatched: table.word("unmatched") == "refuse",
        }),
        tls: raw.tls.as_ref().map(tls),
    })
}

/// How TLS ends at a listener.
fn tls(table: &Table) -> ListenerTls {
    let pair = |pair: &WrittenPair| CertificatePair { cert: (&pair.cert).into(), key: (&pair.key).into() };
    let path = |key: &str| table.text_or_off(key).map(PathBuf::from);
    ListenerTls {
        certificates: table.certificates("certificates").iter().map(pair).collect(),
        certificate_dir: path("certificate_dir"),
        refuses_unknown_names: table.word("unknown_name") == "refuse",
        min_version: if table.word("min_version") == "1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
        alpn: table.protocols("alpn").to_vec(),
        client_auth: match table.word("client_auth") {
            "required" => ClientAuth::Required,
            "optional" => ClientAuth::Optional,
            _ => ClientAuth::Off,
        },
        client_ca: path("client_ca"),
        client_crl: path("client_crl"),
        handshake_timeout: table.duration("handshake_timeout"),
        has_tickets: table.flag("tickets"),
        starttls: if table.word("starttls") == "postgresql" { Starttls::Postgresql } else { Starttls::Off },
        allows_plaintext: table.word("plaintext") == "allow",
        loaded: Loaded::default(),
    }
}

/// What the lists of a table come to, those in files included. A file without networks allows no client.
fn rules(table: &Table, allow: &Networks, deny: &Networks) -> Rules {
    let union = |list: &Networks, file: Option<&NetworkFile>| match file {
        None => list.clone(),
        Some(file) => Networks::new(list.list().iter().chain(&file.networks).copied().collect()),
    };
    let allow_file = table.network_file("allow_file");
    let allow = (!allow.is_empty() || allow_file.is_some()).then(|| union(allow, allow_file));
    Rules { allow, deny: union(deny, table.network_file("deny_file")) }
}

/// The pool that a listener or a route names, or the pools among which it divides its clients. `None` if it has none.
fn lead(table: &Table) -> Option<Lead> {
    let share = |share: &WrittenShare| SplitShare { pool: Arc::from(share.pool.as_str()), weight: share.weight };
    let split: Arc<[SplitShare]> = table.split("split").iter().map(share).collect();
    let first = split.iter().find(|share| share.weight > 0).or(split.first());
    let pool = first.map(|share| share.pool.clone()).or_else(|| table.find_text("pool").map(Arc::from))?;
    Some(Lead { pool, split })
}

/// The meaning of a route of a listener; `None` if it has no pool.
fn route(table: &Table, listener: &Table) -> Option<Route<Lead>> {
    let (allow, deny) = (table.networks("allow"), table.networks("deny"));
    let guard = RouteGuard {
        rules: Rules { allow: Some(allow).filter(|allow| !allow.is_empty()), deny },
        source_limits: Some(quota(table, listener)).filter(|limits| !limits.is_none()),
    };
    Some(Route {
        protocol: Protocol::named(table.word("protocol")),
        names: table.server_names("sni").to_vec(),
        protocols: table.protocols("alpn").to_vec(),
        guard,
        pool: lead(table)?,
    })
}

/// The limits per client address in a table; the listener says what one IPv6 client is.
fn quota(table: &Table, listener: &Table) -> Quota {
    Quota {
        connections_max: table.number("source_connections_max"),
        rate: table.rate("source_rate_max"),
        prefix_v6: listener.number("source_prefix_v6"),
    }
}

#[cfg(test)]
mod tests;
