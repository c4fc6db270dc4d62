//! Backends that are ringway itself: a connection to one would go around until no descriptor is left.
//!
//! What a file alone says is refused before it is used (`config::loops`). What a name stands for, and which addresses
//! this host has, is known only here.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Changes, Fleet};
use crate::base::time::Moment;
use crate::config::loops::{Binds, pools_of};
use crate::config::model::{Config, Listener, Target};

/// Whether an address is one of this host's.
pub type IsOwn = fn(IpAddr) -> bool;

impl Fleet {
    /// From now on it is known which addresses are this host's.
    pub fn tell_own_by(&mut self, is_own: IsOwn, now: Moment) -> Changes {
        self.is_own = is_own;
        let mut changes = Changes::default();
        self.look_around(now, &mut changes);
        changes
    }

    /// Finds the backends that lead back to their own pool.
    pub(super) fn look_around(&mut self, now: Moment, changes: &mut Changes) {
        let config = self.config.clone();
        for (place, back) in self.leading_back(&config).into_iter().enumerate() {
            if self.seats[place].leads_back != back {
                self.seats[place].leads_back = back;
                changes.table = true;
                self.settle(place, now, changes);
            }
        }
    }

    /// For each seat the listener by which it comes back to its own pool, whatever clients say: a listener with several
    /// pools may lead them elsewhere, and is only warned of.
    fn leading_back(&self, config: &Config) -> Vec<Option<Arc<str>>> {
        let binds = Binds::of(&config.listeners);
        let behind: Vec<Vec<usize>> = self.seats.iter().map(|seat| self.listeners_behind(seat, &binds)).collect();
        let pool_of: Vec<Option<usize>> = config.listeners.iter().map(|listener| only_pool(config, listener)).collect();
        let comes_back = |pool: usize, first: usize| {
            let (mut seen, mut next) = (HashSet::from([first]), VecDeque::from([first]));
            while let Some(listener) = next.pop_front() {
                match pool_of[listener] {
                    Some(found) if found == pool => return true,
                    Some(found) => {
                        let places = self.pools[found].seats.clone();
                        next.extend(behind[places].iter().flatten().filter(|listener| seen.insert(**listener)));
                    }
                    None => {}
                }
            }
            false
        };
        let back = |(seat, behind): (&super::Seat, &Vec<usize>)| {
            let by = behind.iter().find(|&&listener| comes_back(seat.pool, listener))?;
            Some(config.listeners[*by].name.clone())
        };
        self.seats.iter().zip(&behind).map(back).collect()
    }

    fn listeners_behind(&self, seat: &super::Seat, binds: &Binds<'_>) -> Vec<usize> {
        let Some(address) = seat.address.clone().filter(|_| seat.retired.is_none()) else { return Vec::new() };
        let found = binds.behind(&Target::Address(address), &|ip| (self.is_own)(ip));
        found.into_iter().map(|(listener, _)| listener).collect()
    }
}

/// The pool of every client of a listener, if there is only one.
fn only_pool(config: &Config, listener: &Listener) -> Option<usize> {
    let [name] = pools_of(listener)[..] else { return None };
    config.pools.iter().position(|pool| &*pool.name == name)
}
