//! What agents advise: the consequences for the backends beside which they run.
//!
//! An agent is asked in a watch of its own, beside the check. What it wants counts after what the operator wants: it
//! ends neither a maintenance nor a drain that a person has ordered.

use super::reason::Reason;
use super::seat::{Cut, Seat};
use super::watches::WatchKey;
use super::{Changes, Fleet};
use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::time::Moment;
use crate::health::State;
use crate::health::agent::{Advice, AgentState, Wish};

impl Fleet {
    /// Takes in what the agent of these backends says.
    pub(super) fn on_advice(&mut self, whose: &[BackendId], advice: &Advice, now: Moment) -> Changes {
        let mut changes = Changes::default();
        for id in whose {
            let Some(&place) = self.places.get(id) else { continue };
            let seat = &mut self.seats[place];
            let weight_before = seat.weight();
            if !seat.agent.hear(advice) {
                continue;
            }
            changes.table |= seat.weight() != weight_before;
            let pool = seat.pool;
            self.settle(place, now, &mut changes);
            // A weight of 0 takes a replica out without a change of its state, and the stale ones may have to serve.
            self.freshen(pool, now, &mut changes);
            self.keep_one(pool, now, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Has the agent of a seat asked as its pool says, or none. What one has said is forgotten with it.
    pub(super) fn follow_agent(&mut self, place: usize, is_checked: bool) {
        let seat = &mut self.seats[place];
        let pool = &self.config.pools[seat.pool];
        let port = pool.check.as_ref().and_then(|check| check.agent_port);
        let key = match (&pool.check, &seat.address, port) {
            (Some(check), Some(Address::Tcp(address)), Some(port)) => {
                let mut target = *address;
                target.set_port(port);
                Some(WatchKey::of_agent(check, &pool.dial, Address::Tcp(target)))
            }
            _ => None,
        };
        if key.is_none() {
            seat.agent = AgentState::default();
        }
        let key = key.filter(|_| is_checked);
        let before = seat.agent_watch;
        if before.and_then(|watch| self.watches.get(watch)).map(|watch| &watch.key) == key.as_ref() {
            return;
        }
        let target_before = before.and_then(|watch| self.watches.get(watch)).map(|watch| &watch.key.target);
        let is_another = key.as_ref().is_some_and(|key| target_before.is_some_and(|before| *before != key.target));
        if is_another {
            seat.agent = AgentState::default();
        }
        seat.agent_watch = key.map(|key| self.watches.join(key, seat.id));
        if let Some(watch) = before {
            self.watches.leave(watch, seat.id);
        }
    }
}

impl Seat {
    /// What its agent wants, if that is anything but that it serves as its checks say.
    pub(super) fn by_agent(&self, by_checks: Cut) -> Option<(State, Reason, Cut)> {
        match (self.agent.wish, &self.agent.trouble) {
            (Wish::Maintenance, _) => Some((State::Maintenance, Reason::AgentMaintains, Cut::Never)),
            (Wish::Drain, _) => Some((State::Draining, Reason::AgentDrains, self.cut_by_check(by_checks, false))),
            (Wish::Ready, Some(why)) => Some((State::Down, Reason::AgentDown(why.clone()), by_checks)),
            (Wish::Ready, None) => None,
        }
    }

    /// Whether its agent lets it serve.
    pub(super) fn is_let(&self) -> bool {
        self.agent.wish == Wish::Ready && self.agent.trouble.is_none()
    }

    /// Its share of new sessions, 0 to 256: as configured or set, and of that what its agent leaves.
    pub(super) fn weight(&self) -> u16 {
        self.agent.of_weight(self.settings.weight)
    }
}
