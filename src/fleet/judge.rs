//! What follows from everything that is known of a seat: what it can be used for, and what happens to its sessions.
//!
//! In order of precedence: removed, the operator's order, the agent's, no address yet, a loop back to ringway, the
//! checks (with role and lag), doubt after a drain, ejection, and the primary that the pool has chosen. The first of
//! these that applies decides, and gives the reason.

use std::sync::Arc;

use super::order::Order;
use super::reason::Reason;
use super::seat::{Cut, Freshness, Seat, Standing};
use crate::base::id::BackendId;
use crate::config::model::{Pool, Role};
use crate::health::State;
use crate::health::primary::{Claim, PrimaryGuard};
use crate::health::subscriber::{CheckVerdict, Subscriber};

impl Seat {
    /// What it says of itself to the guard of its pool; nothing once it is retired.
    pub fn claim(&self) -> Claim {
        if self.retired.is_some() {
            return Claim::None;
        }
        let Some(subscriber) = &self.subscriber else { return Claim::None };
        match (subscriber.facts(), subscriber.verdict()) {
            (Some(facts), CheckVerdict::Fit) if facts.role == Some(Role::Primary) => match self.is_heard {
                true => Claim::Primary(facts.term),
                false => Claim::Presumed(facts.term),
            },
            (Some(facts), CheckVerdict::Failing) if facts.role == Some(Role::Primary) => Claim::Unreachable(facts.term),
            _ => Claim::None,
        }
    }

    /// How it stands to the wish for fresh replicas, as far as it could take sessions at all: whether it is fresh, or
    /// how far behind.
    pub fn freshness(&self) -> Option<Freshness> {
        let is_ejected = self.ejector.as_ref().is_some_and(|ejector| ejector.until().is_some());
        let is_out = self.retired.is_some() || self.address.is_none() || self.weight() == 0;
        let is_out = is_out || is_ejected || self.is_doubted || !self.is_let();
        let subscriber = self.subscriber.as_ref().filter(|_| !is_out && self.order == Order::Ready)?;
        match subscriber.verdict() {
            CheckVerdict::Fit => Some(Freshness::Fresh),
            CheckVerdict::Stale => Some(Freshness::Behind(subscriber.staleness_ns())),
            _ => None,
        }
    }

    /// What follows from everything that is known; `guard` is that of its pool, if the pool wants a primary, and
    /// `is_self` says which seats are addresses of the same server.
    pub fn judge(
        &self,
        pool: &Pool,
        guard: Option<&PrimaryGuard>,
        is_self: impl Fn(BackendId) -> bool,
        name_of: impl Fn(BackendId) -> Arc<str>,
    ) -> Standing {
        // With two writers data is lost; so what is not the primary keeps no session once another one is.
        let other_primary = guard.and_then(PrimaryGuard::primary).filter(|primary| *primary != self.id);
        let is_displaced = other_primary.is_some_and(|primary| !is_self(primary));
        let stands = |state, reason, cut| Standing { state, reason, cut: if is_displaced { Cut::Now } else { cut } };
        // Where all are used when all are down, checks are not trusted so far.
        let closes = pool.close_on_backend_down && !pool.use_all_when_down;
        let by_checks = if closes { Cut::WhenRelieved } else { Cut::Never };
        if let Some(retired) = &self.retired {
            let cut = if retired.is_over { Cut::Now } else { self.cut_by_check(by_checks, guard.is_some()) };
            return stands(State::Draining, retired.reason.clone(), cut);
        }
        if let Some((state, reason, cut)) = self.by_order(by_checks).or_else(|| self.by_agent(by_checks)) {
            return stands(state, reason, cut);
        }
        if self.address.is_none() {
            return stands(State::Down, Reason::NoAddress(self.trouble.clone()), Cut::Never);
        }
        if let Some(listener) = &self.leads_back {
            return stands(State::Down, Reason::LeadsBack(listener.clone()), Cut::Now);
        }
        let down = |reason, certain| stands(State::Down, reason, if certain { Cut::Now } else { by_checks });
        let up = match self.subscriber.as_ref().map(|subscriber| (subscriber.verdict(), subscriber.is_unchecked())) {
            None => Reason::NotChecked,
            Some((CheckVerdict::Fit, true)) => Reason::NotCheckedYet,
            Some((CheckVerdict::Fit, false)) => Reason::Checks,
            Some((CheckVerdict::Leaving, _)) => return stands(State::Draining, Reason::Leaving, Cut::Never),
            Some((CheckVerdict::Stale, _)) if self.is_least_stale => {
                Reason::LeastStale(self.failure.clone().unwrap_or_default())
            }
            // Nothing has failed, and it can have sessions from before maintenance.
            Some((CheckVerdict::Unproven, _)) => return stands(State::Down, Reason::NotCheckedYet, Cut::Never),
            // One that was the primary has lost its sessions' trust, whatever is said of backends that fail.
            Some((CheckVerdict::WrongRole(role), _)) => {
                let cut = if guard.is_some() { Cut::Now } else { by_checks };
                return stands(State::Standby, Reason::WrongRole(role), cut);
            }
            Some((CheckVerdict::NoRole, _)) => return down(Reason::NoRole, guard.is_some()),
            Some((CheckVerdict::Failing | CheckVerdict::Stale, _)) => {
                let failing = self.failure.clone().map_or(Reason::NotCheckedYet, Reason::Failing);
                return down(failing, false);
            }
        };
        if self.is_doubted {
            return stands(State::Down, Reason::Doubted, Cut::Never);
        }
        if self.ejector.as_ref().is_some_and(|ejector| ejector.until().is_some()) {
            return stands(State::Ejected, self.ejected_for.clone(), Cut::Never);
        }
        let up = if self.weight() == 0 { self.weightless() } else { up };
        let Some(guard) = guard else { return stands(State::Up, up, Cut::Never) };
        match (guard.primary(), guard.greatest()) {
            (Some(primary), _) if primary == self.id => stands(State::Up, Reason::Primary, Cut::Never),
            (Some(primary), _) if is_self(primary) => {
                stands(State::Standby, Reason::SameServer(name_of(primary)), Cut::Never)
            }
            (Some(primary), _) => down(Reason::AnotherPrimary(name_of(primary)), true),
            (None, Some((other, greatest))) => {
                let term = self.subscriber.as_ref().and_then(Subscriber::facts).map_or(0, |facts| facts.term);
                down(Reason::Stale { term, other: name_of(other), greatest }, true)
            }
            (None, None) => down(Reason::NoRole, true),
        }
    }

    /// Why it has no weight.
    fn weightless(&self) -> Reason {
        self.rests.clone().map_or(Reason::NoWeight, Reason::Rests)
    }

    /// What the operator wants, if that is anything but that it serves.
    fn by_order(&self, by_checks: Cut) -> Option<(State, Reason, Cut)> {
        match &self.order {
            Order::Ready => None,
            Order::Maintenance { by: None } => Some((State::Maintenance, Reason::Disabled, Cut::Never)),
            Order::Maintenance { by: Some(by) } => {
                Some((State::Maintenance, Reason::Maintenance(by.clone()), Cut::Never))
            }
            Order::Drain { is_over, by, .. } => {
                let cut = if *is_over { Cut::Now } else { self.cut_by_check(by_checks, false) };
                Some((State::Draining, Reason::Drained(by.clone()), cut))
            }
        }
    }

    /// What its checks do to the sessions of a backend that takes no new ones.
    pub(super) fn cut_by_check(&self, by_checks: Cut, wants_primary: bool) -> Cut {
        match self.subscriber.as_ref().map(Subscriber::verdict) {
            Some(CheckVerdict::Failing) => by_checks,
            Some(CheckVerdict::WrongRole(_) | CheckVerdict::NoRole) if wants_primary => Cut::Now,
            _ => Cut::Never,
        }
    }
}
