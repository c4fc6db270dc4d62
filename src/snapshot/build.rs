//! From what is configured and what is known of the backends to a table. Pure.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::balance::{self, Candidate, Picker};
use crate::base::address::Address;
use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
use crate::config::model::{Balance, Config, Pool};
use crate::health::State;

use super::ids::Ids;
use super::table::{BackendEntry, ListenerEntry, Phase, PoolEntry, Table};

/// Everything a table follows from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is configured.
    pub config: &'a Config,
    /// Slots; made from this `config`.
    pub ids: &'a Ids,
    /// Every backend there is, those of a pool in the order of the file.
    pub members: &'a [Member],
    /// What the process is doing.
    pub phase: Phase,
    /// Number of the table.
    pub generation: u64,
    /// The table before, if the configuration has not changed since: pools whose candidates are the same keep their
    /// picker, so that one backend's change costs one pool.
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
        pools: vec![None; pools],
        backends: vec![None; backends],
    };
    for listener in &input.config.listeners {
        let slots = input.ids.listener(&listener.name).zip(input.ids.pool(&listener.pool));
        if let Some((id, pool)) = slots {
            table.listeners[id.index()] = Some(ListenerEntry { id, name: listener.name.clone(), pool });
        }
    }
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

fn pool_entry(input: Input<'_>, pool: &Pool, id: PoolId, members: &[&Member]) -> PoolEntry {
    let takes_sessions = |member: &&&Member| member.state == State::Up && member.weight > 0;
    let kept = input.previous.filter(|previous| {
        let before = |member: &&Member| previous.backend(member.id).map(|entry| (entry.state, entry.weight));
        members.iter().all(|member| before(member) == Some((member.state, member.weight)))
    });
    let kept = kept.and_then(|previous| previous.pool(id));
    let (kind, hash_key) = match pool.balance {
        Balance::LeastConn => (balance::Kind::LeastConn, None),
        Balance::ConsistentHash { key, .. } => (balance::Kind::ConsistentHash, Some(key)),
        _ => (balance::Kind::RoundRobin, None),
    };
    let picker = || {
        let usable = members.iter().filter(takes_sessions);
        let candidates: Vec<_> =
            usable.map(|member| Candidate { id: member.id, name: &member.hash_name, weight: member.weight }).collect();
        Picker::new(kind, &candidates)
    };
    PoolEntry {
        id,
        name: pool.name.clone(),
        picker: kept.map_or_else(picker, |kept| kept.picker.clone()),
        hash_key,
        limits: pool.limits,
    }
}

fn backend_entry(member: &Member) -> BackendEntry {
    BackendEntry {
        id: member.id,
        pool: member.pool,
        name: member.name.clone(),
        address: member.address.clone(),
        weight: member.weight,
        state: member.state,
        end_sessions: member.end_sessions,
        retired: member.retired,
    }
}

#[cfg(test)]
pub(crate) mod tests;
