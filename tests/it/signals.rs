//! R48: what signals do, and how a ringway ends.

use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::process::Process;
use crate::harness::{Backend, End, Listener, PATIENCE, Peer, Ringway, metrics, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// A ringway and a session of it that has moved bytes.
fn serving(grace: &str) -> (Ringway, Listener, Peer, Peer) {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).process(&format!("shutdown_grace = \"{grace}\"")).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.send(b"request");
    server.expect(b"request");
    (ringway, listener, client, server)
}

fn drain(ringway: &Ringway, signal: i32) {
    ringway.signal(signal);
    wait_until("it drains", || metrics::get(ringway.admin(), "/ready").0 == 503);
    wait_until("it listens no more", || !listens(ringway.address()));
    assert!(Peer::try_connect(ringway.address()).is_err(), "new connections are refused");
}

/// Whether a socket listens there, found without a connection that could be served.
fn listens(address: &str) -> bool {
    let address: std::net::SocketAddrV4 = address.parse().unwrap();
    let place = format!("{:08X}:{:04X}", address.ip().to_bits().swap_bytes(), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|fields| fields[1] == place && fields[3] == "0A")
}

#[test]
fn term_int_and_quit_let_sessions_finish_and_take_no_new_ones() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let (ringway, _listener, mut client, mut server) = serving("10s");
        assert_eq!(metrics::get(ringway.admin(), "/ready").0, 200);
        drain(&ringway, signal);
        assert_eq!(metrics::get(ringway.admin(), "/live").0, 200);
        let key = Key::to_client(1);
        let sender = std::thread::spawn(move || {
            server.send_keyed(key, 0, 3_000_000);
            server.finish();
            server
        });
        assert_eq!(client.drain_keyed(key, 0), (3_000_000, End::Fin));
        drop(sender.join().unwrap());
        drop(client);
        let (took, status) = timed(|| ringway.wait(PATIENCE));
        assert_eq!(status.code(), Some(0));
        assert!(took < 1000 * MS, "{took:?} after the last session");
    }
}

/// The last session of a worker is closed although the worker ends with it, and others go on.
#[test]
fn each_session_ends_when_it_ends_whoever_else_is_left() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).process("shutdown_grace = \"60s\"").start();
    let mut clients: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
    for client in &mut clients {
        client.send(b"x");
        client.expect(b"x");
    }
    drain(&ringway, libc::SIGTERM);
    for mut client in clients {
        client.finish();
        assert_eq!(client.end(), End::Fin);
    }
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}

#[test]
fn sessions_left_over_at_the_end_of_the_grace_are_reset() {
    let (ringway, _listener, mut client, mut server) = serving("600ms");
    let (took, status) = timed(|| {
        ringway.signal(libc::SIGTERM);
        assert_eq!((client.end(), server.end()), (End::Reset, End::Reset));
        ringway.wait(PATIENCE)
    });
    assert_eq!(status.code(), Some(0));
    assert!(took >= 590 * MS && took < 1600 * MS, "{took:?}");
}

#[test]
fn a_second_signal_resets_what_is_left_and_exits_at_once() {
    for (first, second) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGTERM, libc::SIGINT), (libc::SIGINT, libc::SIGINT)]
    {
        let (ringway, _listener, mut client, mut server) = serving("30s");
        drain(&ringway, first);
        assert!(client.is_silent_for(100 * MS));
        let (took, status) = timed(|| {
            ringway.signal(second);
            assert_eq!((client.end(), server.end()), (End::Reset, End::Reset));
            ringway.wait(PATIENCE)
        });
        assert_eq!(status.code(), Some(0));
        assert!(took < 1000 * MS, "{took:?}");
    }
}

#[test]
fn without_sessions_term_exits_at_once() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let (took, ()) = timed(|| ringway.stop());
    assert!(took < 1000 * MS, "{took:?}");
}

#[test]
fn without_grace_term_resets_at_once() {
    let (ringway, _listener, mut client, mut server) = serving("0s");
    ringway.signal(libc::SIGTERM);
    assert_eq!((client.end(), server.end()), (End::Reset, End::Reset));
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}

/// A shutdown is not a reason to lose a client that waits for its backend.
#[test]
fn a_session_that_is_connecting_when_term_comes_is_served() {
    let mut hole = crate::harness::backend::BlackHole::new();
    let ringway = Ringway::before([hole.listener.address()]).pool("connect_timeout = \"10s\"").start();
    let mut client = ringway.connect();
    ringway.wait_metrics("it is connecting", |metrics| metrics.count("backend_connections", &[]) == 1);
    ringway.signal(libc::SIGTERM);
    hole.open();
    let mut server = hole.listener.accept();
    server.send(b"late");
    drop(server);
    assert_eq!(client.drain(), (b"late".to_vec(), End::Fin));
    drop(client);
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}

#[test]
fn hup_usr1_and_pipe_do_not_disturb_sessions() {
    let (ringway, listener, mut client, mut server) = serving("10s");
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE] {
        ringway.signal(signal);
        std::thread::sleep(50 * MS);
        server.send(b"still here");
        client.expect(b"still here");
        let mut other = ringway.connect();
        listener.accept().send(b"and you, too");
        other.expect(b"and you, too");
    }
    drop((client, server));
    ringway.stop();
}

/// R49: a ringway that was killed can start again immediately, at the same addresses.
#[test]
fn after_a_kill_it_starts_again_at_once() {
    let backend = Backend::named("hi");
    let folder = tempfile::tempdir().unwrap();
    let ip = crate::harness::address::own_ip();
    let bind = format!("[\"{ip}:7000\", \"unix:{}\"]", folder.path().join("s").display());
    let plan = || Ringway::before([backend.address()]).bind(&bind);
    for _ in 0..3 {
        let ringway = plan().start();
        let mut client = Peer::connect(&format!("{ip}:7000"));
        client.expect(b"hi");
        let mut other = Peer::connect(&format!("unix:{}", folder.path().join("s").display()));
        other.expect(b"hi");
        ringway.signal(libc::SIGKILL);
        assert_eq!(ringway.wait(PATIENCE).code(), None);
    }
}

/// What a ringway that was killed has passed on of a stream must not look like all there is, neither to its reader nor
/// to its sender: not while bytes flow, and not in a pause of theirs.
#[test]
fn a_kill_resets_every_stream() {
    const LEN: u64 = 5_000_000_000; // more than any client gets
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).workers(2).start();
    let (mut quiet, mut flowing) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_client(number);
        server.send_keyed(key, 0, 1000);
        client.expect_keyed(key, 0, 1000);
        client.send_keyed(key, 0, 1000);
        server.expect_keyed(key, 0, 1000);
        match number % 4 {
            // A download, an upload, and two that pause.
            0 => flowing.push((key, server, client)),
            1 => flowing.push((key, client, server)),
            _ => quiet.extend([client, server]),
        }
    }
    std::thread::scope(|scope| {
        let mut ends = Vec::new();
        for (key, mut sender, mut reader) in flowing {
            ends.push(scope.spawn(move || sender.send_until_cut(key, 1000, LEN)));
            ends.push(scope.spawn(move || reader.drain_keyed(key, 1000).1));
        }
        ringway.wait_metrics("they flow", |metrics| metrics.count("backend_bytes_total", &[]) > 50_000_000);
        ringway.signal(libc::SIGKILL);
        assert_eq!(ringway.wait(PATIENCE).code(), None);
        for end in ends {
            assert_eq!(end.join().unwrap(), End::Reset);
        }
    });
    for peer in &mut quiet {
        assert_eq!(peer.end(), End::Reset);
    }
}

/// A log rotation or a reload does not know that ringway is just starting.
#[test]
fn no_signal_but_term_and_int_ends_a_ringway_that_starts_or_serves() {
    let backend = Backend::named("hi");
    let file = tempfile::NamedTempFile::new().unwrap();
    let plan = Ringway::before([backend.address()]);
    let address = plan.address();
    let mut ringway = Process::start(&mut plan.command(file.path()));
    let status = format!("/proc/{}/status", ringway.id());
    // What comes before the program runs at all is the business of its starter.
    wait_until("it has begun", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let held = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
        u64::from_str_radix(held, 16).unwrap() & 1 == 1
    });
    let harmless = [1, 10, 12, 14, 16, 26, 27, 28, 29, 30];
    let storm = |ringway: &mut Process| {
        harmless.iter().for_each(|&signal| ringway.signal(signal));
        assert!(ringway.is_running(), "{}", ringway.output());
    };
    wait_until("it serves", || {
        storm(&mut ringway);
        Peer::try_connect(&address).is_ok_and(|mut client| client.read_some(2).is_ok_and(|bytes| bytes == b"hi"))
    });
    (0..20).for_each(|_| storm(&mut ringway));
    wait_until("a reload that was asked for before it was ready is done", || ringway.output().contains("reload"));
    wait_until("it says so", || ringway.output().contains("signal=USR2"));
    Peer::connect(&address).expect(b"hi");
}

/// They have connected, as far as they know.
#[test]
fn clients_in_the_backlog_are_served_when_term_comes() {
    const CLIENTS: usize = 40;
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).start();
    ringway.process().freeze();
    let clients: Vec<Peer> = (0..CLIENTS).map(|_| ringway.connect()).collect();
    ringway.signal(libc::SIGTERM);
    ringway.signal(libc::SIGCONT);
    for mut client in clients {
        client.expect(b"hi");
        client.finish();
    }
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}

/// A balancer in front takes a while to see that it is to send its clients elsewhere.
#[test]
fn new_connections_are_served_during_the_delay_of_a_shutdown() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).process("shutdown_delay = \"700ms\"").start();
    let (took, ()) = timed(|| {
        ringway.signal(libc::SIGTERM);
        wait_until("it says so", || metrics::get(ringway.admin(), "/ready").0 == 503);
        assert_eq!(metrics::get(ringway.admin(), "/live").0, 200);
        let mut client = ringway.connect();
        client.expect(b"hi");
        client.finish();
    });
    assert!(took < 700 * MS, "too slow a machine: {took:?}");
    let (took, status) = timed(|| ringway.wait(PATIENCE));
    assert_eq!(status.code(), Some(0));
    assert!(took < 1700 * MS, "{took:?}");
}

#[test]
fn a_second_signal_ends_the_delay_of_a_shutdown_at_once() {
    let backend = Backend::named("hi");
    let ringway = Ringway::before([backend.address()]).process("shutdown_delay = \"1h\"").start();
    ringway.signal(libc::SIGTERM);
    wait_until("it says so", || metrics::get(ringway.admin(), "/ready").0 == 503);
    ringway.signal(libc::SIGTERM);
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}
