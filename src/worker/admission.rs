//! Before a session has a backend: who the client is, whether it may connect, and which pool it gets.
//!
//! What a client must say first (a PROXY header, a TLS ClientHello) is looked at in the kernel's queue (MSG_PEEK) and
//! left there until all of it has come, so a client that says it byte by byte, or never, takes no buffer. When a look
//! is worth its price, and what the bytes mean, is [`admission`](crate::admission)'s; SO_RCVLOWAT has the kernel wake
//! us when there may be enough. Only the header is taken out; what follows it is the relay's, which finds it where it
//! would have been without one.

use std::sync::Arc;

use super::Worker;
use super::slots::{Slot, SlotKey};
use crate::admission::guest::Attention;
use crate::admission::{Guest, LookWait, Verdict};
use crate::admit::routes;
use crate::admit::sources::Permit;
use crate::base::address::Address;
use crate::base::refused::Refused;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::kernel::{Fd, Kernel, Sockets};
use crate::session::{Event, Looked};
use crate::snapshot::table::{Admission, PrereadEntry};
use crate::stats::record::{Client, EndReason};
use crate::wire::{client_hello, postgresql, proxy};

/// How a look at one stage ends.
enum AdmissionStep {
    /// Something else is awaited now, or there may be more of the same.
    Next,
    /// That is all for now.
    Answer(Looked),
}

/// Who the client of a session is: by its PROXY header, or by its connection.
pub(super) fn client_of(slot: &Slot, sockets: &impl Sockets) -> Option<Address> {
    match slot.guest.as_ref().and_then(|guest| guest.claimed()) {
        Some((source, _)) => Some(Address::Tcp(source)),
        None => slot.fd(Side::Client).and_then(|fd| sockets.peer_address(fd)),
    }
}

impl<K: Kernel> Worker<K> {
    /// Asks a new client what its listener wants to know.
    pub(super) fn receive(&mut self, key: SlotKey, admission: Arc<Admission>) {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        let peer = slot.fd(Side::Client).and_then(|fd| self.kernel.sockets().peer_address(fd));
        let guest = Guest::new(admission.clone(), now);
        let is_awaited = guest.is_awaited();
        slot.guest = Some(Box::new(guest));
        // One that is gone already needs no rule.
        let Some(peer) = peer else { return self.tell(key, Event::End(Who::Client)) };
        let refused = match &admission.proxy {
            Some(proxy) if !proxy.trusted.contains(&peer) => Some(Refused::ProxyUntrusted),
            Some(_) => None,
            None => self.judge(key, &peer).err(),
        };
        match refused {
            Some(refused) => {
                self.note_refusal(key, refused);
                self.tell(key, Event::End(Who::Rule));
            }
            None if is_awaited => self.tell(key, Event::Preread),
            None => {
                if let Some(guest) = self.slots.get_mut(key).and_then(|slot| slot.guest.as_mut()) {
                    guest.is_asked_no_more();
                }
                self.tell(key, Event::Accepted);
            }
        }
    }

    /// Whether that client may have a session here.
    fn judge(&mut self, key: SlotKey, client: &Address) -> Result<(), Refused> {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(guest) = &mut slot.guest else { return Ok(()) };
        // Nobody is judged twice.
        let Some(admission) = guest.admission().cloned() else { return Err(Refused::Deny) };
        if !admission.rules.admit(Some(client)) {
            return Err(Refused::Deny);
        }
        if let (Some(limits), Address::Tcp(client)) = (&admission.source_limits, client) {
            guest.holds(self.shared.sources.enter(slot.listener, client.ip(), limits, now)?);
        }
        Ok(())
    }

    fn note_refusal(&mut self, key: SlotKey, refused: Refused) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(draft) = &mut slot.draft {
            draft.ends_for(EndReason::Refused(refused));
        }
        let listener = slot.listener;
        self.stats().listeners.get(listener.index()).refused[refused as usize].add(1);
    }

    fn refuse(&mut self, key: SlotKey, refused: Refused) -> AdmissionStep {
        self.note_refusal(key, refused);
        AdmissionStep::Answer(Looked::Refused(Who::Rule))
    }

    /// Looks at what the client has said so far, if it is worth a look.
    pub(super) fn look_at_client(&mut self, key: SlotKey, ended: bool) -> Looked {
        let mut peeked = std::mem::take(&mut self.turn.peeked);
        peeked.resize(client_hello::INPUT_MAX.max(proxy::HEADER_MAX), 0);
        let looked = loop {
            if let AdmissionStep::Answer(looked) = self.look_once(key, ended, &mut peeked) {
                break looked;
            }
        };
        self.turn.peeked = peeked;
        if looked == Looked::Done
            && let Some(slot) = self.slots.get_mut(key)
            && let client = slot.fd(Side::Client)
            && let Some(guest) = &mut slot.guest
        {
            // The relay reads from now on.
            guest.is_asked_no_more();
            if let (Some(bytes), Some(fd)) = (guest.low_water(1), client) {
                self.kernel.sockets().set_low_water(fd, bytes);
            }
        }
        looked
    }

    fn look_once(&mut self, key: SlotKey, ended: bool, peeked: &mut [u8]) -> AdmissionStep {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return AdmissionStep::Answer(Looked::Done) };
        let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest) else {
            return AdmissionStep::Answer(Looked::Done);
        };
        let (most, ended) =
            match guest.told(self.kernel.sockets().available(fd), ended, || self.kernel.sockets().has_ended(fd), now) {
                Attention::Done => return AdmissionStep::Answer(Looked::Done),
                Attention::Wait(wait) => {
                    return AdmissionStep::Answer(wait_for(self.kernel.sockets(), fd, wait, guest));
                }
                Attention::Look { most, ended } => (most, ended),
            };
        let bytes = match self.kernel.sockets().peek(fd, &mut peeked[..most]) {
            Ok(Some(0)) | Err(_) => None,
            Ok(count) => Some(&peeked[..count.unwrap_or(0)]),
        };
        match guest.read(bytes, ended, || self.kernel.sockets().is_closed(fd), now) {
            Verdict::Wait(wait) => AdmissionStep::Answer(wait_for(self.kernel.sockets(), fd, wait, guest)),
            Verdict::Header(header) => self.take_header(key, header, peeked),
            Verdict::Answer(answer) => answer_request(self.kernel.sockets(), fd, guest, answer),
            Verdict::Hello(hello) => self.lead(key, hello.as_ref()),
            Verdict::Left => AdmissionStep::Answer(Looked::Refused(Who::Client)),
            Verdict::Refused(refused) => self.refuse(key, refused),
        }
    }

    /// The client's header was seen: it is taken out, and the client judged by it.
    fn take_header(&mut self, key: SlotKey, header: proxy::Header, peeked: &mut [u8]) -> AdmissionStep {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return AdmissionStep::Answer(Looked::Done) };
        let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest) else {
            return AdmissionStep::Answer(Looked::Done);
        };
        if !matches!(self.kernel.sockets().take(fd, &mut peeked[..header.len]), Ok(Some(taken)) if taken == header.len)
        {
            // It was there a moment ago, and nobody else reads.
            return AdmissionStep::Answer(Looked::Refused(Who::Client));
        }
        guest.headed(header, now);
        if let (Some((source, _)), Some(draft)) = (guest.claimed(), &mut slot.draft) {
            draft.is_of(Client::Tcp(source));
        }
        let Some(client) = client_of(slot, self.kernel.sockets()) else {
            return AdmissionStep::Answer(Looked::Refused(Who::Client));
        };
        match self.judge(key, &client) {
            Ok(()) => AdmissionStep::Next,
            Err(refused) => self.refuse(key, refused),
        }
    }

    /// To the pool of the route that fits, if one does.
    fn lead(&mut self, key: SlotKey, hello: Option<&client_hello::ClientHello>) -> AdmissionStep {
        let jitter = self.turn.random.u32(..);
        let (now, table) = (self.turn.now, self.known.reader.table());
        let Some(slot) = self.slots.get_mut(key) else { return AdmissionStep::Answer(Looked::Done) };
        let Some(guest) = &mut slot.guest else { return AdmissionStep::Answer(Looked::Done) };
        let Some(PrereadEntry { routes, refuses_unmatched, .. }) = guest.leads(now) else { return AdmissionStep::Next };
        let refuses_unmatched = *refuses_unmatched;
        let found = hello.and_then(|hello| routes::find(routes, hello.server_name.as_deref(), &hello.alpn));
        match found.copied() {
            Some((pool, route)) => {
                // A pool that a reload has taken away meanwhile serves nobody: the pick will say so.
                if let Some(entry) = table.pool(pool) {
                    slot.session.adopt(entry.session.clone(), jitter, now);
                }
                (slot.pool, slot.route) = (pool, route);
                AdmissionStep::Next
            }
            None if refuses_unmatched => self.refuse(key, Refused::Unmatched),
            None => AdmissionStep::Next,
        }
    }
}

/// Takes PostgreSQL's request out and answers it with one byte.
fn answer_request(sockets: &impl Sockets, fd: Fd, guest: &mut Guest, answer: u8) -> AdmissionStep {
    let mut request = [0; postgresql::REQUEST_LEN];
    let taken = matches!(sockets.take(fd, &mut request), Ok(Some(postgresql::REQUEST_LEN)));
    if !taken || sockets.send_first(fd, &[answer], false).is_err() {
        return AdmissionStep::Answer(Looked::Refused(Who::Client));
    }
    guest.answered(answer);
    AdmissionStep::Next
}

/// Has the kernel wake us when what is waited for may be there.
fn wait_for(sockets: &impl Sockets, fd: Fd, wait: LookWait, guest: &mut Guest) -> Looked {
    match wait {
        LookWait::More { need, until } => {
            if let Some(bytes) = guest.low_water(need) {
                sockets.set_low_water(fd, bytes);
            }
            Looked::More { until }
        }
        LookWait::Again { at } => Looked::Again { at },
    }
}

/// Gives the place among the connections of its source back.
pub(super) fn leave(slot: &mut Slot) -> Option<Permit> {
    slot.guest.as_mut()?.leaves()
}
