//! Which session gets a place. The queue is first in, first out: over all workers, the session that came first has the
//! first place that becomes free. And no client address has more than its limit.

use std::collections::HashMap;

use ringway::base::address::Address;
use ringway::base::id::PoolId;
use ringway::base::side::Side;
use ringway::base::termination::{Termination, When};
use ringway::base::time::Moment;
use ringway::config::model::Chains;
use ringway::stats::record::Record;

use crate::corner::Corner;
use crate::world::World;

/// A session that got a backend, and had not tried another one before.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pool: PoolId,
    came_at: Moment,
    served_at: Moment,
}

impl World {
    /// No session got a backend while one waited for it that had come before. A session that has tried a backend in
    /// vain stands aside, and one that has to say something first comes when it has said it: neither is looked at.
    pub fn check_order(&mut self, record: &Record) {
        let Termination(_, when) = record.termination;
        let listener = &self.control.config.listeners[record.listener.index()];
        let chains = Chains::of(&self.control.config);
        let mut pools = listener.pools().flat_map(|name| chains.from(name));
        // One that its own pool had waiting before it went to another one came late there.
        let comes_late = pools.any(|pool| pool.awaits_first_byte || pool.fallback.is_some());
        let asks = listener.proxy.is_some() || listener.preread.is_some() || comes_late;
        let is_served = record.backend.is_some() && !matches!(when, When::Request | When::Queue);
        if asks || !is_served || !record.failed.is_empty() {
            return;
        }
        let (pool, came_at) = (record.pool, record.accepted_at);
        let new = Served { pool, came_at, served_at: came_at.after_ns(record.queue_ns) };
        let overtakes = |one: &Served, other: &Served| one.came_at < other.came_at && one.served_at > other.served_at;
        for old in self.served.iter().filter(|old| old.pool == pool) {
            assert!(!overtakes(old, &new) && !overtakes(&new, old), "{old:?} and {new:?}: one has overtaken the other");
        }
        if record.queue_ns > 0 && self.served.iter().any(|old| old.pool == pool && old.served_at > old.came_at) {
            self.host.borrow_mut().corners.reach(Corner::QueuedInOrder);
        }
        self.served.push(new);
    }

    /// As many sessions of one client's address as its listener allows. Clients with a PROXY header all name the same.
    pub fn check_sources(&self) {
        let host = self.host.borrow();
        let mut counts: HashMap<(usize, Address), u32> = HashMap::new();
        for pair in host.sessions.values().filter(|pair| pair.opened_at.is_some()) {
            let Some(client) = pair.socks[Side::Client.index()].map(|sock| &host.socks[sock]) else { continue };
            let listener = &self.control.config.listeners[client.listener];
            let most = listener.source_limits.connections_max;
            if most == 0 || client.parting.is_some() || self.control.has_assigned {
                continue;
            }
            let address = match (&client.peer_address, &listener.proxy) {
                (_, Some(_)) => Address::Unix(Default::default()),
                (Address::Unix(_), None) => continue,
                (Address::Tcp(address), None) => Address::Tcp((address.ip(), 0).into()),
            };
            let count = counts.entry((client.listener, address)).or_default();
            *count += 1;
            assert!(*count <= most, "{count} sessions of one address, and there may be {most}");
        }
    }
}
