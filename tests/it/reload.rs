//! R45, R47: another configuration is applied whole while sessions live on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::dns::{serving, session, states};
use crate::harness::address::{own_ip, refusing};
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Peer, Ringway, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

fn named(address: &str) -> String {
    let mut client = Peer::connect(address);
    client.read_some(16).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
}

fn backend(name: &str, address: &str) -> String {
    format!("[[pools.main.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n\n")
}

/// R45: reloads of every kind while connections come at a steady pace and a hundred long sessions are open.
#[test]
fn dozens_of_reloads_fail_no_connect_and_end_no_session() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address(), b.address()]).pool("drain_timeout = \"0s\"").start();
    let long: Vec<Peer> = (0..100).map(|_| session(&ringway).0).collect();
    let (base, memory) = (ringway.process().descriptors(), ringway.process().resident_bytes());
    let ((is_over, served), extra) = ((AtomicBool::new(false), AtomicUsize::new(0)), own_ip());
    let plain = std::fs::read_to_string(ringway.file()).unwrap();
    let second = backend("b", b.address());
    assert!(plain.contains(second.trim_end()), "{plain}");
    let third = format!("[listeners.extra]\nbind = \"{extra}:7000\"\npool = \"main\"\n");
    let variants = [
        plain.clone() + &third,
        plain.replace(second.trim_end(), ""),
        plain.replace("[pools.main]\n", "[pools.main]\nbalance = \"least_conn\"\nidle_timeout = \"2h\"\n"),
        plain.replace(second.trim_end(), &format!("{}\nweight = 7", second.trim_end())),
        plain.replace("type = \"off\"", "type = \"tcp\""),
        plain.clone(),
    ];
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let begun = Instant::now();
            for number in 1u32.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (mut client, name) = session(&ringway);
                assert!(name == "a" || name == "b", "a session without a backend: {name:?}");
                client.send(b"x");
                client.expect(b"x");
                served.fetch_add(1, Ordering::Relaxed);
                // 300 a second, whatever each takes.
                let due = begun + Duration::from_micros(3333) * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        for round in 0..54 {
            ringway.edit(|_| variants[round % variants.len()].clone());
            assert!(ringway.reload(), "{}", ringway.process().output());
            // A worker closes its socket a moment after the reload.
            let extra = format!("{extra}:7000");
            wait_until("that address is open or closed", || {
                Peer::try_connect(&extra).is_ok() == (round % variants.len() == 0)
            });
        }
        is_over.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
    assert!(served.load(Ordering::Relaxed) > 100);
    for mut client in long {
        client.send(b"still here");
        client.expect(b"still here");
        client.finish();
        assert_eq!(client.end(), End::Fin);
    }
    ringway.wait_idle();
    ringway.wait_descriptors(base - 200);
    let grown = ringway.process().resident_bytes().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes more");
    let metrics = ringway.metrics();
    // A client that only knocked at `extra` has left without reading.
    assert!(metrics.codes().iter().all(|(code, _)| ["--", "CD"].contains(&code.as_str())), "{:?}", metrics.codes());
    let reloads = metrics.count("config_reloads_total", &[("result", "success")]);
    assert_eq!((reloads, metrics.count("config_generation", &[])), (54, 55));
}

#[test]
fn a_listener_comes_and_goes_and_its_sessions_live_on() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    let extra = format!("{}:7000", own_ip());
    let toml = format!("[listeners.extra]\nbind = \"{extra}\"\npool = \"main\"\n");
    let base = ringway.process().descriptors();
    for _ in 0..3 {
        assert!(Peer::try_connect(&extra).is_err());
        ringway.edit(|text| text + &toml);
        assert!(ringway.reload());
        ringway.wait_said("listener extra added");
        let mut client = Peer::connect(&extra);
        client.expect(b"a");
        assert_eq!(ringway.metrics().count("listener_connections", &[("listener", "extra")]), 1);
        ringway.edit(|text| text.replace(&toml, ""));
        assert!(ringway.reload());
        wait_until("nobody accepts there", || Peer::try_connect(&extra).is_err());
        ringway.wait_said("listener extra removed");
        client.send(b"on and on");
        client.expect(b"on and on");
        drop(client);
        ringway.wait_idle();
    }
    ringway.wait_descriptors(base);
}

#[test]
fn a_bind_that_stays_keeps_its_socket_and_who_waits_in_its_backlog() {
    let backend = Backend::named("a");
    // One session at a time, so that the others wait in the backlog.
    let ringway = Ringway::before([backend.address()]).process("connections_max = 1").start();
    let (ip, other) = (ringway.address().trim_end_matches(":7000").to_string(), own_ip());
    let first = session(&ringway).0;
    let mut waiting: Vec<Peer> = (0..3).map(|_| ringway.connect()).collect();
    let binds = |text: &str| format!("bind = {text}");
    ringway.change(&binds(&format!("\"{ip}:7000\"")), &binds(&format!("[\"{other}:7000\", \"{ip}:7000\"]")));
    ringway.change("[listeners.main]", "[listeners.renamed]");
    ringway.change("pool = \"main\"\n", "pool = \"main\"\nbacklog = 77\n");
    drop(first);
    while let Some(mut client) = waiting.pop() {
        // In any order: some were accepted by another worker.
        wait_until("one of them is served", || waiting.iter().any(Peer::has_bytes) || client.has_bytes());
        if !client.has_bytes() {
            let next = waiting.iter().position(Peer::has_bytes).unwrap();
            client = std::mem::replace(&mut waiting[next], client);
        }
        client.expect(b"a");
        drop(client);
    }
    assert_eq!(named(&format!("{other}:7000")), "a");
    ringway.change(&binds(&format!("[\"{other}:7000\", \"{ip}:7000\"]")), &binds(&format!("\"{other}:7000\"")));
    wait_until("the old address is closed", || Peer::try_connect(ringway.address()).is_err());
    assert_eq!(named(&format!("{other}:7000")), "a");
    assert!(ringway.metrics().count("listener_connections_total", &[("listener", "renamed")]) >= 2);
}

#[test]
fn any_address_gives_way_to_one_of_them_on_the_same_port() {
    let backend = Backend::named("a");
    let port = 20_000 + std::process::id() % 10_000;
    let ringway = Ringway::before([backend.address()]).bind(&format!("\"0.0.0.0:{port}\"")).start();
    let ip = own_ip();
    assert_eq!(named(&format!("127.0.0.1:{port}")), "a");
    ringway.change("\"0.0.0.0:", &format!("\"{ip}:"));
    wait_until("only there", || Peer::try_connect(&format!("127.0.0.1:{port}")).is_err());
    assert_eq!(named(&format!("{ip}:{port}")), "a");
}

#[test]
fn a_unix_listener_comes_and_goes() {
    let backend = Backend::named("a");
    let ringway = Ringway::before([backend.address()]).start();
    let path = ringway.file().with_file_name("front");
    let unix = format!("unix:{}", path.display());
    let toml = format!("[listeners.front]\nbind = \"{unix}\"\npool = \"main\"\nunix_mode = \"0600\"\n");
    for _ in 0..2 {
        ringway.edit(|text| text + &toml);
        assert!(ringway.reload());
        assert_eq!(named(&unix), "a");
        ringway.change("unix_mode = \"0600\"", "unix_mode = \"0660\"");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o660);
        ringway.edit(|text| text.replace(&toml.replace("0600", "0660"), ""));
        assert!(ringway.reload());
        wait_until("nobody accepts there", || Peer::try_connect(&unix).is_err());
    }
}

#[test]
fn a_backend_comes_and_one_that_is_gone_drains() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address()]).pool("drain_timeout = \"700ms\"").start();
    assert_eq!(serving(&ringway), ["a".to_string()].into());
    let (mut old, _) = session(&ringway);
    ringway.edit(|text| text + &backend("b", b.address()));
    assert!(ringway.reload());
    ringway.wait_said("pools.main.backends.b added");
    assert_eq!(serving(&ringway), ["a".to_string(), "b".to_string()].into());
    let (took, ()) = timed(|| {
        ringway.edit(|text| text.replace(&backend("a", a.address()).trim_end().to_string(), ""));
        assert!(ringway.reload());
        assert_eq!(serving(&ringway), ["b".to_string()].into());
        old.send(b"still here");
        old.expect(b"still here");
        assert_eq!(states(&ringway), [("a".into(), "draining"), ("b".into(), "up")]);
        assert_eq!(old.end(), End::Reset);
    });
    assert!(took > 600 * MS && took < 5000 * MS, "{took:?}");
    wait_until("it is forgotten", || states(&ringway) == [("b".into(), "up")]);
    assert_eq!(ringway.metrics().ended("DD"), 1);
}

#[test]
fn a_backend_that_moves_is_another_server() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address()]).start();
    let (mut old, _) = session(&ringway);
    ringway.change(a.address(), b.address());
    assert_eq!(serving(&ringway), ["b".to_string()].into());
    old.send(b"still here");
    old.expect(b"still here");
    ringway.change(b.address(), a.address());
    assert_eq!(serving(&ringway), ["a".to_string()].into());
    old.send(b"at home again");
    old.expect(b"at home again");
    ringway.wait_metrics("its old session counts, and no other is left", |metrics| {
        metrics.count("backend_connections", &[("backend", "a")]) == 1
    });
}

#[test]
fn a_listener_goes_to_another_pool_and_the_first_one_goes() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let ringway = Ringway::before([a.address()]).start();
    let (mut old, _) = session(&ringway);
    ringway.edit(|text| text.replace("pools.main", "pools.other").replace(a.address(), b.address()));
    ringway.change("pool = \"main\"", "pool = \"other\"");
    assert_eq!(serving(&ringway), ["b".to_string()].into());
    old.send(b"still here");
    old.expect(b"still here");
    assert_eq!(ringway.metrics().count("backend_connections", &[("pool", "main")]), 1);
    old.finish();
    assert_eq!(old.end(), End::Fin);
    ringway.wait_metrics("the pool is forgotten", |metrics| {
        metrics.by("backend_up", "pool").iter().all(|(pool, _)| pool == "other")
    });
}

#[test]
fn health_weight_and_counters_survive() {
    let a = Backend::named("a");
    let dead = refusing();
    let ringway = Ringway::before([a.address(), &dead]).checked(1, 2).never_ejecting().start();
    ringway.wait_up("main", "b", false);
    let before = ringway.metrics();
    let transitions = |metrics: &crate::harness::Metrics| metrics.count("backend_transitions_total", &[]);
    (0..5).for_each(|_| drop(session(&ringway)));
    ringway.wait_idle();
    ringway.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"9s\"\nbalance = \"random\"\n");
    ringway.change("rise = 1", "rise = 2");
    let after = ringway.metrics();
    assert_eq!(states(&ringway), [("a".into(), "up"), ("b".into(), "down")]);
    assert_eq!(transitions(&after), transitions(&before), "nothing has changed");
    assert_eq!(after.count("backend_connections_total", &[("backend", "a")]), 5);
    assert_eq!(after.count("listener_connections_total", &[]), 5);
    assert_eq!(after.ended("--"), 5);
}

#[test]
fn clients_that_wait_go_on_waiting_and_a_greater_limit_serves_them() {
    let a = Backend::named("a");
    let ringway = Ringway::plan().backend("a", a.address(), "connections_max = 1").start();
    let held = session(&ringway).0;
    let mut waiting: Vec<Peer> = (0..3).map(|_| ringway.connect()).collect();
    let length = |length| {
        ringway.wait_metrics("so many wait", |metrics| metrics.count("pool_queue_length", &[]) == length);
    };
    length(3);
    ringway.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"9s\"\n");
    length(3);
    assert!(!waiting.iter().any(Peer::has_bytes));
    ringway.change("connections_max = 1\n", "connections_max = 9\n");
    waiting.iter_mut().for_each(|client| client.expect(b"a"));
    length(0);
    drop(held);
}

#[test]
fn new_limits_are_for_new_sessions() {
    let a = Backend::named("a");
    let ringway = Ringway::before([a.address()]).start();
    let (mut old, _) = session(&ringway);
    ringway.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"300ms\"\n");
    let (mut new, _) = session(&ringway);
    assert_eq!(new.end(), End::Fin);
    old.send(b"as it was admitted");
    old.expect(b"as it was admitted");
}

#[test]
fn an_ejection_goes_on() {
    let [a, dead] = [Backend::named("a"), Backend::named("b")];
    let address = dead.address().to_string();
    let more = "[pools.main.ejection]\nfailures = 2\nduration = \"60s\"";
    let ringway = Ringway::before([a.address(), &address]).more(more).start();
    dead.kill();
    wait_until("b is ejected", || {
        assert_eq!(session(&ringway).1, "a");
        states(&ringway).contains(&("b".into(), "ejected"))
    });
    ringway.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"9s\"\n");
    assert_eq!(states(&ringway), [("a".into(), "up"), ("b".into(), "ejected")]);
    ringway.change("failures = 2", "failures = 0\nhangups = 0");
    assert_eq!(states(&ringway), [("a".into(), "up"), ("b".into(), "up")]);
}

#[test]
fn checks_begin_and_end_with_the_file() {
    let a = Backend::named("a");
    let ringway = Ringway::before([a.address(), &refusing()]).never_ejecting().start();
    assert_eq!(states(&ringway), [("a".into(), "up"), ("b".into(), "up")]);
    ringway.change("type = \"off\"", "type = \"tcp\"\ninterval = \"50ms\"\nfast_interval = \"50ms\"");
    ringway.wait_up("main", "b", false);
    ringway.change("type = \"tcp\"", "type = \"off\"");
    assert_eq!(states(&ringway), [("a".into(), "up"), ("b".into(), "up")]);
    let checks = ringway.metrics().count("backend_checks_total", &[]);
    assert!(serving(&ringway).contains("a"));
    std::thread::sleep(200 * MS); // Nothing to wait for: it is what must not come.
    assert!(ringway.metrics().count("backend_checks_total", &[]) <= checks + 1, "one may have been under way");
}

/// The bytes of a session are not touched by what changes around it.
#[test]
fn a_stream_runs_through_reloads_unchanged() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let mut client = ringway.connect();
    let (key, len) = (Key::to_backend(1), 30 << 20);
    std::thread::scope(|scope| {
        let mut sender = client.again();
        scope.spawn(move || sender.send_keyed(key, 0, len));
        let reloads = scope.spawn(|| {
            for round in 0..6 {
                let (from, to) =
                    [("idle_timeout = \"9m\"", ""), ("", "idle_timeout = \"9m\"")][usize::from(round % 2 == 0)];
                ringway.edit(|text| match from {
                    "" => text.replace("[pools.main]\n", &format!("[pools.main]\n{to}\n")),
                    _ => text.replace(from, to),
                });
                assert!(ringway.reload());
            }
        });
        client.expect_keyed(key, 0, len);
        reloads.join().unwrap();
    });
}

#[test]
fn the_level_of_the_log_and_the_grace_of_a_shutdown_live_in_a_reload() {
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).checked_every("20ms").process("shutdown_grace = \"60s\"");
    let ringway = plan.more("[log]\nlevel = \"warn\"").start_unsaid();
    ringway.wait_checks("a", 2);
    assert_eq!(ringway.process().output(), "", "nothing to warn of");
    ringway.change("level = \"warn\"", "level = \"debug\"");
    ringway.wait_said("level=debug message=checked");
    ringway.change("level = \"debug\"", "level = \"error\"");
    let before = ringway.process().settled_output().len();
    ringway.wait_checks("a", 3);
    assert_eq!(ringway.process().output().len(), before);
    let (mut client, _) = session(&ringway);
    ringway.change("shutdown_grace = \"60s\"", "shutdown_grace = \"300ms\"");
    ringway.signal(libc::SIGTERM);
    let (took, end) = timed(|| client.end());
    assert_eq!(end, End::Reset);
    assert!(took >= 290 * MS && took < 3000 * MS, "{took:?}");
    assert_eq!(ringway.wait(crate::harness::PATIENCE).code(), Some(0));
}
