//! From an effect to the operation it takes.

use super::accept::options_of;
use super::admission;
use super::slots::Key;
use super::turn::Worker;
use crate::base::id::PoolId;
use crate::base::lease::{Lease, Moved};
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::relay::{self, Armed, End};
use crate::session::{Effect, Event};
use crate::snapshot::cell::Reader;
use crate::uring::socket::Options;
use crate::uring::token::Operation;
use crate::uring::{Fd, socket};

impl Worker {
    /// Tells a session what happened and does what it says. Says nothing to a session that is gone.
    #[inline]
    pub(super) fn tell(&mut self, key: Key, event: Event) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.session.on(event, self.now, &mut self.effects);
        while let Some(effect) = self.effects.pop() {
            let Some(answer) = self.execute(key, effect) else { continue };
            if let Some(slot) = self.slots.get_mut(key) {
                slot.session.on(answer, self.now, &mut self.effects);
            }
        }
    }

    #[inline]
    fn execute(&mut self, key: Key, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Relay(effect) => self.execute_relay(key, effect).map(Event::Relay),
            Effect::Look { ended } => Some(Event::Looked(self.look_at_client(key, ended))),
            Effect::AwaitClient => {
                if let Some(fd) = self.fd(key, Side::Client) {
                    self.ring.poll_incoming(fd, key.token(Operation::Preread));
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
                self.ring.cancel(key.token(Operation::Preread));
                None
            }
            Effect::Close { side, reset } => {
                self.close(key, side, reset);
                None
            }
            Effect::QueryUnsent { side } => {
                let bytes = self.fd(key, side).map_or(0, socket::unsent);
                Some(Event::Unsent { bytes })
            }
            Effect::KeepAlive => {
                self.keep_alive(key);
                None
            }
            Effect::Timer(at) => {
                self.wheel.set(key.index, at, self.now);
                None
            }
            Effect::Over => {
                self.forget(key);
                None
            }
        }
    }

    #[inline]
    fn execute_relay(&mut self, key: Key, effect: relay::Effect) -> Option<relay::Event> {
        match effect {
            relay::Effect::Recv { side, credit, fresh } => return self.arm(key, side, credit, fresh),
            relay::Effect::Send { side, lease } => self.send(key, side, lease),
            relay::Effect::Append { from, to } => self.buffers.append(from, to),
            relay::Effect::Release { buffer } => self.buffers.release(buffer),
            relay::Effect::Starve { side } => self.starved.push_back((key, side)),
            relay::Effect::Ready { half } => self.ready.push_back((key, half)),
            relay::Effect::Finish { side } => {
                if let Some(fd) = self.fd(key, side) {
                    socket::shutdown_write(fd);
                }
            }
            relay::Effect::Borrow { half } => return Some(relay::Event::Lent { half, pipe: self.pipes.borrow() }),
            relay::Effect::GiveBack { pipe } => self.pipes.give_back(pipe),
            relay::Effect::Destroy { pipe } => self.pipes.destroy(pipe),
            relay::Effect::Fill { half, pipe, len } => {
                let fd = self.fd(key, half)?;
                return Some(relay::Event::Filled { half, moved: self.pipes.fill(pipe, fd, len) });
            }
            relay::Effect::Drain { half, pipe, len } => {
                let fd = self.fd(key, half.peer())?;
                self.count_send(key, half.peer());
                let moved = self.pipes.drain(pipe, fd, len);
                self.count_spliced(key, half.peer(), moved);
                return Some(relay::Event::Drained { half, moved });
            }
            relay::Effect::PollReadable { side } => {
                let fd = self.fd(key, side)?;
                self.ring.poll_readable(fd, key.token(Operation::readable(side)));
            }
            relay::Effect::PollWritable { side } => {
                let fd = self.fd(key, side)?;
                self.ring.poll_writable(fd, key.token(Operation::writable(side)));
            }
            relay::Effect::PollHangup { side } => {
                let fd = self.fd(key, side)?;
                self.ring.poll_hangup(fd, key.token(Operation::hangup(side)));
            }
            relay::Effect::Pause { half, for_ns } => self.pauses.add(self.now.after_ns(for_ns), key, half),
            relay::Effect::Cancel { side, armed } => self.ring.cancel(key.token(operation_of(side, armed))),
            relay::Effect::StopReading { side } => {
                if let Some(fd) = self.fd(key, side) {
                    socket::stop_reading(fd);
                }
            }
        }
        None
    }

    #[inline]
    fn arm(&mut self, key: Key, side: Side, credit: u32, fresh: bool) -> Option<relay::Event> {
        let fd = self.fd(key, side)?;
        let token = key.token(Operation::recv(side));
        // Where memory runs short, who holds something waits until that has gone, and the others get one buffer.
        let scarce = self.buffers.scarce();
        if scarce && credit < relay::CREDIT {
            return Some(relay::Event::Ended { side, end: End::Scarce });
        }
        if self.shared.features.recv_credit {
            self.ring.recv_multi(fd, if scarce { 1 } else { credit }, fresh, token);
        } else {
            self.ring.recv_once(fd, true, token);
        }
        None
    }

    #[inline]
    fn send(&mut self, key: Key, side: Side, lease: Lease) {
        if let Some(fd) = self.fd(key, side) {
            self.count_send(key, side);
            self.ring.send(fd, &self.buffers, lease, key.token(Operation::send(side)));
        }
    }

    /// The Nagle algorithm never holds the first send of a connection back (Linux keeps to Minshall's version: only a
    /// small segment behind another unacknowledged small one waits), so many a short session can do without the call.
    #[inline]
    fn count_send(&mut self, key: Key, side: Side) {
        if side == Side::Client {
            // Accepted sockets have it from their listener.
            return;
        }
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.backend_sends < 2) else { return };
        slot.backend_sends += 1;
        if slot.backend_sends == 2
            && let Some(fd) = slot.fd(Side::Backend)
        {
            socket::no_delay(fd);
        }
    }

    #[inline]
    pub(super) fn count_copied(&mut self, key: Key, to: Side, moved: Moved) {
        if let Moved::Bytes(len) = moved {
            self.stats().worker.copied_bytes.add(u64::from(len));
            self.count_bytes(key, to, len);
        }
    }

    fn count_spliced(&mut self, key: Key, to: Side, moved: Moved) {
        if let Moved::Bytes(len) = moved {
            self.stats().worker.spliced_bytes.add(u64::from(len));
            self.count_bytes(key, to, len);
        }
    }

    #[inline]
    fn count_bytes(&mut self, key: Key, to: Side, len: u32) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.bytes[to.index()] += u64::from(len);
        let Some(backend) = slot.backend else { return };
        let cells = self.stats().backends.get(backend.index());
        match to {
            Side::Backend => cells.bytes_to_backend.add(u64::from(len)),
            Side::Client => cells.bytes_to_client.add(u64::from(len)),
        }
    }

    fn keep_alive(&self, key: Key) {
        let Some(slot) = self.slots.get(key) else { return };
        let Some(options) = options_in(&self.reader, slot.pool) else { return };
        slot.fds.iter().flatten().for_each(|&fd| socket::keep_alive(fd, &options));
    }

    fn close(&mut self, key: Key, side: Side, reset: bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(fd) = slot.fds[side.index()].take() {
            match reset {
                true => socket::reset_on_close(fd),
                // Until now, the end of the process would have been a reset.
                false => socket::finish_on_close(fd),
            }
            self.ring.close(fd);
        }
        if side == Side::Backend
            && let Some(backend) = slot.backend
        {
            self.shared.counts.closed(backend);
            if self.shared.counts.queue(slot.pool).waiting() > 0 {
                self.waiters.serve(slot.pool);
            }
            if !slot.session.is_ending() {
                slot.tried.push(backend);
                slot.backend = None;
            }
        }
    }

    /// The session is over and its descriptors are closed.
    fn forget(&mut self, key: Key) {
        self.wheel.clear(key.index);
        let Some(mut slot) = self.slots.remove(key) else { return };
        debug_assert!(slot.fds.iter().all(Option::is_none));
        let stats = self.stats();
        stats.listeners.get(slot.listener.index()).connections.sub(1);
        stats.routes.get(slot.route.index()).ended(slot.session.termination());
        if slot.session.termination() == Termination(Who::ServerTimeout, When::Queue) {
            stats.pools.get(slot.pool.index()).queue_timeouts_total.add(1);
        }
        stats.worker.connections.sub(1);
        stats.pools.get(slot.pool.index()).session_ns.record_ns(self.now.since_ns(slot.accepted_at));
        self.shared.counts.process_closed();
        self.shared.counts.listener_closed(slot.listener);
        if let Some(permit) = admission::leave(&mut slot) {
            self.shared.sources.leave(permit);
        }
        self.shared.sub_load(self.index);
        self.leave_record(key, &mut slot);
        self.admit_waiting();
    }

    #[inline]
    fn fd(&self, key: Key, side: Side) -> Option<Fd> {
        self.slots.get(key)?.fd(side)
    }
}

fn operation_of(side: Side, armed: Armed) -> Operation {
    match armed {
        Armed::Recv => Operation::recv(side),
        Armed::Readable => Operation::readable(side),
        Armed::Writable => Operation::writable(side),
        Armed::Hangup => Operation::hangup(side),
    }
}

/// What the sockets of a pool's sessions are set to, as of now.
fn options_in(reader: &Reader, pool: PoolId) -> Option<Options> {
    reader.pin().pool(pool).map(|pool| options_of(&pool.limits))
}
