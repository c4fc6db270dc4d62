//! Where a worker keeps its sessions.
//!
//! A session is found by its [`SlotKey`], place and generation, in constant time. The generation grows with each tenant
//! of a place, so a completion, a timer or a message that comes late does not reach a later session. The same two
//! numbers stand in the token of each operation.

use std::collections::VecDeque;

use super::tls_side::{TlsSide, TlsStream};
use crate::admission::Guest;
use crate::balance::line::Waiting;
use crate::balance::sticky::StickyPermit;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Fd, errno};
use crate::session::Session;
use crate::stats::draft::Draft;

/// The order in which sessions began to wait for a descriptor: a later one has a greater number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantTicket(pub(super) u64);

/// A session and what belongs to it. There are many and most are idle, so what only a few sessions have stands in
/// boxes.
pub struct Slot {
    /// What decides about it.
    pub session: Session,
    /// Its open descriptors.
    fds: Descriptors,
    /// The tenant number of its place; see [`SlotKey`].
    pub generation: u32,
    /// The listener that it came through.
    pub listener: ListenerId,
    /// The pool that serves it: the listener's, or that of its route.
    pub pool: PoolId,
    /// The way from the listener to the pool, for the counters of routes.
    pub route: RouteId,
    /// Its place among the clients that keep their backend; present once a backend was looked for in such a pool.
    pub sticky: Option<StickyPermit>,
    /// The backend that it connects to or is connected to; the last one when it is over.
    pub backend: Option<BackendId>,
    /// When it was accepted.
    pub accepted_at: Moment,
    /// When its attempt to connect began, with all tries at the same backend.
    pub connecting_at: Moment,
    /// By side: the interval in which it was read empty last, for [`silence`](super::silence); 0 if there is nothing to
    /// check.
    pub heard: [u32; 2],
    /// Sends to the backend so far, counted up to 2: before the second one its Nagle algorithm is turned off.
    pub backend_sends: u8,
    /// Whether the backend is told something before the client's bytes: see [`greet`](super::greet).
    pub greets: bool,
    /// It has been closing for such a long time that an operation in flight must have been lost.
    pub is_stuck: bool,
    /// By side: how many bytes of the send in flight were counted when it was queued.
    pub foreseen: [u16; 2],
    /// Bytes handed to the kernel, by the side they go to.
    pub bytes: [u64; 2],
    /// Present only if the first attempt to connect did not succeed immediately.
    detour: Option<Box<Detour>>,
    /// For the access log; present exactly while there is one.
    pub draft: Option<Box<Draft>>,
    /// Present only if the listener has rules for its clients or asks them for something.
    pub guest: Option<Box<Guest>>,
    /// By side: present where ringway itself speaks TLS.
    pub tls: [Option<Box<TlsSide>>; 2],
}

/// What is remembered of a session on its way to a backend, if there is something to remember.
#[derive(Debug)]
pub struct Detour {
    /// Backends that could not be connected to.
    pub tried: Vec<BackendId>,
    /// Its place in the queue of the pool.
    pub waiting: Waiting,
    /// How many source addresses had no port left in this attempt.
    pub sources_tried: u16,
    /// Why connecting must be tried again, as an errno; 0 if there is no reason.
    pub hindered_by: i32,
    /// Present while it waits for a descriptor.
    pub ticket: Option<WantTicket>,
    /// The name that the client asked for, where the backend is to be asked for the same one.
    pub asked_name: Option<Box<str>>,
    /// What a PROXY header says of the client's TLS, if it ended here.
    pub tls_values: Option<Box<[u8]>>,
}

impl Detour {
    /// The values of a session that connected at the first attempt.
    const NONE: Detour = Detour {
        tried: Vec::new(),
        waiting: Waiting::NONE,
        sources_tried: 0,
        hindered_by: 0,
        ticket: None,
        asked_name: None,
        tls_values: None,
    };
}

/// The open descriptors of a session, by side; [`Descriptors::NONE`] where there is none.
#[derive(Debug)]
struct Descriptors([i32; 2]);

impl Descriptors {
    /// No descriptor.
    const NONE: i32 = -1;
}

impl Slot {
    /// The slot of a client that was just accepted; its listener, pool and route are filled in by the caller.
    pub fn new(session: Session, client: Fd, generation: u32, now: Moment) -> Slot {
        Slot {
            session,
            fds: Descriptors([client.0, Descriptors::NONE]),
            generation,
            listener: ListenerId(0),
            pool: PoolId(0),
            route: RouteId(0),
            sticky: None,
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
            tls: [None, None],
        }
    }

    /// The descriptor of this side; `None` before it is opened and after it is closed.
    #[inline]
    pub fn fd(&self, side: Side) -> Option<Fd> {
        Some(self.fds.0[side.index()]).filter(|&fd| fd != Descriptors::NONE).map(Fd)
    }

    /// Takes the descriptor of this side out; the caller closes it.
    pub fn take_fd(&mut self, side: Side) -> Option<Fd> {
        let fd = self.fd(side);
        self.fds.0[side.index()] = Descriptors::NONE;
        fd
    }

    /// Sets the descriptor for the backend. There must be none yet.
    pub fn set_backend_fd(&mut self, fd: Fd) {
        debug_assert!(self.fd(Side::Backend).is_none());
        self.fds.0[Side::Backend.index()] = fd.0;
    }

    /// What is remembered of its way to a backend; empty values if there is nothing.
    pub fn detour(&self) -> &Detour {
        static NONE: Detour = Detour::NONE;
        self.detour.as_deref().unwrap_or(&NONE)
    }

    /// The same to write, allocated when it is first needed.
    pub fn detour_mut(&mut self) -> &mut Detour {
        self.detour.get_or_insert_with(|| Box::new(Detour::NONE))
    }

    /// Whether its next attempt to connect waits for a descriptor and for nothing else.
    pub fn wants_descriptor(&self) -> bool {
        matches!(self.detour().hindered_by, errno::EMFILE | errno::ENFILE)
    }

    /// Takes out why connecting must be tried again, as an errno; 0 if there is no reason.
    pub fn take_hindrance(&mut self) -> i32 {
        self.detour.as_mut().map_or(0, |detour| std::mem::take(&mut detour.hindered_by))
    }

    /// Begins a new attempt: every source address can be tried again.
    pub fn forget_sources(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.sources_tried = 0;
        }
    }

    /// Every backend can be tried again, because they are those of another pool.
    pub fn forget_tried(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.tried.clear();
        }
    }

    /// Takes out its place in the queue; [`Waiting::NONE`] if it does not wait.
    pub fn take_waiting(&mut self) -> Waiting {
        self.detour.as_mut().map_or(Waiting::NONE, |detour| std::mem::replace(&mut detour.waiting, Waiting::NONE))
    }

    /// It is connected, so its way there is forgotten.
    pub fn has_arrived(&mut self) {
        self.detour = None;
    }

    /// The stream of a side that speaks TLS, once its handshake is over.
    pub fn tls_stream(&mut self, side: Side) -> Option<&mut TlsStream> {
        match self.tls[side.index()].as_deref_mut()? {
            TlsSide::Open(stream) => Some(stream),
            TlsSide::Unasked(_) | TlsSide::Dialing(_) | TlsSide::Shaking(_) | TlsSide::Away(_) => None,
        }
    }

    /// Whether the handshake of a side waits for a turn that has time for it; `None` while there is no handshake.
    pub fn handshake_waits(&mut self, side: Side) -> Option<&mut bool> {
        match self.tls[side.index()].as_deref_mut()? {
            TlsSide::Shaking(shake) => Some(&mut shake.is_queued),
            TlsSide::Dialing(dial) => Some(&mut dial.is_queued),
            TlsSide::Unasked(_) | TlsSide::Away(_) | TlsSide::Open(_) => None,
        }
    }

    /// Whether something of a side came behind its handshake, and waits in the codec.
    pub fn has_tls_bytes(&self, side: Side) -> bool {
        match self.tls[side.index()].as_deref() {
            Some(TlsSide::Open(stream)) => stream.codec.has_more() || stream.codec.is_amid_record(),
            _ => false,
        }
    }

    /// Whether the backend must be asked for TLS before the client's bytes, because the client was told that TLS
    /// follows.
    pub fn asks_for_tls(&self) -> bool {
        let ends_here = self.tls[Side::Client.index()].is_some();
        !ends_here && self.guest.as_ref().is_some_and(|guest| guest.asked_for_tls())
    }

    /// Whether PostgreSQL's request for TLS goes to the backend: for the client, or because ringway goes on with TLS.
    pub fn asks_backend_for_tls(&self) -> bool {
        let dials = |dial: &TlsSide| matches!(dial, TlsSide::Dialing(dial) if dial.asks_first);
        self.asks_for_tls() || self.tls[Side::Backend.index()].as_deref().is_some_and(dials)
    }
}

/// Which session: the place in the list, and which tenant of that place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotKey {
    /// The place, as in [`Token::index`].
    pub index: u32,
    /// How many tenants the place had before, modulo [`Token::GENERATIONS`].
    pub generation: u32,
}

impl SlotKey {
    /// The token of an operation of this session.
    #[inline]
    pub fn token(self, operation: Operation) -> Token {
        Token { operation, generation: self.generation, index: self.index }
    }
}

/// How many places stay free before one is used again. More of them make it take longer until the same id appears
/// again; fewer of them stay in the cache.
const REST: usize = 256;

/// All sessions of a worker.
#[derive(Default)]
pub struct SessionSlots {
    /// By place; `None` where it is free.
    places: Vec<Option<Slot>>,
    /// By place; `None` where it is free.
    /// By place: the generation of its next tenant.
    generations: Vec<u32>,
    /// Free places, in the order in which they became free.
    free: VecDeque<u32>,
}

impl SessionSlots {
    /// Puts a session into a place. `make` is told the generation, which the slot must keep.
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

    /// Takes a session out and frees its place; `None` if that tenant is gone already.
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

    /// The session at this place now, whichever tenant it is.
    pub fn tenant(&self, index: u32) -> Option<SlotKey> {
        self.places.get(index as usize)?.as_ref().map(|slot| SlotKey { index, generation: slot.generation })
    }

    /// The keys of all sessions for which `wanted` is true. It looks at every place, so it is for rare events.
    pub fn keys_where(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<SlotKey> {
        let tenants = (0u32..).zip(&self.places).filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
        let matching = tenants.filter(|(_, slot)| wanted(slot));
        matching.map(|(index, slot)| SlotKey { index, generation: slot.generation }).collect()
    }

    /// How many places there are, free or not; every session is at one below this number.
    pub fn places(&self) -> u32 {
        self.generations.len() as u32
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All sessions, in the order of their places.
    #[cfg(debug_assertions)]
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.places.iter().flatten()
    }

    /// Asserts what holds between two calls.
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
