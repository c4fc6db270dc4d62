use super::*;
use crate::fleet::order::Change;

/// Readers that may be five seconds behind; one result is enough.
fn readers(names: &[&str]) -> Vec<Pool> {
    let mut pools = vec![pool("p", names)];
    let check = check_of(&mut pools[0]);
    (check.role, check.lag_max) = (Some(Role::Replica), Duration::from_secs(5));
    (check.rise, check.fall) = (1, 1);
    pools
}

fn lags(seconds: u64) -> Finding {
    Finding::Success(Facts { role: Some(Role::Replica), lag_ns: Some(seconds * S), ..Facts::default() })
}

/// It does not know how far it is behind.
fn lags_unknown() -> Finding {
    Finding::Success(Facts { role: Some(Role::Replica), ..Facts::default() })
}

#[test]
fn a_stale_replica_serves_only_while_no_fresh_one_does() {
    let mut rig = rig(readers(&["a", "b"]));
    rig.check("a", &lags(1));
    rig.check("b", &lags(7));
    assert_eq!(rig.states(), [State::Up, State::Down]);
    assert_eq!(rig.reason("b"), "lags 7000 ms behind, more than `lag_max` (5000 ms)");
    rig.check("a", &lags(6));
    assert_eq!(rig.states(), [State::Up; 2], "the primary is gone: both lag by nearly as much");
    assert!(rig.reason("a").ends_with("; no replica of the pool is fresher"), "{}", rig.reason("a"));
    let begins = |begins| Notice::Stale { id: rig.fleet.pools[0].id, pool: "p".into(), begins };
    assert_eq!(rig.changes.notices, [begins(true)]);
    assert!(rig.changes.transitions.iter().all(|change| &*change.backend == "b"), "nothing happened to a");
    let ends = begins(false);
    rig.check("b", &lags(2));
    assert_eq!((rig.states(), &rig.changes.notices[..]), (vec![State::Down, State::Up], &[ends][..]));
}

#[test]
fn of_stale_ones_those_serve_that_are_about_as_near_as_the_nearest() {
    let mut rig = rig(readers(&["a", "b", "c"]));
    rig.check("a", &lags(20));
    rig.check("b", &lags_unknown());
    rig.check("c", &lags(26));
    assert_eq!(rig.states(), [State::Up, State::Down, State::Down]);
    rig.check("c", &lags(25));
    assert_eq!(rig.states(), [State::Up, State::Down, State::Up]);
    rig.check("c", &lags(30));
    assert_eq!(rig.state("c"), State::Up, "one that serves does not come and go");
    rig.check("c", &lags(31));
    assert_eq!(rig.state("c"), State::Down);
    rig.fail("a");
    rig.fail("c");
    assert_eq!(
        rig.states(),
        [State::Down, State::Up, State::Down],
        "who does not know is last, and better than nobody"
    );
    rig.fail("b");
    assert_eq!(rig.states(), [State::Down; 3], "one that does not answer is not stale");
}

#[test]
fn strictly_nobody_serves_who_is_not_fresh() {
    let mut pools = readers(&["a"]);
    check_of(&mut pools[0]).lag_strict = true;
    check_of(&mut pools[0]).fall = 2;
    let mut rig = rig(pools);
    rig.check("a", &lags(1));
    rig.check("a", &lags(6));
    assert_eq!(rig.state("a"), State::Up, "fall is 2");
    rig.check("a", &lags(7));
    assert_eq!(rig.state("a"), State::Down);
    assert_eq!(rig.reason("a"), "lags 7000 ms behind, more than `lag_max` (5000 ms)");
    rig.check("a", &lags_unknown());
    assert!(rig.reason("a").contains("does not know"), "{}", rig.reason("a"));
}

/// Taking the last fresh one out has the stale ones serve, and bringing it back ends that.
#[test]
fn a_fresh_one_that_an_operator_takes_out_is_none() {
    let mut pools = readers(&["a", "b"]);
    let mut rig = rig(pools.clone());
    rig.check("a", &lags(1));
    rig.check("b", &lags(9));
    pools[0].backends[0].disabled = true;
    rig.changes = rig.fleet.apply(&config(pools.clone()), rig.now);
    assert_eq!(rig.states(), [State::Maintenance, State::Up]);
    pools[0].backends[0].disabled = false;
    rig.changes = rig.fleet.apply(&config(pools), rig.now);
    rig.check("a", &lags(1));
    assert_eq!(rig.states(), [State::Up, State::Down]);
}

/// Without `lag_max` only a Redis whose link is down is stale.
#[test]
fn replicas_that_all_lost_their_primary_all_serve() {
    let mut pools = readers(&["a", "b"]);
    check_of(&mut pools[0]).lag_max = Duration::ZERO;
    let mut rig = rig(pools);
    let cut_off = Finding::Success(Facts { role: Some(Role::Replica), is_cut_off: true, ..Facts::default() });
    rig.check("a", &cut_off);
    rig.check("b", &lags(90));
    assert_eq!(rig.states(), [State::Down, State::Up], "one still hears it");
    rig.check("b", &cut_off);
    assert_eq!(rig.states(), [State::Up; 2]);
    assert!(rig.reason("a").starts_with("is a replica whose link"), "{}", rig.reason("a"));
}

/// A weight of 0 changes no state, so that nothing else would have the fleet look again before the next check.
#[test]
fn stale_replicas_serve_as_soon_as_the_only_serving_one_gets_no_weight() {
    let mut rig = rig(readers(&["a", "b"]));
    rig.check("a", &lags(6));
    rig.check("b", &lags(60));
    assert_eq!(rig.states(), [State::Up, State::Down]);
    let mut weigh = |weight| {
        rig.set("p", "a", Change { weight: Some(weight), ..Change::default() });
        rig.state("b")
    };
    assert_eq!(weigh(0), State::Up);
    assert_eq!(weigh(1), State::Down);
}
