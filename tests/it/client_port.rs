//! Backends at the port that the client connected to.

use serde_json::json;

use crate::harness::address::own_ip;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Peer, Ringway};

/// Two listening ports before one server, whose ports are 300 above.
fn shifted(plan: Plan, ip: &str) -> Plan {
    let front = own_ip();
    plan.bind(&format!("[\"{front}:7000\", \"{front}:7001\", \"{front}:7002\"]")).backend(
        "a",
        &format!("{ip}:client+300"),
        "",
    )
}

/// Where a ringway listens.
fn binds(ringway: &Ringway) -> Vec<String> {
    let listeners = ringway.api().get("/v1/listeners");
    let binds = listeners["listeners"][0]["bind"].as_array().unwrap();
    binds.iter().map(|bind| bind.as_str().unwrap().to_string()).collect()
}

/// How a client that gets no byte is told; the reset may come while it still connects.
fn turned_away(bind: &str) -> End {
    Peer::try_connect(bind).map_or(End::Reset, |mut client| client.end())
}

#[test]
fn each_port_of_a_listener_leads_to_its_own_port_of_the_server() {
    let ip = own_ip().to_string();
    let [first, second] =
        [(7300, "first"), (7301, "second")].map(|(port, name)| Backend::named_at(&format!("{ip}:{port}"), name));
    let ringway = shifted(Ringway::plan(), &ip).start();
    let binds = binds(&ringway);
    for _ in 0..5 {
        for (bind, name) in binds.iter().zip([&b"first"[..], b"second"]) {
            Peer::connect(bind).expect(name);
        }
    }
    assert_eq!((first.accepted(), second.accepted()), (5, 5));
    assert_eq!(turned_away(&binds[2]), End::Reset, "nobody listens at 7302");
    ringway.wait_metrics("it could not be served", |metrics| metrics.ended("SC") == 1);
    let backend = ringway.api().get("/v1/pools/main/backends/a");
    assert_eq!(backend["address"], json!(format!("{ip}:client+300")));
}

#[test]
fn such_a_server_is_checked_at_one_port_and_is_down_at_all_when_that_fails() {
    let ip = own_ip().to_string();
    let [first, _second] =
        [(7300, "first"), (7301, "second")].map(|(port, name)| Backend::named_at(&format!("{ip}:{port}"), name));
    let ringway = shifted(Ringway::plan(), &ip).checked(1, 1).check("port = 7300").start();
    ringway.wait_checks("a", 1);
    Peer::connect(&binds(&ringway)[1]).expect(b"second");
    first.kill();
    ringway.wait_up("main", "a", false);
    assert_eq!(turned_away(&binds(&ringway)[1]), End::Reset);
}

/// The sessions of the shift before live on.
#[test]
fn another_shift_is_taken_over_by_a_reload() {
    let ip = own_ip().to_string();
    let [_first, _second] =
        [(7300, "first"), (7301, "second")].map(|(port, name)| Backend::named_at(&format!("{ip}:{port}"), name));
    let ringway = shifted(Ringway::plan(), &ip).start();
    let bind = binds(&ringway)[0].clone();
    let mut before = Peer::connect(&bind);
    before.expect(b"first");
    ringway.change("client+300", "client+301");
    Peer::connect(&bind).expect(b"second");
    before.send(b"go on");
    before.expect(b"go on");
}
