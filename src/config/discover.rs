//! Reads `[pools.NAME.discover]`: where the backends of a pool are found.
//!
//! Each source has its own keys. A key that would have no effect with the `type` is refused, with the types that take
//! it ([`Key::kinds`](super::keys::Key)).

use std::path::PathBuf;

use super::check::or;
use super::error::Problem;
use super::keys::{self, Section};
use super::model::Hold;
use super::raw::Table;
use super::value::{At, quoted};
use crate::base::host;
use crate::discover::settings::{
    Access, ConsulSource, Discover, Endpoint, EtcdSource, FileSource, KubernetesSource, PatroniSource, Source,
    SrvSource,
};

/// Where Patroni keeps its clusters, unless it is told otherwise (`namespace`, Patroni's documentation).
const PATRONI_NAMESPACE: &str = "/service";
/// The port of Consul's agent.
const CONSUL_PORT: u16 = 8500;
/// The port of Nomad's.
const NOMAD_PORT: u16 = 4646;
/// The keys without which a source means nothing, by its type.
const NEEDED: [(&str, &str, &str); 7] = [
    ("srv", "name", "name = \"_postgresql._tcp.db.example\""),
    ("file", "path", "path = \"/etc/ringway/targets/*.json\""),
    ("etcd", "prefix", "prefix = \"/db/\""),
    ("patroni", "scope", "scope = \"main\""),
    ("consul", "service", "service = \"db\""),
    ("nomad", "service", "service = \"db\""),
    ("kubernetes", "service", "service = \"db\""),
];

/// The source that a table describes; `None` if its type is not known. `hold` is how long names keep what they had.
pub(super) fn discover(table: &Table, hold: Hold) -> Option<Discover> {
    let kind = table.find_word("type")?;
    let path = |key: &str| table.text_or_off(key).map(PathBuf::from);
    let text = |key: &str| table.text(key).to_string();
    let access = || Access {
        ca_file: path("ca_file"),
        cert: path("cert"),
        key: path("key"),
        user: table.text_or_off("user").map(str::to_string),
        password_file: path("password_file"),
        token_file: path("token_file"),
    };
    let agent = |port| {
        let written = table.endpoints("address").first().cloned();
        written.unwrap_or_else(|| Endpoint { is_tls: false, host: "127.0.0.1".into(), port })
    };
    let consul = |port| ConsulSource {
        endpoint: agent(port),
        service: text("service"),
        tag: text("tag"),
        passing: table.flag("passing"),
        access: access(),
    };
    let source = match kind {
        "srv" => Source::Srv(SrvSource {
            name: table.text("name").into(),
            obsolete_hold: hold.obsolete,
            denied_hold: hold.denied,
        }),
        "file" => Source::File(FileSource { path: path("path").unwrap_or_default() }),
        "etcd" => Source::Etcd(EtcdSource {
            endpoints: table.endpoints("endpoints").to_vec(),
            prefix: text("prefix"),
            access: access(),
        }),
        "patroni" => Source::Patroni(PatroniSource {
            endpoints: table.endpoints("endpoints").to_vec(),
            namespace: table.text_or_off("namespace").unwrap_or(PATRONI_NAMESPACE).to_string(),
            scope: text("scope"),
            access: access(),
        }),
        "consul" => Source::Consul(consul(CONSUL_PORT)),
        "nomad" => Source::Nomad(consul(NOMAD_PORT)),
        _ => Source::Kubernetes(KubernetesSource {
            service: text("service"),
            namespace: text("namespace"),
            port: text("port"),
            kubeconfig: path("kubeconfig"),
        }),
    };
    Some(Discover { source, drops_empty: table.word("empty") == "drop" })
}

/// Adds what is wrong between the keys of a source to `faults`.
pub(super) fn between_keys(table: &Table, title: &str, faults: &mut Vec<At<Problem>>) {
    let Some(kind) = table.find_word("type").filter(|_| !table.is_wrong) else { return };
    let mut needs = |key: &'static str, what: String, hint: String| {
        faults.push((table.span_of(key), Problem::Needs { key, what, hint }));
    };
    for key in keys::of(Section::Discover).filter(|key| !key.kinds.is_empty() && !key.kinds.contains(&kind)) {
        if table.is_written(key.name) && !table.is_default(Section::Discover, key.name) {
            let hint = format!("set `type` to {}, or leave `{}` out", or(key.kinds), key.name);
            needs(key.name, format!("a source of another type than \"{kind}\""), hint);
        }
    }
    let hints = [
        ("cert", "key", "name the files of both, which can be the same"),
        ("key", "cert", "name the files of both, which can be the same"),
        ("user", "password_file", "etcd asks for both"),
        ("password_file", "user", "etcd asks for both"),
    ];
    for (key, other, hint) in hints {
        if table.text_or_off(key).is_some() && table.text_or_off(other).is_none() {
            needs(key, format!("`{other}`"), hint.to_string());
        }
    }
    let wants_tls = table.endpoints("endpoints").iter().chain(table.endpoints("address")).any(|it| it.is_tls);
    for key in ["ca_file", "cert"].into_iter().filter(|key| !wants_tls && table.text_or_off(key).is_some()) {
        needs(key, "a server with https://".to_string(), format!("write https://, or leave `{key}` out"));
    }
    for (_, key, hint) in NEEDED.into_iter().filter(|(of, key, _)| *of == kind && table.text(key).is_empty()) {
        if !table.is_written(key) {
            let problem = Problem::Missing { table: format!("[{title}]"), key, hint };
            faults.push((table.span.clone(), problem));
        } else {
            bad(table, key, &format!("write it as in {hint}"), faults);
        }
    }
    let name = table.text("name");
    if kind == "srv" && !name.is_empty() && !host::is_name(host::without_dot(name).as_bytes()) {
        bad(table, "name", "write the name of the records, as in \"_postgresql._tcp.db.example\"", faults);
    }
    let path = table.text("path");
    if path.rsplit_once('/').is_some_and(|(folder, file)| folder.contains('*') || file.is_empty()) {
        bad(table, "path", "a `*` can stand in the last part of the path alone, and names files", faults);
    }
    let namespace = table.text("namespace");
    if kind == "patroni" && !namespace.is_empty() && !namespace.starts_with('/') {
        bad(table, "namespace", "it begins with `/`, as in \"/service\"", faults);
    }
}

/// Says that the value of a key cannot be used.
fn bad(table: &Table, key: &str, hint: &str, faults: &mut Vec<At<Problem>>) {
    let found = quoted(table.text(key));
    faults.push((table.span_of(key), Problem::BadValue { key: key.to_string(), found, hint: hint.to_string() }));
}

#[cfg(test)]
mod tests;
