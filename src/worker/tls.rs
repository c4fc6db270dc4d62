//! TLS that ends here: the handshake of a client, and its records on their way to and from the relay.
//!
//! The relay moves plaintext and knows nothing of it. A receive on a side that speaks TLS brings ciphertext, which the
//! codec opens in its buffer; a send seals its buffer first. Three things follow from that:
//!
//! - A record can end in another buffer than it begins in. What cannot be opened yet waits in the codec. A receive that
//!   brought nothing for the relay is armed again here, and what the codec has more than one buffer takes is given to
//!   the relay when it receives again ([`Worker::arm_tls`]).
//! - The end of a stream (close_notify) and the end of its connection (a FIN) come apart. The relay hears of the first
//!   of them; a connection that ends without close_notify cut its stream short, which is counted.
//! - A record is sent whole or not at all. Where the kernel takes a part of it, the relay hears that there was no room,
//!   and sends the same lease again; the codec knows how much of it is gone.

use std::ops::Range;
use std::sync::Arc;

use super::Worker;
use super::admission::{answer_request, wake_at};
use super::slots::SlotKey;
use super::tls_away::StepPlace;
use super::tls_side::{ShakeTerms, StepAnswer, TlsOffer, TlsShake, TlsSide, TlsStream};
use crate::base::lease::{Lease, Moved};
use crate::base::refused::Refused;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::token::Operation;
use crate::kernel::{Buffers, Completion, Fd, Kernel, Op, Sockets, Wrapped, errno};
use crate::relay::{self, End};
use crate::session::Looked;
use crate::stats::tls::{TlsEndReason, TlsFacts};
use crate::tls::codec::{SealedParts, StreamEnd};
use crate::tls::handshake::{Agreed, Handshake, HandshakeStep};
use crate::tls::{Alert, Codec, ServerTls};
use crate::wire::postgresql::{self, ClientBegin, Request};

/// Between looks at a client that has sent a part of its request, where the kernel cannot tell of the rest.
const HALF_REQUEST_NS: u64 = 100_000_000;

impl<K: Kernel> Worker<K> {
    /// The stream of a side, if it speaks TLS and its handshake is over.
    #[inline]
    pub(super) fn speaks_tls(&self, key: SlotKey, side: Side) -> bool {
        self.slots.get(key).is_some_and(|slot| matches!(slot.tls[side.index()].as_deref(), Some(TlsSide::Open(_))))
    }

    /// The same to change; `None` while its handshake goes on.
    fn stream(&mut self, key: SlotKey, side: Side) -> Option<&mut TlsStream> {
        self.slots.get_mut(key)?.tls_stream(side)
    }

    /// Has the client shake hands, before a backend is chosen for it.
    ///
    /// # Errors
    /// It is not served.
    pub(super) fn expect_tls(&mut self, key: SlotKey, tls: &Arc<ServerTls>) -> Result<(), Refused> {
        let timeout_ns = tls.handshake_timeout_ns;
        let deadline = if timeout_ns == 0 { Moment::NEVER } else { self.turn.now.after_ns(timeout_ns) };
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        // Its routes may have looked at the ClientHello that follows its request.
        let has_asked = slot.asks_for_tls();
        let side = match tls.is_postgresql && !has_asked {
            true => TlsSide::Unasked(TlsOffer { tls: tls.clone(), deadline, was_told_no: false }),
            false => TlsSide::Shaking(begun(tls, deadline, false)?),
        };
        slot.tls[Side::Client.index()] = Some(Box::new(side));
        Ok(())
    }

    /// Goes on with the handshake of a client as far as its bytes go. [`Looked::Done`] also where there is none.
    pub(super) fn shake_hands(&mut self, key: SlotKey, peeked: &mut [u8]) -> Looked {
        loop {
            let Some(slot) = self.slots.get_mut(key) else { return Looked::Done };
            let Some(fd) = slot.fd(Side::Client) else { return Looked::Done };
            let (deadline, is_unasked) = match slot.tls[Side::Client.index()].as_deref() {
                Some(TlsSide::Unasked(offer)) => (offer.deadline, true),
                Some(TlsSide::Shaking(shake)) => (shake.terms.deadline, false),
                Some(TlsSide::Away(away)) => (away.terms.deadline, false),
                Some(TlsSide::Open(_) | TlsSide::Dialing(_)) | None => return Looked::Done,
            };
            if self.turn.now >= deadline {
                return self.refuse_tls(key, "no complete handshake came within handshake_timeout".to_string(), false);
            }
            if is_unasked {
                match self.hear_request(key, fd, deadline) {
                    Some(looked) => return looked,
                    None => continue,
                }
            }
            match self.step_place(key) {
                StepPlace::Here => {}
                StepPlace::Away => return Looked::Again { at: deadline },
                StepPlace::Back(terms, answer) => match self.heed_step(key, fd, terms, answer) {
                    Some(looked) => return looked,
                    None => continue,
                },
            }
            let goes_away = self.goes_away(key);
            let waits = if goes_away { self.waits_for_signer(key) } else { self.waits_for_turn(key, Side::Client) };
            if waits {
                return Looked::Again { at: deadline };
            }
            let count = match self.kernel.sockets().take(fd, peeked) {
                Ok(Some(count @ 1..)) => count,
                Ok(None) => return Looked::More { until: deadline },
                Ok(Some(0)) | Err(_) => {
                    self.note_handshake(key, None);
                    return Looked::Refused(Who::Client);
                }
            };
            if goes_away {
                self.send_away(key, &peeked[..count]);
                return Looked::Again { at: deadline };
            }
            let begun = self.kernel.now();
            let answer = self.shake_with(key, fd, &peeked[..count]);
            self.turn.handshakes_ns += self.kernel.now().since_ns(begun);
            if let Some(looked) = answer {
                return looked;
            }
        }
    }

    /// Looks at how a client of PostgreSQL begins, and answers a request. `None` if there is more to look at.
    fn hear_request(&mut self, key: SlotKey, fd: Fd, deadline: Moment) -> Option<Looked> {
        let mut first = [0; postgresql::REQUEST_LEN];
        let (slot, sockets) = (self.slots.get_mut(key)?, self.kernel.sockets());
        // Every client is a guest before TLS is expected of it.
        let Some(guest) = slot.guest.as_mut() else { return Some(Looked::Refused(Who::Rule)) };
        let begin = match sockets.peek(fd, &mut first) {
            Ok(Some(count @ 1..)) => postgresql::begin(&first[..count]),
            Ok(None) => return Some(Looked::More { until: deadline }),
            Ok(Some(0)) | Err(_) => return Some(Looked::Refused(Who::Client)),
        };
        let Some(begin) = begin else {
            if sockets.has_ended(fd) {
                return Some(Looked::Refused(Who::Client));
            }
            // A unix socket has no such mark, and is looked at again.
            wake_at(sockets, fd, guest, postgresql::REQUEST_LEN);
            return Some(Looked::More { until: deadline.min(self.turn.now.after_ns(HALF_REQUEST_NS)) });
        };
        wake_at(sockets, fd, guest, 1);
        let Some(TlsSide::Unasked(offer)) = slot.tls[Side::Client.index()].as_deref_mut() else { return None };
        let (tls, asks_again) = (offer.tls.clone(), offer.was_told_no);
        offer.was_told_no = true;
        match begin {
            ClientBegin::Tls => return self.begin_tls(key, &tls, deadline, true),
            ClientBegin::Asks(Request::GssEncryption) if asks_again => {
                return Some(self.refuse_tls(key, "the client asks for GSS again and again".to_string(), false));
            }
            ClientBegin::Asks(request) => {
                if !answer_request(sockets, fd, if request == Request::Ssl { b'S' } else { b'N' }) {
                    return Some(Looked::Refused(Who::Client));
                }
                if request == Request::Ssl {
                    return self.begin_tls(key, &tls, deadline, false);
                }
            }
            ClientBegin::Cancel => slot.tls[Side::Client.index()] = None,
            ClientBegin::Startup if tls.allows_plaintext => slot.tls[Side::Client.index()] = None,
            ClientBegin::Startup => {
                let _ = sockets.send_first(fd, &postgresql::refusal_of_clear_text(), false);
                return Some(self.refuse_tls(key, "the client went on without TLS".to_string(), false));
            }
            ClientBegin::Unknown => {
                let cause = "the client speaks neither PostgreSQL nor TLS".to_string();
                return Some(self.refuse_tls(key, cause, false));
            }
        }
        None
    }

    /// Begins a handshake. `None` if it goes on; a client that was promised TLS is never served without.
    fn begin_tls(
        &mut self,
        key: SlotKey,
        tls: &Arc<ServerTls>,
        deadline: Moment,
        must_name_postgresql: bool,
    ) -> Option<Looked> {
        match begun(tls, deadline, must_name_postgresql) {
            Ok(shake) => {
                self.slots.get_mut(key)?.tls[Side::Client.index()] = Some(Box::new(TlsSide::Shaking(shake)));
                None
            }
            Err(_) => Some(self.refuse_tls(key, "a handshake cannot be started".to_string(), false)),
        }
    }

    /// Tells a handshake what has come. `None` if it goes on.
    fn shake_with(&mut self, key: SlotKey, fd: Fd, bytes: &[u8]) -> Option<Looked> {
        let slot = self.slots.get_mut(key)?;
        let Some(TlsSide::Shaking(shake)) = slot.tls[Side::Client.index()].take().map(|side| *side) else {
            return Some(Looked::Done);
        };
        let answer = StepAnswer::of(shake.handshake, bytes);
        self.heed_step(key, fd, shake.terms, answer)
    }

    /// Heeds what a step of a handshake has come to, and sends what it says. `None` if it goes on.
    fn heed_step(&mut self, key: SlotKey, fd: Fd, terms: ShakeTerms, answer: StepAnswer) -> Option<Looked> {
        let StepAnswer { step, said } = answer;
        let has_said = said.is_empty() || self.kernel.sockets().send_first(fd, &said, false).is_ok();
        match step {
            HandshakeStep::Failed(failure) => Some(self.refuse_tls(key, failure.cause, has_said && !said.is_empty())),
            // Its buffer was empty, so it has room for a flight. The client has left.
            _ if !has_said => {
                self.note_handshake(key, None);
                Some(Looked::Refused(Who::Client))
            }
            HandshakeStep::Goes(handshake) => {
                let slot = self.slots.get_mut(key)?;
                if let (Some(draft), Some(name)) = (&mut slot.draft, handshake.server_name()) {
                    draft.asks_for(name);
                }
                let shake = TlsShake { handshake, terms, is_queued: false };
                slot.tls[Side::Client.index()] = Some(Box::new(TlsSide::Shaking(shake)));
                None
            }
            HandshakeStep::Done(codec, agreed) => {
                let is_named = agreed.protocol.as_deref() == Some(postgresql::ALPN.as_bytes());
                let slot = self.slots.get_mut(key)?;
                let stream = TlsStream { codec, credit: 0, has_ended: false, failure: None };
                slot.tls[Side::Client.index()] = Some(Box::new(TlsSide::Open(stream)));
                if terms.must_name_postgresql && !is_named {
                    self.say_to(key, Side::Client, |codec| codec.give_up(Alert::NO_APPLICATION_PROTOCOL));
                    let cause = "it began with TLS, and did not name the protocol postgresql (ALPN)".to_string();
                    return Some(self.refuse_tls(key, cause, true));
                }
                slot.session.speaks_last(Side::Client);
                self.note_handshake(key, Some(&agreed));
                self.keep_for_backend(key, agreed);
                Some(Looked::Done)
            }
        }
    }

    /// Counts a handshake that is over, and notes for the log what was agreed on; `None` if it failed.
    fn note_handshake(&mut self, key: SlotKey, agreed: Option<&Agreed>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let (Some(draft), Some(agreed)) = (&mut slot.draft, agreed) {
            let Agreed { version, cipher, is_resumed, .. } = *agreed;
            draft.speaks_tls(TlsFacts { version, cipher, is_resumed });
        }
        let (listener, accepted_at) = (slot.listener, slot.accepted_at);
        let cells = &self.stats().listeners.get(listener.index()).handshakes;
        if agreed.is_some() {
            cells.took_ns.record_ns(self.kernel.now().since_ns(accepted_at));
        }
        cells.of(agreed.map(Agreed::kind)).add(1);
    }

    /// Refuses a client whose handshake failed: with an alert and a FIN if it can be told, else with a reset.
    fn refuse_tls(&mut self, key: SlotKey, cause: String, is_told: bool) -> Looked {
        self.note_handshake(key, None);
        self.note_refusal(key, Refused::Tls);
        if let Some(draft) = self.slots.get_mut(key).and_then(|slot| slot.draft.as_mut()) {
            draft.tls_failed(TlsEndReason::Handshake(cause.into()));
        }
        if is_told { Looked::Told(Who::Rule) } else { Looked::Refused(Who::Rule) }
    }

    /// What the relay is told when it asks for more of a side that speaks TLS: what the codec has, or how the stream
    /// ended. `None` if a receive is to be armed; not on any other side.
    pub(super) fn arm_tls(&mut self, key: SlotKey, side: Side, credit: u32) -> Option<relay::Event> {
        loop {
            let stream = self.stream(key, side)?;
            stream.credit = credit;
            if let Some(end) = stream.codec.end() {
                return Some(relay::Event::Ended { side, end: self.end_stream(key, side, end) });
            }
            if !stream.codec.has_more() {
                if let Some(errno) = stream.failure {
                    return Some(relay::Event::Ended { side, end: End::Failed(errno) });
                }
                let is_over = stream.has_ended;
                return is_over.then(|| relay::Event::Ended { side, end: self.cut_stream(key, side) });
            }
            // It tries again after a pause. What the kernel was shown brings nothing here.
            let Some(buffer) = self.kernel.buffers().take() else {
                return Some(relay::Event::Ended { side, end: End::Later });
            };
            let Some(stream) = self.slots.get_mut(key).and_then(|slot| slot.tls_stream(side)) else {
                self.kernel.buffers().release(buffer);
                return None;
            };
            let plain = stream.codec.open_backlog(self.kernel.buffers().space(buffer), &mut self.turn.backlogs);
            if let Some(lease) = self.lease_of(buffer, plain) {
                return Some(relay::Event::Received { side, lease, more: false, nonempty: true });
            }
        }
    }

    /// The plaintext in a receive buffer. Without any, the buffer is given back.
    fn lease_of(&mut self, buffer: u16, plain: Range<usize>) -> Option<Lease> {
        if plain.is_empty() {
            self.kernel.buffers().release(buffer);
            return None;
        }
        Some(Lease { buffer, start: plain.start as u16, len: plain.len() as u16 })
    }

    /// The receive on a side that speaks TLS is over and has brought nothing for the relay, which still waits: what it
    /// is told; `None` if another receive is armed.
    pub(super) fn receive_again(&mut self, key: SlotKey, side: Side) -> Option<relay::Event> {
        let slot = self.slots.get(key)?;
        if slot.session.is_ending() {
            return Some(relay::Event::Ended { side, end: End::Cancelled });
        }
        let is_scarce = self.kernel.buffers().is_scarce();
        let credit = if is_scarce { 1 } else { self.stream(key, side)?.credit };
        if let Some(event) = self.arm_tls(key, side, credit) {
            return Some(event);
        }
        let fd = self.fd(key, side)?;
        self.kernel.push(key.token(Operation::recv(side)), Op::Recv { fd, credit, fresh: false });
        None
    }

    /// A receive on a side that speaks TLS brought ciphertext: what the relay is told of it, if anything.
    pub(super) fn received_tls(
        &mut self,
        key: SlotKey,
        side: Side,
        buffer: u16,
        completion: Completion,
    ) -> Option<relay::Event> {
        let (len, more) = (completion.result as usize, completion.more);
        let Some(stream) = self.slots.get_mut(key).and_then(|slot| slot.tls_stream(side)) else {
            self.kernel.buffers().release(buffer);
            return None;
        };
        let plain = stream.codec.open(self.kernel.buffers().space(buffer), len, &mut self.turn.backlogs);
        // What the relay has got is no part of the credit any more, should the receive have to be armed again.
        stream.credit = stream.credit.saturating_sub(plain.len() as u32).max(1);
        let is_done = stream.codec.end().is_some() || stream.codec.has_more();
        if is_done && more {
            // What the codec has comes first: see `arm_tls`.
            self.cancel(key, side, Operation::recv(side));
        }
        if let Some(lease) = self.lease_of(buffer, plain) {
            let nonempty = completion.nonempty;
            return Some(relay::Event::Received { side, lease, more, nonempty });
        }
        if more { None } else { self.receive_again(key, side) }
    }

    /// The connection of a side that speaks TLS has ended in a FIN: what the relay is told.
    pub(super) fn tls_finished(&mut self, key: SlotKey, side: Side) -> Option<relay::Event> {
        self.stream(key, side)?.has_ended = true;
        self.receive_again(key, side)
    }

    /// The connection of a side that speaks TLS has failed: what the relay is told. Whole records that came before are
    /// opened first.
    pub(super) fn tls_connection_failed(&mut self, key: SlotKey, side: Side, errno: i32) -> Option<relay::Event> {
        self.stream(key, side)?.failure = Some(errno);
        self.receive_again(key, side)
    }

    /// A stream that ends without close_notify: a failure in the middle of a record, and counted at its end.
    fn cut_stream(&mut self, key: SlotKey, side: Side) -> End {
        let is_amid = self.stream(key, side).is_some_and(|stream| stream.codec.is_amid_record());
        if let Some(slot) = self.slots.get(key) {
            let truncated = match side {
                Side::Client => &self.stats().listeners.get(slot.listener.index()).tls_truncated,
                Side::Backend => &self.stats().pools.get(slot.pool.index()).tls_truncated,
            };
            truncated.add(1);
        }
        if is_amid { End::Failed(errno::ECONNRESET) } else { End::Eof }
    }

    /// What the end of a stream means for the relay.
    fn end_stream(&mut self, key: SlotKey, side: Side, end: StreamEnd) -> End {
        let (reason, told) = match end {
            StreamEnd::Closed => return End::Eof,
            StreamEnd::Alerted(alert) => (TlsEndReason::Alerted(side, alert.to_string().into()), None),
            StreamEnd::Broken(alert) => (TlsEndReason::Broken(side, alert.to_string().into()), Some(alert)),
        };
        if let Some(draft) = self.slots.get_mut(key).and_then(|slot| slot.draft.as_mut()) {
            draft.tls_failed(reason);
        }
        if let Some(alert) = told {
            self.say_to(key, side, |codec| codec.give_up(alert));
        }
        End::Failed(errno::ECONNRESET)
    }

    /// Seals a lease for a side that speaks TLS and sends it: what the relay is told.
    pub(super) fn send_tls(&mut self, key: SlotKey, side: Side, lease: Lease, followed: bool) -> relay::Event {
        let sent = |moved| relay::Event::Sent { side, moved };
        let Some(slot) = self.slots.get_mut(key) else { return sent(Moved::Failed(errno::EPIPE)) };
        let (Some(fd), Some(stream)) = (slot.fd(side), slot.tls_stream(side)) else {
            return sent(Moved::Failed(errno::EPIPE));
        };
        let plain = &mut self.kernel.buffers().space(lease.buffer)[usize::from(lease.start)..lease.end()];
        if stream.codec.seal(plain).is_err() {
            return sent(Moved::Failed(errno::EPIPE));
        }
        let moved = self.send_sealed(key, side, fd, (lease, followed));
        if let Moved::Bytes(len) = moved {
            self.count_sent(key, side, Moved::Bytes(len));
        }
        sent(moved)
    }

    /// Sends what the codec has sealed. Bytes only when all of it is sent: those of the lease.
    fn send_sealed(&mut self, key: SlotKey, side: Side, fd: Fd, (lease, followed): (Lease, bool)) -> Moved {
        let Some(stream) = self.slots.get_mut(key).and_then(|slot| slot.tls_stream(side)) else {
            return Moved::Failed(errno::EPIPE);
        };
        let SealedParts { before, body, after } = stream.codec.parts();
        let start = lease.start + body.start as u16;
        let lease = Lease { start, len: body.len() as u16, ..lease };
        match self.kernel.send_wrapped(fd, Wrapped { before, lease, after, followed }) {
            Ok(count) => stream.codec.sent(count).map_or(Moved::WouldBlock, Moved::Bytes),
            Err(error) => self.kernel.sockets().refusal(error, fd),
        }
    }

    /// Says close_notify to a side, before its FIN: what the relay is told.
    pub(super) fn say_last(&mut self, key: SlotKey, side: Side) -> relay::Event {
        let fd = self.fd(key, side);
        let moved = match (self.stream(key, side), fd) {
            (Some(stream), Some(fd)) => {
                stream.codec.part();
                match stream.codec.is_sending() {
                    true => self.send_sealed(key, side, fd, (Lease::default(), false)),
                    false => Moved::Bytes(0),
                }
            }
            _ => Moved::Bytes(0),
        };
        relay::Event::Sent { side, moved }
    }

    /// Says close_notify to a side whose connection is about to be closed properly, if there is room for it.
    pub(super) fn part(&mut self, key: SlotKey, side: Side) {
        self.say_to(key, side, Codec::part);
    }

    /// Seals a message and sends it, if there is room for it.
    fn say_to(&mut self, key: SlotKey, side: Side, message: impl FnOnce(&mut Codec)) {
        let fd = self.fd(key, side);
        if let (Some(stream), Some(fd)) = (self.stream(key, side), fd)
            && !stream.codec.is_sending()
        {
            message(&mut stream.codec);
            if stream.codec.is_sending() {
                self.send_sealed(key, side, fd, (Lease::default(), false));
            }
        }
    }
}

/// A handshake that begins.
///
/// # Errors
/// rustls cannot begin.
fn begun(tls: &Arc<ServerTls>, deadline: Moment, must_name_postgresql: bool) -> Result<TlsShake, Refused> {
    let handshake = Box::new(Handshake::new(tls).map_err(|_| Refused::Tls)?);
    let terms = ShakeTerms { deadline, must_name_postgresql };
    Ok(TlsShake { handshake, terms, is_queued: false })
}
