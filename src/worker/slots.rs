//! Where a worker keeps its sessions.

use slab::Slab;

use crate::admission::Guest;
use crate::balance::line::Waiting;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::session::Session;
use crate::stats::draft::Draft;
use crate::uring::Fd;
use crate::uring::token::{Operation, Token};

/// A session and what belongs to it.
pub struct Slot {
    pub session: Session,
    /// Open descriptors; `None` before there is one and after its close.
    pub fds: [Option<Fd>; 2],
    pub generation: u32,
    pub listener: ListenerId,
    pub pool: PoolId,
    /// From the listener to the pool.
    pub route: RouteId,
    /// The backend that is being connected to, or was.
    pub backend: Option<BackendId>,
    /// Backends that failed to connect; empty, and without memory, most of the time.
    pub tried: Vec<BackendId>,
    pub waiting: Waiting,
    pub accepted_at: Moment,
    pub connecting_at: Moment,
    /// By side: when it was read empty last, for [`silence`](super::silence); 0 if it need not be looked after.
    pub heard: [u32; 2],
    /// Sends to the backend so far, up to 2: before the second one, its Nagle algorithm is turned off.
    pub backend_sends: u8,
    /// The backend is told something before the client's bytes: see [`greet`](super::greet).
    pub greets: bool,
    /// Addresses to connect from that had no port left, in this attempt.
    pub sources_tried: u16,
    /// Bytes handed to the kernel, by the side they go to.
    pub bytes: [u64; 2],
    /// For the access log; exactly while there is one.
    pub draft: Option<Box<Draft>>,
    /// Of a listener that asks its clients for something.
    pub guest: Option<Box<Guest>>,
}

impl Slot {
    /// Whether the backend must be asked for TLS before the client's bytes, as the client was told to go on.
    pub fn asks_for_tls(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.asked_for_tls())
    }

    #[inline]
    pub fn fd(&self, side: Side) -> Option<Fd> {
        self.fds[side.index()]
    }
}

/// A session by its place and the tenant of the place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    pub index: u32,
    pub generation: u32,
}

impl Key {
    #[inline]
    pub fn token(self, operation: Operation) -> Token {
        Token { operation, generation: self.generation, index: self.index }
    }
}

/// All sessions of a worker.
#[derive(Default)]
pub struct Slots {
    slab: Slab<Slot>,
    /// By place: the generation of its next tenant.
    generations: Vec<u32>,
}

impl Slots {
    /// Puts a session somewhere; `make` is told its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Slot) -> Key {
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        if index == self.generations.len() {
            self.generations.push(0);
        }
        let generation = self.generations[index];
        entry.insert(make(generation));
        Key { index: index as u32, generation }
    }

    pub fn remove(&mut self, key: Key) -> Option<Slot> {
        self.get(key)?;
        let index = key.index as usize;
        self.generations[index] = (key.generation + 1) % Token::GENERATIONS;
        self.slab.try_remove(index)
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&Slot> {
        self.slab.get(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        self.slab.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    /// Whoever is at that place now.
    pub fn tenant(&self, index: u32) -> Option<Key> {
        self.slab.get(index as usize).map(|slot| Key { index, generation: slot.generation })
    }

    pub fn keys_where(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<Key> {
        let matching = self.slab.iter().filter(|(_, slot)| wanted(slot));
        matching.map(|(index, slot)| Key { index: index as u32, generation: slot.generation }).collect()
    }

    /// Places so far; every session is at one below.
    pub fn places(&self) -> u32 {
        self.generations.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Limits;

    fn slot(generation: u32) -> Slot {
        Slot {
            session: Session::new(Limits::default(), 0, Moment(0)),
            fds: [None; 2],
            generation,
            listener: ListenerId(0),
            pool: PoolId(0),
            route: RouteId(0),
            backend: None,
            tried: Vec::new(),
            waiting: Waiting::default(),
            accepted_at: Moment(0),
            connecting_at: Moment(0),
            heard: [0; 2],
            backend_sends: 0,
            greets: false,
            sources_tried: 0,
            bytes: [0; 2],
            draft: None,
            guest: None,
        }
    }

    #[test]
    fn a_key_opens_its_own_tenant_only() {
        let mut slots = Slots::default();
        let first = slots.insert(slot);
        assert!(slots.remove(first).is_some());
        let second = slots.insert(slot);
        assert_eq!(second.index, first.index);
        assert_ne!(second.generation, first.generation);
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert!(slots.get(second).is_some());
    }

    #[test]
    fn a_session_fits_into_the_memory_we_promise() {
        assert!(size_of::<Slot>() <= 640, "{} bytes", size_of::<Slot>());
    }
}
