use super::*;
use crate::balance::{Ask, Counts, Pick, consistent_hash, failover, least_conn, random, round_robin};
use crate::base::address::Address;
use crate::config::model::*;
use std::sync::Arc;

/// A pool with these backends at invented addresses, round robin, checked every two seconds.
pub(crate) fn pool(name: &str, backends: &[&str]) -> Pool {
    let example = Config::example().pools.remove(0);
    let backend = |(index, name): (usize, &&str)| Backend {
        name: Arc::from(*name),
        target: Target::Address(Address::Tcp(([10, 0, 0, 1], 1000 + index as u16).into())),
        ..example.backends[0].clone()
    };
    let backends = backends.iter().enumerate().map(backend).collect();
    Pool { name: name.into(), backends, ..example }
}

/// These pools, each with a listener of its name.
pub(crate) fn config(pools: Vec<Pool>) -> Config {
    let example = Config::example();
    let listener = |(index, pool): (usize, &Pool)| Listener {
        name: pool.name.clone(),
        binds: vec![Address::Tcp(([127, 0, 0, 1], 2000 + index as u16).into())],
        pool: pool.name.clone(),
        ..example.listeners[0].clone()
    };
    Config { listeners: pools.iter().enumerate().map(listener).collect(), pools, ..example }
}

/// Every backend of the configuration, in these states.
fn members(config: &Config, ids: &mut Ids, states: &[State]) -> Vec<Member> {
    let all = config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    let member = |((pool, backend), &state): ((&Pool, &Backend), &State)| {
        let Target::Address(address) = &backend.target else { panic!("made-up backends have addresses") };
        let pool = ids.pool(&pool.name).unwrap();
        Member {
            host: None,
            id: ids.number_backend(pool, &backend.name, Some(address)),
            pool,
            name: backend.name.clone(),
            hash_name: backend.name.clone(),
            address: Some(address.clone()),
            port_shift: None,
            origin: backend.origin.name(),
            weight: backend.weight,
            backup: backend.backup,
            connections_max: backend.connections_max,
            state,
            ramp_from: None,
            end_sessions: false,
            yielded_at: Moment::default(),
            retired: false,
        }
    };
    all.zip(states).map(member).collect()
}

fn build_with(config: &Config, states: &[State], previous: Option<&Table>) -> Table {
    let mut ids = Ids::assign(config);
    let members = members(config, &mut ids, states);
    build(Input { config, ids: &ids, members: &members, phase: Phase::Serving, generation: 1, previous })
}

/// Backends that get sessions, by picking often.
fn picked(table: &Table, pool: u32) -> Vec<u32> {
    let counts = Counts::new();
    let picker = &table.pool(PoolId(pool)).unwrap().picker;
    let pick = |key| match picker.pick(PoolId(pool), &counts, Ask { key, random: key, ..Ask::default() }) {
        Pick::Backend(id) => Some(id.0),
        _ => None,
    };
    let mut ids: Vec<_> = (0..100).filter_map(pick).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn a_table_says_what_the_configuration_says() {
    let config = config(vec![pool("p", &["a"]), pool("q", &["a", "b"])]);
    let table = build_with(&config, &[State::Up; 3], None);
    let listener = table.listeners[1].as_ref().unwrap();
    assert_eq!((&*listener.name, listener.pool), ("q", PoolId(1)));
    let backend = table.backend(BackendId(2)).unwrap();
    assert_eq!(
        (&*backend.name, backend.pool, backend.address.as_ref().unwrap().to_string()),
        ("b", PoolId(1), "10.0.0.1:1001".into())
    );
    assert_eq!(picked(&table, 0), [0]);
    assert_eq!(picked(&table, 1), [1, 2]);
}

#[test]
fn only_backends_that_are_up_with_a_weight_take_sessions() {
    let mut config = config(vec![pool("p", &["up", "down", "weightless", "disabled", "draining", "ejected"])]);
    config.pools[0].backends[2].weight = 0;
    let states = [State::Up, State::Down, State::Up, State::Maintenance, State::Draining, State::Ejected];
    for balance in [round_robin::POLICY, least_conn::POLICY, consistent_hash::POLICY] {
        config.pools[0].balance = balance;
        let table = build_with(&config, &states, None);
        assert_eq!(picked(&table, 0), [0], "{balance:?}");
    }
}

#[test]
fn a_picker_is_kept_exactly_when_its_candidates_are_the_same() {
    let mut config = config(vec![pool("p", &["a", "b"]), pool("q", &["c", "d"])]);
    config.pools[0].balance = least_conn::POLICY;
    let mut health = [State::Up; 4];
    let first = build_with(&config, &health, None);
    health[1] = State::Down;
    let second = build_with(&config, &health, Some(&first));
    assert_eq!((picked(&second, 0), picked(&second, 1)), (vec![0], vec![2, 3]));
    health[1] = State::Up;
    health[3] = State::Ejected;
    let third = build_with(&config, &health, Some(&second));
    assert_eq!((picked(&third, 0), picked(&third, 1)), (vec![0, 1], vec![2]));
    config.pools[1].backends[0].weight = 0;
    let fourth = build_with(&config, &health, Some(&third));
    assert!(picked(&fourth, 1).is_empty());
}

#[test]
fn failover_keeps_its_choice_until_that_one_goes() {
    let mut config = config(vec![pool("p", &["a", "b", "c"])]);
    config.pools[0].balance = failover::POLICY;
    let mut previous: Option<Table> = None;
    let (up, down) = (State::Up, State::Down);
    for (states, expected) in [
        ([up, up, up], Some(0)),
        ([down, up, up], Some(1)),
        ([up, up, up], Some(1)),
        ([up, up, down], Some(1)),
        ([down, down, down], None),
        ([down, down, up], Some(2)),
        ([down, up, up], Some(2)),
        ([up, up, State::Ejected], Some(0)),
    ] {
        let table = build_with(&config, &states, previous.as_ref());
        assert_eq!(table.pool(PoolId(0)).unwrap().chosen, expected.map(BackendId), "{states:?}");
        assert_eq!(picked(&table, 0), expected.map(|id| vec![id]).unwrap_or_default(), "{states:?}");
        previous = Some(table);
    }
}

#[test]
fn failover_leaves_a_backup_as_soon_as_another_is_up() {
    let mut config = config(vec![pool("p", &["a", "b", "c"])]);
    config.pools[0].balance = failover::POLICY;
    config.pools[0].backends[0].backup = 2;
    config.pools[0].backends[1].backup = 1;
    let mut previous: Option<Table> = None;
    let (up, down) = (State::Up, State::Down);
    for (states, expected) in [
        ([up, up, up], 2),
        ([down, up, down], 1),
        ([up, up, down], 1),
        ([up, down, down], 0),
        ([up, up, down], 1),
        ([up, down, down], 0),
        ([up, up, up], 2),
    ] {
        let table = build_with(&config, &states, previous.as_ref());
        assert_eq!(picked(&table, 0), [expected], "{states:?}");
        previous = Some(table);
    }
}

/// Three pools, each of which falls back to the next one.
fn falling(up_min: u32) -> Config {
    let mut config = config(vec![pool("p", &["a", "b"]), pool("q", &["a", "b"]), pool("r", &["a", "b"])]);
    config.pools.iter_mut().for_each(|pool| pool.up_min = up_min);
    config.pools[0].fallback = Some("q".into());
    config.pools[1].fallback = Some("r".into());
    config
}

#[test]
fn a_pool_with_too_few_backends_falls_back_to_the_first_one_in_the_chain_that_has_enough() {
    let (up, down) = (State::Up, State::Down);
    for (up_min, states, falls_to) in [
        (1, [up, down, up, up, up, up], [None, None, None]),
        (1, [down, down, up, down, up, up], [Some(1), None, None]),
        (1, [down, State::Draining, State::Maintenance, State::Ejected, up, up], [Some(2), Some(2), None]),
        (1, [up, down, down, State::Standby, up, up], [None, Some(2), None]),
        (1, [down; 6], [Some(2), Some(2), None]),
        (2, [up, down, up, up, up, up], [Some(1), None, None]),
        (2, [up, down, up, down, up, down], [Some(2), Some(2), None]),
    ] {
        let table = build_with(&falling(up_min), &states, None);
        let entries = (0..3).map(|id| table.pool(PoolId(id)).unwrap());
        assert_eq!(entries.map(|pool| pool.falls_to).collect::<Vec<_>>(), falls_to.map(|id| id.map(PoolId)));
        let picks = picked(&table, 2);
        let is_enough = states[4..].iter().filter(|state| **state == up).count() >= up_min as usize;
        assert_eq!(!picks.is_empty(), is_enough, "too few count as none: {picks:?}");
    }
}

#[test]
fn backups_count_as_enough_only_while_they_serve() {
    let mut config = falling(2);
    let third = Backend { name: "c".into(), ..config.pools[0].backends[1].clone() };
    config.pools[0].backends.push(third);
    (config.pools[0].backends[1].backup, config.pools[0].backends[2].backup) = (1, 1);
    let falls = |config: &Config, states: [State; 3]| {
        let states: Vec<State> = states.into_iter().chain([State::Up; 4]).collect();
        build_with(config, &states, None).pool(PoolId(0)).unwrap().falls_to.is_some()
    };
    assert!(falls(&config, [State::Up; 3]), "only one is no backup, and the backups take no session");
    assert!(!falls(&config, [State::Down, State::Up, State::Up]));
    config.pools[0].up_min = 1;
    assert!(!falls(&config, [State::Up, State::Down, State::Down]));
    config.pools[0].backends[0].weight = 0;
    assert!(falls(&config, [State::Up, State::Down, State::Down]), "it takes no session");
}

/// Which pools the clients of a listener go to, in turn.
#[test]
fn a_split_leads_by_weight_and_keeps_its_turn_over_tables() {
    let mut config = config(vec![pool("p", &["a"]), pool("q", &["a"])]);
    let share = |(pool, weight): (&str, u16)| SplitShare { pool: pool.into(), weight };
    config.listeners[0].split = [("p", 3), ("q", 1)].into_iter().map(share).collect();
    let counts = Counts::new();
    let mut pools = Vec::new();
    for _ in 0..8 {
        let table = build_with(&config, &[State::Up; 2], None);
        let entry = table.listeners[0].as_ref().unwrap();
        let (pool, route) = entry.split.as_ref().unwrap().next(&counts).unwrap();
        assert_eq!(table.routes[route.index()], (ListenerId(0), pool));
        pools.push(pool.0);
    }
    assert_eq!(pools.iter().sum::<u32>(), 2, "{pools:?}");
    let table = build_with(&config, &[State::Up; 2], None);
    assert!(table.listeners[1].as_ref().unwrap().split.is_none());
}

/// As a pool that is prepared has it.
#[test]
fn a_share_of_nothing_leaves_the_other_shares_as_they_are() {
    let mut config = config(vec![pool("p", &["a"]), pool("q", &["a"]), pool("r", &["a"])]);
    let share = |(pool, weight): (&str, u16)| SplitShare { pool: pool.into(), weight };
    config.listeners[0].split = [("p", 1), ("q", 1), ("r", 0)].into_iter().map(share).collect();
    let table = build_with(&config, &[State::Up; 3], None);
    let split = table.listeners[0].as_ref().unwrap().split.clone().unwrap();
    let counts = Counts::new();
    let pools: Vec<u32> = (0..4).map(|_| split.next(&counts).unwrap().0.0).collect();
    assert_eq!((pools.iter().filter(|pool| **pool == 0).count(), pools.iter().sum::<u32>()), (2, 2), "{pools:?}");
}

#[test]
fn a_listener_knows_the_ways_to_every_fallback() {
    let table = build_with(&falling(1), &[State::Up; 6], None);
    let ways = |listener: usize| table.listeners[listener].as_ref().unwrap().fallbacks.to_vec();
    let pools = |listener| ways(listener).into_iter().map(|(pool, _)| pool.0).collect::<Vec<_>>();
    assert_eq!([pools(0), pools(1), pools(2)], [vec![1, 2], vec![2], vec![]]);
    for (pool, route) in ways(0) {
        assert_eq!(table.routes[route.index()], (ListenerId(0), pool));
        assert_eq!(table.listeners[0].as_ref().unwrap().way_to_fallback(pool), Some(route));
    }
}

/// No configuration makes traffic go to a backend that is down, but this one.
#[test]
fn who_is_down_is_used_only_if_the_pool_says_so_and_nobody_is_up() {
    let all = [State::Up, State::Down, State::Ejected, State::Draining, State::Maintenance];
    for balance in [round_robin::POLICY, least_conn::POLICY, random::POLICY, failover::POLICY] {
        for (first, second) in all.into_iter().flat_map(|first| all.map(|second| (first, second))) {
            let mut config = config(vec![pool("p", &["a", "b"])]);
            config.pools[0].balance = balance;
            config.pools[0].use_all_when_down = true;
            let table = build_with(&config, &[first, second], None);
            let entry = |state: State| matches!(state, State::Down | State::Ejected);
            let up = (0..2).filter(|&place| [first, second][place as usize] == State::Up);
            let mut expected: Vec<u32> = up.collect();
            if expected.is_empty() {
                expected = (0..2).filter(|&place| entry([first, second][place as usize])).collect();
            }
            if balance == failover::POLICY {
                expected.truncate(1);
            }
            assert_eq!(picked(&table, 0), expected, "{balance:?} {first} {second}");
            config.pools[0].use_all_when_down = false;
            let picks = picked(&build_with(&config, &[first, second], None), 0);
            assert!(picks.iter().all(|&place| [first, second][place as usize] == State::Up), "{picks:?}");
        }
    }
}

#[test]
fn a_retired_backend_or_one_without_an_address_gets_no_session() {
    let mut config = config(vec![pool("p", &["a", "b", "c"])]);
    config.pools[0].use_all_when_down = true;
    let mut ids = Ids::assign(&config);
    let mut members = members(&config, &mut ids, &[State::Up, State::Down, State::Up]);
    members[0].retired = true;
    members[1].address = None;
    for state in [State::Up, State::Down] {
        members[2].state = state;
        let (phase, members) = (Phase::Serving, &members[..]);
        let table = build(Input { config: &config, ids: &ids, members, phase, generation: 1, previous: None });
        assert_eq!(picked(&table, 0), [2]);
    }
}
