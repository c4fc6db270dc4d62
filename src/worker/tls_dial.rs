//! TLS to a backend: the handshake follows what the backend is told first (`greet`), and the session hears that it is
//! connected when it is over. What is waited for is a poll (`Operation::Greet`), or a turn that has time for it.
//!
//! ```text
//! connected -> greet ─┬─ PROXY header ─┬─ PostgreSQL's request ── 'S' ─┬─> go_on_dialing ──> Connected(Ok)
//!                     │                └───────────────────────────────┘    │    ↑ poll, or a turn with time
//!                     └─ no TLS ──> Connected(Ok)                           └──> dial_failed ──> Connected(Err)
//! ```
//!
//! A handshake that fails is an attempt that fails: another backend is tried. Only the attempt has a deadline
//! (`connect_timeout`), so what is given up is given up as a connect is: by cancelling the poll, or where there is
//! none, by an answer in its place ([`Worker::give_up_queued_dial`]).
//!
//! Bytes that the backend sends behind its handshake stay in the codec until the relay asks for them.

use super::Worker;
use super::slots::SlotKey;
use super::tls_side::{ShakeTerms, StepAnswer, TlsDial, TlsShake, TlsSide, TlsStream};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::token::Operation;
use crate::kernel::{Fd, Interest, Kernel, Sockets, errno};
use crate::session::{ConnectFailure, Event};
use crate::stats::ConnectError;
use crate::stats::record::EndReason;
use crate::tls::handshake::{Agreed, Handshake, HandshakeFailure, HandshakeStep};

/// Bytes of a backend's handshake that are read at a time: a certificate with those that vouch for it.
const READ_LEN: usize = 16 * 1024;

/// Why there is no handshake with a backend that has left.
const LEFT: &str = "the backend closed the connection during the handshake";

/// What a step of a handshake has come to.
enum DialStep {
    /// More has to come.
    Waits,
    /// The next one can be taken immediately.
    Next,
    /// It is over.
    Done(Agreed),
    /// It failed.
    Failed(HandshakeFailure),
}

impl<K: Kernel> Worker<K> {
    /// Notes how TLS to the backend of a session begins; true if it does. A client that goes on with a TLS of its own,
    /// by PostgreSQL's request, needs no other one around it.
    pub(super) fn will_dial(&mut self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| !slot.asks_for_tls()) else { return false };
        let table = self.known.reader.table();
        let Some(tls) = table.pool(slot.pool).and_then(|pool| pool.tls.as_ref()) else { return false };
        let Some(backend) = slot.backend.and_then(|id| table.backend(id)) else { return false };
        let Some(address) = &backend.address else { return false };
        let dial = TlsDial {
            dialer: self.dialers.of(backend.id, tls, address, backend.host.as_ref()),
            asks_first: tls.is_postgresql,
            is_queued: false,
        };
        slot.tls[Side::Backend.index()] = Some(Box::new(TlsSide::Dialing(dial)));
        true
    }

    /// Goes on with the handshake with a backend as far as its bytes go. `None` while more is waited for, else what the
    /// session must be told.
    pub(super) fn go_on_dialing(&mut self, key: SlotKey) -> Option<Event> {
        loop {
            let slot = self.slots.get(key)?;
            let fd = slot.fd(Side::Backend)?;
            if !slot.session.is_connecting() || self.connects_in_vain(key) {
                return self.connect_ended(key, -errno::ECANCELED);
            }
            if self.waits_for_turn(key, Side::Backend) {
                return None;
            }
            let begun = self.kernel.now();
            let step = self.dial_once(key, fd);
            self.turn.handshakes_ns += self.kernel.now().since_ns(begun);
            match step {
                DialStep::Next => {}
                DialStep::Waits => {
                    self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Greet));
                    return None;
                }
                DialStep::Done(agreed) => {
                    let slot = self.slots.get_mut(key)?;
                    slot.session.speaks_last(Side::Backend);
                    let pool = slot.pool;
                    let cells = &self.stats().pools.get(pool.index()).backend_handshakes;
                    cells.of(Some(agreed.kind())).add(1);
                    return self.connect_ended(key, 0);
                }
                DialStep::Failed(failure) => return self.dial_failed(key, failure),
            }
        }
    }

    /// Begins the handshake, or tells it what has come.
    fn dial_once(&mut self, key: SlotKey, fd: Fd) -> DialStep {
        let over = |cause: &str| DialStep::Failed(HandshakeFailure::new(cause));
        let mut bytes = std::mem::take(&mut self.turn.peeked);
        if bytes.len() < READ_LEN {
            bytes.resize(READ_LEN, 0);
        }
        let slot = self.slots.get_mut(key);
        let step = match slot.and_then(|slot| slot.tls[Side::Backend.index()].take()).map(|side| *side) {
            Some(TlsSide::Dialing(dial)) => {
                let asked = self.slots.get(key).and_then(|slot| slot.detour().asked_name.clone());
                match Handshake::dial(&dial.dialer, asked.as_deref()) {
                    Ok(handshake) => self.tell_backend_shake(key, fd, TlsShake::with_backend(handshake), &[]),
                    Err(error) => over(&format!("a handshake cannot be started: {error}")),
                }
            }
            Some(TlsSide::Shaking(shake)) => match self.kernel.sockets().take(fd, &mut bytes) {
                Ok(Some(count @ 1..)) => self.tell_backend_shake(key, fd, shake, &bytes[..count]),
                Ok(None) => {
                    self.set_backend_tls(key, TlsSide::Shaking(shake));
                    DialStep::Waits
                }
                Ok(Some(0)) => over(LEFT),
                Err(error) => over(&format!("{LEFT}: {error}")),
            },
            Some(TlsSide::Unasked(_) | TlsSide::Away(_) | TlsSide::Open(_)) | None => over("it has no handshake"),
        };
        self.turn.peeked = bytes;
        step
    }

    /// Tells a handshake what has come, and the backend what it says.
    fn tell_backend_shake(&mut self, key: SlotKey, fd: Fd, shake: TlsShake, bytes: &[u8]) -> DialStep {
        let StepAnswer { step, said } = StepAnswer::of(shake.handshake, bytes);
        let has_said = said.is_empty() || self.kernel.sockets().send_first(fd, &said, false).is_ok();
        match step {
            HandshakeStep::Failed(failure) => DialStep::Failed(failure),
            // Its buffer was empty, so it has room for a flight. The backend has left.
            _ if !has_said => DialStep::Failed(HandshakeFailure::new(LEFT)),
            HandshakeStep::Goes(handshake) => {
                self.set_backend_tls(key, TlsSide::Shaking(TlsShake { handshake, ..shake }));
                DialStep::Next
            }
            HandshakeStep::Done(codec, agreed) => {
                let stream = TlsStream { codec, credit: 0, has_ended: false, failure: None };
                self.set_backend_tls(key, TlsSide::Open(stream));
                DialStep::Done(agreed)
            }
        }
    }

    /// Puts back what was taken out.
    fn set_backend_tls(&mut self, key: SlotKey, side: TlsSide) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.tls[Side::Backend.index()] = Some(Box::new(side));
        }
    }

    /// There is no TLS with the backend: what the session must be told. A name that the client chose and the backend
    /// does not have is not the backend's fault.
    pub(super) fn dial_failed(&mut self, key: SlotKey, failure: HandshakeFailure) -> Option<Event> {
        let slot = self.slots.get_mut(key)?;
        let reason = if failure.is_of_clients_name { ConnectError::TlsName } else { ConnectError::Tls };
        if let Some(draft) = &mut slot.draft {
            draft.attempt_fails_for(failure.cause.into());
        }
        let pool = slot.pool;
        self.stats().pools.get(pool.index()).backend_handshakes.of(None).add(1);
        self.connect_failed(key, ConnectFailure::Backend, reason, EndReason::Memory)
    }

    /// Gives up a handshake with a backend that waits for a turn, so that no poll would tell of its end: what the
    /// session must be told.
    pub(super) fn give_up_queued_dial(&mut self, key: SlotKey) -> Option<Event> {
        let is_queued = std::mem::take(self.slots.get_mut(key)?.handshake_waits(Side::Backend)?);
        if is_queued { self.connect_ended(key, -errno::ECANCELED) } else { None }
    }
}

impl TlsShake {
    /// A handshake with a backend, whose time is that of the attempt to connect.
    fn with_backend(handshake: Handshake) -> TlsShake {
        TlsShake {
            handshake: Box::new(handshake),
            terms: ShakeTerms { deadline: Moment::NEVER, must_name_postgresql: false },
            is_queued: false,
        }
    }
}
