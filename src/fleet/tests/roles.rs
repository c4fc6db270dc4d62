use super::*;
use proptest::prelude::*;

/// A pool of these that wants a primary, and one up is enough, one failure too.
fn writers(names: &[&str]) -> Vec<Pool> {
    let mut pools = vec![pool("p", names)];
    let check = check_of(&mut pools[0]);
    (check.role, check.rise, check.fall) = (Some(Role::Primary), 1, 1);
    pools
}

fn facts(role: Role, term: u64) -> Finding {
    Finding::Success(Facts { role: Some(role), term, lag_ns: None, ..Facts::default() })
}

#[test]
fn everybody_is_down_until_one_proves_to_be_the_primary() {
    let mut rig = rig(writers(&["a", "b"]));
    assert_eq!(rig.states(), [State::Down; 2], "`initial` says up");
    rig.check("a", &facts(Role::Replica, 1));
    assert_eq!(rig.reason("a"), "is a replica");
    rig.check("b", &facts(Role::Primary, 1));
    assert_eq!(rig.states(), [State::Standby, State::Up], "no fault");
    assert_eq!(rig.reason("b"), "is the primary");
    assert_eq!(rig.fleet.pause_ns(rig.watch("a"), 0), 900 * MS, "one that waits is asked as often as one that is down");
}

#[test]
fn a_fail_over_ends_the_sessions_of_the_old_primary_whatever_is_configured() {
    let mut pools = writers(&["a", "b"]);
    pools[0].close_on_backend_down = false;
    let mut rig = rig(pools);
    rig.check("a", &facts(Role::Primary, 1));
    rig.check("b", &facts(Role::Replica, 1));
    rig.fail("a");
    assert_eq!(rig.state("a"), State::Down);
    assert!(!rig.ended().contains(&"a".to_string()), "unreachable, and nobody has taken over");
    rig.check("b", &facts(Role::Primary, 2));
    assert_eq!((rig.state("b"), rig.ended()), (State::Up, vec!["a".to_string()]), "somebody has");
    rig.check("a", &facts(Role::Primary, 1));
    assert_eq!(rig.reason("a"), "another backend is the primary: b");
    assert_eq!(rig.ended(), ["a"]);
}

#[test]
fn a_primary_that_becomes_a_replica_loses_its_sessions_before_there_is_another() {
    let mut pools = writers(&["a", "b"]);
    pools[0].close_on_backend_down = false;
    let mut rig = rig(pools);
    rig.check("a", &facts(Role::Primary, 1));
    rig.check("a", &facts(Role::Replica, 1));
    assert_eq!((rig.state("a"), rig.ended()), (State::Standby, vec!["a".to_string()]));
}

fn rivals(new: &str, old: &str, used: &str) -> Notice {
    Notice::Rivals { pool: "p".into(), backends: [new.into(), old.into()], used: Some(used.into()) }
}

#[test]
fn rivals_are_named_once_and_the_old_one_goes_first() {
    let mut rig = rig(writers(&["a", "b"]));
    rig.check("a", &facts(Role::Primary, 1));
    rig.check("b", &facts(Role::Primary, 2));
    assert!(rig.changes.notices.is_empty(), "a has not been asked again");
    let order: Vec<(&str, State)> =
        rig.changes.transitions.iter().map(|change| (&*change.backend, change.to.state)).collect();
    assert_eq!(order, [("a", State::Down), ("b", State::Up)]);
    rig.check("a", &facts(Role::Primary, 1));
    assert_eq!((&rig.changes.notices[..], rig.changes.table), (&[rivals("b", "a", "b")][..], false));
    for name in ["b", "a", "b"] {
        rig.check(name, &facts(Role::Primary, 1 + u64::from(name == "b")));
        assert!(rig.changes.notices.is_empty() && !rig.changes.table);
    }
    rig.fail("a");
    rig.check("a", &facts(Role::Primary, 1));
    assert!(rig.changes.notices.is_empty(), "b has not been asked since");
    rig.check("b", &facts(Role::Primary, 2));
    assert_eq!(rig.changes.notices, [rivals("a", "b", "b")], "anew");
}

/// What the old primary said before the other one was promoted is true of its time, however soon it is asked again.
#[test]
fn a_fail_over_in_which_nobody_lies_is_no_error() {
    let answers = [facts(Role::Replica, 1), Finding::Failure("no answer".into()), Finding::Unknown("no port".into())];
    for (answer, fall) in answers.into_iter().flat_map(|answer| [1, 3].map(|fall| (answer.clone(), fall))) {
        let mut pools = writers(&["a", "b"]);
        check_of(&mut pools[0]).fall = fall;
        let mut rig = rig(pools);
        rig.check("a", &facts(Role::Primary, 1));
        rig.check("b", &facts(Role::Replica, 1));
        rig.check("a", &facts(Role::Primary, 1));
        rig.check("b", &facts(Role::Primary, 2));
        for _ in 0..3 {
            assert!(rig.changes.notices.is_empty(), "{answer:?}: {:?}", rig.changes.notices);
            assert_eq!(
                (rig.state("a") == State::Up, rig.state("b"), rig.ended()),
                (false, State::Up, vec!["a".into()])
            );
            rig.check("a", &answer);
            assert!(rig.changes.notices.is_empty(), "{answer:?}: {:?}", rig.changes.notices);
            rig.check("b", &facts(Role::Primary, 2));
        }
    }
}

/// A check that was under way when the other one was promoted may have seen the time before.
#[test]
fn an_answer_to_a_check_that_began_before_is_no_second_witness() {
    let mut rig = rig(writers(&["a", "b"]));
    rig.check("a", &facts(Role::Primary, 1));
    let begun = rig.now;
    rig.check("b", &facts(Role::Primary, 2));
    let late = rig.fleet.on_check(rig.watch("a"), begun, &facts(Role::Primary, 1), rig.now);
    assert!(late.notices.is_empty());
    rig.check("a", &facts(Role::Primary, 1));
    assert_eq!(rig.changes.notices, [rivals("b", "a", "b")]);
}

/// One whose answers have ceased to come says nothing, whatever it said last.
#[test]
fn an_answer_that_is_older_than_the_time_between_checks_is_no_witness() {
    let mut rig = rig(writers(&["a", "b"]));
    rig.check("a", &facts(Role::Primary, 1));
    rig.check("b", &facts(Role::Primary, 2));
    let check = check_of(&mut writers(&["a"])[0]).clone();
    let most = check.interval * 11 / 10 + check.timeout;
    rig.pass(most.as_nanos() as u64 + 1);
    rig.check("a", &facts(Role::Primary, 1));
    assert!(rig.changes.notices.is_empty(), "b was heard too long ago");
    rig.check("b", &facts(Role::Primary, 2));
    assert_eq!(rig.changes.notices, [rivals("b", "a", "b")]);
}

/// Each is named, and not each pair.
#[test]
fn of_many_that_say_they_are_the_primary_each_is_named_once() {
    let names = ["a", "b", "c", "d", "e"];
    let mut rig = rig(writers(&names));
    let mut named = Vec::new();
    for _ in 0..4 {
        for name in names {
            rig.check(name, &facts(Role::Primary, 1));
            named.append(&mut rig.changes.notices);
        }
    }
    assert_eq!(named.len(), 4, "{named:?}");
    for name in names {
        assert!(
            named
                .iter()
                .any(|notice| matches!(notice, Notice::Rivals { backends, .. } if backends.contains(&name.into())))
        );
    }
}

/// A new primary that does not answer for a moment must not hand the pool to the old one, which has not noticed.
#[test]
fn a_stale_primary_does_not_get_the_sessions_of_an_unreachable_one() {
    let mut rig = rig(writers(&["a", "b"]));
    rig.check("a", &facts(Role::Primary, 1));
    rig.check("b", &facts(Role::Primary, 2));
    rig.fail("b");
    rig.check("a", &facts(Role::Primary, 1));
    assert_eq!(rig.states(), [State::Down; 2]);
    assert!(rig.reason("a").contains("of term 1, but b, now unreachable, was it with term 2"), "{}", rig.reason("a"));
    rig.check("b", &facts(Role::Replica, 2));
    assert_eq!((rig.state("a"), rig.state("b")), (State::Up, State::Standby), "it says itself that it is none");
}

/// What cannot be asked stays what it was, until another one says that it is the primary.
#[test]
fn a_primary_that_cannot_be_asked_stays_it_until_another_one_says_so() {
    for finding in [Finding::Unknown("cannot read".into()), Finding::Refused("wrong password".into())] {
        let mut rig = rig(writers(&["a", "b"]));
        rig.check("a", &facts(Role::Primary, 0));
        rig.check("b", &facts(Role::Replica, 0));
        for name in ["a", "b", "a", "b"] {
            rig.check(name, &finding);
        }
        assert_eq!(rig.states(), [State::Up, State::Standby], "{finding:?}");
        assert_eq!(rig.ended(), ["b"], "nobody loses a session");
        rig.check("b", &facts(Role::Primary, 0));
        assert_eq!(rig.states(), [State::Down, State::Up], "b was heard, a only remembered: {finding:?}");
    }
}

fn finding() -> impl Strategy<Value = Finding> {
    prop_oneof![
        2 => (0..3u64).prop_map(|term| facts(Role::Primary, term)),
        1 => Just(facts(Role::Replica, 0)),
        1 => Just(Finding::Success(Facts::default())),
        1 => Just(Finding::Failure("no answer".into())),
        1 => Just(Finding::Refused("who is there?".into())),
        1 => Just(Finding::Unknown("no descriptor".into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_table_ever_has_two_primaries(
        rise in 1..3u32, fall in 1..4u32, ejection: bool,
        steps in prop::collection::vec((0..3usize, finding(), 0..4u64), 1..60)
    ) {
        let mut pools = writers(&["a", "b", "c"]);
        let ten = Duration::from_secs(10);
        pools[0].ejection =
            ejection.then_some(Ejection { failures: 2, hangups: 0, window: ten, duration: ten, percent_max: 100 });
        (check_of(&mut pools[0]).rise, check_of(&mut pools[0]).fall) = (rise, fall);
        let mut rig = rig(pools);
        let mut errors = 0;
        for (backend, finding, failed) in steps {
            errors += failed;
            rig.check(["a", "b", "c"][backend], &finding);
            let changes = rig.fleet.on_troubles(|_, _| errors, rig.now);
            prop_assert!(changes.transitions.is_empty(), "the only one there can be is never ejected");
            let entries = rig.entries();
            let up: Vec<_> = entries.iter().filter(|entry| entry.state == State::Up).collect();
            prop_assert!(up.len() <= 1, "{:?}", up);
            if let [primary] = up.as_slice() {
                for entry in &entries {
                    prop_assert_eq!(entry.end_sessions, entry.id != primary.id, "nobody else keeps a session");
                }
                let Finding::Success(facts) = &finding else { continue };
                if primary.id.index() == backend {
                    prop_assert_eq!(facts.role, Some(Role::Primary));
                }
            }
        }
    }
}
