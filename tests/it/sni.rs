//! Clients that are led to a pool by what their TLS says, which no proxy on the way decrypts.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::postgresql::{Cluster, folder, run};
use crate::harness::process::{Process, program};
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Listener, Peer, Ringway, timed, wait_until};

const ROUTES: &str = r#"
[[listeners.main.routes]]
sni = ["db1.example.com"]
pool = "one"
[[listeners.main.routes]]
sni = ["*.eu.example.com"]
alpn = ["postgresql", "h2"]
pool = "two"
"#;

/// With the pools `main`, `one` and `two` before these.
fn led(main: &str, one: &str, two: &str, listener: &str) -> Plan {
    let pool = |name: &str, address: &str| {
        format!("[pools.{name}]\ncheck.type = \"off\"\nbackends = [{{ name = {name:?}, address = {address:?} }}]\n")
    };
    Ringway::before([main]).listener(listener).more(&format!("{ROUTES}{}{}", pool("one", one), pool("two", two)))
}

/// What a TLS client says first.
pub(crate) fn hello(name: Option<&'static str>, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_sni = name.is_some();
    let name = rustls::pki_types::ServerName::try_from(name.unwrap_or("unsaid.example")).unwrap();
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of that many bytes.
fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&hello[..3], &(part.len() as u16).to_be_bytes(), part].concat();
    hello[5..].chunks(len).flat_map(record).collect()
}

/// By weight, and without a turn taken from those that come by another way.
#[test]
fn a_route_divides_its_clients_among_pools() {
    let [main, one, two] = ["main", "one", "two"].map(Backend::named);
    let pool = |name: &str, address: &str| {
        format!("[pools.{name}]\ncheck.type = \"off\"\nbackends = [{{ name = {name:?}, address = {address:?} }}]\n")
    };
    let route = "[[listeners.main.routes]]\nsni = [\"db1.example.com\"]\n\
                 split = [{ pool = \"one\", weight = 3 }, { pool = \"two\", weight = 1 }]\n";
    let pools = format!("{route}{}{}", pool("one", one.address()), pool("two", two.address()));
    let ringway = Ringway::before([main.address()]).more(&pools).start();
    for number in 0..40 {
        let mut client = ringway.connect();
        client.send(&hello(Some("db1.example.com"), &[]));
        client.read_some(3).unwrap();
        if number % 3 == 0 {
            let mut other = ringway.connect();
            other.send(&hello(Some("other.example.com"), &[]));
            other.expect(b"main");
        }
    }
    assert_eq!([one.accepted(), two.accepted(), main.accepted()], [30, 10, 14]);
}

#[test]
fn the_name_in_the_hello_decides_and_the_backend_gets_every_byte_of_it() {
    let [main, one, two] = [(); 3].map(|()| Listener::new());
    let ringway = led(main.address(), one.address(), two.address(), "").start();
    let cases: [(Option<&'static str>, &[&str], &Listener); 7] = [
        (Some("db1.example.com"), &[], &one),
        (Some("DB1.example.com"), &["h2"], &one),
        (Some("a.eu.example.com"), &["postgresql"], &two),
        (Some("a.b.eu.example.com"), &["x", "h2"], &two),
        (Some("a.eu.example.com"), &["http/1.1"], &main),
        (Some("eu.example.com"), &["h2"], &main),
        (None, &["h2"], &main),
    ];
    for (name, protocols, listener) in cases {
        let hello = hello(name, protocols);
        for sent in [hello.clone(), in_records(&hello, 50), in_records(&hello, 1)] {
            for pieces in [sent.len(), 100] {
                let mut client = ringway.connect();
                for piece in sent.chunks(pieces) {
                    client.send(piece);
                    std::thread::sleep(Duration::from_micros(200));
                }
                let mut server = listener.accept();
                server.expect(&sent);
                client.send(b"more");
                server.expect(b"more");
                server.send(b"answer");
                client.expect(b"answer");
            }
        }
    }
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let ended = |pool: &str| metrics.count("sessions_total", &[("listener", "main"), ("pool", pool)]);
    assert_eq!((ended("main"), ended("one"), ended("two")), (18, 12, 12), "by the pool that served");
    let listeners = ringway.api().get("/v1/listeners");
    assert_eq!(listeners["listeners"][0]["routes"][1]["pool"], "two", "{listeners}");
}

#[test]
fn who_says_no_tls_or_too_little_gets_the_default_pool_with_all_it_said() {
    let backend = Listener::new();
    let plan = led(backend.address(), &refusing(), &refusing(), "preread_timeout = \"300ms\"");
    let ringway = plan.start();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x05\x02\0\0\x01\0", b"\0\0\0\x10\x04\xd2\x16\x2ecancel!!"]
    {
        let mut client = ringway.connect();
        client.send(bytes);
        let (took, mut server) = timed(|| backend.accept());
        server.expect(bytes);
        assert!(took < Duration::from_millis(250), "{took:?}: it is known at once");
    }
    let cut = &hello(Some("db1.example.com"), &[])[..40];
    let mut client = ringway.connect();
    client.send(cut);
    let (took, mut server) = timed(|| backend.accept());
    server.expect(cut);
    assert!(took >= Duration::from_millis(290), "{took:?}: more could have come");
    let mut client = ringway.connect();
    client.send(cut);
    client.finish();
    let (took, mut server) = timed(|| backend.accept());
    server.expect(cut);
    assert_eq!(server.end(), End::Fin);
    assert!(took < Duration::from_millis(250), "{took:?}: nothing more can come");
    let silent = ringway.connect();
    let mut server = backend.accept();
    server.send(b"server speaks first");
    drop(silent);
    drop(ringway.connect());
    ringway.wait_metrics("one left without a word", |metrics| metrics.ended("CR") == 1);
}

#[test]
fn the_access_log_has_the_name_that_was_asked_for() {
    let ([main, one, two], folder) = ([(); 3].map(|()| Listener::new()), tempfile::tempdir().unwrap());
    let log = folder.path().join("access.log");
    let plan = led(main.address(), one.address(), two.address(), "").access_log(log.to_str().unwrap(), "json");
    let ringway = plan.start();
    for (name, listener) in [(Some("db1.example.com"), &one), (Some("else.example"), &main), (None, &main)] {
        let mut client = ringway.connect();
        client.send(&hello(name, &[]));
        let server = listener.accept();
        drop(client);
        drop(server);
        ringway.wait_idle();
    }
    let mut lines = Vec::new();
    wait_until("three lines", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
        lines.len() == 3
    });
    let mut named: Vec<Option<&str>> =
        lines.iter().map(|line| line.get("sni").and_then(|name| name.as_str())).collect();
    named.sort_unstable();
    assert_eq!(named, [None, Some("db1.example.com"), Some("else.example")]);
}

fn refusing() -> String {
    crate::harness::address::refusing()
}

#[test]
fn who_fits_no_route_is_refused_where_it_is_configured() {
    let backend = Backend::named("never");
    let plan = led(backend.address(), &refusing(), &refusing(), "unmatched = \"refuse\"\npreread_timeout = \"200ms\"");
    let ringway = plan.start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &hello(Some("other.example.com"), &[]), b"\x16\x03\x01", b""] {
        let mut client = ringway.connect();
        client.send(bytes);
        assert_eq!(client.end(), End::Reset);
    }
    ringway.expect_code("PR", 4);
    let refused = ringway.metrics().count("listener_refused_total", &[("reason", "unmatched")]);
    assert_eq!((refused, backend.accepted()), (4, 0));
}

/// PostgreSQL's own request for TLS comes before the hello: the client is told to go on, and the backend is asked the
/// same, so that it sees what it would have seen.
#[test]
fn postgresqls_request_for_tls_is_answered_and_asked_again_of_the_backend() {
    const REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const GSS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
    let [main, one] = [(); 2].map(|()| Listener::new());
    let ringway = led(main.address(), one.address(), &refusing(), "").start();
    let hello = hello(Some("db1.example.com"), &[]);
    for before in [&[][..], GSS] {
        let mut client = ringway.connect();
        client.send(before);
        if !before.is_empty() {
            client.expect(b"N");
        }
        client.send(&REQUEST[..3]);
        std::thread::sleep(Duration::from_millis(20));
        client.send(&REQUEST[3..]);
        client.expect(b"S");
        client.send(&hello);
        let mut server = one.accept();
        server.expect(REQUEST);
        assert!(server.is_silent_for(Duration::from_millis(50)), "it has not answered yet");
        server.send(b"S");
        server.expect(&hello);
        server.send(b"server hello");
        client.expect(b"server hello");
    }
    // A backend that does without TLS cannot serve a client that was told to go on.
    let mut client = ringway.connect();
    client.send(REQUEST);
    client.expect(b"S");
    client.send(&hello);
    let mut server = one.accept();
    server.expect(REQUEST);
    server.send(b"N");
    assert_eq!(client.end(), End::Reset);
    drop(server);
    ringway.wait_metrics("it is the server's fault", |metrics| metrics.ended("SC") == 1);
    // And one that does not answer is given up in time.
    ringway.change("[pools.one]\n", "[pools.one]\nconnect_timeout = \"300ms\"\nconnect_attempts = 1\n");
    let mut client = ringway.connect();
    client.send(REQUEST);
    client.expect(b"S");
    client.send(&hello);
    let (took, end) = timed(|| client.end());
    assert_eq!(end, End::Reset);
    assert!(took >= Duration::from_millis(280), "{took:?}");
    ringway.wait_metrics("it is the server's silence", |metrics| metrics.ended("sC") == 1);
}

/// The header of a proxy, then PostgreSQL's request, then the hello; and a header to the backend before all of it.
#[test]
fn headers_and_routes_go_together() {
    let one = Listener::new();
    let proxy = "accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\"]";
    let plan = led(&refusing(), one.address(), &refusing(), proxy);
    let ringway = plan.more("[pools.one.ejection]\nfailures = 0").start();
    ringway.change("[pools.one]\n", "[pools.one]\nsend_proxy = \"v1\"\n");
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5432\r\n";
    let mut client = ringway.connect();
    client.send(&[&header[..], b"\0\0\0\x08\x04\xd2\x16\x2f"].concat());
    client.expect(b"S");
    let hello = hello(Some("db1.example.com"), &[]);
    client.send(&hello);
    let mut server = one.accept();
    server.expect(&[&header[..], b"\0\0\0\x08\x04\xd2\x16\x2f"].concat());
    server.send(b"S");
    server.expect(&hello);
}

#[test]
fn psql_reaches_the_cluster_whose_name_it_asks_for() {
    let Some(bin) = folder() else { return };
    let clusters = ["one", "two"].map(|_| Cluster::configured(&bin, "ssl = on\n", ""));
    let [one, two] = &clusters;
    // The route of `two` asks for ALPN, which this psql does not offer.
    let plan = led(&two.address(), &one.address(), &refusing(), "");
    let ringway = plan.start();
    let (ip, port) = ringway.address().rsplit_once(':').unwrap();
    for (name, cluster) in [("db1.example.com", one), ("db2.example.com", two)] {
        for mode in ["require", "prefer"] {
            let target = format!("host={name} hostaddr={ip} port={port} user=postgres dbname=postgres sslmode={mode}");
            let mut psql = Command::new(bin.join("psql"));
            let ended = run(psql
                .args(["-XAtqc", "select host(inet_server_addr()), ssl from pg_stat_ssl where pid = pg_backend_pid()"])
                .arg(target));
            assert!(ended.status.success(), "{}", ended.stderr);
            let expected = format!("{}|t", cluster.address().rsplit_once(':').unwrap().0);
            assert_eq!(ended.stdout.trim(), expected, "{name} {mode}");
        }
    }
    // Without TLS there is no name: the default pool.
    let target =
        format!("host=db1.example.com hostaddr={ip} port={port} user=postgres dbname=postgres sslmode=disable");
    let ended = run(Command::new(bin.join("psql")).args(["-XAtqc", "select host(inet_server_addr())"]).arg(target));
    assert_eq!(ended.stdout.trim(), two.address().rsplit_once(':').unwrap().0, "{}", ended.stderr);
}

#[test]
fn openssl_is_led_by_name_and_protocol_and_its_session_is_whole() {
    let Some(openssl) = program(&["/usr/bin/openssl"], "openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let servers = ["main", "one", "two"].map(|name| {
        let (key, certificate) = (folder.path().join(format!("{name}.key")), folder.path().join(format!("{name}.crt")));
        let mut make = Command::new(&openssl);
        make.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN=server-{name}"),
        ]);
        let ended = run(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
        assert!(ended.status.success(), "{}", ended.stderr);
        let address = format!("{}:7400", crate::harness::address::own_ip());
        let mut serve = Command::new(&openssl);
        serve.args(["s_server", "-accept", &address, "-alpn", "h2,postgresql", "-quiet", "-www"]);
        let process = Process::start(serve.arg("-key").arg(&key).arg("-cert").arg(&certificate));
        wait_until("it listens", || Peer::try_connect(&address).is_ok());
        (address, process)
    });
    let [main, one, two] = &servers;
    let ringway = led(&main.0, &one.0, &two.0, "").start();
    let subject = |arguments: &[&str]| {
        let mut client = Command::new(&openssl);
        client.args(["s_client", "-connect", ringway.address()]).args(arguments);
        let ended = run(&mut client);
        let line = ended.stdout.lines().find(|line| line.starts_with("subject=")).unwrap_or(&ended.stderr).to_string();
        line.rsplit_once("server-").map(|(_, name)| name.to_string()).unwrap_or(line)
    };
    assert_eq!(subject(&["-servername", "db1.example.com"]), "one");
    assert_eq!(subject(&["-servername", "db1.example.com", "-tls1_2"]), "one");
    assert_eq!(subject(&["-servername", "x.eu.example.com", "-alpn", "h2"]), "two");
    assert_eq!(subject(&["-servername", "x.eu.example.com"]), "main");
    assert_eq!(subject(&["-noservername"]), "main");
}

/// A header that came in pieces says nothing of how much must come after it.
#[test]
fn what_follows_a_header_that_came_in_pieces_is_noticed_at_once() {
    const REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let one = Listener::new();
    let proxy = "accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\"]";
    let ringway = led(&refusing(), one.address(), &refusing(), proxy).start();
    let mut client = ringway.connect();
    for piece in [&b"PROXY TCP4 192.0.2.7 "[..], b"198.51.100.1 40000 5432\r\n", REQUEST] {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (took, ()) = timed(|| client.expect(b"S"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    client.send(&hello(Some("db1.example.com"), &[]));
    one.accept().expect(REQUEST);
}
