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
        let (Source::Consul(it) | Source::Nomad(it)) = source(&format!("type = \"{kind}\"\nservice = \"db\"")) else {
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
        ("type = \"etcd\"\nprefix = \"/\"\nendpoints = [\"a:1\"]", "f:7:14: `endpoints` cannot be \"a:1\"; write http"),
        ("type = \"consul\"\nservice = \"\"", "f:6:11: `service` cannot be \"\"; write it as in"),
        ("type = \"consul\"\nservice = \"a\"\naddress = \"x\"", "f:7:11: `address` cannot be \"x\"; write http"),
    ] {
        let errors = read(lines).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].starts_with(says), "{lines}: {errors:?}");
    }
}
