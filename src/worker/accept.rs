//! New connections: the worker accepts them, gives them to a less loaded worker, or leaves them in the backlog.
//!
//! The usual way of a connection:
//!
//! ```text
//! arm_acceptor ─> accepted ─> arrived ─> reserve (limit) ─> place (hand_over) ─> begin ─> session::Event::Accepted
//! ```
//!
//! An armed multishot accept brings connections without being asked again, also those for which there is no room. So
//! near a limit the worker arms a poll instead (`ArmedAccept::Ask`), and takes each connection only after `reserve` has
//! counted it (`knocked`). What is in flight on each listening socket, and which sockets must not accept now, is known
//! to [`Acceptors`](super::acceptors); this module carries it out. Limits are decided in `limit`, connections that came
//! without room wait in `early`.

use super::Worker;
use super::acceptors::{ArmedAccept, ListenSocket, Next};
use super::slots::Slot;
use crate::base::id::ListenerId;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Completion, Fd, Interest, Kernel, Op, Options, Pipes, Sockets, errno};
use crate::session::{Event, Session};
use crate::snapshot::table::Phase;

/// How long the worker accepts nothing after the kernel had no descriptor or no memory for a connection.
pub(super) const EXHAUSTED_RETRY_NS: u64 = 100_000_000;
/// How many connections `knocked` takes one by one before the worker looks at its other work.
const ACCEPTS_MAX: usize = 16;

impl<K: Kernel> Worker<K> {
    /// Arms every listening socket that is open and not held. Called when the worker starts and when a pause ends.
    pub(super) fn open_listeners(&mut self) {
        for index in 0..self.acceptors.len() {
            self.arm_acceptor(index);
        }
    }

    /// Arms one listening socket, if nothing is in flight on it: with a multishot accept, or near a limit with a poll.
    fn arm_acceptor(&mut self, index: usize) {
        let Some((fd, listener)) = self.acceptors.to_arm(index) else { return };
        let token = Token::plain(Operation::Accept, index as u32);
        self.watch_room(listener);
        let armed = if self.shared.counts.is_near_limit(listener) { ArmedAccept::Ask } else { ArmedAccept::All };
        match armed {
            ArmedAccept::Ask => self.kernel.poll(fd, Interest::Acceptable, token),
            ArmedAccept::All | ArmedAccept::Ending => self.kernel.push(token, Op::Accept { fd }),
        }
        self.acceptors.is_armed(index, armed);
    }

    /// Compares the room of a listener and of the process with what could arrive before any worker can react: a full
    /// backlog on every worker (`burst`). The result is kept in `balance::Counts`, because the next connections may all
    /// come to another worker; when it has become "near", every worker is woken and calls [`Worker::leave_room`].
    ///
    /// To leave the state takes a little more room than to enter it, so that it does not flip with every session.
    fn watch_room(&self, listener: ListenerId) {
        let (shared, bound) = (&self.shared, self.acceptors.bound(listener));
        let (of_process, of_listener) = (&shared.counts.process, shared.counts.listeners.get(listener.index()));
        let room = shared.connections_max.saturating_sub(shared.counts.process_connections());
        let is_new = of_process.nearness.update(room, self.acceptors.burst());
        let room = bound.most.saturating_sub(shared.counts.listener_connections(listener));
        let room = if bound.most == u32::MAX { u64::MAX } else { u64::from(room) };
        if of_listener.nearness.update(room, bound.burst) || is_new {
            shared.wake();
        }
    }

    /// Cancels the multishot accepts of listeners that have come near a limit; they are armed again as polls. Called
    /// when this worker was woken, because another worker may have found out (`watch_room`).
    pub(super) fn leave_room(&mut self) {
        let ending = self.acceptors.end_near(|listener| self.shared.counts.is_near_limit(listener));
        self.cancel_accepts(ending);
    }

    /// Takes over the limits and backlogs of the newest table, and whether they are near.
    pub(super) fn learn_bounds(&mut self) {
        let (workers, backlog_max) = (self.shared.workers(), self.shared.backlog_max);
        self.acceptors.learn(self.known.reader.table(), workers, backlog_max, self.shared.connections_max);
        self.acceptors.listeners().for_each(|listener| self.watch_room(listener));
        self.leave_room();
    }

    /// Handles the answer of a listening socket: a new descriptor, an error, or (near a limit) that clients wait.
    /// Afterwards the socket is armed again, closed, or left alone, as [`Next`] says.
    pub(super) fn accepted(&mut self, completion: Completion) {
        let index = completion.token.index as usize;
        let Some((listener, armed)) = self.acceptors.answered(index, completion.more) else { return };
        match (completion.result, armed) {
            (0.., Some(ArmedAccept::Ask)) => self.knocked(index),
            (fd @ 0.., _) => {
                self.count_accepted(listener);
                self.arrived(Fd(fd), listener);
            }
            (error, _) => self.accept_failed(listener, -error),
        }
        match self.acceptors.next(index) {
            Next::GoesOn => self.watch_room(listener),
            Next::Close => self.close_acceptor(index),
            Next::Arm => self.arm_acceptor(index),
            Next::Rest => {}
        }
    }

    /// Counts one accepted connection, for the worker and for the listener.
    fn count_accepted(&self, listener: ListenerId) {
        self.stats().worker.accepted.add(1);
        self.stats().listeners.get(listener.index()).connections_total.add(1);
    }

    /// Counts a failed accept. After most errors (no descriptor, no memory) the worker stops accepting for a while, as
    /// the next accept would fail too.
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

    /// Clients wait, and a limit is near: takes connections one by one, and each only after its place was counted.
    fn knocked(&mut self, index: usize) {
        for _ in 0..ACCEPTS_MAX {
            let Some((fd, listener)) = self.acceptors.to_take_from(index) else { return };
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

    /// Adds a listening socket, of a listener that is new or has a new address.
    pub(super) fn open_listener(&mut self, socket: ListenSocket) {
        let index = self.acceptors.open(socket);
        if !self.acceptors.is_paused() {
            self.arm_acceptor(index);
        }
    }

    /// Stops accepting on all sockets of this address. They are closed when their accepts have ended.
    pub(super) fn close_address(&mut self, address: u32) {
        self.acceptors.of_address(address).into_iter().for_each(|index| self.terminate_acceptor(index));
    }

    /// The first of three steps: cancels what is in flight. `accepted` is the second, when the accept has ended, and
    /// does the third, which is `close_acceptor`.
    fn terminate_acceptor(&mut self, index: usize) {
        match self.acceptors.terminate(index) {
            Some(true) => self.cancel_accepts(vec![index]),
            Some(false) => self.close_acceptor(index),
            None => {}
        }
    }

    /// Closes a listening socket on which nothing is in flight. Clients in its backlog came before the close, so they
    /// are served first, up to the limits; the kernel resets the others.
    fn close_acceptor(&mut self, index: usize) {
        for _ in 0..self.shared.backlog_max {
            let Some((fd, listener)) = self.acceptors.to_empty(index) else { break };
            if self.known.phase == Phase::Stopping || self.reserve(listener).is_err() {
                break;
            }
            let Ok(fd) = self.kernel.sockets().accept(fd) else {
                self.give_back(listener);
                break;
            };
            self.count_accepted(listener);
            self.place(fd, listener);
        }
        self.acceptors.close(index);
    }

    /// Handles a connection that a multishot accept brought. Also while the process drains: the kernel had accepted it
    /// before the accept was cancelled, and no other process can serve it. Without room it waits in `early`.
    fn arrived(&mut self, fd: Fd, listener: ListenerId) {
        if self.known.phase == Phase::Stopping {
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
        let now = self.turn.now;
        let table = self.known.reader.table();
        let found = table.listener(listener).and_then(|entry| {
            // One that is asked for something first is given its share once it is let in.
            let split = entry.split.as_ref().filter(|_| entry.admission.is_none());
            let share = split.and_then(|split| split.next(&self.shared.counts));
            let (pool, route) = share.unwrap_or((entry.pool, entry.route));
            let pool = table.pool(pool)?;
            Some((pool.id, route, pool.session.clone(), entry.admission.clone(), pool.awaits_first_byte))
        });
        let Some((pool, route, limits, admission, awaits_byte)) = found else {
            // It came while its listener was being removed.
            self.give_back(listener);
            self.turn_away(fd);
            return;
        };
        let jitter = self.turn.random.u32(..);
        let draft = self.draft(fd);
        let key = self.slots.insert(|generation| {
            let mut slot = Slot::new(Session::new(limits, jitter, now), fd, generation, now);
            (slot.listener, slot.pool, slot.route, slot.draft) = (listener, pool, route, draft);
            slot
        });
        self.stats().worker.connections.add(1);
        self.stats().listeners.get(listener.index()).connections.add(1);
        match admission {
            None => self.tell(key, if awaits_byte { Event::Preread } else { Event::Accepted }),
            Some(admission) => self.receive(key, admission),
        }
    }

    /// Stops accepting on all sockets for `for_ns`. The accepts in flight are cancelled.
    pub(super) fn pause(&mut self, for_ns: u64) {
        let ending = self.acceptors.pause(self.turn.now.after_ns(for_ns));
        self.cancel_accepts(ending);
    }

    /// Stops accepting for one listener until it has room. The worker looks for room every `for_ns`.
    pub(super) fn hold(&mut self, listener: ListenerId, for_ns: u64) {
        let ending = self.acceptors.hold(listener, self.turn.now.after_ns(for_ns));
        self.cancel_accepts(ending);
    }

    /// Arms the listeners that were held and have room again. True if others are still held.
    pub(super) fn release_held(&mut self) -> bool {
        let counts = &self.shared.counts;
        let is_full = |listener, most| counts.listener_connections(listener) >= most;
        let (free, still_held) = self.acceptors.release_held(is_full);
        if !self.acceptors.is_paused() {
            free.into_iter().for_each(|index| self.arm_acceptor(index));
        }
        still_held
    }

    /// Cancels the accepts of these sockets. Each is answered later, in `accepted`.
    fn cancel_accepts(&mut self, which: Vec<usize>) {
        for index in which {
            if let Some((fd, _)) = self.acceptors.to_empty(index) {
                self.kernel.cancel(fd, Token::plain(Operation::Accept, index as u32));
            }
        }
    }

    /// Stops accepting for good: each socket is closed when its accept is over. Connections that were accepted and wait
    /// for room (`early`) go on waiting: another ringway may have taken over the sockets, and then no client of this
    /// one may notice.
    pub(super) fn close_listeners(&mut self) {
        if !self.acceptors.begin_to_close() {
            return;
        }
        (0..self.acceptors.len()).for_each(|index| self.terminate_acceptor(index));
        if self.acceptors.early().is_empty() {
            self.acceptors.wait_for_nothing();
        }
    }

    /// Resets the connections that were accepted and wait for room.
    pub(super) fn turn_away_waiting(&mut self) {
        while let Some(fd) = self.acceptors.early().pop_youngest() {
            self.turn_away(fd);
        }
        self.acceptors.wait_for_nothing();
    }
}

/// The socket options that sessions of a pool get on both of their connections.
pub fn options_of(limits: &crate::snapshot::table::Limits) -> Options {
    let crate::snapshot::table::Limits { keepalive, user_timeout, receive_buffer, unsent_max, .. } = *limits;
    Options { keepalive, user_timeout, receive_buffer, unsent_max }
}
