//! Slot numbers by name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::config::model::Config;

/// Who has which slot. A name keeps its slot for as long as it is here, whatever else comes and goes.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    listeners: HashMap<Arc<str>, ListenerId>,
    pools: HashMap<Arc<str>, PoolId>,
    backends: HashMap<(PoolId, Arc<str>), BackendId>,
}

impl Ids {
    /// Numbers everything in `config`, in the order of the file.
    pub fn assign(config: &Config) -> Ids {
        let mut ids = Ids::default();
        ids.extend(config);
        ids
    }

    /// Numbers what is new in `config`; what has a number keeps it.
    pub fn extend(&mut self, config: &Config) {
        for listener in &config.listeners {
            let next = ListenerId(self.listeners.len() as u32);
            self.listeners.entry(listener.name.clone()).or_insert(next);
        }
        for pool in &config.pools {
            let next = PoolId(self.pools.len() as u32);
            let id = *self.pools.entry(pool.name.clone()).or_insert(next);
            for backend in &pool.backends {
                let next = BackendId(self.backends.len() as u32);
                self.backends.entry((id, backend.name.clone())).or_insert(next);
            }
        }
    }

    /// The slot of a listener.
    pub fn listener(&self, name: &str) -> Option<ListenerId> {
        self.listeners.get(name).copied()
    }

    /// The slot of a pool.
    pub fn pool(&self, name: &str) -> Option<PoolId> {
        self.pools.get(name).copied()
    }

    /// The slot of a backend of that pool.
    pub fn backend(&self, pool: PoolId, name: &Arc<str>) -> Option<BackendId> {
        self.backends.get(&(pool, name.clone())).copied()
    }

    /// How many slots listeners, pools and backends need.
    pub fn lengths(&self) -> (usize, usize, usize) {
        (self.listeners.len(), self.pools.len(), self.backends.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::build::tests::{config, pool};

    #[test]
    fn slots_are_dense_and_two_pools_may_use_one_backend_name() {
        let config = config(vec![pool("p", &["a", "b"]), pool("q", &["a"])]);
        let ids = Ids::assign(&config);
        let (p, q) = (ids.pool("p").unwrap(), ids.pool("q").unwrap());
        let numbers = [(p, "a"), (p, "b"), (q, "a")].map(|(pool, name)| ids.backend(pool, &name.into()).unwrap().0);
        assert_eq!(((p, q), numbers), ((PoolId(0), PoolId(1)), [0, 1, 2]));
        assert_eq!(ids.listener("p"), Some(ListenerId(0)));
        assert_eq!(ids.lengths(), (2, 2, 3));
        assert_eq!(ids.pool("r"), None);
    }

    #[test]
    fn a_name_keeps_its_slot_when_the_file_changes() {
        let mut ids = Ids::assign(&config(vec![pool("p", &["a", "b"])]));
        ids.extend(&config(vec![pool("q", &["b"]), pool("p", &["b", "c", "a"])]));
        let (p, q) = (ids.pool("p").unwrap(), ids.pool("q").unwrap());
        assert_eq!((p, q), (PoolId(0), PoolId(1)));
        let numbers = ["a", "b", "c"].map(|name| ids.backend(p, &name.into()).unwrap().0);
        assert_eq!(numbers, [0, 1, 3]);
        assert_eq!(ids.backend(q, &"b".into()), Some(BackendId(2)));
    }
}
