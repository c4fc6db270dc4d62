//! What `/metrics` says is what peers saw.

use std::time::Duration;

use crate::harness::address::refusing;
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Metrics, Mode, Ringway, metrics};

#[test]
fn bytes_and_sessions_are_counted_exactly() {
    for workers in [1, 2] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).workers(workers).start();
        let (mut up, mut down) = (0, 0);
        for number in 0..6 {
            let (there, back) = (Key::to_backend(number), Key::to_client(number));
            let mode = if number < 3 { Mode::Copy } else { Mode::Splice };
            let mut client = ringway.connect();
            let mut server = listener.accept();
            up += mode.enter(&mut client, &mut server, there);
            down += mode.enter(&mut server, &mut client, back) + number;
            let at = mode.enter(&mut server, &mut client, back);
            down += at;
            server.send_keyed(back, at, number);
            server.finish();
            assert_eq!(client.drain_keyed(back, at), (at + number, End::Fin));
        }
        ringway.expect_code("--", 6);
        assert_counts(&ringway.metrics(), up, down, 6);
    }
}

fn assert_counts(metrics: &Metrics, up: u64, down: u64, sessions: u64) {
    let bytes = |direction| metrics.count("backend_bytes_total", &[("backend", "a"), ("direction", direction)]);
    assert_eq!((bytes("to_backend"), bytes("to_client")), (up, down));
    let (spliced, copied) =
        (metrics.count("worker_spliced_bytes_total", &[]), metrics.count("worker_copied_bytes_total", &[]));
    assert_eq!(spliced + copied, up + down, "{spliced} + {copied}");
    assert!(spliced > 0 && copied > 0);
    for counter in ["listener_connections_total", "backend_connections_total", "sessions_total"] {
        assert_eq!(metrics.count(counter, &[]), sessions, "{counter}");
    }
    for histogram in ["connect_seconds_count", "session_seconds_count"] {
        assert_eq!(metrics.count(histogram, &[]), sessions, "{histogram}");
    }
    assert!(metrics.sum("session_seconds_sum", &[]) > 0.0);
    assert!(metrics.sum("worker_busy_seconds_total", &[]) > 0.0);
}

/// While a session is open, not only at its end.
#[test]
fn bytes_are_counted_while_they_move() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    for round in 1..5 {
        client.send(&[0; 100]);
        server.read_some(100).unwrap();
        let moved = |metrics: &Metrics| metrics.count("backend_bytes_total", &[("direction", "to_backend")]);
        ringway.wait_metrics("they are counted", |metrics| moved(metrics) == round * 100);
    }
    let metrics = ringway.metrics();
    for gauge in ["connections", "listener_connections", "backend_connections", "worker_connections"] {
        assert_eq!(metrics.count(gauge, &[]), 1, "{gauge}");
    }
}

/// Every session has one code, whatever it was.
#[test]
fn each_session_ends_with_one_code() {
    let listener = Listener::new();
    let ringway = Ringway::plan()
        .backend("a", listener.address(), "")
        .pool("idle_timeout = \"300ms\"")
        .more(&format!(
            "[listeners.dead]\nbind = \"{}:7009\"\npool = \"dead\"\n[pools.dead]\ncheck.type = \"off\"\n\
             [[pools.dead.backends]]\naddress = \"{}\"\n",
            crate::harness::address::own_ip(),
            refusing()
        ))
        .start();
    let session = || {
        let mut client = ringway.connect();
        let mut server = listener.accept();
        client.send(b"x");
        server.expect(b"x");
        (client, server)
    };
    for _ in 0..2 {
        let (client, mut server) = session();
        drop(client);
        assert_eq!(server.end(), End::Fin);
    }
    for _ in 0..3 {
        let (client, mut server) = session();
        client.reset();
        assert_eq!(server.end(), End::Reset);
    }
    for _ in 0..4 {
        let (mut client, server) = session();
        server.reset();
        assert_eq!(client.end(), End::Reset);
    }
    let (mut client, _server) = session();
    assert_eq!(client.end(), End::Fin);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let ended = ["--", "CD", "SD", "cD"].map(|code| metrics.ended(code));
    assert_eq!(ended, [2, 3, 4, 1], "{:?}", metrics.codes());
    assert_eq!(metrics.codes().iter().map(|(_, count)| count).sum::<u64>(), 10);
}

#[test]
fn the_admin_server_answers_what_it_promises_and_only_reads() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    assert_eq!(metrics::get(ringway.admin(), "/live"), (200, "live\n".to_string()));
    assert_eq!(metrics::get(ringway.admin(), "/ready").0, 200);
    assert_eq!(metrics::get(ringway.admin(), "/nothing").0, 404);
    let (_, text) = metrics::get(ringway.admin(), "/metrics");
    for line in text.lines() {
        let is_ours = line.starts_with("ringway_") || line.starts_with("process_");
        assert!(line.is_empty() || line.starts_with("# ") || is_ours, "{line}");
    }
    let version = ringway.metrics().count("build_info", &[("version", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(version, 1);
}

/// Slow or silent clients of the admin server keep neither others nor sessions waiting.
#[test]
fn slow_scrapers_disturb_nobody() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let mut slow: Vec<_> = (0..50).map(|_| crate::harness::Peer::connect(ringway.admin())).collect();
    for scraper in &mut slow {
        scraper.send(b"GET /metrics HTTP/1.1\r\nHost:");
    }
    let (took, ()) = crate::harness::timed(|| {
        assert_eq!(metrics::get(ringway.admin(), "/live").0, 200);
        let mut client = ringway.connect();
        client.send(b"ping");
        client.expect(b"ping");
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
}
