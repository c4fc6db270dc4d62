//! A pool with too few backends, and the pool that serves in its place.

use serde_json::{Value, json};

use crate::harness::process::run;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Peer, Ringway, wait_until};

/// The backend of a new session, and the session.
fn session(ringway: &Ringway) -> (Peer, String) {
    let mut client = ringway.connect();
    let name = String::from_utf8(client.read_some(16).unwrap_or_default()).unwrap();
    (client, name)
}

/// The backends of so many sessions, each once.
#[track_caller]
fn served_by(ringway: &Ringway, sessions: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..sessions).map(|_| session(ringway).1).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A pool that is never checked, with one backend.
fn pool(name: &str, address: &str, more: &str) -> String {
    format!("[pools.{name}]\n{more}\ncheck.type = \"off\"\nbackends = [{{ name = \"x\", address = \"{address}\" }}]")
}

/// Puts a backend of `main` into a state.
#[track_caller]
fn set(ringway: &Ringway, backend: &str, state: &str) {
    let path = format!("/v1/pools/main/backends/{backend}");
    ringway.api().patch(&path, &json!({ "state": state }).to_string()).expect(200);
}

/// `a` and `b` of which two must be up, and else the pool `spare`.
fn two_of(a: &Backend, b: &Backend, spare: &Backend) -> Plan {
    let plan = Ringway::before([a.address(), b.address()]).pool("up_min = 2\nfallback = \"spare\"");
    plan.more(&pool("spare", spare.address(), ""))
}

#[test]
fn the_fallback_serves_exactly_while_too_few_backends_take_sessions() {
    let [a, b, spare] = ["a", "b", "spare"].map(Backend::named);
    let address = a.address().to_string();
    let ringway = two_of(&a, &b, &spare).checked(1, 1).start();
    assert_eq!(served_by(&ringway, 8), ["a", "b"]);
    let mut kept = std::iter::repeat_with(|| session(&ringway)).find(|(_, name)| name == "b").unwrap().0;
    a.kill();
    ringway.wait_up("main", "a", false);
    assert_eq!(served_by(&ringway, 8), ["spare"], "b alone counts as none");
    kept.send(b"go on");
    kept.expect(b"go on");
    let _a = Backend::named_at(&address, "a");
    ringway.wait_up("main", "a", true);
    assert_eq!(served_by(&ringway, 8), ["a", "b"], "back at once");
    drop(kept);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let ended = |pool| metrics.count("sessions_total", &[("listener", "main"), ("pool", pool)]);
    assert_eq!(ended("spare"), 8, "they count where they were served");
    assert_eq!(metrics.count("pool_fallbacks_total", &[("pool", "main")]), 8);
}

#[test]
fn that_a_pool_falls_back_is_said_in_the_log_by_the_api_and_by_ctl() {
    let [a, b, spare] = ["a", "b", "spare"].map(Backend::named);
    let ringway = two_of(&a, &b, &spare).start();
    let pool = || ringway.api().get("/v1/pools/main");
    let falls = |pool: &Value| (pool["fallback"].clone(), pool["up_min"].clone(), pool["falls_back_to"].clone());
    assert_eq!(falls(&pool()), (json!("spare"), json!(2), Value::Null));
    set(&ringway, "a", "maintenance");
    assert_eq!(falls(&pool()), (json!("spare"), json!(2), json!("spare")));
    let gauge = |ringway: &Ringway| ringway.metrics().count("pool_falls_back", &[("pool", "main")]);
    assert_eq!(gauge(&ringway), 1);
    let mut ctl = Ringway::command();
    let said = run(ctl.args(["ctl", "status"]).env("RINGWAY_SOCKET", ringway.socket())).stdout;
    let line = said.lines().find(|line| line.starts_with("main")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.ends_with("falls back to spare"), "{said}");
    ringway.wait_said("too few backends take sessions: the fallback serves");
    set(&ringway, "a", "ready");
    assert_eq!((falls(&pool()).2, gauge(&ringway)), (Value::Null, 0));
    ringway.wait_said("the fallback no longer serves");
}

#[test]
fn a_chain_is_followed_to_the_first_pool_that_can_serve() {
    let [a, far] = ["a", "far"].map(Backend::named);
    let near = Backend::named("near");
    let ringway = Ringway::before([a.address()])
        .pool("fallback = \"near\"")
        .more(&pool("near", near.address(), "fallback = \"far\""))
        .more(&pool("far", far.address(), ""))
        .start();
    set(&ringway, "a", "maintenance");
    assert_eq!(served_by(&ringway, 4), ["near"]);
    let near_path = "/v1/pools/near/backends/x";
    ringway.api().patch(near_path, r#"{"weight":0}"#).expect(200);
    assert_eq!(served_by(&ringway, 4), ["far"]);
    ringway.api().patch("/v1/pools/far/backends/x", r#"{"weight":0}"#).expect(200);
    assert_eq!(ringway.turned_away(), End::Reset);
    ringway.wait_metrics("the last pool has refused it", |metrics| {
        metrics.count("sessions_total", &[("pool", "far"), ("termination", "SC")]) == 1
    });
    ringway.api().patch(near_path, r#"{"weight":1}"#).expect(200);
    assert_eq!(served_by(&ringway, 4), ["near"]);
}

/// Their own pool would keep them waiting for nothing.
#[test]
fn clients_that_wait_go_to_the_fallback_in_their_order() {
    let (a, spare) = (Backend::named("a"), Backend::named("spare"));
    let ringway = Ringway::plan()
        .backend("a", a.address(), "connections_max = 1")
        .pool("queue_timeout = \"0s\"\nfallback = \"spare\"")
        .more(&format!(
            "[pools.spare]\ncheck.type = \"off\"\nqueue_timeout = \"0s\"\n[[pools.spare.backends]]\nname = \"x\"\n\
             address = \"{}\"\nconnections_max = 1",
            spare.address()
        ))
        .start();
    let (_first, name) = session(&ringway);
    assert_eq!(name, "a");
    let queue = |pool| ringway.metrics().count("pool_queue_length", &[("pool", pool)]);
    let mut waiting: Vec<Peer> = Vec::new();
    for number in 0..6 {
        waiting.push(ringway.connect());
        wait_until("one more waits", || queue("main") == number + 1);
    }
    set(&ringway, "a", "maintenance");
    while !waiting.is_empty() {
        let mut served = waiting.remove(0);
        served.expect(b"spare");
        let left = waiting.len() as u64;
        wait_until("the others wait for the fallback", || (queue("main"), queue("spare")) == (0, left));
        assert!(!waiting.iter().any(Peer::has_bytes), "somebody was served out of turn");
    }
}

#[test]
fn without_a_fallback_too_few_backends_count_as_none() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address(), b.address()]).pool("up_min = 2").start();
    let mut kept = std::iter::repeat_with(|| session(&ringway)).find(|(_, name)| name == "b").unwrap().0;
    set(&ringway, "a", "maintenance");
    assert_eq!(ringway.turned_away(), End::Reset);
    ringway.wait_metrics("it was refused", |metrics| metrics.ended("SC") == 1);
    kept.send(b"go on");
    kept.expect(b"go on");
    set(&ringway, "a", "ready");
    assert_eq!(served_by(&ringway, 8), ["a", "b"]);
}

/// Another pool may hash, limit and greet otherwise: the session is one of that pool.
#[test]
fn a_session_has_the_limits_of_the_pool_that_serves_it() {
    let [a, spare] = ["a", "spare"].map(Backend::named);
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("access.log");
    let ringway = Ringway::before([a.address()])
        .pool("fallback = \"spare\"")
        .more(&pool("spare", spare.address(), "idle_timeout = \"50ms\""))
        .access_log(path.to_str().unwrap(), "json")
        .start();
    set(&ringway, "a", "maintenance");
    let mut client = ringway.connect();
    client.expect(b"spare");
    assert_eq!(client.end(), End::Fin);
    ringway.expect_code("cD", 1);
    let mut text = String::new();
    wait_until("its line is there", || {
        text = std::fs::read_to_string(&path).unwrap_or_default();
        text.ends_with('\n')
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["pool"], &line["backend"]), (&json!("spare"), &json!("x")), "{line}");
}
