//! Where connections to backends come from.

use crate::harness::network;
use crate::harness::{Backend, Peer, Ringway};

/// Says to each client where it came from.
fn telling() -> Backend {
    telling_at(&format!("{}:7300", crate::harness::address::own_ip()))
}

fn telling_at(address: &str) -> Backend {
    Backend::at(address, |mut peer, _| {
        let from = peer.peer_address();
        let _ = peer.write_all(format!("{from}\n").as_bytes());
        crate::harness::backend::echo(peer);
    })
}

/// What a client is told.
fn told(client: &mut Peer) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend(client.read_some(1).unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_string()
}

fn ip(address: &str) -> &str {
    address.rsplit_once(':').unwrap().0
}

#[test]
fn connections_come_from_the_addresses_that_were_given_in_turn() {
    let backend = telling();
    let plan = Ringway::before([backend.address()]).workers(1);
    let ringway = plan.pool("source = [\"127.77.0.1\", \"127.77.0.2\"]").start();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = ringway.connect();
        *seen.entry(ip(&told(&mut client)).to_string()).or_default() += 1;
        held.push(client);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [("127.77.0.1".to_string(), 10), ("127.77.0.2".to_string(), 10)]);
}

/// An address that has moved to another host is passed over for as long as it is away.
#[test]
fn an_address_that_this_host_does_not_have_is_warned_of_and_passed_over() {
    let backend = telling();
    let plan = Ringway::before([backend.address()]).pool("source = [\"192.0.2.200\", \"127.77.0.5\"]");
    let ringway = plan.workers(1).start();
    ringway.wait_said("connections cannot come from there until this host has that address");
    for _ in 0..4 {
        assert_eq!(ip(&told(&mut ringway.connect())), "127.77.0.5");
    }
    assert_eq!(ringway.metrics().count("backend_connect_errors_total", &[]), 0);
}

#[test]
fn checks_come_from_there_too() {
    let backend = telling();
    let plan = Ringway::before([backend.address()]).pool("source = \"127.77.0.3\"");
    let ringway = plan.checks("type = \"send_expect\"\nexpect = '^127\\.77\\.0\\.3:'").start();
    ringway.wait_checks("a", 2);
    assert_eq!(ringway.metrics().count("backend_up", &[("backend", "a")]), 1);
}

/// With four ports there are four sessions per source and backend: the second address is used when the first has none
/// left,
/// and a client that finds none is told why.
#[test]
fn several_addresses_have_the_ports_of_each() {
    network::within_own(|| {
        let backend = telling();
        let plan = Ringway::before([backend.address()]).workers(1).never_ejecting();
        let ringway = plan.pool("source = [\"127.77.0.1\", \"127.77.0.2\"]\nconnect_attempts = 1").start();
        network::set("net.ipv4.ip_local_port_range", "40000 40003");
        let connect =
            |number: usize| Peer::connect_from(Some(&format!("127.3.3.3:{}", 2000 + number)), ringway.address());
        let mut held: Vec<Peer> = (0..8).map(|number| connect(number).unwrap()).collect();
        let mut from: Vec<String> = held.iter_mut().map(told).collect();
        from.sort();
        from.dedup();
        assert_eq!(from.len(), 8, "{from:?}");
        let end = connect(8).map_or(crate::harness::End::Reset, |mut client| client.end());
        assert_eq!(end, crate::harness::End::Reset);
        ringway.expect_code("RC", 1);
        let errors = ringway.metrics().count("backend_connect_errors_total", &[("reason", "resource")]);
        assert_eq!(errors, 1);
    });
}

/// The backend sees the client's own address although ringway stands between, each in a network of its own, as it is on
/// three hosts; with the rule of the documentation, which leads the backend's answers into ringway.
#[test]
fn the_client_itself_is_who_the_backend_sees() {
    network::within_own(|| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let backend = network::neighbour("vb", "10.2.0.1", "10.2.0.2", || {
            network::run("ip route add default via 10.2.0.1");
            let backend = telling_at("10.2.0.2:7300");
            move || drop(backend)
        });
        network::set("net.ipv4.conf.all.rp_filter", "0");
        network::set("net.ipv4.conf.vb.rp_filter", "0");
        network::run("ip rule add iif vb ipproto tcp sport 7300 lookup 100");
        network::run("ip route add local 0.0.0.0/0 dev lo table 100");
        let plan = Ringway::before(["10.2.0.2:7300"]).bind("\"10.1.0.1:7000\"");
        let (bound, is_bound) = std::sync::mpsc::channel::<()>();
        let client = network::neighbour("vc", "10.1.0.1", "10.1.0.2", move || {
            is_bound.recv().unwrap();
            for _ in 0..3 {
                let mut client = Peer::connect("10.1.0.1:7000");
                let seen = told(&mut client);
                assert_eq!(ip(&seen), "10.1.0.2");
                client.send(b"and back");
                client.expect(b"and back");
                client.send_keyed(crate::harness::bytes::Key::to_backend(1), 0, 4 << 20);
                client.expect_keyed(crate::harness::bytes::Key::to_backend(1), 0, 4 << 20);
            }
            done.send(()).unwrap();
            || ()
        });
        let ringway = plan.pool("source = \"client\"").start();
        bound.send(()).unwrap();
        is_done.recv().expect("the client was served");
        drop((client, ringway, backend));
    });
}

/// Such a client has no address that one could come from, and that says nothing of a backend.
#[test]
fn clients_that_cannot_be_stood_in_for_do_not_get_backends_ejected() {
    let backends = [telling(), telling_at(&format!("{}:7301", crate::harness::address::own_ip()))];
    let folder = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", folder.path().join("in.sock").display());
    let plan = Ringway::before(backends.iter().map(Backend::address)).pool("source = \"client\"");
    let tcp = plan.address();
    let ringway = plan.bind(&format!("[{tcp:?}, {path:?}]")).start();
    ringway.process().freeze();
    (0..20).for_each(|_| ringway.connect().reset());
    ringway.signal(libc::SIGCONT);
    ringway.expect_code("CC", 20);
    let errors = |labels: &[(&str, &str)]| ringway.metrics().count("backend_connect_errors_total", labels);
    assert_eq!(errors(&[]), 0, "a client that has gone is no error at all");
    for _ in 0..20 {
        Peer::connect(&path).end();
    }
    ringway.wait_metrics("all have ended", |metrics| metrics.ended("SC") == 20);
    assert_eq!((errors(&[]), errors(&[("reason", "resource")])), (40, 40));
    for name in ["a", "b"] {
        ringway.wait_up("main", name, true);
    }
}

#[test]
fn hundreds_of_addresses_that_are_away_are_tried_once_each() {
    let backend = telling();
    let all: Vec<String> = (0..300).map(|number| format!("\"198.18.{}.{}\"", number / 250, number % 250 + 1)).collect();
    let plan = Ringway::before([backend.address()]).pool(&format!("source = [{}]", all.join(", ")));
    let ringway = plan.workers(1).start();
    assert_eq!(ringway.connect().end(), crate::harness::End::Reset);
    ringway.expect_code("RC", 1);
}

#[test]
fn each_backend_is_reached_from_the_addresses_of_its_family() {
    let backend = telling();
    let plan = Ringway::before([backend.address()]).workers(1).pool("source = [\"127.77.0.1\", \"::1\"]");
    let ringway = plan.backend("six", "[::1]:9", "weight = 0").start();
    let mut held: Vec<Peer> = (0..6).map(|_| ringway.connect()).collect();
    for client in &mut held {
        assert_eq!(ip(&told(client)), "127.77.0.1");
    }
}
