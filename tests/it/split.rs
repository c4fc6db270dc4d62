//! New clients that are divided among pools by weight.

use serde_json::json;

use crate::harness::process::run;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Ringway};

/// A listener whose clients go to the pools `main` and `new` with these weights.
fn divided(main: &Backend, new: &Backend, weights: [u32; 2]) -> Plan {
    let pool =
        format!("[pools.new]\ncheck.type = \"off\"\nbackends = [{{ name = \"x\", address = \"{}\" }}]", new.address());
    Ringway::before([main.address()]).lead(&split(weights)).more(&pool)
}

fn split([main, new]: [u32; 2]) -> String {
    format!("split = [{{ pool = \"main\", weight = {main} }}, {{ pool = \"new\", weight = {new} }}]")
}

/// So many sessions, one after the other; how many each backend got.
#[track_caller]
fn shares(ringway: &Ringway, sessions: usize) -> [usize; 2] {
    let mut got = [0; 2];
    for _ in 0..sessions {
        let mut client = ringway.connect();
        match &client.read_some(4).unwrap()[..] {
            b"main" => got[0] += 1,
            b"new" => got[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    got
}

#[test]
fn new_sessions_are_divided_exactly_over_all_workers() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let ringway = divided(&main, &new, [90, 10]).workers(4).start();
    assert_eq!(shares(&ringway, 200), [180, 20]);
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let ended = |pool| metrics.count("sessions_total", &[("listener", "main"), ("pool", pool)]);
    assert_eq!([ended("main"), ended("new")], [180, 20]);
}

/// Clients that are refused take no turn.
#[test]
fn clients_that_are_asked_for_something_first_are_divided_once_they_are_let_in() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let plan = divided(&main, &new, [3, 1]).listener("accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\"]");
    let ringway = plan.listener("deny = [\"192.0.2.9\"]").start();
    let mut got = [0; 2];
    for number in 0..40 {
        let mut client = ringway.connect();
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
        got[usize::from(client.read_some(4).unwrap() == b"new")] += 1;
        if number % 2 == 0 {
            let mut refused = ringway.connect();
            refused.send(b"PROXY TCP4 192.0.2.9 192.0.2.2 1 2\r\n");
            assert_eq!(refused.end(), End::Reset);
        }
    }
    assert_eq!(got, [30, 10]);
}

#[test]
fn clients_that_only_rules_judge_are_divided_too() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let ringway = divided(&main, &new, [1, 1]).listener("allow = [\"0.0.0.0/0\"]").start();
    assert_eq!(shares(&ringway, 20), [10, 10]);
}

/// A pool is tried with no client, then with some, then it gets all.
#[test]
fn a_reload_changes_the_shares() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let ringway = divided(&main, &new, [1, 0]).start();
    assert_eq!(shares(&ringway, 10), [10, 0]);
    ringway.change(&split([1, 0]), &split([1, 1]));
    assert_eq!(shares(&ringway, 10), [5, 5]);
    ringway.wait_said("split main 1, new 0 → main 1, new 1");
    ringway.change(&split([1, 1]), "pool = \"new\"");
    assert_eq!(shares(&ringway, 10), [0, 10]);
}

/// The session is one of the pool that it went to, with the limits of that pool.
#[test]
fn a_session_has_the_limits_of_its_pool() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let plan = divided(&main, &new, [1, 1]).pool("idle_timeout = \"50ms\"");
    let ringway = plan.start();
    let mut clients: Vec<_> = (0..10).map(|_| ringway.connect()).collect();
    let mut kept = 0;
    for client in &mut clients {
        match &client.read_some(4).unwrap()[..] {
            b"main" => assert_eq!(client.end(), End::Fin),
            _ => kept += 1,
        }
    }
    assert_eq!(kept, 5);
    ringway.wait_metrics("those of main are over", |metrics| metrics.ended("cD") == 5);
    assert_eq!(ringway.metrics().count("connections", &[]), 5);
}

#[test]
fn the_shares_are_shown_by_the_api_ctl_and_explain() {
    let (main, new) = (Backend::named("main"), Backend::named("new"));
    let ringway = divided(&main, &new, [90, 10]).start();
    let listener = &ringway.api().get("/v1/listeners")["listeners"][0];
    let shares = json!([{ "pool": "main", "weight": 90 }, { "pool": "new", "weight": 10 }]);
    assert_eq!((&listener["pool"], &listener["split"]), (&json!("main"), &shares));
    let pool = ringway.api().get("/v1/pools/new");
    assert_eq!(pool["shares"], json!([{ "listener": "main", "weight": 10, "of": 100 }]));
    let mut ctl = Ringway::command();
    let said = run(ctl.args(["ctl", "status"]).env("RINGWAY_SOCKET", ringway.socket())).stdout;
    assert!(said.lines().any(|line| line.starts_with("new ") && line.ends_with("main 10/100")), "{said}");
    let mut explain = Ringway::command();
    explain.arg("explain").arg(ringway.file()).args(["--listener", "main", "--client", "192.0.2.1"]);
    let said = run(&mut explain).stdout;
    for line in ["listener  main → pool main 90.0 %, pool new 10.0 %", "pool      new, round_robin", "backend   x"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
