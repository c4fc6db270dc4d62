//! From an effect to the operation it takes.
//!
//! A session asks for one thing at a time: [`session::Effect`](crate::session::Effect) about its connections,
//! [`relay::Effect`] about its bytes. Here each becomes an operation of the kernel, a system call, or a change of what
//! the worker keeps. Effects with an answer that is known immediately return it as an event; the others are answered by
//! a completion (`dispatch`).
//!
//! Two ends of a byte's way are here: the send of a lease ([`Worker::send`]) and the FIN that follows the last byte
//! (`relay::Effect::Finish`, in `execute_relay`, becomes `shutdown(SHUT_WR)`).

use super::Worker;
use super::accept::options_of;
use super::admission;
use super::slots::{Slot, SlotKey};
use crate::base::id::PoolId;
use crate::base::lease::{Lease, Moved, PipeId};
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::kernel::token::Operation;
use crate::kernel::{Buffers, Fd, Interest, Kernel, Op, Options, Pipes, Sockets};
use crate::relay::{self, Armed, End};
use crate::session::{CLOSING_NS, Effect, Event};
use crate::snapshot::cell::Reader;

impl<K: Kernel> Worker<K> {
    /// Tells a session what happened, and does all that it asks for, until it asks for nothing more. A session that is
    /// gone is not told.
    #[inline]
    pub(super) fn tell(&mut self, key: SlotKey, event: Event) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.session.on(event, self.turn.now, &mut self.turn.effects);
        while let Some(effect) = self.turn.effects.pop() {
            let Some(answer) = self.execute(key, effect) else { continue };
            if let Some(slot) = self.slots.get_mut(key) {
                slot.session.on(answer, self.turn.now, &mut self.turn.effects);
            }
        }
    }

    /// Carries out one effect. Returns the answer if it is known immediately.
    #[inline]
    fn execute(&mut self, key: SlotKey, effect: Effect) -> Option<Event> {
        #[cfg(debug_assertions)]
        self.turn.watch.moved();
        match effect {
            Effect::Relay(effect) => self.execute_relay(key, effect).map(Event::Relay),
            Effect::Look { ended } => Some(Event::Looked(self.look_at_client(key, ended))),
            Effect::AwaitClient => {
                if let Some(fd) = self.fd(key, Side::Client) {
                    self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Preread));
                }
                None
            }
            Effect::Pick => Some(Event::Picked(self.pick(key))),
            Effect::StopWaiting => {
                self.leave_queue(key);
                None
            }
            Effect::Connect => self.connect(key),
            Effect::CancelConnect => self.give_up_connect(key),
            Effect::CancelAwait => {
                self.cancel(key, Side::Client, Operation::Preread);
                None
            }
            Effect::Close { side, reset } => {
                self.close(key, side, reset);
                None
            }
            Effect::QueryUnsent { side } => {
                let bytes = self.fd(key, side).map_or(0, |fd| self.kernel.sockets().unsent(fd));
                Some(Event::Unsent { bytes })
            }
            Effect::HungUp => {
                self.backend_hung_up(key);
                None
            }
            Effect::KeepAlive => {
                self.keep_alive(key);
                None
            }
            Effect::Timer(at) => {
                self.wheel.set(key.index, at, self.turn.now);
                None
            }
            Effect::WatchClose => {
                self.wheel.set(key.index, self.turn.now.after_ns(CLOSING_NS), self.turn.now);
                None
            }
            Effect::Stuck => {
                self.is_stuck(key);
                None
            }
            Effect::Over => {
                self.forget(key);
                None
            }
        }
    }

    /// Carries out one effect about the bytes of a session. Returns the answer if it is known immediately.
    #[inline]
    fn execute_relay(&mut self, key: SlotKey, effect: relay::Effect) -> Option<relay::Event> {
        match effect {
            relay::Effect::Recv { side, credit, fresh } => return self.arm(key, side, credit, fresh),
            relay::Effect::Send { side, lease, followed, .. } if self.speaks_tls(key, side) => {
                return Some(self.send_tls(key, side, lease, followed));
            }
            relay::Effect::Send { side, lease, quiet, followed } => self.send(key, side, lease, (quiet, followed)),
            relay::Effect::SayLast { side } => return Some(self.say_last(key, side)),
            relay::Effect::Hurry => self.turn.hurried = true,
            relay::Effect::Append { from, to } => self.kernel.buffers().append(from, to),
            relay::Effect::Release { buffer } => self.kernel.buffers().release(buffer),
            relay::Effect::Starve { side } => self.agenda.starved.push_back((key, side)),
            relay::Effect::Ready { half } => self.agenda.ready.push_back((key, half)),
            relay::Effect::Gather { half } => self.turn.gathering.push((key, half)),
            relay::Effect::Finish { side } => {
                if let Some(fd) = self.fd(key, side) {
                    self.kernel.sockets().shutdown_write(fd);
                }
            }
            relay::Effect::Borrow { half } => return Some(relay::Event::Lent { half, pipe: self.lend(key, half) }),
            relay::Effect::GiveBack { pipe } => match pipe.vat() {
                None => self.kernel.pipes().give_back(pipe),
                Some(vat) => self.turn.vats.take_back(vat),
            },
            relay::Effect::Destroy { pipe } => match pipe.vat() {
                None => self.kernel.pipes().destroy(pipe),
                Some(vat) => self.turn.vats.take_back(vat),
            },
            relay::Effect::Fill { half, pipe, len } => return self.fill(key, half, pipe, len),
            relay::Effect::Drain { half, pipe, len } => {
                return Some(relay::Event::Drained { half, moved: self.drain(key, half.peer(), pipe, len)? });
            }
            relay::Effect::Unload { half, pipe, left } => {
                return Some(relay::Event::Unloaded { half, lease: self.unload(pipe, left) });
            }
            relay::Effect::PollReadable { side } => {
                let fd = self.fd(key, side)?;
                self.kernel.poll(fd, Interest::Readable, key.token(Operation::readable(side)));
            }
            relay::Effect::PollWritable { side } => {
                let fd = self.fd(key, side)?;
                self.kernel.poll(fd, Interest::Writable, key.token(Operation::writable(side)));
            }
            relay::Effect::PollHangup { side } => {
                let fd = self.fd(key, side)?;
                self.kernel.poll(fd, Interest::Hangup, key.token(Operation::hangup(side)));
            }
            relay::Effect::Pause { half, for_ns } => self.agenda.pauses.add(self.turn.now.after_ns(for_ns), key, half),
            relay::Effect::Cancel { side, armed } => self.cancel(key, side, operation_of(side, armed)),
            relay::Effect::StopReading { side } => {
                if let Some(fd) = self.fd(key, side) {
                    self.kernel.sockets().stop_reading(fd);
                }
            }
        }
        None
    }

    /// Lends a half what it moves bulk through. A pipe moves bytes as they are, and a vat those that come by TLS; what
    /// goes out by TLS is sealed buffer by buffer.
    fn lend(&mut self, key: SlotKey, half: Side) -> Option<(PipeId, u32)> {
        match [half, half.peer()].map(|side| self.speaks_tls(key, side)) {
            [false, false] => self.kernel.pipes().borrow(),
            [true, false] => self.turn.vats.lend(),
            [_, true] => None,
        }
    }

    /// Fills a pipe or a vat: what the relay is told.
    fn fill(&mut self, key: SlotKey, half: Side, pipe: PipeId, len: u32) -> Option<relay::Event> {
        let fd = self.fd(key, half)?;
        Some(match pipe.vat() {
            None => relay::Event::Filled { half, moved: self.kernel.pipes().fill(pipe, fd, len) },
            Some(vat) => self.fill_vat(key, half, vat, len),
        })
    }

    /// Drains a pipe or a vat.
    fn drain(&mut self, key: SlotKey, to: Side, pipe: PipeId, len: u32) -> Option<Moved> {
        let fd = self.fd(key, to)?;
        self.count_send(key, to);
        let Some(vat) = pipe.vat() else {
            let moved = self.kernel.pipes().drain(pipe, fd, len);
            self.count_spliced(key, to, moved);
            return Some(moved);
        };
        let moved = self.drain_vat(fd, vat);
        self.count_sent(key, to, moved);
        Some(moved)
    }

    /// Copies what is in a stalled pipe into buffers, within the turn's budget: there may be hundreds of such pipes,
    /// and each copy takes time. `left` is the number of bytes in the pipe. `None` if the budget or the buffers do not
    /// suffice.
    #[cold]
    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        if left > self.turn.unload_budget {
            return None;
        }
        let lease = match pipe.vat() {
            Some(vat) => self.turn.vats.unload(vat, self.kernel.buffers())?,
            None => self.kernel.unload(pipe, left)?,
        };
        self.turn.unload_budget -= u32::from(lease.len).min(left);
        Some(lease)
    }

    /// Arms a receive. When buffers are scarce, a session that holds bytes already does not get more, and the others
    /// get one buffer each.
    #[inline]
    fn arm(&mut self, key: SlotKey, side: Side, credit: u32, fresh: bool) -> Option<relay::Event> {
        let fd = self.fd(key, side)?;
        let token = key.token(Operation::recv(side));
        // When memory runs short, a half that holds bytes waits until those are sent, and the others get one buffer.
        let scarce = self.kernel.buffers().is_scarce();
        if scarce && credit < relay::CREDIT {
            return Some(relay::Event::Ended { side, end: End::Scarce });
        }
        let credit = if scarce { 1 } else { credit };
        if let Some(event) = self.arm_tls(key, side, credit) {
            return Some(event);
        }
        self.kernel.push(token, Op::Recv { fd, credit, fresh });
        None
    }

    /// Sends a lease. A quiet send is answered only if it fails or is short, so its bytes are counted now (`foreseen`).
    #[inline]
    fn send(&mut self, key: SlotKey, side: Side, lease: Lease, (quiet, followed): (bool, bool)) {
        if let Some(fd) = self.fd(key, side) {
            self.count_send(key, side);
            if quiet && let Some(slot) = self.slots.get_mut(key) {
                // The answer may come much later, and the counters must be right now.
                slot.foreseen[side.index()] = lease.len;
                self.count_copied(key, side, i64::from(lease.len));
            }
            self.kernel.push(key.token(Operation::send(side)), Op::Send { fd, lease, quiet, followed });
        }
    }

    /// Counts sends to the backend, and turns off the Nagle algorithm before the second one. Nagle's algorithm never
    /// holds back the first send of a connection (Linux keeps to Minshall's version: only a small segment behind
    /// another unacknowledged small one waits), so many short sessions save the system call.
    #[inline]
    fn count_send(&mut self, key: SlotKey, side: Side) {
        if side == Side::Client {
            // Accepted sockets inherit the option from their listener.
            return;
        }
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.backend_sends < 2) else { return };
        slot.backend_sends += 1;
        if slot.backend_sends == 2
            && let Some(fd) = slot.fd(Side::Backend)
        {
            self.kernel.sockets().no_delay(fd);
        }
    }

    /// Counts the bytes of an answered send, less those that were counted when it was queued.
    #[inline]
    pub(super) fn count_sent(&mut self, key: SlotKey, to: Side, moved: Moved) {
        let foreseen = self.slots.get_mut(key).map_or(0, |slot| std::mem::take(&mut slot.foreseen[to.index()]));
        let len = if let Moved::Bytes(len) = moved { len } else { 0 };
        let more = i64::from(len) - i64::from(foreseen);
        if more != 0 {
            self.count_copied(key, to, more);
        }
    }

    /// Counts bytes that went through buffers. `len` is negative where a quiet send moved fewer than foreseen.
    #[inline]
    fn count_copied(&mut self, key: SlotKey, to: Side, len: i64) {
        self.stats().worker.copied_bytes.correct(len);
        self.count_bytes(key, to, len);
    }

    /// Counts bytes that went through a pipe.
    fn count_spliced(&mut self, key: SlotKey, to: Side, moved: Moved) {
        if let Moved::Bytes(len) = moved {
            self.stats().worker.spliced_bytes.add(u64::from(len));
            self.count_bytes(key, to, i64::from(len));
        }
    }

    /// Counts bytes for the session and for its backend.
    #[inline]
    fn count_bytes(&mut self, key: SlotKey, to: Side, len: i64) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.bytes[to.index()] = slot.bytes[to.index()].saturating_add_signed(len);
        let Some(backend) = slot.backend else { return };
        let cells = self.stats().backends.get(backend.index());
        match to {
            Side::Backend => cells.bytes_to_backend.correct(len),
            Side::Client => cells.bytes_to_client.correct(len),
        }
    }

    /// Turns on the kernel's keepalive probes on both connections, with the values of the pool as of now.
    fn keep_alive(&self, key: SlotKey) {
        let Some(slot) = self.slots.get(key) else { return };
        let Some(options) = options_in(&self.known.reader, slot.pool) else { return };
        Side::BOTH
            .iter()
            .filter_map(|&side| slot.fd(side))
            .for_each(|fd| self.kernel.sockets().keep_alive(fd, &options));
    }

    /// Closes one connection of a session, with a reset or a FIN. When it is the backend's, its place is given back,
    /// and if the session goes on, the backend counts as tried.
    fn close(&mut self, key: SlotKey, side: Side, reset: bool) {
        // What lies in the codec is no more delivered than what lies in the relay: it must not look like the end.
        let left = |slot: &Slot| Side::BOTH.iter().any(|&side| slot.has_tls_bytes(side));
        let reset = reset || self.slots.get(key).is_some_and(left);
        if !reset {
            self.part(key, side);
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(fd) = slot.take_fd(side) {
            if let Some(draft) = &mut slot.draft {
                draft.went(side, self.kernel.sockets().quality(fd));
            }
            self.kernel.sockets().end_on_close(fd, reset);
            self.kernel.close(fd);
        }
        if side == Side::Backend
            && let Some(backend) = slot.backend
        {
            self.shared.counts.closed(backend);
            if self.shared.counts.queue(slot.pool).waiting() > 0 {
                self.waiters.serve(slot.pool);
            }
            if !slot.session.is_ending() {
                slot.detour_mut().tried.push(backend);
                slot.backend = None;
            }
        }
    }

    /// A session should be over, but something is still in flight. It is counted once, as `closing_stuck`.
    #[cold]
    fn is_stuck(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !std::mem::replace(&mut slot.is_stuck, true) {
            self.stats().worker.closing_stuck.add(1);
        }
    }

    /// Forgets a session that is over and whose descriptors are closed: gives back everything that was counted for it,
    /// leaves its record for the access log, and admits clients that waited for its place.
    fn forget(&mut self, key: SlotKey) {
        self.wheel.clear(key.index);
        let Some(mut slot) = self.slots.remove(key) else { return };
        debug_assert!(Side::BOTH.iter().all(|&side| slot.fd(side).is_none()));
        let stats = self.stats();
        stats.listeners.get(slot.listener.index()).connections.sub(1);
        stats.routes.get(slot.route.index()).ended(slot.session.termination());
        if slot.session.termination() == Termination(Who::ServerTimeout, When::Queue) {
            stats.pools.get(slot.pool.index()).queue_timeouts_total.add(1);
        }
        stats.worker.connections.sub(1);
        if slot.is_stuck {
            stats.worker.closing_stuck.sub(1);
        }
        stats.pools.get(slot.pool.index()).session_ns.record_ns(self.turn.now.since_ns(slot.accepted_at));
        self.shared.counts.process_closed();
        self.shared.counts.listener_closed(slot.listener);
        if let Some(permit) = slot.sticky.take() {
            self.shared.counts.sticky(slot.pool).leave(permit, self.turn.now);
        }
        while let Some(permit) = admission::leave(&mut slot) {
            self.shared.sources.leave(permit);
        }
        self.shared.sub_load(self.index);
        self.forget_wanting(slot.detour().ticket);
        self.leave_record(key, &mut slot);
        self.admit_waiting();
    }

    /// Cancels an operation in flight on one side of a session, whose descriptor is open then.
    pub(super) fn cancel(&mut self, key: SlotKey, side: Side, operation: Operation) {
        if let Some(fd) = self.fd(key, side) {
            self.kernel.cancel(fd, key.token(operation));
        }
    }

    /// The descriptor of one side of a session, if both are there.
    #[inline]
    pub(super) fn fd(&self, key: SlotKey, side: Side) -> Option<Fd> {
        self.slots.get(key)?.fd(side)
    }
}

/// The operation that a relay calls `armed`.
fn operation_of(side: Side, armed: Armed) -> Operation {
    match armed {
        Armed::Recv => Operation::recv(side),
        Armed::Readable => Operation::readable(side),
        Armed::Writable => Operation::writable(side),
        Armed::Hangup => Operation::hangup(side),
    }
}

/// The socket options of a pool's sessions, as of the newest table; `None` if the pool is gone.
fn options_in(reader: &Reader, pool: PoolId) -> Option<Options> {
    reader.table().pool(pool).map(|pool| options_of(&pool.limits))
}
