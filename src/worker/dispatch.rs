//! From a completion to the event it means.

use super::record::resource;
use super::slots::{Key, Slot};
use super::turn::Worker;
use crate::base::id::PoolId;
use crate::base::lease::{Lease, Moved};
use crate::base::side::Side;
use crate::relay::{self, End};
use crate::session::{ConnectError, Event};
use crate::stats;
use crate::uring::ring::Completion;
use crate::uring::token::Operation;
use crate::uring::{errno, op};

impl Worker {
    #[inline]
    pub(super) fn dispatch(&mut self, completion: Completion) {
        let token = completion.token;
        let key = Key { index: token.index, generation: token.generation };
        match token.operation {
            Operation::RecvClient => self.received(key, Side::Client, completion),
            Operation::RecvBackend => self.received(key, Side::Backend, completion),
            Operation::SendClient => self.sent(key, Side::Client, completion.result),
            Operation::SendBackend => self.sent(key, Side::Backend, completion.result),
            Operation::ReadableClient => self.relay(key, relay::Event::Readable { side: Side::Client }),
            Operation::ReadableBackend => self.relay(key, relay::Event::Readable { side: Side::Backend }),
            Operation::WritableClient => self.relay(key, relay::Event::Writable { side: Side::Client }),
            Operation::WritableBackend => self.relay(key, relay::Event::Writable { side: Side::Backend }),
            Operation::Preread => self.tell(key, Event::ClientSpoke { ended: op::says_ended(completion.result) }),
            Operation::Connect => self.connected(key, completion.result),
            Operation::Greet => self.greeted(key, completion.result),
            Operation::CancelClient => self.tell(key, Event::Cancelled { side: Side::Client }),
            Operation::CancelBackend => self.tell(key, Event::Cancelled { side: Side::Backend }),
            Operation::Accept => self.accepted(completion),
            Operation::HandOver => self.taken_over(token.index, completion.result),
            Operation::HandOverFailed => self.hand_over_failed(token),
            Operation::Wake => {
                self.shared.event(self.index).clear();
                self.take_requests();
                self.ring.watch(self.shared.event(self.index));
                self.run_errands();
            }
            Operation::Queue => self.waiters.told(PoolId(token.index)),
            Operation::Forget => {}
        }
    }

    #[inline]
    fn relay(&mut self, key: Key, event: relay::Event) {
        self.tell(key, Event::Relay(event));
    }

    #[inline]
    fn received(&mut self, key: Key, side: Side, completion: Completion) {
        let buffer = completion.buffer();
        if buffer.is_some() {
            self.buffers.taken();
        }
        match (completion.result, buffer) {
            (1.., Some(buffer)) => {
                let lease = Lease { buffer, start: 0, len: completion.result as u16 };
                if self.slots.get(key).is_none() {
                    debug_assert!(false, "a receive outlived its session");
                    self.buffers.release(buffer);
                    return;
                }
                let (more, nonempty) = (completion.more(), completion.nonempty());
                if more && !nonempty {
                    self.silence.heard(&mut self.slots, key, side, self.now);
                }
                self.relay(key, relay::Event::Received { side, lease, more, nonempty });
            }
            (result, buffer) => {
                if let Some(buffer) = buffer {
                    self.buffers.release(buffer);
                }
                let end = match self.end_of(result) {
                    // Cancelled by us and not by its session: see `silence`.
                    End::Cancelled if self.slots.get(key).is_some_and(|slot| !slot.session.is_ending()) => End::Starved,
                    end => end,
                };
                self.relay(key, relay::Event::Ended { side, end });
            }
        }
    }

    fn end_of(&mut self, result: i32) -> End {
        match -result {
            0 => End::Eof,
            errno::ENOBUFS => {
                self.buffers.ran_dry();
                self.stats().worker.buffers_starved.add(1);
                End::Starved
            }
            // Interrupted: armed again like one that starved.
            errno::EAGAIN | errno::EINTR => End::Starved,
            errno::ECANCELED => End::Cancelled,
            errno => End::Failed(errno),
        }
    }

    fn sent(&mut self, key: Key, side: Side, result: i32) {
        let moved = match -result {
            errno::ECANCELED | errno::EINTR | errno::EAGAIN => Moved::WouldBlock,
            errno if errno > 0 => Moved::Failed(errno),
            _ => Moved::Bytes(result as u32),
        };
        self.count_copied(key, side, moved);
        self.relay(key, relay::Event::Sent { side, moved });
    }

    fn connected(&mut self, key: Key, result: i32) {
        if result == -errno::EADDRNOTAVAIL && self.connect_from_another(key) {
            return;
        }
        let greets = |slot: &&Slot| result == 0 && slot.greets && !slot.session.is_ending();
        let event = match self.slots.get(key).filter(greets) {
            Some(slot) if slot.session.is_connecting() => self.greet(key),
            // It was given up, and is there all the same. Without its greeting it is of no use.
            Some(_) => self.connect_ended(key, -errno::ECANCELED),
            None => self.connect_ended(key, result),
        };
        if let Some(event) = event {
            self.tell(key, event);
        }
    }

    /// Counts the end of an attempt to connect, and says what it is to the session. `result` is 0 or a negative errno.
    pub(super) fn connect_ended(&mut self, key: Key, result: i32) -> Option<Event> {
        let slot = self.slots.get_mut(key)?;
        // It came about while the kernel was still to hear that nobody wants it any more (`look_at_table`).
        let is_over = |id| self.reader.pin().backend(id).is_some_and(|backend| backend.end_sessions);
        let result = if result == 0 && slot.session.is_connecting() && slot.backend.is_some_and(is_over) {
            -errno::ECANCELED
        } else {
            result
        };
        let (id, stats) = (slot.backend?, &self.shared.stats.workers[self.index]);
        let (backend, took_ns) = (stats.backends.get(id.index()), self.now.since_ns(slot.connecting_at));
        if result == 0 {
            backend.connections_total.add(1);
            stats.pools.get(slot.pool.index()).connect_ns.record_ns(took_ns);
            if let Some(draft) = &mut slot.draft {
                draft.attempt_ended(id, took_ns, None);
            }
            let pool = slot.pool;
            self.waiters.connected(pool);
            return Some(Event::Connected(Ok(())));
        }
        let (error, reason) = match slot.session.is_connecting() {
            // Cancelled, and not by the session: the backend went down meanwhile.
            true if result == -errno::ECANCELED => (ConnectError::Backend, stats::ConnectError::Other),
            _ => classify(-result),
        };
        // A session that is ending has cancelled its connect itself: that is no fault of the backend.
        if reason != stats::ConnectError::Timeout || !slot.session.is_ending() {
            backend.connect_failed(reason);
            if let Some(draft) = &mut slot.draft {
                draft.attempt_ended(id, took_ns, Some((reason, resource(-result))));
            }
            if reason != stats::ConnectError::Resource {
                (self.shared.connect_failed)();
            }
        }
        Some(Event::Connected(Err(error)))
    }
}

/// What an errno of connect means for the session, and what it is called.
fn classify(errno: i32) -> (ConnectError, stats::ConnectError) {
    use crate::uring::errno as e;
    match errno {
        e::ECONNREFUSED | e::ENOENT => (ConnectError::Backend, stats::ConnectError::Refused),
        e::ETIMEDOUT | e::ECANCELED => (ConnectError::Timeout, stats::ConnectError::Timeout),
        e::EHOSTUNREACH | e::ENETUNREACH | e::EACCES | e::EINVAL | e::ENETDOWN | e::EHOSTDOWN => {
            (ConnectError::Backend, stats::ConnectError::Unreachable)
        }
        // It cannot be reached from the client's address; another one may.
        e::EAFNOSUPPORT => (ConnectError::Backend, stats::ConnectError::Resource),
        e::ECONNRESET | e::ECONNABORTED | e::EPIPE => (ConnectError::Backend, stats::ConnectError::Reset),
        e::EADDRNOTAVAIL | e::ENOBUFS | e::ENOMEM | e::EMFILE | e::ENFILE | e::EAGAIN => {
            (ConnectError::Resource, stats::ConnectError::Resource)
        }
        _ => (ConnectError::Backend, stats::ConnectError::Other),
    }
}
