//! A client that does not read costs nothing and delays no other, and one that has finished is still listened to.

use std::time::{Duration, Instant};

use crate::harness::bytes::Key;
use crate::harness::{Backend, End, Listener, Mode, Peer, Ringway, wait_until};

const MIB: u64 = 1 << 20;
const STALLED: Duration = Duration::from_millis(300);

/// What a second of this ringway costs, now that nothing moves.
fn cost_of_a_second(ringway: &Ringway) -> Duration {
    let before = ringway.process().cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    ringway.process().cpu_time() - before
}

/// `reader` has sent its FIN and does not read what `writer` sends.
fn stall(mode: Mode, ringway: &Ringway, mut reader: Peer, mut writer: Peer) {
    let key = Key::to_client(1);
    let at = mode.enter(&mut writer, &mut reader, key);
    reader.small_receive_buffer();
    reader.finish();
    assert_eq!(writer.end(), End::Fin);
    let chunk = if mode == Mode::Copy { 10_000 } else { MIB };
    let (mut sent, begun) = (0, Instant::now());
    // Small messages with a pause between them stay in copy mode.
    while mode == Mode::Copy && begun.elapsed() < STALLED {
        writer.send_chunked(key, at + sent, chunk, chunk as usize);
        sent += chunk;
        std::thread::sleep(Duration::from_micros(300));
    }
    sent += writer.send_again_until_stalled(key, at + sent, STALLED);
    let used = cost_of_a_second(ringway);
    assert!(used <= Duration::from_millis(50), "{used:?} in a second, {mode:?}");
    let rest = std::thread::spawn(move || {
        writer.send_keyed(key, at + sent, MIB);
        writer.finish();
        writer
    });
    assert_eq!(reader.drain_keyed(key, at), (at + sent + MIB, End::Fin), "everything flows once somebody reads");
    drop(rest.join().unwrap());
    ringway.expect_code("--", 1);
}

/// There are fewer pipes than clients that do not read, and what those had in theirs comes in order once they do.
#[test]
fn clients_that_do_not_read_leave_pipes_to_those_that_do() {
    const STOPPED: usize = 40;
    let source = Backend::new(|mut peer, number| {
        let _ = peer.try_send_keyed(Key::to_client(number as u64), 0, 1 << 40, 1 << 16); // until it is reset
    });
    // Some 15 pipes.
    let ringway = Ringway::before([source.address()]).workers(1).descriptors(320).start();
    let open = |number: usize| {
        let client = ringway.connect();
        wait_until("the source serves it", || source.accepted() > number);
        client
    };
    let mut stopped: Vec<Peer> = (0..STOPPED).map(open).collect();
    stopped.iter().for_each(Peer::small_receive_buffer);
    let spliced = || ringway.metrics().count("worker_spliced_bytes_total", &[]);
    let relayed = || ringway.metrics().count("backend_bytes_total", &[]);
    ringway.wait_metrics("the others are stopped", |_| {
        let before = relayed();
        std::thread::sleep(STALLED);
        before > 0 && relayed() == before
    });
    let before = spliced();
    assert!(before > 0, "none of them has been in splice mode");
    let (mut reader, mut at, begun) = (open(STOPPED), 0, Instant::now());
    while spliced() < before + 8 * MIB {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} bytes spliced of {at}", spliced() - before);
        reader.expect_keyed(Key::to_client(STOPPED as u64), at, 4 * MIB);
        at += 4 * MIB;
    }
    for (number, client) in stopped.iter_mut().enumerate().step_by(4) {
        client.expect_keyed(Key::to_client(number as u64), 0, 12 * MIB);
    }
}

/// A poll for writing is ready at any time once the peer has sent its FIN: io_uring adds RDHUP to each.
#[test]
fn whoever_has_finished_and_does_not_read_costs_nothing() {
    for mode in [Mode::Copy, Mode::Splice] {
        for is_client in [true, false] {
            let listener = Listener::new();
            let ringway = Ringway::before([listener.address()]).workers(1).start();
            let client = ringway.connect();
            let server = listener.accept();
            if is_client { stall(mode, &ringway, client, server) } else { stall(mode, &ringway, server, client) }
        }
    }
}

/// A send that waits for one of them in the kernel would hold up all others that do.
#[test]
fn whoever_has_finished_and_does_not_read_holds_up_nobody_else() {
    const TOTAL: u64 = 6 * MIB;
    let source = Backend::new(|mut peer, number| {
        let key = Key::to_client(number as u64);
        for at in (0..TOTAL).step_by(8192) {
            if peer.try_send_keyed(key, at, 8192, 8192).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        peer.finish();
        let _ = peer.end(); // its client may be reset
    });
    let ringway = Ringway::before([source.address()]).workers(1).start();
    let open = |number: usize| {
        let mut client = ringway.connect();
        wait_until("the source serves it", || source.accepted() > number);
        client.small_receive_buffer();
        client.finish();
        client
    };
    let idle: Vec<Peer> = (0..4).map(open).collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut late = open(4);
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    assert_eq!(late.drain_keyed(Key::to_client(4), 0), (TOTAL, End::Fin));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    idle.into_iter().for_each(Peer::reset);
}

/// Nothing is received there any more that would tell.
#[test]
fn a_reset_that_follows_a_fin_is_passed_on() {
    for is_client in [true, false] {
        let listener = Listener::new();
        let ringway = Ringway::before([listener.address()]).start();
        let client = ringway.connect();
        let server = listener.accept();
        let (mut from, mut to) = if is_client { (client, server) } else { (server, client) };
        from.send(b"request");
        from.finish();
        assert_eq!(to.drain(), (b"request".to_vec(), End::Fin));
        std::thread::sleep(Duration::from_millis(200));
        from.reset();
        wait_until("the other side is reset", || to.write_all(b"x").is_err());
        ringway.expect_code(if is_client { "CL" } else { "SL" }, 1);
    }
}

/// Clients of `main` that take in next to nothing of what their backend sends. Ringway holds a buffer of each or more.
fn stalled_clients(ringway: &Ringway, count: usize) -> Vec<Peer> {
    let client = |_| {
        let client = ringway.connect();
        client.small_receive_buffer();
        client
    };
    let clients = (0..count).map(client).collect();
    let taken = || ringway.metrics().count("backend_bytes_total", &[("pool", "main")]);
    ringway.wait_metrics("they are stalled", |_| {
        let before = taken();
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && taken() == before
    });
    clients
}

/// A ringway with few buffers, a backend that sends more than it can hold, and a pool `echo` on another port.
fn with_few_buffers(source: &Backend, echo: &Backend) -> (Ringway, String) {
    let other = format!("{}:7400", crate::harness::address::own_ip());
    let listener = format!("[listeners.echo]\nbind = {other:?}\npool = \"echo\"\n");
    let pool = format!("[pools.echo]\ncheck.type = \"off\"\nbackends = [{{ address = {:?} }}]", echo.address());
    let plan = Ringway::before([source.address()]).workers(1).process("receive_buffers_max = \"4MiB\"");
    // The kernels hold little, so that ringway has to hold much.
    let plan = plan.pool("receive_buffer = \"16KiB\"\nunsent_max = \"16KiB\"").access_log("stderr", "json");
    (plan.more(&(listener + &pool)).start(), other)
}

/// Says a little now and then, so that no stream is bulk.
fn source_in_pieces() -> Backend {
    Backend::new(|mut peer, number| {
        let key = Key::to_client(number as u64);
        for at in (0..16 * MIB).step_by(4000) {
            if peer.try_send_keyed(key, at, 4000, 4000).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    })
}

/// Half of the buffers are for those that hold none.
#[test]
fn whoever_does_not_read_leaves_buffers_for_the_others() {
    let (source, echo) = (source_in_pieces(), Backend::echo());
    let (ringway, other) = with_few_buffers(&source, &echo);
    // Each may hold five, as its receive was armed before there were few. Paranoid buffers stay away for a while.
    let stalled = stalled_clients(&ringway, if cfg!(feature = "paranoid") { 20 } else { 45 });
    let mut clients: Vec<Peer> = (0..20).map(|_| Peer::connect(&other)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let key = Key::to_backend(number as u64);
        for round in 0..10 {
            client.send_keyed(key, round * 1000, 1000);
            client.expect_keyed(key, round * 1000, 1000);
        }
    }
    assert!(ringway.metrics().codes().is_empty(), "nobody was ended: {:?}", ringway.metrics().codes());
    stalled.into_iter().for_each(Peer::reset);
}

/// When they hold every buffer, the longest stalled of them go.
#[test]
fn whoever_holds_every_buffer_is_ended_before_nobody_is_heard() {
    let (source, echo) = (source_in_pieces(), Backend::echo());
    let (ringway, other) = with_few_buffers(&source, &echo);
    let stalled = stalled_clients(&ringway, 400);
    let mut client = Peer::connect(&other);
    client.send(b"hello");
    client.expect(b"hello");
    let codes = ringway.metrics().codes();
    assert!(codes.iter().any(|(code, _)| code.starts_with('R')), "some were ended: {codes:?}");
    ringway.wait_said("\"reason\":\"memory\"");
    stalled.into_iter().for_each(Peer::reset);
}
