//! TLS to backends.

use std::io::ErrorKind;

use crate::harness::authority::{Authority, Certificate};
use crate::harness::ringway::Plan;
use crate::harness::secure::Trust;
use crate::harness::secure_server::Shown;
use crate::harness::{Backend, End, Listener, Peer, Ringway, wait_until};
use crate::tls_listener::pattern;

const NAME: &str = "db.example";

/// `[pools.main.tls]` that believes this authority.
fn tls(authority: &Authority, more: &str) -> String {
    format!("[pools.main.tls]\nca_file = {:?}\n{more}\n", authority.file())
}

fn plan<'a>(backends: impl IntoIterator<Item = &'a str>, authority: &Authority, more: &str) -> Plan {
    Ringway::before(backends).more(&tls(authority, more)).access_log("stderr", "json")
}

/// A backend that shows this certificate, says its name, and sends back whatever comes.
fn secure(shown: Shown, name: &'static str) -> Backend {
    Backend::new(move |peer, _| {
        if let Ok(mut server) = shown.accept(peer) {
            server.send(name.as_bytes());
            server.echo();
        }
    })
}

/// For a backend that is known by its name.
const NAMED: &str = "server_name = \"db.example\"";

fn sent_and_back(client: &mut Peer, bytes: &[u8]) {
    for part in bytes.chunks(60_000) {
        client.send(part);
        let mut back = Vec::new();
        while back.len() < part.len() {
            let some = client.read_some(1 << 16).unwrap();
            assert!(!some.is_empty(), "it ended after {} bytes", back.len());
            back.extend(some);
        }
        assert!(back == part);
    }
}

#[test]
fn bytes_go_both_ways_with_each_version_whatever_their_number() {
    let authority = Authority::new();
    let shown = authority.sign(&[NAME]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let backend = secure(Shown::with(&shown, &[version], None), "a");
        let ringway = plan([backend.address()], &authority, NAMED).start();
        for len in [1, 100, 16_384, 16_385, 400_000] {
            let mut client = ringway.connect();
            client.expect(b"a");
            sent_and_back(&mut client, &pattern(len));
            client.finish();
            assert_eq!(client.end(), End::Fin);
        }
        ringway.expect_code("--", 5);
        let metrics = ringway.metrics();
        assert_eq!(metrics.count("tls_backend_handshakes_total", &[("result", "failure")]), 0);
        assert_eq!(metrics.count("tls_backend_handshakes_total", &[]), 5);
        assert_eq!(metrics.count("tls_backend_truncated_total", &[]), 0);
    }
}

/// Each worker has sessions of its own.
#[test]
fn later_connections_to_the_same_backend_resume_and_those_to_another_one_do_not_hinder_that() {
    let authority = Authority::new();
    let shown = authority.sign(&[NAME]);
    let backends = [secure(Shown::of(&shown), "a"), secure(Shown::of(&shown), "b")];
    let ringway = plan(backends.iter().map(Backend::address), &authority, NAMED).workers(1).start();
    let mut names = Vec::new();
    for _ in 0..12 {
        let mut client = ringway.connect();
        names.push(client.read_some(1).unwrap()[0]);
        // Tickets come behind the handshake.
        sent_and_back(&mut client, b"x");
        client.finish();
        assert_eq!(client.end(), End::Fin);
    }
    assert_eq!(names.iter().filter(|name| **name == b'a').count(), 6, "they take turns");
    let metrics = ringway.metrics();
    let count = |result| metrics.count("tls_backend_handshakes_total", &[("result", result)]);
    assert_eq!((count("success"), count("resumed"), count("failure")), (2, 10, 0));
}

#[test]
fn close_notify_and_fin_are_passed_on_as_each_other_and_the_other_direction_goes_on() {
    let (authority, listener) = (Authority::new(), Listener::new());
    let shown = Shown::of(&authority.sign(&[NAME]));
    let ringway = plan([listener.address()], &authority, NAMED).start();
    // The client ends first.
    let mut client = ringway.connect();
    let mut server = shown.accept(listener.accept()).unwrap();
    client.send(b"request");
    client.finish();
    server.expect(b"request");
    assert_eq!(server.end(), Ok(()), "close_notify");
    let answer = pattern(300_000);
    server.send(&answer);
    server.say_last();
    let (found, end) = client.drain();
    assert!(found == answer && end == End::Fin);
    // The server ends first, without a FIN.
    let mut client = ringway.connect();
    let mut server = shown.accept(listener.accept()).unwrap();
    server.send(b"goodbye");
    server.say_last();
    client.expect(b"goodbye");
    assert_eq!(client.end(), End::Fin);
    client.send(b"not yet");
    server.expect(b"not yet");
    client.finish();
    assert_eq!(server.end(), Ok(()));
    drop(server);
    ringway.expect_code("--", 2);
}

/// What was cut short must not look whole, and what only lacks close_notify is whole for most.
#[test]
fn a_reset_stays_a_reset_and_a_fin_without_close_notify_is_passed_on_and_counted() {
    let (authority, listener) = (Authority::new(), Listener::new());
    let shown = Shown::of(&authority.sign(&[NAME]));
    let ringway = plan([listener.address()], &authority, NAMED).start();
    let begin = || {
        let mut client = ringway.connect();
        let mut server = shown.accept(listener.accept()).unwrap();
        server.send(b"some");
        client.expect(b"some");
        (client, server)
    };
    let (mut client, mut server) = begin();
    server.tcp.finish();
    assert_eq!(client.end(), End::Fin);
    client.finish();
    assert_eq!(server.end(), Ok(()));
    assert_eq!(ringway.metrics().count("tls_backend_truncated_total", &[("pool", "main")]), 1);
    let (mut client, server) = begin();
    server.tcp.reset();
    assert_eq!(client.end(), End::Reset);
    // A client that resets.
    let (client, mut server) = begin();
    client.reset();
    assert_eq!(server.end(), Err(ErrorKind::ConnectionReset));
    // In the middle of a record.
    let (mut client, mut server) = begin();
    server.tcp.write_all(&[23, 3, 3, 1, 0, 7, 7]).unwrap();
    server.tcp.finish();
    assert_eq!(client.end(), End::Reset);
    // A record that was not made with the keys.
    let (mut client, mut server) = begin();
    server.tcp.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).unwrap();
    assert_eq!(client.end(), End::Reset);
    let error = server.read_some().unwrap_err().to_string();
    assert!(error.contains("BadRecordMac") || error.contains("reset"), "{error}");
    ringway.wait_said("the backend broke the rules of TLS: bad_record_mac");
}

/// The log has the backend that was asked, and what was wrong with it; clients do not notice.
#[test]
fn another_backend_is_tried_where_one_cannot_be_greeted_and_the_log_says_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = secure(Shown::of(&authority.sign(&[NAME])), "good");
    let wrong_name = secure(Shown::of(&authority.sign(&["other.example"])), "wrong");
    let unknown = secure(Shown::of(&stranger.sign(&[NAME])), "unknown");
    let expired = secure(Shown::of(&authority.sign_expired(NAME)), "expired");
    let clear = Backend::new(|mut peer, _| {
        let _ = peer.write_all(b"220 mail.example ESMTP\r\n");
        let _ = peer.read_some(1 << 14);
    });
    let gone = Backend::new(|_, _| {});
    let demanding = secure(Shown::with(&authority.sign(&[NAME]), &[&rustls::version::TLS12], Some(&stranger)), "mtls");
    for (bad, why) in [
        (&wrong_name, "its certificate is not for db.example but for other.example; set `server_name`"),
        (&unknown, "no authority that is believed has signed its certificate; name the file"),
        (&expired, "its certificate expired "),
        (&clear, "the backend does not speak TLS"),
        (&gone, "the backend closed the connection during the handshake"),
        (&demanding, "`cert` and `key`"),
    ] {
        let plan = plan([bad.address(), good.address()], &authority, NAMED).never_ejecting();
        let ringway = plan.pool("balance = \"failover\"").start();
        let mut client = ringway.connect();
        client.expect(b"good");
        client.finish();
        assert_eq!(client.end(), End::Fin);
        ringway.wait_said(why);
        ringway.wait_said("\"error\":\"tls\"");
        ringway.expect_code("--", 1);
        let metrics = ringway.metrics();
        assert_eq!(metrics.count("tls_backend_handshakes_total", &[("result", "failure")]), 1);
        assert_eq!(metrics.count("backend_connect_errors_total", &[("reason", "tls")]), 1);
    }
}

#[test]
fn a_session_without_a_backend_that_can_be_greeted_ends_as_one_that_cannot_be_connected() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let backend = secure(Shown::of(&stranger.sign(&[NAME])), "a");
    let ringway = plan([backend.address()], &authority, NAMED).never_ejecting().start();
    assert_eq!(ringway.connect().end(), End::Reset);
    ringway.expect_code("SC", 1);
    ringway.wait_said("\"tls_error\":\"no authority that is believed");
    // A server that says nothing is waited for as long as a connect may take.
    let (silent, authority) = (Listener::new(), Authority::new());
    let plan = plan([silent.address()], &authority, NAMED).never_ejecting();
    let ringway = plan.pool("connect_timeout = \"200ms\"\nconnect_attempts = 1").start();
    assert_eq!(ringway.connect().end(), End::Reset);
    ringway.expect_code("sC", 1);
}

#[test]
fn a_backend_that_fails_handshakes_is_ejected() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = secure(Shown::of(&authority.sign(&[NAME])), "good");
    let bad = secure(Shown::of(&stranger.sign(&[NAME])), "bad");
    let ringway = plan([bad.address(), good.address()], &authority, NAMED).start();
    for _ in 0..20 {
        ringway.connect().expect(b"good");
    }
    wait_until("it is ejected", || {
        let states = ringway.metrics().count("backend_transitions_total", &[("backend", "a"), ("to", "ejected")]);
        states == 1
    });
}

/// A client could take a backend away from all others by asking for wrong names.
#[test]
fn the_name_that_a_client_asks_for_is_asked_of_the_backend_and_is_no_fault_of_it() {
    let authority = Authority::new();
    let backend = secure(Shown::of(&authority.sign(&["a.example", "b.example"])), "a");
    let own = authority.sign(&["a.example", "b.example", "c.example"]);
    let Certificate { certificate, key } = &own;
    let pair = format!("[listeners.main.tls]\ncertificates = [{{ cert = {certificate:?}, key = {key:?} }}]\n");
    let ringway = plan([backend.address()], &authority, "server_name = \"client\"").more(&pair).start();
    let trust = Trust::of(&authority);
    for name in ["a.example", "b.example"] {
        trust.connect(ringway.address(), name).expect(b"a");
    }
    for _ in 0..10 {
        let mut client = trust.connect(ringway.address(), "c.example");
        assert!(client.read_some().is_err());
    }
    let metrics = ringway.metrics();
    assert!(metrics.count("backend_connect_errors_total", &[("reason", "tls_name")]) >= 10);
    assert_eq!(metrics.count("backend_transitions_total", &[("to", "ejected")]), 0);
    trust.connect(ringway.address(), "a.example").expect(b"a");
}

#[test]
fn the_address_is_the_name_where_none_is_given_and_a_certificate_is_shown_where_one_is_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let listener = Listener::new();
    let (ip, _) = listener.address().rsplit_once(':').unwrap();
    let shown = Shown::with(&authority.sign(&[ip]), rustls::ALL_VERSIONS, Some(&clients)).alpn(&["b", "a"]);
    let Certificate { certificate, key } = clients.sign(&["ringway"]);
    let more = format!("cert = {certificate:?}\nkey = {key:?}\nalpn = [\"a\", \"c\"]");
    let ringway = plan([listener.address()], &authority, &more).start();
    let mut client = ringway.connect();
    let mut server = shown.accept(listener.accept()).unwrap();
    assert_eq!(server.tls.alpn_protocol(), Some(&b"a"[..]));
    assert_eq!(server.tls.server_name(), None, "an address is not sent");
    assert_eq!(server.tls.peer_certificates().map(<[_]>::len), Some(1));
    server.send(b"hello");
    client.expect(b"hello");
}

#[test]
fn a_backend_that_sends_byte_by_byte_is_served() {
    let (authority, listener) = (Authority::new(), Listener::new());
    let certificate = authority.sign(&[NAME]);
    let ringway = plan([listener.address()], &authority, NAMED).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = ringway.connect();
        let mut server = Shown::with(&certificate, &[version], None).begin(listener.accept());
        server.step = 1;
        server.shake_hands().unwrap();
        server.send(b"slowly");
        client.expect(b"slowly");
        server.say_last();
        assert_eq!(client.end(), End::Fin);
    }
}

/// What the client sends meanwhile waits, and a PROXY header is not secret.
#[test]
fn a_proxy_header_stands_before_our_hello_and_the_bytes_of_the_client_behind_the_handshake() {
    let (authority, listener) = (Authority::new(), Listener::new());
    let shown = Shown::of(&authority.sign(&[NAME]));
    let ringway = plan([listener.address()], &authority, NAMED).pool("send_proxy = \"v1\"").start();
    let mut client = ringway.connect();
    client.send(b"early");
    let mut peer = listener.accept();
    let (from, _) =
        client.local_address().rsplit_once(':').map(|(ip, port)| (ip.to_string(), port.to_string())).unwrap();
    peer.expect(format!("PROXY TCP4 {from} ").as_bytes());
    while peer.read_some(1).unwrap() != b"\n" {}
    let mut server = shown.accept(peer).unwrap();
    server.expect(b"early");
}

/// What vouches for backends is followed; what cannot be read leaves what was there.
#[test]
fn another_authority_is_believed_without_a_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    let file = old.folder().join("believed.pem");
    std::fs::copy(old.file(), &file).unwrap();
    let backend = secure(Shown::of(&new.sign(&[NAME])), "a");
    let table = format!("[pools.main.tls]\nca_file = {file:?}\n{NAMED}\n");
    let ringway = Ringway::before([backend.address()]).more(&table).never_ejecting().start();
    assert_eq!(ringway.connect().end(), End::Reset);
    std::fs::write(&file, "nothing").unwrap();
    ringway.wait_said("what was shown before is shown on");
    std::fs::copy(new.file(), &file).unwrap();
    ringway.wait_said("its certificates have changed; the next connections to backends go by them");
    wait_until("it is believed", || matches!(ringway.connect().read_some(1), Ok(byte) if byte == b"a"));
}

#[test]
fn many_handshakes_with_backends_at_the_same_time_are_all_made_and_those_given_up_leave_nothing() {
    let authority = Authority::new();
    let backend = secure(Shown::of(&authority.sign(&[NAME])), "a");
    let ringway = plan([backend.address()], &authority, NAMED).workers(1).pool("connect_timeout = \"20s\"").start();
    let before = ringway.process().descriptors();
    let mut clients: Vec<Peer> = (0..150).map(|_| ringway.connect()).collect();
    // Some leave while theirs waits.
    for client in clients.split_off(100) {
        client.reset();
    }
    clients.iter_mut().for_each(|client| client.expect(b"a"));
    drop(clients);
    ringway.wait_idle();
    ringway.wait_descriptors(before);
}
