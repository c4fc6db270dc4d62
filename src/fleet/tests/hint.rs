use super::*;
use crate::fleet::hint::{HINT_HOLDS_NS, HINT_PAUSE_NS};

/// Two pools of the same servers, one for the primary and one for replicas, and a pool that wants no role.
fn pools() -> Vec<Pool> {
    let mut pools = vec![pool("p", &["a", "b"]), pool("r", &["a", "b"]), pool("any", &["a", "b"])];
    for (pool, role) in [(0, Some(Role::Primary)), (1, Some(Role::Replica)), (2, None)] {
        let check = check_of(&mut pools[pool]);
        (check.role, check.rise, check.fall) = (role, 1, 1);
        check.interval = Duration::from_secs(60 + pool as u64); // watches of its own
        check.down_interval = Duration::from_secs(60);
    }
    pools
}

/// The watches of a pool.
fn watches(rig: &Rig, pool: usize) -> Vec<WatchId> {
    rig.fleet.seats().iter().filter(|seat| seat.pool == pool).filter_map(|seat| seat.watch).collect()
}

/// How often each backend of a pool is checked now.
fn pauses(rig: &Rig, pool: usize) -> Vec<u64> {
    watches(rig, pool).into_iter().map(|watch| rig.fleet.pause_ns(watch, 0)).collect()
}

/// A check of a backend of the first pool.
fn check(rig: &mut Rig, number: usize, role: Role, term: u64) {
    let watch = watches(rig, 0)[number];
    rig.now = rig.now.after_ns(MS);
    let finding = Finding::Success(Facts { role: Some(role), term, ..Facts::default() });
    rig.changes = rig.fleet.on_check(watch, rig.now, &finding, rig.now);
}

/// With `a` as the primary.
fn settled() -> Rig {
    let mut rig = rig(pools());
    check(&mut rig, 0, Role::Primary, 1);
    check(&mut rig, 1, Role::Replica, 1);
    assert!(pauses(&rig, 0).iter().all(|pause| *pause > 50 * S));
    rig
}

#[test]
fn a_hint_has_its_pool_checked_often_until_the_backend_is_the_primary() {
    let mut rig = settled();
    assert_eq!(rig.fleet.on_hint("p", &"b".into(), rig.now), watches(&rig, 0), "both are asked now");
    assert_eq!(pauses(&rig, 0), [HINT_PAUSE_NS; 2]);
    assert!(pauses(&rig, 1).iter().chain(&pauses(&rig, 2)).all(|pause| *pause != HINT_PAUSE_NS), "no other pool");
    check(&mut rig, 0, Role::Primary, 1);
    check(&mut rig, 1, Role::Replica, 1);
    assert_eq!(pauses(&rig, 0), [HINT_PAUSE_NS; 2], "the old one does not end it");
    check(&mut rig, 1, Role::Primary, 2);
    assert!(pauses(&rig, 0).iter().all(|pause| *pause > 50 * S));
}

#[test]
fn a_hint_that_lies_makes_no_primary_and_ends() {
    let mut rig = settled();
    rig.fleet.on_hint("p", &"b".into(), rig.now);
    let end = rig.now.after_ns(HINT_HOLDS_NS);
    while rig.now < end {
        assert_eq!(pauses(&rig, 0), [HINT_PAUSE_NS; 2]);
        check(&mut rig, 0, Role::Primary, 1);
        assert!(!rig.changes.table && rig.changes.transitions.is_empty());
        check(&mut rig, 1, Role::Replica, 1);
        assert!(!rig.changes.table && rig.changes.notices.is_empty());
        rig.now = rig.now.after_ns(HINT_PAUSE_NS);
    }
    check(&mut rig, 0, Role::Primary, 1);
    assert!(pauses(&rig, 0).iter().all(|pause| *pause > 50 * S));
    assert_eq!(rig.states()[..2], [State::Up, State::Standby]);
}

#[test]
fn a_hint_that_means_nothing_to_a_pool_changes_nothing() {
    let mut rig = settled();
    for (pool, backend) in [("p", "c"), ("any", "b"), ("none", "b")] {
        assert_eq!(rig.fleet.on_hint(pool, &backend.into(), rig.now), [], "{pool}/{backend}");
    }
    for pool in 0..3 {
        assert!(pauses(&rig, pool).iter().all(|pause| *pause != HINT_PAUSE_NS));
    }
    assert_eq!(rig.fleet.on_hint("r", &"b".into(), rig.now), watches(&rig, 1), "replicas change their roles, too");
}
