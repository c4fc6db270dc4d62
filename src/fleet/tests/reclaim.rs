use super::*;
use crate::fleet::order::Mode;

/// A main backend and two backups, of which two levels are made.
fn rig_of(closes: bool) -> Rig {
    let mut pools = vec![pool("p", &["a", "b", "c"])];
    pools[0].close_on_main_up = closes;
    (pools[0].backends[1].backup, pools[0].backends[2].backup) = (1, 2);
    let mut rig = rig(pools);
    ["a", "b", "c"].into_iter().for_each(|name| rig.succeed(name));
    rig
}

/// Backends whose sessions had to make room just now.
fn cut(rig: &mut Rig) -> Vec<String> {
    let now = rig.now;
    rig.entries().iter().filter(|entry| entry.yielded_at == now).map(|entry| entry.name.to_string()).collect()
}

fn change(state: Option<Mode>, weight: Option<u16>) -> Change {
    Change { state, weight, ..Change::default() }
}

#[test]
fn sessions_on_every_backup_make_room_when_the_main_backend_is_up_again() {
    let mut rig = rig_of(true);
    assert_eq!(cut(&mut rig), [""; 0], "it was up from the start");
    (0..3).for_each(|_| rig.fail("a"));
    assert_eq!((rig.state("a"), cut(&mut rig)), (State::Down, vec![]));
    rig.succeed("a");
    assert_eq!(cut(&mut rig), [""; 0], "rise is not reached");
    rig.succeed("a");
    assert_eq!((rig.state("a"), cut(&mut rig)), (State::Up, vec!["b".to_string(), "c".to_string()]));
    let notice = Notice::MainUp { pool: "p".into(), backend: "a".into() };
    assert_eq!((rig.changes.table, &rig.changes.notices), (true, &vec![notice]));
    rig.succeed("a");
    assert_eq!((cut(&mut rig), rig.changes.table), (vec![], false), "once");
}

#[test]
fn sessions_on_backups_stay_where_nobody_wants_them_cut() {
    let mut rig = rig_of(false);
    (0..3).for_each(|_| rig.fail("a"));
    (0..2).for_each(|_| rig.succeed("a"));
    assert_eq!((rig.state("a"), cut(&mut rig)), (State::Up, vec![]));
}

#[test]
fn a_backup_that_comes_up_again_makes_no_other_one_make_room() {
    let mut rig = rig_of(true);
    ["a", "b"].into_iter().for_each(|name| (0..3).for_each(|_| rig.fail(name)));
    (0..2).for_each(|_| rig.succeed("b"));
    assert_eq!((rig.state("b"), cut(&mut rig)), (State::Up, vec![]));
}

/// It takes new sessions immediately, and whether it is well is not known yet.
#[test]
fn after_maintenance_or_another_weight_a_check_must_say_first_that_it_is_well() {
    type Orders = [Change; 2];
    let by_state: Orders = [Mode::Maintenance, Mode::Ready].map(|mode| change(Some(mode), None));
    let by_weight: Orders = [0, 1].map(|weight| change(None, Some(weight)));
    for [leave, come] in [by_state, by_weight] {
        let mut rig = rig_of(true);
        rig.pass(S);
        rig.set("p", "a", leave);
        rig.pass(S);
        rig.set("p", "a", come);
        assert_eq!((rig.state("a"), cut(&mut rig)), (State::Up, vec![]), "{leave:?}");
        rig.fail("a");
        assert_eq!(cut(&mut rig), [""; 0], "{leave:?}");
        rig.succeed("a");
        let first = cut(&mut rig);
        rig.succeed("a");
        let second = cut(&mut rig);
        // The first result of a new series of checks decides alone.
        assert!(
            [&first, &second].contains(&&vec!["b".to_string(), "c".to_string()]),
            "{leave:?}: {first:?} {second:?}"
        );
        assert!(first.is_empty() || second.is_empty(), "{leave:?}: once");
    }
}

#[test]
fn a_main_backend_that_goes_before_it_has_proven_itself_cuts_nobody() {
    let mut rig = rig_of(true);
    rig.pass(S);
    rig.set("p", "a", change(Some(Mode::Maintenance), None));
    rig.set("p", "a", change(Some(Mode::Ready), None));
    rig.set("p", "a", change(Some(Mode::Maintenance), None));
    rig.pass(S);
    rig.set("p", "a", change(None, Some(5)));
    assert!(rig.entries().iter().all(|entry| entry.yielded_at == Moment::default()));
}

/// The sessions of backups that served before the file had it.
#[test]
fn a_main_backend_that_joins_cuts_once_a_check_of_it_has_succeeded() {
    let mut pools = vec![pool("p", &["b"])];
    pools[0].close_on_main_up = true;
    pools[0].backends[0].backup = 1;
    let mut rig = rig(pools.clone());
    rig.pass(S);
    let mut more = pool("p", &["b", "a"]);
    (more.close_on_main_up, more.backends[0].backup) = (true, 1);
    rig.changes = rig.fleet.apply(&config(vec![more]), rig.now);
    assert_eq!(cut(&mut rig), [""; 0]);
    rig.succeed("a");
    assert_eq!(cut(&mut rig), ["b"]);
}

/// Fewer than that do not serve: no other backend could take the sessions of the backups.
#[test]
fn backups_make_room_only_for_as_many_as_their_pool_asks_for() {
    let mut pools = vec![pool("p", &["a", "b", "c", "d"])];
    (pools[0].close_on_main_up, pools[0].up_min) = (true, 2);
    (pools[0].backends[2].backup, pools[0].backends[3].backup) = (1, 1);
    let mut rig = rig(pools);
    ["a", "b", "c", "d"].into_iter().for_each(|name| rig.succeed(name));
    ["a", "b"].into_iter().for_each(|name| (0..3).for_each(|_| rig.fail(name)));
    (0..3).for_each(|_| rig.succeed("a"));
    assert_eq!((rig.state("a"), cut(&mut rig)), (State::Up, vec![]), "one of two");
    (0..2).for_each(|_| rig.succeed("b"));
    assert_eq!(cut(&mut rig), ["c", "d"]);
    rig.succeed("a");
    assert_eq!(cut(&mut rig), [""; 0], "once");
}
