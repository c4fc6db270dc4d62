//! New connections: accepting them, handing them to a less loaded worker, and not accepting them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::slots::Slot;
use super::turn::Worker;
use crate::balance::line::Waiting;
use crate::base::id::ListenerId;
use crate::base::time::Moment;
use crate::session::{Event, Session};
use crate::snapshot::table::Phase;
use crate::uring::ring::Completion;
use crate::uring::socket::{self, Options};
use crate::uring::token::{Operation, Token};
use crate::uring::{Fd, errno};

/// After a descriptor or memory could not be had.
const EXHAUSTED_RETRY_NS: u64 = 100_000_000;

/// A listening socket of a worker.
pub struct ListenSocket {
    /// Whose connections come from it.
    pub listener: ListenerId,
    /// Number of the address it is bound to; each worker has one socket of it.
    pub address: u32,
    /// The socket. Unix sockets are shared by all workers.
    pub fd: Arc<OwnedFd>,
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
    fd: Option<Arc<OwnedFd>>,
    /// True exactly when an accept is in flight.
    armed: bool,
    /// Its listener has as many connections as it may have.
    held: bool,
}

/// All listening sockets of a worker.
pub(super) struct Acceptors {
    list: Vec<Acceptor>,
    /// Accepted beyond a limit: they wait as if they still were in the backlog.
    pub(super) waiting: VecDeque<(Fd, ListenerId)>,
    /// No connection is wanted any more.
    closing: bool,
    /// Nothing is accepted before this moment; [`Moment::NEVER`] if nothing is in the way.
    pub(super) retry_at: Moment,
    /// Listeners that are held are looked at then; [`Moment::NEVER`] if none is.
    pub(super) held_until: Moment,
}

impl Acceptor {
    fn new(socket: ListenSocket) -> Acceptor {
        let ListenSocket { listener, address, fd } = socket;
        Acceptor { listener, address, closing: false, fd: Some(fd), armed: false, held: false }
    }
}

impl Acceptors {
    pub fn new(sockets: Vec<ListenSocket>) -> Acceptors {
        let list = sockets.into_iter().map(Acceptor::new).collect();
        Acceptors { list, waiting: VecDeque::new(), closing: false, retry_at: Moment::NEVER, held_until: Moment::NEVER }
    }

    pub fn retry_at(&self) -> Moment {
        self.retry_at.min(self.held_until)
    }

    /// Listeners that have as many connections as they may have.
    pub fn held(&self) -> impl Iterator<Item = ListenerId> {
        self.list.iter().filter(|acceptor| acceptor.held).map(|acceptor| acceptor.listener)
    }

    pub fn are_closed(&self) -> bool {
        self.list.iter().all(|acceptor| acceptor.fd.is_none() && !acceptor.armed)
    }
}

impl Worker {
    pub(super) fn open_listeners(&mut self) {
        for index in 0..self.acceptors.list.len() {
            self.arm_acceptor(index);
        }
    }

    fn arm_acceptor(&mut self, index: usize) {
        let acceptor = &mut self.acceptors.list[index];
        if let Some(fd) = acceptor.fd.as_ref().filter(|_| !acceptor.armed && !acceptor.closing && !acceptor.held) {
            self.ring.accept_multi(socket::number(fd), Token::plain(Operation::Accept, index as u32));
            acceptor.armed = true;
        }
    }

    /// An accept brought a connection, or failed.
    pub(super) fn accepted(&mut self, completion: Completion) {
        let index = completion.token.index as usize;
        let Some(acceptor) = self.acceptors.list.get_mut(index) else { return };
        acceptor.armed = completion.more();
        let (listener, armed) = (acceptor.listener, acceptor.armed);
        if completion.result >= 0 {
            self.stats().worker.accepted.add(1);
            self.stats().listeners.get(listener.index()).connections_total.add(1);
            self.arrived(Fd(completion.result), listener);
        } else if completion.result != -errno::ECANCELED {
            self.stats().listeners.get(listener.index()).accept_errors.add(1);
            // A connection that was reset in the backlog is no reason to stop.
            if completion.result != -errno::ECONNABORTED && completion.result != -errno::EINTR {
                self.pipes.shrink();
                self.pause(EXHAUSTED_RETRY_NS);
            }
        }
        if !armed && self.acceptors.list[index].closing {
            self.close_acceptor(index);
        } else if !armed && self.acceptors.retry_at == Moment::NEVER {
            self.arm_acceptor(index);
        }
    }

    /// Does what control wants of the listening sockets. To be called when it has woken this worker.
    pub(super) fn run_errands(&mut self) {
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
        let free = self.acceptors.list.iter().position(|acceptor| acceptor.fd.is_none() && !acceptor.armed);
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
        if acceptor.armed {
            self.ring.cancel(Token::plain(Operation::Accept, index as u32));
        } else {
            self.close_acceptor(index);
        }
    }

    fn close_acceptor(&mut self, index: usize) {
        debug_assert!(!self.acceptors.list[index].armed, "closed with an accept in flight");
        self.acceptors.list[index].fd = None;
    }

    /// While it drains, too: what the kernel had accepted before the accept was cancelled is nobody else's to serve.
    fn arrived(&mut self, fd: Fd, listener: ListenerId) {
        if self.phase == Phase::Stopping {
            socket::reset_on_close(fd);
            self.ring.close(fd);
            return;
        }
        let Some(other) = self.less_loaded(listener) else {
            self.shared.add_load(self.index);
            self.admit(fd, listener);
            return;
        };
        self.stats().worker.handed_over.add(1);
        let there = Token::plain(Operation::HandOver, listener.0);
        self.ring.message(other.ring, fd.0, there, undelivered(fd, listener, other.worker));
    }

    /// The less loaded of two other workers, if this one has clearly more to do. The kernel spreads connections evenly
    /// only on average; a few long ones could all land on one worker. The connection is counted there already.
    fn less_loaded(&mut self, listener: ListenerId) -> Option<Other> {
        let workers = self.shared.workers();
        if workers < 2 || listener.0 >> LISTENER_BITS != 0 {
            return None;
        }
        let own = self.shared.load(self.index) + 1;
        let (first, second) = (self.another(workers), self.another(workers));
        let worker = if self.shared.load(second) < self.shared.load(first) { second } else { first };
        let load = self.shared.load(worker);
        if own <= load + 2 + load / 16 {
            return None;
        }
        Some(Other { worker, ring: self.shared.send_to(worker)? })
    }

    /// A random worker that is not this one.
    fn another(&mut self, workers: usize) -> usize {
        let pick = self.random.usize(..workers - 1);
        if pick >= self.index { pick + 1 } else { pick }
    }

    /// Another worker hands a connection over; it is counted here already.
    pub(super) fn taken_over(&mut self, listener: u32, fd: i32) {
        match self.phase {
            Phase::Serving | Phase::Draining { .. } => self.admit(Fd(fd), ListenerId(listener)),
            Phase::Stopping => self.turn_away(Fd(fd)),
        }
    }

    /// Resets a connection that is counted here and never becomes a session.
    pub(super) fn turn_away(&mut self, fd: Fd) {
        self.shared.sub_load(self.index);
        socket::reset_on_close(fd);
        self.ring.close(fd);
    }

    /// The other worker is gone, or its ring is full: serve it here.
    pub(super) fn hand_over_failed(&mut self, token: Token) {
        let (fd, listener, worker) = returned(token);
        self.shared.not_sent(worker);
        self.shared.add_load(self.index);
        self.taken_over(listener.0, fd.0);
    }

    pub(super) fn begin(&mut self, fd: Fd, listener: ListenerId) {
        let now = self.now;
        let table = self.reader.pin();
        let found = table.listener(listener).and_then(|entry| {
            let pool = table.pool(entry.pool)?;
            Some((pool.id, entry.route, pool.session, entry.admission.clone()))
        });
        drop(table);
        let Some((pool, route, limits, admission)) = found else {
            // It came while its listener was being removed.
            self.shared.counts.process_closed();
            self.shared.counts.listener_closed(listener);
            self.turn_away(fd);
            return;
        };
        let jitter = self.random.u32(..);
        let draft = self.draft(fd);
        let key = self.slots.insert(|generation| Slot {
            session: Session::new(limits, jitter, now),
            fds: [Some(fd), None],
            generation,
            listener,
            pool,
            route,
            backend: None,
            tried: Vec::new(),
            waiting: Waiting::default(),
            accepted_at: now,
            connecting_at: now,
            heard: [0; 2],
            backend_sends: 0,
            greets: false,
            sources_tried: 0,
            bytes: [0; 2],
            draft,
            guest: None,
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

    /// Accepts again of these listeners; whether others are still held.
    pub(super) fn release_held(&mut self, with_room: &[ListenerId]) -> bool {
        let mut still_held = false;
        for index in 0..self.acceptors.list.len() {
            let acceptor = &mut self.acceptors.list[index];
            if !acceptor.held {
                continue;
            }
            // One that is closed waits for nothing.
            acceptor.held = !acceptor.closing && !with_room.contains(&acceptor.listener);
            still_held |= acceptor.held;
            if !acceptor.held && self.acceptors.retry_at == Moment::NEVER {
                self.arm_acceptor(index);
            }
        }
        still_held
    }

    fn cancel_accepts(&mut self, which: impl Fn(&Acceptor) -> bool) {
        for (index, acceptor) in self.acceptors.list.iter().enumerate() {
            if acceptor.armed && which(acceptor) {
                self.ring.cancel(Token::plain(Operation::Accept, index as u32));
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
        if self.acceptors.waiting.is_empty() {
            (self.acceptors.retry_at, self.acceptors.held_until) = (Moment::NEVER, Moment::NEVER);
        }
    }

    /// Resets who was accepted and waits.
    pub(super) fn turn_away_waiting(&mut self) {
        while let Some((fd, _)) = self.acceptors.waiting.pop_front() {
            self.turn_away(fd);
        }
        (self.acceptors.retry_at, self.acceptors.held_until) = (Moment::NEVER, Moment::NEVER);
    }
}

/// A worker to hand a connection to.
struct Other {
    worker: usize,
    ring: Fd,
}

/// Bits of a token for the listener of a connection that comes back; the rest of the generation is for the worker.
/// Connections of listeners beyond are not handed over.
const LISTENER_BITS: u32 = 14;

/// Says where a connection comes from, if the other worker could not be told of it: all that is needed to serve it
/// here after all.
fn undelivered(fd: Fd, listener: ListenerId, worker: usize) -> Token {
    let generation = (worker as u32) << LISTENER_BITS | listener.0;
    Token { operation: Operation::HandOverFailed, generation, index: fd.0 as u32 }
}

/// The inverse of [`undelivered`].
fn returned(token: Token) -> (Fd, ListenerId, usize) {
    let listener = ListenerId(token.generation & ((1 << LISTENER_BITS) - 1));
    (Fd(token.index as i32), listener, (token.generation >> LISTENER_BITS) as usize)
}

/// What the sockets of a pool's sessions are set to.
pub fn options_of(limits: &crate::snapshot::table::Limits) -> Options {
    Options { keepalive: limits.keepalive, user_timeout: limits.user_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_comes_back_is_known() {
        let token = undelivered(Fd(19_999), ListenerId(16_383), 1023);
        let token = Token::unpack(token.pack()).unwrap();
        assert_eq!(returned(token), (Fd(19_999), ListenerId(16_383), 1023));
    }
}
