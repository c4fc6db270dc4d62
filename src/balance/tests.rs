use super::*;
use crate::base::hash;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU32;

mod bounds;

const POOL: PoolId = PoolId(0);
const HASH: Policy = consistent_hash::POLICY;
const BOUNDED: Policy = consistent_hash::POLICY.hashing(HashKey::SourceIp, Some(125));
const KINDS: [Policy; 6] = [round_robin::POLICY, least_conn::POLICY, HASH, BOUNDED, random::POLICY, failover::POLICY];

/// Backends `b0`, `b1`, … with these weights; ids from 100 on, so that an id is not taken for an index.
fn picker(kind: Policy, weights: &[u16]) -> Picker {
    let names: Vec<String> = (0..weights.len()).map(|index| format!("b{index}")).collect();
    let candidates: Vec<_> = names
        .iter()
        .zip(weights)
        .enumerate()
        .map(|(index, (name, &weight))| Candidate::new(BackendId(100 + index as u32), name, weight))
        .collect();
    Picker::new(kind, &candidates, 0)
}

/// As [`Picker::pick`]; the random number follows from the key.
fn answer(picker: &Picker, key: u64, counts: &Counts, tried: &[BackendId]) -> Pick {
    let random = hash::stable(&key.to_le_bytes(), 99);
    picker.pick(POOL, counts, Ask { key, random, now: Moment(0), tried })
}

fn pick(picker: &Picker, key: u64, counts: &Counts, tried: &[BackendId]) -> Option<BackendId> {
    match answer(picker, key, counts, tried) {
        Pick::Backend(id) => Some(id),
        Pick::Nobody => None,
        Pick::Full => panic!("nobody has a limit"),
    }
}

fn key(number: u32) -> u64 {
    hash::stable(&number.to_le_bytes(), 0)
}

#[test]
fn nobody_to_pick_is_none_and_counts_nothing() {
    let counts = Counts::new();
    for kind in KINDS {
        assert_eq!(pick(&picker(kind, &[]), 1, &counts, &[]), None);
        assert_eq!(pick(&picker(kind, &[0, 0]), 1, &counts, &[]), None);
    }
    assert_eq!(counts.connections(BackendId(100)), 0);
}

#[test]
fn attempts_of_a_session_go_to_distinct_backends_until_none_is_left() {
    for kind in KINDS {
        for first in 0..50 {
            let picker = picker(kind, &[3, 256, 1, 7]);
            let counts = Counts::new();
            let mut tried = Vec::new();
            while let Some(id) = pick(&picker, key(first), &counts, &tried) {
                assert!(!tried.contains(&id), "{kind:?}: {id:?} again");
                tried.push(id);
            }
            assert_eq!(tried.len(), 4, "{kind:?}");
            assert!(tried.iter().all(|&id| counts.connections(id) == 1), "{kind:?}: each pick counts one");
        }
    }
}

#[test]
fn a_tried_backend_of_another_pool_does_not_end_the_search() {
    for kind in KINDS {
        let strangers = [BackendId(1), BackendId(2), BackendId(3)];
        assert!(pick(&picker(kind, &[1, 1]), 7, &Counts::new(), &strangers).is_some(), "{kind:?}");
    }
}

#[test]
fn round_robin_is_exact_over_workers() {
    let (picker, counts) = (picker(round_robin::POLICY, &[5, 3, 2]), Counts::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2_500).for_each(|_| assert!(pick(&picker, 0, &counts, &[]).is_some())));
        }
    });
    let open: Vec<_> = (100..103).map(|id| counts.connections(BackendId(id))).collect();
    assert_eq!(open, [5_000, 3_000, 2_000]);
}

#[test]
fn least_conn_is_exact_over_workers() {
    let (picker, counts) = (picker(least_conn::POLICY, &[2, 1, 1]), Counts::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| assert!(pick(&picker, 0, &counts, &[]).is_some())));
        }
    });
    let open: Vec<_> = (100..103).map(|id| counts.connections(BackendId(id))).collect();
    assert_eq!(open, [2_000, 1_000, 1_000]);
}

#[test]
fn least_conn_breaks_ties_in_round_robin() {
    let (picker, counts) = (picker(least_conn::POLICY, &[1, 1, 1]), Counts::new());
    let mut picked = HashMap::new();
    for _ in 0..300 {
        let id = pick(&picker, 0, &counts, &[]).unwrap();
        counts.closed(id);
        *picked.entry(id).or_insert(0) += 1;
    }
    assert!(picked.len() == 3 && picked.values().all(|&count| count == 100), "{picked:?}");
}

proptest! {
    #[test]
    fn least_conn_takes_the_least_loaded_place(
        backends in proptest::collection::vec((1u16..=256, 0u32..50), 1..12), turn in 0u64..40
    ) {
        let weights: Vec<u16> = backends.iter().map(|&(weight, _)| weight).collect();
        let counts = Counts::new();
        for (index, &(_, open)) in backends.iter().enumerate() {
            (0..open).for_each(|_| counts.opened(BackendId(100 + index as u32)));
        }
        (0..turn).for_each(|expected| assert_eq!(counts.turn(POOL), expected));
        let picked = pick(&picker(least_conn::POLICY, &weights), 0, &counts, &[]).unwrap();
        let load = |&(weight, open): &(u16, u32)| f64::from(open + 1) / f64::from(weight);
        let least = backends.iter().map(load).fold(f64::INFINITY, f64::min);
        prop_assert!(load(&backends[picked.index() - 100]) <= least * (1.0 + 1e-12));
    }
}

#[test]
fn a_key_has_the_same_backend_whatever_the_order_of_the_file() {
    let mut candidates: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .enumerate()
        .map(|(id, name)| (BackendId(id as u32), *name, 1 + id as u16))
        .collect();
    let make = |list: &[(BackendId, &str, u16)]| {
        let list: Vec<_> = list.iter().map(|&(id, name, weight)| Candidate::new(id, name, weight)).collect();
        Picker::new(HASH, &list, 0)
    };
    let (before, counts) = (make(&candidates), Counts::new());
    candidates.reverse();
    let after = make(&candidates);
    for number in 0..10_000 {
        let key = key(number);
        assert_eq!(pick(&before, key, &counts, &[]), pick(&after, key, &counts, &[]));
    }
}

#[test]
fn the_placement_of_keys_is_the_same_for_ever() {
    let (picker, counts) = (picker(HASH, &[1, 1, 1, 1]), Counts::new());
    let placed: Vec<_> = (0..12).map(|number| pick(&picker, key(number), &counts, &[]).unwrap().0 - 100).collect();
    assert_eq!(placed, [0, 3, 3, 1, 2, 3, 1, 3, 3, 1, 1, 0], "clients would move on an upgrade");
}

#[test]
fn keys_are_shared_by_weight() {
    for weights in [vec![1u16; 100], vec![1, 2, 3, 4, 200, 256]] {
        let (picker, counts) = (picker(HASH, &weights), Counts::new());
        let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        // One key a slot: the shares of the table itself, without the noise of a sample.
        (0..65_537u64).for_each(|slot| assert!(pick(&picker, slot, &counts, &[]).is_some()));
        for (index, &weight) in weights.iter().enumerate() {
            let share = f64::from(counts.connections(BackendId(100 + index as u32)));
            let fair = 65_537.0 * f64::from(weight) / f64::from(sum);
            assert!((share - fair).abs() <= fair * 0.01 + 1.0, "weight {weight}: {share} of {fair}");
        }
    }
}

#[test]
fn removing_one_of_many_backends_moves_little_more_than_its_own_keys() {
    let all = picker(HASH, &[1; 20]);
    let mut weights = [1; 20];
    weights[7] = 0;
    let (fewer, counts) = (picker(HASH, &weights), Counts::new());
    let (mut moved, mut owned) = (0, 0);
    for slot in 0..65_537 {
        let (before, after) = (pick(&all, slot, &counts, &[]).unwrap(), pick(&fewer, slot, &counts, &[]).unwrap());
        owned += u32::from(before == BackendId(107));
        moved += u32::from(before != after);
    }
    assert!(moved < owned * 3 / 2, "{moved} moved, {owned} had to");
}

#[test]
fn another_attempt_takes_no_turn_of_its_own() {
    let counts = Counts::new();
    let candidates = ["dead", "alive"].iter().zip(0..);
    let candidates: Vec<_> = candidates.map(|(name, id)| Candidate::new(BackendId(id), name, 1)).collect();
    let picker = Picker::new(round_robin::POLICY, &candidates, 0);
    let mut first = [0, 0];
    for _ in 0..100 {
        let picked = pick(&picker, 0, &counts, &[]).unwrap();
        first[picked.index()] += 1;
        if picked == BackendId(0) {
            assert_eq!(pick(&picker, 0, &counts, &[picked]), Some(BackendId(1)));
        }
    }
    assert_eq!(first, [50, 50]);
}
