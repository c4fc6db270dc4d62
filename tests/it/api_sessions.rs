//! Sessions listed and killed over the admin socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::backend::BlackHole;
use crate::harness::bytes::Key;
use crate::harness::{Api, Backend, End, Listener, Mode, PATIENCE, Peer, Ringway, median, wait_until};

fn text<'a>(session: &'a Value, key: &str) -> &'a str {
    session[key].as_str().unwrap_or_else(|| panic!("{key} of {session}"))
}

fn number(session: &Value, key: &str) -> u64 {
    session[key].as_u64().unwrap_or_else(|| panic!("{key} of {session}"))
}

/// The id of that client's session.
#[track_caller]
fn id_of(api: &Api, client: &Peer) -> String {
    let sessions = api.sessions("");
    let found = sessions.iter().find(|session| session["client"] == client.local_address().as_str());
    text(found.unwrap_or_else(|| panic!("not listed: {sessions:?}")), "id").to_string()
}

/// Bytes of the right sessions, in both modes of the relay, on both workers.
#[test]
fn sessions_listed_are_those_that_are_held_with_the_bytes_that_moved() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).workers(2).start();
    let api = ringway.api();
    assert_eq!(api.sessions(""), Vec::<Value>::new());
    let (mut held, mut expected) = (Vec::new(), BTreeMap::new());
    for index in 0..12 {
        let (mut client, mut server) = (ringway.connect(), listener.accept());
        let mode = if index % 4 == 3 { Mode::Splice } else { Mode::Copy };
        let up = mode.enter(&mut client, &mut server, Key::to_backend(index));
        server.send_keyed(Key::to_client(index), 0, 10 * index + 1);
        client.expect_keyed(Key::to_client(index), 0, 10 * index + 1);
        expected.insert(client.local_address(), (up, 10 * index + 1));
        held.push((client, server));
    }
    // What a peer has read, its worker may be about to count.
    let found = || {
        let bytes = |session: &Value| (number(session, "bytes_to_backend"), number(session, "bytes_to_client"));
        let sessions = api.sessions("");
        sessions.iter().map(|session| (text(session, "client").to_string(), bytes(session))).collect::<BTreeMap<_, _>>()
    };
    wait_until("the sessions that are held", || found() == expected);
    let sessions = api.sessions("");
    for session in &sessions {
        let names = ["listener", "pool", "backend", "state"].map(|key| text(session, key));
        assert_eq!(names, ["main", "main", "a", "open"]);
        assert!(number(session, "age_ms") >= number(session, "idle_ms"), "{session}");
    }
    let seen = held.iter().map(|(_, server)| server.peer_address()).collect::<BTreeSet<_>>();
    let told = sessions.iter().map(|session| text(session, "backend_local").to_string());
    assert_eq!(told.collect::<BTreeSet<_>>(), seen, "backends know a session by it");
    let workers: BTreeSet<u64> = sessions.iter().map(|session| number(session, "worker")).collect();
    assert_eq!(workers, BTreeSet::from([0, 1]));
    let ids: BTreeSet<&str> = sessions.iter().map(|session| text(session, "id")).collect();
    assert_eq!(ids.len(), 12);
    assert!(sessions.is_sorted_by_key(|session| std::cmp::Reverse(number(session, "age_ms"))), "oldest first");
    drop(held);
    wait_until("no session is listed", || api.count() == 0);
}

#[test]
fn age_and_idle_time_are_those_of_the_session() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let (begun, mut client) = (Instant::now(), ringway.connect());
    let passed = || begun.elapsed().as_millis() as u64;
    let session = || ringway.api().sessions("")[0].clone();
    wait_until("it is idle for a while", || {
        !ringway.api().sessions("").is_empty() && number(&session(), "idle_ms") >= 60
    });
    let moved = Instant::now();
    client.send(b"x");
    client.expect(b"x");
    let listed = session();
    let since_moved = moved.elapsed().as_millis() as u64;
    assert!(number(&listed, "idle_ms") <= since_moved, "{listed}, a byte moved {since_moved} ms ago");
    assert!((60..=passed()).contains(&number(&listed, "age_ms")), "{listed}");
}

/// One that has no backend yet is a session, too.
#[test]
fn sessions_on_their_way_are_listed_as_what_they_are() {
    let (hole, backend) = (BlackHole::new(), Backend::echo());
    let ringway = Ringway::plan().backend("a", backend.address(), "connections_max = 1").more(&format!(
        "[listeners.slow]\nbind = \"{}:7005\"\npool = \"slow\"\n[pools.slow]\nconnect_timeout = \"20s\"\n\
             check.type = \"off\"\nbackends = [{{ address = \"{}\" }}]",
        crate::harness::address::own_ip(),
        hole.listener.address()
    ));
    let toml = ringway.to_toml();
    let slow = toml.split("bind = \"").nth(2).and_then(|rest| rest.split('"').next()).unwrap().to_string();
    let ringway = ringway.start();
    let _open = ringway.connect();
    let states = || {
        let states = |session: &Value| (text(session, "listener").to_string(), text(session, "state").to_string());
        ringway.api().sessions("").iter().map(states).collect::<BTreeSet<_>>()
    };
    let pair = |listener: &str, state: &str| (listener.to_string(), state.to_string());
    wait_until("the first one is open", || states() == BTreeSet::from([pair("main", "open")]));
    let (_waiting, _connecting) = (ringway.connect(), Peer::connect(&slow));
    let all = BTreeSet::from([pair("main", "open"), pair("main", "queued"), pair("slow", "connecting")]);
    wait_until("the others are on their way", || states() == all);
    let sessions = ringway.api().sessions("");
    let queued = sessions.iter().find(|session| session["state"] == "queued").unwrap();
    assert_eq!(queued["backend"], Value::Null);
    assert_eq!(ringway.api().sessions(&format!("?backend=slow/{}", hole.listener.address())).len(), 1);
}

#[test]
fn a_session_is_killed_by_its_id_and_no_other() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).workers(2).start();
    let mut clients: Vec<Peer> = (0..6).map(|_| ringway.connect()).collect();
    for client in &mut clients {
        client.send(b"x");
        client.expect(b"x");
    }
    let api = ringway.api();
    let mut victim = clients.remove(2);
    let id = id_of(&api, &victim);
    assert_eq!(api.delete(&format!("/v1/sessions/{id}")).expect(200)["killed"], 1);
    assert_eq!(victim.end(), End::Reset);
    ringway.wait_metrics("it ended as killed", |metrics| metrics.ended("KD") == 1);
    let refusal = api.delete(&format!("/v1/sessions/{id}")).refused(404);
    assert!(refusal.contains(&id), "{refusal}");
    // The session that has its place now has another id.
    let mut next = ringway.connect();
    next.send(b"y");
    next.expect(b"y");
    assert_eq!(api.delete(&format!("/v1/sessions/{id}")).status, 404);
    for client in clients.iter_mut().chain([&mut next]) {
        client.send(b"z");
        client.expect(b"z");
    }
    assert_eq!(ringway.metrics().ended("KD"), 1);
}

#[test]
fn sessions_are_listed_and_killed_by_backend_and_by_client() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).workers(2).start();
    let from = |ip: &str| Peer::connect_from(Some(&format!("{ip}:0")), ringway.address()).unwrap();
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for index in 0..20 {
        let mut client = from(if index % 4 < 2 { "127.9.9.1" } else { "127.9.8.1" });
        match client.read_some(1).unwrap().as_slice() {
            b"a" => of_a.push(client),
            _ => of_b.push(client),
        }
    }
    let api = ringway.api();
    let count = |query: &str| api.sessions(query).len();
    assert_eq!([count("?backend=main/a"), count("?backend=main/b"), count("")], [10, 10, 20]);
    assert_eq!(
        [count("?client=127.9.9.1"), count("?client=127.9.8.0/24"), count("?client=127.9.0.0%2F16")],
        [10, 10, 20]
    );
    assert_eq!([count("?client=127.9.7.0/24"), count("?client=::/0"), count("?limit=3")], [0, 0, 3]);
    let both = api.get("/v1/sessions?backend=main/a&client=127.9.9.1&limit=2");
    assert_eq!((both["sessions"].as_array().unwrap().len(), &both["matching"]), (2, &Value::from(5)));
    assert_eq!(api.delete("/v1/sessions?backend=main/a&client=127.9.9.1").expect(200)["killed"], 5);
    wait_until("half of a is gone", || count("?backend=main/a") == 5 && count("?client=127.9.9.0/24") == 5);
    assert_eq!(api.delete("/v1/sessions?backend=main/a").expect(200)["killed"], 5);
    assert!(of_a.iter_mut().all(|client| client.end() == End::Reset));
    for client in &mut of_b {
        client.send(b"x");
        client.expect(b"x");
    }
    assert_eq!(api.delete("/v1/sessions?client=127.9.0.0/16").expect(200)["killed"], 10);
    assert!(of_b.iter_mut().all(|client| client.end() == End::Reset));
    ringway.expect_code("KD", 20);
}

#[test]
fn nonsense_is_told_from_what_is_not_there() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let mut client = ringway.connect();
    client.send(b"x");
    client.expect(b"x");
    let api = ringway.api();
    for (method, path, status) in [
        ("GET", "/v1/sessions?backend=a", 400),
        ("GET", "/v1/sessions?backend=main/c", 404),
        ("GET", "/v1/sessions?backend=other/a", 404),
        ("GET", "/v1/sessions?client=nobody", 400),
        ("GET", "/v1/sessions?limit=x", 400),
        ("GET", "/v1/sessions?limit=100001", 400),
        ("GET", "/v1/sessions?limit=-1", 400),
        ("GET", "/v1/sessions?what=ever", 400),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/sessions", 400),
        ("DELETE", "/v1/sessions?limit=1&backend=main/a", 400),
        ("DELETE", "/v1/sessions?backend=main/c", 404),
        ("DELETE", "/v1/sessions/zzz", 400),
        ("DELETE", "/v1/sessions/-1", 400),
        ("DELETE", "/v1/sessions/ffffffffffffffff", 404),
        ("DELETE", "/v1/sessions/123456", 404),
        ("PUT", "/v1/sessions", 405),
    ] {
        let message = api.ask(method, path, "").refused(status);
        assert!(message.len() > 10 && !message.contains('\n'), "{method} {path}: {message}");
    }
    client.send(b"y");
    client.expect(b"y");
}

/// A worker with thousands of sessions serves them on while they are listed.
#[test]
fn five_thousand_sessions_are_listed_while_round_trips_go_on() {
    const IDLE: usize = 5_000;
    crate::harness::process::raise_descriptors(3 * IDLE as u64);
    let listener = Listener::new();
    let echo = Backend::echo();
    let other = format!("{}:7005", crate::harness::address::own_ip());
    let more = format!(
        "[listeners.echo]\nbind = \"{other}\"\npool = \"echo\"\n[pools.echo]\ncheck.type = \"off\"\n\
         backends = [{{ name = \"e\", address = \"{}\" }}]",
        echo.address()
    );
    let ringway = Ringway::before([listener.address()]).workers(2).more(&more).start();
    let held: Vec<(Peer, Peer)> = (0..IDLE).map(|_| (ringway.connect(), listener.accept())).collect();
    let mut flows = [Peer::connect(&other), Peer::connect(&other)];
    let mut round_trips = |until: &dyn Fn() -> bool| {
        let mut times = Vec::new();
        while !until() {
            for flow in &mut flows {
                let begun = Instant::now();
                flow.send(b"ping");
                flow.expect(b"ping");
                times.push(begun.elapsed());
            }
        }
        median(times)
    };
    let begun = Instant::now();
    let alone = round_trips(&|| begun.elapsed() > Duration::from_millis(300));
    let socket = ringway.socket().to_path_buf();
    let lists = std::thread::spawn(move || {
        let list = |_| {
            let found = Api::at(&socket).get("/v1/sessions?limit=10000&backend=main/a");
            let ids: BTreeSet<String> =
                found["sessions"].as_array().unwrap().iter().map(|session| text(session, "id").to_string()).collect();
            (ids.len(), found["matching"].clone())
        };
        (0..5).map(list).collect::<Vec<_>>()
    });
    let meanwhile = round_trips(&|| lists.is_finished());
    for found in lists.join().unwrap() {
        assert_eq!(found, (IDLE, Value::from(IDLE)));
    }
    // Without slices per turn it would be the time of a whole list; a busy machine has stalls of its own.
    let most = 20 * alone + Duration::from_millis(500);
    assert!(meanwhile < most, "{meanwhile:?} while listing, {alone:?} otherwise");
    // Killing that many takes many turns, too.
    let socket = ringway.socket().to_path_buf();
    let kill = std::thread::spawn(move || Api::at(&socket).delete("/v1/sessions?backend=main/a").expect(200));
    let meanwhile = round_trips(&|| kill.is_finished());
    assert_eq!(kill.join().unwrap()["killed"], IDLE);
    assert!(meanwhile < most, "{meanwhile:?} while killing, {alone:?} otherwise");
    assert!(held.into_iter().all(|(mut client, mut server)| [client.end(), server.end()] == [End::Reset, End::Reset]));
    assert!(begun.elapsed() < 3 * PATIENCE);
}
