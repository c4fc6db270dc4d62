//! Pools that choose a backend only when the client has said something.

use std::time::Duration;

use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Listener, PATIENCE, Peer, Ringway, wait_until};

fn plan(address: &str) -> Plan {
    Ringway::before([address]).pool("connect_on = \"first_byte\"")
}

#[test]
fn a_silent_client_takes_no_backend_until_its_first_byte_and_loses_none() {
    let backend = Backend::echo();
    let ringway = plan(backend.address()).start();
    let mut clients: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
    ringway.wait_metrics("they are accepted", |metrics| metrics.count("connections", &[]) == 20);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(backend.accepted(), 0);
    let states = ringway.api().sessions("");
    assert!(states.iter().all(|session| session["state"] == "preread"), "{states:?}");
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(b"first");
        client.expect(b"first");
        assert_eq!(backend.accepted(), number + 1);
        client.send(b"and more");
        client.expect(b"and more");
    }
    drop(clients);
    ringway.expect_code("--", 20);
}

/// As if it had been connected from the start: the server may have an answer.
#[test]
fn a_fin_without_a_byte_is_passed_on() {
    let server = Listener::new();
    let ringway = plan(server.address()).start();
    let mut client = ringway.connect();
    assert!(server.accept_within(Duration::from_millis(100)).is_none());
    client.finish();
    let mut served = server.accept();
    assert_eq!(served.end(), End::Fin);
    served.send(b"goodbye");
    drop(served);
    client.expect(b"goodbye");
    assert_eq!(client.end(), End::Fin);
    ringway.expect_code("--", 1);
}

#[test]
fn a_client_that_resets_before_its_first_byte_reaches_no_backend() {
    let backend = Backend::echo();
    let ringway = plan(backend.address()).start();
    let client = ringway.connect();
    ringway.wait_metrics("it is there", |metrics| metrics.count("connections", &[]) == 1);
    client.reset();
    ringway.expect_code("CR", 1);
    assert_eq!(backend.accepted(), 0);
}

/// A client that says nothing needs no backend, and is no reason to wait for the end of the grace.
#[test]
fn silent_clients_end_in_a_fin_when_ringway_drains_and_one_that_speaks_then_is_served() {
    let backend = Backend::echo();
    let plan = plan(backend.address()).process("shutdown_grace = \"60s\"").pool("drain_idle = \"500ms\"");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let ringway = plan.access_log(log.to_str().unwrap(), "json").start();
    let mut silent: Vec<Peer> = (0..50).map(|_| ringway.connect()).collect();
    let mut late = ringway.connect();
    ringway.wait_metrics("they are accepted", |metrics| metrics.count("connections", &[]) == 51);
    ringway.signal(libc::SIGTERM);
    late.send(b"first");
    late.expect(b"first");
    silent.iter_mut().for_each(|client| assert_eq!(client.end(), End::Fin));
    assert_eq!(late.end(), End::Fin);
    assert!(ringway.wait(PATIENCE).success());
    let said = std::fs::read_to_string(&log).unwrap();
    let told = said.lines().filter(|line| line.contains("\"KR\"") && line.contains("\"drain_idle\""));
    assert_eq!(told.count(), 50, "{said}");
}

#[test]
fn a_client_that_stays_silent_ends_after_the_idle_timeout() {
    let backend = Backend::echo();
    let ringway = plan(backend.address()).pool("idle_timeout = \"200ms\"").start();
    let mut client = ringway.connect();
    assert_eq!(client.end(), End::Fin);
    ringway.expect_code("cR", 1);
    assert_eq!(backend.accepted(), 0);
}

/// What a listener asks first is no byte for the backend.
#[test]
fn what_the_listener_asks_for_is_not_the_first_byte() {
    let backend = Backend::echo();
    let ringway = plan(backend.address())
        .listener("accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\"]\nallow = [\"192.0.2.0/24\"]")
        .start();
    let mut client = ringway.connect();
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    wait_until("its header was taken", || {
        ringway.api().sessions("").first().is_some_and(|session| session["client"] == "192.0.2.1:1")
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(backend.accepted(), 0);
    client.send(b"first");
    client.expect(b"first");
    let mut together = ringway.connect();
    together.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nfirst");
    together.expect(b"first");
}
