//! A slow reader stops its own sender and no other; memory for a session is bounded.

use std::time::Duration;

use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Peer, Ringway, median, timed};

const MIB: u64 = 1 << 20;
const STALLED: Duration = Duration::from_millis(300);

fn blocked(is_to_client: bool) {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).workers(1).start();
    let client = ringway.connect();
    let server = listener.accept();
    let (mut from, mut to) = if is_to_client { (server, client) } else { (client, server) };
    let key = Key::to_client(1);
    // What ringway needs for its first buffers and pipe is not of this session.
    from.send_keyed(key, 0, MIB);
    to.expect_keyed(key, 0, MIB);
    to.small_receive_buffer();
    let before = ringway.process().resident_bytes();
    let sent = from.send_again_until_stalled(key, MIB, STALLED);
    let grown = ringway.process().resident_bytes().saturating_sub(before);
    // Two send buffers and one receive buffer of the kernel, a pipe, and the small buffer of the client that does not
    // read.
    let bound = 2 * largest_buffer("wmem") + largest_buffer("rmem") + 2 * MIB;
    assert!(sent < bound, "{sent} bytes were taken in, and nobody reads");
    assert!(grown < MIB, "ringway grew by {grown} bytes");
    let writer = std::thread::spawn(move || {
        from.send_keyed(key, MIB + sent, 30 * MIB);
        from.finish();
        from
    });
    assert_eq!(to.drain_keyed(key, MIB), (31 * MIB + sent, End::Fin), "everything flows once somebody reads");
    drop(to);
    drop(writer.join().unwrap());
    ringway.expect_code("--", 1);
}

/// The largest buffer that TCP gives a socket.
fn largest_buffer(kind: &str) -> u64 {
    let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{kind}")).unwrap();
    sizes.split_whitespace().next_back().unwrap().parse().unwrap()
}

/// R8.
#[test]
fn a_client_that_does_not_read_stops_its_backend() {
    blocked(true);
}

/// R8.
#[test]
fn a_backend_that_does_not_read_stops_its_client() {
    blocked(false);
}

/// Bytes that ringway and its kernel take in of a stream that is not read, by `receive_buffer` and `unsent_max`.
fn held(is_to_client: bool, buffers: &str) -> u64 {
    let listener = Listener::new();
    let keys = format!("receive_buffer = {buffers:?}\nunsent_max = {buffers:?}");
    let ringway = Ringway::before([listener.address()]).workers(1).pool(&keys).start();
    let (client, server) = (ringway.connect(), listener.accept());
    let (mut from, mut to) = if is_to_client { (server, client) } else { (client, server) };
    to.small_receive_buffer();
    let key = Key::to_client(1);
    let sent = from.send_until_stalled(key, STALLED);
    let held = sent - from.unacknowledged() as u64;
    let reader = std::thread::spawn(move || to.drain_keyed(key, 0));
    from.send_keyed(key, sent, 10 * MIB);
    from.finish();
    assert_eq!(reader.join().unwrap(), (sent + 10 * MIB, End::Fin), "everything flows once somebody reads");
    held
}

#[test]
fn what_a_stalled_stream_holds_in_the_kernel_can_be_bounded() {
    for is_to_client in [true, false] {
        let (bounded, free) = (held(is_to_client, "64KiB"), held(is_to_client, "auto"));
        eprintln!("{bounded} bytes, and {free} without a bound");
        assert!(bounded < 2 * MIB, "{bounded} bytes, and {free} without a bound");
    }
}

/// R8, many small writes: what is held is bytes, not a buffer for each of them.
#[test]
fn small_messages_to_a_stopped_reader_take_little_memory() {
    let listener = Listener::new();
    let ringway = Ringway::before([listener.address()]).workers(1).start();
    let mut client = ringway.connect();
    let mut server = listener.accept();
    let key = Key::to_client(1);
    server.send_keyed(key, 0, 100);
    client.expect_keyed(key, 0, 100);
    let before = ringway.process().resident_bytes();
    let writer = std::thread::spawn(move || {
        server.send_chunked(key, 100, 12 * MIB, 700);
        server.finish();
        server
    });
    std::thread::sleep(STALLED);
    let grown = ringway.process().resident_bytes().saturating_sub(before);
    // Paranoid buffers stay away for a while after their release.
    let spared = if cfg!(feature = "paranoid") { 4 * MIB } else { 0 };
    assert!(grown < MIB + spared, "ringway grew by {grown} bytes");
    assert_eq!(client.drain_keyed(key, 100), (100 + 12 * MIB, End::Fin));
    drop(writer.join().unwrap());
}

/// R9: more stopped readers than one can have pipes or a share of the buffers.
#[test]
fn stopped_readers_do_not_slow_others_down() {
    let source = Backend::new(|mut peer, number| {
        let _ = peer.try_send_keyed(Key::to_client(number as u64), 0, 1 << 40, 1 << 16); // until it is reset
    });
    let echo = Backend::echo();
    let to_source = format!("{}:7400", crate::harness::address::own_ip());
    let ringway = Ringway::before([echo.address()])
        .workers(1)
        .more(&format!(
            "[listeners.source]\nbind = \"{to_source}\"\npool = \"source\"\n[pools.source]\ncheck.type = \"off\"\n\
             [[pools.source.backends]]\naddress = \"{}\"\n",
            source.address()
        ))
        .start();
    let stopped: Vec<Peer> = (0..100)
        .map(|_| {
            let client = Peer::connect(&to_source);
            client.small_receive_buffer();
            client
        })
        .collect();
    let relayed = || ringway.metrics().count("backend_bytes_total", &[("pool", "source")]);
    ringway.wait_metrics("the sources are stopped", |_| {
        let before = relayed();
        std::thread::sleep(Duration::from_millis(100));
        before > 0 && relayed() == before
    });
    let mut times = Vec::new();
    let mut clients: Vec<Peer> = (0..20).map(|_| ringway.connect()).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            let key = Key::to_backend(number as u64);
            times.push(
                timed(|| {
                    client.send_keyed(key, round * 500, 500);
                    client.expect_keyed(key, round * 500, 500);
                })
                .0,
            );
        }
    }
    let slowest = *times.iter().max().unwrap();
    let median = median(times);
    assert!(median < Duration::from_millis(20) && slowest < Duration::from_secs(2), "{median:?}, at most {slowest:?}");
    let mut bulk = ringway.connect();
    let (mut writer, key) = (bulk.again(), Key::to_backend(99));
    let writer = std::thread::spawn(move || writer.send_keyed(key, 0, 10 * MIB));
    bulk.expect_keyed(key, 0, 10 * MIB);
    writer.join().unwrap();
    assert!(ringway.process().resident_bytes() < 300 * MIB);
    drop(stopped);
}
