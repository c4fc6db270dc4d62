//! Where a worker keeps its sessions.

use std::collections::VecDeque;

use crate::admission::Guest;
use crate::balance::line::Waiting;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::Fd;
use crate::kernel::token::{Operation, Token};
use crate::session::Session;
use crate::stats::draft::Draft;

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
    /// Why connecting must be tried again, as an errno; 0 while nothing is in the way.
    pub hindered_by: i32,
    /// By side: bytes of the send in flight that are counted already.
    pub foreseen: [u16; 2],
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

/// Places that are left free before one is used again: so many more sessions it takes until an id is given out anew,
/// and so few that they stay in the cache.
const REST: usize = 256;

/// All sessions of a worker.
#[derive(Default)]
pub struct Slots {
    places: Vec<Option<Slot>>,
    /// By place: the generation of its next tenant.
    generations: Vec<u32>,
    /// Places without a tenant, that which became free first before the others.
    free: VecDeque<u32>,
}

impl Slots {
    /// Puts a session somewhere; `make` is told its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Slot) -> Key {
        let rested = if self.free.len() >= REST { self.free.pop_front() } else { None };
        let index = rested.unwrap_or_else(|| {
            self.places.push(None);
            self.generations.push(0);
            self.places.len() as u32 - 1
        });
        let generation = self.generations[index as usize];
        self.places[index as usize] = Some(make(generation));
        Key { index, generation }
    }

    pub fn remove(&mut self, key: Key) -> Option<Slot> {
        self.get(key)?;
        let index = key.index as usize;
        self.generations[index] = (key.generation + 1) % Token::GENERATIONS;
        self.free.push_back(key.index);
        self.places[index].take()
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&Slot> {
        self.places.get(key.index as usize)?.as_ref().filter(|slot| slot.generation == key.generation)
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        self.places.get_mut(key.index as usize)?.as_mut().filter(|slot| slot.generation == key.generation)
    }

    /// Whoever is at that place now.
    pub fn tenant(&self, index: u32) -> Option<Key> {
        self.places.get(index as usize)?.as_ref().map(|slot| Key { index, generation: slot.generation })
    }

    pub fn keys_where(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<Key> {
        let tenants = (0u32..).zip(&self.places).filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
        let matching = tenants.filter(|(_, slot)| wanted(slot));
        matching.map(|(index, slot)| Key { index, generation: slot.generation }).collect()
    }

    /// Places so far; every session is at one below.
    pub fn places(&self) -> u32 {
        self.generations.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
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
            foreseen: [0; 2],
            hindered_by: 0,
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
        let second = loop {
            let next = slots.insert(slot);
            if next.index == first.index {
                break next;
            }
            assert!(slots.remove(next).is_some());
        };
        assert_ne!(second.generation, first.generation);
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert!(slots.get(second).is_some());
    }

    /// A kill by the id of a session that has long ended must not hit another one.
    #[test]
    fn an_id_is_not_given_out_again_for_long() {
        let mut slots = Slots::default();
        let mut keys = Vec::new();
        for _ in 0..10 * REST {
            let key = slots.insert(slot);
            slots.remove(key);
            keys.push(key);
        }
        assert_eq!(slots.places(), REST as u32);
        assert!(keys.iter().all(|key| key.generation < 11), "each place has its turn");
        assert!(slots.is_empty());
        let kept = slots.insert(slot);
        assert!(!slots.is_empty());
        assert_eq!(slots.keys_where(|_| true), [kept]);
    }

    #[test]
    fn a_session_fits_into_the_memory_we_promise() {
        assert!(size_of::<Slot>() <= 640, "{} bytes", size_of::<Slot>());
    }
}
