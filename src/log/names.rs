//! What listeners, pools and backends are called, also after they are gone from the table.

use std::sync::Arc;

use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::snapshot::table::Table;

/// By slot. A session may end long after what it belongs to was removed.
#[derive(Debug, Default)]
pub struct Names {
    listeners: Vec<Arc<str>>,
    pools: Vec<Arc<str>>,
    backends: Vec<(Option<PoolId>, Arc<str>)>,
}

impl Names {
    /// Takes over what a table says; to be told of each one.
    pub fn learn(&mut self, table: &Table) {
        for entry in table.listeners.iter().flatten() {
            put(&mut self.listeners, entry.id.index(), entry.name.clone());
        }
        for entry in table.pools.iter().flatten() {
            put(&mut self.pools, entry.id.index(), entry.name.clone());
        }
        for entry in table.backends.iter().flatten() {
            put(&mut self.backends, entry.id.index(), (Some(entry.pool), entry.name.clone()));
        }
    }

    pub(super) fn listener(&self, id: ListenerId) -> &str {
        self.listeners.get(id.index()).map_or("", |name| name)
    }

    pub(super) fn pool(&self, id: PoolId) -> &str {
        self.pools.get(id.index()).map_or("", |name| name)
    }

    pub(super) fn backend(&self, id: BackendId) -> &str {
        self.backends.get(id.index()).map_or("", |(_, name)| name)
    }

    /// Every backend that pool has or had.
    pub(super) fn backends_of(&self, pool: PoolId) -> impl Iterator<Item = BackendId> {
        let of_pool = self.backends.iter().zip(0..).filter(move |((owner, _), _)| *owner == Some(pool));
        of_pool.map(|(_, id)| BackendId(id))
    }
}

fn put<T: Clone + Default>(list: &mut Vec<T>, index: usize, value: T) {
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    list[index] = value;
}
