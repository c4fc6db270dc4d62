//! From what is configured and what is known of the backends to a table. Pure.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::admit::routes::Route;
use crate::balance::{Candidate, Picker};
use crate::base::address::Address;
use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{Config, Listener, Pool};
use crate::health::State;
use crate::session;

use super::ids::Ids;
use super::table::{Admission, BackendEntry, ListenerEntry, Phase, PoolEntry, PrereadEntry, Table};

/// Everything a table follows from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is configured, with listeners that are gone and have no address any more.
    pub config: &'a Config,
    /// Slots; made from this `config`.
    pub ids: &'a Ids,
    /// Every backend there is, those of a pool in the order of the file.
    pub members: &'a [Member],
    /// What the process is doing.
    pub phase: Phase,
    /// Number of the table.
    pub generation: u64,
    /// The table before, whose slots are those of `ids`: pools whose candidates are the same keep their picker, so that
    /// one backend's change costs one pool, and what `failover` has chosen stays chosen.
    pub previous: Option<&'a Table>,
}

/// A backend as control sees it at this moment. One whose address is looked up is a member for each address found; one
/// that was removed stays a member until its last session is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its slot; another address has another slot.
    pub id: BackendId,
    /// Its pool.
    pub pool: PoolId,
    /// What it is called in metrics, logs and the API; unique among the members of a pool that are not `retired`.
    pub name: Arc<str>,
    /// What `consistent_hash` places it by.
    pub hash_name: Arc<str>,
    /// `None` while its name has no address; then it is down.
    pub address: Option<Address>,
    /// 0 to 256.
    pub weight: u16,
    /// Used only where no other is.
    pub backup: bool,
    /// Sessions it takes at once.
    pub connections_max: Option<NonZeroU32>,
    /// What it may be used for.
    pub state: State,
    /// When its slow start began; `None` has its whole weight.
    pub ramp_from: Option<Moment>,
    /// Its sessions are to be reset now.
    pub end_sessions: bool,
    /// No longer configured, or at another address now: it only keeps the sessions it has.
    pub retired: bool,
}

/// The table. Whatever `config` names and `ids` does not is left out; `Ids::assign` and `extend` leave nothing out.
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
    for listener in &input.config.listeners {
        if let Some(id) = input.ids.listener(&listener.name) {
            table.listeners[id.index()] = listener_entry(input.ids, listener, id);
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
    table
}

fn listener_entry(ids: &Ids, listener: &Listener, id: ListenerId) -> Option<ListenerEntry> {
    let way = |name: &str| {
        let pool = ids.pool(name)?;
        Some((pool, ids.route(id, pool)?))
    };
    let (pool, route) = way(&listener.pool)?;
    let preread = listener.preread.as_ref().map(|preread| PrereadEntry {
        routes: preread.routes.iter().filter_map(|route| Some(led(route, way(&route.pool)?))).collect(),
        timeout_ns: ns(preread.timeout),
        refuses_unmatched: preread.refuses_unmatched,
    });
    let admission = Admission {
        rules: listener.rules.clone(),
        source_limits: Some(listener.source_limits).filter(|limits| !limits.is_none()),
        proxy: listener.proxy.clone(),
        preread,
    };
    let asks = !admission.rules.is_empty()
        || admission.source_limits.is_some()
        || admission.proxy.is_some()
        || admission.preread.is_some();
    Some(ListenerEntry {
        id,
        name: listener.name.clone(),
        pool,
        route,
        connections_max: listener.connections_max,
        backlog: listener.backlog,
        addresses: listener.binds.len() as u32,
        admission: asks.then(|| Arc::new(admission)),
        // Only one that is gone accepts nowhere.
        retired: listener.binds.is_empty(),
    })
}

/// The same route to another form of the pool.
fn led<T>(route: &Route<Arc<str>>, pool: T) -> Route<T> {
    Route { names: route.names.clone(), protocols: route.protocols.clone(), pool }
}

fn pool_entry(input: Input<'_>, pool: &Pool, id: PoolId, members: &[&Member]) -> PoolEntry {
    let before = input.previous.and_then(|previous| previous.pool(id));
    let mut usable = usable(pool, members);
    let mut chosen = None;
    if pool.balance.sends_all_to_one() {
        chosen = choose(&usable, before.and_then(|before| before.chosen));
        // Stable, so the others stay in the order of the file.
        usable.sort_by_key(|member| Some(member.id) != chosen);
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
        hash_key: pool.balance.hash_key(),
        // Sessions hold on to them: as few copies as there were changes.
        session: same.map_or_else(|| Arc::new(session), |same| same.session.clone()),
        limits: pool.limits,
        dial: pool.dial.clone(),
        queue: pool.queue,
        waits_for_primary: pool.wants_primary(),
    }
}

/// What a session of that pool is held to.
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

/// Those that take new sessions. While there are none, all that could if they were up, if the pool says so.
fn usable<'a>(pool: &Pool, members: &[&'a Member]) -> Vec<&'a Member> {
    let with = |states: &[State]| -> Vec<&'a Member> {
        let fit = |member: &&Member| {
            states.contains(&member.state) && member.weight > 0 && member.address.is_some() && !member.retired
        };
        members.iter().copied().filter(fit).collect()
    };
    let up = with(&[State::Up]);
    if up.is_empty() && pool.use_all_when_down { with(&[State::Standby, State::Down, State::Ejected]) } else { up }
}

/// The one that `failover` sends everybody to: the one before if it is still usable, else the first one. A backup is
/// left as soon as another is usable.
fn choose(usable: &[&Member], before: Option<BackendId>) -> Option<BackendId> {
    let backup = usable.iter().all(|member| member.backup);
    let mut fit = usable.iter().filter(|member| member.backup == backup).map(|member| member.id);
    let first = fit.clone().next();
    fit.find(|&id| Some(id) == before).or(first)
}

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

fn backend_entry(member: &Member) -> BackendEntry {
    BackendEntry {
        id: member.id,
        pool: member.pool,
        name: member.name.clone(),
        address: member.address.clone(),
        weight: member.weight,
        backup: member.backup,
        connections_max: member.connections_max,
        state: member.state,
        end_sessions: member.end_sessions,
        retired: member.retired,
    }
}

#[cfg(test)]
pub(crate) mod tests;
