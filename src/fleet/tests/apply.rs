use super::*;
use crate::base::address::Address;
use crate::config::model::{Backend, BackendOrigin};
use crate::fleet::order::{BackendName as Named, Change, Mode};
use proptest::prelude::*;
use std::net::IpAddr;

impl Rig {
    fn apply(&mut self, pools: Vec<Pool>) {
        self.now = self.now.after_ns(S);
        self.changes = self.fleet.apply(&config(pools), self.now);
    }

    fn retired(&self) -> Vec<&str> {
        self.fleet.seats().iter().filter(|seat| seat.retired.is_some()).map(|seat| &*seat.name).collect()
    }
}

fn at(backend: &mut Backend, port: u16) {
    backend.target = Target::Address(Address::Tcp(([10, 0, 0, 1], port).into()));
}

#[test]
fn who_is_still_there_keeps_what_is_known() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    (0..3).for_each(|_| rig.fail("b"));
    rig.fail("a");
    let (id, since, watch) = (rig.seat("b").id, rig.seat("b").since, rig.watch("b"));
    let mut next = vec![pool("q", &["x"]), pool("p", &["c", "b", "a"])];
    at(&mut next[1].backends[0], 3000);
    at(&mut next[1].backends[2], 1000);
    next[1].backends[1].weight = 7;
    rig.apply(next);
    assert!(rig.changes.table && rig.changes.transitions.is_empty(), "{:?}", rig.changes.transitions);
    assert_eq!((rig.seat("b").id, rig.seat("b").since, rig.watch("b")), (id, since, watch));
    assert_eq!((rig.state("b"), rig.seat("b").settings.weight), (State::Down, 7));
    assert_eq!(rig.reason("b"), "Connection refused");
    (0..2).for_each(|_| rig.fail("a"));
    assert_eq!(rig.state("a"), State::Down, "the failure before counts");
    assert_eq!((rig.state("c"), rig.reason("c")), (State::Up, "not checked yet".to_string()));
    assert_eq!(rig.names(), ["x", "c", "b", "a"]);
}

#[test]
fn who_is_gone_or_elsewhere_drains() {
    let mut rig = rig(vec![pool("p", &["a", "b", "c"])]);
    let (b, c) = (rig.seat("b").id, rig.seat("c").id);
    let mut next = vec![pool("p", &["a", "c"])];
    next[0].drain_timeout = Duration::from_secs(5);
    assert_ne!(next[0].backends[1].target, rig.fleet.config.pools[0].backends[2].target);
    rig.apply(next);
    assert_eq!(rig.retired(), ["c", "b"]);
    let why: Vec<_> =
        rig.changes.transitions.iter().map(|change| (&*change.backend, change.to.reason.to_string())).collect();
    assert_eq!(
        why,
        [
            ("b", "no longer in the configuration".to_string()),
            ("c", "the configuration has it at another address now".to_string())
        ]
    );
    assert_ne!(rig.seat("c").id, c, "another server");
    assert_eq!(rig.state("c"), State::Up);
    assert_eq!(rig.fleet.watches().count(), 2);
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(5 * S), "by the new file");
    rig.pass(5 * S);
    assert_eq!(rig.ended(), ["b", "c"]);
    rig.fleet.sweep(u64::MAX, |id| u32::from(id == b));
    assert_eq!(rig.retired(), ["b"], "it has a session");
    rig.fleet.sweep(u64::MAX, |_| 0);
    assert_eq!(rig.names(), ["a", "c"]);
}

#[test]
fn a_pool_that_is_gone_stays_until_its_sessions_are_over() {
    let mut rig = rig(vec![pool("p", &["a"]), pool("q", &["b"]), pool("r", &["c"])]);
    let (pool_id, b) = (rig.seat("b").pool_id, rig.seat("b").id);
    rig.apply(vec![pool("r", &["c"])]);
    let table = rig.fleet.table(None, Phase::Serving);
    assert!(table.pool(pool_id).is_some_and(|pool| &*pool.name == "q"));
    let listeners: Vec<_> = table.listeners.iter().flatten().map(|entry| (&*entry.name, entry.retired)).collect();
    assert_eq!(listeners, [("p", true), ("q", true), ("r", false)]);
    assert_eq!(rig.state("c"), State::Up);
    let view = rig.fleet.view(rig.now);
    assert_eq!(
        view.pools.iter().map(|pool| (&*pool.name, pool.is_gone)).collect::<Vec<_>>(),
        [("r", false), ("p", true), ("q", true)]
    );
    rig.fleet.sweep(u64::MAX, |id| u32::from(id == b));
    assert_eq!(rig.fleet.config.pools.len(), 2);
    assert!(rig.fleet.table(None, Phase::Serving).pool(pool_id).is_some());
    // Back, it is the same pool again, and its backend takes the sessions that are left for its own.
    rig.apply(vec![pool("q", &["b"]), pool("r", &["c"])]);
    assert_eq!((rig.seat("b").id, rig.seat("b").pool_id), (b, pool_id));
    assert!(rig.retired().is_empty());
    rig.apply(vec![pool("r", &["c"])]);
    rig.entries();
    rig.fleet.sweep(u64::MAX, |_| 0);
    assert_eq!(rig.fleet.config.pools.len(), 1);
    assert_eq!(rig.names(), ["c"]);
    rig.apply(vec![pool("r", &["c"])]);
    let table = rig.fleet.table(None, Phase::Serving);
    assert_eq!(table.listeners.iter().flatten().count(), 1, "a listener goes with its pool");
    rig.fail("c");
}

#[test]
fn what_was_set_by_hand_stays_until_the_file_changes_it() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    rig.set("p", "a", Change { weight: Some(9), state: Some(Mode::Drain), ..Change::default() });
    let until = rig.fleet.deadline();
    let mut next = vec![pool("p", &["b", "a"])];
    at(&mut next[0].backends[0], 1001);
    at(&mut next[0].backends[1], 1000);
    rig.apply(next.clone());
    assert_eq!((rig.seat("a").settings.weight, rig.state("a"), rig.fleet.deadline()), (9, State::Draining, until));
    next[0].backends[1].weight = 2;
    rig.apply(next.clone());
    assert_eq!((rig.seat("a").settings.weight, rig.state("a")), (2, State::Draining), "only that key");
    next[0].backends[1].disabled = true;
    rig.apply(next.clone());
    assert_eq!((rig.state("a"), rig.reason("a")), (State::Maintenance, "disabled in the configuration".into()));
    next[0].backends[1].disabled = false;
    rig.apply(next);
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn checks_change_and_the_state_stays_until_the_new_ones_say_otherwise() {
    let mut rig = rig(vec![pool("p", &["a", "b"])]);
    (0..3).for_each(|_| rig.fail("b"));
    let before = rig.watch("b");
    let mut next = vec![pool("p", &["a", "b"])];
    check_of(&mut next[0]).kind =
        CheckKind::Http(crate::health::ask::HttpAsk { path: "/x".into(), ..Default::default() });
    (check_of(&mut next[0]).rise, check_of(&mut next[0]).fall) = (1, 1);
    rig.apply(next.clone());
    assert!(rig.changes.transitions.is_empty());
    assert!(rig.fleet.watch(before).is_none() && rig.fleet.watches().count() == 2);
    assert_eq!((rig.state("a"), rig.state("b")), (State::Up, State::Down));
    rig.succeed("b");
    rig.fail("a");
    assert_eq!((rig.state("a"), rig.state("b")), (State::Down, State::Up), "one is enough now");
    next[0].check = None;
    rig.apply(next);
    assert_eq!(rig.fleet.watches().count(), 0);
    assert_eq!((rig.state("a"), rig.reason("a")), (State::Up, "its pool has no checks".into()));
}

#[test]
fn an_ejection_goes_on_and_ends_if_ejection_is_turned_off() {
    let ejection = Ejection {
        failures: 2,
        hangups: 0,
        window: Duration::from_secs(9),
        duration: Duration::from_secs(9),
        percent_max: 50,
    };
    let with = |ejection| vec![Pool { ejection, ..pool("p", &["a", "b"]) }];
    let mut rig = rig(with(Some(ejection)));
    let a = rig.seat("a").id;
    rig.fleet.on_troubles(|id, _| u64::from(id == a) * 2, rig.now);
    let until = rig.fleet.deadline();
    rig.apply(with(Some(Ejection { failures: 1, duration: Duration::from_secs(1), ..ejection })));
    assert_eq!((rig.state("a"), rig.fleet.deadline()), (State::Ejected, until));
    rig.apply(with(None));
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn the_primary_stays_the_primary() {
    let mut pools = vec![pool("p", &["a", "b"])];
    check_of(&mut pools[0]).role = Some(Role::Primary);
    let mut rig = rig(pools.clone());
    let primary = Finding::Success(Facts { role: Some(Role::Primary), term: 0, ..Facts::default() });
    rig.check("b", &primary);
    rig.check("a", &primary);
    assert_eq!((rig.state("a"), rig.state("b")), (State::Down, State::Up));
    let mut next = vec![pool("p", &["a", "b", "c"])];
    next[0].check = pools[0].check.clone();
    rig.apply(next);
    assert_eq!((rig.state("a"), rig.state("b"), rig.state("c")), (State::Down, State::Up, State::Down));
    assert!(rig.changes.notices.is_empty() && rig.changes.transitions.is_empty());
}

#[test]
fn addresses_of_a_name_are_known_to_who_comes_later() {
    let host = |port| Target::Host { name: "db.example".into(), port };
    let mut pools = vec![pool("p", &["a"])];
    pools[0].backends[0].target = host(1);
    let mut rig = rig(pools.clone());
    let found: Vec<IpAddr> = vec![[10, 9, 0, 1].into(), [10, 9, 0, 2].into()];
    rig.fleet.on_resolved("db.example", &found, rig.now);
    assert_eq!(rig.names(), ["a", "a#2"]);
    let ids: Vec<BackendId> = rig.fleet.seats().iter().map(|seat| seat.id).collect();
    let mut other = pool("q", &["b"]);
    other.backends[0].target = host(2);
    pools.push(other);
    rig.apply(pools.clone());
    assert_eq!(rig.names(), ["a", "a#2", "b", "b#2"]);
    assert_eq!(rig.fleet.seats()[..2].iter().map(|seat| seat.id).collect::<Vec<_>>(), ids);
    pools[0].backends[0].target = Target::Host { name: "other.example".into(), port: 1 };
    rig.apply(pools.clone());
    assert!(rig.retired().is_empty(), "until the new name is looked up");
    rig.fleet.on_resolved("other.example", &found[1..], rig.now);
    assert_eq!(rig.names(), ["a#2", "a", "b", "b#2"]);
    assert_eq!(rig.retired(), ["a"]);
    let retired = rig.fleet.seats().iter().find_map(|seat| seat.retired.as_ref()).unwrap();
    assert_eq!(retired.reason, Reason::Moved, "the file has left that address, and not a name");
}

fn any_backend() -> impl Strategy<Value = Backend> {
    let target = prop_oneof![
        4 => (0..3u16).prop_map(|port| Target::Address(Address::Tcp(([10, 0, 0, 1], 1000 + port).into()))),
        1 => (0..2u16).prop_map(|port| Target::Host { name: "db.example".into(), port: 1 + port }),
        1 => Just(Target::Host { name: "other.example".into(), port: 1 }),
    ];
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    (name, target, 0..3u16, 0..3u16, prop::bool::weighted(0.1)).prop_map(|(name, target, weight, backup, disabled)| {
        let (connections_max, check_address, origin, rests) = (None, None, BackendOrigin::File, None);
        Backend { name: name.into(), target, backup, connections_max, weight, disabled, check_address, origin, rests }
    })
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let name = prop::sample::select(vec!["p", "q", "r"]);
    let role = prop::sample::select(vec![None, None, None, Some(Role::Primary), Some(Role::Replica)]);
    let backends = prop::collection::vec(any_backend(), 1..5);
    (name, backends, 0..3u32, 1..3u32, any::<bool>(), role, any::<bool>()).prop_map(
        |(name, backends, rise, fall, ejects, role, is_slow)| {
            let mut made = pool(name, &[]);
            let check = check_of(&mut made);
            (check.rise, check.fall, check.role) = (rise.max(1), fall, role);
            if rise == 0 {
                made.check = None;
            }
            let ten = Duration::from_secs(10);
            made.ejection =
                ejects.then_some(Ejection { failures: 2, hangups: 0, window: ten, duration: ten, percent_max: 100 });
            made.slow_start = if is_slow { ten } else { Duration::ZERO };
            for backend in backends {
                if made.backends.iter().all(|other| other.name != backend.name) {
                    made.backends.push(backend);
                }
            }
            made
        },
    )
}

fn any_pools() -> impl Strategy<Value = Vec<Pool>> {
    prop::collection::vec(any_pool(), 1..4).prop_map(|mut pools| {
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        pools.dedup_by(|one, other| one.name == other.name);
        pools
    })
}

#[derive(Clone, Debug)]
enum Step {
    Check(usize, Finding),
    Failed(u64),
    Resolved(bool, Vec<u8>),
    Set(usize, usize, u8),
    Time(u64),
    Sweep(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let role = prop::sample::select(vec![None, Some(Role::Primary), Some(Role::Replica)]);
    let finding = prop_oneof![
        (role, 0..3u64).prop_map(|(role, term)| Finding::Success(Facts { role, term, ..Facts::default() })),
        Just(Finding::Failure("no".into())),
    ];
    prop_oneof![
        6 => (0..12usize, finding).prop_map(|(watch, finding)| Step::Check(watch, finding)),
        2 => (0..1u64 << 12).prop_map(Step::Failed),
        2 => (any::<bool>(), prop::collection::vec(0..4u8, 0..3)).prop_map(|(which, ips)| Step::Resolved(which, ips)),
        1 => (0..3usize, 0..4usize, 0..5u8).prop_map(|(pool, backend, what)| Step::Set(pool, backend, what)),
        1 => (0..20u64).prop_map(Step::Time),
        1 => any::<u8>().prop_map(Step::Sweep),
    ]
}

fn take(rig: &mut Rig, step: Step, errors: &mut [u64; 64]) {
    rig.now = rig.now.after_ns(MS);
    match step {
        Step::Check(watch, finding) => {
            let Some((id, _)) = rig.fleet.watches().nth(watch) else { return };
            rig.changes = rig.fleet.on_check(id, rig.now, &finding, rig.now.after_ns(1));
        }
        Step::Failed(bits) => {
            (0..64).for_each(|bit| errors[bit] += bits >> bit & 1);
            rig.changes = rig.fleet.on_troubles(|id, _| errors[id.index() % 64], rig.now);
        }
        Step::Resolved(which, last) => {
            let found: Vec<IpAddr> = last.into_iter().map(|last| IpAddr::from([10, 9, 0, last])).collect();
            rig.fleet.on_resolved(["db.example", "other.example"][usize::from(which)], &found, rig.now);
        }
        Step::Set(pool, backend, what) => {
            let change = match what {
                0 => Change { weight: Some(5), ..Change::default() },
                1 => Change { connections_max: Some(3), ..Change::default() },
                2 => Change { state: Some(Mode::Drain), ..Change::default() },
                3 => Change { state: Some(Mode::Maintenance), ..Change::default() },
                _ => Change { state: Some(Mode::Ready), ..Change::default() },
            };
            let target = Named { pool: ["p", "q", "r"][pool].into(), backend: ["a", "b", "c", "d"][backend].into() };
            let _ = rig.fleet.set(&target, change, &"me".into(), rig.now);
        }
        Step::Time(seconds) => rig.pass(seconds * S),
        Step::Sweep(bits) => drop(rig.fleet.sweep(u64::MAX, |id| u32::from(bits >> (id.0 % 8) & 1))),
    }
}

/// What holds whatever happened.
fn check_invariants(rig: &mut Rig) {
    let fleet = &rig.fleet;
    assert_eq!(fleet.pools.len(), fleet.config.pools.len());
    assert_eq!(fleet.places.len(), fleet.seats.len(), "each seat has its own slot");
    for (place, seat) in fleet.seats.iter().enumerate() {
        assert_eq!(fleet.places[&seat.id], place);
        assert!(fleet.pools[seat.pool].seats.contains(&place) && fleet.pools[seat.pool].id == seat.pool_id);
        assert_eq!(seat.watch.is_some(), seat.subscriber.is_some());
        let pool = &fleet.config.pools[seat.pool];
        if seat.retired.is_none() {
            assert_eq!(pool.backends[seat.backend].name, seat.configured_name);
            let is_checked =
                pool.check.is_some() && seat.address.is_some() && seat.standing.state != State::Maintenance;
            assert_eq!(seat.watch.is_some(), is_checked, "{seat:?}");
            assert_eq!(seat.ejector.is_some(), pool.ejection.is_some());
        } else {
            assert_eq!(seat.standing.state, State::Draining);
            let left_by_name = seat.retired.as_ref().is_some_and(|retired| retired.reason.is_of_name());
            assert!(seat.watch.is_none() || left_by_name, "{seat:?}");
        }
        if let Some(watch) = seat.watch {
            assert_eq!(fleet.watch(watch).unwrap().subscribers.iter().filter(|id| **id == seat.id).count(), 1);
        }
        assert_eq!(seat.history().last().map(|past| past.state), Some(seat.standing.state));
    }
    for (_, watch) in fleet.watches() {
        assert!(!watch.subscribers.is_empty() && watch.subscribers.iter().all(|id| fleet.places.contains_key(id)));
    }
    let empty = (fleet.configured..fleet.pools.len()).filter(|pool| fleet.pools[*pool].seats.is_empty());
    assert_eq!(empty.count(), 0, "a pool that is gone has somebody left");
    // The table has exactly the backends of the file that are live, and each has the weight of the file or the hand.
    let config = fleet.config.clone();
    let live: Vec<(String, String)> = config
        .pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(|backend| (pool.name.to_string(), backend.name.to_string())))
        .collect();
    let table = rig.fleet.table(None, Phase::Serving);
    let mut found: Vec<(String, String)> = table
        .backends
        .iter()
        .flatten()
        .filter(|entry| !entry.retired)
        .map(|entry| {
            let name = entry.name.split('#').next().unwrap();
            (table.pool(entry.pool).unwrap().name.to_string(), name.to_string())
        })
        .collect();
    found.sort();
    found.dedup();
    let mut live = live;
    live.sort();
    assert_eq!(found, live);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_both_know_is_as_it_was(
        first in any_pools(), second in any_pools(),
        before in prop::collection::vec(any_step(), 0..40), after in prop::collection::vec(any_step(), 0..20)
    ) {
        let mut rig = rig(first);
        let mut errors = [0; 64];
        for step in before {
            take(&mut rig, step, &mut errors);
            check_invariants(&mut rig);
        }
        let known: Vec<_> = rig.fleet.seats().iter().filter(|seat| seat.retired.is_none()).map(|seat| {
            let pool = &rig.fleet.config.pools[seat.pool];
            let past: Vec<Past> = seat.history().cloned().collect();
            (seat.id, pool.clone(), seat.backend, seat.subscriber.clone(), seat.standing.clone(), seat.since,
             seat.ejector.as_ref().and_then(|ejector| ejector.until()), past, (seat.ramp_from, seat.took_sessions))
        }).collect();
        let config_before = rig.fleet.config.clone();
        rig.apply(second.clone());
        check_invariants(&mut rig);
        for (id, pool, backend, subscriber, standing, since, ejected, past, ramp) in known {
            let Some(now) = rig.fleet.seats().iter().find(|seat| seat.id == id) else { continue };
            let history: Vec<Past> = now.history().cloned().collect();
            let kept = past.iter().filter(|past| history.contains(past)).count();
            prop_assert!(kept + 2 >= past.len(), "history is kept");
            let new_pool = &rig.fleet.config.pools[now.pool];
            if let Some(retired) = &now.retired {
                // Checks go on of an address that its name has left, and end its sessions.
                prop_assert!(now.subscriber.is_none() || retired.reason.is_of_name());
                prop_assert!(now.ejector.is_none());
                continue;
            }
            if let (Some(was), Some(is)) = (&subscriber, &now.subscriber) {
                let role = |pool: &Pool| pool.check.as_ref().and_then(|check| check.role);
                if role(&pool) == role(new_pool) {
                    prop_assert_eq!(was.verdict(), is.verdict());
                    prop_assert_eq!(was.facts(), is.facts());
                    prop_assert_eq!(was.is_unchecked(), is.is_unchecked());
                }
            }
            if pool.ejection.is_some() && new_pool.ejection.is_some() && now.standing.state == State::Ejected {
                prop_assert_eq!(now.ejector.as_ref().and_then(|ejector| ejector.until()), ejected);
            }
            if standing.state == now.standing.state {
                prop_assert_eq!(since, now.since);
                prop_assert!(ramp.0 == now.ramp_from || ramp.1 != now.took_sessions);
            }
            let was = &pool.backends[backend];
            let is = &new_pool.backends[now.backend];
            let by_hand = rig.fleet.pools[now.pool].by_hand.get(&now.configured_name);
            let keys = by_hand.map(crate::fleet::order::ByHand::keys).unwrap_or_default();
            if was.weight != is.weight {
                prop_assert_eq!(now.settings.weight, is.weight, "what the file changes it says");
                prop_assert!(!keys.contains(&"weight"));
            }
            prop_assert_eq!(now.settings.backup, is.backup);
        }
        // The same once more, in the same moment, changes nothing. (A second later the hold of an address may be over.)
        let ids: Vec<BackendId> = rig.fleet.seats().iter().map(|seat| seat.id).collect();
        rig.changes = rig.fleet.apply(&config(second), rig.now);
        prop_assert!(rig.changes.transitions.is_empty(), "{:?}", rig.changes.transitions);
        prop_assert_eq!(rig.fleet.seats().iter().map(|seat| seat.id).collect::<Vec<_>>(), ids);
        for step in after {
            take(&mut rig, step, &mut errors);
            check_invariants(&mut rig);
        }
        // And back, where those that were taken out are live again.
        let pools = config_before.pools.iter().filter(|pool| !pool.backends.is_empty()).cloned().collect();
        rig.apply(pools);
        check_invariants(&mut rig);
    }
}

/// Nothing has failed before its first check has.
#[test]
fn a_backend_that_comes_back_keeps_its_sessions_until_its_check_fails_and_a_later_one_finds_another_well() {
    let mut both = vec![pool("p", &["a", "b"])];
    check_of(&mut both[0]).initial_up = false;
    let mut one = both.clone();
    one[0].backends.remove(0);
    let mut rig = rig(both.clone());
    ["a", "b"].iter().for_each(|name| (0..2).for_each(|_| rig.succeed(name)));
    rig.apply(one);
    rig.apply(both);
    assert_eq!((rig.state("a"), rig.state("b")), (State::Down, State::Up));
    rig.succeed("b");
    assert_eq!(rig.ended(), [""; 0], "a was not asked yet");
    rig.fail("a");
    assert_eq!((rig.state("a"), rig.ended()), (State::Down, Vec::new()), "b was well before a failed");
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"]);
}

#[test]
fn a_backend_that_leaves_maintenance_keeps_its_sessions_until_its_check_fails() {
    let mut pools = vec![pool("p", &["a", "b"])];
    check_of(&mut pools[0]).initial_up = false;
    let mut rig = rig(pools);
    ["a", "b"].iter().for_each(|name| (0..2).for_each(|_| rig.succeed(name)));
    for state in [Mode::Maintenance, Mode::Ready] {
        rig.set("p", "a", Change { state: Some(state), ..Change::default() });
    }
    rig.succeed("b");
    assert_eq!((rig.state("a"), rig.ended()), (State::Down, Vec::new()));
    rig.fail("a");
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"]);
}
