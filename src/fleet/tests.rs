use super::*;
use crate::base::address::Address;
use crate::config::model::{CheckAddress, CheckKind, Ejection, Pool, Role, Target};
use crate::fleet::order::{BackendName, Change};
use crate::health::Facts;
use crate::health::ejection::Trouble;
use crate::snapshot::build::tests::{config, pool};
use crate::snapshot::table::BackendEntry;
use std::time::Duration;

/// Names that stand for addresses, and addresses that go.
mod addresses;
/// What agents advise, and names that servers prove.
mod agent;
/// Another configuration.
mod apply;
/// Backends that are ringway itself.
mod around;
/// What failed connects do.
mod ejection;
/// Replicas that lag.
mod fresh;
/// Hints of another primary.
mod hint;
/// What holds after each event.
#[cfg(debug_assertions)]
mod invariants;
/// Slots that are given out anew.
mod leave;
/// Sessions on backups that make room.
mod reclaim;
/// One primary and never two.
mod roles;
/// What an operator changes.
mod set;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// A fleet and the time.
struct Rig {
    fleet: Fleet,
    now: Moment,
    changes: Changes,
}

fn rig(pools: Vec<Pool>) -> Rig {
    let now = Moment(100 * S);
    Rig { fleet: Fleet::new(Arc::new(config(pools)), now), now, changes: Changes::default() }
}

impl Rig {
    fn pass(&mut self, span_ns: u64) {
        self.now = self.now.after_ns(span_ns);
        self.changes = self.fleet.on_time(self.now);
    }

    /// The watch of a backend.
    fn watch(&self, name: &str) -> WatchId {
        self.seat(name).watch.unwrap()
    }

    fn seat(&self, name: &str) -> &Seat {
        let is_it = |seat: &&Seat| &*seat.name == name && seat.retired.is_none();
        self.fleet.seats().iter().find(is_it).unwrap_or_else(|| panic!("{name} among {:?}", self.names()))
    }

    fn names(&self) -> Vec<&str> {
        self.fleet.seats().iter().map(|seat| &*seat.name).collect()
    }

    /// The result of a check that began a moment ago.
    fn check(&mut self, name: &str, finding: &Finding) {
        let (watch, begun) = (self.watch(name), self.now);
        self.now = self.now.after_ns(MS);
        self.changes = self.fleet.on_check(watch, begun, finding, self.now);
    }

    fn succeed(&mut self, name: &str) {
        self.check(name, &Finding::Success(Facts::default()));
    }

    fn fail(&mut self, name: &str) {
        self.check(name, &Finding::Failure("Connection refused".into()));
    }

    fn set(&mut self, pool: &str, backend: &str, change: Change) {
        let target = BackendName { pool: pool.into(), backend: backend.into() };
        self.changes = self.fleet.set(&target, change, &"me".into(), self.now).unwrap();
    }

    fn state(&self, name: &str) -> State {
        self.seat(name).standing.state
    }

    fn reason(&self, name: &str) -> String {
        self.seat(name).standing.reason.to_string()
    }

    fn entries(&mut self) -> Vec<BackendEntry> {
        self.fleet.table(None, Phase::Serving).backends.into_iter().flatten().collect()
    }

    fn states(&mut self) -> Vec<State> {
        self.entries().iter().map(|entry| entry.state).collect()
    }

    /// Backends whose sessions are to end, by the table.
    fn ended(&mut self) -> Vec<String> {
        self.entries().iter().filter(|entry| entry.end_sessions).map(|entry| entry.name.to_string()).collect()
    }
}

fn check_of(pool: &mut Pool) -> &mut crate::config::model::Check {
    pool.check.as_mut().unwrap()
}

#[test]
fn a_target_that_several_pools_name_is_watched_once_whatever_they_make_of_it() {
    // All of them have 10.0.0.1:1000, only the first one has :1001.
    let mut pools = vec![pool("p", &["a", "b"]), pool("q", &["c"]), pool("r", &["d"])];
    (check_of(&mut pools[1]).fall, check_of(&mut pools[1]).initial_up) = (1, false);
    check_of(&mut pools[2]).role = Some(Role::Replica);
    let mut rig = rig(pools);
    let watched: Vec<Vec<u32>> =
        rig.fleet.watches().map(|(_, watch)| watch.subscribers.iter().map(|id| id.0).collect()).collect();
    assert_eq!(watched, [vec![0, 2, 3], vec![1]]);
    assert_eq!(rig.states(), [State::Up, State::Up, State::Down, State::Up]);
    rig.check("a", &Finding::Success(Facts { role: Some(Role::Replica), ..Facts::default() }));
    assert_eq!(rig.states(), [State::Up; 4]);
    rig.fail("a");
    assert_eq!(
        (rig.state("a"), rig.state("c"), rig.state("d")),
        (State::Up, State::Down, State::Up),
        "fall is its own"
    );
    assert_eq!(rig.changes.transitions.len(), 1);
    rig.check("a", &Finding::Success(Facts { role: Some(Role::Primary), ..Facts::default() }));
    assert_eq!((rig.state("a"), rig.state("d")), (State::Up, State::Standby), "so is the role");
    assert_eq!(rig.state("b"), State::Up, "and nobody has looked at it");
}

#[test]
fn what_is_asked_is_what_any_subscriber_wants_and_the_pause_the_least() {
    let mut pools = vec![pool("p", &["a"]), pool("q", &["b"])];
    let mut rig = rig(pools.clone());
    let asks = |rig: &Rig| rig.fleet.ask(rig.watch("a")).map(|ask| (ask.role, ask.lag)).unwrap();
    assert_eq!(asks(&rig), (false, false));
    rig.succeed("a");
    rig.fail("a");
    let pause = |rig: &Rig| rig.fleet.pause_ns(rig.watch("a"), 0);
    assert_eq!(pause(&rig), 450 * MS, "both are changing: the fast interval, less a tenth");
    check_of(&mut pools[1]).role = Some(Role::Replica);
    check_of(&mut pools[1]).lag_max = Duration::from_secs(1);
    check_of(&mut pools[0]).fall = 1;
    rig = self::rig(pools);
    assert_eq!(asks(&rig), (true, true));
    assert_eq!(pause(&rig), 0, "the first check is due");
    rig.check(
        "a",
        &Finding::Success(Facts { role: Some(Role::Replica), term: 0, lag_ns: Some(0), ..Facts::default() }),
    );
    assert_eq!(pause(&rig), 1800 * MS);
    rig.fail("a");
    assert_eq!((rig.state("a"), rig.state("b"), pause(&rig)), (State::Down, State::Up, 450 * MS));
    rig.fail("a");
    rig.fail("a");
    assert_eq!((rig.state("b"), pause(&rig)), (State::Down, 900 * MS), "both are down");
    let mut pools = vec![pool("p", &["a"]), pool("q", &["b"])];
    check_of(&mut pools[0]).lag_max = Duration::from_secs(1);
    assert_eq!(asks(&self::rig(pools)), (true, true), "whoever of them wants it");
}

#[test]
fn what_is_checked_differently_is_watched_apart() {
    let mut pools = vec![pool("p", &["a"]), pool("q", &["a"]), pool("r", &["a"]), pool("s", &["a"])];
    check_of(&mut pools[1]).timeout = Duration::from_secs(1);
    check_of(&mut pools[2]).port = Some(8080);
    check_of(&mut pools[3]).kind = CheckKind::Redis { login: None };
    let rig = rig(pools);
    let targets: Vec<_> = rig.fleet.watches().map(|(_, watch)| watch.key.target.to_string()).collect();
    assert_eq!(targets, ["10.0.0.1:1000", "10.0.0.1:1000", "10.0.0.1:8080", "10.0.0.1:1000"]);
}

/// Several servers on one host that answer checks at ports of their own, as Patroni does it.
#[test]
fn each_backend_can_be_checked_at_an_address_of_its_own() {
    let mut pools = vec![pool("p", &["a", "b", "c"])];
    check_of(&mut pools[0]).port = Some(8080);
    check_of(&mut pools[0]).kind = CheckKind::Redis { login: None };
    pools[0].dial.send_proxy = Some(crate::config::model::Version::V2);
    pools[0].backends[0].check_address = Some(CheckAddress::Port(8008));
    pools[0].backends[1].check_address = Some(CheckAddress::At(Address::Tcp(([127, 0, 0, 1], 15432).into())));
    let mut rig = rig(pools);
    let targets: Vec<_> = rig.fleet.watches().map(|(_, watch)| watch.key.target.to_string()).collect();
    assert_eq!(targets, ["10.0.0.1:8008", "127.0.0.1:15432", "10.0.0.1:8080"]);
    assert!(rig.fleet.watches().all(|(_, watch)| watch.key.opening.header.is_none()), "another server listens there");
    (0..3).for_each(|_| rig.fail("b"));
    assert_eq!(rig.states(), [State::Up, State::Down, State::Up]);
}

#[test]
fn the_first_result_decides_and_then_rise_and_fall() {
    let mut rig = rig(vec![pool("p", &["a"])]);
    rig.now = rig.now.after_ns(50 * MS);
    rig.fail("a");
    let [change] = rig.changes.transitions.as_slice() else { panic!("one change: {:?}", rig.changes) };
    assert_eq!((change.from, change.to.state, change.lasted_ns), (State::Up, State::Down, 51 * MS));
    assert_eq!(rig.reason("a"), "Connection refused");
    rig.succeed("a");
    assert!(rig.changes.transitions.is_empty() && !rig.changes.table);
    rig.succeed("a");
    assert_eq!((rig.state("a"), rig.reason("a").as_str()), (State::Up, "its checks succeed"));
    let past: Vec<State> = rig.seat("a").history().map(|past| past.state).collect();
    assert_eq!(past, [State::Up, State::Down, State::Up]);
    for _ in 0..100 {
        (0..3).for_each(|_| rig.fail("a"));
        (0..2).for_each(|_| rig.succeed("a"));
    }
    assert_eq!(rig.seat("a").history().count(), 16, "bounded");
    assert_eq!(rig.seat("a").history().last().unwrap().since, rig.seat("a").since);
}

#[test]
fn what_is_not_checked_is_up_and_what_is_disabled_is_not_checked() {
    let mut pools = vec![pool("p", &["a"]), pool("q", &["b", "c"])];
    pools[0].check = None;
    pools[1].backends[0].disabled = true;
    let mut rig = rig(pools);
    assert_eq!(rig.fleet.watches().count(), 1);
    assert_eq!(rig.watch("c"), rig.fleet.watches().next().unwrap().0);
    assert_eq!(rig.states(), [State::Up, State::Maintenance, State::Up]);
    assert_eq!(rig.reason("b"), "disabled in the configuration");
}

#[test]
fn before_the_first_result_the_configured_state_counts() {
    let mut pools = vec![pool("p", &["a", "b"])];
    check_of(&mut pools[0]).initial_up = false;
    let mut rig = rig(pools);
    assert_eq!(rig.states(), [State::Down; 2]);
    assert_eq!(rig.reason("a"), "not checked yet");
    rig.succeed("b");
    assert_eq!(rig.states(), [State::Down, State::Up]);
}

#[test]
fn a_check_that_outlives_its_watch_changes_nothing() {
    let mut rig = rig(vec![pool("p", &["a"])]);
    let changes = rig.fleet.on_check(WatchId(7), rig.now, &Finding::Failure("x".into()), rig.now);
    assert!(!changes.table && changes.transitions.is_empty());
    assert!(rig.fleet.ask(WatchId(7)).is_none());
}

#[test]
fn sessions_end_on_a_backend_that_is_down_exactly_if_the_pool_says_so() {
    for close in [true, false] {
        let mut pools = vec![pool("p", &["a", "b"])];
        pools[0].close_on_backend_down = close;
        let mut rig = rig(pools);
        rig.fail("b");
        rig.succeed("a");
        assert_eq!(rig.ended(), if close { vec!["b"] } else { vec![] });
    }
}

/// Checks may fail for a reason of their own, and then they fail at all backends, one after the other.
#[test]
fn sessions_end_only_once_a_check_of_another_backend_has_succeeded_afterwards() {
    let mut rig = rig(vec![pool("p", &["a", "b", "c"])]);
    (0..2).for_each(|_| ["a", "b", "c"].iter().for_each(|name| rig.succeed(name)));
    for name in ["a", "b", "c"] {
        (0..3).for_each(|_| rig.fail(name));
        assert_eq!((rig.state(name), rig.ended()), (State::Down, Vec::<String>::new()), "nobody is known to take them");
    }
    rig.succeed("c");
    assert_eq!(rig.ended(), [""; 0], "one success does not bring it up");
    rig.succeed("c");
    assert_eq!((rig.state("c"), rig.ended()), (State::Up, vec!["a".to_string(), "b".to_string()]));
    assert!(rig.changes.table);
    (0..3).for_each(|_| rig.fail("c"));
    assert_eq!(rig.ended(), ["a", "b"], "who has none left gets none back");
    (0..2).for_each(|_| rig.succeed("a"));
    assert_eq!(rig.ended(), ["b", "c"]);
}

/// A check that began before the other backend went down may have seen the time when all was well.
#[test]
fn a_check_that_began_before_relieves_nobody() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    ["a", "b"].iter().for_each(|name| rig.succeed(name));
    let begun = rig.now;
    (0..3).for_each(|_| rig.fail("a"));
    let success = Finding::Success(Facts::default());
    rig.changes = rig.fleet.on_check(rig.watch("b"), begun, &success, rig.now);
    assert_eq!(rig.ended(), [""; 0]);
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"]);
}

/// Where backends that are down are used all the same, their checks are not trusted so far.
#[test]
fn sessions_of_backends_that_are_used_although_they_are_down_go_on() {
    let mut pools = vec![pool("p", &["a", "b"])];
    pools[0].use_all_when_down = true;
    let mut rig = rig(pools);
    rig.fail("a");
    rig.succeed("b");
    assert_eq!(rig.ended(), [""; 0]);
    (0..3).for_each(|_| rig.fail("b"));
    assert_eq!(rig.ended(), [""; 0], "all are down");
}

#[test]
fn a_backend_that_comes_back_starts_slowly_and_one_that_is_new_does_not() {
    let mut pools = vec![pool("p", &["a", "b"])];
    pools[0].slow_start = Duration::from_secs(10);
    check_of(&mut pools[0]).initial_up = false;
    let mut rig = rig(pools);
    rig.succeed("a");
    assert_eq!((rig.state("a"), rig.seat("a").ramp_from), (State::Up, None), "first seen, not back");
    (0..3).for_each(|_| rig.fail("a"));
    (0..2).for_each(|_| rig.succeed("a"));
    assert_eq!(rig.seat("a").ramp_from, Some(rig.now));
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(10 * S));
    rig.pass(10 * S - 1);
    assert!(rig.seat("a").ramp_from.is_some() && !rig.changes.table);
    rig.pass(1);
    assert!(rig.seat("a").ramp_from.is_none() && rig.changes.table);
    assert_eq!(rig.fleet.deadline(), Moment::NEVER);
    rig.fail("b");
    (0..2).for_each(|_| rig.succeed("b"));
    assert_eq!(rig.seat("b").ramp_from, Some(rig.now), "it was seen to fail");
    (0..3).for_each(|_| rig.fail("b"));
    assert_eq!(rig.seat("b").ramp_from, None, "only what is up");
    (0..2).for_each(|_| rig.succeed("b"));
    assert_eq!(rig.seat("b").ramp_from, Some(rig.now), "anew");
}

/// What the operator kept out is cold when it comes, as after a failure; at the start of the process no backend is
/// warm.
#[test]
fn a_backend_that_was_kept_out_on_purpose_starts_slowly() {
    let mut pools = vec![pool("p", &["a", "b", "c"])];
    pools[0].slow_start = Duration::from_secs(10);
    pools[0].backends[1].disabled = true;
    pools[0].backends[2].weight = 0;
    let mut rig = rig(pools.clone());
    ["a", "c"].iter().for_each(|name| rig.succeed(name));
    let ramps = |rig: &Rig| ["a", "b", "c"].map(|name| rig.seat(name).ramp_from == Some(rig.now));
    assert_eq!(ramps(&rig), [false; 3]);
    (pools[0].backends[1].disabled, pools[0].backends[2].weight) = (false, 1);
    rig.pass(S);
    rig.fleet.apply(&config(pools), rig.now);
    assert_eq!(ramps(&rig), [false, true, true]);
}

#[test]
fn a_backend_that_joins_a_pool_by_a_reload_starts_slowly() {
    let mut pools = vec![pool("p", &["a"])];
    pools[0].slow_start = Duration::from_secs(10);
    let mut rig = rig(pools);
    rig.succeed("a");
    let mut more = vec![pool("p", &["a", "b"]), pool("q", &["c"])];
    more.iter_mut().for_each(|pool| pool.slow_start = Duration::from_secs(10));
    rig.pass(S);
    rig.fleet.apply(&config(more), rig.now);
    let ramps = ["a", "b", "c"].map(|name| rig.seat(name).ramp_from == Some(rig.now));
    assert_eq!(ramps, [false, true, false], "where nobody served before, nobody is new");
}

/// What ringway lacks says nothing of a backend; what refuses its account lives.
#[test]
fn what_cannot_be_checked_stays_as_it_is_and_says_so() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    rig.succeed("a");
    rig.fail("b");
    for name in ["a", "b"] {
        (0..5).for_each(|_| rig.check(name, &Finding::Unknown("cannot read `password_file`".into())));
        assert!(!rig.changes.table && rig.changes.transitions.is_empty());
    }
    assert_eq!(rig.states(), [State::Up, State::Down]);
    let reason = |rig: &Rig, at: usize| rig.fleet.view(rig.now).pools[0].backends[at].reason.clone();
    assert_eq!(reason(&rig, 0), "its checks succeed; its last check: cannot read `password_file`");
    assert_eq!(reason(&rig, 1), "Connection refused; its last check: cannot read `password_file`");
    (0..2).for_each(|_| rig.check("b", &Finding::Refused("login refused".into())));
    assert_eq!(rig.states(), [State::Up; 2]);
    assert_eq!(reason(&rig, 1), "its checks succeed; its last check: login refused");
    rig.succeed("a");
    assert_eq!(reason(&rig, 0), "its checks succeed");
    rig.check("a", &Finding::Doubtful(Facts::default(), "no TLS".into()));
    assert_eq!((rig.state("a"), reason(&rig, 0).as_str()), (State::Up, "its checks succeed; its last check: no TLS"));
}

#[test]
fn one_that_is_about_to_stop_keeps_its_sessions_and_takes_no_new_ones() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    rig.succeed("a");
    let leaving = Finding::Success(Facts { is_leaving: true, ..Facts::default() });
    rig.check("a", &leaving);
    assert_eq!((rig.states(), rig.ended()), (vec![State::Draining, State::Up], Vec::new()));
    assert_eq!(rig.reason("a"), "its check says that it is about to stop (`drain_status`)");
    rig.succeed("a");
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn generations_ascend_from_the_table_before() {
    let mut rig = rig(vec![pool("p", &["a"])]);
    let mut first = rig.fleet.table(None, Phase::Serving);
    assert_eq!(first.generation, 1);
    first.generation = 41;
    assert_eq!(rig.fleet.table(Some(&first), Phase::Serving).generation, 42);
    assert_eq!(rig.fleet.table(None, Phase::Serving).generation, 43);
}
