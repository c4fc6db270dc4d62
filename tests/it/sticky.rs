//! Clients that keep their backend.

use std::time::Duration;

use serde_json::json;

use crate::harness::ringway::Plan;
use crate::harness::{Backend, Peer, Ringway};

/// A pool whose clients keep their backend for that time. They come through a proxy, so that there can be many.
fn sticking(backends: &[Backend], sticky: &str) -> Plan {
    let plan = Ringway::before(backends.iter().map(Backend::address)).pool(&format!("sticky = \"{sticky}\""));
    plan.listener("accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\"]")
}

/// A session of the client with that number, and the name of its backend.
#[track_caller]
fn session(ringway: &Ringway, client: u32) -> (Peer, String) {
    let mut peer = ringway.connect();
    let [.., high, low] = client.to_be_bytes();
    peer.send(format!("PROXY TCP4 192.0.{high}.{low} 192.0.2.1 1 2\r\n").as_bytes());
    let name = String::from_utf8(peer.read_some(1).unwrap()).unwrap();
    (peer, name)
}

fn backends() -> [Backend; 3] {
    ["a", "b", "c"].map(Backend::named)
}

#[track_caller]
fn set(ringway: &Ringway, backend: &str, change: &serde_json::Value) {
    ringway.api().patch(&format!("/v1/pools/main/backends/{backend}"), &change.to_string()).expect(200);
}

#[test]
fn a_client_keeps_its_backend_whatever_the_policy_says() {
    for balance in ["round_robin", "least_conn", "random", "consistent_hash"] {
        let backends = backends();
        let plan = sticking(&backends, "1h").workers(3).pool(&format!("balance = \"{balance}\""));
        let ringway = plan.start();
        let first: Vec<String> = (0..60).map(|client| session(&ringway, client).1).collect();
        let mut names = first.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, ["a", "b", "c"], "{balance}: clients are spread");
        for round in 0..3 {
            for (client, name) in (0..60).zip(&first) {
                assert_eq!(session(&ringway, client).1, *name, "{balance}, round {round}, client {client}");
            }
        }
    }
}

/// In turn it would be the other one's.
#[test]
fn a_client_is_forgotten_after_its_time_and_not_before_its_last_session_ends() {
    let backends = ["a", "b"].map(Backend::named);
    let ringway = sticking(&backends, "300ms").start();
    let (held, first) = session(&ringway, 1);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(session(&ringway, 1).1, first, "a session is open");
    drop(held);
    ringway.wait_idle();
    std::thread::sleep(Duration::from_millis(600));
    assert_ne!(session(&ringway, 1).1, first);
}

#[test]
fn a_client_whose_backend_takes_no_sessions_gets_another_one_and_keeps_that() {
    for away in [json!({ "state": "maintenance" }), json!({ "state": "drain" }), json!({ "weight": 0 })] {
        let backends = ["a", "b"].map(Backend::named);
        let ringway = sticking(&backends, "1h").start();
        let first = session(&ringway, 1).1;
        set(&ringway, &first, &away);
        let second = session(&ringway, 1).1;
        assert_ne!(second, first, "{away}");
        set(&ringway, &first, &json!({ "state": "ready", "weight": 1 }));
        assert!((0..4).all(|_| session(&ringway, 1).1 == second), "{away}: it does not move back");
    }
}

#[test]
fn a_client_whose_backend_refuses_it_or_is_full_gets_another_one() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let address = a.address().to_string();
    let plan = Ringway::plan()
        .backend("a", a.address(), "connections_max = 1")
        .backend("b", b.address(), "backup = true")
        .pool("sticky = \"1h\"")
        .listener("accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\"]");
    let ringway = plan.never_ejecting().start();
    assert_eq!(session(&ringway, 1).1, "a");
    a.kill();
    assert_eq!(session(&ringway, 1).1, "b", "a refuses");
    let _a = Backend::named_at(&address, "a");
    assert_eq!(session(&ringway, 1).1, "b", "a backup is kept, too");
    assert_eq!(session(&ringway, 2).1, "a", "and other clients go where they always go");
}

#[test]
fn clients_keep_their_backends_over_a_reload_and_a_take_over() {
    let backends = backends();
    let ringway = sticking(&backends, "1h").start();
    let first: Vec<String> = (0..40).map(|client| session(&ringway, client).1).collect();
    ringway.change("sticky = \"1h\"", "sticky = \"2h\"");
    assert!((0..40).zip(&first).all(|(client, name)| session(&ringway, client).1 == *name), "after a reload");
    let (_held, held) = session(&ringway, 99);
    // The backends stand there in another order, and have other numbers.
    let next = ringway.successor(|text| {
        let (head, tail) = text.split_once("[[pools.main.backends]]").unwrap();
        let mut parts: Vec<&str> = tail.split("[[pools.main.backends]]").collect();
        parts.reverse();
        format!("{head}[[pools.main.backends]]{}", parts.join("\n[[pools.main.backends]]"))
    });
    next.wait_said("the ringway before drains");
    assert!((0..40).zip(&first).all(|(client, name)| session(&next, client).1 == *name), "after a take-over");
    assert_eq!(session(&next, 99).1, held, "its session goes on in the process before");
    ringway.signal(libc::SIGTERM);
    ringway.wait(Duration::from_secs(20));
}

#[test]
fn the_time_and_the_evictions_are_shown() {
    let backends = backends();
    let ringway = sticking(&backends, "90s").start();
    let pool = ringway.api().get("/v1/pools/main");
    assert_eq!((&pool["sticky_ms"], &pool["sticky_evictions_total"]), (&json!(90_000), &json!(0)));
    assert_eq!(ringway.metrics().by("pool_sticky_evictions_total", "pool"), [("main".to_string(), 0)]);
}
