//! Backends come and go: at the start, and with the addresses of a name.
//!
//! A name that is looked up for the first time has one seat without an address, which is down. Answers give it one and
//! add further seats; what happens to an address that is missing from an answer is decided in `names`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::hosts;
use super::names::BehindHost;
use super::seat::Retired;
use super::{Changes, Cut, Fleet, Notice, Reason, Seat};
use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::time::{Moment, ns};
use crate::config::model::{Backend, Dns};
use crate::health::State;
use crate::health::agent::AgentState;

impl Fleet {
    /// Gives a seat to each backend that is configured and has none yet: at the start to all. A name has no address
    /// yet.
    pub(super) fn seat_the_missing(&mut self, now: Moment) {
        let config = self.config.clone();
        let live = self.seats.iter().filter(|seat| seat.retired.is_none());
        let seated: HashSet<(usize, usize)> = live.map(|seat| (seat.pool, seat.backend)).collect();
        let mut new = Vec::new();
        for (pool, configured) in config.pools.iter().enumerate() {
            for (backend, Backend { target, .. }) in configured.backends.iter().enumerate() {
                if !seated.contains(&(pool, backend)) {
                    new.push(self.seat(pool, backend, 1, target.address().cloned()));
                }
            }
        }
        self.put_in_order();
        for id in new {
            let place = self.places[&id];
            self.begin(place, self.pools[self.seats[place].pool].is_old, now);
        }
    }

    /// How names are looked up.
    pub fn dns(&self) -> Dns {
        self.config.dns.clone()
    }

    /// Names to be looked up, each once.
    pub fn hosts(&self) -> Vec<Arc<str>> {
        let mut seen = HashSet::new();
        self.behind_hosts().map(|(name, _)| name).filter(|name| seen.insert(&***name)).cloned().collect()
    }

    /// Whether every source was asked, every name looked up and everything checked that is, once at least.
    pub(crate) fn is_looked_over(&self) -> bool {
        let hosts = self.hosts();
        self.has_heard_sources()
            && hosts.iter().all(|host| self.resolved.contains_key(host))
            && self.watches().all(|(_, watch)| watch.transcript.is_some())
    }

    /// A name stands for these addresses now; an answer without any that can be used changes nothing, and is false.
    pub fn on_resolved(&mut self, host: &str, found: &[IpAddr], now: Moment) -> (bool, Changes) {
        let behind = self.behind(host);
        let (is_good, mut changes) = self.learn_addresses(host, &behind, found, now);
        if changes.table {
            self.look_around(now, &mut changes);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        (is_good, changes)
    }

    /// Gives the backends at these places, which are those behind that name, the addresses that each can use. Returns
    /// false if one of them can use none.
    pub(super) fn learn_addresses(
        &mut self,
        host: &str,
        behind: &[BehindHost],
        found: &[IpAddr],
        now: Moment,
    ) -> (bool, Changes) {
        let mut changes = Changes::default();
        let before = self.resolved.insert(host.into(), found.to_vec());
        let is_first = before.is_none_or(|before| before.is_empty());
        let mut is_good = true;
        for &BehindHost { at, port } in behind {
            if let Some(why) = self.lacks_family(at.0, found) {
                self.deny(at, now);
                self.let_go(now, &mut changes);
                self.explain(at, &why, now, &mut changes);
                continue;
            }
            let joins = !is_first || self.pools[at.0].is_old;
            is_good &= self.move_to(at, port, found, joins, now, &mut changes);
        }
        (is_good, changes)
    }

    /// Gives a backend these addresses; false if none of them can be used. `joins`: the pool has served without them.
    fn move_to(
        &mut self,
        at: (usize, usize),
        port: u16,
        found: &[IpAddr],
        joins: bool,
        now: Moment,
        changes: &mut Changes,
    ) -> bool {
        let (pool, backend) = at;
        let current = self.addresses(at);
        let in_use: Vec<IpAddr> = current.iter().map(|(_, ip)| *ip).collect();
        let hosts::Chosen { addresses, left_out } = hosts::choose(&self.of_family(pool, found), &in_use);
        if addresses.is_empty() {
            return false;
        }
        let addresses = self.hold(at, addresses, now);
        let next = hosts::number(&current, &addresses);
        if next == current {
            return true;
        }
        changes.table = true;
        for (_, ip) in current.iter().filter(|kept| !next.contains(kept)) {
            let is_it =
                |seat: &Seat| (seat.pool, seat.backend) == at && seat.ip() == Some(*ip) && seat.retired.is_none();
            if let Some(place) = self.seats.iter().position(is_it) {
                let is_of_name = self.seats[place].answered.is_some();
                let reason = if is_of_name { Reason::AddressGone } else { Reason::Moved };
                self.retire(place, reason, now, changes);
            }
        }
        // A backend that has an address now needs no seat without one.
        self.seats.retain(|seat| (seat.pool, seat.backend) != at || seat.address.is_some());
        let new: Vec<(usize, IpAddr)> = next.iter().copied().filter(|new| !current.contains(new)).collect();
        for (number, ip) in &new {
            self.seat(pool, backend, *number, Some(Address::Tcp(SocketAddr::new(*ip, port))));
        }
        self.rename(at);
        self.put_in_order();
        for place in self.pools[pool].seats.clone() {
            let seat = &mut self.seats[place];
            if seat.backend == backend && new.iter().any(|(_, ip)| seat.ip() == Some(*ip)) && seat.retired.is_none() {
                seat.answered = Some((now, now));
                self.begin(place, joins, now);
            }
        }
        if left_out > 0 {
            let name = &self.config.pools[pool];
            let backend = name.backends[backend].name.clone();
            changes.notices.push(Notice::TooMany { pool: name.name.clone(), backend, left_out });
        }
        true
    }

    /// The addresses that a backend has now, with their numbers and in their order.
    fn addresses(&self, at: (usize, usize)) -> Vec<(usize, IpAddr)> {
        let seats = self.seats[self.pools[at.0].seats.clone()].iter();
        let live = seats.filter(|seat| seat.backend == at.1 && seat.retired.is_none());
        live.filter_map(|seat| Some((seat.number, seat.ip()?))).collect()
    }

    /// Takes a seat for a backend at an address; what was known of the same address before is forgotten, but for its
    /// history.
    pub(super) fn seat(&mut self, pool: usize, backend: usize, number: usize, address: Option<Address>) -> BackendId {
        let configured = &self.config.pools[pool];
        let pool_id = self.pools[pool].id;
        let id = self.ids.number_backend(pool_id, &configured.backends[backend].name, address.as_ref());
        self.leaving.remove(&id);
        let mut seat = Seat::new(id, (pool, pool_id, backend), configured, address);
        seat.number = number;
        if let Some(before) = self.seats.iter().position(|seat| seat.id == id) {
            seat.inherit(self.seats.remove(before));
        }
        self.seats.push(seat);
        self.instruct(self.seats.len() - 1);
        id
    }

    /// What a new seat is to begin with: no change of state, as there was none before.
    ///
    /// It may have sessions: an address that was gone and came back has those that were still open. If its checks say
    /// that those are to be cut, they wait from now on for another backend that takes them.
    pub(super) fn begin(&mut self, place: usize, joins: bool, now: Moment) {
        let seat = &self.seats[place];
        let pool = &self.config.pools[seat.pool];
        let guard = self.pools[seat.pool].guard.as_ref();
        let standing = seat.judge(pool, guard, |id| self.is_same_server(seat.id, id), |id| self.name_of(id));
        let slow_start_ns = self.ramp_ns(place);
        self.pools[seat.pool].waits |= standing.cut == Cut::WhenRelieved;
        let seat = &mut self.seats[place];
        (seat.standing, seat.waits_since) = (standing, now);
        seat.has_joined = joins;
        seat.note_sessions(slow_start_ns, State::Down, now);
        // One that joins a pool that serves must prove itself first; at the start there is no session to cut.
        (seat.reclaims, seat.left_at) = (seat.reclaims && joins, if joins { now } else { seat.left_at });
        seat.enter(now);
    }

    /// From now on it only keeps the sessions it has: until its pool's `drain_timeout`, or, where only its name has
    /// left it, for as long as its checks succeed.
    pub(super) fn retire(&mut self, place: usize, reason: Reason, now: Moment, changes: &mut Changes) {
        let drain_ns = ns(self.config.pools[self.seats[place].pool].drain_timeout);
        let is_checked = reason.is_of_name();
        let until = if drain_ns == 0 || is_checked { Moment::NEVER } else { now.after_ns(drain_ns) };
        let seat = &mut self.seats[place];
        seat.retired = Some(Retired { until, is_over: false, reason, generation: None });
        (seat.ejector, seat.ramp_from, seat.missing) = (None, None, None);
        let watch = if is_checked { None } else { seat.watch.take() };
        let agent = seat.agent_watch.take();
        seat.agent = AgentState::default();
        if !is_checked {
            seat.subscriber = None;
        }
        for watch in [watch, agent].into_iter().flatten() {
            self.watches.leave(watch, seat.id);
        }
        self.claim(place, now, changes);
        self.settle(place, now, changes);
    }

    /// Names the addresses of a backend: the first as the backend is called, further ones by their numbers. For
    /// `consistent_hash`, where every ringway must agree, the number does not count: it depends on what came first.
    pub(super) fn rename(&mut self, at: (usize, usize)) {
        let name = self.config.pools[at.0].backends[at.1].name.clone();
        let is_it = |seat: &&mut Seat| (seat.pool, seat.backend) == at && seat.retired.is_none();
        let count = self.seats.iter_mut().filter(is_it).count();
        for seat in self.seats.iter_mut().filter(is_it) {
            seat.name = if seat.number == 1 { name.clone() } else { format!("{name}#{}", seat.number).into() };
            seat.hash_name = match seat.ip() {
                Some(ip) if count > 1 => format!("{name}@{ip}").into(),
                _ => name.clone(),
            };
        }
    }

    /// Sorts the seats by pool, backend and number, the retired ones last, and finds their places anew. To be called
    /// after each change of the list.
    pub(super) fn put_in_order(&mut self) {
        self.seats.sort_by_key(|seat| (seat.pool, seat.backend, seat.retired.is_some(), seat.number));
        self.places = self.seats.iter().enumerate().map(|(place, seat)| (seat.id, place)).collect();
        for (pool, squad) in self.pools.iter_mut().enumerate() {
            let begin = self.seats.partition_point(|seat| seat.pool < pool);
            squad.seats = begin..self.seats.partition_point(|seat| seat.pool <= pool);
        }
    }

    /// Whether a retired seat still has to be swept.
    pub fn has_retired(&self) -> bool {
        self.seats.iter().any(|seat| seat.retired.is_some())
    }

    /// Lets go of retired seats without sessions. `seen` is the generation that every worker has seen: a worker that
    /// has not yet seen that a backend is retired may still give it a session.
    pub fn sweep(&mut self, seen: u64, sessions: impl Fn(BackendId) -> u32) -> Changes {
        let before = self.seats.len();
        let watches = &mut self.watches;
        self.seats.retain(|seat| {
            let is_known = |retired: &Retired| retired.generation.is_some_and(|generation| seen >= generation);
            let is_over = seat.retired.as_ref().is_some_and(is_known) && sessions(seat.id) == 0;
            if let Some(watch) = seat.watch.filter(|_| is_over) {
                watches.leave(watch, seat.id);
            }
            !is_over
        });
        if self.seats.len() == before {
            return Changes::default();
        }
        self.put_in_order();
        self.forget_empty_pools();
        self.see_who_leaves();
        #[cfg(debug_assertions)]
        self.check_invariants();
        Changes { table: true, ..Changes::default() }
    }
}
