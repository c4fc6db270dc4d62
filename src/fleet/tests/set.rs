use super::*;
use crate::fleet::order::{BackendName, Change, Mode, SetError};

fn set(rig: &mut Rig, backend: &str, change: Change) -> Result<Vec<String>, SetError> {
    let target = BackendName { pool: "p".into(), backend: backend.into() };
    rig.changes = rig.fleet.set(&target, change, &"uid 0".into(), rig.now)?;
    Ok(rig.changes.lines.clone())
}

fn state(mode: Mode) -> Change {
    Change { state: Some(mode), ..Change::default() }
}

fn entry(rig: &mut Rig, name: &str) -> BackendEntry {
    rig.entries().into_iter().find(|entry| &*entry.name == name).unwrap()
}

#[test]
fn weight_and_limit_change_and_each_change_is_a_line() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    let change = Change { weight: Some(5), connections_max: Some(10), ..Change::default() };
    let lines = set(&mut rig, "b", change).unwrap();
    assert_eq!(lines, ["pools.p.backends.b: weight 1 → 5", "pools.p.backends.b: connections_max 0 → 10"]);
    assert!(rig.changes.table);
    let b = entry(&mut rig, "b");
    assert_eq!((b.weight, b.connections_max.map(u32::from), b.state), (5, Some(10), State::Up));
    assert_eq!(entry(&mut rig, "a").weight, 1);
    assert_eq!(set(&mut rig, "b", change).unwrap(), [""; 0], "so it was already");
    let view = rig.fleet.view(rig.now);
    assert_eq!(view.pools[0].backends[1].set_by_hand, ["weight", "connections_max"]);
    set(&mut rig, "b", Change { weight: Some(1), connections_max: Some(0), ..Change::default() }).unwrap();
    assert_eq!(rig.fleet.view(rig.now).pools[0].backends[1].set_by_hand, [""; 0], "as the file says");
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let mut rig = rig(vec![pool("p", &["a"])]);
    let before = entry(&mut rig, "a");
    let invalid = [
        Change::default(),
        Change { weight: Some(257), connections_max: Some(1), ..Change::default() },
        Change { weight: Some(7), deadline: Some(Duration::from_secs(1)), ..Change::default() },
        Change { deadline: Some(Duration::from_secs(1)), ..state(Mode::Maintenance) },
    ];
    for change in invalid {
        assert!(matches!(set(&mut rig, "a", change), Err(SetError::Invalid(_))), "{change:?}");
    }
    assert!(matches!(set(&mut rig, "b", state(Mode::Drain)), Err(SetError::NotFound(_))));
    let elsewhere = BackendName { pool: "q".into(), backend: "a".into() };
    assert!(rig.fleet.set(&elsewhere, state(Mode::Drain), &"me".into(), rig.now).is_err());
    assert_eq!((entry(&mut rig, "a").weight, entry(&mut rig, "a").connections_max), (before.weight, None));
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn a_drain_takes_no_new_sessions_and_ends_the_old_ones_at_its_deadline() {
    for (deadline, after_ns) in [(None, 30 * S), (Some(Duration::from_secs(3)), 3 * S)] {
        let mut rig = rig(vec![pool("p", &["a", "b"])]);
        assert_eq!(rig.fleet.config.pools[0].drain_timeout, Duration::from_secs(30));
        set(&mut rig, "a", Change { deadline, ..state(Mode::Drain) }).unwrap();
        assert_eq!((rig.state("a"), rig.reason("a")), (State::Draining, "drained by uid 0".to_string()));
        assert_eq!(rig.changes.transitions[0].to.state, State::Draining);
        assert_eq!(rig.fleet.deadline(), rig.now.after_ns(after_ns));
        rig.succeed("a");
        assert_eq!(rig.state("a"), State::Draining, "it is checked, and that changes nothing");
        rig.pass(after_ns - 2 * MS);
        assert!(rig.ended().is_empty());
        rig.pass(2 * MS);
        assert!(rig.changes.table);
        assert_eq!(rig.ended(), ["a"]);
        assert_eq!(rig.fleet.deadline(), Moment::NEVER);
        rig.succeed("a");
        set(&mut rig, "a", state(Mode::Ready)).unwrap();
        assert_eq!(rig.state("a"), State::Up, "what its checks said meanwhile counts");
        assert!(rig.ended().is_empty());
    }
}

#[test]
fn a_drain_without_a_deadline_ends_nobody_unless_the_backend_fails() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    set(&mut rig, "a", Change { deadline: Some(Duration::ZERO), ..state(Mode::Drain) }).unwrap();
    assert_eq!(rig.fleet.deadline(), Moment::NEVER);
    rig.pass(3600 * S);
    assert!(rig.ended().is_empty());
    (0..3).for_each(|_| rig.fail("a"));
    assert_eq!((rig.state("a"), rig.ended()), (State::Draining, vec![]));
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"], "on_backend_down = close, and there is somebody to take them");
}

/// It may have been restarted meanwhile, and be away for less than `fall` checks.
#[test]
fn a_drained_backend_that_is_made_ready_is_used_at_once_exactly_if_it_answered_its_last_check_just_now() {
    let recent = |pools: &mut Vec<Pool>| {
        let check = check_of(&mut pools[0]);
        (check.interval * 11 / 10 + check.timeout).as_nanos() as u64
    };
    let failure = Finding::Failure("Connection refused".into());
    let unknown = Finding::Unknown("no descriptor".into());
    let refused = Finding::Refused("login refused".into());
    let good = Finding::Success(Facts::default());
    // What the checks said during the drain, how long ago that was, and what follows.
    let cases: [(&[&Finding], u64, State); 8] = [
        (&[], 0, State::Up),
        (&[&good], 0, State::Up),
        (&[&refused], 0, State::Up),
        (&[&failure], 0, State::Down),
        (&[&failure, &good], 0, State::Up),
        (&[&failure, &unknown], 0, State::Down),
        (&[&good, &unknown], 0, State::Up),
        (&[&good], 1, State::Down),
    ];
    for (said, is_old, expected) in cases {
        let mut pools = vec![pool("p", &["a", "b"])];
        let recent_ns = recent(&mut pools);
        let mut rig = rig(pools);
        (0..2).for_each(|_| ["a", "b"].iter().for_each(|name| rig.succeed(name)));
        set(&mut rig, "a", Change { deadline: Some(Duration::ZERO), ..state(Mode::Drain) }).unwrap();
        said.iter().for_each(|finding| rig.check("a", finding));
        rig.pass(is_old * recent_ns);
        set(&mut rig, "a", state(Mode::Ready)).unwrap();
        assert_eq!(rig.state("a"), expected, "{said:?}");
        assert!(rig.ended().is_empty(), "who is there stays");
        rig.check("a", &failure);
        assert_eq!(rig.state("a"), expected, "{said:?}, and another failure: `fall` is 3, and doubt stays");
        rig.succeed("b");
        assert!(rig.ended().is_empty(), "who is there stays");
        rig.succeed("a");
        assert_eq!((rig.state("a"), rig.reason("a").as_str()), (State::Up, "its checks succeed"), "{said:?}");
    }
}

/// What ringway cannot do itself is no reason to leave a backend out.
#[test]
fn a_backend_that_cannot_be_asked_is_not_doubted_for_ever() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    rig.succeed("a");
    set(&mut rig, "a", state(Mode::Drain)).unwrap();
    rig.fail("a");
    set(&mut rig, "a", state(Mode::Ready)).unwrap();
    assert_eq!(rig.state("a"), State::Down);
    assert!(rig.reason("a").starts_with("its drain is over, and it has not answered"), "{}", rig.reason("a"));
    set(&mut rig, "a", state(Mode::Ready)).unwrap();
    assert_eq!(rig.state("a"), State::Down, "to say it again changes nothing");
    rig.check("a", &Finding::Unknown("no descriptor".into()));
    assert_eq!(rig.state("a"), State::Up, "as it was before");
}

/// Else no replica would serve: the fresh one is doubted, and stale ones serve only where there is no fresh one.
#[test]
fn a_doubted_replica_keeps_no_stale_one_from_serving() {
    let mut pools = vec![pool("p", &["a", "b"])];
    let check = check_of(&mut pools[0]);
    (check.role, check.lag_max, check.rise) = (Some(Role::Replica), Duration::from_secs(1), 1);
    check.fall = 2;
    let mut rig = rig(pools);
    let lag = |s: u64| Finding::Success(Facts { role: Some(Role::Replica), lag_ns: Some(s * S), ..Facts::default() });
    rig.check("a", &lag(0));
    (0..2).for_each(|_| rig.check("b", &lag(9)));
    assert_eq!(rig.states(), [State::Up, State::Down]);
    set(&mut rig, "a", state(Mode::Drain)).unwrap();
    assert_eq!(rig.states(), [State::Draining, State::Up]);
    rig.fail("a");
    set(&mut rig, "a", state(Mode::Ready)).unwrap();
    assert_eq!(rig.states(), [State::Down, State::Up]);
    rig.check("a", &lag(0));
    assert_eq!(rig.states(), [State::Up, State::Down]);
}

#[test]
fn maintenance_stops_the_checks_and_keeps_sessions() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    let watch = rig.watch("a");
    (0..3).for_each(|_| rig.fail("a"));
    set(&mut rig, "a", state(Mode::Maintenance)).unwrap();
    assert_eq!((rig.state("a"), rig.reason("a")), (State::Maintenance, "put into maintenance by uid 0".to_string()));
    assert!(rig.fleet.watch(watch).is_none(), "nobody else wants to know");
    assert!(rig.ended().is_empty());
    set(&mut rig, "a", state(Mode::Ready)).unwrap();
    assert_eq!(rig.state("a"), State::Up, "as at the start: nothing is known");
    rig.fail("a");
    assert_eq!(rig.state("a"), State::Down, "and the first result decides");
}

#[test]
fn what_the_file_disables_is_enabled_by_hand() {
    let mut pools = vec![pool("p", &["a", "b"])];
    pools[0].backends[0].disabled = true;
    let mut rig = rig(pools);
    assert_eq!(rig.state("a"), State::Maintenance);
    set(&mut rig, "a", state(Mode::Ready)).unwrap();
    assert_eq!(rig.state("a"), State::Up);
    rig.fail("a");
    assert_eq!(rig.state("a"), State::Down);
    set(&mut rig, "a", state(Mode::Maintenance)).unwrap();
    assert_eq!(rig.reason("a"), "disabled in the configuration");
}

#[test]
fn taking_out_the_last_one_brings_back_who_is_ejected() {
    let mut pools = vec![pool("p", &["a", "b"])];
    pools[0].ejection = Some(Ejection {
        failures: 1,
        hangups: 0,
        window: Duration::from_secs(1),
        duration: Duration::from_secs(9),
        percent_max: 50,
    });
    for change in [state(Mode::Drain), Change { weight: Some(0), ..Change::default() }] {
        let mut rig = rig(pools.clone());
        let a = rig.seat("a").id;
        rig.changes = rig.fleet.on_troubles(|id, trouble| u64::from(id == a && trouble == Trouble::Connect), rig.now);
        assert_eq!(rig.state("a"), State::Ejected);
        set(&mut rig, "b", change).unwrap();
        assert_eq!(rig.state("a"), State::Up);
    }
}

#[test]
fn the_primary_in_maintenance_gives_way_to_another_one() {
    let mut pools = vec![pool("p", &["a", "b"])];
    check_of(&mut pools[0]).role = Some(Role::Primary);
    let mut rig = rig(pools);
    let primary = |term| Finding::Success(Facts { role: Some(Role::Primary), term, ..Facts::default() });
    rig.check("a", &primary(2));
    rig.check("b", &primary(1));
    assert_eq!((rig.state("a"), rig.state("b")), (State::Up, State::Down));
    set(&mut rig, "a", state(Mode::Maintenance)).unwrap();
    assert_eq!((rig.state("a"), rig.state("b")), (State::Maintenance, State::Up));
    assert_eq!(rig.ended(), ["a"], "two writers lose data");
}

#[test]
fn a_backend_without_weight_takes_nobodys_sessions() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    ["a", "b"].iter().for_each(|name| rig.succeed(name));
    set(&mut rig, "b", Change { weight: Some(0), ..Change::default() }).unwrap();
    (0..3).for_each(|_| rig.fail("a"));
    rig.succeed("b");
    assert_eq!(rig.ended(), [""; 0]);
    set(&mut rig, "b", Change { weight: Some(1), ..Change::default() }).unwrap();
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"]);
}
