//! A backend that is gone keeps the sessions it has until `drain_timeout`, and gets no new ones.

use std::time::{Duration, Instant};

use crate::dns::{ips, plan, session, states, wait_serving};
use crate::harness::network;
use crate::harness::{Backend, Dns, End, Peer, Ringway, Says, assert_about, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// A session of `a`, whose address the configuration has just given up, and `b` serves.
fn left_behind(drain_timeout: &str) -> (Ringway, Peer, [Backend; 2]) {
    let backends = ["a", "b"].map(Backend::named);
    let plan = Ringway::plan().backend("db", backends[0].address(), "");
    let ringway = plan.pool(&format!("drain_timeout = \"{drain_timeout}\"")).start();
    let (client, name) = session(&ringway);
    assert_eq!(name, "a");
    ringway.change(backends[0].address(), backends[1].address());
    (ringway, client, backends)
}

#[test]
fn sessions_go_on_until_the_deadline_and_are_then_reset() {
    let (ringway, mut client, _backends) = left_behind("1500ms");
    wait_serving(&ringway, &["b"]);
    client.send(b"still here");
    client.expect(b"still here");
    assert_eq!(client.end(), End::Reset);
    ringway.wait_metrics("it ended because its backend did", |metrics| metrics.ended("DD") == 1);
}

#[test]
fn the_deadline_is_kept() {
    let (ringway, mut client, _backends) = left_behind("1s");
    let gone = || ringway.process().output().contains("backend is draining");
    wait_until("the address is gone", gone);
    let (took, end) = timed(|| client.end());
    assert_eq!(end, End::Reset);
    assert_about(took, 1000 * MS);
}

#[test]
fn without_a_deadline_they_go_on() {
    let (ringway, mut client, _backends) = left_behind("0s");
    wait_serving(&ringway, &["b"]);
    assert!(client.is_silent_for(1500 * MS));
    client.send(b"still here");
    client.expect(b"still here");
    client.finish();
    assert_eq!(client.end(), End::Fin);
}

/// As a web server ends a connection that is kept alive, so that its client connects again without an error.
#[test]
fn a_silent_session_of_a_backend_that_drains_ends_in_a_fin_and_one_that_talks_goes_on() {
    let backends = ["a", "b"].map(Backend::named);
    let (folder, plan) = (tempfile::tempdir().unwrap(), Ringway::plan().backend("a", backends[0].address(), ""));
    let log = folder.path().join("access.log");
    let plan = plan.backend("b", backends[1].address(), "backup = true").pool("drain_idle = \"400ms\"");
    let ringway = plan.access_log(log.to_str().unwrap(), "json").start();
    let ([mut silent, mut late], mut talks) = ([(); 2].map(|()| session(&ringway).0), session(&ringway).0);
    let patch = |state: &str| ringway.api().patch("/v1/pools/main/backends/a", state).expect(200);
    patch("{\"state\":\"drain\"}");
    let begun = Instant::now();
    late.send(b"one more");
    late.expect(b"one more");
    for _ in 0..20 {
        talks.send(b"still here");
        talks.expect(b"still here");
        std::thread::sleep(50 * MS);
    }
    assert_eq!((silent.end(), late.end()), (End::Fin, End::Fin));
    assert!(begun.elapsed() < 20 * 400 * MS, "not at the deadline, which is 30 s");
    talks.send(b"still here");
    talks.expect(b"still here");
    patch("{\"state\":\"ready\"}");
    assert!(talks.is_silent_for(800 * MS), "it drains no more");
    let detail = ringway.api().get("/v1/pools/main/backends/a");
    assert_eq!(detail["sessions_cut_total"], 0);
    ringway.wait_metrics("both are told", |metrics| metrics.ended("DD") == 2);
    let told = || std::fs::read_to_string(&log).unwrap().matches("\"reason\":\"drain_idle\"").count();
    wait_until("the log says why", || told() == 2);
}

#[test]
fn silent_sessions_end_in_a_fin_when_ringway_drains() {
    let backend = Backend::named("a");
    let plan = Ringway::before([backend.address()]).process("shutdown_grace = \"60s\"").workers(2);
    let ringway = plan.pool("drain_idle = \"200ms\"").start();
    let mut clients: Vec<Peer> = (0..200).map(|_| session(&ringway).0).collect();
    let mut talks = session(&ringway).0;
    ringway.signal(libc::SIGTERM);
    for client in &mut clients {
        talks.send(b"on");
        talks.expect(b"on");
        assert_eq!(client.end(), End::Fin);
    }
    talks.send(b"on");
    talks.expect(b"on");
    assert_eq!(talks.end(), End::Fin);
    assert!(ringway.wait(crate::harness::PATIENCE).success());
}

#[test]
fn what_has_lost_its_last_session_is_gone_and_may_return() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = Dns::with(&ips(&[&a]));
    let ringway = plan(&dns).start();
    wait_serving(&ringway, &["a"]);
    let (client, _) = session(&ringway);
    dns.say(Says::Addresses(ips(&[&b]), 1));
    wait_serving(&ringway, &["b"]);
    assert_eq!(states(&ringway), [("db".into(), "up")], "the new one has the name");
    dns.say(Says::Addresses(ips(&[&a, &b]), 1));
    wait_serving(&ringway, &["a", "b"]);
    dns.say(Says::Addresses(ips(&[&b]), 1));
    wait_serving(&ringway, &["b"]);
    wait_until("it drains", || states(&ringway).contains(&("db#2".into(), "draining")));
    drop(client);
    wait_until("it is gone", || states(&ringway) == [("db".into(), "up")]);
}

/// Not even whose connection comes about in the very moment in which its backend is taken away: on an old primary it
/// would be a second one that writes.
#[test]
fn nobody_stays_at_a_backend_whose_sessions_have_ended() {
    network::within_own(|| {
        network::run("nft add table inet t");
        network::run("nft add chain inet t late { type filter hook input priority 0 ; }");
        let old = Backend::at("127.9.9.9:7300", |mut peer, _| drop(peer.drain()));
        let new = Backend::new(|mut peer, _| drop(peer.drain()));
        // Bulk, so that each turn of the worker takes time.
        let bulk = Backend::new(|mut peer, _| while peer.write_all(&[0; 1 << 20]).is_ok() {});
        let other = format!("{}:7055", crate::harness::address::own_ip());
        let plan = Ringway::before([]).backend("old", old.address(), "").backend("new", new.address(), "backup = true");
        let listener = format!("[listeners.other]\nbind = {other:?}\npool = \"bulk\"\n");
        let pool = format!("[pools.bulk]\ncheck.type = \"off\"\nbackends = [{{ address = {:?} }}]", bulk.address());
        let ringway = plan.workers(1).never_ejecting().more(&(listener + &pool)).start();
        let drain = |mut client: Peer| while client.read_some(1 << 20).is_ok_and(|bytes| !bytes.is_empty()) {};
        let drains = [(); 4].map(|()| Peer::connect(&other)).map(|client| (client.again(), client));
        let drains = drains.map(|(handle, client)| (handle, std::thread::spawn(move || drain(client))));
        let set = |body| ringway.api().patch("/v1/pools/main/backends/old", body).expect(200);
        let left = || ringway.metrics().count("backend_connections", &[("pool", "main"), ("backend", "old")]);
        for round in 0..6 {
            network::run("nft add rule inet t late ip daddr 127.9.9.9 tcp dport 7300 drop");
            let begun = Instant::now();
            let clients: Vec<Peer> = (0..500).map(|_| ringway.connect()).collect();
            let took = begun.elapsed();
            network::run("nft flush chain inet t late");
            // The kernel knocks again a second after the first time.
            let midst = Duration::from_secs(1) + took * (4 + round) / 10;
            std::thread::sleep(midst.saturating_sub(begun.elapsed()));
            set("{\"state\":\"drain\",\"deadline_ms\":1}");
            // One that stayed would stay for as long as its client does.
            wait_until(&format!("nobody is left in round {round}"), || left() == 0);
            drop(clients);
            wait_until("they have left", || ringway.metrics().count("connections", &[]) == 4);
            set("{\"state\":\"ready\"}");
        }
        for (handle, thread) in drains {
            handle.abort(std::net::Shutdown::Both);
            thread.join().unwrap();
        }
    });
}
