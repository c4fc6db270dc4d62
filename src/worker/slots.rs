//! Where a worker keeps its sessions.

use std::collections::VecDeque;

use crate::admission::Guest;
use crate::balance::line::Waiting;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Fd, errno};
use crate::session::Session;
use crate::stats::draft::Draft;

/// When a session began to wait for a descriptor: the later, the greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantTicket(pub(super) u64);

/// A session and what belongs to it. There are many, and most are idle: what only a few have is in boxes.
pub struct Slot {
    pub session: Session,
    fds: Descriptors,
    pub generation: u32,
    pub listener: ListenerId,
    pub pool: PoolId,
    /// From the listener to the pool.
    pub route: RouteId,
    /// The backend that is being connected to, or was.
    pub backend: Option<BackendId>,
    pub accepted_at: Moment,
    pub connecting_at: Moment,
    /// By side: when it was read empty last, for [`silence`](super::silence); 0 if it need not be looked after.
    pub heard: [u32; 2],
    /// Sends to the backend so far, up to 2: before the second one, its Nagle algorithm is turned off.
    pub backend_sends: u8,
    /// The backend is told something before the client's bytes: see [`greet`](super::greet).
    pub greets: bool,
    /// It has been closing for so long that something in flight must have been lost.
    pub is_stuck: bool,
    /// By side: bytes of the send in flight that are counted already.
    pub foreseen: [u16; 2],
    /// Bytes handed to the kernel, by the side they go to.
    pub bytes: [u64; 2],
    /// Only of a session whose first attempt to connect did not succeed at once.
    detour: Option<Box<Detour>>,
    /// For the access log; exactly while there is one.
    pub draft: Option<Box<Draft>>,
    /// Of a listener that asks its clients for something.
    pub guest: Option<Box<Guest>>,
}

/// What is remembered of a session on its way to a backend, if there is something to remember.
#[derive(Debug)]
pub struct Detour {
    /// Backends that failed to connect.
    pub tried: Vec<BackendId>,
    pub waiting: Waiting,
    /// Addresses to connect from that had no port left, in this attempt.
    pub sources_tried: u16,
    /// Why connecting must be tried again, as an errno; 0 while nothing is in the way.
    pub hindered_by: i32,
    /// It waits for a descriptor.
    pub ticket: Option<WantTicket>,
}

impl Detour {
    const NONE: Detour =
        Detour { tried: Vec::new(), waiting: Waiting::NONE, sources_tried: 0, hindered_by: 0, ticket: None };
}

/// The open descriptors of a session, by side.
#[derive(Debug)]
struct Descriptors([i32; 2]);

impl Descriptors {
    const NONE: i32 = -1;
}

impl Slot {
    /// Of a client that was accepted just now.
    pub fn new(session: Session, client: Fd, generation: u32, now: Moment) -> Slot {
        Slot {
            session,
            fds: Descriptors([client.0, Descriptors::NONE]),
            generation,
            listener: ListenerId(0),
            pool: PoolId(0),
            route: RouteId(0),
            backend: None,
            accepted_at: now,
            connecting_at: now,
            heard: [0; 2],
            backend_sends: 0,
            greets: false,
            is_stuck: false,
            foreseen: [0; 2],
            bytes: [0; 2],
            detour: None,
            draft: None,
            guest: None,
        }
    }

    /// The descriptor of that side; `None` before there is one and after its close.
    #[inline]
    pub fn fd(&self, side: Side) -> Option<Fd> {
        Some(self.fds.0[side.index()]).filter(|&fd| fd != Descriptors::NONE).map(Fd)
    }

    /// Takes the descriptor of that side out, to close it.
    pub fn take_fd(&mut self, side: Side) -> Option<Fd> {
        let fd = self.fd(side);
        self.fds.0[side.index()] = Descriptors::NONE;
        fd
    }

    /// There is a connection to the backend, or will be.
    pub fn set_backend_fd(&mut self, fd: Fd) {
        debug_assert!(self.fd(Side::Backend).is_none());
        self.fds.0[Side::Backend.index()] = fd.0;
    }

    /// What is remembered of its way to a backend.
    pub fn detour(&self) -> &Detour {
        static NONE: Detour = Detour::NONE;
        self.detour.as_deref().unwrap_or(&NONE)
    }

    /// What is to be remembered of its way to a backend.
    pub fn detour_mut(&mut self) -> &mut Detour {
        self.detour.get_or_insert_with(|| Box::new(Detour::NONE))
    }

    /// Whether a descriptor is all that its next attempt to connect waits for.
    pub fn wants_descriptor(&self) -> bool {
        matches!(self.detour().hindered_by, errno::EMFILE | errno::ENFILE)
    }

    /// Why connecting must be tried again, which is told once; 0 if nothing was in the way.
    pub fn take_hindrance(&mut self) -> i32 {
        self.detour.as_mut().map_or(0, |detour| std::mem::take(&mut detour.hindered_by))
    }

    /// A new attempt to connect: every address to connect from may be taken.
    pub fn forget_sources(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.sources_tried = 0;
        }
    }

    /// Where it waited, and no longer does.
    pub fn take_waiting(&mut self) -> Waiting {
        self.detour.as_mut().map_or(Waiting::NONE, |detour| std::mem::replace(&mut detour.waiting, Waiting::NONE))
    }

    /// It has its backend.
    pub fn has_arrived(&mut self) {
        self.detour = None;
    }

    /// Whether the backend must be asked for TLS before the client's bytes, as the client was told to go on.
    pub fn asks_for_tls(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.asked_for_tls())
    }
}

/// A session by its place and the tenant of the place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotKey {
    pub index: u32,
    pub generation: u32,
}

impl SlotKey {
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
pub struct SessionSlots {
    places: Vec<Option<Slot>>,
    /// By place: the generation of its next tenant.
    generations: Vec<u32>,
    /// Places without a tenant, that which became free first before the others.
    free: VecDeque<u32>,
}

impl SessionSlots {
    /// Puts a session somewhere; `make` is told its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Slot) -> SlotKey {
        let rested = if self.free.len() >= REST { self.free.pop_front() } else { None };
        let index = rested.unwrap_or_else(|| {
            self.places.push(None);
            self.generations.push(0);
            self.places.len() as u32 - 1
        });
        let generation = self.generations[index as usize];
        self.places[index as usize] = Some(make(generation));
        SlotKey { index, generation }
    }

    pub fn remove(&mut self, key: SlotKey) -> Option<Slot> {
        self.get(key)?;
        let index = key.index as usize;
        self.generations[index] = (key.generation + 1) % Token::GENERATIONS;
        self.free.push_back(key.index);
        self.places[index].take()
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get(&self, key: SlotKey) -> Option<&Slot> {
        self.places.get(key.index as usize)?.as_ref().filter(|slot| slot.generation == key.generation)
    }

    /// `None` if that tenant is gone.
    #[inline]
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut Slot> {
        self.places.get_mut(key.index as usize)?.as_mut().filter(|slot| slot.generation == key.generation)
    }

    /// Whoever is at that place now.
    pub fn tenant(&self, index: u32) -> Option<SlotKey> {
        self.places.get(index as usize)?.as_ref().map(|slot| SlotKey { index, generation: slot.generation })
    }

    pub fn keys_where(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<SlotKey> {
        let tenants = (0u32..).zip(&self.places).filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
        let matching = tenants.filter(|(_, slot)| wanted(slot));
        matching.map(|(index, slot)| SlotKey { index, generation: slot.generation }).collect()
    }

    /// Places so far; every session is at one below.
    pub fn places(&self) -> u32 {
        self.generations.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All sessions.
    #[cfg(debug_assertions)]
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter().flatten()
    }

    /// What holds between two calls.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        assert_eq!(self.places.len(), self.generations.len(), "a place without a generation");
        assert_eq!(self.iter().count(), self.len(), "places with a tenant, and those that are not free");
        let is_free = |&index: &u32| self.places[index as usize].is_none();
        assert!(self.free.iter().all(is_free), "a free place has a tenant");
        let tenants = self.places.iter().zip(&self.generations).filter_map(|(slot, next)| Some((slot.as_ref()?, next)));
        assert!(tenants.into_iter().all(|(slot, &next)| slot.generation == next), "two tenants are called the same");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionLimits;

    fn slot(generation: u32) -> Slot {
        Slot::new(Session::new(SessionLimits::default(), 0, Moment(0)), Fd(3), generation, Moment(0))
    }

    #[test]
    fn a_key_opens_its_own_tenant_only() {
        let mut slots = SessionSlots::default();
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
        let mut slots = SessionSlots::default();
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
        // With its entry in the wheel, and its generation.
        let idle = size_of::<Option<Slot>>() + 12 + 4;
        assert!(idle <= 304, "{idle} bytes");
        // Each in a block of the allocator, which takes eight bytes of its own and rounds up to sixteen.
        let block = |size: usize| (size + 8).next_multiple_of(16);
        let all = idle + block(size_of::<Guest>()) + block(size_of::<Draft>());
        assert!(all <= 512, "{all} bytes with a rule and the access log");
    }
}
