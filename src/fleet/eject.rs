//! Which backends are ejected for what real sessions met with, and which come back.
//!
//! Workers only count ([`stats`](crate::stats)); control reads the totals when a worker rings, and the difference since
//! the last time comes in here. The rules of one backend are [`health::ejection`](crate::health::ejection)'s; here are
//! those of the pool: how many can be out together, and that the last usable one never goes.

use super::{Changes, Fleet, Reason, Seat};
use crate::base::id::BackendId;
use crate::base::time::Moment;
use crate::health::State;
use crate::health::ejection::{Limit, Trouble};

impl Fleet {
    /// Looks at how much trouble clients have met with at each backend since the start of the process, and draws the
    /// consequences of what is new. What ringway itself lacked is not among it.
    pub fn on_troubles(&mut self, total: impl Fn(BackendId, Trouble) -> u64, now: Moment) -> Changes {
        let mut changes = Changes::default();
        for (place, trouble) in (0..self.seats.len()).flat_map(|place| Trouble::ALL.map(|trouble| (place, trouble))) {
            let seat = &mut self.seats[place];
            let total = total(seat.id, trouble);
            let seen = &mut self.troubles_seen.entry(seat.id).or_default()[trouble as usize];
            let new = total.saturating_sub(std::mem::replace(seen, total));
            let Some(ejector) = seat.ejector.as_mut().filter(|_| new > 0 && seat.standing.state == State::Up) else {
                continue;
            };
            if ejector.met(trouble, new, now) && self.may_eject(place) {
                self.eject(place, trouble, now, &mut changes);
            }
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Whether anything follows from what clients meet with.
    pub fn wants_troubles(&self) -> bool {
        self.config.pools.iter().any(|pool| pool.ejection.is_some())
    }

    /// Whether the limits of the pool allow it: the share that can be out together, and that one stays usable.
    fn may_eject(&self, place: usize) -> bool {
        let seat = &self.seats[place];
        let Some(ejection) = self.config.pools[seat.pool].ejection else { return false };
        let all = &self.seats[self.pools[seat.pool].seats.clone()];
        let regular = || all.iter().filter(|seat| seat.settings.backup == 0 && seat.retired.is_none());
        let limit = Limit {
            percent_max: ejection.percent_max,
            backends: regular().count(),
            ejected: regular().filter(|seat| seat.standing.state == State::Ejected).count(),
            usable: all.iter().filter(|seat| seat.is_usable()).count(),
        };
        seat.is_usable() && limit.allows(seat.settings.backup > 0)
    }

    /// Ejects a seat, for a time that grows with each ejection.
    fn eject(&mut self, place: usize, trouble: Trouble, now: Moment, changes: &mut Changes) {
        let seat = &mut self.seats[place];
        let Some((ejector, rules)) = seat.ejector.as_mut().zip(self.config.pools[seat.pool].ejection) else { return };
        let duration_ms = ejector.eject(trouble, now) / 1_000_000;
        let window_ms = rules.window.as_millis() as u64;
        let count = if trouble == Trouble::Connect { rules.failures } else { rules.hangups };
        seat.ejected_for = Reason::Ejected { trouble, count, window_ms, duration_ms };
        self.settle(place, now, changes);
    }

    /// If no backend of the pool is usable, those that are ejected come back: they fail now and then, and that is
    /// better than nothing.
    pub(super) fn keep_one(&mut self, pool: usize, now: Moment, changes: &mut Changes) {
        let range = self.pools[pool].seats.clone();
        if self.seats[range.clone()].iter().any(Seat::is_usable) {
            return;
        }
        for place in range {
            let seat = &mut self.seats[place];
            if seat.standing.state == State::Ejected
                && seat.ejector.as_mut().is_some_and(|ejector| ejector.restore(now))
            {
                seat.standing.reason = Reason::LastResort;
                self.settle(place, now, changes);
            }
        }
    }
}
