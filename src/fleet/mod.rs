//! The backends and what is known of them: which are checked, what that means for each pool, which take sessions. Pure.
//!
//! A [`Seat`] is a backend at one address. Events come in (`on_*`), each returns what follows as [`Changes`], and
//! [`Fleet::table`] makes what workers are told:
//!
//! ```text
//! check results, failed connects, DNS answers, time, orders, another configuration
//!     └─> Fleet::on_… ─> Seat (monitor, ejector, order) ─> judge ─> settle ─> Changes { transitions, table }
//! ```
//!
//! An event costs what it touches: a check result looks at its subscribers, and only a change of state at a whole pool.
//! Control feeds it and logs the changes; nothing here reads a clock or a socket, and every moment is an argument.
//!
//! The parts: `seat` and `judge` one backend · `members`, `names`, `hosts` addresses of host names · `found` backends
//! of a source · `watches` what is checked · `apply` another configuration · `set`, `order` what an operator wants ·
//! `eject`, `fresh`, `rivals`, `reclaim` rules of a pool · `around` backends that are ringway itself · `leave` slots
//! that become free · `changes` what follows from an event · `view`, `reason` for people.

mod agent;
mod apply;
mod around;
mod certificates;
mod changes;
mod eject;
mod found;
mod fresh;
mod hosts;
#[cfg(debug_assertions)]
mod invariants;
mod judge;
mod leave;
mod members;
mod names;
pub mod order;
mod reason;
mod reclaim;
mod rivals;
mod seat;
mod set;
mod view;
mod watches;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{CheckKind, Config};
use crate::health::State;
use crate::health::ask::Ask;
use crate::health::finding::Finding;
use crate::health::monitor::Trend;
use crate::health::primary::PrimaryGuard;
use crate::health::schedule;
use crate::health::transcript::Transcript;
use crate::snapshot::build::{self, Input, Member};
use crate::snapshot::table::{Phase, Table};

pub use crate::snapshot::ids::Ids;
pub use changes::{Changes, Notice, Transition};
pub use found::SourceView;
pub use reason::Reason;
pub use seat::{Cut, Past, Seat, Standing};
pub use view::{BackendView, FleetView, PastView, PoolView};
pub use watches::{Watch, WatchId};

/// Everything control knows about backends.
#[derive(Debug)]
pub struct Fleet {
    /// As in the file.
    file: Arc<Config>,
    /// The same with the backends that were found, added and removed. Pools that are gone and still have sessions stand
    /// last, without backends, and so do listeners that are gone, without addresses.
    config: Arc<Config>,
    /// By pool: what its source has said.
    sources: HashMap<Arc<str>, found::PoolSource>,
    /// How many of its pools are in the file.
    configured: usize,
    /// By which workers, counters and tables know listeners, pools and backends.
    ids: Ids,
    /// Those of a pool stand together; pools, backends and their addresses are in order.
    seats: Vec<Seat>,
    /// Where in `seats` each one is.
    places: HashMap<BackendId, usize>,
    /// As in the configuration.
    pools: Vec<Squad>,
    /// What is checked: a target that several seats share is checked once.
    watches: watches::Watches,
    /// Trouble that was counted before, by backend and kind.
    troubles_seen: HashMap<BackendId, [u64; 2]>,
    /// Slots that may become free.
    leaving: HashMap<BackendId, leave::Leaving>,
    /// Addresses of names, as they were found last.
    resolved: HashMap<Arc<str>, Vec<IpAddr>>,
    /// Of the last table that was made; each one has a greater number.
    generation: u64,
    /// Which addresses are this host's.
    own: around::OwnAddresses,
    /// How often the invariants are looked at.
    #[cfg(debug_assertions)]
    pace: crate::base::pace::LookPace,
}

/// What is known of a pool.
#[derive(Debug)]
struct Squad {
    /// Its slot.
    id: PoolId,
    /// `Some` exactly if the pool wants the primary.
    guard: Option<PrimaryGuard>,
    /// Those that contradict each other, as far as they were named.
    rivals: rivals::Named,
    /// What was set at run time, by the name of the backend in the file.
    by_hand: HashMap<Arc<str>, order::ByHand>,
    /// Where its seats are in [`Fleet::seats`].
    seats: Range<usize>,
    /// It was there before the last reload.
    is_old: bool,
    /// Sessions of one of its backends may wait to be cut, until another backend is known to take them.
    waits: bool,
    /// No replica of it is fresh enough, and the least stale serve.
    serves_stale: bool,
}

impl Fleet {
    /// Nothing checked yet.
    pub fn new(config: Arc<Config>, now: Moment) -> Fleet {
        let ids = Ids::assign(&config);
        let squad = |pool: &crate::config::model::Pool| {
            let guard = pool.wants_primary().then(PrimaryGuard::default);
            Some(Squad {
                id: ids.pool(&pool.name)?,
                guard,
                rivals: rivals::Named::default(),
                by_hand: HashMap::new(),
                seats: 0..0,
                is_old: false,
                waits: false,
                serves_stale: false,
            })
        };
        let pools = config.pools.iter().filter_map(squad).collect();
        let mut fleet = Fleet {
            seats: Vec::new(),
            places: HashMap::new(),
            watches: watches::Watches::default(),
            troubles_seen: HashMap::new(),
            leaving: HashMap::new(),
            resolved: HashMap::new(),
            generation: 0,
            own: around::OwnAddresses::by(|_| false),
            pools,
            ids,
            configured: config.pools.len(),
            file: config.clone(),
            sources: HashMap::new(),
            config,
            #[cfg(debug_assertions)]
            pace: crate::base::pace::LookPace::default(),
        };
        fleet.follow_sources();
        fleet.seat_the_missing(now);
        #[cfg(debug_assertions)]
        fleet.check_invariants();
        fleet
    }

    /// Takes the result of a check that began then. A watch that has ended changes nothing.
    pub fn on_check(&mut self, watch: WatchId, begun: Moment, finding: &Finding, now: Moment) -> Changes {
        let mut changes = Changes::default();
        let Some(watch) = self.watches.get(watch) else { return changes };
        let subscribers = watch.subscribers.clone();
        match finding {
            Finding::Advice(advice) => return self.on_advice(&subscribers, advice, now),
            // An agent that is away changes nothing.
            _ if watch.key.kind == CheckKind::Agent => return changes,
            _ => {}
        }
        for id in subscribers {
            let Some(&place) = self.places.get(&id) else { continue };
            if self.seats[place].on_check(finding, begun, now) {
                self.seats[place].standing.reason = Reason::Checks;
            }
            self.claim(place, now, &mut changes);
            self.freshen(self.seats[place].pool, now, &mut changes);
            self.settle(place, now, &mut changes);
            self.seats[place].is_known |= !matches!(finding, Finding::Unknown(_));
            self.relieve(self.seats[place].pool, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Keeps how a check went, for the person that asks why.
    pub fn remember(&mut self, watch: WatchId, transcript: Transcript) {
        if let Some(watch) = self.watches.get_mut(watch) {
            watch.transcript = Some(transcript);
        }
    }

    /// Time has passed: ejections, drains and slow starts may be over.
    pub fn on_time(&mut self, now: Moment) -> Changes {
        let mut changes = Changes::default();
        for place in 0..self.seats.len() {
            let ramp_ns = self.ramp_ns(place);
            let seat = &mut self.seats[place];
            let is_back = seat.ejector.as_mut().is_some_and(|ejector| ejector.on_time(now));
            let mut is_due = is_back;
            if let Some(retired) = seat.retired.as_mut().filter(|retired| now >= retired.until) {
                (retired.is_over, retired.until) = (true, Moment::NEVER);
                is_due = true;
            }
            is_due |= seat.order.on_time(now);
            if seat.ramp_from.is_some_and(|from| now >= from.after_ns(ramp_ns)) {
                seat.ramp_from = None;
                changes.table = true;
            }
            if is_due {
                self.settle(place, now, &mut changes);
            }
        }
        self.let_go(now, &mut changes);
        if now >= self.own.until() {
            self.look_around(now, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// When [`Fleet::on_time`] has something to do next.
    pub fn deadline(&self) -> Moment {
        let of_seat = |(place, seat): (usize, &Seat)| {
            let ejection = seat.ejector.as_ref().and_then(|ejector| ejector.until());
            let drain = seat.retired.as_ref().map(|retired| retired.until).or(seat.order.until());
            let ramp = seat.ramp_from.map(|from| from.after_ns(self.ramp_ns(place)));
            let missing = seat.missing.filter(|_| seat.retired.is_none()).map(|missing| missing.until);
            [ejection, drain, ramp, missing].into_iter().flatten().min()
        };
        let seats = self.seats.iter().enumerate().filter_map(of_seat).min().unwrap_or(Moment::NEVER);
        seats.min(self.own.until())
    }

    /// Nanoseconds until the next check of that watch: the least that a subscriber asks for. `chance` is a random
    /// number. A watch that has ended needs no check.
    pub fn pause_ns(&self, watch: WatchId, chance: u64) -> u64 {
        let Some(watch) = self.watches.get(watch) else { return u64::MAX };
        let intervals = watch.key.intervals();
        if watch.key.kind == CheckKind::Agent {
            return schedule::pause_ns(Trend::Up, intervals, chance);
        }
        let pause = |id: &BackendId| {
            let seat = &self.seats[*self.places.get(id)?];
            let trend = seat.subscriber.as_ref().map_or(Trend::Unknown, |subscriber| {
                let is_in_use = matches!(seat.standing.state, State::Up | State::Ejected);
                subscriber.trend(is_in_use)
            });
            Some(schedule::pause_ns(trend, intervals, chance))
        };
        watch.subscribers.iter().filter_map(pause).min().unwrap_or(0)
    }

    /// What is to be asked there; `None` exactly if the watch has ended.
    pub fn ask(&self, watch: WatchId) -> Option<Ask> {
        let watch = self.watches.get(watch)?;
        let subscribers = watch.subscribers.iter().filter_map(|id| self.places.get(id));
        let wants = subscribers.filter_map(|place| Some(self.seats[*place].subscriber.as_ref()?.wants()));
        let (role, lag) = wants.fold((false, false), |(role, lag), wants| {
            (role || wants.role.is_some() || wants.lag_max_ns > 0, lag || wants.lag_max_ns > 0)
        });
        let watches::WatchKey { target, kind, opening, tls, also_ports, timeout, .. } = watch.key.clone();
        Some(Ask { target, kind, opening, tls, also_ports, timeout, role, lag })
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    /// The table to publish next, with a generation of its own. `previous` is the one published before, if any.
    pub fn table(&mut self, previous: Option<&Table>, phase: Phase) -> Table {
        self.generation = previous.map_or(self.generation, |table| table.generation).max(self.generation) + 1;
        let members: Vec<Member> = self.seats.iter().map(Seat::member).collect();
        for retired in self.seats.iter_mut().filter_map(|seat| seat.retired.as_mut()) {
            retired.generation.get_or_insert(self.generation);
        }
        self.leave_table();
        build::build(Input {
            config: &self.config,
            ids: &self.ids,
            members: &members,
            phase,
            generation: self.generation,
            previous,
        })
    }

    /// The slot of a pool.
    pub fn pool(&self, name: &str) -> Option<PoolId> {
        self.ids.pool(name)
    }

    /// The slot of a listener.
    pub fn listener(&self, name: &str) -> Option<ListenerId> {
        self.ids.listener(name)
    }

    /// Every watch there is.
    pub fn watches(&self) -> impl Iterator<Item = (WatchId, &Watch)> {
        self.watches.iter()
    }

    /// One of them; `None` exactly if it has ended.
    pub fn watch(&self, id: WatchId) -> Option<&Watch> {
        self.watches.get(id)
    }

    /// Every backend at every address, retired ones with them.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Tells the guard of its pool what a seat says of itself.
    fn claim(&mut self, place: usize, now: Moment, changes: &mut Changes) {
        let seat = &self.seats[place];
        let (id, pool, claim) = (seat.id, seat.pool, seat.claim());
        let Some(guard) = &mut self.pools[pool].guard else { return };
        let has_changed = guard.on(id, claim);
        let primary = guard.primary();
        self.name_rivals(place, now, changes);
        if has_changed {
            // The old one goes before the new one comes, as the log is read.
            let mut places: Vec<usize> = self.pools[pool].seats.clone().collect();
            places.sort_by_key(|place| Some(self.seats[*place].id) == primary);
            places.into_iter().for_each(|place| self.settle(place, now, changes));
        }
    }

    /// Draws the consequences of what is known of a seat.
    fn settle(&mut self, place: usize, now: Moment, changes: &mut Changes) {
        self.settle_state(place, now, changes);
        self.reclaim(place, now, changes);
    }

    /// The state that follows, and what it means for others.
    fn settle_state(&mut self, place: usize, now: Moment, changes: &mut Changes) {
        let seat = &self.seats[place];
        let index = seat.pool;
        let pool = &self.config.pools[index];
        let guard = self.pools[index].guard.as_ref();
        let standing = seat.judge(pool, guard, |id| self.is_same_server(seat.id, id), |id| self.name_of(id));
        let slow_start_ns = ns(pool.slow_start);
        let pool_name = &pool.name;
        let seat = &mut self.seats[place];
        let before = std::mem::replace(&mut seat.standing, standing);
        if before.cut != seat.standing.cut {
            changes.table = true;
            (seat.waits_since, seat.is_relieved) = (now, false);
            self.pools[index].waits |= seat.standing.cut == Cut::WhenRelieved;
        }
        let (from, to) = (before.state, seat.standing.state);
        seat.note_sessions(slow_start_ns, from, now);
        if from == to {
            return;
        }
        if (from, to) == (State::Ejected, State::Up) {
            // What ended the ejection has given the reason, if it was not its time that is over.
            let is_over = matches!(before.reason, Reason::Ejected { .. });
            seat.standing.reason = if is_over { Reason::EjectionOver } else { before.reason };
        }
        let lasted_ns = seat.enter(now);
        changes.table = true;
        changes.transitions.push(Transition {
            id: seat.id,
            pool: pool_name.clone(),
            backend: seat.name.clone(),
            from,
            to: seat.standing.clone(),
            lasted_ns,
        });
        if matches!(to, State::Down | State::Standby)
            && let Some(ejector) = &mut seat.ejector
        {
            // From now on its checks decide.
            ejector.restore(now);
        }
        if from == State::Up {
            self.keep_one(index, now, changes);
        }
        self.freshen(index, now, changes);
    }

    /// Cuts the sessions that wait for another backend to take them, once a check of another backend that began later
    /// has succeeded.
    fn relieve(&mut self, pool: usize, changes: &mut Changes) {
        if !self.pools[pool].waits {
            return;
        }
        let seats = &mut self.seats[self.pools[pool].seats.clone()];
        let proven_at = seats.iter().filter(|seat| seat.is_usable()).map(|seat| seat.proven_at).max();
        let mut waits = false;
        for seat in seats.iter_mut().filter(|seat| seat.standing.cut == Cut::WhenRelieved && !seat.is_relieved) {
            seat.is_relieved = proven_at.is_some_and(|proven_at| proven_at >= seat.waits_since);
            changes.table |= seat.is_relieved;
            waits |= !seat.is_relieved;
        }
        self.pools[pool].waits = waits;
    }

    /// How long the slow start of this seat takes.
    fn ramp_ns(&self, place: usize) -> u64 {
        ns(self.config.pools[self.seats[place].pool].slow_start)
    }

    /// The name of a backend for a reason; `?` if it has no seat any more.
    fn name_of(&self, id: BackendId) -> Arc<str> {
        self.places.get(&id).map_or_else(|| Arc::from("?"), |place| self.seats[*place].name.clone())
    }
}

#[cfg(test)]
mod tests;
