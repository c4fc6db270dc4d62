//! Backends that refuse real traffic are taken out for a while, whatever their checks say (R40).

use std::time::Duration;

use crate::dns::{is_refused, serving, session, states};
use crate::harness::address::own_ip;
use crate::harness::backend::BlackHole;
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Listener, Peer, Ringway, median, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// `a`, which has a port for checks and none for sessions, and `b`, which has both.
struct Half {
    address: String,
    b: Backend,
    _checks: [Backend; 2],
}

impl Half {
    fn new() -> Half {
        let (a, b) = (own_ip(), own_ip());
        let checks = [a, b].map(|ip| Backend::at(&format!("{ip}:7400"), |_, _| {}));
        Half { address: format!("{a}:7300"), b: Backend::named_at(&format!("{b}:7300"), "b"), _checks: checks }
    }

    /// Checks come every `interval`.
    fn plan(&self, interval: &str) -> Plan {
        Ringway::before([self.address.as_str(), self.b.address()]).checked_every(interval).check("port = 7400")
    }
}

fn failed(ringway: &Ringway) -> u64 {
    ringway.metrics().count("backend_connect_errors_total", &[("backend", "a")])
}

#[track_caller]
fn wait_state(ringway: &Ringway, state: &'static str) {
    wait_until(&format!("a is {state}"), || states(ringway).contains(&("a".into(), state)));
}

/// Sessions until `a` is out; each of them is served all the same.
#[track_caller]
fn provoke(ringway: &Ringway) {
    wait_until("a is ejected", || {
        assert_eq!(session(ringway).1, "b");
        states(ringway).contains(&("a".into(), "ejected"))
    });
}

#[test]
fn a_backend_that_refuses_is_out_for_a_while_and_comes_back() {
    let half = Half::new();
    let ejection = "[pools.main.ejection]\nfailures = 3\nduration = \"2s\"";
    let ringway = half.plan("1h").more(ejection).start();
    provoke(&ringway);
    let before = failed(&ringway);
    assert!((3..=8).contains(&before), "{before} connects failed");
    assert!((0..20).all(|_| session(&ringway).1 == "b"));
    assert_eq!(failed(&ringway), before, "nobody tries it any more");
    assert!(ringway.process().output().contains("connects failed within 10s"), "{}", ringway.process().output());
    let _a = Backend::named_at(&half.address, "a");
    wait_state(&ringway, "up");
    assert_eq!(serving(&ringway), ["a".to_string(), "b".to_string()].into());
    assert_eq!(failed(&ringway), before);
}

#[test]
fn a_good_check_ends_it() {
    let half = Half::new();
    let ringway = half.plan("400ms").more("[pools.main.ejection]\nfailures = 3\nduration = \"1h\"").start();
    provoke(&ringway);
    let _a = Backend::named_at(&half.address, "a");
    wait_state(&ringway, "up");
    assert_eq!(serving(&ringway), ["a".to_string(), "b".to_string()].into());
}

#[test]
fn an_ejected_backend_keeps_its_sessions() {
    let half = Half::new();
    let listener = Listener::at(&half.address);
    let ringway = half.plan("1h").more("[pools.main.ejection]\nfailures = 2").start();
    let mut client = ringway.connect();
    let mut server = listener.accept_within(300 * MS);
    while server.is_none() {
        client = ringway.connect();
        server = listener.accept_within(300 * MS);
    }
    drop(listener);
    provoke(&ringway);
    let mut server = server.unwrap();
    server.send(b"still here");
    client.expect(b"still here");
    assert!(client.is_silent_for(200 * MS));
}

#[test]
fn the_last_backend_is_never_ejected() {
    let address = format!("{}:7300", own_ip());
    let ringway = Ringway::before([address.as_str()]).more("[pools.main.ejection]\nfailures = 1").start();
    for _ in 0..10 {
        assert!(is_refused(&ringway));
    }
    ringway.wait_metrics("all failed", |metrics| metrics.ended("SC") == 10);
    assert_eq!(states(&ringway), [("a".into(), "up")]);
    let _a = Backend::named_at(&address, "a");
    assert_eq!(session(&ringway).1, "a", "at once");
}

#[test]
fn zero_failures_is_off() {
    let half = Half::new();
    let ringway = half.plan("1h").never_ejecting().start();
    wait_until("many failed", || {
        assert_eq!(session(&ringway).1, "b");
        failed(&ringway) > 20
    });
    assert!(states(&ringway).contains(&("a".into(), "up")));
}

/// A backend that hangs costs each session the time-out of a connect, until it is ejected (R41).
#[test]
fn a_backend_that_hangs_costs_a_few_sessions_their_patience_and_then_none() {
    let (hole, b) = (BlackHole::new(), Backend::named("b"));
    let ringway = Ringway::before([hole.listener.address(), b.address()])
        .pool("connect_timeout = \"300ms\"")
        .more("[pools.main.ejection]\nfailures = 2\nduration = \"1h\"")
        .start();
    provoke(&ringway);
    let times: Vec<Duration> = (0..20).map(|_| timed(|| assert_eq!(session(&ringway).1, "b")).0).collect();
    let most = *times.iter().max().unwrap();
    assert!(most < 250 * MS && median(times) < 50 * MS, "{most:?}");
}

/// Its checks succeed, it takes every session and serves none; to least_conn and failover it looks best of all.
#[test]
fn a_backend_that_hangs_up_on_its_clients_is_ejected() {
    for (balance, resets) in [("least_conn", false), ("failover", true)] {
        let a = Backend::new(move |peer, _| {
            if resets {
                peer.reset()
            }
        });
        let b = Backend::named("b");
        let plan = Ringway::before([a.address(), b.address()]).pool(&format!("balance = \"{balance}\""));
        let ringway = plan.checked_every("100ms").start();
        let try_connect = || Peer::try_connect(ringway.address());
        let is_served = || try_connect().and_then(|mut client| client.read_some(1)).is_ok_and(|name| name == b"b");
        let served = (0..200).filter(|_| is_served()).count();
        assert!(served >= 150, "{balance}: {served} of 200 were served");
        let metrics = ringway.metrics();
        assert!(metrics.count("backend_hangups_total", &[("backend", "a")]) >= 10);
        assert_eq!(metrics.count("backend_hangups_total", &[("backend", "b")]), 0);
        assert!(states(&ringway).contains(&("a".into(), "ejected")), "and no check brings it back");
        assert!(ringway.process().output().contains("hung up"), "{}", ringway.process().output());
    }
}

/// A client that comes and goes without a word, such as another balancer's check, says nothing about the backend.
#[test]
fn who_hangs_up_first_counts() {
    let (a, b) = (Backend::new(|mut peer, _| assert_eq!(peer.end(), End::Fin)), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).pool("balance = \"failover\"").start();
    for _ in 0..30 {
        let mut client = ringway.connect();
        client.finish();
        client.end();
    }
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("backend_hangups_total", &[]), 0);
    assert!(states(&ringway).contains(&("a".into(), "up")));
}
