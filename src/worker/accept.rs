//! New connections: accepting them, handing them to a less loaded worker, and not accepting them.

use std::sync::Arc;

use super::Worker;
use super::early::Early;
use super::slots::Slot;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Completion, Fd, Interest, Kernel, Op, Options, Pipes, Sockets, errno};
use crate::session::{Event, Session};
use crate::snapshot::table::{ListenerEntry, Phase, Table};

/// After a descriptor or memory could not be had.
const EXHAUSTED_RETRY_NS: u64 = 100_000_000;
/// Connections that are taken one by one before others are looked at.
const ACCEPTS_MAX: usize = 16;

/// A listening socket of a worker.
pub struct ListenSocket {
    /// Whose connections come from it.
    pub listener: ListenerId,
    /// Number of the address it is bound to; each worker has one socket of it.
    pub address: u32,
    /// The socket. Unix sockets are shared by all workers.
    pub fd: Fd,
    /// Who closes it, when nobody has it any more.
    pub owner: Arc<dyn Send + Sync>,
}

/// What a worker is to do, mostly with its listening sockets.
pub enum Errand {
    /// Accept from this one too.
    Open(ListenSocket),
    /// Connections that come to this address belong to another listener now.
    Assign {
        /// See [`ListenSocket::address`].
        address: u32,
        /// Whose they are.
        listener: ListenerId,
    },
    /// Accept no more from this address.
    Close {
        /// See [`ListenSocket::address`].
        address: u32,
    },
    /// Something that each thread can only do for itself. It must not wait.
    Run(Box<dyn FnOnce() + Send>),
}

struct Acceptor {
    listener: ListenerId,
    address: u32,
    /// No connection is wanted any more; it is closed once nothing is in flight.
    closing: bool,
    /// `None` once it is closed.
    fd: Option<(Fd, Arc<dyn Send + Sync>)>,
    /// `Some` exactly when something is in flight.
    armed: Option<Armed>,
    /// Its listener has as many connections as it may have.
    held: bool,
}

/// What is in flight on a listening socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Armed {
    /// An accept that brings every connection there is.
    All,
    /// Likewise, and it was cancelled.
    Ending,
    /// A poll that says that somebody is there: near a limit, no connection is taken before there is room for it.
    Ask,
}

/// All listening sockets of a worker.
pub(super) struct Acceptors {
    list: Vec<Acceptor>,
    /// Accepted beyond a limit all the same.
    pub(super) early: Early,
    /// By listener, as of the table that was seen last.
    bounds: Vec<Bound>,
    /// Connections that can come at once, over all listeners and workers.
    burst: u64,
    /// No connection is wanted any more.
    closing: bool,
    /// Nothing is accepted before this moment; [`Moment::NEVER`] if nothing is in the way.
    pub(super) retry_at: Moment,
    /// Listeners that are held are looked at then; [`Moment::NEVER`] if none is.
    pub(super) held_until: Moment,
}

/// What a listener may have, and what may come at once.
#[derive(Clone, Copy, Debug, Default)]
struct Bound {
    /// Client connections; `u32::MAX` is no limit.
    most: u32,
    /// Connections that its backlogs can hold, over all workers.
    burst: u64,
}

impl Acceptor {
    fn new(socket: ListenSocket) -> Acceptor {
        let ListenSocket { listener, address, fd, owner } = socket;
        Acceptor { listener, address, closing: false, fd: Some((fd, owner)), armed: None, held: false }
    }
}

impl Acceptors {
    pub fn new(sockets: Vec<ListenSocket>) -> Acceptors {
        let list = sockets.into_iter().map(Acceptor::new).collect();
        let (retry_at, held_until) = (Moment::NEVER, Moment::NEVER);
        let (early, bounds) = (Early::default(), Vec::new());
        Acceptors { list, early, bounds, burst: 0, closing: false, retry_at, held_until }
    }

    /// The kernel lets no backlog be longer than `backlog_max`.
    fn learn(&mut self, table: &Table, workers: usize, backlog_max: u32) {
        let bound = |entry: &Option<ListenerEntry>| {
            let Some(entry) = entry else { return Bound::default() };
            let most = entry.connections_max.map_or(u32::MAX, |most| most.get());
            let addresses = u64::from(entry.addresses) * workers as u64;
            // The kernel takes one more than it was told.
            Bound { most, burst: (u64::from(entry.backlog.min(backlog_max)) + 1) * addresses }
        };
        self.bounds = table.listeners.iter().map(bound).collect();
        self.burst = self.bounds.iter().map(|bound| bound.burst).sum();
    }

    fn bound(&self, listener: ListenerId) -> Bound {
        self.bounds.get(listener.index()).copied().unwrap_or_default()
    }

    pub fn retry_at(&self) -> Moment {
        self.retry_at.min(self.held_until)
    }

    pub fn are_closed(&self) -> bool {
        self.list.iter().all(|acceptor| acceptor.fd.is_none() && acceptor.armed.is_none())
    }
}

impl<K: Kernel> Worker<K> {
    pub(super) fn open_listeners(&mut self) {
        for index in 0..self.acceptors.list.len() {
            self.arm_acceptor(index);
        }
    }

    fn arm_acceptor(&mut self, index: usize) {
        let acceptor = &self.acceptors.list[index];
        if acceptor.armed.is_some() || acceptor.closing || acceptor.held {
            return;
        }
        let Some(fd) = acceptor.fd.as_ref().map(|(fd, _)| *fd) else { return };
        let token = Token::plain(Operation::Accept, index as u32);
        let listener = acceptor.listener;
        self.watch_room(listener);
        let armed = if self.shared.counts.is_near_limit(listener) { Armed::Ask } else { Armed::All };
        match armed {
            Armed::Ask => self.kernel.poll(fd, Interest::Acceptable, token),
            Armed::All | Armed::Ending => self.kernel.push(token, Op::Accept { fd }),
        }
        self.acceptors.list[index].armed = Some(armed);
    }

    /// Finds out whether more connections could come at once than there is room for. If so, every worker is told, as
    /// the next ones may all come to another one. It takes a little more room to leave a limit than to come near it.
    fn watch_room(&self, listener: ListenerId) {
        let (shared, bound) = (&self.shared, self.acceptors.bound(listener));
        let (of_process, of_listener) = (&shared.counts.process, shared.counts.listeners.get(listener.index()));
        let room = shared.connections_max.saturating_sub(shared.counts.process_connections());
        let is_new = of_process.nearness.update(room, self.acceptors.burst);
        let room = bound.most.saturating_sub(shared.counts.listener_connections(listener));
        let room = if bound.most == u32::MAX { u64::MAX } else { u64::from(room) };
        if of_listener.nearness.update(room, bound.burst) || is_new {
            shared.wake();
        }
    }

    /// Has listeners that have come near a limit bring one connection at a time. To be called when this worker was
    /// woken, as another one may have seen it.
    fn leave_room(&mut self) {
        for (index, acceptor) in self.acceptors.list.iter_mut().enumerate() {
            if acceptor.armed == Some(Armed::All) && self.shared.counts.is_near_limit(acceptor.listener) {
                self.kernel.cancel(Token::plain(Operation::Accept, index as u32));
                acceptor.armed = Some(Armed::Ending);
            }
        }
    }

    /// Takes over what a table says of limits and backlogs.
    pub(super) fn learn_bounds(&mut self) {
        self.acceptors.learn(self.reader.table(), self.shared.workers(), self.shared.backlog_max);
        (0..self.acceptors.bounds.len()).for_each(|index| self.watch_room(ListenerId(index as u32)));
        self.leave_room();
    }

    /// An accept brought a connection, or failed; or somebody is there.
    pub(super) fn accepted(&mut self, completion: Completion) {
        let index = completion.token.index as usize;
        let Some(acceptor) = self.acceptors.list.get_mut(index) else { return };
        let (listener, armed) = (acceptor.listener, acceptor.armed);
        if !completion.more {
            acceptor.armed = None;
        }
        match (completion.result, armed) {
            (0.., Some(Armed::Ask)) => self.knocked(index),
            (fd @ 0.., _) => {
                self.count_accepted(listener);
                self.arrived(Fd(fd), listener);
            }
            (error, _) => self.accept_failed(listener, -error),
        }
        let acceptor = &self.acceptors.list[index];
        match acceptor.armed {
            Some(_) => self.watch_room(listener),
            None if acceptor.closing => self.close_acceptor(index),
            None if self.acceptors.retry_at == Moment::NEVER => self.arm_acceptor(index),
            None => {}
        }
    }

    fn count_accepted(&self, listener: ListenerId) {
        self.stats().worker.accepted.add(1);
        self.stats().listeners.get(listener.index()).connections_total.add(1);
    }

    fn accept_failed(&mut self, listener: ListenerId, error: i32) {
        if error == errno::ECANCELED {
            return;
        }
        self.stats().listeners.get(listener.index()).accept_errors.add(1);
        // A connection that was reset in the backlog is no reason to stop.
        if error != errno::ECONNABORTED && error != errno::EINTR {
            self.kernel.pipes().shrink();
            self.pause(EXHAUSTED_RETRY_NS);
        }
    }

    /// Somebody is there, near a limit: takes connections one by one, each after its place.
    fn knocked(&mut self, index: usize) {
        for _ in 0..ACCEPTS_MAX {
            let acceptor = &self.acceptors.list[index];
            if acceptor.closing || acceptor.held {
                return;
            }
            let Some(fd) = acceptor.fd.as_ref().map(|(fd, _)| *fd) else { return };
            let listener = acceptor.listener;
            if let Err(full) = self.reserve(listener) {
                return self.look_again(full, listener);
            }
            match self.kernel.sockets().accept(fd) {
                Ok(fd) => {
                    self.count_accepted(listener);
                    self.place(fd, listener);
                }
                Err(error) => {
                    self.give_back(listener);
                    // Another worker may have been faster, or the client has gone.
                    return match error.raw_os_error() {
                        Some(errno::EAGAIN) => {}
                        error => self.accept_failed(listener, error.unwrap_or(errno::EINVAL)),
                    };
                }
            }
        }
    }

    /// Does what control wants of the listening sockets. To be called when it has woken this worker.
    pub(super) fn run_errands(&mut self) {
        // The table that knows the listeners was published before they were sent.
        self.reader.let_go();
        self.leave_room();
        while let Some(errand) = self.shared.next_errand(self.index) {
            match errand {
                // A worker that ends opens nothing.
                Errand::Open(_) if self.acceptors.closing => {}
                Errand::Open(socket) => self.open_listener(socket),
                Errand::Run(task) => task(),
                Errand::Assign { address, listener } => {
                    let is_it = |acceptor: &&mut Acceptor| acceptor.address == address && !acceptor.closing;
                    self.acceptors.list.iter_mut().filter(is_it).for_each(|acceptor| acceptor.listener = listener);
                    self.look_at_held();
                }
                Errand::Close { address } => {
                    for index in 0..self.acceptors.list.len() {
                        if self.acceptors.list[index].address == address {
                            self.terminate_acceptor(index);
                        }
                    }
                }
            }
        }
    }

    fn open_listener(&mut self, socket: ListenSocket) {
        // The place of one that is closed, with nothing in flight, is free: reloads do not make the list longer.
        let is_free = |acceptor: &Acceptor| acceptor.fd.is_none() && acceptor.armed.is_none();
        let free = self.acceptors.list.iter().position(is_free);
        let index = free.unwrap_or(self.acceptors.list.len());
        match free {
            Some(index) => self.acceptors.list[index] = Acceptor::new(socket),
            None => self.acceptors.list.push(Acceptor::new(socket)),
        }
        if self.acceptors.retry_at == Moment::NEVER {
            self.arm_acceptor(index);
        }
    }

    /// The first of three steps: `accepted` is the second, when the accept has ended, and calls the third.
    fn terminate_acceptor(&mut self, index: usize) {
        let acceptor = &mut self.acceptors.list[index];
        if std::mem::replace(&mut acceptor.closing, true) {
            return;
        }
        if acceptor.armed.is_some() {
            self.kernel.cancel(Token::plain(Operation::Accept, index as u32));
        } else {
            self.close_acceptor(index);
        }
    }

    fn close_acceptor(&mut self, index: usize) {
        debug_assert!(self.acceptors.list[index].armed.is_none(), "closed with an accept in flight");
        self.acceptors.list[index].fd = None;
    }

    /// While it drains, too: what the kernel had accepted before the accept was cancelled is nobody else's to serve.
    fn arrived(&mut self, fd: Fd, listener: ListenerId) {
        if self.phase == Phase::Stopping {
            self.kernel.sockets().end_on_close(fd, true);
            self.kernel.close(fd);
            return;
        }
        match self.reserve(listener) {
            Ok(()) => self.place(fd, listener),
            Err(full) => {
                self.shared.add_load(self.index);
                self.came_early(fd, listener);
                self.look_again(full, listener);
            }
        }
    }

    /// Resets a connection that is counted here and never becomes a session.
    pub(super) fn turn_away(&mut self, fd: Fd) {
        self.shared.sub_load(self.index);
        self.kernel.sockets().end_on_close(fd, true);
        self.kernel.close(fd);
    }

    /// Makes a session of a connection that has its place.
    pub(super) fn begin(&mut self, fd: Fd, listener: ListenerId) {
        let now = self.now;
        let table = self.reader.table();
        let found = table.listener(listener).and_then(|entry| {
            let pool = table.pool(entry.pool)?;
            Some((pool.id, entry.route, pool.session.clone(), entry.admission.clone()))
        });
        let Some((pool, route, limits, admission)) = found else {
            // It came while its listener was being removed.
            self.give_back(listener);
            self.turn_away(fd);
            return;
        };
        let jitter = self.random.u32(..);
        let draft = self.draft(fd);
        let key = self.slots.insert(|generation| {
            let mut slot = Slot::new(Session::new(limits, jitter, now), fd, generation, now);
            (slot.listener, slot.pool, slot.route, slot.draft) = (listener, pool, route, draft);
            slot
        });
        self.stats().worker.connections.add(1);
        self.stats().listeners.get(listener.index()).connections.add(1);
        match admission {
            None => self.tell(key, Event::Accepted),
            Some(admission) => self.receive(key, admission),
        }
    }

    /// Stops accepting for a while.
    pub(super) fn pause(&mut self, for_ns: u64) {
        let at = self.now.after_ns(for_ns);
        if self.acceptors.retry_at == Moment::NEVER {
            self.cancel_accepts(|_| true);
        }
        self.acceptors.retry_at = self.acceptors.retry_at.min(at);
    }

    /// Accepts no more of one listener until it has room.
    pub(super) fn hold(&mut self, listener: ListenerId) {
        self.cancel_accepts(|acceptor| acceptor.listener == listener && !acceptor.held);
        let of_it = |acceptor: &&mut Acceptor| acceptor.listener == listener;
        self.acceptors.list.iter_mut().filter(of_it).for_each(|acceptor| acceptor.held = true);
    }

    /// Accepts of listeners again that have room, and none of whose clients came too early; whether others are still
    /// held.
    pub(super) fn release_held(&mut self) -> bool {
        let mut still_held = false;
        for index in 0..self.acceptors.list.len() {
            let acceptor = &self.acceptors.list[index];
            if !acceptor.held {
                continue;
            }
            let (listener, most) = (acceptor.listener, self.acceptors.bound(acceptor.listener).most);
            let is_full = || self.shared.counts.listener_connections(listener) >= most;
            // One that is closed waits for nothing.
            let held = !acceptor.closing && (self.acceptors.early.has(listener) || is_full());
            self.acceptors.list[index].held = held;
            still_held |= held;
            if !held && self.acceptors.retry_at == Moment::NEVER {
                self.arm_acceptor(index);
            }
        }
        still_held
    }

    fn cancel_accepts(&mut self, which: impl Fn(&Acceptor) -> bool) {
        for (index, acceptor) in self.acceptors.list.iter().enumerate() {
            if acceptor.armed.is_some() && which(acceptor) {
                self.kernel.cancel(Token::plain(Operation::Accept, index as u32));
            }
        }
    }

    /// Accepts no more. A socket is closed when its accept is over. Who was accepted and waits goes on to wait: if
    /// another ringway has taken the sockets over, nothing must happen to a client of this one.
    pub(super) fn close_listeners(&mut self) {
        if self.acceptors.closing {
            return;
        }
        self.acceptors.closing = true;
        (0..self.acceptors.list.len()).for_each(|index| self.terminate_acceptor(index));
        if self.acceptors.early.is_empty() {
            (self.acceptors.retry_at, self.acceptors.held_until) = (Moment::NEVER, Moment::NEVER);
        }
    }

    /// Resets who was accepted and waits.
    pub(super) fn turn_away_waiting(&mut self) {
        while let Some(fd) = self.acceptors.early.pop_youngest() {
            self.turn_away(fd);
        }
        (self.acceptors.retry_at, self.acceptors.held_until) = (Moment::NEVER, Moment::NEVER);
    }
}

/// What the sockets of a pool's sessions are set to.
pub fn options_of(limits: &crate::snapshot::table::Limits) -> Options {
    let crate::snapshot::table::Limits { keepalive, user_timeout, receive_buffer, unsent_max, .. } = *limits;
    Options { keepalive, user_timeout, receive_buffer, unsent_max }
}
