//! One backend at one address, and everything that is known of it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::names::Missing;
use super::reason::Reason;
use super::watches::WatchId;
use super::{Finding, Member};
use crate::base::address::Address;
use crate::base::id::{BackendId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{Ejection, Pool, Role};
use crate::control::command::Mode;
use crate::health::ejection::{Ejector, Rules};
use crate::health::primary::{Claim, Guard};
use crate::health::subscriber::{Subscriber, Verdict};
use crate::health::{Facts, State};

/// Changes of state that are remembered.
const HISTORY_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Seat {
    /// Its slot.
    pub id: BackendId,
    /// Index of its pool in the configuration.
    pub pool: usize,
    /// Slot of its pool.
    pub pool_id: PoolId,
    /// Index of its backend in the pool, or [`GONE`].
    pub backend: usize,
    /// Which address of the backend it is, from 1; of one with a fixed address 1.
    pub number: usize,
    /// What its backend is called in the file.
    pub configured_name: Arc<str>,
    /// What it is called.
    pub name: Arc<str>,
    /// What `consistent_hash` places it by.
    pub hash_name: Arc<str>,
    /// `None` while its name has no address.
    pub address: Option<Address>,
    /// As configured, or as set at run time.
    pub settings: Settings,
    /// Likewise: what the operator wants of it.
    pub order: Order,
    /// Who checks it, if anybody does.
    pub watch: Option<WatchId>,
    /// What its pool makes of the checks; `Some` exactly if `watch` is.
    pub subscriber: Option<Subscriber>,
    /// Why the last check failed, or counted as failed.
    failure: Option<Arc<str>>,
    /// `None` exactly if the pool ejects nobody, or the seat is retired.
    pub ejector: Option<Ejector>,
    /// Why it is ejected; means something only while it is.
    pub ejected_for: Reason,
    /// Of an address of a name: when an answer had it first, and last.
    pub answered: Option<(Moment, Moment)>,
    /// Its name does not have this address any more; `None` if it does, and of one that is retired.
    pub missing: Option<Missing>,
    /// Why its name has no address; means something only while `address` is `None`.
    pub trouble: Option<Arc<str>>,
    /// `Some` exactly if it only keeps the sessions it has.
    pub retired: Option<Retired>,
    /// A check has had its effect on the state, so that what comes up from now on is back rather than new.
    pub is_known: bool,
    /// What follows from all that.
    pub standing: Standing,
    /// Since when the state is what it is.
    pub since: Moment,
    /// When its slow start began.
    pub ramp_from: Option<Moment>,
    history: VecDeque<Past>,
}

/// What the configuration or the operator says of a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// 0 to 256.
    pub weight: u16,
    /// Used only where no other is.
    pub backup: bool,
    /// Sessions at once.
    pub connections_max: Option<NonZeroU32>,
}

/// What the operator wants of a backend, and who that was.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Used as its checks say.
    Ready,
    /// No new sessions, and those that are left end.
    Drain {
        /// When; [`Moment::NEVER`] once they were told to, or if they never are.
        until: Moment,
        /// They were told to.
        is_over: bool,
        /// Who wants it.
        by: Arc<str>,
    },
    /// No new sessions, and no checks.
    Maintenance {
        /// Who wants it; `None` is the configuration.
        by: Option<Arc<str>>,
    },
}

impl Order {
    /// Without who and when.
    pub fn mode(&self) -> Mode {
        match self {
            Order::Ready => Mode::Ready,
            Order::Drain { .. } => Mode::Drain,
            Order::Maintenance { .. } => Mode::Maintenance,
        }
    }

    /// When the sessions that are left end.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Order::Drain { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Ends a drain whose time is over; whether it did.
    pub(super) fn on_time(&mut self, now: Moment) -> bool {
        match self {
            Order::Drain { until, is_over, .. } if now >= *until => {
                (*is_over, *until) = (true, Moment::NEVER);
                true
            }
            _ => false,
        }
    }
}

/// Index of a backend that is no longer in its pool.
pub const GONE: usize = usize::MAX;

/// An address that is gone.
#[derive(Clone, Debug)]
pub struct Retired {
    /// When its sessions end; [`Moment::NEVER`] once they were told to, or if they never are.
    pub until: Moment,
    /// They were told to.
    pub is_over: bool,
    /// Why.
    pub reason: Reason,
    /// The first table that says so: whoever has seen it gives it no new session. `None` before there is one.
    pub generation: Option<u64>,
}

/// What a backend may be used for, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What for.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Its sessions are to be reset now.
    pub end_sessions: bool,
}

/// A state that it was in.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Since when.
    pub since: Moment,
    /// Which.
    pub state: State,
    /// Why.
    pub reason: Reason,
}

impl Seat {
    /// Of that backend of a pool, at that address; nothing is known yet.
    pub fn new(id: BackendId, places: (usize, PoolId, usize), pool: &Pool, address: Option<Address>) -> Seat {
        let (index, pool_id, backend) = places;
        let configured = &pool.backends[backend];
        let (settings, order) = super::set::as_told(configured, None);
        Seat {
            id,
            pool: index,
            pool_id,
            backend,
            number: 1,
            configured_name: configured.name.clone(),
            name: configured.name.clone(),
            hash_name: configured.name.clone(),
            address,
            settings,
            order,
            watch: None,
            subscriber: None,
            failure: None,
            ejector: pool.ejection.map(|ejection| Ejector::new(rules(ejection))),
            ejected_for: Reason::EjectionOver,
            answered: None,
            missing: None,
            trouble: None,
            retired: None,
            is_known: false,
            standing: Standing { state: State::Down, reason: Reason::NotCheckedYet, end_sessions: false },
            since: Moment::default(),
            ramp_from: None,
            history: VecDeque::new(),
        }
    }

    /// Takes the result of a check; true if a good one ended an ejection.
    pub fn on_check(&mut self, finding: &Finding, begun: Moment, now: Moment) -> bool {
        let Some(subscriber) = &mut self.subscriber else { return false };
        let success = match finding {
            Finding::Success(facts) => {
                let success = subscriber.on(Some(*facts));
                if !success {
                    self.failure = Some(lag_failure(facts, subscriber.wants().lag_max_ns));
                }
                success
            }
            Finding::Failure(failure) => {
                self.failure = Some(failure.clone());
                subscriber.on(None)
            }
        };
        success && self.ejector.as_mut().is_some_and(|ejector| ejector.checked(begun, now))
    }

    /// What it says of itself to the guard of its pool; nothing once it is retired.
    pub fn claim(&self) -> Claim {
        if self.retired.is_some() {
            return Claim::None;
        }
        let Some(subscriber) = &self.subscriber else { return Claim::None };
        match (subscriber.facts(), subscriber.verdict()) {
            (Some(facts), Verdict::Fit) if facts.role == Some(Role::Primary) => Claim::Primary(facts.term),
            (Some(facts), Verdict::Failing) if facts.role == Some(Role::Primary) => Claim::Unreachable(facts.term),
            _ => Claim::None,
        }
    }

    /// What follows from everything that is known; `guard` is that of its pool, if the pool wants a primary, and
    /// `is_self` says which seats are addresses of the same server.
    pub fn judge(
        &self,
        pool: &Pool,
        guard: Option<&Guard>,
        is_self: impl Fn(BackendId) -> bool,
        name_of: impl Fn(BackendId) -> Arc<str>,
    ) -> Standing {
        // With two writers data is lost; so what is not the primary keeps no session once another one is.
        let other_primary = guard.and_then(Guard::primary).filter(|primary| *primary != self.id);
        let is_displaced = other_primary.is_some_and(|primary| !is_self(primary));
        let stands = |state, reason, end| Standing { state, reason, end_sessions: end || is_displaced };
        if let Some(retired) = &self.retired {
            let end = retired.is_over || self.ends_by_check(pool, guard.is_some());
            return stands(State::Draining, retired.reason.clone(), end);
        }
        match &self.order {
            Order::Maintenance { by: None } => return stands(State::Maintenance, Reason::Disabled, false),
            Order::Maintenance { by: Some(by) } => {
                return stands(State::Maintenance, Reason::Maintenance(by.clone()), false);
            }
            Order::Drain { is_over, by, .. } => {
                let end = *is_over || self.ends_by_check(pool, false);
                return stands(State::Draining, Reason::Drained(by.clone()), end);
            }
            Order::Ready => {}
        }
        if self.address.is_none() {
            return stands(State::Down, Reason::NoAddress(self.trouble.clone()), false);
        }
        let down = |reason, certain| stands(State::Down, reason, certain || pool.close_on_backend_down);
        let up = match self.subscriber.as_ref().map(|subscriber| (subscriber.verdict(), subscriber.is_unchecked())) {
            None => Reason::NotChecked,
            Some((Verdict::Fit, true)) => Reason::NotCheckedYet,
            Some((Verdict::Fit, false)) => Reason::Checks,
            Some((Verdict::Unproven, _)) => return down(Reason::NotCheckedYet, false),
            // One that was the primary has lost its sessions' trust at once, whatever is said of backends that fail.
            Some((Verdict::WrongRole(role), _)) => return down(Reason::WrongRole(role), guard.is_some()),
            Some((Verdict::NoRole, _)) => return down(Reason::NoRole, guard.is_some()),
            Some((Verdict::Failing, _)) => {
                let failing = self.failure.clone().map_or(Reason::NotCheckedYet, Reason::Failing);
                return down(failing, false);
            }
        };
        if self.ejector.as_ref().is_some_and(|ejector| ejector.until().is_some()) {
            return stands(State::Ejected, self.ejected_for.clone(), false);
        }
        let Some(guard) = guard else { return stands(State::Up, up, false) };
        match (guard.primary(), guard.greatest()) {
            (Some(primary), _) if primary == self.id => stands(State::Up, Reason::Primary, false),
            (Some(primary), _) if is_self(primary) => stands(State::Down, Reason::SameServer(name_of(primary)), false),
            (Some(primary), _) => down(Reason::AnotherPrimary(name_of(primary)), true),
            (None, Some((other, greatest))) => {
                let term = self.subscriber.as_ref().and_then(Subscriber::facts).map_or(0, |facts| facts.term);
                down(Reason::Stale { term, other: name_of(other), greatest }, true)
            }
            (None, None) => down(Reason::NoRole, true),
        }
    }

    /// Whether its checks end the sessions of a backend that takes no new ones.
    fn ends_by_check(&self, pool: &Pool, wants_primary: bool) -> bool {
        match self.subscriber.as_ref().map(Subscriber::verdict) {
            Some(Verdict::Failing) => pool.close_on_backend_down,
            Some(Verdict::WrongRole(_) | Verdict::NoRole) => wants_primary,
            Some(Verdict::Fit | Verdict::Unproven) | None => false,
        }
    }

    /// Enters another state; for how long it was in the one before.
    pub fn enter(&mut self, now: Moment) -> u64 {
        self.remember(now);
        now.since_ns(std::mem::replace(&mut self.since, now))
    }

    /// Puts the state it is in now into the history.
    pub fn remember(&mut self, now: Moment) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        let Standing { state, reason, .. } = self.standing.clone();
        self.history.push_back(Past { since: now, state, reason });
    }

    /// The states it was in, the one it is in last.
    pub fn history(&self) -> impl Iterator<Item = &Past> {
        self.history.iter()
    }

    /// Keeps what `before` remembers: the same address, gone and back. Where its checks went on, what they found
    /// counts.
    pub fn inherit(&mut self, before: Seat) {
        self.history = before.history;
        (self.watch, self.subscriber, self.failure) = (before.watch, before.subscriber, before.failure);
        self.is_known = before.is_known;
    }

    /// Its IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.address {
            Some(Address::Tcp(address)) => Some(address.ip()),
            _ => None,
        }
    }

    /// Whether it takes new sessions.
    pub fn is_usable(&self) -> bool {
        self.standing.state == State::Up && self.settings.weight > 0
    }

    /// As the table is made from it.
    pub fn member(&self) -> Member {
        Member {
            id: self.id,
            pool: self.pool_id,
            name: self.name.clone(),
            hash_name: self.hash_name.clone(),
            address: self.address.clone(),
            weight: self.settings.weight,
            backup: self.settings.backup,
            connections_max: self.settings.connections_max,
            state: self.standing.state,
            ramp_from: self.ramp_from,
            end_sessions: self.standing.end_sessions,
            retired: self.retired.is_some(),
        }
    }
}

/// As the ejector wants them.
pub(super) fn rules(ejection: Ejection) -> Rules {
    Rules { failures: ejection.failures, window_ns: ns(ejection.window), duration_ns: ns(ejection.duration) }
}

fn lag_failure(facts: &Facts, most_ns: u64) -> Arc<str> {
    let most_ms = most_ns / 1_000_000;
    Arc::from(match facts.lag_ns {
        _ if facts.is_cut_off => "is a replica whose link to its primary is not up".to_string(),
        Some(lag_ns) => format!("lags {} ms behind, and may no more than {most_ms} ms", lag_ns / 1_000_000),
        None => format!("does not know how far it lags behind, and may no more than {most_ms} ms"),
    })
}
