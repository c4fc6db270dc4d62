//! Slot numbers by name: which id each listener, pool, route and backend has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::base::address::Address;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId, SplitId};
use crate::config::model::{Chains, Config};

/// Which name has which slot. A name keeps its slot as long as it is here, whatever else comes and goes. A backend has
/// one slot per address that it has had: sessions stay with their server, and at a new address is another server. Slots
/// of backends become free again ([`Ids::free_backends`]). Those of listeners, pools and routes do not, because only
/// another file makes new ones.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// By name.
    listeners: HashMap<Arc<str>, ListenerId>,
    /// By name.
    pools: HashMap<Arc<str>, PoolId>,
    /// By where it begins and where it ends.
    routes: HashMap<(ListenerId, PoolId), RouteId>,
    /// By listener, and 0 for its own or else the place of the route, counted from 1.
    splits: HashMap<(ListenerId, usize), SplitId>,
    /// By pool, name and address.
    backends: HashMap<(PoolId, Arc<str>, Option<Address>), BackendId>,
    /// Slots without a backend, in the order in which they became free.
    free: VecDeque<BackendId>,
}

impl Ids {
    /// Numbers everything in `config`, in the order of the file.
    pub fn assign(config: &Config) -> Ids {
        let mut ids = Ids::default();
        ids.extend(config);
        ids
    }

    /// Numbers what is new in `config`. What has a number keeps it.
    pub fn extend(&mut self, config: &Config) {
        for listener in &config.listeners {
            let next = ListenerId(self.listeners.len() as u32);
            self.listeners.entry(listener.name.clone()).or_insert(next);
        }
        for pool in &config.pools {
            let next = PoolId(self.pools.len() as u32);
            let id = *self.pools.entry(pool.name.clone()).or_insert(next);
            for backend in &pool.backends {
                self.number_backend(id, &backend.name, backend.target.address());
            }
        }
        let chains = Chains::of(config);
        for listener in &config.listeners {
            // A share of 0 can become one that gets sessions, and until then the split has a place for it.
            let shares = listener.shares().map(|share| &share.pool);
            for pool in listener.pools().chain(shares).flat_map(|name| chains.from(name)) {
                if let Some(way) = self.listener(&listener.name).zip(self.pool(&pool.name)) {
                    let next = RouteId(self.routes.len() as u32);
                    self.routes.entry(way).or_insert(next);
                }
            }
            let routes = listener.preread.iter().flat_map(|preread| preread.routes.iter());
            let splits = std::iter::once(&listener.split).chain(routes.map(|route| &route.pool.split));
            for (place, _) in splits.enumerate().filter(|(_, split)| !split.is_empty()) {
                let next = SplitId(self.splits.len() as u32);
                if let Some(id) = self.listener(&listener.name) {
                    self.splits.entry((id, place)).or_insert(next);
                }
            }
        }
    }

    /// The slot of a split: of the listener's own (0), or of its route at that place, counted from 1.
    pub fn split(&self, listener: ListenerId, place: usize) -> Option<SplitId> {
        self.splits.get(&(listener, place)).copied()
    }

    /// The slot of a backend of this pool at this address; a new one if it has none. `None` stands for a host name
    /// without an address.
    pub fn number_backend(&mut self, pool: PoolId, name: &Arc<str>, address: Option<&Address>) -> BackendId {
        let next = BackendId((self.backends.len() + self.free.len()) as u32);
        let free = &mut self.free;
        let id = self.backends.entry((pool, name.clone(), address.cloned()));
        *id.or_insert_with(|| free.pop_front().unwrap_or(next))
    }

    /// The slots of all backends that have an address.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> {
        self.backends.iter().filter(|((_, _, address), _)| address.is_some()).map(|(_, &id)| id)
    }

    /// Gives these slots free for other backends, because nothing refers to them any more.
    pub fn free_backends(&mut self, gone: &HashSet<BackendId>) {
        let free = &mut self.free;
        self.backends.retain(|_, id| {
            let is_gone = gone.contains(id);
            free.extend(is_gone.then_some(*id));
            !is_gone
        });
    }

    /// The slot of a listener.
    pub fn listener(&self, name: &str) -> Option<ListenerId> {
        self.listeners.get(name).copied()
    }

    /// The slot of a pool.
    pub fn pool(&self, name: &str) -> Option<PoolId> {
        self.pools.get(name).copied()
    }

    /// The slot of the way from a listener to a pool.
    pub fn route(&self, listener: ListenerId, pool: PoolId) -> Option<RouteId> {
        self.routes.get(&(listener, pool)).copied()
    }

    /// Every way from a listener to a pool that exists or existed, with its slot.
    pub fn routes(&self) -> impl Iterator<Item = (RouteId, ListenerId, PoolId)> {
        self.routes.iter().map(|(&(listener, pool), &route)| (route, listener, pool))
    }

    /// How many slots listeners, pools and backends need.
    pub fn lengths(&self) -> (usize, usize, usize) {
        (self.listeners.len(), self.pools.len(), self.backends.len() + self.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::build::tests::{config, pool};

    /// Slots of these backends of a pool; each is at port 1000 and its place in the file.
    fn numbers(ids: &mut Ids, pool: PoolId, backends: &[(&str, u16)]) -> Vec<u32> {
        let address = |port| Address::Tcp(([10, 0, 0, 1], port).into());
        let number = |&(name, port): &(&str, u16)| ids.number_backend(pool, &name.into(), Some(&address(port))).0;
        backends.iter().map(number).collect()
    }

    #[test]
    fn slots_are_dense_and_two_pools_may_use_one_backend_name() {
        let config = config(vec![pool("p", &["a", "b"]), pool("q", &["a"])]);
        let mut ids = Ids::assign(&config);
        assert_eq!(ids.lengths(), (2, 2, 3));
        let (p, q) = (ids.pool("p").unwrap(), ids.pool("q").unwrap());
        assert_eq!((p, q), (PoolId(0), PoolId(1)));
        assert_eq!(numbers(&mut ids, p, &[("a", 1000), ("b", 1001)]), [0, 1]);
        assert_eq!(numbers(&mut ids, q, &[("a", 1000)]), [2]);
        assert_eq!(ids.listener("p"), Some(ListenerId(0)));
        assert_eq!(ids.pool("r"), None);
    }

    #[test]
    fn a_name_keeps_its_slot_when_the_file_changes_unless_it_moves() {
        let mut ids = Ids::assign(&config(vec![pool("p", &["a", "b"])]));
        ids.extend(&config(vec![pool("q", &["b"]), pool("p", &["a", "c", "b"])]));
        let (p, q) = (ids.pool("p").unwrap(), ids.pool("q").unwrap());
        assert_eq!((p, q), (PoolId(0), PoolId(1)));
        assert_eq!(numbers(&mut ids, q, &[("b", 1000)]), [2]);
        assert_eq!(numbers(&mut ids, p, &[("a", 1000), ("b", 1001), ("c", 1001), ("b", 1002)]), [0, 1, 3, 4]);
        assert_eq!(numbers(&mut ids, p, &[("a", 7)]), [5], "elsewhere it is another server");
        assert_eq!(numbers(&mut ids, p, &[("a", 1000)]), [0], "and back it is the old one");
        let before = ids.lengths();
        ids.free_backends(&HashSet::from([BackendId(1), BackendId(5)]));
        assert_eq!(ids.lengths(), before);
        let again = numbers(&mut ids, p, &[("x", 1), ("x", 2), ("x", 3), ("a", 1000)]);
        assert!(again[..2] == [1, 5] || again[..2] == [5, 1], "{again:?}");
        assert_eq!(again[2..], [6, 0]);
    }
}
