//! Which backend a client gets.

use std::collections::BTreeMap;

use crate::harness::address::refusing;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, Peer, Ringway};

/// A session, and the backend that greeted it.
fn session(ringway: &Ringway) -> (Peer, String) {
    greeting(ringway.connect())
}

fn greeting(mut client: Peer) -> (Peer, String) {
    let name = String::from_utf8(client.read_some(16).unwrap()).unwrap();
    assert!(!name.is_empty(), "turned away");
    (client, name)
}

fn counts<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// Backends that say their name.
fn named(names: &[&'static str]) -> Vec<(&'static str, Backend)> {
    names.iter().map(|name| (*name, Backend::named(name))).collect()
}

fn plan(backends: &[(&'static str, Backend)], weights: &[u32]) -> Plan {
    let add = |plan: Plan, ((name, backend), weight): (&(&str, Backend), &u32)| {
        plan.backend(name, backend.address(), &format!("weight = {weight}"))
    };
    backends.iter().zip(weights).fold(Ringway::plan(), add)
}

#[test]
fn round_robin_is_exact_by_weight_over_all_workers() {
    for workers in [1, 2] {
        let backends = named(&["a", "b"]);
        let ringway = plan(&backends, &[3, 1]).workers(workers).pool("balance = \"round_robin\"").start();
        let names: Vec<String> = (0..40).map(|_| session(&ringway).1).collect();
        assert_eq!(counts(&names), BTreeMap::from([("a", 30), ("b", 10)]));
        for window in names.windows(4) {
            assert_eq!(counts(window), BTreeMap::from([("a", 3), ("b", 1)]), "smooth: {names:?}");
        }
    }
}

/// Of many that start together, all would send their first client to the same one.
#[test]
fn the_first_client_after_a_start_goes_to_any_backend() {
    let backends = named(&["a", "b"]);
    let first = |_| session(&plan(&backends, &[1, 1]).start()).1;
    let mut starts = (0..20).map(first);
    let one = starts.next().unwrap();
    assert!(starts.any(|other| other != one), "always {one}");
}

#[test]
fn round_robin_is_exact_also_for_clients_that_come_at_once() {
    let backends = named(&["a", "b", "c"]);
    let ringway = plan(&backends, &[1, 1, 1]).start();
    let names: Vec<String> = std::thread::scope(|scope| {
        let ringway = &ringway;
        let threads: Vec<_> =
            (0..6).map(|_| scope.spawn(move || (0..20).map(|_| session(ringway).1).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(counts(&names), BTreeMap::from([("a", 40), ("b", 40), ("c", 40)]));
}

#[test]
fn least_conn_is_exact_by_weight_over_all_workers() {
    for workers in [1, 2] {
        let backends = named(&["a", "b", "c"]);
        let ringway = plan(&backends, &[2, 1, 1]).workers(workers).pool("balance = \"least_conn\"").start();
        let mut held: Vec<(Peer, String)> = (0..40).map(|_| session(&ringway)).collect();
        let names: Vec<String> = held.iter().map(|(_, name)| name.clone()).collect();
        assert_eq!(counts(&names), BTreeMap::from([("a", 20), ("b", 10), ("c", 10)]));
        // A backend that becomes free gets the next ones.
        held.retain(|(_, name)| name != "b");
        ringway.wait_metrics("b is free", |metrics| metrics.count("backend_connections", &[("backend", "b")]) == 0);
        let next: Vec<(Peer, String)> = (0..10).map(|_| session(&ringway)).collect();
        assert!(
            next.iter().all(|(_, name)| name == "b"),
            "{:?}",
            next.iter().map(|(_, name)| name).collect::<Vec<_>>()
        );
    }
}

/// A client of its own address.
fn from(client: u32, ringway: &Ringway) -> (Peer, String) {
    let local = format!("127.77.{}.{}:0", client / 200, 1 + client % 200);
    greeting(Peer::connect_from(Some(&local), ringway.address()).unwrap())
}

/// The backend of each of 120 clients.
fn owners(ringway: &Ringway) -> Vec<String> {
    (0..120).map(|client| from(client, ringway).1).collect()
}

#[test]
fn consistent_hash_gives_a_client_the_same_backend_whatever_happens() {
    let mut backends = named(&["a", "b", "c", "d"]);
    let start = |backends: &[(&'static str, Backend)], workers| {
        plan(backends, &[1; 4]).workers(workers).pool("balance = \"consistent_hash\"").start()
    };
    let ringway = start(&backends, 2);
    let first = owners(&ringway);
    assert_eq!(counts(&first).len(), 4, "all of them are used");
    assert!(counts(&first).values().all(|count| (15..=50).contains(count)), "{:?}", counts(&first));
    assert_eq!(owners(&ringway), first, "again");
    let held = from(7, &ringway);
    assert_eq!([&held.1, &from(7, &ringway).1], [&first[7]; 2], "while another session of the same client is open");
    drop(held);
    ringway.stop();
    backends.reverse();
    assert_eq!(owners(&start(&backends, 1)), first, "restarted, with the file reordered and another number of workers");
    backends.retain(|(name, _)| *name != "b");
    let without = owners(&start(&backends, 2));
    let moved = first.iter().zip(&without).filter(|(before, after)| *before != "b" && before != after).count();
    assert!(without.iter().all(|name| name != "b"));
    assert!(moved <= 4, "{moved} clients of backends that stayed were moved");
}

#[test]
fn a_client_of_a_backend_that_refuses_always_goes_to_the_same_other_one() {
    let backends = named(&["a", "b", "c"]);
    let plan = plan(&backends, &[1; 3]).backend("d", &refusing(), "").pool("balance = \"consistent_hash\"");
    let ringway = plan.never_ejecting().start();
    let first = owners(&ringway);
    assert_eq!(owners(&ringway), first);
    assert!(ringway.metrics().count("backend_connect_errors_total", &[("backend", "d")]) >= 20);
}

#[test]
fn backends_that_are_disabled_or_have_no_weight_get_no_session() {
    for balance in ["round_robin", "least_conn", "consistent_hash"] {
        let [a, b, c] = ["a", "b", "c"].map(Backend::named);
        let ringway = Ringway::plan()
            .backend("a", a.address(), "disabled = true")
            .backend("b", b.address(), "")
            .backend("c", c.address(), "weight = 0")
            .pool(&format!("balance = \"{balance}\""))
            .start();
        let held: Vec<_> = (0..20).map(|client| from(client, &ringway)).collect();
        assert!(held.iter().all(|(_, name)| name == "b"), "{balance}");
        assert_eq!((a.accepted(), b.accepted(), c.accepted()), (0, 20, 0));
        let state =
            |backend, state| ringway.metrics().count("backend_state", &[("backend", backend), ("state", state)]);
        assert_eq!((state("a", "maintenance"), state("b", "up")), (1, 1));
    }
}
