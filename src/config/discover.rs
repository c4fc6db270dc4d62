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
/// The port of Consul's agent, and of Nomad's.
const AGENT_PORTS: [(&str, u16); 2] = [("consul", 8500), ("nomad", 4646)];
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
    let port_of = |kind: &str| AGENT_PORTS.iter().find(|(of, _)| *of == kind).map_or(0, |(_, port)| *port);
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
        "consul" => Source::Consul(consul(port_of(kind))),
        "nomad" => Source::Nomad(consul(port_of(kind))),
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
mod tests {
    use crate::config::{Config, load};
    use crate::discover::settings::Source;

    /// A pool whose source has these lines, the first of which is line 5.
    fn read(lines: &str) -> Result<Config, Vec<String>> {
        let text = format!("[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n[pools.p.discover]\n{lines}\n");
        load(&text, "f", &|_: &str| None).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_source_means_what_it_says_and_a_pool_needs_no_other_backends() {
        let source = |lines: &str| read(lines).unwrap().pools[0].discover.clone().unwrap().source;
        let Source::Srv(srv) = source("type = \"srv\"\nname = \"_x._tcp.a.b.\"") else { panic!() };
        assert_eq!(&*srv.name, "_x._tcp.a.b.");
        let Source::File(file) = source("type = \"file\"\npath = \"/a/*.json\"") else { panic!() };
        assert!(file.path.ends_with("*.json"));
        let Source::Etcd(etcd) = source("type = \"etcd\"\nprefix = \"/db/\"") else { panic!() };
        assert_eq!((etcd.endpoints[0].to_string().as_str(), etcd.prefix.as_str()), ("http://127.0.0.1:2379", "/db/"));
        let Source::Patroni(patroni) = source("type = \"patroni\"\nscope = \"main\"") else { panic!() };
        assert_eq!((patroni.namespace.as_str(), patroni.scope.as_str()), ("/service", "main"));
        for (kind, endpoint) in [("consul", "http://127.0.0.1:8500"), ("nomad", "http://127.0.0.1:4646")] {
            let (Source::Consul(it) | Source::Nomad(it)) = source(&format!("type = \"{kind}\"\nservice = \"db\""))
            else {
                panic!()
            };
            assert_eq!((it.endpoint.to_string().as_str(), it.passing), (endpoint, true));
        }
        let lines = "type = \"kubernetes\"\nservice = \"db\"\nport = \"5432\"\nempty = \"drop\"";
        assert!(matches!(source(lines), Source::Kubernetes(it) if it.port == "5432"));
        assert!(read(lines).unwrap().pools[0].discover.as_ref().unwrap().drops_empty);
    }

    #[test]
    fn each_mistake_of_a_source_has_one_answer() {
        for (lines, says) in [
            ("type = \"zookeeper\"", "f:5:8: `pools.p.discover.type` cannot be \"zookeeper\""),
            ("name = \"x\"", "f:4:1: [pools.p.discover] has no `type`; add"),
            ("type = \"srv\"", "f:4:1: [pools.p.discover] has no `name`; add"),
            ("type = \"srv\"\nname = \"a b\"", "f:6:8: `name` cannot be \"a b\"; write the name of the records"),
            ("type = \"file\"\npath = \"/a/*/b\"", "f:6:8: `path` cannot be \"/a/*/b\"; a `*` can stand"),
            ("type = \"file\"\npath = \"a.json\"", "f:6:8: `path` cannot be \"a.json\"; write the whole path"),
            (
                "type = \"srv\"\nname = \"x\"\nprefix = \"/db\"",
                "f:7:10: `prefix` needs a source of another type than \"srv\"; set `type` to \"etcd\"",
            ),
            ("type = \"etcd\"\nprefix = \"/\"\nuser = \"u\"", "f:7:8: `user` needs `password_file`"),
            ("type = \"etcd\"\nprefix = \"/\"\nca_file = \"/c\"", "f:7:11: `ca_file` needs a server with https://"),
            ("type = \"etcd\"\nprefix = \"/\"\nendpoints = []", "f:7:13: `endpoints` cannot be []"),
            (
                "type = \"etcd\"\nprefix = \"/\"\nendpoints = [\"a:1\"]",
                "f:7:14: `endpoints` cannot be \"a:1\"; write http",
            ),
            ("type = \"consul\"\nservice = \"\"", "f:6:11: `service` cannot be \"\"; write it as in"),
            ("type = \"consul\"\nservice = \"a\"\naddress = \"x\"", "f:7:11: `address` cannot be \"x\"; write http"),
        ] {
            let errors = read(lines).expect_err(lines);
            assert!(errors.len() == 1 && errors[0].starts_with(says), "{lines}: {errors:?}");
        }
    }
}
