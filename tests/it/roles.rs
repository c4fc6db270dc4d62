//! A pool that wants the primary follows it, never writes to two, and lets clients wait while there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::dns::{is_refused, session, states};
use crate::harness::address::own_ip;
use crate::harness::{Backend, End, Peer, Ringway, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// What a node says of itself: nothing, that it is a replica, that it is the primary.
const SILENT: u8 = 0;
const REPLICA: u8 = 1;
const PRIMARY: u8 = 2;

/// A server that says its name to clients, and its role to checks on another port, as Redis does.
struct Node {
    address: String,
    role: Arc<AtomicU8>,
    _parts: [Backend; 2],
}

impl Node {
    fn new(name: &'static str, role: u8) -> Node {
        let (ip, role) = (own_ip(), Arc::new(AtomicU8::new(role)));
        let server = Backend::named_at(&format!("{ip}:7300"), name);
        let its = role.clone();
        let checks = Backend::at(&format!("{ip}:7400"), move |peer, _| answer_checks(peer, &its));
        Node { address: server.address().to_string(), role, _parts: [server, checks] }
    }

    fn becomes(&self, role: u8) {
        self.role.store(role, Ordering::Relaxed);
    }
}

fn answer_checks(mut peer: Peer, role: &AtomicU8) {
    while let Ok(bytes) = peer.read_some(256) {
        let text = String::from_utf8_lossy(&bytes).to_string();
        let answer = match role.load(Ordering::Relaxed) {
            _ if text.contains("PING") => "+PONG\r\n",
            PRIMARY => "*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n",
            REPLICA => "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:7\r\n",
            _ => "-LOADING wait\r\n",
        };
        if bytes.is_empty() || peer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn start(a: &Node, b: &Node, pool: &str) -> Ringway {
    Ringway::before([a.address.as_str(), b.address.as_str()])
        .checked_as("redis")
        .check("role = \"primary\"\nport = 7400\nfall = 2")
        .pool(pool)
        .start()
}

#[track_caller]
fn wait_states(ringway: &Ringway, a: &'static str, b: &'static str) {
    wait_until(&format!("{a} and {b}"), || states(ringway) == [("a".into(), a), ("b".into(), b)]);
}

/// A client that comes while there is no primary waits; it has sent nothing that could be lost.
#[test]
fn a_fail_over_ends_old_sessions_and_lets_new_ones_wait() {
    let (a, b) = (Node::new("a", PRIMARY), Node::new("b", REPLICA));
    let ringway = start(&a, &b, "on_backend_down = \"keep\"");
    wait_states(&ringway, "up", "standby");
    let (mut old, name) = session(&ringway);
    assert_eq!(name, "a");
    a.becomes(REPLICA);
    assert_eq!(old.end(), End::Reset, "whatever on_backend_down says");
    wait_states(&ringway, "standby", "standby");
    let mut waiting = ringway.connect();
    assert!(waiting.is_silent_for(200 * MS));
    b.becomes(PRIMARY);
    waiting.expect(b"b");
    assert_eq!(states(&ringway), [("a".into(), "standby"), ("b".into(), "up")]);
    let output = ringway.process().output();
    assert!(output.contains("reason=\"is a replica\"") && output.contains("reason=\"is the primary\""), "{output}");
    let codes = ringway.metrics().codes();
    assert_eq!(codes.iter().filter(|(code, _)| code != "DD" && code != "--").count(), 0, "{codes:?}");
}

#[test]
fn of_two_that_say_they_are_the_primary_one_is_used_and_both_are_named() {
    let (a, b) = (Node::new("a", PRIMARY), Node::new("b", REPLICA));
    let ringway = start(&a, &b, "");
    wait_states(&ringway, "up", "standby");
    b.becomes(PRIMARY);
    wait_until("both are named", || {
        ringway.process().output().contains("two backends say that they are the primary: b and a; used is a")
    });
    assert!((0..10).all(|_| session(&ringway).1 == "a"));
    wait_states(&ringway, "up", "down");
    a.becomes(SILENT);
    wait_states(&ringway, "down", "up");
    assert!((0..10).all(|_| session(&ringway).1 == "b"));
    a.becomes(PRIMARY);
    wait_until("it is heard", || ringway.process().output().matches("two backends say").count() == 2);
    assert!((0..10).all(|_| session(&ringway).1 == "b"), "it stays");
}

#[test]
fn who_waits_for_a_primary_in_vain_is_turned_away_after_its_time() {
    let (a, b) = (Node::new("a", REPLICA), Node::new("b", SILENT));
    let ringway = start(&a, &b, "queue_timeout = \"500ms\"");
    wait_states(&ringway, "standby", "down");
    let (took, refused) = timed(|| is_refused(&ringway));
    assert!(refused && took > 400 * MS && took < 1500 * MS, "{took:?}");
    ringway.expect_code("sQ", 1);
}

#[test]
fn a_pool_for_reading_leaves_the_primary_alone() {
    let (a, b) = (Node::new("a", PRIMARY), Node::new("b", REPLICA));
    let ringway = Ringway::before([a.address.as_str(), b.address.as_str()])
        .checked_as("redis")
        .check("role = \"replica\"\nport = 7400\ninitial = \"down\"")
        .start();
    wait_states(&ringway, "standby", "up");
    assert!((0..6).all(|_| session(&ringway).1 == "b"));
    b.becomes(PRIMARY);
    wait_states(&ringway, "standby", "standby");
    assert!(is_refused(&ringway));
    a.becomes(REPLICA);
    wait_states(&ringway, "up", "standby");
}
