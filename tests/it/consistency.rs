//! What metrics and access log say is what clients and backends saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;

use crate::harness::address::refusing;
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Peer, Ringway, wait_until};

/// Sessions of each kind and thread.
const EACH: u64 = 40;
const THREADS: u64 = 4;

/// What the clients of one kind came to.
#[derive(Clone, Debug, Default)]
struct Seen {
    sessions: u64,
    up: u64,
    down: u64,
}

/// Takes the length of an answer and a request of that length, and gives the answer; then a FIN, or a reset.
fn answering(received: Arc<AtomicU64>) -> Backend {
    Backend::new(move |mut peer, _| {
        let Ok(head) = peer.read_some(9) else { return };
        received.fetch_add(head.len() as u64, Relaxed);
        if head.len() < 9 {
            return;
        }
        let len = u64::from_be_bytes(head[1..].try_into().unwrap());
        peer.expect_keyed(Key::to_backend(len), 0, len);
        received.fetch_add(len, Relaxed);
        peer.send_keyed(Key::to_client(len), 0, len);
        match head[0] {
            b'f' => peer.finish(),
            b'r' => {
                // The client says when it has got everything: what is on its way is lost in a reset.
                peer.expect(b"!");
                received.fetch_add(1, Relaxed);
                return peer.reset();
            }
            _ => {}
        }
        peer.drain();
    })
}

fn ask(client: &mut Peer, how: u8, len: u64) {
    client.send(&[&[how][..], &len.to_be_bytes()].concat());
    client.send_keyed(Key::to_backend(len), 0, len);
    client.expect_keyed(Key::to_client(len), 0, len);
}

/// Many sessions of every kind at the same time, some of them spliced.
fn load(address: &str) -> BTreeMap<&'static str, Seen> {
    let mut all: BTreeMap<&'static str, Seen> = BTreeMap::new();
    let one_thread = |thread: u64| {
        let mut seen: BTreeMap<&'static str, Seen> = BTreeMap::new();
        for number in 0..EACH {
            let len = if number % 10 == thread { 3_000_000 + number } else { 100 * number + thread };
            for (code, how, extra) in [("--", b'f', 0), ("SD", b'r', 1), ("CD", b'c', 0)] {
                let mut client = Peer::connect(address);
                ask(&mut client, how, len);
                match how {
                    b'f' => assert_eq!(client.end(), End::Fin),
                    b'r' => {
                        client.send(b"!");
                        assert_eq!(client.end(), End::Reset);
                    }
                    _ => client.reset(),
                }
                let seen = seen.entry(code).or_default();
                seen.sessions += 1;
                seen.up += 9 + len + extra;
                seen.down += len;
            }
        }
        seen
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || one_thread(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (code, part) in parts.into_iter().flatten() {
        let sum = all.entry(code).or_default();
        (sum.sessions, sum.up, sum.down) = (sum.sessions + part.sessions, sum.up + part.up, sum.down + part.down);
    }
    all
}

#[test]
fn metrics_and_access_log_say_what_peers_saw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let received = Arc::new(AtomicU64::new(0));
    let backends = [answering(received.clone()), answering(received.clone())];
    let silent = crate::harness::Listener::new();
    let ip = crate::harness::address::own_ip();
    let more = format!(
        "[listeners.dead]\nbind = \"{ip}:7009\"\npool = \"dead\"\n[pools.dead]\ncheck.type = \"off\"\n\
         ejection.failures = 0\n[[pools.dead.backends]]\naddress = \"{}\"\n\
         [listeners.full]\nbind = \"{ip}:7008\"\npool = \"full\"\n[pools.full]\ncheck.type = \"off\"\n\
         queue_timeout = \"300ms\"\n[[pools.full.backends]]\naddress = \"{}\"\nconnections_max = 1\n",
        refusing(),
        silent.address(),
    );
    let plan = Ringway::before(backends.iter().map(Backend::address)).workers(2).more(&more);
    let ringway = plan.access_log(path.to_str().unwrap(), "json").start();

    let mut holder = Peer::connect(&format!("{ip}:7008"));
    let _held = silent.accept();
    let turned_away = std::thread::spawn(move || {
        let end = |port: u16| Peer::try_connect(&format!("{ip}:{port}")).map_or(End::Reset, |mut client| client.end());
        for _ in 0..30 {
            assert_eq!(end(7009), End::Reset);
        }
        let waiting: Vec<_> = (0..5).map(|_| Peer::connect(&format!("{ip}:7008"))).collect();
        waiting.into_iter().for_each(|mut client| assert_eq!(client.end(), End::Reset));
    });
    let mut seen = load(ringway.address());
    turned_away.join().unwrap();
    holder.finish();
    drop(_held);
    assert_eq!(holder.end(), End::Fin);
    seen.entry("--").or_default().sessions += 1;
    seen.insert("SC", Seen { sessions: 30, ..Seen::default() });
    seen.insert("sQ", Seen { sessions: 5, ..Seen::default() });
    ringway.wait_idle();
    assert_agree(&ringway, &path, &seen);
    let up: u64 = seen.values().map(|seen| seen.up).sum();
    wait_until("backends have read what clients have sent", || received.load(Relaxed) == up);
    drop(silent);
}

fn assert_agree(ringway: &Ringway, path: &std::path::Path, seen: &BTreeMap<&'static str, Seen>) {
    let metrics = ringway.metrics();
    let total: u64 = seen.values().map(|seen| seen.sessions).sum();
    let (up, down): (u64, u64) = (seen.values().map(|seen| seen.up).sum(), seen.values().map(|seen| seen.down).sum());
    let mut text = String::new();
    wait_until("every session has its line", || {
        text = std::fs::read_to_string(path).unwrap();
        text.lines().count() as u64 >= total
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len() as u64, total);

    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for (code, count) in metrics.codes() {
        *codes.entry(code).or_default() += count;
    }
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap();
    for (&code, seen) in seen {
        assert_eq!(codes.remove(code), Some(seen.sessions), "{code} in metrics");
        let of_code = || lines.iter().filter(|line| line["termination"] == code);
        let sum = |key| of_code().map(|line| number(line, key)).sum::<u64>();
        assert_eq!(of_code().count() as u64, seen.sessions, "{code} in the log");
        assert_eq!((sum("bytes_to_backend"), sum("bytes_to_client")), (seen.up, seen.down), "bytes of {code}");
    }
    assert!(codes.is_empty(), "codes that nobody saw: {codes:?}");

    let bytes = |direction| metrics.count("backend_bytes_total", &[("direction", direction)]);
    assert_eq!((bytes("to_backend"), bytes("to_client")), (up, down));
    let moved = ["worker_spliced_bytes_total", "worker_copied_bytes_total"].map(|name| metrics.count(name, &[]));
    assert!(moved[0] + moved[1] == up + down && moved[0] > 0 && moved[1] > 0, "{moved:?}");
    for name in ["listener_connections_total", "sessions_total", "session_seconds_count"] {
        assert_eq!(metrics.count(name, &[]), total, "{name}");
    }
    let connected = lines.iter().filter(|line| !line["connect_ms"].is_null()).count() as u64;
    for name in ["backend_connections_total", "connect_seconds_count"] {
        assert_eq!(metrics.count(name, &[]), connected, "{name}");
    }
    assert_eq!(metrics.count("pool_queue_timeouts_total", &[]), 5);
    assert_eq!(metrics.count("queue_seconds_count", &[]), 5);
    assert_eq!(
        (metrics.count("pool_refused_total", &[]), metrics.count("backend_connect_errors_total", &[])),
        (30, 30)
    );
    let logged_s = lines.iter().map(|line| number(line, "duration_ms")).sum::<u64>() as f64 / 1000.0;
    let counted_s = metrics.sum("session_seconds_sum", &[]);
    let rounded = Duration::from_millis(total).as_secs_f64();
    assert!(counted_s >= logged_s && counted_s <= logged_s + rounded, "{counted_s} and {logged_s}");
    for worker in [0, 1] {
        let of_worker = lines.iter().filter(|line| number(line, "worker") == worker).count();
        assert!(of_worker > 0, "worker {worker} had no session");
    }
}
