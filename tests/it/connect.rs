//! The way to a backend: the next one immediately, time-outs, clients that are early and clients that leave.

use std::time::Duration;

use crate::harness::address::refusing;
use crate::harness::backend::BlackHole;
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Peer, Ringway, assert_about, median, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// How long clients wait for their reset, in the middle.
fn refusal_time(ringway: &Ringway, clients: usize) -> Duration {
    // So soon, most likely, that even connecting fails of it.
    let refusal = || match Peer::try_connect(ringway.address()) {
        Ok(mut client) => client.read_some(1).expect_err("neither bytes nor a FIN").kind(),
        Err(error) => error.kind(),
    };
    let time = |_| {
        let (took, error) = timed(refusal);
        assert_eq!(error, std::io::ErrorKind::ConnectionReset);
        took
    };
    median((0..clients).map(time).collect())
}

/// R14.
#[test]
fn a_refused_client_is_reset_at_once() {
    let ringway = Ringway::before([&*refusing()]).start();
    let took = refusal_time(&ringway, 21);
    assert!(took < 10 * MS, "{took:?}");
    ringway.expect_code("SC", 21);
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_connect_errors_total", &[("reason", "refused")]), 21);
    assert_eq!(metrics.count("backend_connections_total", &[]), 0);
}

/// R19: all of them are tried, each once.
#[test]
fn with_all_backends_refusing_a_client_is_reset_at_once() {
    let backends = [refusing(), refusing(), refusing(), refusing()];
    let plan = Ringway::before(backends.iter().map(String::as_str)).pool("connect_attempts = 3");
    let ringway = plan.never_ejecting().start();
    let took = refusal_time(&ringway, 21);
    assert!(took < 10 * MS, "{took:?}");
    ringway.expect_code("SC", 21);
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_connect_errors_total", &[]), 3 * 21, "no more than connect_attempts");
    assert_eq!(metrics.count("pool_retries_total", &[]), 2 * 21);
}

/// R19: when the checks know that all are down, nothing is tried at all.
#[test]
fn with_all_backends_down_a_client_is_reset_and_nobody_is_tried() {
    let backends = [refusing(), refusing()];
    let ringway = Ringway::before(backends.iter().map(String::as_str)).checked(2, 2).start();
    ringway.wait_metrics("both are down", |metrics| metrics.count("backend_up", &[]) == 0);
    let took = refusal_time(&ringway, 21);
    assert!(took < 10 * MS, "{took:?}");
    ringway.expect_code("SC", 21);
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_connect_errors_total", &[]), 0);
    assert_eq!(metrics.count("pool_refused_total", &[]), 21);
}

/// R15.
#[test]
fn a_backend_that_refuses_costs_its_clients_nothing() {
    for workers in [1, 2] {
        let backend = Backend::named("b");
        let ringway = Ringway::before([&*refusing(), backend.address()]).workers(workers).never_ejecting().start();
        for round in 0..200 {
            let mut client = ringway.connect();
            client.expect(b"b");
            client.send_keyed(Key::to_backend(round), 0, 100);
            client.expect_keyed(Key::to_backend(round), 0, 100);
            client.finish();
            assert_eq!(client.end(), End::Fin);
        }
        ringway.expect_code("--", 200);
        assert_eq!(backend.accepted(), 200);
        let metrics = ringway.metrics();
        let refused = metrics.count("backend_connect_errors_total", &[("backend", "a"), ("reason", "refused")]);
        assert_eq!(refused, metrics.count("pool_retries_total", &[]));
        assert_eq!(refused, 100, "half of them had the dead one first");
    }
}

/// R16: the next backend after `connect_timeout`, once.
#[test]
fn a_backend_that_does_not_answer_costs_one_timeout() {
    let (hole, backend) = (BlackHole::new(), Backend::named("b"));
    let ringway = Ringway::before([hole.listener.address(), backend.address()]).pool("connect_timeout = \"400ms\"");
    let ringway = ringway.start();
    let times: Vec<_> = (0..4).map(|_| timed(|| ringway.connect().expect(b"b")).0).collect();
    let slow: Vec<_> = times.iter().filter(|took| **took >= 300 * MS).collect();
    for took in &slow {
        assert_about(**took, 400 * MS);
    }
    let timeouts = ringway.metrics().count("backend_connect_errors_total", &[("backend", "a"), ("reason", "timeout")]);
    assert!(timeouts as usize == slow.len() && timeouts >= 2, "{timeouts}, and {times:?}");
}

/// R16.
#[test]
fn a_client_is_reset_after_the_timeout_of_the_last_backend() {
    let holes = [BlackHole::new(), BlackHole::new()];
    let ringway = Ringway::before(holes.iter().map(|hole| hole.listener.address()))
        .pool("connect_timeout = \"300ms\"\nconnect_attempts = 5")
        .start();
    let (took, end) = timed(|| ringway.turned_away());
    assert_about(took, 600 * MS);
    assert_eq!(end, End::Reset);
    ringway.expect_code("sC", 1);
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("backend_connections", &[]), 0);
}

/// R11: the backend accepts a second after the client has said everything it has to say.
#[test]
fn what_a_client_says_before_the_backend_is_there_is_kept() {
    for len in [10, 60_000, 3_000_000] {
        let mut hole = BlackHole::new();
        let ringway = Ringway::before([hole.listener.address()]).pool("connect_timeout = \"10s\"").start();
        let mut client = ringway.connect();
        let key = Key::to_backend(len);
        let writer = {
            let mut client = client.again();
            std::thread::spawn(move || {
                client.send_keyed(key, 0, len);
                client.finish();
            })
        };
        ringway.wait_metrics("it is connecting", |metrics| metrics.count("connections", &[]) == 1);
        std::thread::sleep(100 * MS);
        hole.open(); // the kernel knocks again after a second
        let mut server = hole.listener.accept();
        assert_eq!(server.drain_keyed(key, 0), (len, End::Fin));
        writer.join().unwrap();
        server.send(b"thanks");
        drop(server);
        assert_eq!(client.drain(), (b"thanks".to_vec(), End::Fin));
        ringway.expect_code("--", 1);
    }
}

/// R11 and R16: what was kept is for the backend that takes the session in the end.
#[test]
fn what_a_client_says_while_a_backend_fails_goes_to_the_next_one() {
    let (hole, listener) = (BlackHole::new(), Listener::new());
    let ringway = Ringway::plan()
        .backend("a", hole.listener.address(), "")
        .backend("b", &refusing(), "")
        .backend("c", listener.address(), "")
        .pool("connect_timeout = \"300ms\"")
        .start();
    for number in 0..3 {
        let (mut client, key) = (ringway.connect(), Key::to_backend(number));
        client.send_keyed(key, 0, 30_000);
        client.finish();
        let mut server = listener.accept();
        assert_eq!(server.drain_keyed(key, 0), (30_000, End::Fin));
        server.send(b"ok");
        drop(server);
        assert_eq!(client.drain(), (b"ok".to_vec(), End::Fin));
    }
    ringway.expect_code("--", 3);
}

/// R20: the connect is cancelled, nothing leaks, and the backend never hears of it.
#[test]
fn clients_that_leave_while_connecting_leave_nothing_behind() {
    let mut hole = BlackHole::new();
    let ringway = Ringway::before([hole.listener.address()]).pool("connect_timeout = \"30s\"").start();
    let base = ringway.process().descriptors();
    for _ in 0..4 {
        let clients: Vec<Peer> = (0..50).map(|_| ringway.connect()).collect();
        ringway.wait_metrics("all are connecting", |metrics| metrics.count("backend_connections", &[]) == 50);
        clients.into_iter().for_each(Peer::reset);
        ringway.wait_idle();
    }
    ringway.expect_code("CC", 200);
    ringway.wait_descriptors(base);
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_connections", &[]), 0);
    assert_eq!(metrics.count("backend_connect_errors_total", &[]), 0, "it was not the backend's fault");
    hole.open();
    assert!(hole.listener.accept_within(1500 * MS).is_none(), "a connect goes on that nobody waits for");
}

/// Which one it gets does not depend on whether its FIN or the backend comes first.
#[test]
fn a_client_that_has_finished_before_there_is_a_backend_gets_its_answer() {
    let mut hole = BlackHole::new();
    let ringway = Ringway::before([hole.listener.address()]).pool("connect_timeout = \"30s\"").start();
    let mut client = ringway.connect();
    client.finish();
    ringway.wait_metrics("it is connecting", |metrics| metrics.count("backend_connections", &[]) == 1);
    assert!(client.is_silent_for(100 * MS));
    hole.open();
    let mut server = hole.listener.accept();
    assert_eq!(server.end(), End::Fin);
    server.send(b"220 hello");
    drop(server);
    assert_eq!(client.drain(), (b"220 hello".to_vec(), End::Fin));
    ringway.expect_code("--", 1);
}

/// R21: not even a byte that the first backend may not have read.
#[test]
fn a_session_that_has_moved_a_byte_is_never_replayed() {
    let first = Listener::new();
    let other = Backend::new(|_, _| panic!("the other backend must not see this session"));
    let ringway = Ringway::before([first.address()]).backend("b", other.address(), "backup = true").start();
    let mut client = ringway.connect();
    let mut server = first.accept();
    client.send(b"x");
    server.expect(b"x");
    server.reset();
    assert_eq!(client.end(), End::Reset);
    ringway.expect_code("SD", 1);
    assert_eq!(ringway.metrics().count("pool_retries_total", &[]), 0);
    assert_eq!(other.accepted(), 0);
}

/// A backend that accepts and resets immediately was connected to: its client is reset, and no other backend is tried.
#[test]
fn a_backend_that_resets_a_fresh_session_ends_it() {
    let resets = Backend::new(|peer, _| peer.reset());
    let ringway = Ringway::before([resets.address()]).start();
    for _ in 0..20 {
        // Perhaps so soon that even connecting fails of it.
        if let Ok(mut client) = Peer::try_connect(ringway.address()) {
            assert_eq!(client.end(), End::Reset);
        }
    }
    ringway.wait_idle();
    wait_until("every session ended", || ringway.metrics().codes().iter().map(|(_, count)| count).sum::<u64>() == 20);
    let codes = ringway.metrics().codes();
    assert!(codes.iter().all(|(code, _)| code == "SD" || code == "SC"), "{codes:?}");
}

/// A unix socket takes no connection while its backlog is full, where TCP would knock again: ringway does.
#[test]
fn a_unix_backend_with_a_full_backlog_is_waited_for() {
    const CLIENTS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::unix_with_backlog(&folder.path().join("s"), 2);
    let ringway = Ringway::before([listener.address()]).pool("connect_timeout = \"20s\"").start();
    let mut clients: Vec<Peer> = (0..CLIENTS).map(|_| ringway.connect()).collect();
    ringway.wait_metrics("all of them want it", |metrics| metrics.count("backend_connections", &[]) == CLIENTS as u64);
    for client in &clients {
        assert!(client.is_silent_for(MS), "nobody is turned away");
    }
    let mut servers = Vec::new();
    for _ in 0..CLIENTS {
        let mut server = listener.accept();
        server.send(b"hi");
        servers.push(server);
    }
    clients.iter_mut().for_each(|client| client.expect(b"hi"));
    assert_eq!(ringway.metrics().count("backend_connect_errors_total", &[]), 0);
}

/// A client that it does not accept in time has been let down by the backend, and not by ringway.
#[test]
fn a_unix_backend_that_never_accepts_is_too_slow() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::unix_with_backlog(&folder.path().join("s"), 0);
    let full = Peer::connect(listener.address());
    let ringway = Ringway::before([listener.address()]).pool("connect_timeout = \"300ms\"").start();
    let (took, end) = timed(|| ringway.turned_away());
    assert_about(took, 300 * MS);
    assert_eq!(end, End::Reset);
    ringway.expect_code("sC", 1);
    let timeouts = ringway.metrics().count("backend_connect_errors_total", &[("reason", "timeout")]);
    assert_eq!(timeouts, 1);
    drop(full);
}
