//! Sessions are spread over workers, and the kernel needs no threads of its own for them.

use std::time::{Duration, Instant};

use crate::harness::backend::BlackHole;
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Peer, Ringway, assert_about, timed};

fn loads(ringway: &Ringway) -> Vec<u64> {
    ringway.metrics().by("worker_connections", "worker").into_iter().map(|(_, count)| count).collect()
}

/// The kernel's own spreading is even on average only; a few long sessions could all be on one worker.
#[test]
fn a_few_long_sessions_are_spread_evenly_over_workers() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).workers(2).start();
    for round in 0..8 {
        let mut held: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
        held.iter_mut().for_each(|client| client.expect(b"hi"));
        let loads = loads(&ringway);
        assert_eq!(loads.iter().sum::<u64>(), 20);
        assert!(loads[0].abs_diff(loads[1]) <= 2, "round {round}: {loads:?}");
        drop(held);
        ringway.wait_idle();
    }
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("worker_accepted_total", &[]), 160);
    assert!(metrics.count("worker_handed_over_total", &[]) > 0, "it was not luck");
}

/// Unix sockets are shared by all workers.
#[test]
fn sessions_of_a_unix_socket_are_spread_evenly_over_workers() {
    let folder = tempfile::tempdir().unwrap();
    let front = format!("unix:{}", folder.path().join("front").display());
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).workers(2).bind(&format!("\"{front}\"")).start();
    let mut held: Vec<Peer> = (0..20).map(|_| Peer::connect(&front)).collect();
    held.iter_mut().for_each(|client| client.expect(b"hi"));
    let loads = loads(&ringway);
    assert!(loads[0].abs_diff(loads[1]) <= 2, "{loads:?}");
}

#[test]
fn no_kind_of_traffic_makes_the_kernel_start_threads() {
    let echo = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let front = format!("unix:{}", folder.path().join("front").display());
    let tcp = format!("{}:7000", crate::harness::address::own_ip());
    let ringway = Ringway::plan()
        .backend("a", echo.address(), "")
        .backend("b", &crate::harness::address::refusing(), "")
        .backend("c", &format!("unix:{}", folder.path().join("nobody").display()), "")
        .bind(&format!("[\"{tcp}\", \"{front}\"]"))
        .checked(2, 2)
        .start();
    let until = Instant::now() + Duration::from_millis(1500);
    let mut round = 0;
    while Instant::now() < until {
        for address in [&tcp, &front] {
            let client = Peer::connect(address);
            let (mut writer, mut reader) = (client.again(), client);
            let (key, len) = (Key::to_backend(round), [50, 20_000, 3_000_000][round as usize % 3]);
            std::thread::scope(|scope| {
                scope.spawn(move || writer.send_keyed(key, 0, len));
                reader.expect_keyed(key, 0, len);
            });
            if round % 2 == 0 {
                reader.reset();
            }
            let threads = ringway.process().threads();
            assert!(!threads.iter().any(|name| name.starts_with("iou-wrk")), "{threads:?}");
        }
        round += 1;
    }
    assert!(round > 10);
    assert_eq!(ringway.metrics().count("worker_kernel_threads", &[]), 0);
}

/// The figures of the process are read when they are asked for, not by each worker every second: many workers
/// would read of each other all the time.
#[test]
fn workers_read_nothing_of_the_process_while_they_serve() {
    let echo = Backend::echo();
    let ringway = Ringway::before([echo.address()]).workers(1).start();
    let (mut client, key) = (ringway.connect(), Key::to_backend(1));
    let (before, begun) = (ringway.process().reads("ringway-0"), Instant::now());
    for round in 0.. {
        client.send_keyed(key, round * 100, 100);
        client.expect_keyed(key, round * 100, 100);
        if begun.elapsed() > Duration::from_millis(2200) {
            break;
        }
    }
    let reads = ringway.process().reads("ringway-0") - before;
    assert!(reads < 5, "{reads} reads, and only wake-ups are to be read");
}

/// `busy_poll` spins for a moment before a worker sleeps; it changes nothing else.
#[test]
fn workers_that_spin_serve_as_well() {
    let echo = Backend::echo();
    let ringway = Ringway::before([echo.address()]).process("busy_poll = \"50us\"").start();
    let (mut client, key) = (ringway.connect(), Key::to_backend(1));
    for round in 0..100 {
        client.send_keyed(key, round * 100, 100);
        client.expect_keyed(key, round * 100, 100);
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = ringway.process().cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    assert!(ringway.process().cpu_time() - before <= Duration::from_millis(50), "it sleeps in the end");
    client.send_keyed(key, 10_000, 100);
    client.expect_keyed(key, 10_000, 100);
}

/// A worker that spins looks at its timers: nothing that ends by itself ends later for it.
#[test]
fn workers_that_spin_keep_their_time() {
    let hole = BlackHole::new();
    let plan = Ringway::before([hole.listener.address()]).workers(1).process("busy_poll = \"1s\"");
    let ringway = plan.pool("connect_timeout = \"100ms\"\nconnect_attempts = 1").start();
    let (took, end) = timed(|| ringway.turned_away());
    assert_eq!(end, End::Reset);
    assert_about(took, Duration::from_millis(100));
    ringway.expect_code("sC", 1);
}

/// Nothing to do costs nothing: no worker spins, whatever its sessions have done before.
#[test]
fn an_idle_ringway_uses_no_cpu() {
    let echo = Backend::echo();
    let ringway = Ringway::before([echo.address()]).start();
    let mut held: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
    for (number, client) in held.iter_mut().enumerate() {
        let (mut writer, key) = (client.again(), Key::to_backend(number as u64));
        let writer = std::thread::spawn(move || writer.send_keyed(key, 0, 1_000_000));
        client.expect_keyed(key, 0, 1_000_000);
        writer.join().unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    let before = ringway.process().cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = ringway.process().cpu_time() - before;
    assert!(used <= Duration::from_millis(50), "{used:?} in a second");
}
