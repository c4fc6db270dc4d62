//! From what is configured and what is known of the backends to a table. Pure.
//!
//! ```text
//! Config (names) + Ids (slots) + Members (what control knows of each backend) ── build ──> Table
//! ```
//!
//! It runs on control's thread for each change, so a pool that did not change keeps what was made for it before: its
//! picker and the limits of its sessions. Which backends take sessions is decided here ([`usable`]); why a backend has
//! its state is decided in `fleet` and `health`.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::admit::routes::Route;
use crate::admit::sources::SourceScope;
use crate::balance::split::SplitOrder;
use crate::balance::{Candidate, Picker};
use crate::base::address::Address;
use crate::base::hash;
use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{Chains, Config, Lead, Listener, Pool, Preread, SplitShare};
use crate::health::State;
use crate::session;
use crate::wire::first_bytes::Protocol;

use super::ids::Ids;
use super::table::{
    Admission, BackendEntry, ListenerEntry, Phase, PoolEntry, PrereadEntry, RouteWay, SplitEntry, Table, Way,
};

/// Everything that a table follows from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The configuration, including removed listeners, which have no address any more.
    pub config: &'a Config,
    /// The slots, assigned for this `config`.
    pub ids: &'a Ids,
    /// Every backend there is; those of one pool are in the order of the file.
    pub members: &'a [Member],
    /// The phase of the process.
    pub phase: Phase,
    /// The number of the table.
    pub generation: u64,
    /// The table before, with slots from the same `ids`. Pools whose candidates are the same keep their picker, so that
    /// a change of one backend costs one pool, and a choice of `failover` stays.
    pub previous: Option<&'a Table>,
}

/// A backend as control sees it now. A host name is one member per address; a backend that was removed stays a member
/// until its last session has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its slot. Another address has another slot.
    pub id: BackendId,
    /// Its pool.
    pub pool: PoolId,
    /// Its name in metrics, logs and the API; unique among the members of its pool that are not `retired`.
    pub name: Arc<str>,
    /// The name by which `consistent_hash` places it.
    pub hash_name: Arc<str>,
    /// Its address; `None` while its host name has none, and then it is down.
    pub address: Option<Address>,
    /// The host name by which the address was found; `None` if it stands in the file.
    pub host: Option<Arc<str>>,
    /// Its port is the one that the client connected to, with so much added.
    pub port_shift: Option<i32>,
    /// Where it comes from, in a word: `config`, `api`, or the `type` of a source.
    pub origin: &'static str,
    /// 0 to 256.
    pub weight: u16,
    /// 0 if it is no backup. Else its level: it is used only if no backend of a lower level is.
    pub backup: u16,
    /// How many open sessions it can have.
    pub connections_max: Option<NonZeroU32>,
    /// Its state.
    pub state: State,
    /// When its slow start began; `None` means its whole weight.
    pub ramp_from: Option<Moment>,
    /// Its sessions must be reset now.
    pub end_sessions: bool,
    /// Sessions that it got until then must be reset, as they are to go to a backend that is no backup.
    pub yielded_at: Moment,
    /// It is no longer configured, or has another address now: it only keeps its last sessions.
    pub retired: bool,
}

/// Builds the table. Names in `config` without a slot are left out; `Ids::assign` and `extend` leave none out.
pub fn build(input: Input<'_>) -> Table {
    let (listeners, pools, backends) = input.ids.lengths();
    let mut table = Table {
        generation: input.generation,
        phase: input.phase,
        listeners: vec![None; listeners],
        routes: Vec::new(),
        pools: vec![None; pools],
        backends: vec![None; backends],
    };
    let chains = Chains::of(input.config);
    for listener in &input.config.listeners {
        if let Some(id) = input.ids.listener(&listener.name) {
            table.listeners[id.index()] = {
                let before = input.previous.and_then(|previous| previous.listener(id));
                listener_entry(input.ids, &chains, listener, (id, before))
            };
        }
    }
    let mut routes: Vec<_> = input.ids.routes().collect();
    routes.sort_unstable();
    table.routes = routes.into_iter().map(|(_, listener, pool)| (listener, pool)).collect();
    let mut by_pool: Vec<Vec<&Member>> = vec![Vec::new(); pools];
    for member in input.members {
        by_pool[member.pool.index()].push(member);
        table.backends[member.id.index()] = Some(backend_entry(member));
    }
    for pool in &input.config.pools {
        if let Some(id) = input.ids.pool(&pool.name) {
            table.pools[id.index()] = Some(pool_entry(input, pool, id, &by_pool[id.index()]));
        }
    }
    for pool in input.config.pools.iter().filter(|pool| pool.fallback.is_some()) {
        fall_back(&mut table, input.ids, &chains.from(&pool.name));
    }
    table
}

/// Says which pool of a chain serves the new sessions of its first one.
fn fall_back(table: &mut Table, ids: &Ids, chain: &[&Pool]) {
    let mut entries = chain.iter().filter_map(|pool| table.pool(ids.pool(&pool.name)?));
    let Some(first) = entries.next().filter(|first| first.is_short).map(|first| first.id) else { return };
    let others: Vec<&PoolEntry> = entries.collect();
    let falls_to = others.iter().find(|pool| !pool.is_short).or(others.last()).map(|pool| pool.id);
    if let Some(entry) = &mut table.pools[first.index()] {
        entry.falls_to = falls_to;
    }
}

/// The entry of a listener; `None` if its pool has no slot.
fn listener_entry(
    ids: &Ids,
    chains: &Chains<'_>,
    listener: &Listener,
    (id, before): (ListenerId, Option<&ListenerEntry>),
) -> Option<ListenerEntry> {
    let way = |name: &str| {
        let pool = ids.pool(name)?;
        Some((pool, ids.route(id, pool)?))
    };
    let split = |place: usize, shares: &[SplitShare]| {
        if shares.is_empty() {
            return None;
        }
        let ways: Option<Box<[_]>> = shares.iter().map(|share| way(&share.pool)).collect();
        let weights: Vec<u16> = shares.iter().map(|share| share.weight).collect();
        Some(Arc::new(SplitEntry { id: ids.split(id, place)?, order: SplitOrder::new(&weights), ways: ways? }))
    };
    let (pool, route) = way(&listener.pool)?;
    let lead = |(place, lead): (usize, &Lead)| {
        let (pool, route) = way(&lead.pool)?;
        Some(Way { pool, route, split: split(place + 1, &lead.split) })
    };
    let preread = listener.preread.as_ref().map(|preread| preread_entry(id, preread, before, lead));
    let admission = Admission {
        rules: listener.rules.clone(),
        source_limits: Some(listener.source_limits).filter(|limits| !limits.is_none()),
        source_unlimited: listener.source_unlimited.clone(),
        proxy: listener.proxy.clone(),
        preread,
        tls: listener.tls.as_ref().and_then(|tls| tls.loaded.shared()),
    };
    let asks = !admission.rules.is_empty()
        || admission.source_limits.is_some()
        || admission.proxy.is_some()
        || admission.preread.is_some()
        || admission.tls.is_some();
    let fallbacks = listener.pools().flat_map(|name| chains.from(name).into_iter().skip(1));
    let mut fallbacks: Vec<_> = fallbacks.filter_map(|pool| way(&pool.name)).collect();
    fallbacks.sort_unstable();
    fallbacks.dedup();
    Some(ListenerEntry {
        id,
        name: listener.name.clone(),
        pool,
        route,
        split: split(0, &listener.split),
        fallbacks: fallbacks.into(),
        connections_max: listener.connections_max,
        backlog: listener.backlog,
        addresses: listener.binds.len() as u32,
        admission: asks.then(|| Arc::new(admission)),
        // Only a removed listener has no address.
        retired: listener.binds.is_empty(),
    })
}

/// What a listener looks for in its clients' first bytes. `before` is the entry of the table before, and `lead` says
/// where a route leads.
fn preread_entry(
    id: ListenerId,
    preread: &Preread,
    before: Option<&ListenerEntry>,
    lead: impl Fn((usize, &Lead)) -> Option<Way>,
) -> PrereadEntry {
    let before = before.and_then(|before| before.admission.as_ref()?.preread.as_ref());
    PrereadEntry {
        // Ten thousand routes take longer to make than all the rest.
        routes: match before.filter(|before| Arc::ptr_eq(&before.configured, &preread.routes)) {
            Some(before) => before.routes.clone(),
            None => preread
                .routes
                .iter()
                .enumerate()
                .filter_map(|(place, route)| Some(route_entry(id, route, lead((place, &route.pool))?)))
                .collect(),
        },
        configured: preread.routes.clone(),
        // A client that asks with PostgreSQL's request fits no route of another protocol, whatever its hello says.
        wants_hello: preread
            .routes
            .iter()
            .any(|route| route.wants_hello() && matches!(route.protocol, None | Some(Protocol::Postgresql))),
        wants_protocol: preread.routes.iter().any(|route| route.protocol.is_some()),
        timeout_ns: ns(preread.timeout),
        refuses_unmatched: preread.refuses_unmatched,
    }
}

/// A route of a listener, with the pool by its slot.
fn route_entry(listener: ListenerId, route: &Route<Lead>, way: Way) -> Route<RouteWay> {
    // A reload that moves a route, or changes its limits, leaves what was counted.
    let names: Vec<String> = route.names.iter().map(ToString::to_string).collect();
    let said = format!("{:?} {names:?} {:?} {}", route.protocol, route.protocols, route.pool.pool);
    let scope = SourceScope::of_route(listener, hash::stable(said.as_bytes(), 0));
    Route {
        protocol: route.protocol,
        names: route.names.clone(),
        protocols: route.protocols.clone(),
        guard: route.guard.clone(),
        pool: RouteWay { way, scope },
    }
}

/// The entry of a pool, with as much as possible from the table before.
fn pool_entry(input: Input<'_>, pool: &Pool, id: PoolId, members: &[&Member]) -> PoolEntry {
    let before = input.previous.and_then(|previous| previous.pool(id));
    let mut usable = usable(pool, members);
    let mut chosen = None;
    if pool.balance.sends_all_to_one() {
        chosen = choose(&usable, before.and_then(|before| before.chosen));
        // The sort is stable, so the others stay in the order of the file.
        usable.sort_by_key(|member| Some(member.id) != chosen);
    }
    let is_short = serving(members) < pool.up_min as usize;
    if is_short && !pool.use_all_when_down {
        usable.clear();
    }
    let candidates: Vec<_> = usable.iter().map(|member| candidate(member)).collect();
    let slow_start_ns = ns(pool.slow_start);
    let session = limits_of(pool);
    let same = before.filter(|before| *before.session == session);
    let kept = before.filter(|before| before.picker.is_of(pool.balance, &candidates, slow_start_ns));
    PoolEntry {
        id,
        name: pool.name.clone(),
        picker: kept.map_or_else(|| Picker::new(pool.balance, &candidates, slow_start_ns), |kept| kept.picker.clone()),
        chosen,
        is_short,
        falls_to: None,
        sticky_ns: ns(pool.sticky),
        sticks_to_backups: !pool.close_on_main_up,
        hash_key: pool.balance.hash_key(),
        // Sessions hold on to these limits, so there are only as many copies as there were changes.
        session: same.map_or_else(|| Arc::new(session), |same| same.session.clone()),
        limits: pool.limits,
        dial: pool.dial.clone(),
        tls: pool.tls.as_ref().and_then(|tls| tls.loaded.shared()),
        awaits_first_byte: pool.awaits_first_byte,
        queue: pool.queue,
        waits_for_primary: pool.wants_primary(),
        is_discovered: pool.discover.is_some(),
    }
}

/// The limits that sessions of this pool take with them.
fn limits_of(pool: &Pool) -> session::SessionLimits {
    let limits = &pool.limits;
    session::SessionLimits {
        connect_timeout_ns: ns(limits.connect_timeout),
        connect_attempts_max: limits.connect_attempts,
        queue_timeout_ns: ns(pool.queue.timeout),
        waits_for_primary: pool.wants_primary(),
        idle_timeout_ns: ns(limits.idle_timeout),
        half_close_timeout_ns: ns(limits.half_close_timeout),
        lifetime_max_ns: ns(limits.lifetime_max),
        drain_idle_ns: ns(limits.drain_idle),
    }
}

/// How many members take new sessions: those of the level that serves. Backups of other levels take none.
fn serving(members: &[&Member]) -> usize {
    let up = || members.iter().filter(|member| takes_sessions(member, &[State::Up]));
    let level = up().map(|member| member.backup).min();
    up().filter(|member| Some(member.backup) == level).count()
}

/// Whether a member that is in one of these states takes new sessions.
fn takes_sessions(member: &Member, states: &[State]) -> bool {
    states.contains(&member.state) && member.weight > 0 && member.address.is_some() && !member.retired
}

/// The members that take new sessions. If there are none and the pool says `use_all`, every member that would take
/// sessions if it were up.
fn usable<'a>(pool: &Pool, members: &[&'a Member]) -> Vec<&'a Member> {
    let with = |states: &[State]| -> Vec<&'a Member> {
        members.iter().copied().filter(|member| takes_sessions(member, states)).collect()
    };
    let up = with(&[State::Up]);
    if up.is_empty() && pool.use_all_when_down { with(&[State::Standby, State::Down, State::Ejected]) } else { up }
}

/// The backend to which `failover` sends all sessions: the one before if it is still usable, else the first. A backup
/// is left as soon as a backend of a lower level is usable.
fn choose(usable: &[&Member], before: Option<BackendId>) -> Option<BackendId> {
    let level = usable.iter().map(|member| member.backup).min()?;
    let mut fit = usable.iter().filter(|member| member.backup == level).map(|member| member.id);
    let first = fit.clone().next();
    fit.find(|&id| Some(id) == before).or(first)
}

/// A member as the picker wants it.
fn candidate(member: &Member) -> Candidate<'_> {
    Candidate {
        id: member.id,
        name: &member.hash_name,
        weight: member.weight,
        backup: member.backup,
        connections_max: member.connections_max,
        ramp_from: member.ramp_from,
    }
}

/// The entry of a backend.
fn backend_entry(member: &Member) -> BackendEntry {
    BackendEntry {
        id: member.id,
        pool: member.pool,
        name: member.name.clone(),
        address: member.address.clone(),
        host: member.host.clone(),
        port_shift: member.port_shift,
        origin: member.origin,
        weight: member.weight,
        backup: member.backup,
        connections_max: member.connections_max,
        state: member.state,
        end_sessions: member.end_sessions,
        yielded_at: member.yielded_at,
        retired: member.retired,
    }
}

#[cfg(test)]
pub(crate) mod tests;
