//! A FIN is passed on after every byte before it; the other direction goes on.

use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::{End, Listener, Mode, Peer, Ringway};

/// Ends the direction `from` → `to`, and then sends 100 kB the other way.
fn half_close(mode: Mode, mut from: Peer, mut to: Peer) {
    let (there, back) = (Key::to_backend(1), Key::to_client(1));
    let at = mode.enter(&mut from, &mut to, there);
    from.send_keyed(there, at, 12_345);
    from.finish();
    assert_eq!(to.drain_keyed(there, at), (at + 12_345, End::Fin));
    assert!(from.is_silent_for(Duration::from_millis(30)), "the other direction is still open");
    to.send_keyed(back, 0, 100_000);
    to.finish();
    assert_eq!(from.drain_keyed(back, 0), (100_000, End::Fin));
}

fn for_both_modes(is_from_client: bool) {
    for (workers, mode) in [(1, Mode::Copy), (1, Mode::Splice), (2, Mode::Splice)] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).workers(workers).start();
        let client = ringway.connect();
        let server = listener.accept();
        if is_from_client {
            half_close(mode, client, server)
        } else {
            half_close(mode, server, client)
        }
        ringway.expect_code("--", 1);
        mode.assert_was_used(&ringway);
    }
}

/// R2.
#[test]
fn a_client_that_has_finished_gets_the_whole_answer() {
    for_both_modes(true);
}

/// R3.
#[test]
fn a_backend_that_has_finished_gets_the_whole_rest() {
    for_both_modes(false);
}

/// R2, with nothing at all before the FIN.
#[test]
fn a_fin_is_passed_on_without_any_byte() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    server.send(b"hello");
    client.expect(b"hello");
    client.finish();
    assert_eq!(server.end(), End::Fin);
    server.send(b"bye");
    drop(server);
    assert_eq!(client.drain(), (b"bye".to_vec(), End::Fin));
    ringway.expect_code("--", 1);
}

/// Everything of a long answer is delivered to a slow reader although its sender closed long ago.
#[test]
fn a_slow_reader_gets_everything_after_the_sender_has_closed() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).pool("half_close_timeout = \"10s\"").start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    let key = Key::to_client(2);
    client.finish();
    assert_eq!(server.end(), End::Fin);
    let len = 20 << 20;
    let sender = std::thread::spawn(move || server.send_keyed(key, 0, len));
    let mut at = 0;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(50));
        client.expect_keyed(key, at, 200_000);
        at += 200_000;
    }
    assert_eq!(client.drain_keyed(key, at), (len, End::Fin));
    sender.join().unwrap();
    ringway.expect_code("--", 1);
}
