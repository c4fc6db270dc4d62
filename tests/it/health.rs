//! TCP health checks take a dead backend out and bring it back; what becomes of its sessions is a choice.

use std::time::Duration;

use crate::harness::address::own_ip;
use crate::harness::backend::echo;
use crate::harness::{Backend, End, Listener, Peer, Ringway, timed};

const MS: Duration = Duration::from_millis(1);

fn wait_up(ringway: &Ringway, backend: &str, up: u64) -> Duration {
    let is_so = |metrics: &crate::harness::Metrics| metrics.count("backend_up", &[("backend", backend)]) == up;
    timed(|| ringway.wait_metrics(&format!("{backend} is {up}"), is_so)).0
}

fn greeting(ringway: &Ringway) -> Vec<u8> {
    ringway.connect().read_some(8).unwrap()
}

#[test]
fn a_killed_backend_is_taken_out_and_brought_back() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let address = b.address().to_string();
    let ringway = Ringway::before([a.address(), b.address()]).checked(2, 2).start();
    ringway.wait_metrics("both were checked", |metrics| {
        metrics.by("backend_checks_total", "backend").iter().filter(|(_, count)| *count > 0).count() >= 2
    });
    b.kill();
    let took = wait_up(&ringway, "b", 0);
    assert!(took < 2000 * MS, "{took:?}");
    for _ in 0..20 {
        assert_eq!(greeting(&ringway), b"a");
    }
    let before = ringway.metrics().count("backend_connect_errors_total", &[("backend", "b")]);
    let b = Backend::named_at(&address, "b");
    let took = wait_up(&ringway, "b", 1);
    assert!(took >= 40 * MS && took < 2000 * MS, "{took:?}: two successes, 50 ms apart");
    let names: Vec<_> = (0..10).map(|_| greeting(&ringway)).collect();
    assert_eq!(names.iter().filter(|name| *name == b"b").count(), 5, "it has its share again");
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_connect_errors_total", &[("backend", "b")]), before);
    let transitions = |to| metrics.count("backend_transitions_total", &[("backend", "b"), ("to", to)]);
    assert_eq!((transitions("down"), transitions("up")), (1, 1));
    let codes = metrics.codes();
    assert!(codes.iter().all(|(code, _)| code == "--"), "no client noticed: {codes:?}");
    drop(b);
}

/// A session of a backend whose listener then goes away, with both ends.
fn stranded(on_backend_down: &str) -> (Ringway, Backend, Peer, Peer) {
    let (listener, other) = (Listener::new(), Backend::named("other"));
    let ringway = Ringway::plan()
        .backend("a", listener.address(), "")
        .backend("b", other.address(), "backup = true")
        .checked(2, 2)
        .pool(&format!("on_backend_down = \"{on_backend_down}\"\nbalance = \"round_robin\""))
        .start();
    // Checks connect, too, and say nothing.
    let mut client = ringway.connect();
    client.send(b"me");
    let mut server = listener.accept();
    while !matches!(server.read_some(2), Ok(bytes) if bytes == b"me") {
        server = listener.accept();
    }
    drop(listener);
    wait_up(&ringway, "a", 0);
    (ringway, other, client, server)
}

#[test]
fn sessions_of_a_backend_that_goes_down_are_reset() {
    let (ringway, _other, mut client, mut server) = stranded("close");
    assert_eq!((client.end(), server.end()), (End::Reset, End::Reset));
    ringway.expect_code("DD", 1);
}

#[test]
fn sessions_of_a_backend_that_goes_down_may_be_kept() {
    let (ringway, _other, mut client, mut server) = stranded("keep");
    assert!(client.is_silent_for(100 * MS));
    server.send(b"still here");
    client.expect(b"still here");
    client.finish();
    assert_eq!(server.end(), End::Fin);
    drop(server);
    assert_eq!(client.end(), End::Fin);
    ringway.expect_code("--", 1);
}

/// A4: what answers the checks of both is gone, and the servers are not.
#[test]
fn checkers_that_die_cut_no_session() {
    let addresses = [own_ip(), own_ip()];
    let checkers = addresses.map(|ip| Backend::at(&format!("{ip}:7400"), |_, _| {}));
    let backends = addresses.map(|ip| Backend::at(&format!("{ip}:7300"), |peer, _| echo(peer)));
    let plan = Ringway::before(backends.each_ref().map(|backend| backend.address()));
    let ringway = plan.checked(2, 2).check("port = 7400").start();
    let mut clients: Vec<Peer> = (0..40).map(|_| ringway.connect()).collect();
    let mut speak = || {
        clients.iter_mut().for_each(|client| {
            client.send(b"x");
            client.expect(b"x");
        });
    };
    speak();
    checkers.into_iter().for_each(Backend::kill);
    wait_up(&ringway, "a", 0);
    wait_up(&ringway, "b", 0);
    ringway.wait_checks("a", 5);
    speak();
}

/// A check that only connects must not look like a broken client to its backend: the backend does not see it at all.
#[test]
fn checks_that_only_connect_are_never_accepted() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).checked(2, 2).start();
    ringway.wait_checks("a", 20);
    assert!(listener.accept_within(250 * MS).is_none(), "nor later, when an acknowledgement would be overdue");
    let metrics = ringway.metrics();
    assert_eq!(metrics.count("backend_checks_total", &[("result", "failure")]), 0);
    assert_eq!(metrics.count("backend_up", &[]), 1);
}

/// What is said to a server is a whole connection, which ends as a polite client ends it.
#[test]
fn checks_that_speak_end_their_connections_cleanly() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).checks("type = \"send_expect\"\nexpect = '^220 '").start();
    for _ in 0..5 {
        let mut check = listener.accept();
        check.send(b"220 a greeting\r\n");
        assert_eq!(check.end(), End::Fin);
    }
    assert_eq!(ringway.metrics().count("backend_checks_total", &[("result", "failure")]), 0);
}

/// `initial = "down"`: no client before the first success.
#[test]
fn a_backend_that_starts_down_waits_for_its_first_check() {
    let backend = Backend::named("a");
    let hole = crate::harness::backend::BlackHole::new();
    let ringway = Ringway::before([backend.address(), hole.listener.address()]).checked(2, 2);
    let ringway = ringway.check("initial = \"down\"\ntimeout = \"20s\"").start();
    wait_up(&ringway, "a", 1);
    for _ in 0..10 {
        assert_eq!(greeting(&ringway), b"a");
    }
    assert_eq!(ringway.metrics().count("backend_up", &[]), 1, "the other one has not answered");
}

/// No byte has moved yet, so nothing is lost by taking another one.
#[test]
fn a_session_that_is_connecting_to_a_backend_that_goes_down_gets_another_one() {
    let (hole, backend) = (crate::harness::backend::BlackHole::new(), Backend::named("b"));
    let ringway = Ringway::before([hole.listener.address(), backend.address()])
        .checked(2, 2)
        .check("timeout = \"400ms\"")
        .pool("connect_timeout = \"20s\"")
        .start();
    let mut clients = [ringway.connect(), ringway.connect()];
    let (took, ()) = timed(|| clients.iter_mut().for_each(|client| client.expect(b"b")));
    assert!(took > 200 * MS && took < 2000 * MS, "{took:?}: as soon as the check has failed");
    assert_eq!(ringway.metrics().count("pool_retries_total", &[]), 1);
}

/// Each first check of these backends publishes a table, while clients are being connected.
#[test]
fn clients_that_come_while_tables_change_are_served() {
    for _ in 0..4 {
        let backend = Backend::named("hi");
        let dead: Vec<String> = (0..25).map(|_| crate::harness::address::refusing()).collect();
        let addresses = dead.iter().map(String::as_str).chain([backend.address()]);
        let ringway = Ringway::before(addresses).checked(2, 2).pool("connect_attempts = 26").start();
        for _ in 0..40 {
            ringway.connect().expect(b"hi");
        }
        ringway.wait_idle();
        let errors = ringway.metrics().by("backend_connect_errors_total", "reason");
        assert!(errors.iter().all(|(reason, count)| reason == "refused" || *count == 0), "{errors:?}");
    }
}

/// Control waits for what may happen; it does not look whether it has.
#[test]
fn control_sleeps_while_nothing_happens() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    assert_eq!(greeting(&ringway), b"a");
    let sleeps = || ringway.process().sleeps("ringway-control");
    let quiet = || {
        let before = sleeps();
        std::thread::sleep(500 * MS);
        sleeps() - before
    };
    // What it did at its start may not be over in the first half second.
    let all: Vec<u64> = (0..4).map(|_| quiet()).collect();
    assert!(all.iter().any(|count| *count <= 1), "woken {all:?} times in half a second each");
}
