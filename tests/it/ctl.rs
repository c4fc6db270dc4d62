//! `ringway ctl` speaks to a running ringway, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::address::refusing;
use crate::harness::process::{Ended, run};
use crate::harness::{Backend, End, Peer, Ringway, assert_about, timed, wait_until};

/// `ringway ctl` with these words, to that ringway.
fn ctl(ringway: &Ringway, words: &str) -> Ended {
    let mut command = Ringway::command();
    run(command.arg("ctl").args(words.split(' ')).env("RINGWAY_SOCKET", ringway.socket()))
}

/// What `ringway ctl` wrote; it must succeed.
#[track_caller]
fn said(ringway: &Ringway, words: &str) -> String {
    let ended = ctl(ringway, words);
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{words}: {}", ended.stdout);
    ended.stdout
}

/// What `ringway ctl --json` wrote, read; it must succeed.
#[track_caller]
fn json(ringway: &Ringway, words: &str) -> Value {
    serde_json::from_str(&said(ringway, &format!("--json {words}"))).unwrap()
}

/// It must fail with that code and one line that has these words.
#[track_caller]
fn fails(ringway: &Ringway, words: &str, code: i32, parts: &[&str]) {
    let ended = ctl(ringway, words);
    assert_eq!(ended.status.code(), Some(code), "{words}: {}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{words}: {}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{words}: {part:?} is missing: {}", ended.stderr);
    }
}

/// Fields of the row that begins so, by blanks of two or more.
fn row<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.trim_start().starts_with(first));
    let line = line.unwrap_or_else(|| panic!("no row {first}: {table}"));
    line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect()
}

fn served(ringway: &Ringway, count: usize) -> Vec<(Peer, u8)> {
    let connect = |_| {
        let mut client = ringway.connect();
        let name = client.read_some(1).unwrap()[0];
        (client, name)
    };
    (0..count).map(connect).collect()
}

#[test]
fn people_read_tables_and_programs_json() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let clients = served(&ringway, 4);
    let status = said(&ringway, "status");
    assert!(status.starts_with(concat!("ringway ", env!("CARGO_PKG_VERSION"), "  serving")), "{status}");
    assert!(status.contains("4 sessions of ") && status.contains("WORKER"), "{status}");
    assert_eq!(row(&said(&ringway, "pools"), "main"), ["main", "round_robin", "2/2", "4", "0", "4", "0", "main"]);
    let backends = said(&ringway, "backends");
    let of_a = row(&backends, "main/a");
    assert_eq!(of_a[..3], ["main/a", a.address(), "up"]);
    assert_eq!(of_a[4..], ["1", "2", "-", "2", "0", "its pool has no checks"]);
    assert_eq!(said(&ringway, "backends main").lines().count(), 3);
    let heading = backends.lines().next().unwrap();
    for line in backends.lines().skip(1) {
        assert_eq!(line.find(" up"), heading.find(" STATE"), "columns are aligned: {backends}");
    }
    let sessions = said(&ringway, "sessions --backend main/a");
    assert_eq!(sessions.lines().count(), 4, "{sessions}");
    let address = clients.iter().find(|(_, name)| *name == b'a').unwrap().0.local_address();
    assert!(sessions.lines().any(|line| line.contains(&address) && line.contains("main/a")), "{sessions}");
    assert!(said(&ringway, "sessions --limit 1").ends_with("1 of 4 sessions (--limit shows more)\n"));
    assert_eq!(said(&ringway, "sessions --client 10.0.0.0/8"), "0 sessions\n");

    assert_eq!(json(&ringway, "status")["connections"], 4);
    assert_eq!(json(&ringway, "pools")["pools"][0]["name"], "main");
    assert_eq!(json(&ringway, "backends main")["backends"].as_array().unwrap().len(), 2);
    assert_eq!(json(&ringway, "sessions --limit 3")["sessions"].as_array().unwrap().len(), 3);
    assert_eq!(json(&ringway, "why main/b")["name"], "b");
    assert!(!status.contains('\x1b'), "no colours where nobody sees them");
}

#[test]
fn why_shows_reason_past_and_the_last_check() {
    let (backend, nobody) = (Backend::echo(), refusing());
    let ringway = Ringway::before([backend.address(), &nobody]).checked(1, 1).start();
    ringway.wait_up("main", "b", false);
    let why = said(&ringway, "why main/b");
    let first = why.lines().next().unwrap();
    assert!(first.starts_with(&format!("main/b  {nobody}  down for ")), "{why}");
    let fact = |name: &str| why.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_lowercase();
    assert!(fact("reason").contains("refused"), "{why}");
    assert!(fact("check").contains("tcp every 50ms") && fact("check").contains("rise 1, fall 1"), "{why}");
    let at = |what: &str| why.find(what).unwrap_or_else(|| panic!("{what} is missing: {why}"));
    let (past, transcript) = (&why[at("SINCE (UTC)")..at("LAST CHECK")], &why[at("LAST CHECK")..]);
    assert!(past.contains("  up ") && past.contains("  down "), "{why}");
    assert!(transcript.contains("ms") && transcript.to_lowercase().contains("refused"), "{why}");
}

#[test]
fn set_changes_a_backend_and_says_what() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let changed = said(&ringway, "set main/a --weight 0 --connections-max 5");
    assert_eq!(changed.lines().count(), 2, "{changed}");
    assert!(changed.contains("weight 1 → 0"), "{changed}");
    assert!(said(&ringway, "set main/a --weight 0").contains("it was so already"));
    assert!(said(&ringway, "why main/a").contains("by hand   weight, connections_max"));
    let changes = json(&ringway, "set main/a --weight 1 --connections-max 0 --state maintenance");
    assert_eq!(changes["changes"].as_array().unwrap().len(), 3);
    ringway.wait_metrics("in maintenance", |metrics| metrics.count("backend_state", &[("state", "maintenance")]) == 1);
    assert!(served(&ringway, 4).iter().all(|(_, name)| *name == b'b'));
    said(&ringway, "set main/a --state ready");
    ringway.wait_up("main", "a", true);

    fails(&ringway, "set main/a --weight 257", 2, &["256"]);
    fails(&ringway, "set main/a --weight x", 2, &["--weight"]);
    fails(&ringway, "set main/a", 2, &["--weight"]);
    fails(&ringway, "set main --weight 1", 2, &["POOL/BACKEND"]);
    fails(&ringway, "set main/z --weight 1", 1, &["z"]);
    fails(&ringway, "why other/a", 1, &["other"]);
    fails(&ringway, "kill --session 77", 1, &["no session 77"]);
}

/// A client of a unix socket chooses the path of its own end.
#[test]
fn what_a_client_calls_itself_cannot_reach_the_terminal_or_another_line() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), Backend::named("a"));
    let front = folder.path().join("front");
    let ringway = Ringway::before([backend.address()]).bind(&format!("\"unix:{}\"", front.display())).start();
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let own = folder.path().join("x\u{1b}[2J\n8 root open\u{202e}");
    client.bind(&socket2::SockAddr::unix(&own).unwrap()).unwrap();
    client.connect(&socket2::SockAddr::unix(&front).unwrap()).unwrap();
    wait_until("it is served", || ringway.api().count() == 1);
    let shown = said(&ringway, "sessions");
    assert_eq!(shown.lines().count(), 3, "heading, session, count: {shown:?}");
    assert!(shown.contains("x\\u{1b}[2J\\n8 root open\\u{202e}"), "{shown:?}");
    let listed = ringway.api().sessions("")[0]["client"].as_str().unwrap().to_owned();
    assert!(!listed.contains(|c: char| c.is_control() || c == '\u{202e}'), "{listed:?}");
}

#[test]
fn drain_waits_for_sessions_that_end_by_themselves() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let clients = served(&ringway, 6);
    let (of_a, of_b): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(_, name)| *name == b'a');
    let waiting = std::thread::scope(|scope| {
        let drain = scope.spawn(|| timed(|| said(&ringway, "drain main/a --deadline 60s --wait")));
        wait_until("it drains", || ringway.api().get("/v1/pools/main/backends/a")["state"] == "draining");
        std::thread::sleep(Duration::from_millis(300)); // how long it has to wait
        assert!(!drain.is_finished());
        drop(of_a);
        drain.join().unwrap()
    });
    assert!(waiting.0 >= Duration::from_millis(300) && waiting.0 < Duration::from_secs(10), "{:?}", waiting.0);
    let said_of =
        "main/a has drained: all of its sessions ended by themselves\n`ringway ctl ready main/a` takes it back\n";
    assert_eq!(waiting.1, said_of);
    assert!(served(&ringway, 4).iter().all(|(_, name)| *name == b'b'));
    assert_eq!(of_b.len(), 3);
    assert!(said(&ringway, "drain main/b").contains("no backend of main takes new sessions now"));
    said(&ringway, "ready main/a");
    // An answer comes after the fact.
    assert!(served(&ringway, 4).iter().all(|(_, name)| *name == b'a'));
}

/// F1: a client that connects after the answer meets what was changed.
#[test]
fn a_change_is_answered_when_every_worker_serves_by_it() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).workers(2).start();
    for round in 0..50 {
        let (out, back) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        for (name, weight) in [(back, 1), (out, 0)] {
            let body = format!("{{\"weight\": {weight}}}");
            ringway.api().patch(&format!("/v1/pools/main/backends/{name}"), &body).expect(200);
        }
        let served = served(&ringway, 4);
        assert!(served.iter().all(|(_, name)| *name == back.as_bytes()[0]), "round {round}");
    }
}

#[test]
fn drain_says_how_many_sessions_the_deadline_cut() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).workers(2).start();
    let mut clients = served(&ringway, 14);
    clients.retain(|(_, name)| *name == b'a');
    let (took, drained) = timed(|| said(&ringway, "drain main/a --deadline 500ms --wait"));
    assert_about(took, Duration::from_millis(500));
    assert!(drained.starts_with("main/a has drained: the deadline reset 7 sessions\n"), "{drained}");
    assert!(clients.iter_mut().all(|(client, _)| client.end() == End::Reset));
    let again = json(&ringway, "drain main/b --deadline 1ms --wait");
    assert_eq!(again, json!({ "drained": true, "sessions_before": 0, "sessions_cut": 0 }));
    let changes = json(&ringway, "drain main/a");
    assert!(changes["changes"][0].as_str().unwrap().contains("drain"), "{changes}");
}

#[test]
fn kill_resets_who_is_named() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address(), b.address()]).start();
    let mut clients = served(&ringway, 6);
    let id = ringway.api().sessions("?backend=main/b")[0]["id"].as_str().unwrap().to_string();
    assert_eq!(said(&ringway, &format!("kill --session {id}")), "1 session reset\n");
    assert_eq!(said(&ringway, "kill --backend main/a"), "3 sessions reset\n");
    for (client, _) in clients.iter_mut().filter(|(_, name)| *name == b'a') {
        assert_eq!(client.end(), End::Reset);
    }
    assert_eq!(json(&ringway, "kill --client 127.0.0.0/8"), json!({ "killed": 2 }));
    ringway.expect_code("KD", 6);
    fails(&ringway, "kill --backend main/z", 1, &["main/z"]);
}

/// The first message says what to do, whatever is wrong.
#[test]
fn who_cannot_be_reached_is_told_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing.sock");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for (socket, parts) in [(&nothing, ["admin.socket", "RINGWAY_SOCKET"]), (&stale, ["nothing listens", "has ended"])]
    {
        for command in ["status", "backends", "reload --wait", "drain a/b --wait"] {
            let ended = run(Ringway::command().args(["ctl", "--socket"]).arg(socket).args(command.split(' ')));
            assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
            assert!(parts.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
            assert!(ended.stderr.contains(socket.to_str().unwrap()), "{}", ended.stderr);
        }
    }
}

#[test]
fn reload_says_what_has_changed_or_what_is_wrong() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let ringway = Ringway::before([a.address()]).start();
    assert!(said(&ringway, "reload --wait").contains("it was so already"));
    ringway.edit(|text| text + &format!("[[pools.main.backends]]\nname = \"b\"\naddress = \"{}\"\n", b.address()));
    let changes = said(&ringway, "reload --wait");
    assert!(changes.contains("pools.main.backends.b"), "{changes}");
    let mut names: Vec<u8> = served(&ringway, 2).iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    assert_eq!(names, b"ab", "every worker knows it");

    let good = std::fs::read_to_string(ringway.file()).unwrap();
    ringway.edit(|text| text.replace("workers = 2", "workers = 2\nwrokers = 3") + "nonsense = 1\n");
    for words in ["reload --wait", "reload", "--json reload"] {
        let ended = ctl(&ringway, words);
        assert_eq!(ended.status.code(), Some(2), "{words}: {}", ended.stderr);
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "every error, a line each: {}", ended.stderr);
        let file = ringway.file().display().to_string();
        assert!(lines.iter().all(|line| line.starts_with(&file)) && lines[0].contains("workers"), "{}", ended.stderr);
    }
    let refusal = ringway.api().post("/v1/reload").expect(422);
    let error = &refusal["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(3), &json!(1)), "{refusal}");
    assert!(error["file"].as_str().unwrap().ends_with("ringway.toml"));
    assert_eq!(served(&ringway, 2).len(), 2, "the old one goes on serving");
    std::fs::write(ringway.file(), good).unwrap();
    assert_eq!(ringway.api().post("/v1/reload").expect(200)["changes"], json!([]));
}
