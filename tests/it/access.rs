//! Which clients can connect, how often and how many times: rules, limits of a source, limits of a listener. R24, S8.

use std::time::Duration;

use crate::harness::{Backend, End, Peer, Ringway, wait_until};

/// A client from that address.
fn from(ip: &str, ringway: &Ringway) -> std::io::Result<Peer> {
    Peer::connect_from(Some(&format!("{ip}:0")), ringway.address())
}

/// Whether a client from there is served; it stays connected.
fn is_served(ip: &str, ringway: &Ringway, held: &mut Vec<Peer>) -> bool {
    let Ok(mut client) = from(ip, ringway) else { return false };
    let served = matches!(client.read_some(2), Ok(bytes) if !bytes.is_empty());
    if served {
        held.push(client);
    }
    served
}

fn refused(ringway: &Ringway, reason: &str) -> u64 {
    ringway.metrics().count("listener_refused_total", &[("listener", "main"), ("reason", reason)])
}

#[test]
fn rules_let_in_whom_they_name_and_reset_the_rest_before_any_backend_hears() {
    let (backend, folder) = (Backend::named("hi"), tempfile::tempdir().unwrap());
    let log = folder.path().join("access.log");
    let plan = Ringway::before([backend.address()]).access_log(log.to_str().unwrap(), "json");
    let ringway = plan.listener("allow = [\"127.50.0.0/16\"]\ndeny = [\"127.50.3.0/24\", \"127.50.4.7\"]").start();
    let mut held = Vec::new();
    for ip in ["127.50.0.1", "127.50.4.8", "127.50.255.255"] {
        assert!(is_served(ip, &ringway, &mut held), "{ip}");
    }
    for ip in ["127.51.0.1", "127.50.3.9", "127.50.4.7"] {
        assert!(!is_served(ip, &ringway, &mut held), "{ip}");
    }
    ringway.expect_code("PR", 3);
    assert_eq!((refused(&ringway, "deny"), backend.accepted()), (3, 3));
    assert_eq!(ringway.metrics().count("listener_connections_total", &[]), 6, "those who were refused, too");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("a line each", || text().lines().count() == 3);
    assert!(text().lines().all(|line| line.contains("\"termination\":\"PR\"") && line.contains("\"reason\":\"deny\"")));
    // A client that has lost the right to connect goes on with what it has.
    ringway.change("allow = [\"127.50.0.0/16\"]", "allow = [\"127.60.0.0/16\"]");
    assert!(!is_served("127.50.0.1", &ringway, &mut held) && is_served("127.60.0.1", &ringway, &mut held));
    held[0].send(b"still here");
    held[0].expect(b"still here");
}

#[test]
fn a_list_in_a_file_is_read_again_at_a_reload_and_a_bad_one_changes_nothing() {
    let (backend, folder) = (Backend::named("hi"), tempfile::tempdir().unwrap());
    let list = folder.path().join("denied.txt");
    std::fs::write(&list, "127.50.0.0/16 # these\n").unwrap();
    let ringway = Ringway::before([backend.address()]).listener(&format!("deny_file = {list:?}")).start();
    let mut held = Vec::new();
    assert!(!is_served("127.50.0.1", &ringway, &mut held) && is_served("127.51.0.1", &ringway, &mut held));
    std::fs::write(&list, "127.51.0.0/16\n").unwrap();
    assert!(!is_served("127.50.0.1", &ringway, &mut held), "not before a reload");
    assert!(ringway.reload());
    assert!(is_served("127.50.0.1", &ringway, &mut held) && !is_served("127.51.0.1", &ringway, &mut held));
    std::fs::write(&list, "127.50.0.0/16\n127.51.0.1/16\n").unwrap();
    assert!(!ringway.reload());
    ringway.wait_said("denied.txt:2: ");
    assert!(is_served("127.50.0.1", &ringway, &mut held) && !is_served("127.51.0.1", &ringway, &mut held));
}

/// An office behind one address has no limit, the others keep theirs.
#[test]
fn sources_without_limit_are_not_counted() {
    let backend = Backend::named("hi");
    let limits = "source_connections_max = 3\nsource_rate_max = \"5/1h\"\nsource_unlimited = [\"127.50.0.0/16\"]";
    let ringway = Ringway::before([backend.address()]).listener(limits).start();
    let mut held = Vec::new();
    assert_eq!((0..20).filter(|_| is_served("127.50.0.1", &ringway, &mut held)).count(), 20);
    assert_eq!((0..20).filter(|_| is_served("127.51.0.1", &ringway, &mut held)).count(), 3);
    assert_eq!(refused(&ringway, "source_limit"), 17);
}

#[test]
fn unix_clients_are_named_by_a_word_of_their_own() {
    let (backend, folder) = (Backend::named("hi"), tempfile::tempdir().unwrap());
    let path = format!("unix:{}", folder.path().join("in.sock").display());
    for (rule, served) in [("allow = [\"unix:\"]", true), ("deny = [\"unix:\"]", false), ("allow = [\"::/0\"]", false)]
    {
        let plan = Ringway::before([backend.address()]).bind(&format!("{path:?}")).listener(rule);
        let _ringway = plan.listener("source_connections_max = 1").start();
        let mut clients = [Peer::connect(&path), Peer::connect(&path)];
        for client in &mut clients {
            assert_eq!(
                matches!(client.read_some(2), Ok(bytes) if bytes == b"hi"),
                served,
                "{rule}: they are no source"
            );
        }
    }
}

/// R24: exact over workers; others are not affected; a place is free when its connection is closed.
#[test]
fn a_source_has_no_more_connections_than_it_may() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).listener("source_connections_max = 10").start();
    let mut held = Vec::new();
    let served = (0..25).filter(|_| is_served("127.9.9.1", &ringway, &mut held)).count();
    assert_eq!((served, refused(&ringway, "source_limit")), (10, 15));
    let mut others = Vec::new();
    assert!((2..30).all(|last| is_served(&format!("127.9.9.{last}"), &ringway, &mut others)));
    ringway.wait_metrics("the refused are gone", |metrics| metrics.count("connections", &[]) == 38);
    held.drain(..4).for_each(drop);
    ringway.wait_metrics("four have left", |metrics| metrics.count("connections", &[]) == 34);
    let served = (0..9).filter(|_| is_served("127.9.9.1", &ringway, &mut held)).count();
    assert_eq!((served, held.len()), (4, 10));
    drop((held, others));
    ringway.wait_idle();
    let mut held = Vec::new();
    assert_eq!(
        (0..12).filter(|_| is_served("127.9.9.1", &ringway, &mut held)).count(),
        10,
        "nothing was lost count of"
    );
}

/// Clients for many workers, which come and go all the time, never have more connections than they can.
#[test]
fn the_limit_of_a_source_holds_while_clients_race() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).listener("source_connections_max = 5").start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).filter(|_| is_served("127.9.9.1", &ringway, &mut Vec::new())).count());
        }
        scope.spawn(|| {
            for _ in 0..50 {
                // A backend may not have seen yet that one has left.
                let open = ringway.metrics().count("backend_connections", &[]);
                assert!(open <= 5, "{open} at once");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
    ringway.wait_idle();
    let metrics = ringway.metrics();
    let (ended, refused) = (metrics.count("sessions_total", &[]), refused(&ringway, "source_limit"));
    assert_eq!((ended, metrics.ended("PR")), (800, refused));
}

#[test]
fn a_source_makes_no_more_connections_than_it_may_and_refused_ones_cost_it_nothing() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).listener("source_rate_max = \"600/m\"").start();
    // Ten a second, and a bucket of six hundred.
    let (took, served) =
        crate::harness::timed(|| (0..700).filter(|_| is_served("127.9.9.1", &ringway, &mut Vec::new())).count());
    let most = 600 + (took.as_secs_f64() * 10.0).ceil() as usize;
    assert!((600..=most).contains(&served), "{served} in {took:?}");
    assert_eq!(refused(&ringway, "source_rate"), 700 - served as u64);
    assert!(is_served("127.9.9.2", &ringway, &mut Vec::new()), "another source has its own");
    wait_until("a token has come", || is_served("127.9.9.1", &ringway, &mut Vec::new()));
}

/// As R22, for one listener of two.
#[test]
fn clients_beyond_a_listeners_limit_wait_and_those_of_another_one_do_not() {
    for workers in [1, 2] {
        let backend = Backend::named("hi");
        let other = format!("{}:7055", crate::harness::address::own_ip());
        let plan = Ringway::before([backend.address()]).workers(workers).listener("connections_max = 5");
        let ringway = plan.more(&format!("[listeners.other]\nbind = {other:?}\npool = \"main\"")).start();
        let mut held: Vec<Peer> = (0..5).map(|_| ringway.connect()).collect();
        held.iter_mut().for_each(|client| client.expect(b"hi"));
        let mut waiting: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
        assert!(waiting.iter().all(|client| client.is_silent_for(Duration::from_millis(10))));
        let used = ringway.process().cpu_time();
        for _ in 0..50 {
            let mut client = Peer::connect(&other);
            client.expect(b"hi");
            std::thread::sleep(Duration::from_millis(5));
        }
        let used = ringway.process().cpu_time() - used;
        assert!(used < Duration::from_millis(100), "{used:?} of CPU: it spins");
        let connections = || ringway.metrics().count("backend_connections", &[]);
        wait_until("the others have left", || connections() == 5);
        // One goes, one comes; in the end all were served.
        while !waiting.is_empty() {
            drop(held.remove(0));
            let mut served = None;
            wait_until("the next one is served", || {
                served = waiting.iter().position(Peer::has_bytes);
                served.is_some()
            });
            let mut client = waiting.remove(served.unwrap());
            client.expect(b"hi");
            held.push(client);
            assert!(connections() <= 5);
        }
        ringway.change("connections_max = 5", "connections_max = 7");
        let mut more: Vec<Peer> = (0..2).map(|_| ringway.connect()).collect();
        more.iter_mut().for_each(|client| client.expect(b"hi"));
        let one_more = ringway.connect();
        assert!(one_more.is_silent_for(Duration::from_millis(50)));
        drop((held, more, one_more));
        ringway.wait_idle();
    }
}

/// A listener is removed while a client waits in its backlog: no worker will ever accept that one.
#[test]
fn who_waits_for_a_listener_that_goes_is_told_at_once() {
    let backend = Backend::named("hi");
    let other = format!("{}:7055", crate::harness::address::own_ip());
    let table = format!("[listeners.other]\nbind = {other:?}\npool = \"main\"\nconnections_max = 1");
    let ringway = Ringway::before([backend.address()]).more(&table).start();
    let mut first = Peer::connect(&other);
    first.expect(b"hi");
    let mut waits = Peer::connect(&other);
    assert!(waits.is_silent_for(Duration::from_millis(50)));
    ringway.change(&table, "");
    assert_eq!(waits.end(), End::Reset);
    first.send(b"x");
    first.expect(b"x");
    // The listener is full and gone: nothing is looked out for any more.
    let names: Vec<String> = ringway.process().threads().into_iter().filter(|name| is_worker(name)).collect();
    let sleeps = || names.iter().map(|name| ringway.process().sleeps(name)).sum::<u64>();
    let before = sleeps();
    std::thread::sleep(Duration::from_millis(500));
    let more = sleeps() - before;
    assert!(more < 20, "{names:?} woke up {more} times");
}

fn is_worker(thread: &str) -> bool {
    thread.strip_prefix("ringway-").is_some_and(|number| number.parse::<usize>().is_ok())
}

/// First the process has no room for it, and then its listener has none.
#[test]
fn who_waits_for_the_process_and_then_for_its_listener_is_not_forgotten() {
    let backend = Backend::named("hi");
    let other = format!("{}:7055", crate::harness::address::own_ip());
    let plan = Ringway::before([backend.address()]).process("connections_max = 2").listener("connections_max = 1");
    let ringway = plan.more(&format!("[listeners.other]\nbind = {other:?}\npool = \"main\"")).start();
    // A client that waits may be at the worker of the one before, which notices that it leaves, or at the other one.
    for _ in 0..12 {
        let (mut first, mut second) = (Peer::connect(&other), ringway.connect());
        first.expect(b"hi");
        second.expect(b"hi");
        let mut waits = ringway.connect();
        assert!(waits.is_silent_for(Duration::from_millis(15)));
        drop(first);
        ringway.wait_metrics("there is room", |metrics| metrics.count("connections", &[]) == 1);
        assert!(waits.is_silent_for(Duration::from_millis(30)));
        drop(second);
        waits.expect(b"hi");
        drop(waits);
        ringway.wait_idle();
    }
}

/// What a listener asked of a client is forgotten once it was asked: long sessions do not keep the rules of old times.
#[test]
fn sessions_do_not_keep_the_rules_that_they_were_admitted_by() {
    let backend = Backend::named("hi");
    let list = |turn: usize| {
        let networks = (0..60_000).map(|number| format!("\"10.{}.{}.{turn}\"", number / 250, number % 250));
        format!("deny = [{}]\n# end", networks.collect::<Vec<_>>().join(","))
    };
    let ringway = Ringway::before([backend.address()]).workers(1).listener(&list(0)).start();
    let mut held = Vec::new();
    let mut sizes = Vec::new();
    for turn in 0..20 {
        ringway.edit(|text| {
            let (before, after) = (text.find("deny = ").unwrap(), text.find("# end").unwrap() + "# end".len());
            format!("{}{}{}", &text[..before], list(turn + 1), &text[after..])
        });
        assert!(ringway.reload());
        assert!(is_served("127.0.0.1", &ringway, &mut held));
        sizes.push(ringway.process().resident_bytes());
    }
    let grown = sizes[19].saturating_sub(sizes[4]);
    assert!(grown < 12 << 20, "{grown} bytes more after fifteen reloads: {sizes:?}");
}
