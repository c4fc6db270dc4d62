//! Addresses that a name had: how long they stay, and what follows when that is over.
//!
//! A name never cuts a session. An address that is missing from the answers stays in use for `obsolete_hold`, all of
//! them for `denied_hold` when the name is denied. After that an address takes no new sessions, but it is checked on,
//! and only its checks end those that it has.

use std::net::IpAddr;
use std::sync::Arc;

use super::hosts::{self, ADDRESSES_MAX};
use super::seat::{GONE, Missing};
use super::{Changes, Fleet, Reason, Seat};
use crate::base::id::BackendId;
use crate::base::time::{Moment, ns};
use crate::config::model::{AddressFamily, Target};

/// A backend behind a host name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BehindHost {
    /// Index of its pool, and its own in the pool.
    pub(super) at: (usize, usize),
    /// Its port at each address.
    pub(super) port: u16,
}

impl Fleet {
    /// The name has no addresses, says DNS.
    pub fn on_denied(&mut self, host: &str, why: &str, now: Moment) -> Changes {
        let mut changes = Changes::default();
        // A backend that is new behind that name begins without an address.
        self.resolved.insert(host.into(), Vec::new());
        for BehindHost { at, .. } in self.behind(host) {
            self.deny(at, now);
        }
        self.let_go(now, &mut changes);
        for BehindHost { at, .. } in self.behind(host) {
            self.explain(at, why, now, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// The name could not be looked up: nothing changes but what is said of backends that have no address.
    pub fn on_unresolved(&mut self, host: &str, why: &str, now: Moment) -> Changes {
        let mut changes = Changes::default();
        for BehindHost { at, .. } in self.behind(host) {
            self.explain(at, why, now, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Of what was found the addresses that a pool uses.
    pub(super) fn of_family(&self, pool: usize, found: &[IpAddr]) -> Vec<IpAddr> {
        let family = self.config.pools[pool].address_family;
        found.iter().copied().filter(|ip| family.has(&ip.to_canonical())).collect()
    }

    /// A name that has addresses, but none of the family that the pool uses, is denied as far as the pool goes.
    pub(super) fn lacks_family(&self, pool: usize, found: &[IpAddr]) -> Option<String> {
        let family = self.config.pools[pool].address_family;
        let is_lacking = family != AddressFamily::Any && !hosts::choose(found, &[]).addresses.is_empty();
        let lacks = is_lacking && self.of_family(pool, found).is_empty();
        lacks.then(|| format!("it has no address of address_family = \"{}\"", family.name()))
    }

    /// Begins to count for the addresses that are missing from `found`; those that stay, with what was found. Only what
    /// this name has answered with is missing.
    pub(super) fn hold(&mut self, at: (usize, usize), found: Vec<IpAddr>, now: Moment) -> Vec<IpAddr> {
        let until = now.after_ns(ns(self.config.pools[at.0].hold.obsolete));
        let mut held: Vec<(Moment, IpAddr)> = Vec::new();
        for place in self.pools[at.0].seats.clone() {
            let seat = &mut self.seats[place];
            let Some(ip) = seat.ip().filter(|_| seat.backend == at.1 && seat.retired.is_none()) else { continue };
            if found.contains(&ip) {
                seat.missing = None;
                seat.answered = Some(seat.answered.map_or((now, now), |(first, _)| (first, now)));
                continue;
            }
            if seat.answered.is_none() {
                // It is what the configuration had there before, and stayed only until its name was looked up.
                continue;
            }
            let until = seat.missing.map_or(until, |missing| missing.until.min(until));
            seat.missing = Some(Missing { until, is_denied: false });
            held.extend((until > now).then_some((until, ip)));
        }
        // The newest answer has the first claim to the places there are.
        held.sort_unstable_by_key(|(until, ip)| (std::cmp::Reverse(*until), *ip));
        held.truncate(ADDRESSES_MAX.saturating_sub(found.len()));
        let mut all = found;
        all.extend(held.into_iter().map(|(_, ip)| ip));
        all.sort_unstable();
        all
    }

    /// Takes the addresses whose time is over out of use.
    pub(super) fn let_go(&mut self, now: Moment, changes: &mut Changes) {
        let is_due = |seat: &&Seat| seat.missing.is_some_and(|missing| now >= missing.until) && seat.retired.is_none();
        let due: Vec<(BackendId, bool)> =
            self.seats.iter().filter(is_due).filter_map(|seat| Some((seat.id, seat.missing?.is_denied))).collect();
        let mut left = Vec::new();
        for (id, is_denied) in due {
            let Some(&place) = self.places.get(&id) else { continue };
            let seat = &self.seats[place];
            left.push((seat.pool, seat.backend));
            let reason = if is_denied { Reason::NameDenied } else { Reason::AddressGone };
            self.retire(place, reason, now, changes);
        }
        left.dedup();
        for at in left {
            self.be_without(at, now);
            changes.table = true;
        }
    }

    /// A backend that has lost its last address is there without one.
    fn be_without(&mut self, at: (usize, usize), now: Moment) {
        let is_it = |seat: &Seat| (seat.pool, seat.backend) == at && seat.retired.is_none();
        let new = (!self.seats.iter().any(is_it)).then(|| self.seat(at.0, at.1, 1, None));
        self.rename(at);
        self.put_in_order();
        if let Some(id) = new {
            self.begin(self.places[&id], false, now);
        }
    }

    /// All addresses of a backend are missing, because its name is denied.
    pub(super) fn deny(&mut self, at: (usize, usize), now: Moment) {
        let until = now.after_ns(ns(self.config.pools[at.0].hold.denied));
        for seat in &mut self.seats[self.pools[at.0].seats.clone()] {
            if seat.backend == at.1 && seat.retired.is_none() && seat.address.is_some() {
                seat.missing.get_or_insert(Missing { until, is_denied: true });
            }
        }
    }

    /// Says of a backend without an address why it has none.
    pub(super) fn explain(&mut self, at: (usize, usize), why: &str, now: Moment, changes: &mut Changes) {
        for place in self.pools[at.0].seats.clone() {
            let seat = &mut self.seats[place];
            let is_it = seat.backend == at.1 && seat.retired.is_none() && seat.address.is_none();
            if is_it && seat.trouble.as_deref() != Some(why) {
                seat.trouble = Some(Arc::from(why));
                self.settle(place, now, changes);
            }
        }
    }

    /// The backends behind that name.
    pub(super) fn behind(&self, host: &str) -> Vec<BehindHost> {
        self.behind_hosts().filter(|(name, _)| ***name == *host).map(|(_, behind)| behind).collect()
    }

    /// Every backend behind a name, in the order of the configuration.
    pub(super) fn behind_hosts(&self) -> impl Iterator<Item = (&Arc<str>, BehindHost)> {
        let pools = self.config.pools.iter().enumerate();
        let all = pools.flat_map(|(pool, configured)| {
            configured.backends.iter().enumerate().map(move |(backend, configured)| ((pool, backend), configured))
        });
        all.filter_map(|(at, configured)| match configured.target.place() {
            Target::Host { name, port } => Some((name, BehindHost { at, port: *port })),
            _ => None,
        })
    }

    /// Whether two seats are addresses that one name has had together, and so one server. A name that has moved from
    /// one address to another may stand for another server.
    pub(super) fn is_same_server(&self, one: BackendId, other: BackendId) -> bool {
        let seat = |id: BackendId| self.places.get(&id).map(|place| &self.seats[*place]);
        let Some((one, other)) = seat(one).zip(seat(other)) else { return false };
        let is_one_name = (one.pool, one.backend) == (other.pool, other.backend) && one.backend != GONE;
        let overlap = |(one, other): ((Moment, Moment), (Moment, Moment))| one.0 <= other.1 && other.0 <= one.1;
        is_one_name && one.answered.zip(other.answered).is_some_and(overlap)
    }
}
