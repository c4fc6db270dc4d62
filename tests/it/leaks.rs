//! R13: after whatever traffic, everything that was taken has been given back.

use std::io::ErrorKind;

use crate::harness::bytes::{Key, mix};
use crate::harness::{Backend, End, Peer, Ringway};

/// Descriptors of the empty pipes that a worker keeps for later.
const SPARE_PIPES: usize = 2 * 32;

/// Descriptors and gauges are back where they were.
fn assert_clean(ringway: &Ringway, base: usize) {
    ringway.wait_idle();
    ringway.wait_descriptors(base);
    let metrics = ringway.metrics();
    for gauge in ["connections", "listener_connections", "backend_connections", "worker_connections"] {
        assert_eq!(metrics.count(gauge, &[]), 0, "{gauge}");
    }
    let ended: u64 = metrics.codes().iter().map(|(_, count)| count).sum();
    assert_eq!(ended, metrics.count("listener_connections_total", &[]), "each session has one code");
}

#[test]
fn many_short_connections_leave_nothing_behind() {
    let backend = Backend::echo();
    let ringway = Ringway::before([backend.address()]).start();
    let base = ringway.process().descriptors();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let ringway = &ringway;
            scope.spawn(move || {
                for round in 0..250 {
                    let mut client = ringway.connect();
                    let key = Key::to_backend(thread * 1000 + round);
                    client.send_keyed(key, 0, 64);
                    client.expect_keyed(key, 0, 64);
                    client.finish();
                    assert_eq!(client.end(), End::Fin);
                }
            });
        }
    });
    ringway.expect_code("--", 1000);
    assert_clean(&ringway, base);
}

/// Both ends reset and close at any moment, with bytes of both modes on their way.
#[test]
fn a_storm_of_resets_leaves_nothing_behind() {
    let backend = Backend::new(|mut peer, number| {
        let chance = mix(number as u64);
        let _ = peer.try_send_keyed(Key::to_client(0), 0, chance % 400_000, 30_000);
        if chance & 1 << 40 == 0 {
            let _ = peer.read_some(1 << (chance >> 50 & 15));
        }
        if chance & 1 << 41 == 0 {
            peer.reset();
        }
    });
    let ringway = Ringway::before([backend.address()]).start();
    let base = ringway.process().descriptors();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let ringway = &ringway;
            scope.spawn(move || {
                for round in 0..150 {
                    let chance = mix(thread << 32 | round);
                    // Its backend may have reset so soon that even connecting fails of it.
                    let mut client = match Peer::try_connect(ringway.address()) {
                        Ok(client) => client,
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                        Err(error) => panic!("not accepted: {error}"),
                    };
                    let _ = client.try_send_keyed(Key::to_backend(0), 0, chance % 300_000, 50_000);
                    if chance & 1 << 40 == 0 {
                        let _ = client.read_some(1 << (chance >> 50 & 15));
                    }
                    if chance & 1 << 41 == 0 {
                        client.reset();
                    }
                }
            });
        }
    });
    assert_clean(&ringway, base + 2 * SPARE_PIPES);
}

/// Pipes that were lent for bulk go back, or are closed; what stays is bounded.
#[test]
fn sessions_cut_in_bulk_give_their_pipes_back() {
    let backend = Backend::new(|mut peer, _| {
        let _ = peer.try_send_keyed(Key::to_client(0), 0, 1 << 40, 1 << 16); // until it is cut
    });
    let ringway = Ringway::before([backend.address()]).workers(1).start();
    let base = ringway.process().descriptors();
    for _ in 0..6 {
        let clients: Vec<_> = (0..20).map(|_| ringway.connect()).collect();
        for mut client in clients {
            client.expect_keyed(Key::to_client(0), 0, 1 << 20);
            client.reset();
        }
        ringway.wait_idle();
    }
    ringway.expect_code("CD", 120);
    assert_clean(&ringway, base + SPARE_PIPES);
}
