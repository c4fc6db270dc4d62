//! Integrity, in both modes of the relay and both directions.

use crate::harness::bytes::{Key, mix};
use crate::harness::{Backend, End, Listener, Peer, Ringway, backend};

const MIB: u64 = 1 << 20;

/// Sends streams in both directions together, to their ends.
fn exchange(client: Peer, mut server: Peer, number: u64, sizes: [u64; 2], chunk: usize) {
    let (up, down) = (Key::to_backend(number), Key::to_client(number));
    let (mut client_in, mut client_out, mut server_in) = (client.again(), client, server.again());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            client_out.send_chunked(up, 0, sizes[0], chunk);
            client_out.finish();
        });
        scope.spawn(move || {
            server.send_chunked(down, 0, sizes[1], chunk);
            server.finish();
        });
        scope.spawn(move || assert_eq!(server_in.drain_keyed(up, 0), (sizes[0], End::Fin)));
        assert_eq!(client_in.drain_keyed(down, 0), (sizes[1], End::Fin));
    });
}

fn pair(ringway: &Ringway, listener: &Listener) -> (Peer, Peer) {
    let client = ringway.connect();
    (client, listener.accept())
}

/// R1, in splice mode: bulk, in both directions together.
#[test]
fn bulk_streams_arrive_unchanged() {
    for workers in [1, 2] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).workers(workers).start();
        for number in 0..2 {
            let (client, server) = pair(&ringway, &listener);
            exchange(client, server, number, [24 * MIB, 16 * MIB + 4321], 200_000);
        }
        ringway.expect_code("--", 2);
        let metrics = ringway.metrics();
        let (spliced, copied) =
            (metrics.count("worker_spliced_bytes_total", &[]), metrics.count("worker_copied_bytes_total", &[]));
        assert_eq!(spliced + copied, 2 * (40 * MIB + 4321));
        assert!(spliced > 40 * MIB, "{spliced} of them spliced");
    }
}

/// R1, many connections together, sizes and chunks at random.
#[test]
fn many_streams_at_once_arrive_unchanged_and_in_their_own_connection() {
    let backend = Backend::new(|mut peer, _| {
        // The first eight bytes say whose stream it is.
        let Ok(head) = peer.read_some(8) else { return };
        let number = u64::from_le_bytes(head.try_into().unwrap());
        let len = mix(number) % (2 * MIB);
        let mut reader = peer.again();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                peer.send_chunked(Key::to_client(number), 0, len, 1 + (mix(number + 99) % 100_000) as usize);
                peer.finish();
            });
            assert_eq!(reader.drain_keyed(Key::to_backend(number), 0), (len / 2, End::Fin));
        });
    });
    let ringway = Ringway::before([backend.address()]).start();
    std::thread::scope(|scope| {
        for number in 0..32u64 {
            let ringway = &ringway;
            scope.spawn(move || {
                let mut client = ringway.connect();
                client.send(&number.to_le_bytes());
                let len = mix(number) % (2 * MIB);
                let mut writer = client.again();
                scope.spawn(move || {
                    writer.send_chunked(Key::to_backend(number), 0, len / 2, 1 + (mix(number + 7) % 50_000) as usize);
                    writer.finish();
                });
                assert_eq!(client.drain_keyed(Key::to_client(number), 0), (len, End::Fin));
            });
        }
    });
    ringway.expect_code("--", 32);
}

/// R12: a segment for each byte, both ways.
#[test]
fn single_bytes_arrive_unchanged() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let (client, server) = pair(&ringway, &listener);
    exchange(client, server, 1, [4000, 4000], 1);
    ringway.expect_code("--", 1);
    assert_eq!(ringway.metrics().count("worker_spliced_bytes_total", &[]), 0);
}

/// R12, in turn: none of them may wait for another one.
#[test]
fn a_byte_and_its_answer_do_not_wait_for_more() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let mut client = ringway.connect();
    let (took, ()) = crate::harness::timed(|| {
        for round in 0..300 {
            client.send_keyed(Key::to_backend(1), round, 1);
            client.expect_keyed(Key::to_backend(1), round, 1);
        }
    });
    // Nagle and delayed acknowledgements would make each take 40 ms.
    assert!(took.as_millis() < 3000, "300 round trips took {took:?}");
}

/// R10: nothing of the client is waited for.
#[test]
fn a_backend_that_speaks_first_is_heard() {
    let backend = Backend::named("220 mail.example ESMTP\r\n");
    let ringway = Ringway::before([backend.address()]).start();
    let times = (0..20).map(|_| {
        let (took, _client) = crate::harness::timed(|| {
            let mut client = ringway.connect();
            client.expect(b"220 mail.example ESMTP\r\n");
            client
        });
        took
    });
    let median = crate::harness::median(times.collect());
    assert!(median.as_millis() < 50, "{median:?}");
}

/// Urgent data is passed in line, at its place.
#[test]
fn urgent_data_is_passed_in_line() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let (mut client, mut server) = pair(&ringway, &listener);
    client.send(b"before");
    client.send_urgent(b'!');
    client.send(b"after");
    server.expect(b"before!after");
    server.send_urgent(b'?');
    server.send(b"yes");
    client.expect(b"?yes");
}

/// Splice stops at urgent data for ever; a bulk stream must not.
#[test]
fn urgent_data_in_a_bulk_stream_does_not_stall_it() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).start();
    let (mut client, mut server) = pair(&ringway, &listener);
    let key = Key::to_backend(3);
    let rounds = 5u64;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for round in 0..rounds {
                let at = round * 8 * MIB;
                client.send_keyed(key, at, 8 * MIB - 1);
                client.send_urgent(key.bytes(at + 8 * MIB - 1, 1)[0]);
            }
            client.finish();
        });
        assert_eq!(server.drain_keyed(key, 0), (rounds * 8 * MIB, End::Fin));
    });
    assert!(ringway.metrics().count("worker_spliced_bytes_total", &[]) > 8 * MIB);
}

/// A stream that is bulk, then not, then bulk again goes through both modes and back.
#[test]
fn a_stream_may_change_between_bulk_and_small_messages() {
    let backend = Backend::new(|peer, _| backend::echo(peer));
    let ringway = Ringway::before([backend.address()]).start();
    let (client, key) = (ringway.connect(), Key::to_backend(5));
    let (mut writer, mut reader) = (client.again(), client);
    let mut at = 0;
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let writer = &mut writer;
            scope.spawn(move || writer.send_keyed(key, at, 6 * MIB));
            reader.expect_keyed(key, at, 6 * MIB);
        });
        at += 6 * MIB;
        for _ in 0..20 {
            writer.send_keyed(key, at, 100);
            reader.expect_keyed(key, at, 100);
            at += 100;
        }
    }
    writer.finish();
    assert_eq!(reader.end(), End::Fin);
    let metrics = ringway.metrics();
    assert!(metrics.count("worker_spliced_bytes_total", &[]) > 12 * MIB);
    assert_eq!(metrics.count("backend_bytes_total", &[]), 2 * at);
}
