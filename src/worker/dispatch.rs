//! From a completion to the event that it means.
//!
//! The token of a completion says which operation it answers and which session that belongs to. The functions below
//! translate the kernel's result (a count, or a negative errno) into what happened, as
//! [`session::Event`](crate::session::Event) or [`relay::Event`] say it, and tell it to the session, which decides. An
//! errno gets its meaning only here and in [`Sockets::refusal`], because the same number means different things for
//! different calls.

use super::Worker;
use super::record::resource;
use super::slots::{Slot, SlotKey};
use crate::base::id::PoolId;
use crate::base::lease::{Lease, Moved};
use crate::base::side::Side;
use crate::kernel::token::Operation;
use crate::kernel::{Buffers, Completion, Interest, Kernel, Sockets, errno, poll};
use crate::relay::{self, End};
use crate::session::{ConnectFailure, Event};
use crate::stats;
use crate::stats::record::EndReason;

impl<K: Kernel> Worker<K> {
    /// Handles one completion. A completion of a session that is over finds no session with its generation, and does
    /// nothing.
    #[inline]
    pub(super) fn dispatch(&mut self, completion: Completion) {
        #[cfg(debug_assertions)]
        self.turn.watch.moved();
        let token = completion.token;
        let key = SlotKey { index: token.index, generation: token.generation };
        match token.operation {
            Operation::RecvClient => self.received(key, Side::Client, completion),
            Operation::RecvBackend => self.received(key, Side::Backend, completion),
            Operation::SendClient => self.sent(key, Side::Client, completion.result),
            Operation::SendBackend => self.sent(key, Side::Backend, completion.result),
            Operation::ReadableClient => self.relay(key, relay::Event::Readable { side: Side::Client }),
            Operation::ReadableBackend => self.relay(key, relay::Event::Readable { side: Side::Backend }),
            Operation::WritableClient => self.writable(key, Side::Client, completion),
            Operation::WritableBackend => self.writable(key, Side::Backend, completion),
            Operation::HangupClient => self.hung_up(key, Side::Client, completion),
            Operation::HangupBackend => self.hung_up(key, Side::Backend, completion),
            Operation::Preread => self.tell(key, Event::ClientSpoke { ended: poll::says_ended(completion.result) }),
            Operation::Connect => self.connected(key, completion.result),
            Operation::Greet => self.greeted(key, completion.result),
            Operation::Accept => self.accepted(completion),
            Operation::HandOver => self.taken_over(token.index, completion.result),
            Operation::HandOverFailed => self.hand_over_failed(token),
            Operation::Wake => {
                self.shared.bell(self.index).clear();
                self.take_requests();
                self.kernel.await_bell(self.shared.bell(self.index));
                self.run_errands();
                self.take_answers();
            }
            Operation::Queue => self.waiters.told(PoolId(token.index)),
            Operation::Forget => {}
        }
    }

    /// Tells a session something about its bytes.
    #[inline]
    fn relay(&mut self, key: SlotKey, event: relay::Event) {
        self.tell(key, Event::Relay(event));
    }

    /// A receive brought bytes or ended. Bytes become a [`Lease`], which the session releases when they are sent.
    #[inline]
    fn received(&mut self, key: SlotKey, side: Side, completion: Completion) {
        let buffer = completion.buffer;
        match (completion.result, buffer) {
            (1.., Some(buffer)) => {
                let lease = Lease { buffer, start: 0, len: completion.result as u16 };
                if self.slots.get(key).is_none() {
                    debug_assert!(false, "a receive outlived its session");
                    self.kernel.buffers().release(buffer);
                    return;
                }
                let (more, nonempty) = (completion.more, completion.nonempty);
                if more && !nonempty && self.kernel.misses_resets() {
                    self.silence.heard(&mut self.slots, key, side, self.turn.now);
                }
                if self.speaks_tls(key, side) {
                    if let Some(event) = self.received_tls(key, side, buffer, completion) {
                        self.relay(key, event);
                    }
                    return;
                }
                self.relay(key, relay::Event::Received { side, lease, more, nonempty });
            }
            (result, buffer) => {
                if let Some(buffer) = buffer {
                    self.kernel.buffers().release(buffer);
                }
                if matches!(-result, 0 | errno::ECANCELED) && self.speaks_tls(key, side) {
                    let event = match result {
                        0 => self.tls_finished(key, side),
                        _ => self.receive_again(key, side),
                    };
                    return event.into_iter().for_each(|event| self.relay(key, event));
                }
                let end = match self.end_of(key, side, result) {
                    // This worker cancelled it, not its session: see `silence`.
                    End::Cancelled if self.slots.get(key).is_some_and(|slot| !slot.session.is_ending()) => End::Starved,
                    End::Failed(errno) if self.speaks_tls(key, side) => {
                        let event = self.tls_connection_failed(key, side, errno);
                        return event.into_iter().for_each(|event| self.relay(key, event));
                    }
                    end => end,
                };
                self.relay(key, relay::Event::Ended { side, end });
            }
        }
    }

    /// What the end of a receive means: `result` is 0 or a negative errno.
    fn end_of(&mut self, key: SlotKey, side: Side, result: i32) -> End {
        match -result {
            0 => End::Eof,
            errno::ENOBUFS => {
                self.kernel.buffers().ran_dry();
                self.stats().worker.buffers_starved.add(1);
                End::Starved
            }
            // It was interrupted. It is armed again like one that found no buffer.
            errno::EINTR => End::Starved,
            errno::ECANCELED => End::Cancelled,
            errno => match self.refusal(key, side, errno) {
                Moved::Failed(errno) => End::Failed(errno),
                _ => End::Later,
            },
        }
    }

    /// What an errno of a receive or send means. The kernel is asked again, because some numbers stand for several
    /// things.
    #[cold]
    fn refusal(&self, key: SlotKey, side: Side, errno: i32) -> Moved {
        let fd = self.slots.get(key).and_then(|slot| slot.fd(side));
        fd.map_or(Moved::Failed(errno), |fd| self.kernel.sockets().refusal(errno, fd))
    }

    /// Handles the answer of a poll for writing. A level-triggered poll on a socket whose peer has sent its FIN is
    /// ready again and again without room to write, so after such an answer the worker polls for an edge instead.
    fn writable(&mut self, key: SlotKey, side: Side, completion: Completion) {
        let token = completion.token;
        match (completion.more, poll::says_writable(completion.result)) {
            (true, true) => self.cancel(key, side, token.operation),
            (true, false) => {}
            (false, true) => self.relay(key, relay::Event::Writable { side }),
            (false, false) => match self.slots.get(key).filter(|slot| !slot.session.is_ending()) {
                Some(slot) if let Some(fd) = slot.fd(side) => self.kernel.poll(fd, Interest::WritableEdge, token),
                _ => self.relay(key, relay::Event::Writable { side }),
            },
        }
    }

    /// Handles the answer of a poll that watches a connection whose peer has sent its FIN.
    fn hung_up(&mut self, key: SlotKey, side: Side, completion: Completion) {
        let is_over = !completion.more;
        if poll::says_hung_up(completion.result) {
            if !is_over {
                self.cancel(key, side, completion.token.operation);
            }
            self.relay(key, relay::Event::HungUp { side });
        }
        if is_over {
            self.relay(key, relay::Event::HangupPolled { side });
        }
    }

    /// A send was answered: with a count of bytes, or because there was no room, or because the connection failed.
    fn sent(&mut self, key: SlotKey, side: Side, result: i32) {
        let moved = match -result {
            errno::EAGAIN => Moved::WouldBlock,
            errno if errno > 0 => self.refusal(key, side, errno),
            _ => Moved::Bytes(result as u32),
        };
        self.count_sent(key, side, moved);
        self.relay(key, relay::Event::Sent { side, moved });
    }

    /// A connect was answered. `result` is 0 or a negative errno. What looks like success may be none (a connection to
    /// itself), some errors lead to another attempt, and some backends must be told something first (`greet`).
    fn connected(&mut self, key: SlotKey, result: i32) {
        let result = if result == 0 && self.met_itself(key) { -errno::ECONNREFUSED } else { result };
        let lacks_family = result == -errno::EADDRNOTAVAIL && self.lacks_family(key);
        let result = if lacks_family { -errno::ENETUNREACH } else { result };
        let may_go_on = matches!(-result, 0 | errno::ENOMEM | errno::ENOBUFS | errno::EADDRNOTAVAIL);
        let result = if may_go_on && self.connects_in_vain(key) { -errno::ECANCELED } else { result };
        if result == -errno::EADDRNOTAVAIL && self.connect_from_another(key) || self.connect_again(key, result) {
            return;
        }
        let greets = |slot: &&Slot| result == 0 && slot.greets && !slot.session.is_ending();
        let event = match self.slots.get(key).filter(greets) {
            Some(slot) if slot.session.is_connecting() => self.greet(key),
            // It was cancelled but succeeded all the same. Without its greeting it is of no use.
            Some(_) => self.connect_ended(key, -errno::ECANCELED),
            None => self.connect_ended(key, result),
        };
        if let Some(event) = event {
            self.tell(key, event);
        }
    }

    /// Counts that the backend ended a session in which it had sent nothing, if it did so soon after the connect began
    /// (`stats::HANGUP_NS`). Control ejects backends that do this often.
    #[cold]
    pub(super) fn backend_hung_up(&self, key: SlotKey) {
        let Some((slot, id)) = self.slots.get(key).and_then(|slot| Some((slot, slot.backend?))) else { return };
        if self.turn.now.since_ns(slot.connecting_at) <= stats::HANGUP_NS {
            self.stats().backends.get(id.index()).hangups.add(1);
            (self.shared.on_trouble)();
        }
    }

    /// Whether the backend is to have no session any more and this attempt was not cancelled yet
    /// (`renew::end_sessions_of`).
    pub(super) fn connects_in_vain(&self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get(key).filter(|slot| !slot.session.is_ending()) else { return false };
        let table = self.known.reader.table();
        let backend = slot.backend.and_then(|id| table.backend(id));
        backend.is_some_and(|backend| backend.end_sessions || slot.connecting_at <= backend.yielded_at)
    }

    /// Ends an attempt to connect: counts it, notes it for the access log, and returns what the session must be told.
    /// `result` is 0 or a negative errno.
    pub(super) fn connect_ended(&mut self, key: SlotKey, result: i32) -> Option<Event> {
        let result = if result == 0 && self.connects_in_vain(key) { -errno::ECANCELED } else { result };
        let slot = self.slots.get_mut(key)?;
        let (id, stats) = (slot.backend?, &self.shared.stats.workers[self.index]);
        let (backend, took_ns) = (stats.backends.get(id.index()), self.turn.now.since_ns(slot.connecting_at));
        if result == 0 {
            backend.connections_total.add(1);
            stats.pools.get(slot.pool.index()).connect_ns.record_ns(took_ns);
            if let Some(draft) = &mut slot.draft {
                draft.attempt_ended(id, took_ns, None);
            }
            slot.has_arrived();
            let pool = slot.pool;
            self.waiters.connected(pool);
            self.note_drain_of(key);
            return Some(Event::Connected(Ok(())));
        }
        let (error, reason) = match slot.session.is_connecting() {
            // It was cancelled, but not by the session: the backend went down meanwhile.
            true if result == -errno::ECANCELED => (ConnectFailure::Backend, stats::ConnectError::Other),
            _ => classify(-result),
        };
        self.connect_failed(key, error, reason, resource(-result))
    }

    /// Ends an attempt that failed for that reason, through the lack of that resource if it was one: what the session
    /// must be told.
    pub(super) fn connect_failed(
        &mut self,
        key: SlotKey,
        error: ConnectFailure,
        reason: stats::ConnectError,
        resource: EndReason,
    ) -> Option<Event> {
        let slot = self.slots.get_mut(key)?;
        let (id, stats) = (slot.backend?, &self.shared.stats.workers[self.index]);
        let (backend, took_ns) = (stats.backends.get(id.index()), self.turn.now.since_ns(slot.connecting_at));
        slot.tls[Side::Backend.index()] = None;
        // A session that is ending has cancelled its connect itself. The backend is not at fault.
        if reason != stats::ConnectError::Timeout || !slot.session.is_ending() {
            backend.connect_failed(reason);
            if reason == stats::ConnectError::Reset {
                // It was accepted and hung up on before we looked: else it would have been refused.
                backend.hangups.add(1);
            }
            if let Some(draft) = &mut slot.draft {
                draft.attempt_ended(id, took_ns, Some((reason, resource)));
                self.shared.counts.mentioned(id);
            }
            if !matches!(reason, stats::ConnectError::Resource | stats::ConnectError::TlsName) {
                (self.shared.on_trouble)();
            }
        }
        Some(Event::Connected(Err(error)))
    }
}

/// What an errno of connect means for the session, and under which reason it is counted.
fn classify(code: i32) -> (ConnectFailure, stats::ConnectError) {
    match code {
        errno::ECONNREFUSED | errno::ENOENT => (ConnectFailure::Backend, stats::ConnectError::Refused),
        errno::ETIMEDOUT | errno::ECANCELED => (ConnectFailure::Timeout, stats::ConnectError::Timeout),
        errno::EHOSTUNREACH
        | errno::ENETUNREACH
        | errno::EACCES
        | errno::EINVAL
        | errno::ENETDOWN
        | errno::EHOSTDOWN => (ConnectFailure::Backend, stats::ConnectError::Unreachable),
        // The backend cannot be reached from the client's address; another backend may be.
        errno::EAFNOSUPPORT => (ConnectFailure::Backend, stats::ConnectError::Resource),
        errno::ECONNRESET | errno::ECONNABORTED | errno::EPIPE => (ConnectFailure::Backend, stats::ConnectError::Reset),
        errno::EADDRNOTAVAIL | errno::ENOBUFS | errno::ENOMEM | errno::EMFILE | errno::ENFILE | errno::EAGAIN => {
            (ConnectFailure::Resource, stats::ConnectError::Resource)
        }
        _ => (ConnectFailure::Backend, stats::ConnectError::Other),
    }
}
