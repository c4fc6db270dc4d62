//! Several ringways with one configuration: each sends a client to the same backend, also while they learn of a change
//! at different times.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::harness::{Backend, Peer, Ringway};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How many threads ask.
const THREADS: u32 = 8;

/// Which backend each client gets. Clients are told apart by their addresses.
fn owners(ringway: &Ringway, clients: u32) -> Vec<u8> {
    let ask = |client: u32| {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 20, 0, 1)) + client);
        let mut peer = Peer::connect_from(Some(&format!("{source}:0")), ringway.address()).unwrap();
        let name = peer.read_some(1).unwrap();
        // A reset leaves no connection behind that waits for its end.
        peer.reset();
        name[0]
    };
    let mut all = vec![0; clients as usize];
    let part = clients.div_ceil(THREADS) as usize;
    std::thread::scope(|scope| {
        for (number, part_of) in all.chunks_mut(part).enumerate() {
            scope.spawn(move || {
                let first = (number * part) as u32;
                part_of.iter_mut().zip(first..).for_each(|(owner, client)| *owner = ask(client));
            });
        }
    });
    all
}

fn compare_three_ringways(clients: u32) {
    let backends = NAMES.map(Backend::named);
    let start = || {
        let plan = Ringway::before(backends.iter().map(Backend::address));
        plan.pool("balance = \"consistent_hash\"").start()
    };
    let ringways = [start(), start(), start()];
    let before: Vec<Vec<u8>> = ringways.iter().map(|ringway| owners(ringway, clients)).collect();
    let mut shares: BTreeMap<u8, u32> = BTreeMap::new();
    before[0].iter().for_each(|owner| *shares.entry(*owner).or_default() += 1);
    assert_eq!(shares.len(), NAMES.len(), "every backend has clients: {shares:?}");
    assert!(before[1] == before[0] && before[2] == before[0], "0 of {clients} clients differ");

    // One of them has learned already that a backend is gone.
    ringways[0].api().delete("/v1/pools/main/backends/c?deadline_ms=0").expect(200);
    let early = owners(&ringways[0], clients);
    let differ = early.iter().zip(&before[1]).filter(|(early, late)| early != late);
    let of_it = differ.clone().filter(|(_, late)| **late == b'c').count();
    assert_eq!(of_it, shares[&b'c'] as usize, "all clients of c are elsewhere");
    // Maglev moves a few more: it deals its slots anew, and some change hands.
    let others = differ.count() - of_it;
    assert!(others * 200 <= clients as usize, "{others} of {clients} moved that are no clients of c");
    // The others learn it, and agree again.
    for ringway in &ringways[1..] {
        ringway.api().delete("/v1/pools/main/backends/c?deadline_ms=0").expect(200);
        assert!(owners(ringway, clients) == early, "0 of {clients} clients differ");
    }
    println!("{clients} clients, three ringways: 0 differ; c is removed: its {of_it} moved, and {others} others");
    ringways.into_iter().for_each(Ringway::stop);
}

#[test]
fn every_ringway_sends_a_client_to_the_same_backend_and_a_change_moves_hardly_any_but_its_own() {
    compare_three_ringways(1_000);
}

/// The same with as many clients as the documents say.
#[test]
#[ignore = "takes minutes: scripts/test.sh --test it -- --ignored --nocapture a_hundred_thousand_clients"]
fn a_hundred_thousand_clients_are_sent_alike_by_three_ringways() {
    compare_three_ringways(100_000);
}
