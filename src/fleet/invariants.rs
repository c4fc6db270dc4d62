//! What holds after each event, in builds with debug assertions: what two places say of a backend, they say alike.
//!
//! A look at every backend takes a while, so it is taken the more rarely the more there are.

use std::collections::HashMap;

use super::seat::{GONE, Seat};
use super::{Fleet, Squad, WatchId};
use crate::config::model::Pool;
use crate::health::State;
use crate::health::primary::PrimaryGuard;

impl Fleet {
    /// Panics with the rule that is broken. The more seats there are, the fewer events are followed by a look.
    pub(super) fn check_invariants(&mut self) {
        if self.pace.is_due(|| self.seats.len()) {
            self.check_places();
            self.check_watches();
            self.pools.iter().zip(&self.config.pools).for_each(|(squad, pool)| self.check_squad(squad, pool));
            self.seats.iter().for_each(|seat| self.check_seat(seat));
        }
    }

    /// Where each seat is.
    fn check_places(&self) {
        assert_eq!(self.pools.len(), self.config.pools.len(), "pools that are known, and those of the configuration");
        assert!(self.configured <= self.pools.len(), "a pool of the file is not there");
        assert_eq!(self.places.len(), self.seats.len(), "two seats have one slot, or a place without a seat");
        let is_found = |(place, seat): (usize, &Seat)| self.places.get(&seat.id) == Some(&place);
        assert!(self.seats.iter().enumerate().all(is_found), "a seat is not where it is looked for");
        assert!(!self.leaving.keys().any(|id| self.places.contains_key(id)), "a slot that becomes free has a seat");
        let order = |seat: &Seat| (seat.pool, seat.backend, seat.retired.is_some(), seat.number);
        assert!(self.seats.is_sorted_by_key(order), "seats are not in order");
        let mut end = 0;
        for (index, squad) in self.pools.iter().enumerate() {
            assert_eq!(squad.seats.start, end, "a seat between two pools");
            end = squad.seats.end;
            let is_of_it = |seat: &Seat| seat.pool == index && seat.pool_id == squad.id;
            assert!(self.seats[squad.seats.clone()].iter().all(is_of_it), "a seat of another pool");
            assert!(index < self.configured || !squad.seats.is_empty(), "a pool is kept that is gone and has no seat");
        }
        assert_eq!(end, self.seats.len(), "a seat behind the last pool");
    }

    /// Which backends are checked, and by which watch.
    fn check_watches(&self) {
        let mut subscribers: HashMap<WatchId, usize> = HashMap::new();
        for seat in &self.seats {
            assert_eq!(
                seat.watch.is_some(),
                seat.subscriber.is_some(),
                "{}: checked, and nothing comes of it",
                seat.name
            );
            for watch in [seat.watch, seat.agent_watch].into_iter().flatten() {
                *subscribers.entry(watch).or_default() += 1;
                let is_known = self.watches.get(watch).is_some_and(|watch| watch.subscribers.contains(&seat.id));
                assert!(is_known, "{}: its checks are not told to it", seat.name);
            }
            assert!(seat.retired.is_none() || seat.agent_watch.is_none(), "{}: its agent is asked in vain", seat.name);
        }
        let all: HashMap<WatchId, usize> =
            self.watches.iter().map(|(id, watch)| (id, watch.subscribers.len())).collect();
        assert_eq!(subscribers, all, "checks without a subscriber");
    }

    /// What must hold of one seat, whatever has happened.
    fn check_seat(&self, seat: &Seat) {
        let (name, state, pool) = (&seat.name, seat.standing.state, &self.config.pools[seat.pool]);
        assert!(seat.backend == GONE || seat.backend < pool.backends.len(), "{name}: of no backend");
        assert!(seat.backend != GONE || seat.retired.is_some(), "{name}: it is gone, and serves on");
        let is_ejectable = pool.ejection.is_some() && seat.retired.is_none();
        assert_eq!(seat.ejector.is_some(), is_ejectable, "{name}: it can be ejected, or not");
        let is_out = seat.ejector.as_ref().is_some_and(|ejector| ejector.until().is_some());
        assert!(state != State::Ejected || is_out, "{name}: it is ejected without end");
        assert!(!is_out || seat.freshness().is_none(), "{name}: it is ejected, and counts as fresh");
        assert!(seat.retired.is_none() || seat.missing.is_none(), "{name}: it is gone twice");
        assert_eq!(
            seat.took_sessions,
            seat.is_usable(),
            "{name}: it has begun to take sessions, or ceased to, unnoticed"
        );
        assert!(seat.ramp_from.is_none() || seat.is_usable(), "{name}: it starts slowly, and takes no sessions");
        assert!(seat.address.is_some() || !seat.is_usable(), "{name}: it serves without an address");
        assert!(seat.leads_back.is_none() || !seat.is_usable(), "{name}: it serves, and leads back");
        // Where there is a guard, the answers for a name count too, and they come and go between two judgements.
        if self.pools[seat.pool].guard.is_none() {
            let judged = seat.judge(pool, None, |_| false, |_| name.clone());
            let (stands, follows) = ((state, seat.standing.cut), (judged.state, judged.cut));
            assert_eq!(stands, follows, "{name}: it stands otherwise than follows from what is known");
        }
    }

    /// Never two primaries.
    fn check_squad(&self, squad: &Squad, pool: &Pool) {
        assert_eq!(squad.guard.is_some(), pool.wants_primary(), "{}: a guard, or none", pool.name);
        let Some(primary) = squad.guard.as_ref().map(PrimaryGuard::primary) else { return };
        let seats = &self.seats[squad.seats.clone()];
        let is_right = |seat: &Seat| seat.standing.state != State::Up || Some(seat.id) == primary;
        assert!(seats.iter().all(is_right), "{}: one serves that is not the primary", pool.name);
        let is_there = |id| seats.iter().any(|seat| seat.id == id && seat.retired.is_none());
        assert!(primary.is_none_or(is_there), "{}: the primary is not there", pool.name);
    }
}
