//! One backend at one address, and everything that is known of it.
//!
//! It holds what checks, real sessions, names and operators say of this backend, each in its own part, and the state
//! that follows from all of them (`judge`). [`Cut`] says what happens to its sessions: they stay, or they are reset
//! once another backend is known to be well, or they are reset now.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::Member;
use super::order::{Order, Settings};
use super::reason::Reason;
use super::watches::WatchId;
use crate::base::address::Address;
use crate::base::id::{BackendId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{BackendOrigin, Ejection, Pool};
use crate::health::agent::AgentState;
use crate::health::ejection::{EjectionRules, Ejector};
use crate::health::finding::Finding;
use crate::health::subscriber::Subscriber;
use crate::health::{Facts, Role, State};

/// Changes of state that are remembered.
const HISTORY_MAX: usize = 16;

/// A backend at one address.
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
    /// The host name by which its address is found; `None` of an address that stands in the file.
    pub host: Option<Arc<str>>,
    /// What it is called.
    pub name: Arc<str>,
    /// What `consistent_hash` places it by.
    pub hash_name: Arc<str>,
    /// `None` while its name has no address.
    pub address: Option<Address>,
    /// As configured, or as set at run time.
    pub settings: Settings,
    /// Where its backend comes from, also after that is gone.
    pub(super) origin: BackendOrigin,
    /// Why its source has it take no new sessions; `None` if it takes them.
    pub(super) rests: Option<Arc<str>>,
    /// What the operator wants of it.
    pub order: Order,
    /// The watch that checks it, if one does.
    pub watch: Option<WatchId>,
    /// The watch that asks its agent, if it has one.
    pub(super) agent_watch: Option<WatchId>,
    /// What its agent has said.
    pub(super) agent: AgentState,
    /// What its pool makes of the checks; `Some` exactly if `watch` is.
    pub subscriber: Option<Subscriber>,
    /// Why the last check failed, or counted as failed.
    pub(super) failure: Option<Arc<str>>,
    /// What a person should know of the last check, beside what followed from it: it was not made, or refused, or found
    /// something to change.
    pub(super) remark: Option<Arc<str>>,
    /// What it last said of its role was said by the last check: nothing was in the way.
    pub(super) is_heard: bool,
    /// `Some` exactly if the last check had it say that it is the primary.
    pub(super) primacy: Option<Primacy>,
    /// When the last check began that could be made, if the backend answered it.
    pub(super) alive_at: Option<Moment>,
    /// Its drain has ended, and whether it lives is not known: it waits for a check that it answers.
    pub(super) is_doubted: bool,
    /// It serves although it lags, as no replica of its pool is fresh enough.
    pub(super) is_least_stale: bool,
    /// `None` exactly if the pool ejects no backend, or the seat is retired.
    pub ejector: Option<Ejector>,
    /// Why it is ejected; means something only while it is.
    pub ejected_for: Reason,
    /// Of an address of a name: when an answer had it first, and last.
    pub answered: Option<(Moment, Moment)>,
    /// Its name does not have this address any more; `None` if it does, and of one that is retired.
    pub missing: Option<Missing>,
    /// It is a listener of ours by which its sessions would come back to its own pool, again and again.
    pub leads_back: Option<Arc<str>>,
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
    /// It took new sessions when that was looked at last.
    pub took_sessions: bool,
    /// When it last ceased to take them, or came.
    pub left_at: Moment,
    /// It takes sessions again, and no check has succeeded yet that started after `left_at`: see `reclaim`.
    pub reclaims: bool,
    /// Sessions that it got until then had to make room.
    pub yielded_at: Moment,
    /// Others served its pool before it came, or it was kept from serving on purpose. What is there from the start of
    /// the process is not new, only unknown to us.
    pub has_joined: bool,
    /// When the last check began that counted as a success.
    pub proven_at: Moment,
    /// Since when its sessions wait to be cut; means something only while they do.
    pub waits_since: Moment,
    /// They wait no more: another backend takes them.
    pub is_relieved: bool,
    /// Its last states, at most [`HISTORY_MAX`], the newest last.
    history: VecDeque<Past>,
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
    /// The first table in which it is retired: a worker that has seen it gives it no new session. `None` before there
    /// is one.
    pub generation: Option<u64>,
}

/// An address that its name does not have any more, and that is still in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Missing {
    /// Until then.
    pub until: Moment,
    /// The name was denied, so that it is not known to have others.
    pub is_denied: bool,
}

/// What a backend has said in its last checks, one after the other: that it is the primary.
#[derive(Clone, Copy, Debug)]
pub struct Primacy {
    /// When the first of them was heard.
    pub since: Moment,
    /// When the last of them began,
    pub begun: Moment,
    /// and was heard.
    pub heard: Moment,
}

/// See [`Seat::freshness`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Within what is allowed.
    Fresh,
    /// So many nanoseconds behind.
    Behind(u64),
}

/// What a backend may be used for, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What for.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// What becomes of its sessions.
    pub cut: Cut,
}

/// What becomes of the sessions of a backend that takes no new ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// They stay.
    Never,
    /// They are reset as soon as another backend is known to take them. A check may fail for reasons of its own, and
    /// then it fails at all backends: sessions are cut only if another backend can take them.
    WhenRelieved,
    /// They are reset now.
    Now,
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
        let (settings, order) = super::order::as_told(configured, None);
        Seat {
            id,
            pool: index,
            pool_id,
            backend,
            number: 1,
            configured_name: configured.name.clone(),
            host: configured.target.host().map(Arc::from),
            name: configured.name.clone(),
            hash_name: configured.name.clone(),
            address,
            settings,
            origin: configured.origin,
            rests: configured.rests.clone(),
            order,
            watch: None,
            agent_watch: None,
            agent: AgentState::default(),
            subscriber: None,
            failure: None,
            remark: None,
            is_heard: true,
            primacy: None,
            alive_at: None,
            is_doubted: false,
            is_least_stale: false,
            ejector: pool.ejection.map(|ejection| Ejector::new(rules(ejection))),
            ejected_for: Reason::EjectionOver,
            answered: None,
            missing: None,
            leads_back: None,
            trouble: None,
            retired: None,
            is_known: false,
            standing: Standing { state: State::Down, reason: Reason::NotCheckedYet, cut: Cut::Never },
            since: Moment::default(),
            ramp_from: None,
            took_sessions: false,
            left_at: Moment::default(),
            reclaims: false,
            yielded_at: Moment::default(),
            has_joined: false,
            proven_at: Moment::default(),
            waits_since: Moment::default(),
            is_relieved: false,
            history: VecDeque::new(),
        }
    }

    /// Takes the result of a check; true if a good one ended an ejection.
    pub fn on_check(&mut self, finding: &Finding, begun: Moment, now: Moment) -> bool {
        let Some(subscriber) = &mut self.subscriber else { return false };
        self.remark = match finding {
            Finding::Doubtful(_, remark) | Finding::Refused(remark) | Finding::Unknown(remark) => Some(remark.clone()),
            Finding::Success(_) | Finding::Failure(_) | Finding::Advice(_) => None,
        };
        self.is_heard = !matches!(finding, Finding::Refused(_) | Finding::Unknown(_));
        self.primacy = match finding {
            Finding::Success(facts) | Finding::Doubtful(facts, _) if facts.role == Some(Role::Primary) => {
                let since = self.primacy.map_or(now, |primacy| primacy.since);
                Some(Primacy { since, begun, heard: now })
            }
            _ => None,
        };
        self.is_doubted &= matches!(finding, Finding::Failure(_));
        self.alive_at = match finding {
            Finding::Failure(_) => None,
            Finding::Unknown(_) | Finding::Advice(_) => self.alive_at,
            _ => Some(begun),
        };
        let success = match finding {
            Finding::Success(facts) | Finding::Doubtful(facts, _) => {
                let success = subscriber.on(Some(*facts));
                if !success {
                    self.failure = Some(lag_failure(facts, subscriber.wants().lag_max_ns));
                }
                success
            }
            Finding::Refused(_) => subscriber.on_refused(),
            Finding::Failure(failure) => {
                self.failure = Some(failure.clone());
                subscriber.on(None)
            }
            Finding::Unknown(_) | Finding::Advice(_) => false,
        };
        if success {
            self.proven_at = begun;
        }
        success && self.ejector.as_mut().is_some_and(|ejector| ejector.checked(begun, now))
    }

    /// Whether a check that was made just now says that it lives; also if it has not been checked at all, and what
    /// the configuration says counts. `recent_ns` is how old such a check may be.
    pub(super) fn is_known_to_live(&self, recent_ns: u64, now: Moment) -> bool {
        let is_unchecked = self.subscriber.as_ref().is_none_or(Subscriber::is_unchecked);
        is_unchecked || self.alive_at.is_some_and(|at| now.since_ns(at) <= recent_ns)
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
        (self.is_known, self.primacy, self.alive_at) = (before.is_known, before.primacy, before.alive_at);
    }

    /// Begins its slow start if it takes new sessions from now on, and forgets that if it takes none. `was` is the
    /// state before.
    pub fn note_sessions(&mut self, slow_start_ns: u64, was: State, now: Moment) {
        let takes = self.is_usable();
        match (self.took_sessions, takes) {
            (true, false) => (self.left_at, self.reclaims) = (now, false),
            (false, true) => self.reclaims = true,
            _ => {}
        }
        if !takes {
            self.ramp_from = None;
            let on_purpose = matches!(self.standing.state, State::Draining | State::Maintenance);
            self.has_joined |= on_purpose || self.weight() == 0;
        } else if !self.took_sessions {
            let is_new = self.has_joined || self.is_known || was == State::Ejected;
            self.ramp_from = (slow_start_ns > 0 && is_new).then_some(now);
        }
        self.took_sessions = takes;
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
        self.standing.state.takes_sessions(self.weight())
    }

    /// Whether its sessions are to be reset now.
    pub fn ends_sessions(&self) -> bool {
        match self.standing.cut {
            Cut::Never => false,
            Cut::WhenRelieved => self.is_relieved,
            Cut::Now => true,
        }
    }

    /// As the table is made from it.
    pub fn member(&self) -> Member {
        Member {
            id: self.id,
            pool: self.pool_id,
            name: self.name.clone(),
            hash_name: self.hash_name.clone(),
            // No session is to connect there, not even as a last resort.
            address: self.address.clone().filter(|_| self.leads_back.is_none()),
            host: self.host.clone(),
            port_shift: self.settings.port_shift,
            origin: self.origin.name(),
            weight: self.weight(),
            backup: self.settings.backup,
            connections_max: self.settings.connections_max,
            state: self.standing.state,
            ramp_from: self.ramp_from,
            end_sessions: self.ends_sessions(),
            yielded_at: self.yielded_at,
            retired: self.retired.is_some(),
        }
    }
}

/// As the ejector wants them.
pub(super) fn rules(ejection: Ejection) -> EjectionRules {
    EjectionRules {
        failures: ejection.failures,
        hangups: ejection.hangups,
        window_ns: ns(ejection.window),
        duration_ns: ns(ejection.duration),
    }
}

/// Why a replica whose check succeeded counts as stale.
fn lag_failure(facts: &Facts, most_ns: u64) -> Arc<str> {
    let most_ms = most_ns / 1_000_000;
    Arc::from(match facts.lag_ns {
        _ if facts.is_cut_off => "is a replica whose link to its primary is not up".to_string(),
        Some(lag_ns) => format!("lags {} ms behind, more than `lag_max` ({most_ms} ms)", lag_ns / 1_000_000),
        None => format!("does not know how far it lags behind, and `lag_max` is {most_ms} ms"),
    })
}
