//! PROXY headers that clients' own proxies send: which are taken, and what becomes of the rest. S1, S2, R26.

use std::time::Duration;

use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Listener, Peer, Ringway, assert_about, timed, wait_until};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5432\r\n";
/// Version 2, PROXY, TCP over IPv4, 12 bytes: 192.0.2.9:40001 to 198.51.100.1:5432.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x41\x15\x38";

fn expecting(plan: Plan) -> Plan {
    plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"127.0.0.0/8\", \"unix:\"]")
}

fn refused(ringway: &Ringway, reason: &str) -> u64 {
    ringway.metrics().count("listener_refused_total", &[("listener", "main"), ("reason", reason)])
}

#[test]
fn what_follows_the_header_arrives_whole_however_it_is_cut() {
    let listener = Listener::new();
    let ringway = expecting(Ringway::before([listener.address()])).start();
    for header in [V1, V2] {
        let whole: Vec<u8> = [header, b"then the client speaks"].concat();
        for pieces in [1, 5, header.len(), header.len() + 3, whole.len()] {
            let mut client = ringway.connect();
            for piece in whole.chunks(pieces) {
                client.send(piece);
                if pieces < whole.len() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let mut server = listener.accept();
            server.expect(b"then the client speaks");
            server.send(b"answer");
            client.expect(b"answer");
            client.finish();
            assert_eq!(server.end(), End::Fin);
            drop(server);
            assert_eq!(client.end(), End::Fin);
        }
    }
    ringway.expect_code("--", 10);
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_bytes_total", &[("direction", "to_backend")]), 220, "headers are not counted");
}

#[test]
fn a_server_that_speaks_first_is_heard_after_the_header_alone() {
    let backend = Backend::named("welcome");
    let ringway = expecting(Ringway::before([backend.address()])).start();
    for header in [V1, V2, b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = ringway.connect();
        client.send(header);
        client.expect(b"welcome");
    }
}

#[test]
fn the_client_of_the_header_is_the_client_from_then_on() {
    let (backend, folder) = (Backend::named("hi"), tempfile::tempdir().unwrap());
    let log = folder.path().join("access.log");
    let plan = expecting(Ringway::before([backend.address()])).listener("deny = [\"192.0.2.66\"]");
    let ringway = plan.access_log(log.to_str().unwrap(), "json").start();
    let mut client = ringway.connect();
    client.send(V1);
    client.expect(b"hi");
    let sessions = |filter: &str| {
        let found = ringway.api().get(&format!("/v1/sessions?client={filter}"));
        found["sessions"].as_array().unwrap().len()
    };
    assert_eq!((sessions("192.0.2.0/24"), sessions("127.0.0.0/8")), (1, 0));
    let mut denied = ringway.connect();
    denied.send(b"PROXY TCP4 192.0.2.66 198.51.100.1 1 2\r\n");
    assert_eq!(denied.end(), End::Reset);
    drop(client);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("two lines", || lines().lines().count() == 2);
    let lines = lines();
    assert!(lines.contains("\"client\":\"192.0.2.66:1\"") && lines.contains("\"reason\":\"deny\""), "{lines}");
    assert!(lines.contains("\"client\":\"192.0.2.7:40000\""), "{lines}");
    assert_eq!((refused(&ringway, "deny"), backend.accepted()), (1, 1));
}

/// A header that says nothing of the client leaves the address of the connection.
#[test]
fn local_and_unknown_headers_leave_the_peers_own_address() {
    let backend = Backend::named("hi");
    let ringway = expecting(Ringway::before([backend.address()])).start();
    let mut clients: Vec<Peer> = (0..2).map(|_| ringway.connect()).collect();
    clients[0].send(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n");
    clients[1].send(b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x41\x15\x38");
    clients.iter_mut().for_each(|client| client.expect(b"hi"));
    let found = ringway.api().get("/v1/sessions?client=127.0.0.0/8");
    assert_eq!(found["sessions"].as_array().unwrap().len(), 2, "{found}");
}

/// S1: a sender that is not trusted is not believed, and a listener that expects no header passes one on as data.
#[test]
fn a_header_counts_only_where_it_is_expected_and_from_whom_it_is() {
    let listener = Listener::new();
    let plan = Ringway::before([listener.address()]);
    let plan = plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"127.99.0.0/16\"]");
    let ringway = plan.start();
    let told =
        Peer::connect_from(Some("127.98.0.1:0"), ringway.address()).map_or(End::Reset, |mut client| client.end());
    assert_eq!(told, End::Reset);
    ringway.expect_code("PR", 1);
    assert_eq!(refused(&ringway, "proxy_untrusted"), 1);
    let mut trusted = Peer::connect_from(Some("127.99.0.1:0"), ringway.address()).unwrap();
    trusted.send(&[V1, b"x"].concat());
    listener.accept().expect(b"x");

    let plain = Ringway::before([listener.address()]).start();
    plain.connect().send(V1);
    listener.accept().expect(V1);
}

/// S2.
#[test]
fn what_is_no_header_is_refused_with_a_reason_and_no_backend_hears_of_it() {
    let backend = Backend::named("never");
    let ringway = expecting(Ringway::before([backend.address()])).start();
    let wrong: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 001.2.3.4 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x41\x15\x38",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x41\x15\x38",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x41\x15\x38\x04\0\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ];
    for (count, bytes) in wrong.iter().enumerate() {
        let mut client = ringway.connect();
        client.send(bytes);
        assert_eq!(client.end(), End::Reset, "{}", bytes.escape_ascii());
        assert_eq!(refused(&ringway, "proxy_malformed"), count as u64 + 1);
    }
    // Cut short by a FIN.
    let mut client = ringway.connect();
    client.send(&V1[..20]);
    client.finish();
    assert_eq!(client.end(), End::Reset);
    ringway.expect_code("PR", 10);
    // One that leaves without a word has broken no rule.
    drop(ringway.connect());
    ringway.wait_metrics("one has left", |metrics| metrics.ended("CR") == 1);
    let mut client = ringway.connect();
    client.send(&V1[..20]);
    client.reset();
    ringway.wait_metrics("another has left", |metrics| metrics.ended("CR") == 2);
    ringway.wait_idle();
    assert_eq!((refused(&ringway, "proxy_malformed"), backend.accepted()), (10, 0));
}

/// R26.
#[test]
fn who_is_too_slow_with_the_header_is_refused_in_time_and_costs_nothing_until_then() {
    let backend = Backend::named("never");
    let plan = expecting(Ringway::before([backend.address()])).listener("proxy_timeout = \"2s\"");
    let ringway = plan.workers(1).start();
    let (took, ()) = timed(|| {
        let mut clients: Vec<Peer> = (0..200).map(|_| ringway.connect()).collect();
        clients.iter_mut().skip(100).for_each(|client| client.send(&V1[..10]));
        let used = ringway.process().cpu_time();
        std::thread::sleep(Duration::from_secs(1));
        let used = ringway.process().cpu_time() - used;
        assert!(used < Duration::from_millis(100), "{used:?} of CPU in a second of waiting");
        clients.iter_mut().for_each(|client| assert_eq!(client.end(), End::Reset));
    });
    assert_about(took, Duration::from_secs(2));
    ringway.expect_code("PR", 200);
    assert_eq!((refused(&ringway, "proxy_timeout"), backend.accepted()), (200, 0));
}

/// A unix socket has no low-water mark.
#[test]
fn fragments_through_a_unix_socket_are_put_together_without_spinning() {
    let (listener, folder) = (Listener::new(), tempfile::tempdir().unwrap());
    let path = format!("unix:{}", folder.path().join("in.sock").display());
    let ringway = expecting(Ringway::before([listener.address()])).bind(&format!("{path:?}")).start();
    let mut client = Peer::connect(&path);
    client.send(&V1[..20]);
    let used = ringway.process().cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    let used = ringway.process().cpu_time() - used;
    assert!(used < Duration::from_millis(100), "{used:?} of CPU in half a second of waiting: it spins");
    client.send(&[&V1[20..], b"x"].concat());
    listener.accept().expect(b"x");
}

/// What a client has sent before its worker ends is no reason to wait for the rest.
#[test]
fn who_has_not_said_its_header_does_not_hold_the_end_up() {
    let backend = Backend::named("never");
    let plan = expecting(Ringway::before([backend.address()])).listener("proxy_timeout = \"0s\"");
    let ringway = plan.process("shutdown_grace = \"300ms\"").start();
    let mut client = ringway.connect();
    client.send(&V1[..10]);
    ringway.wait_metrics("it is there", |metrics| metrics.count("connections", &[]) == 1);
    ringway.signal(libc::SIGTERM);
    assert_eq!(client.end(), End::Reset);
    assert!(ringway.wait(Duration::from_secs(10)).success());
}

/// Where the kernel cannot say that more has come, it still says that no more will.
#[test]
fn who_leaves_in_the_middle_of_its_header_is_let_go() {
    let (backend, folder) = (Backend::named("never"), tempfile::tempdir().unwrap());
    let path = format!("unix:{}", folder.path().join("in.sock").display());
    let plan = expecting(Ringway::before([backend.address()])).listener("proxy_timeout = \"0s\"");
    let ringway = plan.bind(&format!("{path:?}")).start();
    let mut client = Peer::connect(&path);
    client.send(&V1[..20]);
    std::thread::sleep(Duration::from_millis(50));
    drop(client);
    ringway.expect_code("PR", 1);
    ringway.wait_idle();
}
