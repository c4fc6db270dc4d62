//! Limits, backups, slow starts, bounded loads.

use super::*;
use crate::balance::counts::tests::LOOKS;

/// Like [`picker`], with `change` to each candidate by its place.
fn with(kind: Policy, weights: &[u16], slow_start_ns: u64, change: impl Fn(usize, &mut Candidate<'_>)) -> Picker {
    let names: Vec<String> = (0..weights.len()).map(|index| format!("b{index}")).collect();
    let mut candidates: Vec<_> = names
        .iter()
        .zip(weights)
        .enumerate()
        .map(|(index, (name, &weight))| Candidate::new(BackendId(100 + index as u32), name, weight))
        .collect();
    candidates.iter_mut().enumerate().for_each(|(place, candidate)| change(place, candidate));
    Picker::new(kind, &candidates, slow_start_ns)
}

fn at(picker: &Picker, number: u32, counts: &Counts, now: Moment) -> BackendId {
    let key = key(number);
    match picker.pick(POOL, counts, Ask { key, random: hash::stable(&key.to_le_bytes(), 3), now, tried: &[] }) {
        Pick::Backend(id) => id,
        other => panic!("{other:?}"),
    }
}

fn open(counts: &Counts, backends: usize) -> Vec<u32> {
    (0..backends).map(|place| counts.connections(BackendId(100 + place as u32))).collect()
}

#[test]
fn no_backend_gets_more_sessions_than_it_may_over_workers() {
    for kind in KINDS {
        let picker = with(kind, &[1, 7, 3], 0, |place, candidate| {
            candidate.connections_max = NonZeroU32::new(200 * (place as u32 + 1));
        });
        let counts = Counts::new();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (picker, counts) = (&picker, &counts);
                scope.spawn(move || (0..1000).for_each(|n| _ = answer(picker, key(worker * 1000 + n), counts, &[])));
            }
        });
        let expected: &[u32] = if kind == failover::POLICY { &[200, 0, 0] } else { &[200, 400, 600] };
        assert_eq!(open(&counts, 3), expected, "{kind:?}");
        assert_eq!(answer(&picker, 5, &counts, &[]), Pick::Full, "{kind:?}");
        let all = [100, 101, 102].map(BackendId);
        assert_eq!(
            answer(&picker, 5, &counts, &all),
            Pick::Nobody,
            "{kind:?}: those that were tried are not waited for"
        );
        counts.closed(BackendId(100));
        assert_eq!(answer(&picker, 5, &counts, &[]), Pick::Backend(BackendId(100)), "{kind:?}");
    }
}

/// A policy may have a table of 65,537 slots, and a thousand clients may ask while everybody is full.
#[test]
fn that_everybody_is_full_is_seen_by_a_look_or_two_at_each_backend() {
    for kind in KINDS {
        for slow_start_ns in [0, 60_000_000_000] {
            let picker = with(kind, &[256, 255, 1], slow_start_ns, |_, candidate| {
                candidate.connections_max = NonZeroU32::new(1);
                candidate.ramp_from = Some(Moment(0));
            });
            let counts = Counts::new();
            (100..103).for_each(|id| counts.opened(BackendId(id)));
            let looks = || {
                let before = LOOKS.get();
                assert_eq!(answer(&picker, 5, &counts, &[]), Pick::Full, "{kind:?}");
                LOOKS.get() - before
            };
            assert!(looks() <= 6, "{kind:?}, slow start {slow_start_ns}: {} looks", looks());
            // The one that has room was tried.
            counts.closed(BackendId(101));
            let before = LOOKS.get();
            let picked = answer(&picker, 5, &counts, &[BackendId(101)]);
            assert_eq!(picked, Pick::Full, "{kind:?}");
            assert!(LOOKS.get() - before <= 6, "{kind:?}: {} looks", LOOKS.get() - before);
        }
    }
}

/// With a balance factor, those that have room may all be above their share.
#[test]
fn that_nobody_is_within_its_share_is_seen_without_a_walk_over_the_slots() {
    let picker = with(BOUNDED, &[1, 1, 1], 0, |_, _| {});
    let counts = Counts::new();
    // The only one below its share was tried.
    (0..50).for_each(|_| [101, 102].into_iter().for_each(|id| counts.opened(BackendId(id))));
    let before = LOOKS.get();
    assert!(matches!(answer(&picker, 5, &counts, &[BackendId(100)]), Pick::Backend(_)));
    assert!(LOOKS.get() - before <= 20, "{} looks", LOOKS.get() - before);
}

#[test]
fn a_backup_comes_only_where_no_other_is() {
    for kind in KINDS {
        let picker = with(kind, &[1, 1, 1], 0, |place, candidate| {
            candidate.backup = u16::from(place == 1);
            candidate.connections_max = NonZeroU32::new(2);
        });
        let counts = Counts::new();
        let fit = if kind == failover::POLICY { 2 } else { 4 };
        for number in 0..fit {
            assert_ne!(pick(&picker, key(number), &counts, &[]), Some(BackendId(101)), "{kind:?}");
        }
        assert_eq!(answer(&picker, 1, &counts, &[]), Pick::Full, "{kind:?}: full backends do not spill to it");
        let tried = [BackendId(100), BackendId(102)];
        assert_eq!(answer(&picker, 1, &counts, &tried), Pick::Backend(BackendId(101)), "{kind:?}: they were all tried");
        let alone = with(kind, &[0, 1], 0, |place, candidate| candidate.backup = u16::from(place == 1));
        assert_eq!(answer(&alone, 1, &counts, &[]), Pick::Backend(BackendId(101)), "{kind:?}: no other is usable");
    }
}

#[test]
fn a_level_of_backups_comes_only_where_no_lower_one_is() {
    for kind in KINDS {
        let levels = |place: usize| [0, 3, 1, 1][place];
        let picker = with(kind, &[1, 1, 1, 1], 0, |place, candidate| {
            candidate.backup = levels(place);
            candidate.connections_max = NonZeroU32::new(1);
        });
        let counts = Counts::new();
        let pick_after = |tried: &[u32]| {
            let tried: Vec<BackendId> = tried.iter().map(|id| BackendId(*id)).collect();
            answer(&picker, 1, &counts, &tried)
        };
        assert_eq!(pick_after(&[]), Pick::Backend(BackendId(100)), "{kind:?}");
        assert_eq!(pick_after(&[]), Pick::Full, "{kind:?}: a full backend does not spill");
        let Pick::Backend(first) = pick_after(&[100]) else { panic!("{kind:?}: level 1 is free") };
        assert!([102, 103].contains(&first.0), "{kind:?}: {first:?}");
        let other = 205 - first.0;
        assert_eq!(pick_after(&[100, first.0]), Pick::Backend(BackendId(other)), "{kind:?}");
        assert_eq!(pick_after(&[100, first.0]), Pick::Full, "{kind:?}: a full level does not spill to the next one");
        assert_eq!(pick_after(&[100, 102, 103]), Pick::Backend(BackendId(101)), "{kind:?}: they were all tried");
        assert_eq!(pick_after(&[100, 101, 102, 103]), Pick::Nobody, "{kind:?}");
        let alone = with(kind, &[0, 1, 1, 0], 0, |place, candidate| candidate.backup = levels(place));
        assert_eq!(answer(&alone, 1, &counts, &[]), Pick::Backend(BackendId(102)), "{kind:?}: no other is usable");
    }
}

/// Shares of the sessions when the one of three, with the same weight, is `quarter` quarters into its slow start.
fn shares_in_slow_start(kind: Policy, quarter: u64) -> Vec<f64> {
    let begun = Moment(1_000_000_000);
    let picker = with(kind, &[2, 2, 2], 4_000_000_000, |place, candidate| {
        candidate.ramp_from = (place == 1).then_some(begun);
    });
    let counts = Counts::new();
    let sessions = 30_000;
    let mut got = [0u32; 3];
    for number in 0..sessions {
        let id = at(&picker, number, &counts, begun.after_ns(quarter * 1_000_000_000));
        got[id.index() - 100] += 1;
        // least_conn and random look at what is open: sessions that stay show the share in full.
        if ![least_conn::POLICY, random::POLICY].contains(&kind) {
            counts.closed(id);
        }
    }
    got.iter().map(|&count| f64::from(count) / f64::from(sessions)).collect()
}

#[test]
fn a_slow_start_gives_the_share_of_the_weight_that_has_grown_so_far() {
    for quarter in 0..=4u64 {
        let expected = quarter as f64 / 4.0 / (2.0 + quarter as f64 / 4.0);
        for kind in [round_robin::POLICY, least_conn::POLICY] {
            let shares = shares_in_slow_start(kind, quarter);
            assert!((shares[1] - expected).abs() < 0.01, "{kind:?} {quarter}/4: {shares:?} and not {expected}");
            assert!((shares[0] - shares[2]).abs() < 0.01, "{kind:?} {quarter}/4: {shares:?}");
        }
    }
    let hashed: Vec<f64> = (0..=4).map(|quarter| shares_in_slow_start(HASH, quarter)[1]).collect();
    for (quarter, share) in hashed.iter().enumerate() {
        assert!(
            (share - hashed[4] * quarter as f64 / 4.0).abs() < 0.01,
            "its own keys come to it one by one: {hashed:?}"
        );
    }
}

#[test]
fn random_follows_a_slow_start_too() {
    // It looks at two only, so its share is that of the weight in tendency.
    let shares: Vec<f64> = (0..=4).map(|quarter| shares_in_slow_start(random::POLICY, quarter)[1]).collect();
    assert!(shares[0] < 0.001 && (shares[4] - 1.0 / 3.0).abs() < 0.01, "{shares:?}");
    assert!(shares.windows(2).all(|pair| pair[1] > pair[0] + 0.03), "{shares:?}");
}

#[test]
fn backends_that_start_slowly_together_share_evenly_from_the_first_moment() {
    let begun = Moment(1_000_000_000);
    for kind in [round_robin::POLICY, least_conn::POLICY, HASH, random::POLICY] {
        let picker = with(kind, &[1, 1], 60_000_000_000, |_, candidate| candidate.ramp_from = Some(begun));
        let counts = Counts::new();
        (0..1000).for_each(|number| _ = at(&picker, number, &counts, begun));
        assert!(open(&counts, 2).iter().all(|&count| count.abs_diff(500) < 60), "{kind:?}: {:?}", open(&counts, 2));
    }
}

#[test]
fn a_slow_start_turns_nobody_away() {
    let begun = Moment(1_000_000_000);
    for kind in [round_robin::POLICY, least_conn::POLICY, HASH, random::POLICY] {
        let picker = with(kind, &[1, 1], 60_000_000_000, |place, candidate| {
            candidate.ramp_from = (place == 0).then_some(begun);
            candidate.connections_max = NonZeroU32::new(3);
        });
        let counts = Counts::new();
        (0..6).for_each(|number| _ = at(&picker, number, &counts, begun));
        assert_eq!(open(&counts, 2), [3, 3], "{kind:?}: the other one is full");
    }
}

#[test]
fn in_a_slow_start_a_key_that_has_come_stays() {
    let begun = Moment(1_000_000_000);
    let picker =
        with(HASH, &[1, 1, 1], 10_000_000_000, |place, candidate| candidate.ramp_from = (place == 0).then_some(begun));
    let counts = Counts::new();
    for number in 0..500 {
        let path: Vec<BackendId> =
            (0..=10).map(|second| at(&picker, number, &counts, begun.after_ns(second * 1_000_000_000))).collect();
        let arrived = path.iter().position(|&id| id == BackendId(100)).unwrap_or(path.len());
        assert!(path[arrived..].iter().all(|&id| id == BackendId(100)), "{path:?}");
        assert!(path[..arrived].iter().all(|&id| id == path[0]), "{path:?}: others keep theirs");
    }
}

proptest! {
    /// The law of bounded loads: with the session that comes, no backend is above ceil(factor · share).
    #[test]
    fn nobody_is_above_the_bound_of_the_balance_factor(
        weights in proptest::collection::vec(1u16..=20, 1..8), factor in 101u32..300,
        sessions in proptest::collection::vec((0u32..4, proptest::bool::ANY), 1..200)
    ) {
        let kind = consistent_hash::POLICY.hashing(HashKey::SourceIp, Some(factor));
        let picker = picker(kind, &weights);
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let counts = Counts::new();
        let mut held = Vec::new();
        for (client, leaves) in sessions {
            if leaves && let Some(id) = held.pop() {
                counts.closed(id);
            }
            let total = held.len() as u64 + 1;
            let id = pick(&picker, key(client), &counts, &[]).unwrap();
            held.push(id);
            let most = (total * u64::from(factor) * u64::from(weights[id.index() - 100])).div_ceil(sum * 100);
            prop_assert!(u64::from(counts.connections(id)) <= most, "{id:?} of {total}, at most {most}");
        }
    }
}

#[test]
fn a_key_within_the_bound_stays_at_home_and_spills_the_same_way_on_every_worker() {
    let (plain, bounded) = (picker(HASH, &[1; 5]), picker(BOUNDED, &[1; 5]));
    for number in 0..200 {
        let home = pick(&plain, key(number), &Counts::new(), &[]);
        assert_eq!(pick(&bounded, key(number), &Counts::new(), &[]), home);
    }
    let path = |_| {
        let counts = Counts::new();
        (0..40).map(|_| pick(&bounded, key(7), &counts, &[]).unwrap()).collect::<Vec<_>>()
    };
    let paths: Vec<_> = (0..3).map(path).collect();
    assert!(paths.iter().all(|path| *path == paths[0]));
    let mut used = paths[0].clone();
    used.sort_unstable();
    used.dedup();
    assert!(used.len() >= 4, "40 sessions of one client do not fit on fewer");
}

#[test]
fn two_random_choices_are_nearly_even_by_weight() {
    for weights in [vec![1u16; 10], vec![1, 2, 3, 4]] {
        let (picker, counts) = (picker(random::POLICY, &weights), Counts::new());
        let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        (0..100 * sum).for_each(|number| assert!(pick(&picker, key(number), &counts, &[]).is_some()));
        for (&weight, open) in weights.iter().zip(open(&counts, weights.len())) {
            let fair = 100 * u32::from(weight);
            // One choice would be 30 off now and then; the law for two is ln ln n.
            assert!(open.abs_diff(fair) <= 4 + fair / 50, "{open} and not {fair}");
        }
    }
}

#[test]
fn failover_sends_everybody_to_the_first_and_goes_on_only_when_it_was_tried() {
    let (picker, counts) = (picker(failover::POLICY, &[1, 256, 9]), Counts::new());
    assert!((0..50).all(|number| pick(&picker, key(number), &counts, &[]) == Some(BackendId(100))));
    assert_eq!(pick(&picker, 1, &counts, &[BackendId(100)]), Some(BackendId(101)));
    assert_eq!(pick(&picker, 1, &counts, &[BackendId(101), BackendId(100)]), Some(BackendId(102)));
}

#[test]
fn a_picker_is_of_its_own_candidates_alone() {
    let make = |change: &dyn Fn(usize, &mut Candidate<'_>)| with(least_conn::POLICY, &[1, 2], 7, change);
    let picker = make(&|_, _| ());
    let mut candidates = [Candidate::new(BackendId(100), "b0", 1), Candidate::new(BackendId(101), "b1", 2)];
    assert!(picker.is_of(least_conn::POLICY, &candidates, 7));
    assert!(!picker.is_of(random::POLICY, &candidates, 7) && !picker.is_of(least_conn::POLICY, &candidates, 8));
    assert!(!picker.is_of(least_conn::POLICY, &candidates[..1], 7));
    for change in [
        |candidate: &mut Candidate<'_>| candidate.weight = 9,
        |candidate: &mut Candidate<'_>| candidate.name = "x",
        |candidate: &mut Candidate<'_>| candidate.backup = 2,
        |candidate: &mut Candidate<'_>| candidate.connections_max = NonZeroU32::new(1),
        |candidate: &mut Candidate<'_>| candidate.ramp_from = Some(Moment(1)),
        |candidate: &mut Candidate<'_>| candidate.id = BackendId(7),
    ] {
        let before = candidates[1];
        change(&mut candidates[1]);
        assert!(!picker.is_of(least_conn::POLICY, &candidates, 7));
        candidates[1] = before;
    }
}
