//! Backends that come and go, hang, or are all gone: clients notice as little as can be.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::dns::{is_refused, session, states};
use crate::harness::{Backend, End, Ringway, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

#[track_caller]
fn wait_states(ringway: &Ringway, expected: &[(&str, &'static str)]) {
    let expected: Vec<_> = expected.iter().map(|(name, state)| (name.to_string(), *state)).collect();
    wait_until(&format!("{expected:?}"), || states(ringway) == expected);
}

/// R42: a connect that fails goes to another backend, so the time until a check notices costs no client its session.
#[test]
fn clients_are_served_while_a_backend_flaps() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let address = b.address().to_string();
    let ringway = Ringway::before([a.address(), &address]).checked(2, 2).start();
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // A session that `b` had accepted when it was killed ends with it, and has no name.
                if !session(&ringway).1.is_empty() {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut b = Some(b);
        for _ in 0..6 {
            b.take().unwrap().kill();
            wait_states(&ringway, &[("a", "up"), ("b", "down")]);
            b = Some(Backend::named_at(&address, "b"));
            wait_states(&ringway, &[("a", "up"), ("b", "up")]);
        }
        is_over.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
    let metrics = ringway.metrics();
    assert_eq!(metrics.ended("SC"), 0, "nobody was turned away: {:?}", metrics.codes());
    assert!(served.load(Ordering::Relaxed) > 100);
    let downs = metrics.count("backend_transitions_total", &[("backend", "b"), ("to", "down")]);
    assert_eq!(downs, 6, "each going and coming counts once");
}

/// R43: refused immediately, and served again immediately.
#[test]
fn when_all_are_down_clients_are_refused_until_one_is_back() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let address = a.address().to_string();
    let ringway = Ringway::before([address.as_str(), b.address()]).checked(1, 1).start();
    let (mut client, _) = session(&ringway);
    a.kill();
    b.kill();
    wait_states(&ringway, &[("a", "down"), ("b", "down")]);
    assert_eq!(client.end(), End::Reset);
    let (took, refused) = timed(|| is_refused(&ringway));
    assert!(refused && took < 200 * MS, "{took:?}");
    let before = ringway.metrics().count("backend_connect_errors_total", &[]);
    assert!((0..10).all(|_| is_refused(&ringway)));
    assert_eq!(ringway.metrics().count("backend_connect_errors_total", &[]), before, "nobody was asked");
    let _a = Backend::named_at(&address, "a");
    wait_states(&ringway, &[("a", "up"), ("b", "down")]);
    assert_eq!(session(&ringway).1, "a");
}

/// What is down may be used if nothing else is there, and then its sessions live.
#[test]
fn use_all_keeps_the_sessions_it_allows() {
    let checks = [(); 2].map(|()| Backend::at(&format!("{}:7400", crate::harness::address::own_ip()), |_, _| {}));
    let ip = |check: &Backend| check.address().rsplit_once(':').unwrap().0.to_string();
    let [a, b] = [("a", &checks[0]), ("b", &checks[1])]
        .map(|(name, check)| Backend::named_at(&format!("{}:7300", ip(check)), name));
    let ringway = Ringway::before([a.address(), b.address()])
        .checked(1, 1)
        .check("port = 7400")
        .pool("when_all_down = \"use_all\"")
        .start();
    let [check_a, check_b] = checks;
    check_a.kill();
    wait_states(&ringway, &[("a", "down"), ("b", "up")]);
    let address = check_b.address().to_string();
    check_b.kill();
    wait_states(&ringway, &[("a", "down"), ("b", "down")]);
    let mut held: Vec<_> = (0..4).map(|_| session(&ringway)).collect();
    assert!(held.iter().any(|(_, name)| name == "a") && held.iter().any(|(_, name)| name == "b"));
    for (client, _) in &mut held {
        client.send(b"x");
        client.expect(b"x");
    }
    let _check_b = Backend::at(&address, |_, _| {});
    wait_states(&ringway, &[("a", "down"), ("b", "up")]);
    for (client, _) in &mut held {
        client.send(b"x");
        client.expect(b"x");
    }
}

/// The decision is one table; every worker acts on it immediately.
#[test]
fn sessions_end_on_every_worker_within_a_tenth_of_a_second_of_the_decision() {
    let (a, b) = (Backend::echo(), Backend::named("b"));
    let checks_of = |backend: &Backend| format!("{}:7400", backend.address().rsplit_once(':').unwrap().0);
    let [check, _takes_them] = [&a, &b].map(|backend| Backend::at(&checks_of(backend), |_, _| {}));
    let ringway = Ringway::plan()
        .workers(3)
        .backend("a", a.address(), "")
        .backend("b", b.address(), "backup = true")
        .checked(1, 1)
        .check("port = 7400")
        .start();
    wait_states(&ringway, &[("a", "up"), ("b", "up")]);
    ringway.wait_checks("b", 1);
    let mut clients: Vec<_> = (0..30).map(|_| ringway.connect()).collect();
    for client in &mut clients {
        client.send(b"x");
        client.expect(b"x");
    }
    check.kill();
    wait_until("a is down", || ringway.process().output().contains("backend is down"));
    // Which it is once a later check of the other one has succeeded.
    assert_eq!(clients[0].end(), End::Reset);
    let (took, ()) = timed(|| clients.iter_mut().skip(1).for_each(|client| assert_eq!(client.end(), End::Reset)));
    assert!(took < 100 * MS, "{took:?}");
    ringway.wait_metrics("all of them", |metrics| metrics.ended("DD") == 30);
}
