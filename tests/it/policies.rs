//! Fail-over, backups, random choice, bounded loads, and what happens when no backend is up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::address::refusing;
use crate::harness::{Backend, End, Peer, Ringway, wait_until};

/// The backend of a new session, and the session.
fn session(ringway: &Ringway) -> (Peer, String) {
    let mut client = ringway.connect();
    let name = String::from_utf8(client.read_some(16).unwrap_or_default()).unwrap();
    (client, name)
}

fn names(ringway: &Ringway, sessions: usize) -> Vec<String> {
    (0..sessions).map(|_| session(ringway).1).collect()
}

fn wait_up(ringway: &Ringway, backend: &str, up: u64) {
    ringway.wait_metrics(&format!("{backend} is {up}"), |metrics| {
        metrics.count("backend_up", &[("backend", backend)]) == up
    });
}

#[test]
fn failover_stays_with_the_chosen_one_and_does_not_go_back() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let address = a.address().to_string();
    let plan = Ringway::before([a.address(), b.address(), c.address()]).checked(1, 1);
    let ringway = plan.pool("balance = \"failover\"").start();
    assert_eq!(names(&ringway, 10), ["a"; 10]);
    a.kill();
    wait_up(&ringway, "a", 0);
    assert_eq!(names(&ringway, 10), ["b"; 10]);
    let (mut held, name) = session(&ringway);
    assert_eq!(name, "b");
    let _a = Backend::named_at(&address, "a");
    wait_up(&ringway, "a", 1);
    assert_eq!(names(&ringway, 10), ["b"; 10], "a is back, and b is still there");
    held.send(b"still there");
    held.expect(b"still there");
    b.kill();
    wait_up(&ringway, "b", 0);
    assert_eq!(names(&ringway, 10), ["a"; 10], "now the first one again");
}

#[test]
fn a_session_that_cannot_connect_to_the_chosen_one_goes_on_to_the_next() {
    let b = Backend::named("b");
    let plan = Ringway::before([&refusing(), b.address()]).pool("balance = \"failover\"");
    let ringway = plan.never_ejecting().start();
    assert_eq!(names(&ringway, 20), ["b"; 20]);
    assert_eq!(ringway.metrics().count("pool_retries_total", &[]), 20);
}

#[test]
fn backups_take_over_exactly_while_no_other_is_up() {
    for balance in ["round_robin", "least_conn", "consistent_hash", "random", "failover"] {
        let [a, b, c] = ["a", "b", "c"].map(Backend::named);
        let address = b.address().to_string();
        let ringway = Ringway::plan()
            .backend("a", a.address(), "backup = true")
            .backend("b", b.address(), "")
            .backend("c", c.address(), "weight = 0")
            .checked(1, 1)
            .pool(&format!("balance = \"{balance}\""))
            .start();
        assert_eq!(names(&ringway, 10), ["b"; 10], "{balance}");
        b.kill();
        wait_up(&ringway, "b", 0);
        assert_eq!(names(&ringway, 10), ["a"; 10], "{balance}");
        let _b = Backend::named_at(&address, "b");
        wait_up(&ringway, "b", 1);
        assert_eq!(names(&ringway, 10), ["b"; 10], "{balance}: back at once");
    }
}

#[test]
fn backups_of_a_level_take_over_exactly_while_no_lower_level_is_up() {
    for balance in ["round_robin", "failover"] {
        let [main, first, second] = ["main", "first", "second"].map(Backend::named);
        let [main_address, first_address] = [&main, &first].map(|backend| backend.address().to_string());
        let ringway = Ringway::plan()
            .backend("second", second.address(), "backup = 2")
            .backend("main", &main_address, "")
            .backend("first", &first_address, "backup = true")
            .checked(1, 1)
            .pool(&format!("balance = \"{balance}\""))
            .start();
        assert_eq!(names(&ringway, 10), ["main"; 10], "{balance}");
        main.kill();
        wait_up(&ringway, "main", 0);
        assert_eq!(names(&ringway, 10), ["first"; 10], "{balance}");
        first.kill();
        wait_up(&ringway, "first", 0);
        assert_eq!(names(&ringway, 10), ["second"; 10], "{balance}");
        let _first = Backend::named_at(&first_address, "first");
        wait_up(&ringway, "first", 1);
        assert_eq!(names(&ringway, 10), ["first"; 10], "{balance}: level 1 is back");
        let _main = Backend::named_at(&main_address, "main");
        wait_up(&ringway, "main", 1);
        assert_eq!(names(&ringway, 10), ["main"; 10], "{balance}: back at once");
    }
}

/// With levels a session goes through them in order.
#[test]
fn a_session_that_no_backup_of_level_1_accepts_goes_on_to_level_2() {
    let last = Backend::named("last");
    let ringway = Ringway::before([refusing().as_str()])
        .backend("y", last.address(), "backup = 2")
        .backend("x", &refusing(), "backup = 1")
        .never_ejecting()
        .start();
    assert_eq!(names(&ringway, 10), ["last"; 10]);
    assert_eq!(ringway.metrics().count("pool_retries_total", &[]), 20);
}

/// With one writer there must not be two of them for long.
#[test]
fn sessions_on_a_backup_make_room_when_the_main_backend_is_back_if_the_pool_says_so() {
    for (on_main_up, code) in [("close", "UD"), ("keep", "--")] {
        let [a, b] = ["a", "b"].map(Backend::named);
        let address = a.address().to_string();
        let ringway = Ringway::before([a.address()])
            .backend("b", b.address(), "backup = true")
            .checked(2, 1)
            .pool(&format!("on_main_up = \"{on_main_up}\""))
            .start();
        a.kill();
        wait_up(&ringway, "a", 0);
        let mut held: Vec<Peer> = (0..20).map(|_| session(&ringway).0).collect();
        let _a = Backend::named_at(&address, "a");
        wait_up(&ringway, "a", 1);
        match code {
            "UD" => held.iter_mut().for_each(|client| assert_eq!(client.end(), End::Reset)),
            _ => held.iter_mut().for_each(|client| {
                client.send(b"still there");
                client.expect(b"still there");
            }),
        }
        drop(held);
        ringway.expect_code(code, 20);
        assert_eq!(names(&ringway, 10), ["a"; 10], "{on_main_up}");
    }
}

#[test]
fn a_backup_comes_within_a_session_when_every_other_failed_to_connect() {
    let backup = Backend::named("backup");
    let plan =
        Ringway::before([refusing().as_str(), refusing().as_str()]).backend("z", backup.address(), "backup = true");
    let ringway = plan.pool("connect_attempts = 3").never_ejecting().start();
    assert_eq!(names(&ringway, 10), ["backup"; 10]);
    assert_eq!(ringway.metrics().count("pool_retries_total", &[]), 20);
}

/// R43.
#[test]
fn when_all_are_down_nobody_gets_a_backend_unless_the_pool_says_so() {
    // Its checks fail although it serves: they go to another port, where nothing listens.
    for (when_all_down, expected) in [("refuse", ""), ("use_all", "a")] {
        let backend = Backend::named("a");
        let ringway = Ringway::before([backend.address()])
            .checked(1, 1)
            .check("port = 9")
            .pool(&format!("when_all_down = \"{when_all_down}\"\nbalance = \"random\""))
            .start();
        wait_up(&ringway, "a", 0);
        match expected {
            "" => {
                assert_eq!(ringway.turned_away(), End::Reset);
                ringway.expect_code("SC", 1);
            }
            _ => assert_eq!(session(&ringway).1, expected),
        }
    }
}

/// Of two random ones the less loaded: nearly even, on two workers.
#[test]
fn random_keeps_open_sessions_nearly_even() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let plan = Ringway::before(backends.iter().map(Backend::address)).workers(2);
    let ringway = plan.pool("balance = \"random\"").start();
    let held: Vec<(Peer, String)> = (0..80).map(|_| session(&ringway)).collect();
    let mut counts = BTreeMap::new();
    held.iter().for_each(|(_, name)| *counts.entry(name.as_str()).or_insert(0) += 1);
    assert!(counts.len() == 4 && counts.values().all(|count| (16..=24).contains(count)), "{counts:?}");
}

#[test]
fn a_bounded_hash_spreads_a_client_that_comes_often() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let plan = Ringway::before(backends.iter().map(Backend::address)).workers(2);
    let ringway = plan.pool("balance = \"consistent_hash\"\nhash_balance_factor = 150").start();
    let held: Vec<(Peer, String)> = (0..40).map(|_| session(&ringway)).collect();
    let mut counts = BTreeMap::new();
    held.iter().for_each(|(_, name)| *counts.entry(name.as_str()).or_insert(0) += 1);
    assert!(counts.values().all(|count| *count <= 15), "150 % of a quarter: {counts:?}");
    let home = held[0].1.clone();
    drop(held);
    ringway.wait_idle();
    for _ in 0..5 {
        assert_eq!(session(&ringway).1, home, "while there is little to do, everybody is at home");
        ringway.wait_idle();
    }
}

#[test]
fn explain_says_what_then_happens() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let plan = Ringway::before(backends.iter().map(Backend::address)).pool("balance = \"consistent_hash\"");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), plan.to_toml()).unwrap();
    let ringway = plan.start();
    for client in (1..=12).map(|host| format!("127.77.9.{host}")) {
        let mut command = Ringway::command();
        let command = command.arg("explain").arg(file.path()).args(["--listener", "main", "--client", &client]);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mut peer = Peer::connect_from(Some(&format!("{client}:0")), ringway.address()).unwrap();
        let name = String::from_utf8(peer.read_some(16).unwrap()).unwrap();
        assert!(output.contains(&format!("backend   {name},")), "{client} got {name}: {output}");
    }
}

#[test]
fn a_backend_that_comes_back_starts_slowly_and_one_that_is_new_does_not() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let address = b.address().to_string();
    let plan = Ringway::before([a.address(), b.address()]).checked(1, 1);
    let ringway = plan.pool("slow_start = \"3s\"").never_ejecting().start();
    let share = |sessions: usize| names(&ringway, sessions).iter().filter(|name| *name == "b").count();
    wait_up(&ringway, "b", 1);
    assert_eq!(share(40), 20, "never at the start of the process");
    b.kill();
    wait_up(&ringway, "b", 0);
    let _b = Backend::named_at(&address, "b");
    wait_up(&ringway, "b", 1);
    let begun = Instant::now();
    let (mut early, mut all) = (0, 0);
    while begun.elapsed() < Duration::from_millis(500) {
        early += share(1);
        all += 1;
    }
    assert!(early * 6 < all, "{early} of {all} in the first sixth of its slow start");
    wait_until("it has its whole share", || share(40) == 20);
    assert!(begun.elapsed() > Duration::from_millis(1500), "that takes its time");
}
