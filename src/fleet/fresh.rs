//! Freshness chooses among replicas, it does not end reading: where none is within `lag_max`, the least stale serve.
//!
//! It is asked again whenever a check has changed the lag of a replica. A change begins and ends with a notice, which
//! control logs and counts (`ringway_pool_serves_stale`).

use super::seat::Freshness;
use super::{Changes, Fleet, Notice};
use crate::base::time::{Moment, ns};
use crate::config::model::Role;

impl Fleet {
    /// Says anew which stale replicas of a pool serve, if any.
    ///
    /// Those do that are no further behind the best of them than `lag_max` allows, as each is asked at another moment;
    /// one that serves already, twice as far, so that it does not come and go.
    pub(super) fn freshen(&mut self, index: usize, now: Moment, changes: &mut Changes) {
        let Some(check) = &self.config.pools[index].check else { return };
        if check.role != Some(Role::Replica) {
            return;
        }
        let (is_strict, leeway_ns) = (check.lag_strict, ns(check.lag_max));
        let places = self.pools[index].seats.clone();
        let all: Vec<Option<Freshness>> = self.seats[places.clone()].iter().map(|seat| seat.freshness()).collect();
        let behind = all.iter().filter_map(|one| match one {
            Some(Freshness::Behind(behind_ns)) => Some(*behind_ns),
            _ => None,
        });
        let least_ns = behind.min().filter(|_| !is_strict && !all.contains(&Some(Freshness::Fresh)));
        let mut changed = Vec::new();
        for (place, freshness) in places.clone().zip(all) {
            let seat = &mut self.seats[place];
            let leeway_ns = leeway_ns.saturating_mul(if seat.is_least_stale { 2 } else { 1 });
            let serves = match (freshness, least_ns) {
                (Some(Freshness::Behind(behind_ns)), Some(least_ns)) => behind_ns <= least_ns.saturating_add(leeway_ns),
                _ => false,
            };
            if std::mem::replace(&mut seat.is_least_stale, serves) != serves {
                changed.push(place);
            }
        }
        let serves_stale = self.seats[places].iter().any(|seat| seat.is_least_stale);
        let squad = &mut self.pools[index];
        if std::mem::replace(&mut squad.serves_stale, serves_stale) != serves_stale {
            let pool = self.config.pools[index].name.clone();
            changes.notices.push(Notice::Stale { id: self.pools[index].id, pool, begins: serves_stale });
        }
        for place in changed {
            self.settle(place, now, changes);
        }
    }
}
