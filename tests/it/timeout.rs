//! What ends by itself. With nothing undelivered in a FIN, with something in a reset: a stream that was cut short
//! never looks whole.

use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Mode, Ringway, assert_about, timed, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// More than ringway and its kernel pass on to a client that does not read.
const STALLING: u64 = 16 << 20;

/// R7.
#[test]
fn a_quiet_session_ends_in_a_fin() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("idle_timeout = \"1s\"").start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.send(b"x");
    server.expect(b"x");
    std::thread::sleep(SECOND / 2);
    server.send(b"y");
    client.expect(b"y");
    let (took, ends) = timed(|| [client.end(), server.end()]);
    assert_about(took, SECOND);
    assert_eq!(ends, [End::Fin; 2]);
    ringway.expect_code("cD", 1);
}

/// A client that never says anything counts as quiet, too.
#[test]
fn a_session_that_never_moved_a_byte_times_out() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("idle_timeout = \"500ms\"").start();
    let (took, ends) = timed(|| {
        let mut client = ringway.connect();
        let mut server = listener.accept();
        [client.end(), server.end()]
    });
    assert_about(took, SECOND / 2);
    assert_eq!(ends, [End::Fin; 2]);
    ringway.expect_code("cD", 1);
}

/// R7, the other half of it: bytes that were taken in and not delivered.
#[test]
fn a_stalled_stream_ends_in_a_reset_and_never_in_a_fin() {
    for to_client in [true, false] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).pool("idle_timeout = \"700ms\"").start();
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_client(1);
        let (from, to) = if to_client { (&mut server, &mut client) } else { (&mut client, &mut server) };
        to.small_receive_buffer();
        assert_eq!(from.send_until_cut(key, 0, STALLING), End::Reset, "the one who sent");
        // What the kernel of the client that does not read has already cannot be taken back.
        let (at, end) = to.drain_keyed(key, 0);
        assert_eq!(end, End::Reset, "after {at} bytes");
        assert!(at < STALLING, "nothing was undelivered");
        ringway.expect_code(if to_client { "cD" } else { "sD" }, 1);
    }
}

/// Bytes in either direction keep a session alive, in both modes.
#[test]
fn a_session_that_moves_bytes_is_not_quiet() {
    for mode in Mode::BOTH {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).pool("idle_timeout = \"400ms\"").start();
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_client(1);
        let at = mode.enter(&mut server, &mut client, key);
        for byte in at..at + 8 {
            std::thread::sleep(SECOND / 5);
            server.send_keyed(key, byte, 1);
            client.expect_keyed(key, byte, 1);
        }
        assert_eq!(client.end(), End::Fin);
        assert_eq!(server.end(), End::Fin);
        ringway.expect_code("cD", 1);
    }
}

/// `half_close_timeout` counts from one side's FIN, and anew from each byte.
#[test]
fn a_half_closed_session_has_a_limit_of_its_own() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("half_close_timeout = \"600ms\"").start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.finish();
    assert_eq!(server.end(), End::Fin);
    std::thread::sleep(SECOND * 3 / 10);
    server.send(b"z");
    client.expect(b"z");
    let (took, end) = timed(|| client.end());
    assert_about(took, SECOND * 6 / 10);
    assert_eq!(end, End::Fin);
    ringway.expect_code("sL", 1);
    wait_until("the backend sees it", || server.write_some(b"more").is_err());
}

/// Both connections of a session that lives on are probed by the kernel; how soon shows in its list of sockets.
#[test]
fn a_session_that_lives_on_is_kept_alive() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("keepalive = \"77s\"").start();
    let _ends = (ringway.connect(), listener.accept());
    let [front, back] = [ringway.address(), listener.address()].map(hex);
    wait_until("the kernel probes both", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_probed = |local: bool, address: &str| {
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
                let is_ours = fields[if local { 1 } else { 2 }] == address && fields[3] == "01";
                let (timer, ticks) = fields[5].split_once(':').unwrap_or_default();
                let seconds = u64::from_str_radix(ticks, 16).unwrap_or(0) / 100;
                is_ours && timer == "02" && (60..=77).contains(&seconds)
            })
        };
        is_probed(true, &front) && is_probed(false, &back)
    });
}

/// As `/proc/net/tcp` writes an address.
fn hex(address: &str) -> String {
    let address: std::net::SocketAddrV4 = address.parse().unwrap();
    format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port())
}

/// `lifetime_max`, ±10 %, however busy.
#[test]
fn no_session_grows_older_than_it_may() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("lifetime_max = \"1s\"").start();
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push((std::time::Instant::now(), ringway.connect(), listener.accept()));
    }
    let (mut ages, mut waiting) = (Vec::new(), sessions);
    for (begun, client, server) in &mut waiting {
        assert_eq!(client.end(), End::Fin);
        ages.push(begun.elapsed());
        assert_eq!(server.end(), End::Fin);
    }
    let (youngest, oldest) = (*ages.iter().min().unwrap(), *ages.iter().max().unwrap());
    assert!(youngest >= SECOND * 88 / 100 && oldest < SECOND * 16 / 10, "{youngest:?} to {oldest:?}");
    ringway.expect_code("LD", 10);
}

/// ...and a session that is cut in the middle ends in a reset.
#[test]
fn an_old_session_with_bytes_on_their_way_ends_in_a_reset() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("lifetime_max = \"700ms\"").start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    let key = Key::to_client(1);
    client.small_receive_buffer();
    assert_eq!(server.send_until_cut(key, 0, STALLING), End::Reset);
    let (at, end) = client.drain_keyed(key, 0);
    assert_eq!((end, at < STALLING), (End::Reset, true));
    ringway.expect_code("LD", 1);
}

/// The same in full flow: what the client has got must not look like all there is, whatever the moment.
#[test]
fn an_old_session_in_full_flow_does_not_look_finished() {
    // The bytes are made when they are first asked for, which may take longer than the first session lives.
    let _ = Key::to_client(0).bytes(0, 1);
    let source = Backend::new(|mut peer, number| {
        assert_eq!(peer.send_until_cut(Key::to_client(number as u64), 0, 1 << 40), End::Reset);
    });
    let ringway = Ringway::before([source.address()]).pool("lifetime_max = \"300ms\"").start();
    for number in 0..8 {
        let (at, end) = ringway.connect().drain_keyed(Key::to_client(number), 0);
        assert_eq!(end, End::Reset, "session {number} after {at} bytes");
    }
    ringway.expect_code("LD", 8);
}
