//! A reset is passed on as a reset, after the bytes that came before it were delivered.

use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Mode, Peer, Ringway, timed, wait_until};

const MEGABYTE: u64 = 1_000_000;

/// R4: everything up to the reset, then a reset. The figure to beat: HAProxy and nginx make it a FIN.
#[test]
fn a_reset_of_the_backend_reaches_the_client_after_every_byte() {
    for (workers, mode) in [(1, Mode::Copy), (2, Mode::Copy), (1, Mode::Splice), (2, Mode::Splice)] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).workers(workers).start();
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_client(1);
        let at = mode.enter(&mut server, &mut client, key);
        let len = if mode == Mode::Copy { 40_000 } else { MEGABYTE };
        server.send_keyed(key, at, len);
        // A reset overtakes what the sender's own kernel still holds.
        wait_until("ringway's kernel has it all", || server.unacknowledged() == 0);
        wait_delivered(&ringway, at + len);
        server.reset();
        assert_eq!(client.drain_keyed(key, at), (at + len, End::Reset));
        ringway.expect_code("SD", 1);
        mode.assert_was_used(&ringway);
    }
}

/// What a reset throws away in a receive queue cannot be delivered; so the test waits until ringway has read it.
fn wait_delivered(ringway: &Ringway, len: u64) {
    ringway.wait_metrics("every byte was passed on", |metrics| {
        metrics.count("backend_bytes_total", &[("direction", "to_client")]) == len
    });
}

/// R4: the client does not read for a while: what it was sent before the reset must wait for it.
#[test]
fn a_reset_waits_for_a_client_that_reads_late() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    let key = Key::to_client(1);
    let len = server.send_until_stalled(key, Duration::from_millis(150));
    let taken = || ringway.metrics().count("backend_bytes_total", &[("direction", "to_client")]);
    // The backend's kernel still holds some, and the reset throws that away; what ringway took in must arrive.
    let before = taken();
    assert!(before > 100_000, "only {before} of {len} bytes were taken");
    server.reset();
    std::thread::sleep(Duration::from_millis(200));
    let (at, end) = client.drain_keyed(key, 0);
    assert_eq!(end, End::Reset);
    assert!(at >= before, "{at} of at least {before} bytes");
    ringway.expect_code("SD", 1);
}

/// R5.
#[test]
fn a_reset_of_the_client_reaches_the_backend() {
    for mode in Mode::BOTH {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).start();
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_backend(1);
        let at = mode.enter(&mut client, &mut server, key);
        client.reset();
        let (took, end) = timed(|| server.end());
        assert_eq!((end, at > 0), (End::Reset, true));
        assert!(took < Duration::from_millis(300), "{mode:?}: {took:?}");
        ringway.expect_code("CD", 1);
    }
}

/// R5, while the backend's stream to that client is in full flow.
#[test]
fn a_client_that_resets_a_bulk_stream_stops_its_backend() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    let key = Key::to_client(1);
    let sender = std::thread::spawn(move || server.try_send_keyed(key, 0, 1 << 40, 1 << 16).unwrap_err().kind());
    client.expect_keyed(key, 0, 10 * MEGABYTE);
    client.reset();
    let stopped = sender.join().unwrap();
    assert!(matches!(stopped, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{stopped}");
    ringway.expect_code("CD", 1);
}

/// R5: a reset must not be passed on as a FIN, by whichever operation of ringway it is found.
#[test]
fn a_reset_in_a_bulk_stream_is_not_taken_for_a_fin() {
    let backend = Backend::new(|mut peer, _| {
        let _ = peer.try_send_keyed(Key::to_client(0), 0, 1 << 40, 1 << 16); // until it is cut
    });
    let ringway = Ringway::before([backend.address()]).workers(1).start();
    for _ in 0..8 {
        let clients: Vec<_> = (0..20).map(|_| ringway.connect()).collect();
        for mut client in clients {
            client.expect_keyed(Key::to_client(0), 0, MEGABYTE);
            client.reset();
        }
    }
    // It would be CL if the backend had been told that the client has finished.
    ringway.expect_code("CD", 160);
}

/// R6: a backend that closes without having read everything resets, and had said its last word before.
#[test]
fn the_last_word_of_a_backend_that_did_not_read_everything_is_delivered() {
    for with_splice in [false, true] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).start();
        let mut client = ringway.connect();
        let mut server = listener.accept();
        let key = Key::to_client(1);
        let at = if with_splice { Mode::Splice.enter(&mut server, &mut client, key) } else { 0 };
        client.send(&[7; 3000]);
        ringway.wait_metrics("the request has arrived", |metrics| {
            metrics.count("backend_bytes_total", &[("direction", "to_backend")]) == 3000
        });
        wait_until("it is in the backend's kernel", || server.peek_len() == 3000);
        server.send_keyed(key, at, 50_000);
        drop(server);
        assert_eq!(client.drain_keyed(key, at), (at + 50_000, End::Reset));
        ringway.expect_code("SD", 1);
    }
}

/// A reset after a FIN: the stream that had finished is whole, the other one is cut.
#[test]
fn a_reset_after_a_fin_is_still_a_reset() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    client.send(b"request");
    client.finish();
    server.expect(b"request");
    assert_eq!(server.end(), End::Fin);
    server.send(b"half an ans");
    client.expect(b"half an ans");
    server.reset();
    assert_eq!(client.end(), End::Reset);
    ringway.expect_code("SL", 1);
}

/// R4: last bytes and reset come together. What of the bytes was not received yet the kernel may throw away, but the
/// reset must be noticed, whether the client has anything to say or not.
#[test]
fn a_reset_that_comes_with_the_last_bytes_is_noticed() {
    let key = Key::to_client(0);
    for talks in [false, true] {
        let backend = Backend::new(move |mut peer, number| {
            let _ = peer.try_send_keyed(key, 0, 1 + number as u64 * 997 % 60_000, 20_000);
            peer.reset();
        });
        let ringway = Ringway::before([backend.address()]).start();
        for session in 0..300 {
            // Perhaps so soon that even connecting fails of it.
            let Ok(mut client) = Peer::try_connect(ringway.address()) else { continue };
            // A write that fails of the reset is told of it, and the read after it is not.
            if talks && client.write_all(&[1; 2000]).is_err() {
                continue;
            }
            assert_eq!(client.drain_keyed(key, 0).1, End::Reset, "session {session}");
        }
        ringway.wait_idle();
    }
}

/// The same of a FIN, of either end, also on unix sockets.
#[test]
fn a_fin_that_comes_with_the_last_bytes_is_noticed() {
    let key = Key::to_client(0);
    let folder = tempfile::tempdir().unwrap();
    let at = format!("unix:{}", folder.path().join("backend").display());
    let serve = move |mut peer: Peer, number: usize| peer.send_keyed(key, 0, 1 + number as u64 * 997 % 60_000);
    for backend in [Backend::new(serve), Backend::at(&at, serve)] {
        let bind = format!("\"unix:{}\"", folder.path().join("client").display());
        let ringway = Ringway::before([backend.address()]).bind(&bind).start();
        for session in 0..300u64 {
            let mut client = Peer::connect(bind.trim_matches('"'));
            client.finish();
            let end = client.drain_keyed(key, 0);
            assert_eq!(end, (1 + session * 997 % 60_000, End::Fin), "session {session}");
        }
        ringway.expect_code("--", 300);
    }
}
