//! What the API says and does of pools and backends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::address::refusing;
use crate::harness::{Backend, End, Peer, Ringway, assert_about, timed, wait_until};

const A: &str = "/v1/pools/main/backends/a";

#[test]
fn status_listeners_and_pools_are_as_configured_and_as_they_are() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::plan()
        .workers(2)
        .pool("balance = \"least_conn\"")
        .backend("a", a.address(), "weight = 3")
        .backend("b", b.address(), "connections_max = 7\nbackup = 2")
        .process("connections_max = 500")
        .start();
    let mut clients: Vec<Peer> = (0..4).map(|_| ringway.connect()).collect();
    clients.iter_mut().for_each(|client| client.expect(b"a"));
    let api = ringway.api();
    let status = api.get("/v1/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!([&status["generation"], &status["connections"], &status["limits"]["connections_max"]], [1, 4, 500]);
    assert_eq!((&status["phase"], &status["pid"]), (&json!("serving"), &json!(ringway.process().id())));
    assert!((1..60_000).contains(&status["uptime_ms"].as_u64().unwrap()), "{status}");
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.iter().map(|worker| worker["connections"].as_u64().unwrap()).sum::<u64>(), 4);
    assert_eq!(workers.len(), 2);

    let listeners = &api.get("/v1/listeners")["listeners"];
    assert_eq!(listeners.as_array().unwrap().len(), 1);
    let main = &listeners[0];
    assert_eq!(
        (&main["name"], &main["pool"], &main["bind"]),
        (&json!("main"), &json!("main"), &json!([ringway.address()]))
    );
    assert_eq!((&main["connections"], &main["connections_total"]), (&json!(4), &json!(4)));

    let pools = &api.get("/v1/pools")["pools"];
    assert_eq!(pools[0]["name"], api.get("/v1/pools/main")["name"]);
    let pool = &pools[0];
    assert_eq!(
        (&pool["balance"], &pool["connections"], &pool["backends_up"]),
        (&json!("least_conn"), &json!(4), &json!(2))
    );
    let backends = &api.get("/v1/pools/main/backends")["backends"];
    assert_eq!((&backends[0]["name"], &backends[1]["name"]), (&json!("a"), &json!("b")));
    let (first, second) = (&pool["backends"][0], &pool["backends"][1]);
    assert_eq!((&first["name"], &first["address"], &first["weight"]), (&json!("a"), &json!(a.address()), &json!(3)));
    assert_eq!(
        (&first["state"], &first["connections"], &first["connections_total"]),
        (&json!("up"), &json!(4), &json!(4))
    );
    assert_eq!((&first["bytes_to_client"], &first["bytes_to_backend"]), (&json!(4), &json!(0)));
    assert_eq!((&second["backup"], &second["connections_max"]), (&json!(true), &json!(7)));
    assert_eq!((&first["backup_level"], &second["backup_level"]), (&json!(0), &json!(2)));
    drop(clients);
    wait_until("nobody is connected", || api.get(A)["connections"] == 0);
    assert_eq!(api.get(A)["connections_total"], 4);
}

/// Why is it down? Since when, what was it before, and how did the check go?
#[test]
fn a_backend_that_is_down_says_why_and_how_its_check_went() {
    let (backend, nobody) = (Backend::echo(), refusing());
    let ringway = Ringway::before([backend.address(), &nobody]).checked(1, 1).start();
    ringway.wait_up("main", "b", false);
    ringway.wait_checks("a", 1);
    let b = ringway.api().get("/v1/pools/main/backends/b");
    assert_eq!((&b["pool"], &b["state"], &b["check"]["type"]), (&json!("main"), &json!("down"), &json!("tcp")));
    let refused = |text: &Value| text.as_str().unwrap().to_lowercase().contains("refused");
    assert!(refused(&b["reason"]), "{b}");
    assert!(b["transcript"].as_array().unwrap().iter().any(|line| refused(&line["text"])), "{b}");
    let history = b["history"].as_array().unwrap();
    assert_eq!([&history[0]["state"], &history[history.len() - 1]["state"]], ["up", "down"]);
    assert_eq!(history[history.len() - 1]["since"], b["since"]);
    let since = humantime::parse_rfc3339(b["since"].as_str().unwrap()).unwrap();
    let ago = since.elapsed().unwrap();
    assert_about(ago, Duration::from_millis(b["since_ms"].as_u64().unwrap()));
    assert!(b["checks"]["failure_total"].as_u64() >= Some(1) && b["checks"]["success_total"] == 0);
    let a = ringway.api().get(A);
    assert_eq!((&a["state"], &a["checks"]["failure_total"]), (&json!("up"), &json!(0)));
    assert!(a["transcript"].as_array().is_some_and(|lines| !lines.is_empty()), "{a}");
}

#[test]
fn a_change_is_made_whole_or_not_at_all() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let api = ringway.api();
    let as_it_was = api.get(A)["weight"].clone();
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        ("[]", 400),
        (r#"{"weight": 5, "state": "gone"}"#, 400),
        (r#"{"weight": 257, "connections_max": 3}"#, 400),
        (r#"{"weight": -1}"#, 400),
        (r#"{"weight": 1.5}"#, 400),
        (r#"{"weight": 5, "wieght": 6}"#, 400),
        (r#"{"weight": 5, "deadline_ms": 10}"#, 400),
        (r#"{"weight": 5, "state": "ready", "deadline_ms": 10}"#, 400),
        (r#"{"weight": 70000}"#, 400),
    ] {
        let message = api.patch(A, body).refused(status);
        assert!(!message.is_empty() && !message.contains('\n'), "{body}: {message}");
        assert_eq!(api.get(A)["weight"], as_it_was, "{body}");
    }
    // A client that sends more than is read may be answered by a reset.
    let big = format!("{{\"weight\": 5{}}}", " ".repeat(100_000));
    let head = format!("PATCH {A} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", big.len());
    let mut stream = UnixStream::connect(ringway.socket()).unwrap();
    let _ = stream.write_all((head + &big).as_bytes());
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(api.get(A)["weight"], as_it_was);
    assert!(api.patch("/v1/pools/main/backends/z", r#"{"weight": 5}"#).refused(404).contains('z'));
    assert!(api.patch("/v1/pools/other/backends/a", r#"{"weight": 5}"#).refused(404).contains("other"));
    for path in ["/v1/pools/other", "/v1/pools/other/backends", "/v1/pools/main/backends/z"] {
        assert_eq!(api.ask("GET", path, "").status, 404, "{path}");
    }

    let changes = api.patch(A, r#"{"weight": 0, "connections_max": 9}"#).expect(200)["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 2, "{changes}");
    let now = api.get(A);
    assert_eq!((&now["weight"], &now["connections_max"]), (&json!(0), &json!(9)));
    assert_eq!(now["set_by_hand"], json!(["weight", "connections_max"]));
    ringway.wait_metrics("the weight is known", |metrics| metrics.count("backend_weight", &[("backend", "a")]) == 0);
    for _ in 0..6 {
        ringway.connect().expect(b"b");
    }
    ringway.wait_said("uid ");
}

#[test]
fn a_drain_ends_what_is_left_at_its_deadline_and_ready_takes_it_back() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let api = ringway.api();
    let mut clients: Vec<Peer> = (0..4).map(|_| ringway.connect()).collect();
    let names: Vec<Vec<u8>> = clients.iter_mut().map(|client| client.read_some(1).unwrap()).collect();
    api.patch(A, r#"{"state": "drain", "deadline_ms": 600}"#).expect(200);
    let draining = api.get(A);
    assert_eq!(draining["state"], "draining");
    assert!(draining["drain_left_ms"].as_u64().is_some_and(|left| (1..=600).contains(&left)), "{draining}");
    assert!(draining["reason"].as_str().unwrap().contains("uid"), "{draining}");
    let (took, ()) = timed(|| {
        for (client, _) in clients.iter_mut().zip(&names).filter(|(_, name)| *name == b"a") {
            assert_eq!(client.end(), End::Reset);
        }
    });
    assert_about(took, Duration::from_millis(600));
    ringway.wait_metrics("both ended as drained", |metrics| metrics.ended("DD") == 2);
    for (client, _) in clients.iter_mut().zip(&names).filter(|(_, name)| *name == b"b") {
        client.send(b"x");
        client.expect(b"x");
    }
    for _ in 0..4 {
        ringway.connect().expect(b"b");
    }
    api.patch(A, r#"{"state": "ready"}"#).expect(200);
    ringway.wait_up("main", "a", true);
    let mut next: Vec<Vec<u8>> = (0..2).map(|_| ringway.connect().read_some(1).unwrap()).collect();
    next.sort();
    assert_eq!(next, [b"a", b"b"]);
}
