//! Clients wait while every backend has as many connections as it may have: R23.

use std::time::{Duration, Instant};

use crate::harness::address::refusing;
use crate::harness::bytes::Key;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Peer, Ringway, wait_until};

/// One backend that takes one session at a time.
fn one_at_a_time(backend: &Backend) -> Plan {
    Ringway::plan().backend("a", backend.address(), "connections_max = 1")
}

fn queue_length(ringway: &Ringway) -> u64 {
    ringway.metrics().count("pool_queue_length", &[])
}

/// Clients that stand in the queue in this order.
fn line_up(ringway: &Ringway, clients: usize) -> Vec<Peer> {
    let before = queue_length(ringway);
    let add = |number: usize| {
        let client = ringway.connect();
        ringway.wait_metrics("one more waits", |metrics| {
            metrics.count("pool_queue_length", &[]) == before + number as u64 + 1
        });
        client
    };
    (0..clients).map(add).collect()
}

#[test]
fn who_came_first_is_served_first_over_all_workers() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).workers(2).pool("queue_timeout = \"0s\"").start();
    let mut served = ringway.connect();
    served.expect(b"a");
    let mut waiting = line_up(&ringway, 12);
    let loads = ringway.metrics().by("worker_connections", "worker");
    assert!(loads.iter().all(|(_, count)| *count >= 4), "they wait on both workers: {loads:?}");
    while !waiting.is_empty() {
        drop(served);
        served = waiting.remove(0);
        served.expect(b"a");
        assert!(!waiting.iter().any(Peer::has_bytes), "somebody was served out of turn");
    }
    let metrics = ringway.metrics();
    assert_eq!((metrics.count("queue_seconds_count", &[]), metrics.count("pool_queue_length", &[])), (12, 0));
    assert_eq!(backend.accepted(), 13);
}

#[test]
fn a_limit_holds_over_all_workers_whatever_the_policy() {
    for balance in ["round_robin", "least_conn", "consistent_hash", "random"] {
        let [a, b] = ["a", "b"].map(Backend::named);
        let ringway = Ringway::plan()
            .backend("a", a.address(), "connections_max = 3")
            .backend("b", b.address(), "connections_max = 2\nweight = 7")
            .pool(&format!("balance = \"{balance}\""))
            .start();
        let mut clients: Vec<Peer> = (0..30).map(|_| ringway.connect()).collect();
        ringway.wait_metrics("all places are taken", |metrics| metrics.count("pool_queue_length", &[]) == 25);
        wait_until("both are full", || (a.accepted(), b.accepted()) == (3, 2));
        while !clients.is_empty() {
            let counts = ringway.metrics().by("backend_connections", "backend");
            assert!(counts.iter().all(|(name, count)| *count <= if name == "a" { 3 } else { 2 }), "{counts:?}");
            wait_until("somebody is served", || clients.iter().any(Peer::has_bytes));
            clients.retain(|client| !client.has_bytes());
        }
        assert_eq!(a.accepted() + b.accepted(), 30, "{balance}");
    }
}

/// No place is lost, and no client is forgotten, however sessions come and go on several workers together.
#[test]
fn a_crowd_gets_through_a_narrow_door() {
    let backend = Backend::named("a");
    let plan = Ringway::plan().workers(2).backend("a", backend.address(), "connections_max = 2");
    let ringway = plan.pool("queue_timeout = \"0s\"").start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..60).for_each(|_| ringway.connect().expect(b"a")));
        }
    });
    ringway.wait_idle();
    assert_eq!(backend.accepted(), 480);
    assert_eq!(queue_length(&ringway), 0);
}

#[test]
fn who_waits_too_long_is_reset() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).pool("queue_timeout = \"300ms\"").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let begun = Instant::now();
    assert_eq!(ringway.turned_away(), End::Reset);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(3), "{waited:?}");
    ringway.expect_code("sQ", 1);
    assert_eq!(ringway.metrics().count("pool_queue_timeouts_total", &[]), 1);
    first.send(b"still here");
    first.expect(b"still here");
}

#[test]
fn a_full_queue_turns_away_at_once() {
    for max in [0, 2] {
        let backend = Backend::named("a");
        let ringway = one_at_a_time(&backend).pool(&format!("queue_max = {max}")).start();
        let mut first = ringway.connect();
        first.expect(b"a");
        let mut waiting = line_up(&ringway, max);
        assert_eq!(ringway.turned_away(), End::Reset);
        ringway.expect_code("RQ", 1);
        drop(first);
        waiting.iter_mut().take(1).for_each(|client| client.expect(b"a"));
    }
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).pool("queue_max = 2").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    for number in 1..6 {
        line_up(&ringway, 2).into_iter().for_each(Peer::reset);
        ringway.wait_metrics("nobody waits", |metrics| metrics.count("pool_queue_length", &[]) == 0);
        ringway.expect_code("CQ", 2 * number);
    }
    let mut last = line_up(&ringway, 1).remove(0);
    drop(first);
    last.expect(b"a");
    assert_eq!(backend.accepted(), 2, "who left never came to the backend");
}

/// It may only have nothing to say, and waits for what the server has.
#[test]
fn a_client_that_has_finished_keeps_its_place() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let mut waiting = line_up(&ringway, 1).remove(0);
    waiting.finish();
    assert!(waiting.is_silent_for(Duration::from_millis(100)));
    drop(first);
    assert_eq!(waiting.drain(), (b"a".to_vec(), End::Fin));
    ringway.expect_code("--", 2);
}

/// Its FIN came long before, so nothing is received any more that would tell.
#[test]
fn a_client_that_is_reset_after_its_fin_frees_its_place() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let mut waiting = line_up(&ringway, 1).remove(0);
    waiting.send(b"request");
    waiting.finish();
    std::thread::sleep(Duration::from_millis(100));
    waiting.reset();
    ringway.expect_code("CQ", 1);
}

#[test]
fn what_is_sent_while_waiting_arrives_with_its_fin() {
    let backend = Backend::echo();
    let ringway = one_at_a_time(&backend).start();
    let first = ringway.connect();
    ringway.wait_metrics("it is full", |metrics| metrics.count("backend_connections", &[]) == 1);
    let key = Key::to_backend(1);
    let mut waiting = line_up(&ringway, 1).remove(0);
    waiting.send_keyed(key, 0, 30_000);
    waiting.finish();
    assert!(waiting.is_silent_for(Duration::from_millis(100)), "a client that waits for its answer has not left");
    drop(first);
    assert_eq!(waiting.drain_keyed(key, 0), (30_000, End::Fin));
}

/// HAProxy issue 6.
#[test]
fn nobody_waits_for_a_backend_that_is_gone() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).checked(1, 1).pool("queue_timeout = \"0s\"").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let waiting = line_up(&ringway, 5);
    backend.kill();
    for mut client in waiting {
        assert_eq!(client.end(), End::Reset);
    }
    assert_eq!(queue_length(&ringway), 0);
    drop(first);
}

#[test]
fn who_waits_goes_to_a_backup_when_the_others_are_gone() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let plan = one_at_a_time(&a).backend("b", b.address(), "backup = true");
    let ringway = plan.checked(1, 1).pool("queue_timeout = \"0s\"").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let mut waiting = line_up(&ringway, 3);
    let sessions = ringway.metrics().count("backend_connections_total", &[("backend", "b")]);
    assert_eq!(sessions, 0, "a full backend does not spill to a backup");
    a.kill();
    waiting.iter_mut().for_each(|client| client.expect(b"b"));
}

/// The one that waits for the full backend, because the other refused it, does not hold up those behind it for long.
#[test]
fn a_session_that_was_refused_elsewhere_waits_for_the_full_one() {
    let backend = Backend::named("a");
    let plan = one_at_a_time(&backend).backend("b", &refusing(), "");
    let ringway = plan.pool("balance = \"failover\"\nqueue_timeout = \"0s\"").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let mut waiting = line_up(&ringway, 3);
    for client in &mut waiting {
        drop(first);
        client.expect(b"a");
        first = client.again();
        client.abort(std::net::Shutdown::Both);
    }
}

#[test]
fn a_drain_ends_those_who_wait_with_everybody_else() {
    let backend = Backend::named("a");
    let ringway = one_at_a_time(&backend).process("shutdown_grace = \"200ms\"").pool("queue_timeout = \"0s\"").start();
    let mut first = ringway.connect();
    first.expect(b"a");
    let waiting = line_up(&ringway, 3);
    ringway.signal(libc::SIGTERM);
    for mut client in waiting {
        assert_eq!(client.end(), End::Reset);
    }
    assert!(ringway.wait(Duration::from_secs(10)).success());
}
