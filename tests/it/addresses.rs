//! IPv6, port ranges and unix sockets, on both sides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::address::own_ip;
use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Mode, Peer, Ringway, process, wait_until};

/// A few bytes there and back, in both modes, and a half-close.
fn exercise(ringway: &Ringway, listen: &str, listener: &Listener) {
    for mode in Mode::BOTH {
        let mut client = Peer::connect(listen);
        let mut server = listener.accept();
        let (there, back) = (Key::to_backend(1), Key::to_client(1));
        let at = mode.enter(&mut client, &mut server, there);
        mode.enter(&mut server, &mut client, back);
        client.send_keyed(there, at, 5000);
        client.finish();
        assert_eq!(server.drain_keyed(there, at), (at + 5000, End::Fin));
        drop(server);
        assert_eq!(client.end(), End::Fin);
    }
    ringway.wait_idle();
}

fn unix(folder: &tempfile::TempDir, name: &str) -> String {
    format!("unix:{}", folder.path().join(name).display())
}

#[test]
fn ipv6_on_both_sides() {
    let listener = Listener::at("[::1]:0"); // the kernel chooses
    let ringway = Ringway::before([listener.address()]).bind("\"[::1]:0\"").start();
    exercise(&ringway, &format!("[::1]:{}", ringway.process().listening_port_v6()), &listener);
    ringway.expect_code("--", 2);
}

/// `[::]` is IPv6 only, so that it does not take what belongs to an IPv4 listener.
#[test]
fn the_ipv6_wildcard_leaves_ipv4_alone() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).bind("\"[::]:0\"").start();
    let port = ringway.process().listening_port_v6();
    Peer::connect(&format!("[::1]:{port}")).expect(b"hi");
    assert!(Peer::try_connect(&format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn a_port_range_is_a_listener_on_each_of_its_ports() {
    let (backend, ip) = (Backend::named("hi"), own_ip());
    let ringway = Ringway::before([backend.address()]).bind(&format!("\"{ip}:7000-7009\"")).start();
    for port in 7000..=7009 {
        Peer::connect(&format!("{ip}:{port}")).expect(b"hi");
    }
    for port in [6999, 7010] {
        assert!(Peer::try_connect(&format!("{ip}:{port}")).is_err());
    }
    ringway.wait_idle();
    assert_eq!(ringway.metrics().count("listener_connections_total", &[("listener", "main")]), 10);
}

#[test]
fn unix_sockets_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (unix(&folder, "front"), unix(&folder, "back"));
    let listener = Listener::at(&back);
    for workers in [1, 2] {
        let ringway = Ringway::before([&*back]).workers(workers).bind(&format!("\"{front}\"")).start();
        exercise(&ringway, &front, &listener);
        ringway.expect_code("--", 2);
    }
}

#[test]
fn unix_clients_reach_tcp_backends_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (unix(&folder, "front"), unix(&folder, "back"));
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).bind(&format!("\"{front}\"")).start();
    exercise(&ringway, &front, &listener);
    let listener = Listener::at(&back);
    let ringway = Ringway::before([&*back]).start();
    exercise(&ringway, ringway.address(), &listener);
    ringway.expect_code("--", 2);
}

#[test]
fn a_unix_backend_that_is_not_there_counts_as_refused() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::named("b");
    let ringway = Ringway::before([&*unix(&folder, "nobody"), backend.address()]).never_ejecting().start();
    for _ in 0..20 {
        ringway.connect().expect(b"b");
    }
    let metrics = ringway.metrics();
    let refused = metrics.count("backend_connect_errors_total", &[("backend", "a"), ("reason", "refused")]);
    // Every other session has its turn there.
    assert_eq!((refused, metrics.count("pool_retries_total", &[])), (10, 10));
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backend) = (folder.path().join("front"), Backend::named("hi"));
    let front = unix(&folder, "front");
    drop(Listener::unix(&path));
    assert!(path.exists(), "stale");
    let plan = || Ringway::before([backend.address()]).bind(&format!("\"{front}\"")).listener("unix_mode = \"0640\"");
    let first = plan().start();
    Peer::connect(&front).expect(b"hi");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    refused(plan().command(&folder.path().join("second.toml")), "another program listens there");
    Peer::connect(&front).expect(b"hi");
    drop(first);
    let live = Listener::unix(Path::new(&folder.path().join("other")));
    let plan = Ringway::before([backend.address()]).bind(&format!("\"{}\"", live.address()));
    refused(plan.command(&folder.path().join("third.toml")), "another program listens there");
}

/// No client that looks for the path would find it otherwise until the next start.
#[test]
fn a_socket_file_that_was_removed_is_bound_anew_and_nobody_in_between_is_lost() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), Backend::named("hi"));
    let (path, front) = (folder.path().join("front"), unix(&folder, "front"));
    let plan = Ringway::before([backend.address()]).bind(&format!("\"{front}\"")).listener("unix_mode = \"0640\"");
    let ringway = plan.workers(2).start();
    let mut early = Peer::connect(&front);
    early.expect(b"hi");
    for path in [&path, &ringway.socket().to_path_buf()] {
        std::fs::remove_file(path).unwrap();
        wait_until("the file is there again", || path.exists());
        ringway.wait_said("the file of this socket was removed; ringway has bound it again");
    }
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    Peer::connect(&front).expect(b"hi");
    assert_eq!(ringway.api().get("/v1/status")["phase"], "serving");
    early.send(b"on");
    early.expect(b"on");
    // A reload does not wait for the next look.
    std::fs::remove_file(&path).unwrap();
    ringway.change("[pools.main]\n", "[pools.main]\nidle_timeout = \"2h\"\n");
    Peer::connect(&front).expect(b"hi");
    let (socket, descriptors) = (ringway.socket().to_path_buf(), ringway.process().descriptors());
    wait_until("what was there before is closed", || ringway.process().descriptors() <= descriptors);
    drop(early);
    ringway.stop();
    assert!(!path.exists() && !socket.exists(), "nobody listens there any more");
}

#[test]
fn a_socket_file_of_another_program_is_left_alone() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), Backend::named("hi"));
    let (path, front) = (folder.path().join("front"), unix(&folder, "front"));
    let ringway = Ringway::before([backend.address()]).bind(&format!("\"{front}\"")).start();
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    let other = Listener::unix(&path);
    ringway.wait_said("the file of this socket was replaced by another program");
    ringway.stop();
    assert!(path.exists(), "it is not ringway's to remove");
    let _client = Peer::connect(&front);
    drop(other.accept());
}

#[test]
fn a_listener_that_goes_takes_its_socket_file_with_it() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), Backend::named("hi"));
    let [stays, goes] = ["stays", "goes"].map(|name| unix(&folder, name));
    let ringway = Ringway::before([backend.address()]).bind(&format!("[\"{stays}\", \"{goes}\"]")).start();
    Peer::connect(&goes).expect(b"hi");
    ringway.change(&format!(", \"{goes}\""), "");
    wait_until("the file is gone", || !folder.path().join("goes").exists());
    Peer::connect(&stays).expect(b"hi");
    // The ringway that took over has the file, and the one before leaves it.
    let next = ringway.successor(|text| text);
    assert_eq!(ringway.wait(crate::harness::PATIENCE).code(), Some(0));
    Peer::connect(&stays).expect(b"hi");
    // It leaves what the one before had and it has not.
    let last = next.successor(|text| text.replace("stays", "new"));
    assert_eq!(next.wait(crate::harness::PATIENCE).code(), Some(0));
    assert!(!folder.path().join("stays").exists(), "nobody listens there any more");
    Peer::connect(&unix(&folder, "new")).expect(b"hi");
    last.stop();
    assert!(!folder.path().join("new").exists());
}

#[test]
fn a_file_that_is_no_socket_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let plan = Ringway::before(["127.0.0.1:9"]).bind(&format!("\"unix:{}\"", path.display()));
    refused(plan.command(&folder.path().join("ringway.toml")), "precious");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[track_caller]
fn refused(mut command: std::process::Command, why: &str) {
    let ended = process::run(&mut command);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}
