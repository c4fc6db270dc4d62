//! What happens when there is no more to be had: connections, descriptors.

use std::process::Command;
use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::process::{Process, program, raise_descriptors};
use crate::harness::{Backend, End, PATIENCE, Peer, Ringway, median, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// R22: clients beyond `process.connections_max` wait, cost nothing, and are served as soon as a client leaves.
#[test]
fn clients_beyond_the_limit_wait_and_are_served_when_one_leaves() {
    for workers in [1, 2] {
        let backend = Backend::named("hi");
        let plan = Ringway::before([backend.address()]).workers(workers).process("connections_max = 10");
        let ringway = plan.start();
        let mut served: Vec<Peer> = (0..10).map(|_| greeted(&ringway)).collect();
        let mut waiting: Vec<Peer> = (0..5).map(|_| ringway.connect()).collect();
        for client in &mut waiting {
            assert!(client.is_silent_for(60 * MS), "somebody was served beyond the limit");
        }
        assert_eq!(backend.open(), 10, "exactly as many as may be");
        let before = ringway.process().cpu_time();
        std::thread::sleep(500 * MS);
        let spent = ringway.process().cpu_time() - before;
        assert!(spent <= 50 * MS, "{spent:?} of CPU in 500 ms of waiting");
        let mut times = Vec::new();
        for more in 1..=5 {
            drop(served.remove(0));
            let served_now = || backend.accepted() == 10 + more;
            times.push(timed(|| wait_until("the next one is served", served_now)).0);
            served.push(next_served(&mut waiting));
        }
        let middle = median(times);
        assert!(middle < 60 * MS, "{middle:?} after a slot was free");
        // The backend learns a moment later that a session has ended.
        wait_until("no more are open than may be", || backend.open() == 10);
        assert_eq!(backend.accepted(), 15);
        for client in &mut served {
            client.send(b"still here");
            client.expect(b"still here");
        }
        assert_eq!(ringway.metrics().count("connections_max", &[]), 10);
    }
}

fn greeted(ringway: &Ringway) -> Peer {
    let mut client = ringway.connect();
    client.expect(b"hi");
    client
}

/// Whichever of them is greeted next.
fn next_served(waiting: &mut Vec<Peer>) -> Peer {
    let mut found = None;
    wait_until("the next one is greeted", || {
        found = waiting.iter_mut().position(|client| !client.is_silent_for(MS));
        found.is_some()
    });
    let mut client = waiting.remove(found.unwrap());
    client.expect(b"hi");
    client
}

/// More clients at one time than there can be, while none is accepted: those that are admitted keep their descriptors,
/// and so
/// does the admin server.
#[test]
fn a_burst_beyond_the_limit_harms_nobody_who_was_admitted() {
    const CLIENTS: u64 = 300;
    raise_descriptors(2000);
    for workers in [1, 2] {
        let backend = Backend::named("hi");
        let plan = Ringway::before([backend.address()]).workers(workers).descriptors(200);
        let ringway = plan.pool("connect_timeout = \"1s\"").start();
        let most = ringway.metrics().count("connections_max", &[]);
        assert!((20..CLIENTS / 2).contains(&most), "{most}");
        ringway.process().freeze();
        let mut waiting: Vec<Peer> = (0..CLIENTS).map(|_| ringway.connect()).collect();
        ringway.signal(libc::SIGCONT);
        ringway
            .wait_metrics("as many as may be are served", |metrics| metrics.count("backend_connections", &[]) == most);
        assert_eq!(ringway.metrics().count("listener_connections_total", &[]), most, "the others wait in the backlog");
        while !waiting.is_empty() {
            let mut served: Vec<Peer> = waiting.extract_if(.., |client| client.has_bytes()).collect();
            for client in &mut served {
                client.expect(b"hi");
                client.finish();
                assert_eq!(client.end(), End::Fin);
            }
        }
        ringway.expect_code("--", CLIENTS);
        assert_eq!(backend.accepted() as u64, CLIENTS, "each at the first attempt");
    }
}

/// A listener near its own limit takes nothing from the others: its clients wait in its backlog.
#[test]
fn a_burst_beyond_the_limit_of_a_listener_waits_in_its_backlog() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).workers(2).listener("connections_max = 10").start();
    ringway.process().freeze();
    let mut waiting: Vec<Peer> = (0..100).map(|_| ringway.connect()).collect();
    ringway.signal(libc::SIGCONT);
    ringway.wait_metrics("as many as may be are served", |metrics| metrics.count("backend_connections", &[]) == 10);
    let accepted = ringway.metrics().count("listener_connections_total", &[]);
    assert_eq!(accepted, 10, "the others wait in the backlog");
    let served = (0..100).map(|_| next_served(&mut waiting)).count();
    assert_eq!((served, backend.accepted()), (100, 100));
}

/// Whatever floods one of them, or leads back to itself.
#[test]
fn one_listener_cannot_take_every_connection_from_the_others() {
    let backend = Backend::named("hi");
    let other = format!("{}:7005", crate::harness::address::own_ip());
    let plan = Ringway::before([backend.address()]).workers(2).process("connections_max = 64");
    let ringway = plan.more(&format!("[listeners.other]\nbind = \"{other}\"\npool = \"main\"")).start();
    let _flood: Vec<Peer> = (0..100).map(|_| ringway.connect()).collect();
    ringway.wait_metrics("it has its part", |metrics| metrics.count("connections", &[]) == 60);
    for _ in 0..4 {
        Peer::connect(&other).expect(b"hi");
    }
    let mut kept: Vec<Peer> = (0..4).map(|_| Peer::connect(&other)).collect();
    kept.iter_mut().for_each(|client| client.expect(b"hi"));
    assert_eq!(ringway.metrics().count("connections", &[]), 64);
}

/// R27: the limit is lowered under the hands of a running ringway, below what it has open.
#[test]
fn a_lack_of_descriptors_harms_nobody_who_is_served() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).start();
    let mut served: Vec<Peer> = (0..10).map(|_| greeted(&ringway)).collect();
    ringway.metrics();
    let before = ringway.process().limit_descriptors(ringway.process().descriptor_limit_for(0));
    let mut waiting: Vec<Peer> = (0..10).map(|_| ringway.connect()).collect();
    assert!(waiting.iter().all(|client| client.is_silent_for(20 * MS)), "the limit is not felt");
    let used = ringway.process().cpu_time();
    let (took, ()) = timed(|| {
        for round in 0..40 {
            for (number, client) in served.iter_mut().enumerate() {
                let key = Key::to_backend(number as u64);
                client.send_keyed(key, round * 1000, 1000);
                client.expect_keyed(key, round * 1000, 1000);
            }
            std::thread::sleep(20 * MS);
        }
    });
    let used = ringway.process().cpu_time() - used;
    assert!(used.as_secs_f64() < 0.25 * took.as_secs_f64(), "{used:?} of CPU in {took:?}: it spins");
    ringway.process().limit_descriptors(before);
    let (took, ()) = timed(|| waiting.iter_mut().for_each(|client| client.expect(b"hi")));
    assert!(took < 300 * MS, "served {took:?} after relief");
    drop((served, waiting));
    ringway.wait_idle();
    let codes = ringway.metrics().codes();
    assert_eq!(codes, [("--".to_string(), 20)], "nobody was turned away");
}

/// Clients must not take the descriptors that their sessions need.
#[test]
fn the_last_descriptors_serve_clients_instead_of_being_held_by_those_that_wait() {
    const FREE: usize = 30;
    for (workers, frozen) in [(1, true), (2, true), (1, false), (2, false)] {
        let backend = Backend::named("hi");
        let ringway = Ringway::before([backend.address()]).workers(workers).start();
        ringway.metrics();
        ringway.process().limit_descriptors(ringway.process().descriptor_limit_for(FREE));
        if frozen {
            ringway.process().freeze();
        }
        // Some may be reset while they still connect.
        let mut clients: Vec<Peer> = (0..100).filter_map(|_| Peer::try_connect(ringway.address()).ok()).collect();
        ringway.signal(libc::SIGCONT);
        let mut served = Vec::new();
        wait_until("a third of the free descriptors serve somebody", || {
            served.extend(clients.extract_if(.., |client| client.has_bytes()));
            served.len() >= FREE / 3
        });
        for client in &mut served {
            client.expect(b"hi");
            client.send(b"still here");
            client.expect(b"still here");
        }
    }
}

/// R27: a client was accepted, and then there is no descriptor for its backend: it waits, too.
#[test]
fn a_client_whose_backend_needs_the_last_descriptor_waits_for_it() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).workers(1).pool("connect_timeout = \"5s\"").start();
    let first = greeted(&ringway);
    ringway.metrics();
    let before = ringway.process().limit_descriptors(ringway.process().descriptor_limit_for(1));
    let mut second = ringway.connect();
    assert!(second.is_silent_for(300 * MS), "neither served nor turned away");
    drop(first);
    second.expect(b"hi");
    ringway.process().limit_descriptors(before);
    drop(second);
    ringway.wait_idle();
}

/// No backend helps against a want of memory, and it may be over in a moment: the client waits for that.
#[test]
fn a_want_of_memory_for_the_backend_is_waited_out() {
    let Some(strace) = program(&["/usr/bin/strace"], "strace") else { return };
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).workers(1).start();
    let worker = ringway.process().thread("ringway-0");
    for error in ["ENOMEM", "ENOBUFS"] {
        let injected = format!("inject=socket:error={error}:when=1..3");
        let arguments = ["-e", "trace=socket", "-e", &injected, "-p", &worker.to_string()];
        let mut tracer = Process::start(Command::new(&strace).args(arguments));
        // The kernel names a tracer before that one can see calls.
        let mut is_traced = || tracer.output().contains("attached") || !tracer.is_running();
        wait_until("it is traced, or must not be", &mut is_traced);
        if !tracer.is_running() {
            eprintln!("skipped: strace may not look at ringway: {}", tracer.output());
            return;
        }
        greeted(&ringway);
        let count = || tracer.output().matches("INJECTED").count();
        wait_until("three sockets were refused", || count() == 3);
        tracer.signal(libc::SIGINT); // it lets go of what it traces
        assert!(tracer.wait(PATIENCE).is_some());
    }
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("backend_connect_errors_total", &[]), 0);
}

/// The bulk of a session goes on by copying when no pipe can be had.
#[test]
fn bulk_streams_flow_without_pipes() {
    let backend = Backend::new(crate::harness::backend::source(20 << 20));
    let ringway = Ringway::before([backend.address()]).workers(1).start();
    let mut client = ringway.connect();
    wait_until("the backend serves", || backend.open() == 1);
    ringway.metrics();
    let before = ringway.process().limit_descriptors(ringway.process().descriptor_limit_for(0));
    assert_eq!(client.drain_keyed(Key::to_client(0), 0), (20 << 20, End::Fin));
    ringway.process().limit_descriptors(before);
}
