//! Another configuration: a backend that is still there keeps what is known of it, a new one begins, and a removed one
//! drains.
//!
//! "Still there" means the same pool, the same name and the same address, or a host name for which DNS has not said
//! otherwise yet. A changed weight or limit only changes the next table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::hosts::{is_same_name, is_same_target};
use super::names::BehindHost;
use super::order::ByHand;
use super::seat::GONE;
use super::{Changes, Fleet, Reason, Squad};
use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
use crate::config::model::{Backend, BackendOrigin, Config, Listener, Pool};
use crate::health::ejection::Ejector;
use crate::health::primary::PrimaryGuard;

impl Fleet {
    /// Goes on with another configuration. A backend is still there exactly if its pool has one of that name at the
    /// same address, or behind a host name that has not said otherwise yet.
    pub fn apply(&mut self, config: &Config, now: Moment) -> Changes {
        self.file = Arc::new(config.clone());
        self.follow_sources();
        let objects = std::mem::take(&mut self.objects).into_iter().filter_map(|(name, objects)| {
            let objects = objects.after(config.pools.iter().find(|pool| pool.name == name)?);
            Some((name, objects)).filter(|(_, objects)| !objects.is_empty())
        });
        self.objects = objects.collect();
        self.go_on_with(self.effective(), |_| true, now)
    }

    /// The same with a configuration that has in it what was found, added and removed. `may_differ` says by name of
    /// which pools something else may be known; the others are left alone.
    pub(super) fn go_on_with(&mut self, config: Config, may_differ: impl Fn(&str) -> bool, now: Moment) -> Changes {
        let config = &config;
        let mut changes = Changes { table: true, ..Changes::default() };
        self.ids.extend(config);
        let before = self.take_over(config);
        let gone = self.remap(&before);
        self.put_in_order();
        for (id, reason) in gone {
            if let Some(&place) = self.places.get(&id) {
                self.retire(place, reason, now, &mut changes);
            }
        }
        self.seat_the_missing(now);
        self.forget_empty_pools();
        let mut behind: HashMap<Arc<str>, Vec<BehindHost>> = HashMap::new();
        for (host, one) in self.behind_hosts() {
            behind.entry(host.clone()).or_default().push(one);
        }
        self.resolved.retain(|host, _| behind.contains_key(host));
        for (host, addresses) in self.resolved.clone() {
            let (_, more) = self.learn_addresses(&host, &behind[&host], &addresses, now);
            changes.absorb(more);
        }
        let pools: Vec<usize> =
            (0..self.pools.len()).filter(|pool| may_differ(&self.config.pools[*pool].name)).collect();
        let seats: Vec<usize> = pools.iter().flat_map(|pool| self.pools[*pool].seats.clone()).collect();
        for &place in &seats {
            let seat = &self.seats[place];
            if seat.retired.is_none() {
                let rules = self.config.pools[seat.pool].ejection.map(super::seat::rules);
                let seat = &mut self.seats[place];
                match (&mut seat.ejector, rules) {
                    (Some(ejector), Some(rules)) => ejector.change(rules),
                    (ejector, rules) => *ejector = rules.map(Ejector::new),
                }
                self.instruct_anew(place, now);
            }
        }
        // First all claims, so that the primary does not lose its role to the order of the file.
        seats.iter().for_each(|place| self.claim(*place, now, &mut changes));
        seats.iter().for_each(|place| self.settle(*place, now, &mut changes));
        pools.iter().for_each(|pool| self.freshen(*pool, now, &mut changes));
        pools.iter().for_each(|pool| self.keep_one(*pool, now, &mut changes));
        self.look_around(now, &mut changes);
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Makes it the configuration, and keeps of the pools what outlives the change. Returns the configuration before.
    fn take_over(&mut self, config: &Config) -> Arc<Config> {
        let before = self.config.clone();
        let mut old: HashMap<Arc<str>, (Squad, &Pool)> = std::mem::take(&mut self.pools)
            .into_iter()
            .zip(&before.pools)
            .map(|(squad, pool)| (pool.name.clone(), (squad, pool)))
            .collect();
        let mut next = config.clone();
        self.configured = next.pools.len();
        let named: HashSet<&str> = config.pools.iter().map(|pool| &*pool.name).collect();
        let is_gone = |pool: &&Pool| !named.contains(&*pool.name);
        let gone = before.pools.iter().filter(is_gone).filter(|pool| !old[&pool.name].0.seats.is_empty());
        let emptied = |pool: &Pool| Pool {
            backends: Vec::new(),
            check: None,
            ejection: None,
            fallback: None,
            close_on_main_up: false,
            ..pool.clone()
        };
        next.pools.extend(gone.map(emptied));
        for pool in &next.pools {
            let Some(id) = self.ids.pool(&pool.name) else { continue };
            let (squad, configured) = old.remove(&pool.name).unzip();
            let is_old = squad.is_some();
            let serves_stale = squad.as_ref().is_some_and(|squad| squad.serves_stale);
            let (guard, rivals, by_hand, hint) =
                squad.map(|squad| (squad.guard, squad.rivals, squad.by_hand, squad.hint)).unwrap_or_default();
            let by_hand = by_hand.into_iter().filter_map(|(name, by_hand)| {
                match (backend_named(configured?, &name), backend_named(pool, &name)) {
                    (Some(before), Some(now)) => Some((name, ByHand::after(by_hand, before, now))),
                    // It was set before a restart, and its source may find it again.
                    (None, _) if pool.discover.is_some() => Some((name, by_hand)),
                    (None, Some(_)) => Some((name, by_hand)),
                    (_, None) => None,
                }
            });
            let by_hand = by_hand.collect();
            let guard = pool.wants_primary().then(|| guard.unwrap_or_else(PrimaryGuard::default));
            let seats = 0..0;
            self.pools.push(Squad { id, guard, rivals, by_hand, seats, is_old, waits: true, serves_stale, hint });
        }
        // Clients that a listener accepted just before it went are still on their way to a session.
        let named: HashSet<&str> = config.listeners.iter().map(|listener| &*listener.name).collect();
        let is_gone = |old: &&Listener| !named.contains(&*old.name);
        let has_pool = |old: &&Listener| next.pools.iter().any(|pool| pool.name == old.pool);
        let gone = before.listeners.iter().filter(is_gone).filter(has_pool);
        let gone: Vec<_> = gone.map(|old| Listener { binds: Vec::new(), ..old.clone() }).collect();
        next.listeners.extend(gone);
        self.config = Arc::new(next);
        before
    }

    /// Gives every seat its place in the configuration. Returns those that have none any more, and why.
    fn remap(&mut self, before: &Config) -> Vec<(BackendId, Reason)> {
        let mut gone = Vec::new();
        let config = self.config.clone();
        let pools: HashMap<PoolId, usize> =
            self.pools.iter().enumerate().map(|(index, squad)| (squad.id, index)).collect();
        let places: HashMap<(usize, &str), usize> = config
            .pools
            .iter()
            .enumerate()
            .flat_map(|(pool, of)| of.backends.iter().enumerate().map(move |(at, it)| ((pool, &*it.name), at)))
            .collect();
        self.seats.retain_mut(|seat| {
            let configured = before.pools[seat.pool].backends.get(seat.backend);
            let target = configured.map(|backend| &backend.target);
            // A pool that has a seat is there, without its backends if need be.
            let Some(&pool) = pools.get(&seat.pool_id) else { return false };
            let place = places.get(&(pool, &*seat.configured_name)).copied();
            let now = place.map(|place| &config.pools[pool].backends[place].target);
            (seat.pool, seat.backend) = (pool, place.unwrap_or(GONE));
            if !is_same_name(target, now) {
                // Another name has not answered with this address yet.
                seat.answered = None;
            }
            // One that only its name has left drains like others once the file has left it, too.
            let is_left = seat.retired.as_ref().is_some_and(|retired| retired.reason.is_of_name()) && now.is_none();
            if (seat.retired.is_some() && !is_left)
                || (now.is_some() && is_same_target(target, now, seat.address.as_ref()))
            {
                return true;
            }
            if seat.address.is_some() {
                let reason = match (now, configured.map(|backend| backend.origin)) {
                    (Some(_), _) => Reason::Moved,
                    (None, Some(BackendOrigin::Found(kind))) => Reason::NotFound(kind),
                    (None, _) => Reason::Removed,
                };
                gone.push((seat.id, reason));
            }
            // No session can be at a seat without an address.
            seat.address.is_some()
        });
        gone
    }

    /// Forgets pools that are gone, once none of their seats is left.
    pub(super) fn forget_empty_pools(&mut self) {
        let is_empty = |index: usize| index >= self.configured && self.pools[index].seats.is_empty();
        let Some(index) = (0..self.pools.len()).rev().find(|index| is_empty(*index)) else { return };
        let mut config = Config::clone(&self.config);
        config.pools.remove(index);
        self.pools.remove(index);
        self.config = Arc::new(config);
        self.seats.iter_mut().filter(|seat| seat.pool > index).for_each(|seat| seat.pool -= 1);
        self.put_in_order();
        self.forget_empty_pools();
    }
}

/// The backend of that name in a pool.
fn backend_named<'a>(pool: &'a Pool, name: &str) -> Option<&'a Backend> {
    pool.backends.iter().find(|backend| *backend.name == *name)
}
