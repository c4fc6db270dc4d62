//! The listening sockets of a worker: what is in flight on each, and which of them must not accept now.
//!
//! Nothing here makes a system call: methods return the numbers of the sockets to arm, to cancel or to close, and
//! `accept` does it. A socket is known by its number, its place in the list; the number is also the index in the token
//! of its accept. There are two reasons not to accept, and both end by themselves:
//!
//! - *paused*: nothing is accepted on any socket until [`Acceptors::retry_at`], because descriptors or memory ran out,
//!   or the process has as many connections as it may have;
//! - *held*: one listener has as many connections as it may have.

use std::sync::Arc;

use super::early::Early;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::kernel::Fd;
use crate::snapshot::table::{ListenerEntry, Table};

/// A listening socket of a worker.
pub struct ListenSocket {
    /// The listener to which its connections belong.
    pub listener: ListenerId,
    /// The number of the address that it is bound to. Each worker has one socket per address.
    pub address: u32,
    /// The socket. Unix sockets are shared by all workers.
    pub fd: Fd,
    /// Closes the descriptor when it is dropped, which happens when no worker has the socket any more.
    pub owner: Arc<dyn Send + Sync>,
}

/// One listening socket of this worker.
struct Acceptor {
    /// The listener to which its connections belong.
    listener: ListenerId,
    /// The number of its address; see [`ListenSocket::address`].
    address: u32,
    /// No connection is wanted any more; it is closed once nothing is in flight.
    closing: bool,
    /// `None` once it is closed.
    fd: Option<(Fd, Arc<dyn Send + Sync>)>,
    /// `Some` exactly when something is in flight.
    armed: Option<ArmedAccept>,
    /// Its listener has as many connections as it can have, so it must not be armed.
    held: bool,
}

/// What is in flight on a listening socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ArmedAccept {
    /// An accept that brings every connection there is.
    All,
    /// An accept of that kind that was cancelled and has not ended yet.
    Ending,
    /// A poll that is answered when clients wait: near a limit no connection is taken before there is room for it.
    Ask,
}

/// All listening sockets of a worker.
pub(super) struct Acceptors {
    /// By number, closed ones included.
    list: Vec<Acceptor>,
    /// Connections that were accepted although a limit was reached.
    early: Early,
    /// By listener, as of the table that was seen last.
    bounds: Vec<Bound>,
    /// Connections that can arrive before the workers react, over all listeners and workers.
    burst: u64,
    /// No connection is wanted any more.
    closing: bool,
    /// Nothing is accepted before this moment; [`Moment::NEVER`] if nothing is in the way.
    retry_at: Moment,
    /// When held listeners are looked at next; [`Moment::NEVER`] if none is held.
    held_until: Moment,
}

/// How many connections a listener can have, and how many can arrive before the workers react.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    /// Client connections of this listener; `u32::MAX` means that there is no limit.
    pub most: u32,
    /// Connections that its backlogs can hold, over all workers.
    pub burst: u64,
}

impl Acceptor {
    /// A socket that is not being accepted from yet.
    fn new(socket: ListenSocket) -> Acceptor {
        let ListenSocket { listener, address, fd, owner } = socket;
        Acceptor { listener, address, closing: false, fd: Some((fd, owner)), armed: None, held: false }
    }
}

/// What happens to a listening socket after an answer of its accept was handled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Its accept goes on.
    GoesOn,
    /// It is no longer wanted, and nothing is in flight.
    Close,
    /// It may accept again.
    Arm,
    /// It waits for room.
    Rest,
}

impl Acceptors {
    /// The sockets that a worker starts with. Nothing is armed yet.
    pub fn new(sockets: Vec<ListenSocket>) -> Acceptors {
        let list = sockets.into_iter().map(Acceptor::new).collect();
        let (retry_at, held_until) = (Moment::NEVER, Moment::NEVER);
        let (early, bounds) = (Early::default(), Vec::new());
        Acceptors { list, early, bounds, burst: 0, closing: false, retry_at, held_until }
    }

    /// Takes the limits of each listener from a table. `backlog_max` is the kernel's own bound of a backlog
    /// (`net.core.somaxconn`), `connections_max` is the limit of the whole process.
    pub fn learn(&mut self, table: &Table, workers: usize, backlog_max: u32, connections_max: u64) {
        let listeners = table.listeners.iter().flatten().filter(|entry| !entry.retired).count();
        let share = if listeners > 1 { most_of_one(connections_max) } else { u32::MAX };
        let bound = |entry: &Option<ListenerEntry>| {
            let Some(entry) = entry else { return Bound::default() };
            let most = entry.connections_max.map_or(share, |most| most.get().min(share));
            let addresses = u64::from(entry.addresses) * workers as u64;
            // The kernel takes one more than it was told.
            Bound { most, burst: (u64::from(entry.backlog.min(backlog_max)) + 1) * addresses }
        };
        self.bounds = table.listeners.iter().map(bound).collect();
        self.burst = self.bounds.iter().map(|bound| bound.burst).sum();
    }

    /// The limit and the burst of a listener, as of the last table; zeros for a listener that the table does not know.
    pub fn bound(&self, listener: ListenerId) -> Bound {
        self.bounds.get(listener.index()).copied().unwrap_or_default()
    }

    /// Whether this worker has stopped accepting for good.
    pub fn are_closing(&self) -> bool {
        self.closing
    }

    /// Connections that come to this address belong to another listener now.
    pub fn assign(&mut self, address: u32, listener: ListenerId) {
        let is_it = |acceptor: &&mut Acceptor| acceptor.address == address && !acceptor.closing;
        self.list.iter_mut().filter(is_it).for_each(|acceptor| acceptor.listener = listener);
    }

    /// When the worker has to look at pauses and held listeners next; [`Moment::NEVER`] if there are none.
    pub fn retry_at(&self) -> Moment {
        self.retry_at.min(self.held_until)
    }

    /// Whether every socket is closed and nothing is in flight on any of them.
    pub fn are_closed(&self) -> bool {
        self.list.iter().all(|acceptor| acceptor.fd.is_none() && acceptor.armed.is_none())
    }

    /// Listening sockets that are open.
    #[cfg(debug_assertions)]
    pub fn descriptors(&self) -> impl Iterator<Item = Fd> {
        self.list.iter().filter_map(|acceptor| acceptor.fd.as_ref()).map(|(fd, _)| *fd)
    }

    /// How many socket numbers have been used, including those of closed sockets.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The socket and its listener, if it can be armed: it is open and wanted, its listener is not held, nothing is in
    /// flight. Pauses are the caller's business.
    pub fn to_arm(&self, index: usize) -> Option<(Fd, ListenerId)> {
        let acceptor = &self.list[index];
        let is_free = acceptor.armed.is_none() && !acceptor.closing && !acceptor.held;
        acceptor.fd.as_ref().filter(|_| is_free).map(|(fd, _)| (*fd, acceptor.listener))
    }

    /// Notes what is in flight on this socket now.
    pub fn is_armed(&mut self, index: usize, armed: ArmedAccept) {
        debug_assert!(self.list[index].armed.is_none());
        self.list[index].armed = Some(armed);
    }

    /// Notes an answer. Returns the listener of the socket and what was in flight, which is still so if `more` answers
    /// follow.
    pub fn answered(&mut self, index: usize, more: bool) -> Option<(ListenerId, Option<ArmedAccept>)> {
        let acceptor = self.list.get_mut(index)?;
        let armed = if more { acceptor.armed } else { acceptor.armed.take() };
        Some((acceptor.listener, armed))
    }

    /// What to do with a socket after an answer of it was handled.
    pub fn next(&self, index: usize) -> Next {
        let acceptor = &self.list[index];
        match acceptor.armed {
            Some(_) => Next::GoesOn,
            None if acceptor.closing => Next::Close,
            None if self.is_paused() => Next::Rest,
            None => Next::Arm,
        }
    }

    /// The socket to take one more connection from, and its listener; `None` if it is closing or held.
    pub fn to_take_from(&self, index: usize) -> Option<(Fd, ListenerId)> {
        let acceptor = &self.list[index];
        let is_wanted = !acceptor.closing && !acceptor.held;
        acceptor.fd.as_ref().filter(|_| is_wanted).map(|(fd, _)| (*fd, acceptor.listener))
    }

    /// Finds the multishot accepts whose listeners have come near a limit, and notes that they are ending. The caller
    /// cancels them.
    pub fn end_near(&mut self, is_near: impl Fn(ListenerId) -> bool) -> Vec<usize> {
        let mut ending = Vec::new();
        for (index, acceptor) in self.list.iter_mut().enumerate() {
            if acceptor.armed == Some(ArmedAccept::All) && is_near(acceptor.listener) {
                acceptor.armed = Some(ArmedAccept::Ending);
                ending.push(index);
            }
        }
        ending
    }

    /// Adds a socket and returns its number. The number of a closed socket with nothing in flight is used again, so
    /// reloads do not make the list longer.
    pub fn open(&mut self, socket: ListenSocket) -> usize {
        let is_free = |acceptor: &Acceptor| acceptor.fd.is_none() && acceptor.armed.is_none();
        let index = self.list.iter().position(is_free);
        match index {
            Some(index) => self.list[index] = Acceptor::new(socket),
            None => self.list.push(Acceptor::new(socket)),
        }
        index.unwrap_or(self.list.len() - 1)
    }

    /// The numbers of the sockets that are bound to this address.
    pub fn of_address(&self, address: u32) -> Vec<usize> {
        self.indexes(|acceptor| acceptor.address == address)
    }

    /// Notes that a socket is no longer wanted. `Some(true)`: cancel its accept first, then close it. `Some(false)`:
    /// close it now. `None`: it was being closed already.
    pub fn terminate(&mut self, index: usize) -> Option<bool> {
        let acceptor = &mut self.list[index];
        let is_new = !std::mem::replace(&mut acceptor.closing, true);
        is_new.then_some(acceptor.armed.is_some())
    }

    /// A socket that is about to be closed, and its listener: the caller takes the clients that wait in its backlog.
    pub fn to_empty(&self, index: usize) -> Option<(Fd, ListenerId)> {
        let acceptor = &self.list[index];
        acceptor.fd.as_ref().map(|(fd, _)| (*fd, acceptor.listener))
    }

    /// Closes a socket on which nothing is in flight.
    pub fn close(&mut self, index: usize) {
        debug_assert!(self.list[index].armed.is_none(), "closed with an accept in flight");
        self.list[index].fd = None;
    }

    /// Notes that no connection is wanted any more. True if that is new.
    pub fn begin_to_close(&mut self) -> bool {
        !std::mem::replace(&mut self.closing, true)
    }

    /// Whether nothing is accepted before [`Acceptors::retry_at`].
    pub fn is_paused(&self) -> bool {
        self.retry_at != Moment::NEVER
    }

    /// Accepts nothing before this moment. Returns the sockets whose accepts the caller must cancel.
    pub fn pause(&mut self, until: Moment) -> Vec<usize> {
        let is_new = !self.is_paused();
        self.retry_at = self.retry_at.min(until);
        if is_new { self.indexes(|acceptor| acceptor.armed.is_some()) } else { Vec::new() }
    }

    /// Holds a listener that has no room, until the worker looks at that moment. Returns the sockets whose accepts the
    /// caller must cancel.
    pub fn hold(&mut self, listener: ListenerId, until: Moment) -> Vec<usize> {
        self.held_until = self.held_until.min(until);
        let is_new = |acceptor: &Acceptor| acceptor.listener == listener && !acceptor.held;
        let ending = self.indexes(|acceptor| is_new(acceptor) && acceptor.armed.is_some());
        let of_it = |acceptor: &&mut Acceptor| acceptor.listener == listener;
        self.list.iter_mut().filter(of_it).for_each(|acceptor| acceptor.held = true);
        ending
    }

    /// Releases listeners that have room again and of which no connection waits in `early`. Returns the sockets that
    /// can be armed, and whether others are still held.
    pub fn release_held(&mut self, is_full: impl Fn(ListenerId, u32) -> bool) -> (Vec<usize>, bool) {
        let mut free = Vec::new();
        for index in 0..self.list.len() {
            let acceptor = &self.list[index];
            if !acceptor.held {
                continue;
            }
            let listener = acceptor.listener;
            let is_full = self.early.has(listener) || is_full(listener, self.bound(listener).most);
            // A socket that is closing must not stay held: its listener will not be looked at again.
            if acceptor.closing || !is_full {
                self.list[index].held = false;
                free.push(index);
            }
        }
        (free, self.list.iter().any(|acceptor| acceptor.held))
    }

    /// There may be room now: pauses and held listeners are looked at in this turn.
    pub fn look_now(&mut self, now: Moment) {
        for at in [&mut self.retry_at, &mut self.held_until] {
            if *at != Moment::NEVER {
                *at = now;
            }
        }
    }

    /// Whether a pause is over.
    pub fn may_resume(&self, now: Moment) -> bool {
        now >= self.retry_at
    }

    /// Lets the pause go on until this moment. [`Moment::NEVER`] ends it.
    pub fn resume_at(&mut self, at: Moment) {
        self.retry_at = at;
    }

    /// Whether the worker must look at held listeners.
    pub fn has_held_due(&self, now: Moment) -> bool {
        now >= self.held_until
    }

    /// Sets when held listeners are looked at next; [`Moment::NEVER`] if none is held.
    pub fn look_at_held_at(&mut self, at: Moment) {
        self.held_until = at;
    }

    /// Forgets pauses and holds: no connection waits, and no more will come.
    pub fn wait_for_nothing(&mut self) {
        (self.retry_at, self.held_until) = (Moment::NEVER, Moment::NEVER);
    }

    /// The connections that were accepted although a limit was reached.
    pub fn early(&mut self) -> &mut Early {
        &mut self.early
    }

    /// Whether a connection of this listener was accepted beyond a limit and still waits.
    pub fn has_early(&self, listener: ListenerId) -> bool {
        self.early.has(listener)
    }

    /// Listeners that the table knows.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> + use<> {
        (0..self.bounds.len() as u32).map(ListenerId)
    }

    /// Connections that can arrive before the workers react, over all listeners and workers.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// The numbers of the sockets for which `which` is true.
    fn indexes(&self, which: impl Fn(&Acceptor) -> bool) -> Vec<usize> {
        self.list.iter().enumerate().filter(|(_, acceptor)| which(acceptor)).map(|(index, _)| index).collect()
    }
}

/// How many of the process's connections one of several listeners can have: all but a sixteenth, which stays for the
/// others, so that a flood of one listener does not close all of them.
fn most_of_one(connections_max: u64) -> u32 {
    u32::try_from(connections_max - connections_max / 16).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ListenerId = ListenerId(0);
    const OTHER: ListenerId = ListenerId(1);

    fn acceptors() -> Acceptors {
        let socket =
            |address, listener| ListenSocket { listener, address, fd: Fd(address as i32), owner: Arc::new(()) };
        Acceptors::new(vec![socket(10, ONE), socket(11, OTHER), socket(12, ONE)])
    }

    #[test]
    fn a_socket_is_closed_when_its_accept_has_ended_and_its_place_is_used_again() {
        let mut acceptors = acceptors();
        assert_eq!(acceptors.to_arm(1), Some((Fd(11), OTHER)));
        acceptors.is_armed(1, ArmedAccept::All);
        assert_eq!(acceptors.terminate(1), Some(true), "its accept must be cancelled");
        assert_eq!(acceptors.terminate(1), None, "once");
        assert_eq!(acceptors.answered(1, true), Some((OTHER, Some(ArmedAccept::All))));
        assert_eq!(acceptors.next(1), Next::GoesOn);
        assert_eq!(acceptors.answered(1, false), Some((OTHER, Some(ArmedAccept::All))));
        assert_eq!(acceptors.next(1), Next::Close);
        acceptors.close(1);
        assert_eq!(acceptors.terminate(0), Some(false), "nothing is in flight");
        assert!(acceptors.to_empty(0).is_some());
        acceptors.close(0);
        assert!(!acceptors.are_closed());
        let socket = ListenSocket { listener: ONE, address: 20, fd: Fd(20), owner: Arc::new(()) };
        assert_eq!((acceptors.open(socket), acceptors.len()), (0, 3));
        assert_eq!(acceptors.of_address(20), [0]);
    }

    #[test]
    fn a_listener_without_room_is_held_until_it_has_some() {
        let mut acceptors = acceptors();
        (0..3).for_each(|index| acceptors.is_armed(index, ArmedAccept::All));
        assert_eq!(acceptors.hold(ONE, Moment(50)), [0, 2]);
        assert_eq!(acceptors.hold(ONE, Moment(60)), [] as [usize; 0], "it is held already");
        assert_eq!((acceptors.retry_at(), acceptors.to_take_from(0)), (Moment(50), None));
        assert_eq!(acceptors.release_held(|_, _| true), (vec![], true));
        assert_eq!(acceptors.release_held(|_, _| false), (vec![0, 2], false));
        acceptors.early().push(Fd(99), ONE);
        acceptors.hold(ONE, Moment(60));
        assert_eq!(acceptors.release_held(|_, _| false), (vec![], true), "a client of it came before");
    }

    #[test]
    fn one_of_several_listeners_leaves_the_others_a_part() {
        assert_eq!([0, 1, 15, 16, 1600].map(most_of_one), [0, 1, 15, 15, 1500]);
        assert_eq!(most_of_one(1 << 40), u32::MAX, "no limit");
    }

    #[test]
    fn a_pause_cancels_every_accept_once_and_ends_at_the_first_moment() {
        let mut acceptors = acceptors();
        acceptors.is_armed(1, ArmedAccept::Ask);
        assert_eq!(acceptors.pause(Moment(70)), [1]);
        assert_eq!(acceptors.pause(Moment(90)), [] as [usize; 0]);
        assert!(acceptors.is_paused() && !acceptors.may_resume(Moment(69)) && acceptors.may_resume(Moment(70)));
        acceptors.answered(1, false);
        assert_eq!(acceptors.next(1), Next::Rest);
        acceptors.resume_at(Moment::NEVER);
        assert_eq!(acceptors.next(1), Next::Arm);
    }

    #[test]
    fn near_a_limit_only_accepts_that_bring_everything_end() {
        let mut acceptors = acceptors();
        acceptors.is_armed(0, ArmedAccept::All);
        acceptors.is_armed(2, ArmedAccept::Ask);
        assert_eq!(acceptors.end_near(|listener| listener == ONE), [0]);
        assert_eq!(acceptors.end_near(|listener| listener == ONE), [] as [usize; 0]);
        assert_eq!(acceptors.answered(0, false), Some((ONE, Some(ArmedAccept::Ending))));
    }
}
