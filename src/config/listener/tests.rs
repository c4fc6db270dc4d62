use std::time::Duration;

use super::*;
use crate::admit::sources::RateLimit;
use crate::config::{Config, Error, load};

/// A configuration with these lines in its listener, and these at its end.
fn text(lines: &str, end: &str) -> String {
    format!(
        "[listeners.l]\nbind = \"127.0.0.1:0\"\npool = \"p\"\n{lines}\n\
         [[pools.p.backends]]\naddress = \"10.0.0.1:1\"\n[[pools.q.backends]]\naddress = \"[::1]:1\"\n{end}\n"
    )
}

fn read(lines: &str, end: &str) -> Result<Config, Vec<Error>> {
    load(&text(lines, end), "f.toml", &|_: &str| None)
}

fn listener(lines: &str) -> Listener {
    let config = read(lines, "").unwrap_or_else(|errors| panic!("{errors:?}"));
    config.listeners.into_iter().next().expect("one")
}

/// The one thing that is wrong.
fn fault(lines: &str, end: &str) -> String {
    let errors = read(lines, end).expect_err("it is wrong");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn a_listener_asks_for_nothing_unless_it_is_told_to() {
    let plain = listener("");
    assert!(plain.rules.is_empty() && plain.source_limits.is_none());
    assert_eq!((plain.proxy, plain.preread, plain.connections_max), (None, None, None));
}

#[test]
fn tls_ends_at_a_listener_exactly_where_its_table_stands() {
    let pair = "certificates = [{ cert = \"/a.crt\", key = \"/a.key\" }]";
    assert_eq!(listener("").tls, None);
    for lines in [
        format!("tls = {{ {pair} }}"),
        format!("tls.{pair}"),
        format!("[listeners.l.tls]\n{pair}"),
        "[[listeners.l.tls.certificates]]\ncert = \"/a.crt\"\nkey = \"/a.key\"".to_string(),
    ] {
        let expected = ListenerTls {
            certificates: vec![CertificatePair { cert: "/a.crt".into(), key: "/a.key".into() }],
            certificate_dir: None,
            refuses_unknown_names: false,
            min_version: TlsVersion::V1_2,
            alpn: Vec::new(),
            client_auth: ClientAuth::Off,
            client_ca: None,
            client_crl: None,
            handshake_timeout: Duration::from_secs(5),
            has_tickets: true,
            starttls: Starttls::Off,
            allows_plaintext: false,
            loaded: Loaded::default(),
        };
        assert_eq!(listener(&lines).tls, Some(expected), "{lines}");
    }
}

#[test]
fn what_tls_does_means_what_it_says() {
    let all = listener(
        "[listeners.l.tls]\ncertificates = [{ key = \"/a.key\", cert = \"/a.crt\" }, { cert = \"/b\", key = \"/b\" }]\n\
         certificate_dir = \"/dir\"\nunknown_name = \"refuse\"\nmin_version = \"1.3\"\nalpn = [\"h2\", \"http/1.1\"]\n\
         client_auth = \"required\"\nclient_ca = \"/ca\"\nclient_crl = \"/crl\"\nhandshake_timeout = \"0s\"\n\
         tickets = false\nstarttls = \"postgresql\"\nplaintext = \"allow\"",
    );
    let tls = all.tls.expect("its table stands there");
    let paths: Vec<String> = tls.paths().map(|(key, path)| format!("{key} {}", path.display())).collect();
    assert_eq!(
        paths,
        ["cert /a.crt", "key /a.key", "cert /b", "key /b", "certificate_dir /dir", "client_ca /ca", "client_crl /crl"]
    );
    assert!(tls.refuses_unknown_names && tls.allows_plaintext && !tls.has_tickets);
    assert_eq!((tls.min_version, tls.client_auth), (TlsVersion::V1_3, ClientAuth::Required));
    assert_eq!((tls.starttls, tls.handshake_timeout), (Starttls::Postgresql, Duration::ZERO));
    assert_eq!(tls.alpn, ["h2", "http/1.1"], "what `starttls` implies is not added");
    let optional = listener("tls = { certificate_dir = \"/d\", client_auth = \"optional\", client_ca = \"/ca\" }");
    assert_eq!(optional.tls.map(|tls| tls.client_auth), Some(ClientAuth::Optional));
}

#[test]
fn what_is_asked_of_clients_means_what_it_says() {
    let all = listener(
        "connections_max = 9\nsource_connections_max = 3\nsource_rate_max = \"600/m\"\nsource_prefix_v6 = 56\n\
         allow = [\"10.0.0.0/8\", \"unix:\"]\ndeny = [\"10.1.0.1\"]\n\
         accept_proxy = \"required\"\nproxy_trusted = [\"192.0.2.0/24\"]\nproxy_timeout = \"0s\"\n\
         unmatched = \"refuse\"\npreread_timeout = \"3s\"\n\
         routes = [{ sni = [\"A.example.com\", \"*.b.example\"], pool = \"q\" }, { alpn = [\"h2\"], pool = \"p\" }]",
    );
    assert_eq!(all.connections_max.map(NonZeroU32::get), Some(9));
    let rate = RateLimit { count: 600, unit_ns: 60_000_000_000 };
    assert_eq!(all.source_limits, Quota { connections_max: 3, rate, prefix_v6: 56 });
    assert_eq!(all.allow.to_string(), "[10.0.0.0/8, unix:]");
    assert_eq!(all.rules.deny.to_string(), "[10.1.0.1]");
    let proxy = all.proxy.expect("a header is required");
    assert_eq!((proxy.trusted.to_string(), proxy.timeout), ("[192.0.2.0/24]".to_string(), Duration::ZERO));
    let preread = all.preread.expect("there are routes");
    assert!(preread.refuses_unmatched && preread.timeout == Duration::from_secs(3));
    let names: Vec<String> = preread.routes[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.example.com", "*.b.example"]);
    assert_eq!((&*preread.routes[1].protocols[0], &*preread.routes[1].pool.pool), ("h2", "p"));
}

/// Two files: of clients that can connect, and of some that cannot; and one that is empty, and a bad one.
struct Lists;

impl crate::config::Outside for Lists {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/allowed") => Ok(b"10.1.0.0/16 # the office\n".to_vec()),
            Some("/denied") => Ok(b"10.1.2.0/24\n10.0.0.9\n".to_vec()),
            Some("/empty") => Ok(b"# nobody\n".to_vec()),
            Some("/bad") => Ok(b"10.0.0.0/8\n10.0.0.1/8\nnobody\n".to_vec()),
            Some("/latin") => Ok(b"# Z\xfcrich\n".to_vec()),
            Some("/secret") => Err(std::io::ErrorKind::PermissionDenied.into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

fn with_lists(lines: &str) -> Result<Config, Vec<String>> {
    load(&text(lines, ""), "f.toml", &Lists).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_list_in_a_file_adds_to_the_list_in_the_configuration() {
    let admits = |lines: &str, client: &str| {
        let rules = &with_lists(lines).unwrap().listeners[0].rules;
        rules.admit(Some(&crate::base::address::Address::Tcp(format!("{client}:1").parse().unwrap())))
    };
    let both = "allow = [\"10.0.0.0/24\"]\nallow_file = \"/allowed\"\ndeny_file = \"/denied\"";
    for (client, can) in
        [("10.0.0.1", true), ("10.1.1.1", true), ("10.1.2.1", false), ("10.0.0.9", false), ("10.2.0.1", false)]
    {
        assert_eq!(admits(both, client), can, "{client}");
    }
    assert!(admits("allow_file = \"\"", "10.0.0.1"), "no file is no list");
    assert!(!admits("allow_file = \"/empty\"", "10.0.0.1"), "an empty list lets nobody in");
    assert!(admits("deny_file = \"/empty\"", "10.0.0.1"));
}

#[test]
fn a_list_that_cannot_be_used_is_an_error_with_its_file_and_line() {
    let faults = |path: &str| with_lists(&format!("deny_file = \"{path}\"")).unwrap_err();
    let bad = faults("/bad");
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad[0].starts_with("f.toml:4:13: `deny_file`: /bad:2: \"10.0.0.1/8\": that network begins at"), "{bad:?}");
    assert!(bad[1].starts_with("f.toml:4:13: `deny_file`: /bad:3: \"nobody\": write an address"), "{bad:?}");
    assert_eq!(faults("/nowhere"), ["f.toml:4:13: `deny_file`: there is no file /nowhere"]);
    assert!(faults("/secret")[0].contains("/secret cannot be read: the user that ringway runs as"));
    assert_eq!(faults("/latin"), ["f.toml:4:13: `deny_file`: /latin is not text in UTF-8"]);
    assert!(faults("lists/denied")[0].contains("write the whole path, which begins with /"));
}

#[test]
fn a_change_inside_a_list_is_a_change() {
    let change =
        |was: &str, is: &str| crate::config::diff::diff(&with_lists(was).unwrap(), &with_lists(is).unwrap()).changes;
    let of = |path: &str| format!("allow_file = \"{path}\"");
    let lines = change(&of("/allowed"), &of("/denied"));
    assert_eq!(lines, ["listeners.l: allow_file changed (/allowed with 1 networks → /denied with 2 networks)"]);
    assert_eq!(change("", &of("/empty")), ["listeners.l: allow_file changed (off → /empty with 0 networks)"]);
    assert_eq!(change(&of("/allowed"), &of("/allowed")), [""; 0]);
}

#[test]
fn a_header_is_taken_only_from_who_is_named() {
    let found = fault("accept_proxy = \"required\"", "");
    assert!(found.starts_with("f.toml:4:16: `accept_proxy` needs `proxy_trusted`"), "{found}");
    for line in ["proxy_trusted = [\"10.0.0.0/8\"]", "proxy_timeout = \"3s\""] {
        assert!(fault(line, "").contains("needs accept_proxy = \"required\""));
    }
}

#[test]
fn keys_that_would_do_nothing_are_refused() {
    assert!(
        fault("source_unlimited = [\"10.0.0.0/8\"]", "").contains("`source_unlimited` needs `source_connections_max`")
    );
    assert!(fault("unmatched = \"refuse\"", "").contains("`unmatched` needs routes"));
    assert!(fault("preread_timeout = \"1s\"", "").contains("`preread_timeout` needs routes"));
    assert!(
        fault("unix_mode = \"0666\"", "").contains("`unix_mode` needs a `bind` to a unix socket"),
        "also the default"
    );
    assert!(fault("proxy_timeout = \"5s\"", "").contains("`proxy_timeout` needs accept_proxy"), "also the default");
    assert!(fault("source_prefix_v6 = 48", "").contains("`source_prefix_v6` needs `source_connections_max` or"));
    let found = fault("[[listeners.l.routes]]\npool = \"q\"", "");
    assert!(found.starts_with("f.toml:4:1: a route needs `protocol`, `sni` or `alpn`"), "{found}");
}

#[test]
fn what_is_no_network_no_name_and_no_pool_is_said_where_it_stands() {
    let found = fault("allow = [\"10.0.0.0/8\", \"10.0.0.1/8\"]", "");
    assert!(found.starts_with("f.toml:4:24: `allow` cannot be \"10.0.0.1/8\"; that network begins at 10"), "{found}");
    assert!(fault("deny = [\"localhost\"]", "").contains("write an address, a network"));
    assert!(fault("routes = [{ sni = [\"a b\"], pool = \"q\" }]", "").contains("write a host name"));
    assert!(fault("routes = [{ alpn = [\"\"], pool = \"q\" }]", "").contains("1 to 255 bytes"));
    assert!(fault("routes = [{ alpn = [\"x\"], pool = \"qq\" }]", "").contains("no pool `qq`; did you mean `q`?"));
    assert!(fault("routes = [{ alpn = [\"x\"] }]", "").contains("[[listeners.l.routes]] has no `pool`"));
    assert!(fault("routes = { alpn = [\"x\"] }", "").contains("write [[listeners.l.routes]] with two brackets"));
    assert!(fault("source_rate_max = \"20\"", "").contains("write \"20/s\", \"600/m\", or \"10/3s\""));
}

#[test]
fn connections_come_from_addresses_that_can_reach_a_backend() {
    let source = |value: &str| read("", &format!("[pools.p]\nsource = {value}"));
    let of = |value: &str| {
        let of_p = |config: Config| config.pools.into_iter().find(|pool| &*pool.name == "p").expect("it is there");
        source(value).map(|config| of_p(config).dial.source.to_string())
    };
    assert_eq!(of("\"10.0.0.9\"").as_deref(), Ok("10.0.0.9"));
    assert_eq!(of("[\"10.0.0.9\", \"10.0.0.8\"]").as_deref(), Ok("10.0.0.9, 10.0.0.8"));
    assert_eq!((of("\"client\"").as_deref(), of("\"\"").as_deref()), (Ok("client"), Ok("")));
    for (value, why) in [
        ("\"::1\"", "has no IPv6 backend"),
        ("\"0.0.0.0\"", "an address of this host"),
        ("\"10.0.0.1:80\"", "an address of this host"),
        ("[\"client\"]", "an address of this host"),
    ] {
        let errors = source(value).expect_err(value);
        assert!(errors.len() == 1 && errors[0].to_string().contains(why), "{errors:?}");
    }
}

#[test]
fn a_pool_can_be_left_out_where_routes_lead_all_clients_and_the_rest_is_refused() {
    let text = |lines: &str| {
        format!(
            "[listeners.l]\nbind = \"127.0.0.1:1\"\n{lines}\n[pools.p]\nbackends = [{{ address = \"10.0.0.1:1\" }}]\n"
        )
    };
    let read = |lines: &str| crate::config::load(&text(lines), "f.toml", &|_: &str| None);
    let routes = "routes = [{ protocol = \"ssh\", pool = \"p\" }]";
    let config = read(&format!("unmatched = \"refuse\"\n{routes}")).unwrap();
    assert_eq!((config.listeners[0].has_pool, &*config.listeners[0].pool), (false, "p"));
    for lines in [routes, "unmatched = \"refuse\"", "unmatched = \"refuse\"\nroutes = []"] {
        let errors: Vec<String> = read(lines).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.contains("has no `pool`")), "{lines}: {errors:?}");
    }
}
