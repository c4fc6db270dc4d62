//! The backends and what is known of them: slots by name, monitors by target. Pure.
//!
//! Backends that are checked alike at the same address share one watch, so a target that many pools name is probed
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::address::Address;
use crate::base::id::{BackendId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{Backend, Check, Config, Target};
use crate::health::State;
use crate::health::monitor::Monitor;
use crate::health::schedule::{self, Intervals};
use crate::snapshot::build::{self, Input, Member};
use crate::snapshot::table::{Phase, Table};

pub use crate::snapshot::ids::Ids;

/// Everything control knows about backends.
#[derive(Debug)]
pub struct Fleet {
    config: Arc<Config>,
    ids: Ids,
    /// Every backend and its state, in the order of the file.
    members: Vec<Member>,
    watches: Vec<Watch>,
    generation: u64,
}

/// A target that is probed.
#[derive(Debug)]
pub struct Watch {
    /// Where to connect.
    pub target: Address,
    /// How.
    pub check: Check,
    /// Whose state follows; at least one.
    pub backends: Vec<Watched>,
    monitor: Monitor,
    /// When the state became what it is.
    since: Moment,
}

/// A backend of a watch, with its names for logs.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its slot.
    pub id: BackendId,
    /// Name of its pool.
    pub pool: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A change of state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The new state.
    pub to: State,
    /// How long the old one lasted.
    pub lasted_ns: u64,
}

impl Fleet {
    /// Nothing checked yet.
    pub fn new(config: Arc<Config>, now: Moment) -> Fleet {
        let ids = Ids::assign(&config);
        let mut fleet = Fleet { members: Vec::new(), watches: Vec::new(), generation: 0, ids, config };
        fleet.watch_all(now);
        fleet
    }

    fn watch_all(&mut self, now: Moment) {
        let mut by_target: HashMap<Address, Vec<usize>> = HashMap::new();
        let config = self.config.clone();
        for pool in &config.pools {
            let Some(pool_id) = self.ids.pool(&pool.name) else { continue };
            for backend in &pool.backends {
                let Target::Address(address) = &backend.target else { continue };
                let id = self.ids.number_backend(pool_id, &backend.name, Some(address));
                let mut member = member(pool_id, backend, id, address);
                if let Some(check) = pool.check.as_ref().filter(|_| !backend.disabled) {
                    let target = target(address, check.port);
                    let alike = by_target.entry(target.clone()).or_default();
                    let index = match alike.iter().find(|&&index| self.watches[index].check == *check) {
                        Some(&index) => index,
                        None => {
                            alike.push(self.watches.len());
                            self.watches.push(Watch::new(target, check.clone(), now));
                            self.watches.len() - 1
                        }
                    };
                    let watch = &mut self.watches[index];
                    member.state = watch.monitor.state();
                    member.end_sessions = member.state == State::Down && pool.close_on_backend_down;
                    let watched = Watched { id, pool: pool.name.clone(), name: backend.name.clone() };
                    watch.backends.push(watched);
                }
                self.members.push(member);
            }
        }
    }

    /// Takes the result of a check of that watch; the change of state that follows.
    pub fn on_check(&mut self, watch: usize, success: bool, now: Moment) -> Option<Transition> {
        let watch = &mut self.watches[watch];
        let to = watch.monitor.on(success)?;
        for member in &mut self.members {
            if watch.backends.iter().any(|watched| watched.id == member.id) {
                let pool = self.config.pools.iter().find(|pool| self.ids.pool(&pool.name) == Some(member.pool));
                member.state = to;
                member.end_sessions = to == State::Down && pool.is_some_and(|pool| pool.close_on_backend_down);
            }
        }
        let lasted_ns = now.since_ns(std::mem::replace(&mut watch.since, now));
        Some(Transition { to, lasted_ns })
    }

    /// Nanoseconds until the next check of that watch; `chance` is a random number.
    pub fn pause_ns(&self, watch: usize, chance: u64) -> u64 {
        let Watch { monitor, check, .. } = &self.watches[watch];
        let intervals = Intervals {
            steady_ns: ns(check.interval),
            fast_ns: ns(check.fast_interval),
            down_ns: ns(check.down_interval),
        };
        schedule::pause_ns(monitor.trend(), intervals, chance)
    }

    /// The table to publish next, with a generation of its own. `previous` is the one published before, if any.
    pub fn table(&mut self, previous: Option<&Table>, phase: Phase) -> Table {
        self.generation = previous.map_or(self.generation, |table| table.generation).max(self.generation) + 1;
        build::build(Input {
            config: &self.config,
            ids: &self.ids,
            members: &self.members,
            phase,
            generation: self.generation,
            previous,
        })
    }

    /// Every watch, by its number.
    pub fn watches(&self) -> &[Watch] {
        &self.watches
    }
}

impl Watch {
    fn new(target: Address, check: Check, now: Moment) -> Watch {
        let monitor = Monitor::new(check.rise, check.fall, check.initial_up);
        Watch { target, check, backends: Vec::new(), monitor, since: now }
    }
}

fn member(pool: PoolId, backend: &Backend, id: BackendId, address: &Address) -> Member {
    Member {
        id,
        pool,
        name: backend.name.clone(),
        hash_name: backend.name.clone(),
        address: Some(address.clone()),
        weight: backend.weight,
        backup: backend.backup,
        connections_max: backend.connections_max,
        state: if backend.disabled { State::Maintenance } else { State::Up },
        ramp_from: None,
        end_sessions: false,
        retired: false,
    }
}

/// Where to check a backend. A path has no port to replace.
fn target(address: &Address, port: Option<u16>) -> Address {
    match (address, port) {
        (Address::Tcp(address), Some(port)) => Address::Tcp((address.ip(), port).into()),
        _ => address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::build::tests::{config, pool};

    fn states(fleet: &mut Fleet) -> Vec<State> {
        let table = fleet.table(None, Phase::Serving);
        table.backends.iter().flatten().map(|entry| entry.state).collect()
    }

    #[test]
    fn a_target_that_several_pools_name_is_watched_once() {
        // Both pools have 10.0.0.1:1000, only the first has :1001.
        let mut fleet = Fleet::new(Arc::new(config(vec![pool("p", &["a", "b"]), pool("q", &["c"])])), Moment(0));
        let watched: Vec<Vec<u32>> =
            fleet.watches().iter().map(|watch| watch.backends.iter().map(|backend| backend.id.0).collect()).collect();
        assert_eq!(watched, [vec![0, 2], vec![1]]);
        assert_eq!(
            fleet.on_check(0, false, Moment(50)),
            Some(Transition { to: State::Down, lasted_ns: 50 }),
            "the first result decides at once"
        );
        assert_eq!(states(&mut fleet), [State::Down, State::Up, State::Down]);
        assert_eq!(fleet.on_check(0, true, Moment(60)), None);
        assert_eq!(fleet.on_check(0, true, Moment(70)), Some(Transition { to: State::Up, lasted_ns: 20 }));
        assert_eq!(states(&mut fleet), [State::Up; 3]);
    }

    #[test]
    fn what_is_checked_differently_is_watched_apart() {
        let mut config = config(vec![pool("p", &["a"]), pool("q", &["a"]), pool("r", &["a"])]);
        config.pools[1].check.as_mut().unwrap().fall = 7;
        config.pools[2].check.as_mut().unwrap().port = Some(8080);
        let fleet = Fleet::new(Arc::new(config), Moment(0));
        let targets: Vec<_> = fleet.watches().iter().map(|watch| watch.target.to_string()).collect();
        assert_eq!(targets, ["10.0.0.1:1000", "10.0.0.1:1000", "10.0.0.1:8080"]);
    }

    #[test]
    fn what_is_not_checked_is_up_and_what_is_disabled_is_not_checked() {
        let mut config = config(vec![pool("p", &["a"]), pool("q", &["b", "c"])]);
        config.pools[0].check = None;
        config.pools[1].backends[0].disabled = true;
        let mut fleet = Fleet::new(Arc::new(config), Moment(0));
        assert_eq!(fleet.watches().len(), 1);
        assert_eq!(&*fleet.watches()[0].backends[0].name, "c");
        assert_eq!(states(&mut fleet), [State::Up, State::Maintenance, State::Up]);
    }

    #[test]
    fn before_the_first_result_the_configured_state_counts() {
        let mut config = config(vec![pool("p", &["a", "b"])]);
        config.pools[0].check.as_mut().unwrap().initial_up = false;
        let mut fleet = Fleet::new(Arc::new(config), Moment(0));
        assert_eq!(states(&mut fleet), [State::Down; 2]);
        assert_eq!(fleet.pause_ns(0, 5), 0, "and the first check is due");
        assert!(fleet.on_check(1, true, Moment(1)).is_some());
        assert_eq!(states(&mut fleet), [State::Down, State::Up]);
    }

    #[test]
    fn sessions_end_on_a_backend_that_is_down_exactly_if_the_pool_says_so() {
        for close in [true, false] {
            let mut config = config(vec![pool("p", &["a", "b"])]);
            config.pools[0].close_on_backend_down = close;
            let mut fleet = Fleet::new(Arc::new(config), Moment(0));
            fleet.on_check(1, false, Moment(1));
            let table = fleet.table(None, Phase::Serving);
            let ended: Vec<bool> = table.backends.iter().flatten().map(|entry| entry.end_sessions).collect();
            assert_eq!(ended, [false, close]);
        }
    }

    #[test]
    fn generations_ascend_from_the_table_before() {
        let mut fleet = Fleet::new(Arc::new(config(vec![pool("p", &["a"])])), Moment(0));
        let mut first = fleet.table(None, Phase::Serving);
        assert_eq!(first.generation, 1);
        first.generation = 41;
        assert_eq!(fleet.table(Some(&first), Phase::Serving).generation, 42);
        assert_eq!(fleet.table(None, Phase::Serving).generation, 43);
    }
}
