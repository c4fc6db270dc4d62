//! The admin socket: which users can speak, and what it takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::harness::api::exchange;
use crate::harness::{Backend, PATIENCE, Ringway, metrics, process, timed, wait_until};

#[test]
fn the_socket_has_its_mode_and_goes_with_ringway() {
    let backend = Backend::echo();
    for (line, mode) in [("", 0o600), ("socket_mode = \"0660\"", 0o660)] {
        let ringway = Ringway::before([backend.address()]).admin(line).start();
        let socket = ringway.socket().to_path_buf();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, mode);
        ringway.api().get("/v1/sessions");
        // The folder is gone with the ringway, so it must be looked at before.
        let seen = socket.with_file_name("seen");
        std::fs::hard_link(&socket, &seen).unwrap();
        ringway.signal(libc::SIGTERM);
        wait_until("the socket is gone", || !socket.exists());
        assert!(seen.exists());
        assert!(ringway.wait(PATIENCE).success());
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
    let (backend, folder) = (Backend::echo(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("live.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let file = folder.path().join("ringway.toml");
    let plan = || Ringway::before([backend.address()]).admin(&format!("socket = {socket:?}"));
    let mut first = process::Process::start(&mut plan().command(&file));
    wait_until("it is ready", || first.output().contains(" message=ready "));
    let ended = process::run(&mut plan().command(&folder.path().join("second.toml")));
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for word in ["admin.socket", "live.sock", "another program listens there"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    let answer = exchange(UnixStream::connect(&socket).unwrap(), "GET", "/v1/sessions", "");
    assert_eq!(answer.status, 200, "the first one goes on");
    assert!(first.is_running());
}

/// A client that reaches the port can look, and change nothing.
#[test]
fn the_port_only_answers() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).start();
    let mut client = ringway.connect();
    client.expect(b"hi");
    let ask = |method: &str, path: &str| exchange(TcpStream::connect(ringway.admin()).unwrap(), method, path, "");
    let sessions = ask("GET", "/v1/sessions").expect(200);
    assert_eq!(sessions["sessions"][0]["client"], client.local_address().as_str());
    let id = sessions["sessions"][0]["id"].as_str().unwrap().to_string();
    for (method, path) in [
        ("DELETE", format!("/v1/sessions/{id}")),
        ("DELETE", "/v1/sessions?backend=main/a".to_string()),
        ("PATCH", "/v1/pools/main/backends/a".to_string()),
        ("POST", "/v1/reload".to_string()),
        ("POST", "/nowhere".to_string()),
    ] {
        let refusal = ask(method, &path).refused(403);
        assert!(refusal.contains("admin.socket"), "{refusal}");
    }
    client.send(b"x");
    client.expect(b"x");
}

/// A place that a whole network can reach, such as that for a kubelet.
#[test]
fn the_port_for_probes_answers_live_and_ready_and_nothing_else() {
    let backend = Backend::echo();
    let plan = Ringway::before([backend.address()]).process("shutdown_delay = \"1h\"");
    let (probes, listen) = (plan.address().replace(":7000", ":7002"), plan.admin_address());
    let ringway = plan.admin(&format!("probes = \"{probes}\"")).start();
    let ask = |method: &str, path: &str| {
        let mut stream = TcpStream::connect(&probes).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: node-7.example\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let status = |method: &str, path: &str| ask(method, path).split(' ').nth(1).unwrap().to_string();
    for (path, says) in [("/live", "live"), ("/ready", "ready")] {
        let answer = ask("GET", path);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{says}\n")), "{answer}");
        assert_eq!(status("HEAD", path), "200");
        assert_eq!(status("POST", path), "405");
    }
    for path in ["/", "/metrics", "/v1/status", "/v1/pools", "/v1/sessions", "/v1/history", "/live/x"] {
        let answer = ask("GET", path);
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("/live and /ready alone"), "{answer}");
    }
    for path in ["/v1/reload", "/v1/take-over"] {
        assert_eq!(status("POST", path), "404");
    }
    assert_eq!(metrics::get(&listen, "/v1/status").0, 200, "the other port answers as before");
    ringway.signal(libc::SIGTERM);
    wait_until("it says that it leaves", || ask("GET", "/ready").starts_with("HTTP/1.1 503 "));
    assert!(ask("GET", "/ready").ends_with("\r\n\r\nleaving\n"));
    assert_eq!(status("GET", "/live"), "200");
}

/// R53: a hundred that ask for metrics and read nothing, and a hundred that do not even ask.
#[test]
fn slow_scrapers_disturb_neither_traffic_nor_probes() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let mut client = ringway.connect();
    client.send(b"ping");
    client.expect(b"ping");
    let before = ringway.process().descriptors();
    let mut slow: Vec<TcpStream> = (0..200)
        .map(|index| {
            let mut stream = TcpStream::connect(ringway.admin()).unwrap();
            let ask: &[u8] = if index % 2 == 0 { b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" } else { b"GET /met" };
            let _ = stream.write_all(ask); // it may be closed already
            stream
        })
        .collect();
    for _ in 0..20 {
        let (took, answer) = timed(|| metrics::get(ringway.admin(), "/ready"));
        assert_eq!(answer.0, 200);
        assert!(took < Duration::from_secs(1), "{took:?}");
        client.send(b"ping");
        client.expect(b"ping");
    }
    assert!(ringway.process().descriptors() <= before + 20, "no more connections than may be");
    // Connections that say nothing are closed in the end, without help from other connections.
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new()); // a reset will do, too
    }
    wait_until("all of them are closed", || ringway.process().descriptors() <= before + 1);
}
