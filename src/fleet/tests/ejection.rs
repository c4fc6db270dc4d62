use super::*;
use proptest::prelude::*;

pub(super) const RULES: Ejection = Ejection {
    failures: 3,
    hangups: 10,
    window: Duration::from_secs(10),
    duration: Duration::from_secs(20),
    percent_max: 50,
};

fn ejecting(names: &[&str]) -> Vec<Pool> {
    let mut pools = vec![pool("p", names)];
    pools[0].ejection = Some(RULES);
    pools
}

impl Rig {
    /// So many connects to each have failed since the start.
    fn failed(&mut self, totals: &[(&str, u64)]) {
        let ids: HashMap<BackendId, u64> = totals.iter().map(|(name, total)| (self.seat(name).id, *total)).collect();
        let total = |id, trouble| ids.get(&id).copied().filter(|_| trouble == Trouble::Connect).unwrap_or(0);
        self.changes = self.fleet.on_troubles(total, self.now);
    }

    /// So many sessions of that one were hung up on since the start.
    fn hung_up(&mut self, name: &str, total: u64) {
        let hung_up = self.seat(name).id;
        let total = |id, trouble| if id == hung_up && trouble == Trouble::HangUp { total } else { 0 };
        self.changes = self.fleet.on_troubles(total, self.now);
    }
}

#[test]
fn failed_connects_within_the_window_eject_for_a_while() {
    let mut rig = rig(ejecting(&["a", "b", "c"]));
    rig.failed(&[("a", 2)]);
    assert!(!rig.changes.table);
    rig.pass(11 * S);
    rig.failed(&[("a", 4)]);
    assert_eq!(rig.state("a"), State::Up, "the first two were too long ago");
    rig.failed(&[("a", 5)]);
    assert_eq!(rig.state("a"), State::Ejected);
    assert_eq!(rig.reason("a"), "3 connects failed within 10s; ejected for 20s");
    assert!(rig.changes.table && rig.ended().is_empty(), "it keeps its sessions");
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(20 * S));
    rig.pass(20 * S - 1);
    assert_eq!(rig.state("a"), State::Ejected);
    rig.pass(1);
    assert_eq!((rig.state("a"), rig.reason("a").as_str()), (State::Up, "its ejection is over"));
    rig.failed(&[("a", 8)]);
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(40 * S), "twice as long");
}

#[test]
fn a_good_check_begun_afterwards_ends_it() {
    let mut rig = rig(ejecting(&["a", "b"]));
    let (watch, begun) = (rig.watch("a"), rig.now);
    rig.succeed("a");
    rig.failed(&[("a", 3)]);
    assert_eq!(rig.state("a"), State::Ejected);
    rig.fleet.on_check(watch, begun, &Finding::Success(Facts::default()), rig.now.after_ns(MS));
    assert_eq!(rig.state("a"), State::Ejected, "what it saw was before");
    rig.pass(S);
    rig.fail("a");
    assert_eq!(rig.state("a"), State::Ejected);
    rig.succeed("a");
    assert_eq!((rig.state("a"), rig.reason("a").as_str()), (State::Up, "its checks succeed"));
}

/// It takes every client and serves none, and under `least_conn` it gets all of them.
#[test]
fn a_backend_that_hangs_up_is_ejected_whatever_its_checks_say() {
    let mut rig = rig(ejecting(&["a", "b"]));
    rig.hung_up("a", 9);
    assert_eq!(rig.state("a"), State::Up);
    rig.hung_up("a", 10);
    assert_eq!(rig.state("a"), State::Ejected);
    assert!(rig.reason("a").starts_with("it accepted 10 clients within 10s and hung up"), "{}", rig.reason("a"));
    rig.pass(S);
    rig.succeed("a");
    assert_eq!(rig.state("a"), State::Ejected);
    rig.pass(19 * S);
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn a_share_of_the_pool_may_go_and_the_last_one_never() {
    let mut rig = rig(ejecting(&["a", "b", "c", "d"]));
    rig.failed(&[("a", 3), ("b", 3), ("c", 3), ("d", 3)]);
    assert_eq!(rig.states(), [State::Ejected, State::Ejected, State::Up, State::Up], "half of four");
    let mut pools = ejecting(&["a", "b"]);
    pools[0].ejection = Some(Ejection { percent_max: 100, ..RULES });
    pools[0].backends[1].weight = 0;
    rig = self::rig(pools.clone());
    rig.failed(&[("a", 3)]);
    assert_eq!(rig.state("a"), State::Up, "what has no weight takes no session");
    (pools[0].backends[1].weight, pools[0].backends[1].backup) = (1, 1);
    rig = self::rig(pools);
    rig.failed(&[("a", 3), ("b", 3)]);
    assert_eq!(rig.states(), [State::Ejected, State::Up], "a backup counts as left");
}

#[test]
fn when_the_others_go_down_what_is_ejected_comes_back() {
    let mut rig = rig(ejecting(&["a", "b"]));
    rig.failed(&[("a", 3)]);
    assert_eq!(rig.states(), [State::Ejected, State::Up]);
    rig.fail("b");
    assert_eq!(rig.states(), [State::Up, State::Down]);
    assert_eq!(rig.reason("a"), "was ejected, and no other backend is left");
    assert_eq!(rig.fleet.deadline(), Moment::NEVER);
}

#[test]
fn what_is_down_or_disabled_is_not_ejected_and_forgets() {
    let mut pools = ejecting(&["a", "b", "c"]);
    pools[0].backends[2].disabled = true;
    let mut rig = rig(pools);
    rig.succeed("a");
    rig.failed(&[("a", 2)]);
    (0..3).for_each(|_| rig.fail("a"));
    rig.failed(&[("a", 3), ("c", 3)]);
    assert_eq!(rig.states(), [State::Down, State::Up, State::Maintenance]);
    (0..2).for_each(|_| rig.succeed("a"));
    rig.failed(&[("a", 5), ("c", 3)]);
    assert_eq!(rig.state("a"), State::Up, "only what failed since");
    rig.failed(&[("a", 6), ("c", 3)]);
    assert_eq!(rig.state("a"), State::Ejected);
    (0..3).for_each(|_| rig.fail("a"));
    assert_eq!(rig.state("a"), State::Down, "checks go before");
    (0..2).for_each(|_| rig.succeed("a"));
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn what_comes_back_from_an_ejection_starts_slowly() {
    let mut pools = ejecting(&["a", "b"]);
    pools[0].slow_start = Duration::from_secs(5);
    let mut rig = rig(pools);
    rig.succeed("a");
    rig.failed(&[("a", 3)]);
    rig.pass(20 * S);
    assert_eq!((rig.state("a"), rig.seat("a").ramp_from), (State::Up, Some(rig.now)));
    rig.failed(&[("a", 6)]);
    assert_eq!((rig.state("a"), rig.seat("a").ramp_from), (State::Ejected, None), "only what is up");
    (0..3).for_each(|_| rig.fail("a"));
    assert_eq!((rig.state("a"), rig.seat("a").ramp_from), (State::Down, None));
}

#[derive(Clone, Debug)]
enum Step {
    Fail(usize, u64),
    Check(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4usize, 1..4u64).prop_map(|(backend, count)| Step::Fail(backend, count)),
        2 => (0..4usize, any::<bool>()).prop_map(|(backend, good)| Step::Check(backend, good)),
        1 => (1..30u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Over arbitrary histories: the limit holds, the last one stays, no backend is ejected without cause or for ever.
    #[test]
    fn ejections_keep_to_their_limits(
        percent_max in 0..=100u32, backups in 0..2usize, steps in prop::collection::vec(step(), 1..60)
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut pools = ejecting(&NAMES);
        pools[0].ejection = Some(Ejection { percent_max, ..RULES });
        pools[0].backends.iter_mut().rev().take(backups).for_each(|backend| backend.backup = 1);
        let most = ((4 - backups) * percent_max as usize / 100).max(1);
        let mut rig = rig(pools);
        let mut totals = [0; 4];
        for step in steps {
            let before = rig.states();
            match &step {
                Step::Fail(backend, count) => {
                    totals[*backend] += count;
                    rig.failed(&NAMES.map(|name| (name, totals[NAMES.iter().position(|n| *n == name).unwrap()])));
                }
                Step::Check(backend, true) => rig.succeed(NAMES[*backend]),
                Step::Check(backend, false) => rig.fail(NAMES[*backend]),
                Step::Pass(s) => rig.pass(s * S),
            }
            let states = rig.states();
            let ejected = (0..4 - backups).filter(|place| states[*place] == State::Ejected).count();
            prop_assert!(ejected <= most, "{:?} after {:?}", states, step);
            prop_assert!(
                states.contains(&State::Up) || !states.contains(&State::Ejected),
                "nobody is left, and {:?} after {:?}", states, step
            );
            for place in 0..4 {
                if states[place] == State::Ejected && before[place] != State::Ejected {
                    prop_assert!(matches!(&step, Step::Fail(backend, _) if *backend == place), "{:?}", step);
                    prop_assert!(totals[place] >= 3);
                }
            }
        }
        for name in NAMES {
            rig.succeed(name);
            rig.succeed(name);
        }
        rig.pass(301 * S);
        prop_assert_eq!(rig.states(), [State::Up; 4]);
    }
}
