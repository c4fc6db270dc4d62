//! Which backend a session gets, by the newest table and the counts as they are now.
//!
//! The policy itself is in [`balance`](crate::balance). Here it gets what it asks for (the hash of the client, a random
//! number, the backends tried already), and its answer becomes one of [`Picked`]: a backend, a place in the queue, or
//! the end.

use super::Worker;
use super::admission::client_of;
use super::slots::{Slot, SlotKey};
use crate::balance::sticky::{StickyEntered, StickyPermit};
use crate::balance::{Ask, Counts, Pick};
use crate::base::address::Address;
use crate::base::hash;
use crate::base::id::{BackendId, PoolId};
use crate::kernel::Kernel;
use crate::session::Picked;
use crate::snapshot::table::{HashKey, PoolEntry};

impl<K: Kernel> Worker<K> {
    /// Chooses a backend and counts the session there. If there is none with room, the session waits in the queue of
    /// its pool, or is refused.
    pub(super) fn pick(&mut self, key: SlotKey) -> Picked {
        let Some(slot) = self.slots.get(key) else { return Picked::Nobody };
        let pool_id = slot.pool;
        let table = self.known.reader.table();
        let Some(pool) = table.pool(pool_id) else { return Picked::Nobody };
        if let Some(fallback) = pool.falls_to {
            self.fall_back(key, fallback);
            return self.pick(key);
        }
        if pool.sticky_ns > 0 && slot.sticky.is_none() {
            self.enter_sticky(key);
            return self.pick(key);
        }
        let counts = &self.shared.counts;
        let (is_called, must_wait) = (slot.detour().waiting.place.is_some(), counts.queue(pool_id).waiting() > 0);
        let pick = match (must_wait && !is_called, kept_backend(slot, pool, counts)) {
            // Other sessions came first.
            (true, _) => Pick::Full,
            (false, Some(backend)) if pool.picker.take(backend, pool.sticks_to_backups, counts) => {
                Pick::Backend(backend)
            }
            (false, _) => {
                let key = pool.hash_key.map_or(0, |kind| hash_of(client_of(slot, self.kernel.sockets()), kind));
                let random = self.turn.random.u64(..);
                pool.picker.pick(pool_id, counts, Ask { key, random, now: self.turn.now, tried: &slot.detour().tried })
            }
        };
        if let (Pick::Backend(backend), Some(permit)) = (pick, &slot.sticky) {
            counts.sticky(pool_id).remember(permit, backend);
        }
        let (queue_max, waits) = (pool.queue.max, pool.waits_for_primary && pool.queue.max > 0);
        let picked = match pick {
            Pick::Backend(backend) => self.assign(key, backend),
            Pick::Nobody if !waits => Picked::Nobody,
            Pick::Nobody | Pick::Full if is_called => Picked::Wait,
            Pick::Nobody | Pick::Full => self.wait_in_queue(key, pool_id, queue_max),
        };
        if matches!(picked, Picked::Nobody | Picked::QueueFull) {
            self.stats().pools.get(pool_id.index()).refused_total.add(1);
        }
        picked
    }

    /// Finds the client of a session among those that keep their backend, or adds it. Clients without an IP address
    /// keep none.
    #[cold]
    fn enter_sticky(&mut self, key: SlotKey) {
        let (now, table) = (self.turn.now, self.known.reader.table());
        let Some(slot) = self.slots.get_mut(key) else { return };
        let keep_ns = table.pool(slot.pool).map_or(0, |pool| pool.sticky_ns);
        let entered = match client_of(slot, self.kernel.sockets()) {
            Some(Address::Tcp(client)) => {
                self.shared.counts.sticky(slot.pool).enter(hash::of_ip(client.ip()), keep_ns, now)
            }
            _ => StickyEntered { permit: StickyPermit::NOBODY, evicts: false },
        };
        slot.sticky = Some(entered.permit);
        let pool = slot.pool;
        if entered.evicts {
            self.stats().pools.get(pool.index()).sticky_evictions_total.add(1);
        }
    }

    /// Gives the session to the pool that serves in place of its own: with the limits of that pool, and with every
    /// backend of it untried. It never comes back to its own, also if it has to wait.
    #[cold]
    fn fall_back(&mut self, key: SlotKey, to: PoolId) {
        self.leave_queue(key);
        let (jitter, now, table) = (self.turn.random.u32(..), self.turn.now, self.known.reader.table());
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(entry) = table.pool(to) {
            slot.session.adopt(entry.session.clone(), jitter, now);
        }
        if let Some(route) = table.listener(slot.listener).and_then(|listener| listener.way_to_fallback(to)) {
            slot.route = route;
        }
        let from = std::mem::replace(&mut slot.pool, to);
        if let Some(permit) = slot.sticky.take() {
            self.shared.counts.sticky(from).leave(permit, now);
        }
        slot.forget_tried();
        self.stats().pools.get(from.index()).fallbacks_total.add(1);
    }

    /// Gives the session its backend, which the picker has counted already, and takes it out of the queue.
    fn assign(&mut self, key: SlotKey, backend: BackendId) -> Picked {
        self.leave_queue(key);
        let Some(slot) = self.slots.get_mut(key) else { return Picked::Nobody };
        slot.backend = Some(backend);
        let (pool, is_retry) = (slot.pool, !slot.detour().tried.is_empty());
        if is_retry {
            self.stats().pools.get(pool.index()).retries_total.add(1);
        }
        Picked::Backend
    }
}

/// The backend that the client of this session keeps, unless the session could not connect to it.
#[inline]
fn kept_backend(slot: &Slot, pool: &PoolEntry, counts: &Counts) -> Option<BackendId> {
    let backend = counts.sticky(pool.id).backend(slot.sticky.as_ref()?)?;
    Some(backend).filter(|backend| !slot.detour().tried.contains(backend))
}

/// The value by which `consistent_hash` knows a client: a hash of its address, or of its address and port. All clients
/// of unix sockets have the same.
fn hash_of(client: Option<Address>, kind: HashKey) -> u64 {
    match client {
        Some(Address::Tcp(peer)) => match kind {
            HashKey::SourceIp => hash::of_ip(peer.ip()),
            HashKey::SourceIpPort => hash::of_ip_port(peer.ip(), peer.port()),
        },
        _ => 0,
    }
}
