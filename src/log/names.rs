//! The names of listeners, pools and backends by their ids, also after they are gone from the table: a session may end
//! long after what it belongs to was removed.

use std::sync::Arc;

use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::snapshot::table::Table;

/// Names by id. A removed thing keeps its name until another one gets the same id.
#[derive(Debug, Default)]
pub struct Names {
    /// By listener id.
    listeners: Vec<Arc<str>>,
    /// By pool id.
    pools: Vec<Arc<str>>,
    /// With the pool of each backend; `None` for an id that was never used.
    backends: Vec<(Option<PoolId>, Arc<str>)>,
}

impl Names {
    /// Takes over the names of a table. It must be called for each published table.
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

    /// The name of a listener; empty if the id was never used.
    pub(super) fn listener(&self, id: ListenerId) -> &str {
        self.listeners.get(id.index()).map_or("", |name| name)
    }

    /// The name of a pool; empty if the id was never used.
    pub(super) fn pool(&self, id: PoolId) -> &str {
        self.pools.get(id.index()).map_or("", |name| name)
    }

    /// The name of a backend; empty if the id was never used.
    pub(super) fn backend(&self, id: BackendId) -> &str {
        self.backends.get(id.index()).map_or("", |(_, name)| name)
    }

    /// Every backend that this pool has or had.
    pub(super) fn backends_of(&self, pool: PoolId) -> impl Iterator<Item = BackendId> {
        let of_pool = self.backends.iter().zip(0..).filter(move |((owner, _), _)| *owner == Some(pool));
        of_pool.map(|(_, id)| BackendId(id))
    }
}

/// Puts a value at a place of a list, and makes the list longer if necessary.
fn put<T: Clone + Default>(list: &mut Vec<T>, index: usize, value: T) {
    if list.len() <= index {
        list.resize(index + 1, T::default());
    }
    list[index] = value;
}
