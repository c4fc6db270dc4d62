//! One line per session, and what becomes of the log when there is no room for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::address::refusing;
use crate::harness::process::{Ended, run};
use crate::harness::ringway::Plan;
use crate::harness::{Backend, End, Listener, Metrics, Peer, Ringway, timed, wait_until};

/// A folder for a log, and the tables that turn it on.
struct Log {
    folder: tempfile::TempDir,
}

impl Log {
    fn new() -> Log {
        Log { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    fn on(&self, plan: Plan) -> Plan {
        plan.access_log(self.path().to_str().unwrap(), "json")
    }

    /// Its lines, once there are so many.
    #[track_caller]
    fn lines(&self, count: usize) -> Vec<Value> {
        lines_of(&self.path(), count)
    }
}

#[track_caller]
fn lines_of(path: &Path, count: usize) -> Vec<Value> {
    let mut text = String::new();
    wait_until(&format!("{count} lines in {}", path.display()), || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().count() >= count
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), count, "{text}");
    lines
}

#[test]
fn a_session_is_one_line_with_what_its_peers_saw() {
    let (log, listener) = (Log::new(), Listener::new());
    let ringway = log.on(Ringway::before([listener.address()])).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.send(b"request");
    server.expect(b"request");
    server.send(b"answer!!!");
    client.expect(b"answer!!!");
    std::thread::sleep(Duration::from_millis(60));
    let (address, seen) = (client.local_address(), server.peer_address());
    drop(client);
    assert_eq!(server.end(), End::Fin);
    drop(server);
    let line = &log.lines(1)[0];
    let texts = ["listener", "client", "pool", "backend", "backend_local", "termination"];
    assert_eq!(texts.map(|key| line[key].as_str().unwrap()), ["main", &address, "main", "a", &seen, "--"]);
    let numbers = ["bytes_to_backend", "bytes_to_client", "queue_ms"].map(|key| line[key].as_u64().unwrap());
    assert_eq!(numbers, [7, 9, 0]);
    for side in ["client", "backend"] {
        let rtt_us = line[format!("{side}_rtt_us")].as_u64().unwrap();
        assert!((1..200_000).contains(&rtt_us), "{line}");
        assert_eq!(line[format!("{side}_retransmits")], 0);
    }
    let duration_ms = line["duration_ms"].as_u64().unwrap();
    assert!((60..2000).contains(&duration_ms) && line["connect_ms"].as_u64().unwrap() <= duration_ms, "{line}");
    assert!(line["worker"].as_u64().unwrap() < 2 && line.get("reason").is_none() && line.get("attempts").is_none());
    let time = humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!(time.elapsed().unwrap() < Duration::from_secs(20), "{line}");
    assert_ne!(ringway.metrics().count("build_info", &[]), 0);
    assert_eq!(ringway.metrics().count("access_log_dropped_total", &[]), 0);
}

#[test]
fn sessions_of_those_that_only_knock_can_be_left_out() {
    let (log, listener) = (Log::new(), Listener::new());
    // It stands in the table that comes before it.
    let ringway = log.on(Ringway::before([listener.address()])).more("skip_empty = true").start();
    let knock = ringway.connect();
    let mut banner = listener.accept();
    banner.send(b"220 ready");
    drop(knock);
    drop(banner);
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.send(b"x");
    server.expect(b"x");
    drop(client);
    drop(server);
    // A session that the backend resets did not end by its client.
    let mut cut = ringway.connect();
    let mut refuses = listener.accept();
    refuses.send(b"421 busy");
    cut.expect(b"421 busy");
    refuses.reset();
    assert_eq!(cut.end(), End::Reset);
    ringway.wait_idle();
    let lines = log.lines(2);
    let mut seen: Vec<_> = lines.iter().map(|line| line["termination"].as_str().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["--", "SD"], "{lines:?}");
    assert_eq!(ringway.metrics().count("sessions_total", &[]), 3);
}

#[test]
fn attempts_that_failed_are_named_and_a_session_without_any_backend_has_its_last_one() {
    let (log, backend, dead) = (Log::new(), Backend::named("hi"), refusing());
    let plan = Ringway::plan().backend("dead", &dead, "").backend("spare", backend.address(), "backup = true");
    let ringway = log.on(plan.never_ejecting()).start();
    let mut client = ringway.connect();
    client.expect(b"hi");
    drop(client);
    let line = &log.lines(1)[0];
    assert_eq!(line["backend"], "spare");
    let attempts = line["attempts"].as_array().unwrap();
    let seen: Vec<_> =
        attempts.iter().map(|attempt| (attempt["backend"].as_str(), attempt["error"].as_str())).collect();
    assert_eq!(seen, [(Some("dead"), Some("refused")), (Some("spare"), None)]);

    let (log, other) = (Log::new(), refusing());
    let ringway = log.on(Ringway::before([other.as_str()]).never_ejecting()).start();
    assert_eq!(ringway.turned_away(), End::Reset);
    let line = &log.lines(1)[0];
    assert_eq!((line["termination"].as_str(), line["backend"].as_str()), (Some("SC"), Some("a")));
    assert!(line["connect_ms"].is_null() && line.get("attempts").is_none(), "{line}");
}

#[test]
fn who_was_cut_off_is_told_why() {
    let (log, listener) = (Log::new(), Listener::new());
    let plan = Ringway::plan().backend("a", listener.address(), "connections_max = 1").pool("queue_max = 1");
    let ringway = log.on(plan.pool("queue_timeout = \"300ms\"").process("shutdown_grace = \"0s\"")).start();
    let mut first = ringway.connect();
    let _server = listener.accept();
    let mut waits = ringway.connect();
    ringway.wait_metrics("one waits", |metrics| metrics.count("pool_queue_length", &[]) == 1);
    assert_eq!(ringway.turned_away(), End::Reset);
    assert_eq!(waits.end(), End::Reset);
    let lines = log.lines(2);
    assert_eq!((&lines[0]["termination"], &lines[0]["reason"]), (&"RQ".into(), &"queue_full".into()));
    assert!(lines[0]["backend"].is_null() && lines[0]["connect_ms"].is_null());
    assert_eq!(lines[1]["termination"], "sQ");
    assert!(lines[1]["queue_ms"].as_u64().unwrap() >= 290 && lines[1].get("reason").is_none(), "{}", lines[1]);
    ringway.signal(libc::SIGTERM);
    assert_eq!(first.end(), End::Reset);
    assert!(ringway.wait(Duration::from_secs(20)).success());
    let line = &log.lines(3)[2];
    assert_eq!((&line["termination"], &line["reason"]), (&"KD".into(), &"shutdown".into()), "also the last line");
}

#[test]
fn a_backend_that_goes_down_is_the_reason() {
    let (log, backend, other) = (Log::new(), Backend::echo(), Backend::named("b"));
    let checks_of = |backend: &Backend| format!("{}:7400", backend.address().rsplit_once(':').unwrap().0);
    let [check, _takes_them] = [&backend, &other].map(|backend| Backend::at(&checks_of(backend), |_, _| {}));
    let plan = Ringway::before([backend.address()]).backend("b", other.address(), "backup = true");
    let ringway = log.on(plan.checked(1, 1).check("port = 7400")).start();
    ringway.wait_up("main", "a", true);
    let mut client = ringway.connect();
    client.send(b"x");
    client.expect(b"x");
    check.kill();
    assert_eq!(client.end(), End::Reset);
    let line = &log.lines(1)[0];
    assert_eq!((&line["termination"], &line["reason"]), (&"DD".into(), &"backend_down".into()));
}

#[test]
fn a_main_backend_that_is_up_again_is_the_reason_for_sessions_on_backups() {
    let (log, backend, other) = (Log::new(), Backend::echo(), Backend::named("b"));
    let checks_of = |backend: &Backend| format!("{}:7400", backend.address().rsplit_once(':').unwrap().0);
    let [check, _takes_them] = [&backend, &other].map(|backend| Backend::at(&checks_of(backend), |_, _| {}));
    let plan = Ringway::before([backend.address()]).backend("b", other.address(), "backup = true");
    let ringway = log.on(plan.checked(1, 1).check("port = 7400").pool("on_main_up = \"close\"")).start();
    check.kill();
    ringway.wait_up("main", "a", false);
    let mut client = ringway.connect();
    client.expect(b"b");
    let _check = Backend::at(&checks_of(&backend), |_, _| {});
    assert_eq!(client.end(), End::Reset);
    let line = &log.lines(1)[0];
    assert_eq!(
        (&line["termination"], &line["reason"], &line["backend"]),
        (&"UD".into(), &"main_up".into(), &"b".into())
    );
    ringway.wait_said("takes sessions again: those of the backups are cut");
}

#[test]
fn a_rename_and_usr1_lose_no_line_of_either_log() {
    let (log, backend) = (Log::new(), Backend::echo());
    let operational = log.folder.path().join("ringway.log");
    let plan = log.on(Ringway::before([backend.address()])).log_file(operational.to_str().unwrap());
    let ringway = plan.start();
    let session = || {
        let mut client = ringway.connect();
        client.send(b"x");
        client.expect(b"x");
    };
    let rotated = |round: usize, path: &Path| path.with_extension(round.to_string());
    for round in 0..3 {
        (0..20).for_each(|_| session());
        for path in [&log.path(), &operational] {
            std::fs::rename(path, rotated(round, path)).unwrap();
        }
        (0..20).for_each(|_| session());
        ringway.signal(libc::SIGUSR1);
        wait_until("both are there again", || log.path().exists() && operational.exists());
    }
    ringway.stop();
    let all: Vec<PathBuf> = (0..3).map(|round| rotated(round, &log.path())).chain([log.path()]).collect();
    let texts: Vec<String> = all.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut numbers: Vec<String> = texts
        .concat()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line)["session"].as_str().unwrap().to_string())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 120);
    let said = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert!(said(rotated(0, &operational)).contains(" message=ready "));
    assert!(said(operational).contains("asked to shut down"));
}

/// R52.
#[test]
fn a_full_disk_costs_lines_and_not_sessions() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).access_log("/dev/full", "json").start();
    let session = |ringway: &Ringway| {
        let mut client = ringway.connect();
        client.send(b"x");
        client.expect(b"x");
    };
    (0..20).for_each(|_| session(&ringway));
    ringway.wait_metrics("20 are dropped", |metrics| metrics.count("access_log_dropped_total", &[]) == 20);
    ringway.wait_said("lines of the access log are lost");
    assert_eq!(ringway.process().output().matches("are lost").count(), 1, "once, not a line for a line");
    drop(ringway);
}

/// R52.
#[test]
fn a_blocked_pipe_holds_up_neither_sessions_nor_checks() {
    let backend = Backend::echo();
    let folder = tempfile::tempdir().unwrap();
    let plan = Ringway::before([backend.address()]).access_log("stdout", "json").checked(1, 1);
    let plan = plan.more("[log]\nlevel = \"debug\"");
    let (address, admin) = (plan.address(), plan.admin_address());
    let (_reader, pipe) = std::io::pipe().unwrap();
    let mut command = plan.command(&folder.path().join("ringway.toml"));
    let mut child = command.stdout(pipe.try_clone().unwrap()).stderr(pipe).spawn().unwrap();
    wait_until("it accepts", || Peer::try_connect(&address).is_ok());
    let checks = || Metrics::scrape(&admin).count("backend_checks_total", &[]);
    // A pipe takes 64 KiB; these are more lines than that, of either log.
    let (took, ()) = timed(|| {
        for _ in 0..600 {
            let mut client = Peer::connect(&address);
            client.send(b"x");
            client.expect(b"x");
        }
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
    let before = checks();
    wait_until("checks go on", || checks() >= before + 400 / 50);
    // It must end although its last lines cannot be written.
    // SAFETY: a plain call; the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
}

#[test]
fn haproxys_form_can_be_read_by_what_reads_haproxys_logs() {
    let (log, backend) = (Log::new(), Backend::echo());
    let plan = Ringway::before([backend.address()]).access_log(log.path().to_str().unwrap(), "tcplog");
    let ringway = plan.start();
    let mut client = ringway.connect();
    client.send(b"four");
    client.expect(b"four");
    let address = client.local_address();
    drop(client);
    let mut text = String::new();
    wait_until("a line", || {
        text = std::fs::read_to_string(log.path()).unwrap_or_default();
        text.ends_with('\n')
    });
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words.len(), 9, "{text}");
    assert_eq!((words[0], words[2], words[3], words[5], words[6]), (&*address, "main", "main/a", "4", "--"));
    assert!(words[1].starts_with('[') && words[1].ends_with(']') && words[4].split('/').count() == 3, "{text}");
    assert_eq!((words[7], words[8]), ("0/0/0/0/0", "0/0"), "{text}");
}

#[test]
fn lines_go_to_a_stream_too() {
    let backend = Backend::echo();
    for stream in ["stdout", "stderr"] {
        let ringway = Ringway::before([backend.address()]).access_log(stream, "json").start();
        let mut client = ringway.connect();
        client.send(b"x");
        client.expect(b"x");
        drop(client);
        ringway.wait_said("\"bytes_to_backend\":1,\"bytes_to_client\":1,");
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |plan: Plan| {
        let Ended { status, stderr, .. } = run(&mut plan.command(&folder.path().join("r.toml")));
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    };
    let access = refusal(Ringway::before(["127.0.0.1:9"]).access_log("/no/such/log", "json"));
    assert!(access.contains("access_log.output: cannot open /no/such/log: its directory does not exist"), "{access}");
    let log = refusal(Ringway::before(["127.0.0.1:9"]).log_file("/no/such/log"));
    assert!(log.contains("log.output: cannot open /no/such/log: its directory does not exist"), "{log}");
}

/// RFC 5424, over a socket as syslog servers have it.
#[test]
fn a_syslog_server_gets_each_line_as_a_message_and_need_not_be_there_at_the_start() {
    let (backend, folder) = (Listener::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("log");
    let plan = Ringway::before([backend.address()]).access_log(&format!("syslog:{}", path.display()), "json");
    let ringway = plan.start();
    let session = || {
        let client = ringway.connect();
        drop((backend.accept(), client));
        ringway.wait_idle();
    };
    session();
    let server = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    session();
    let mut buffer = vec![0; 8192];
    let length = server.recv(&mut buffer).unwrap();
    let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
    let (header, line) = message.split_once(" - {").unwrap();
    let pid = ringway.process().id();
    assert!(header.starts_with("<134>1 ") && header.contains(&format!(" ringway {pid} ")), "{message}");
    let line: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
    assert_eq!(line["listener"], "main", "{line}");
}
