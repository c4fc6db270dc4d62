//! Networks that lose, refuse and run out: R17, R18, R31.

use std::time::Duration;

use crate::harness::network;
use crate::harness::{Backend, End, PATIENCE, Peer, Ringway, timed, wait_until};

/// A client with a port of its own, so that it takes none that ringway needs. A client that is refused may be told
/// while it
/// still connects.
fn try_client(ringway: &Ringway, number: usize) -> std::io::Result<Peer> {
    Peer::connect_from(Some(&format!("127.3.3.3:{}", 2000 + number)), ringway.address())
}

fn client(ringway: &Ringway, number: usize) -> Peer {
    try_client(ringway, number).unwrap()
}

/// R18: whatever the kernel answers immediately, the next backend is tried immediately, and the reason has its name.
#[test]
fn a_backend_without_a_route_costs_its_clients_nothing() {
    network::within_own(|| {
        for kind in ["unreachable", "prohibit", "blackhole"] {
            network::run(&format!("ip route add {kind} 10.80.{}.1/32", kind.len()));
        }
        let backend = Backend::named("good");
        let routes = [
            ("10.80.11.1:80", "unreachable"), // EHOSTUNREACH
            ("10.80.8.1:80", "unreachable"),  // EACCES
            ("10.80.9.1:80", "unreachable"),  // EINVAL
            ("10.81.0.1:80", "unreachable"),  // ENETUNREACH
        ];
        let plan = Ringway::before(routes.iter().map(|(address, _)| *address).chain([backend.address()]));
        let ringway = plan.pool("connect_attempts = 5").never_ejecting().start();
        for number in 0..50 {
            let (took, ()) = timed(|| client(&ringway, number).expect(b"good"));
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        let metrics = ringway.metrics();
        for ((_, reason), name) in routes.iter().zip(["a", "b", "c", "d"]) {
            let failed = metrics.count("backend_connect_errors_total", &[("backend", name), ("reason", reason)]);
            assert!(failed >= 10, "{name}: {failed}");
            let all = metrics.count("backend_connect_errors_total", &[("backend", name)]);
            assert_eq!(all, failed, "{name} has no other reason");
        }
        drop(ringway);
    });
}

/// A virtual address that moves to this host later, as keepalived moves it.
#[test]
fn a_listener_waits_on_an_address_that_comes_later() {
    network::within_own(|| {
        let backend = Backend::named("a");
        let bind = "[\"192.0.2.9:7000\", \"[2001:db8::9]:7000\"]";
        let plan = Ringway::before([backend.address()]).bind(bind).listener("freebind = true");
        let ringway = plan.start();
        assert!(std::net::TcpStream::connect("192.0.2.9:7000").is_err(), "nobody has it yet");
        network::run("ip address add 192.0.2.9/32 dev lo");
        network::run("ip address add 2001:db8::9/128 dev lo nodad");
        for address in ["192.0.2.9:7000", "[2001:db8::9]:7000"] {
            wait_until("the address is there", || std::net::TcpStream::connect(address).is_ok());
            Peer::connect(address).expect(b"a");
        }
        // Another ringway that takes over binds it, too.
        network::run("ip address del 192.0.2.9/32 dev lo");
        let new = ringway.successor(|text| text.replace("[pools.main]\n", "[pools.main]\nidle_timeout = \"2h\"\n"));
        network::run("ip address add 192.0.2.9/32 dev lo");
        Peer::connect("192.0.2.9:7000").expect(b"a");
        assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
        drop(new);
    });
}

/// Clients that come by one interface are served by its listener, all others by the one beside it; also after a
/// take-over, and after a reload that changes the interface.
#[test]
fn a_listener_of_one_interface_has_its_clients_and_no_others() {
    network::within_own(|| {
        let [outside, inside] = ["o", "i"].map(Backend::named);
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (answer, answered) = std::sync::mpsc::channel::<Vec<u8>>();
        let neighbour = network::neighbour("veth7", "10.70.0.1", "10.70.0.2", move || {
            asked.iter().for_each(|()| answer.send(served_by("10.70.0.1:7000")).unwrap());
            || ()
        });
        // It goes first, also after a failure, so that the neighbour ends.
        let ask = ask;
        let more = format!(
            "[listeners.inside]\nbind = \"0.0.0.0:7000\"\ninterface = \"veth7\"\npool = \"inside\"\n\
             [pools.inside]\nbackends = [{{ address = \"{}\" }}]",
            inside.address()
        );
        let ringway = Ringway::before([outside.address()]).bind("\"0.0.0.0:7000\"").more(&more).start();
        let expect = |by_loopback: &str, by_cable: &str| {
            for _ in 0..8 {
                assert_eq!(served_by("127.0.0.1:7000"), by_loopback.as_bytes());
                assert_eq!(served_by("10.70.0.1:7000"), by_cable.as_bytes(), "by the interface that has the address");
                ask.send(()).unwrap();
                assert_eq!(answered.recv_timeout(PATIENCE).unwrap(), by_cable.as_bytes());
            }
        };
        let listeners = ringway.api().get("/v1/listeners");
        assert_eq!(listeners["listeners"][1]["interface"], "veth7", "{listeners}");
        expect("o", "i");
        let new = ringway.successor(|text| text);
        assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
        expect("o", "i");
        new.edit(|text| text.replace("\"veth7\"", "\"lo\""));
        assert!(new.reload());
        expect("i", "o");
        new.edit(|text| text.replace("\"lo\"", "\"gone\""));
        assert!(!new.reload());
        new.wait_said("0.0.0.0:7000 on gone: this host has no interface of that name");
        expect("i", "o");
        drop(ask);
        drop(neighbour);
    });
}

/// What the first byte says of the backend.
fn served_by(address: &str) -> Vec<u8> {
    Peer::connect(address).read_some(1).unwrap()
}

/// R17: the kernel asks again after one second and after three, so a lossy way costs time and few sessions.
#[test]
fn half_of_all_connects_lost_costs_time_and_no_session() {
    network::within_own(|| {
        let backends = ["a", "b", "c"].map(Backend::named);
        let plan = Ringway::before(backends.iter().map(Backend::address)).pool("connect_timeout = \"4s\"");
        let ringway = plan.never_ejecting().start();
        network::run("nft add table ip faults");
        network::run("nft add chain ip faults out { type filter hook output priority 0 ; }");
        let lossy = "nft add rule ip faults out tcp dport 7300 tcp flags & (syn|ack) == syn numgen random mod 2 0 drop";
        network::run(lossy);
        let clients: Vec<Peer> = (0..60).map(|number| client(&ringway, number)).collect();
        let is_served = |mut client: Peer| matches!(client.read_some(1), Ok(byte) if byte.len() == 1);
        let (took, served) = timed(|| clients.into_iter().map(is_served).filter(|served| *served).count());
        assert!(served >= 59, "one in a hundred may meet three lost in a row at three backends: {served}");
        assert!(took >= Duration::from_millis(900), "nothing was lost: {took:?}");
        let failed = ringway.metrics().count("backend_connect_errors_total", &[("reason", "timeout")]);
        let retried = ringway.metrics().count("pool_retries_total", &[]);
        assert!(retried <= failed, "{retried} retries after {failed} time-outs");
    });
}

/// On a host without IPv6 an address of that family is of no use, and that is not for want of ports.
#[test]
fn an_address_of_a_family_that_this_host_does_not_speak_is_ejected() {
    network::within_own(|| {
        network::set("net.ipv6.conf.all.disable_ipv6", "1");
        let a = Backend::named("a");
        let plan = Ringway::before([a.address(), "[fd00::1]:7300"]).workers(1);
        let ringway = plan.more("[pools.main.ejection]\nfailures = 3\nduration = \"60s\"").start();
        let ejected = [("backend", "b"), ("state", "ejected")];
        let mut number = 0;
        ringway.wait_metrics("it is ejected", |metrics| {
            assert_eq!(client(&ringway, number).read_some(1).unwrap(), b"a", "every session is served");
            number += 1;
            metrics.count("backend_state", &ejected) == 1
        });
        let failed = |reason| ringway.metrics().count("backend_connect_errors_total", &[("reason", reason)]);
        assert_eq!((failed("resource"), failed("unreachable") >= 3), (0, true));
    });
}

/// R31: ports are counted by destination, so other backends are served, and a client that finds none is told why.
#[test]
fn without_a_port_left_another_backend_is_tried_and_a_freed_port_is_used_at_once() {
    network::within_own(|| {
        let [a, b] = ["a", "b"].map(Backend::named);
        let ringway = Ringway::before([a.address(), b.address()]).workers(1).start();
        network::set("net.ipv4.ip_local_port_range", "40000 40003");
        let mut held: Vec<Peer> = (0..8).map(|number| client(&ringway, number)).collect();
        let mut names: Vec<Vec<u8>> = held.iter_mut().map(|client| client.read_some(1).unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names.concat(), b"aaaabbbb", "four ports to each");
        let told = try_client(&ringway, 8).map_or(End::Reset, |mut client| client.end());
        assert_eq!(told, End::Reset);
        ringway.expect_code("RC", 1);
        let metrics = ringway.metrics();
        assert_eq!(metrics.count("backend_connect_errors_total", &[("reason", "resource")]), 2);
        let up = |name| metrics.count("backend_state", &[("backend", name), ("state", "up")]);
        assert_eq!((up("a"), up("b")), (1, 1), "it is not the backends' fault");
        drop(held.pop());
        ringway.wait_metrics("a port is free", |metrics| metrics.count("backend_connections", &[]) == 7);
        // The end that closes first keeps the port for a while; that is the client's side here, and ringway's after it.
        network::set("net.ipv4.tcp_tw_reuse", "1");
        let served = (9..60).any(|number| {
            std::thread::sleep(Duration::from_millis(50));
            let first = try_client(&ringway, number).and_then(|mut client| client.read_some(1));
            matches!(first, Ok(byte) if !byte.is_empty())
        });
        assert!(served);
    });
}
