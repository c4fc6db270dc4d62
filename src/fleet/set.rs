//! What an operator changes of a backend while ringway runs.
//!
//! It is kept beside the configuration and wins over it, until the file changes the same key.
//!
//! A change is checked as a whole before any part of it is applied, and takes effect at all addresses of a host name.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::order::{BackendName, ByHand, Change, Mode, Order, SetError, Wish, as_told};
use super::plan::Plan;
use super::watches::WatchKey;
use super::{Changes, Fleet};
use crate::base::time::{Moment, ns};
use crate::config::model::Check;
use crate::discover::found::WEIGHT_MAX;
use crate::health::subscriber::{Subscriber, Wants};

impl Fleet {
    /// What a wish comes to. Nothing is changed.
    ///
    /// # Errors
    /// There is no such backend, or the change makes no sense.
    pub fn plan(&self, wish: &Wish, by: &Arc<str>, now: Moment) -> Result<Plan, SetError> {
        match wish {
            Wish::Set(target, change) => self.plan_set(target, *change, by, now),
            Wish::Add { pool, backend } => self.plan_add(pool, backend),
            Wish::Remove { target, deadline } => self.plan_remove(target, *deadline, by, now),
        }
    }

    /// Plans a change of a backend and makes it.
    #[cfg(test)]
    pub fn set(
        &mut self,
        target: &BackendName,
        change: Change,
        by: &Arc<str>,
        now: Moment,
    ) -> Result<Changes, SetError> {
        let plan = self.plan_set(target, change, by, now)?;
        Ok(self.carry_out(plan, now))
    }

    /// Makes a change. What is gone since it was planned is left alone.
    pub fn carry_out(&mut self, plan: Plan, now: Moment) -> Changes {
        let Plan { pool, name, by_hand, objects, leaves, lines } = plan;
        let mut changes = match (by_hand, objects) {
            (Some(by_hand), _) => self.set_by_hand(&pool, &name, by_hand, now),
            (None, Some(objects)) => self.set_objects(&pool, &name, objects, leaves, now),
            (None, None) => Changes::default(),
        };
        changes.lines = lines;
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Plans a change of a backend, at all of its addresses: all of `change`, or nothing.
    ///
    /// # Errors
    /// There is no such backend, or the change makes no sense.
    fn plan_set(&self, target: &BackendName, change: Change, by: &Arc<str>, now: Moment) -> Result<Plan, SetError> {
        let (pool, backend) = self.find(target)?;
        check(&change)?;
        let configured = &self.config.pools[pool].backends[backend];
        let drain_timeout = self.config.pools[pool].drain_timeout;
        let mut by_hand = self.pools[pool].by_hand.get(&configured.name).cloned().unwrap_or_default();
        let (settings, order) = as_told(configured, Some(&by_hand));
        let mut lines = Vec::new();
        let place = format!("pools.{}.backends.{}", target.pool, target.backend);
        if let Some(weight) = change.weight {
            if weight != settings.weight {
                lines.push(format!("{place}: weight {} → {weight}", settings.weight));
            }
            by_hand.weight = Some(weight).filter(|weight| *weight != configured.weight);
        }
        if let Some(most) = change.connections_max {
            let number = |most: Option<NonZeroU32>| most.map_or(0, NonZeroU32::get);
            let before = number(settings.connections_max);
            if most != before {
                lines.push(format!("{place}: connections_max {before} → {most}"));
            }
            let differs = most != number(configured.connections_max);
            by_hand.connections_max = differs.then_some(NonZeroU32::new(most));
        }
        if let Some(mode) = change.state {
            let deadline_ns = ns(change.deadline.unwrap_or(drain_timeout));
            let until = if deadline_ns == 0 { Moment::NEVER } else { now.after_ns(deadline_ns) };
            if mode != order.mode() || mode == Mode::Drain {
                lines.push(format!("{place}: state {} → {}", order.mode().name(), mode.name()));
            }
            let is_as_told = mode == as_told(configured, None).1.mode();
            by_hand.order = (!is_as_told).then(|| match mode {
                Mode::Ready => Order::Ready,
                Mode::Drain => Order::Drain { until, is_over: false, by: by.clone() },
                Mode::Maintenance => Order::Maintenance { by: Some(by.clone()) },
            });
        }
        let (pool, name) = (self.config.pools[pool].name.clone(), configured.name.clone());
        Ok(Plan { pool, name, by_hand: Some(by_hand), objects: None, leaves: None, lines })
    }

    /// Has a backend be as it was set, at all of its addresses.
    fn set_by_hand(&mut self, pool: &str, name: &Arc<str>, by_hand: ByHand, now: Moment) -> Changes {
        let mut changes = Changes { table: true, ..Changes::default() };
        let target = BackendName { pool: pool.to_owned(), backend: name.to_string() };
        let Ok((pool, backend)) = self.find(&target) else { return Changes::default() };
        self.pools[pool].by_hand.insert(name.clone(), by_hand);
        for place in self.pools[pool].seats.clone() {
            if self.seats[place].backend == backend && self.seats[place].retired.is_none() {
                self.instruct_anew(place, now);
                self.claim(place, now, &mut changes);
                self.settle(place, now, &mut changes);
            }
        }
        // A weight of 0 takes a replica out without a change of its state, and the stale ones may have to serve.
        self.freshen(pool, now, &mut changes);
        self.keep_one(pool, now, &mut changes);
        changes
    }

    /// Makes a seat what the configuration and the operator say of its backend. What is known of it stays. The caller
    /// draws the consequences.
    pub(super) fn instruct(&mut self, place: usize) {
        let seat = &mut self.seats[place];
        let Some(configured) = self.config.pools[seat.pool].backends.get(seat.backend) else { return };
        (seat.settings, seat.order) = as_told(configured, self.pools[seat.pool].by_hand.get(&configured.name));
        (seat.origin, seat.rests) = (configured.origin, configured.rests.clone());
        self.follow_checks(place);
    }

    /// The same for a seat that is there already. What is restarted during its drain may not be back when that ends,
    /// and it may have been away for less than `fall` checks: then it waits for one that it answers.
    pub(super) fn instruct_anew(&mut self, place: usize, now: Moment) {
        let before = self.seats[place].order.mode();
        self.instruct(place);
        let seat = &mut self.seats[place];
        match (before, seat.order.mode(), &self.config.pools[seat.pool].check) {
            (Mode::Drain, Mode::Ready, Some(check)) => {
                seat.is_doubted = !seat.is_known_to_live(between_checks_ns(check), now);
            }
            (_, Mode::Ready, Some(_)) => {}
            _ => seat.is_doubted = false,
        }
    }

    /// Has a seat checked as its pool says, or not at all.
    pub(super) fn follow_checks(&mut self, place: usize) {
        let seat = &self.seats[place];
        let is_checked = seat.retired.is_none() && seat.order.mode() != Mode::Maintenance;
        self.follow_agent(place, is_checked);
        let seat = &mut self.seats[place];
        let pool = &self.config.pools[seat.pool];
        let check = pool.check.as_ref().filter(|_| is_checked);
        let Some((check, address)) = check.zip(seat.address.as_ref()) else {
            seat.subscriber = None;
            if let Some(watch) = seat.watch.take() {
                self.watches.leave(watch, seat.id);
            }
            return;
        };
        let backend = pool.backends.get(seat.backend);
        let own = backend.and_then(|backend| backend.check_address.as_ref());
        let host = backend.and_then(|backend| backend.target.host());
        let key = WatchKey::new(check, &pool.dial, address, own, host);
        let before = seat.watch;
        if before.is_none_or(|watch| self.watches.get(watch).is_none_or(|watch| watch.key != key)) {
            seat.watch = Some(self.watches.join(key, seat.id));
            if let Some(watch) = before {
                self.watches.leave(watch, seat.id);
            }
        }
        let wants = Wants {
            role: check.role,
            lag_max_ns: ns(check.lag_max),
            rise: check.rise,
            fall: check.fall,
            initial_up: check.initial_up,
        };
        match &mut seat.subscriber {
            Some(subscriber) => subscriber.change(wants),
            None => seat.subscriber = Some(Subscriber::new(wants)),
        }
    }

    /// Index of the pool, and of the backend in it.
    ///
    /// # Errors
    /// There is none; or the name is that of one address among several, which cannot be set alone.
    pub(super) fn find(&self, target: &BackendName) -> Result<(usize, usize), SetError> {
        let pools = &self.config.pools[..self.configured];
        let Some(pool) = pools.iter().position(|pool| *pool.name == *target.pool) else {
            return Err(SetError::NotFound(format!("pool `{}`", target.pool)));
        };
        if let Some(backend) = pools[pool].backends.iter().position(|backend| *backend.name == *target.backend) {
            return Ok((pool, backend));
        }
        let mut seats = self.seats[self.pools[pool].seats.clone()].iter().filter(|seat| seat.retired.is_none());
        Err(match seats.find(|seat| *seat.name == *target.backend) {
            Some(seat) => SetError::Invalid(format!(
                "`{}` is one of the addresses of `{}`; set that, and all of them change",
                target.backend, seat.configured_name
            )),
            None => SetError::NotFound(format!("backend `{}` in pool `{}`", target.backend, target.pool)),
        })
    }
}

/// How old the last answer to a check can be while checks are made: a pause may be a tenth longer than its interval.
pub(super) fn between_checks_ns(check: &Check) -> u64 {
    let interval_ns = ns(check.interval.max(check.fast_interval).max(check.down_interval));
    interval_ns.saturating_add(interval_ns / 10).saturating_add(ns(check.timeout))
}

/// Refuses what means nothing, before anything is changed.
fn check(change: &Change) -> Result<(), SetError> {
    let invalid = |text: &str| Err(SetError::Invalid(text.to_string()));
    if change.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
        return invalid("`weight` goes from 0 to 256");
    }
    if change.deadline.is_some() && change.state != Some(Mode::Drain) {
        return invalid("a deadline belongs to the state `drain`");
    }
    if *change == Change::default() {
        return invalid("nothing to change: give a weight, a state or connections_max");
    }
    Ok(())
}
