//! From what is configured and what is known of the backends to a table. Pure.

use crate::balance::{self, Candidate, Picker};
use crate::base::id::{BackendId, PoolId};
use crate::config::model::{Backend, Balance, Config, Pool};
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
    /// What checks say of each backend, by [`BackendId`]; one that is missing counts as up.
    pub health: &'a [State],
    /// What the process is doing.
    pub phase: Phase,
    /// Number of the table.
    pub generation: u64,
    /// The table before, if the configuration has not changed since: pools whose candidates are the same keep their
    /// picker, so that one backend's change costs one pool.
    pub previous: Option<&'a Table>,
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
    for pool in &input.config.pools {
        if let Some(id) = input.ids.pool(&pool.name) {
            add_pool(&mut table, input, pool, id);
        }
    }
    table
}

fn add_pool(table: &mut Table, input: Input<'_>, pool: &Pool, id: PoolId) {
    let mut candidates = Vec::with_capacity(pool.backends.len());
    let mut changed = input.previous.is_none();
    for backend in &pool.backends {
        let Some(backend_id) = input.ids.backend(id, &backend.name) else { continue };
        let entry = backend_entry(input, pool, id, backend, backend_id);
        if takes_sessions(&entry) {
            candidates.push(Candidate { id: backend_id, name: &backend.name, weight: backend.weight });
        }
        let before = input.previous.and_then(|previous| previous.backend(backend_id));
        changed |= before
            .is_none_or(|before| (takes_sessions(before), before.weight) != (takes_sessions(&entry), entry.weight));
        table.backends[backend_id.index()] = Some(entry);
    }
    let kept = input.previous.filter(|_| !changed).and_then(|previous| previous.pool(id));
    let (kind, hash_key) = match pool.balance {
        Balance::RoundRobin => (balance::Kind::RoundRobin, None),
        Balance::LeastConn => (balance::Kind::LeastConn, None),
        Balance::ConsistentHash(key) => (balance::Kind::ConsistentHash, Some(key)),
    };
    table.pools[id.index()] = Some(PoolEntry {
        id,
        name: pool.name.clone(),
        picker: kept.map_or_else(|| Picker::new(kind, &candidates), |kept| kept.picker.clone()),
        hash_key,
        limits: pool.limits,
        close_on_backend_down: pool.close_on_backend_down,
    });
}

fn backend_entry(input: Input<'_>, pool: &Pool, pool_id: PoolId, backend: &Backend, id: BackendId) -> BackendEntry {
    let state = match backend.disabled {
        true => State::Maintenance,
        false => input.health.get(id.index()).copied().unwrap_or(State::Up),
    };
    BackendEntry {
        id,
        pool: pool_id,
        name: backend.name.clone(),
        address: backend.address.clone(),
        weight: backend.weight,
        state,
        end_sessions: state == State::Down && pool.close_on_backend_down,
    }
}

fn takes_sessions(entry: &BackendEntry) -> bool {
    entry.state == State::Up && entry.weight > 0
}

#[cfg(test)]
pub(crate) mod tests;
