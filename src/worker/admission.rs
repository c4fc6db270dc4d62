//! What happens before a session has a backend: the worker finds out the client's address, whether the client can
//! connect, and which pool serves it.
//!
//! A client may have to say something first (a PROXY header, a TLS ClientHello). The worker looks at it in the kernel's
//! queue (MSG_PEEK) and leaves it there until all of it has come, so a client that sends it byte by byte, or never,
//! takes no buffer. The module [`admission`](crate::admission) decides when a look is worth its price and what the
//! bytes mean; SO_RCVLOWAT makes the kernel wake this worker when there may be enough. Only a PROXY header and
//! PostgreSQL's request for TLS are taken out. Everything after them belongs to the relay, which finds it where it
//! would be without them.
//!
//! ```text
//! accept::begin ─> receive ─┬─> Event::Accepted          nothing is asked: pick a backend
//!                           └─> Event::Preread ─> Effect::Look ─> look_at_client ─> Looked::{More, Done, Refused}
//! ```

use std::sync::Arc;

use super::Worker;
use super::slots::{Slot, SlotKey};
use crate::admission::guest::Attention;
use crate::admission::{Guest, LookWait, Verdict};
use crate::admit::Rules;
use crate::admit::routes::{self, Route, RouteGuard, Said};
use crate::admit::sources::{Permit, Quota, SourceScope};
use crate::base::address::Address;
use crate::base::id::{PoolId, RouteId};
use crate::base::refused::Refused;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::{Fd, Kernel, Sockets};
use crate::session::{Event, Looked};
use crate::snapshot::table::{Admission, RouteWay, Way};
use crate::stats::record::{Client, EndReason};
use crate::wire::client_hello::ClientHello;
use crate::wire::first_bytes::Protocol;
use crate::wire::{client_hello, postgresql, proxy};

/// What one look at the client's bytes leads to.
enum AdmissionStep {
    /// Look again: another stage begins, or more bytes of this one may be there.
    Next,
    /// This is the answer for the session.
    Answer(Looked),
}

/// The address of the client of a session: the one in its PROXY header, else the one of its connection. `None` if the
/// client has left and the kernel knows the address no more.
pub(super) fn client_of(slot: &Slot, sockets: &impl Sockets) -> Option<Address> {
    match slot.guest.as_ref().and_then(|guest| guest.claimed()) {
        Some((source, _)) => Some(Address::Tcp(source)),
        None => slot.fd(Side::Client).and_then(|fd| sockets.peer_address(fd)),
    }
}

impl<K: Kernel> Worker<K> {
    /// Begins the admission of a new client. The rules are checked first, then the session is told to wait for bytes
    /// (`Preread`) or to go on (`Accepted`).
    ///
    /// With a PROXY header only the sender is judged here, by `proxy_trusted`; the client itself is judged when the
    /// header has come (`take_header`).
    pub(super) fn receive(&mut self, key: SlotKey, admission: Arc<Admission>) {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        let peer = slot.fd(Side::Client).and_then(|fd| self.kernel.sockets().peer_address(fd));
        let guest = Guest::new(admission.clone(), now);
        let is_awaited = guest.is_awaited();
        slot.guest = Some(Box::new(guest));
        // A client that has left already needs no rule.
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
                self.divide(key);
                let awaits = admission.tls.is_some() || self.awaits_first_byte(key).is_some();
                if let Some(tls) = &admission.tls
                    && let Err(refused) = self.expect_tls(key, tls)
                {
                    self.note_refusal(key, refused);
                    return self.tell(key, Event::End(Who::Rule));
                }
                self.tell(key, if awaits { Event::Preread } else { Event::Accepted });
            }
        }
    }

    /// Checks the allow and deny rules and the limits per source address, and counts the client there.
    ///
    /// # Errors
    /// The reason to refuse the client; the caller notes it and ends the session.
    fn judge(&mut self, key: SlotKey, client: &Address) -> Result<(), Refused> {
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(guest) = &mut slot.guest else { return Ok(()) };
        // No client is judged twice.
        let Some(admission) = guest.admission().cloned() else { return Err(Refused::Deny) };
        let listener = slot.listener;
        self.judge_by(key, client, &admission, (&admission.rules, admission.source_limits.as_ref(), listener.into()))
    }

    /// The same by the rules and limits of a listener or of a route.
    ///
    /// # Errors
    /// The reason to refuse the client.
    fn judge_by(
        &mut self,
        key: SlotKey,
        client: &Address,
        admission: &Admission,
        (rules, limits, scope): (&Rules, Option<&Quota>, SourceScope),
    ) -> Result<(), Refused> {
        let now = self.turn.now;
        if !rules.admit(Some(client)) {
            return Err(Refused::Deny);
        }
        let guest = self.slots.get_mut(key).and_then(|slot| slot.guest.as_mut());
        if let (Some(limits), Address::Tcp(address), Some(guest)) = (limits, client, guest)
            && !admission.source_unlimited.contains(client)
        {
            guest.holds(self.shared.sources.enter(scope, address.ip(), limits, now)?);
        }
        Ok(())
    }

    /// Counts a refusal at the listener and writes it into the record for the access log.
    pub(super) fn note_refusal(&mut self, key: SlotKey, refused: Refused) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(draft) = &mut slot.draft {
            draft.ends_for(EndReason::Refused(refused));
        }
        let listener = slot.listener;
        self.stats().listeners.get(listener.index()).refused[refused as usize].add(1);
    }

    /// Notes a refusal and answers the session with it.
    fn refuse(&mut self, key: SlotKey, refused: Refused) -> AdmissionStep {
        self.note_refusal(key, refused);
        AdmissionStep::Answer(Looked::Refused(Who::Rule))
    }

    /// Looks at what the client has sent so far, and says what follows; called for `Effect::Look`. `ended` is true when
    /// the client sends no more. Stages follow each other in one call as far as the bytes go.
    pub(super) fn look_at_client(&mut self, key: SlotKey, ended: bool) -> Looked {
        let mut peeked = std::mem::take(&mut self.turn.peeked);
        peeked.resize(client_hello::INPUT_MAX.max(proxy::HEADER_MAX), 0);
        let looked = loop {
            if let AdmissionStep::Answer(looked) = self.look_once(key, ended, &mut peeked) {
                break looked;
            }
        };
        self.turn.peeked = peeked;
        // With routes it was led already, and without a listener that asks anything when it came.
        let is_new = |guest: &Guest| guest.admission().is_some_and(|admission| admission.preread.is_none());
        let guest = self.slots.get(key).and_then(|slot| slot.guest.as_ref());
        if looked == Looked::Done && guest.is_some_and(|guest| is_new(guest)) {
            self.divide(key);
        }
        if looked == Looked::Done
            && let Some(slot) = self.slots.get_mut(key)
            && let client = slot.fd(Side::Client)
            && let Some(guest) = &mut slot.guest
        {
            // From now on TLS or the relay reads.
            let tls = guest.admission().and_then(|admission| admission.tls.clone());
            guest.is_asked_no_more();
            if let Some(fd) = client {
                wake_at(self.kernel.sockets(), fd, guest, 1);
            }
            if let Some(tls) = tls
                && let Err(refused) = self.expect_tls(key, &tls)
            {
                self.note_refusal(key, refused);
                return Looked::Refused(Who::Rule);
            }
        }
        if looked == Looked::Done {
            match self.shake_hands_first(key) {
                Looked::Done => {}
                other => return other,
            }
        }
        match (looked, self.awaits_first_byte(key)) {
            (Looked::Done, Some(spans)) => self.await_first_byte(key, spans, ended),
            _ => looked,
        }
    }

    /// Goes on with a handshake of TLS, if there is one.
    fn shake_hands_first(&mut self, key: SlotKey) -> Looked {
        let mut peeked = std::mem::take(&mut self.turn.peeked);
        let looked = self.shake_hands(key, &mut peeked);
        self.turn.peeked = peeked;
        looked
    }

    /// How long the pool of a session waits for the first byte of its clients, each time (0: without end) with what
    /// ends it then; `None` if it does not wait for it.
    fn awaits_first_byte(&self, key: SlotKey) -> Option<[(u64, Who); 2]> {
        let pool = self.known.reader.table().pool(self.slots.get(key)?.pool)?;
        let drained = self.drained_by(key).map_or((0, Who::Killed), |who| (pool.session.drain_idle_ns, who));
        pool.awaits_first_byte.then_some([(pool.session.idle_timeout_ns, Who::ClientTimeout), drained])
    }

    /// Lets a session go on once its client has sent something, or its FIN.
    fn await_first_byte(&self, key: SlotKey, spans: [(u64, Who); 2], ended: bool) -> Looked {
        let Some((fd, slot)) = self.slots.get(key).and_then(|slot| Some((slot.fd(Side::Client)?, slot))) else {
            return Looked::Done;
        };
        let sockets = self.kernel.sockets();
        if sockets.available(fd) > 0 || slot.has_tls_bytes(Side::Client) {
            return Looked::Done;
        }
        if ended || sockets.has_ended(fd) {
            // Its FIN is passed on, and the backend may answer. A client that has reset its connection hears no answer.
            return if sockets.is_closed(fd) { Looked::Refused(Who::Client) } else { Looked::Done };
        }
        let ends = spans.into_iter().filter(|(span_ns, _)| *span_ns > 0);
        let first = ends.map(|(span_ns, who)| (slot.accepted_at.after_ns(span_ns), who)).min_by_key(|(at, _)| *at);
        match first {
            Some((until, who)) if self.turn.now >= until => Looked::Silent(who),
            first => Looked::More { until: first.map_or(Moment::NEVER, |(until, _)| until) },
        }
    }

    /// Looks once. Without a reason to look (too few bytes for anything new) it makes no copy, and only says what to
    /// wait for.
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
            Verdict::Answer(answer) => match answer_request(self.kernel.sockets(), fd, answer) {
                true => {
                    guest.answered(answer);
                    AdmissionStep::Next
                }
                false => AdmissionStep::Answer(Looked::Refused(Who::Client)),
            },
            Verdict::Said(protocol, hello) => self.lead(key, protocol, hello.as_ref()),
            Verdict::Left => AdmissionStep::Answer(Looked::Refused(Who::Client)),
            Verdict::Refused(refused) => self.refuse(key, refused),
        }
    }

    /// Takes the PROXY header out of the kernel's queue, and judges the client by the address in it.
    fn take_header(&mut self, key: SlotKey, header: proxy::Header, peeked: &mut [u8]) -> AdmissionStep {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return AdmissionStep::Answer(Looked::Done) };
        let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest) else {
            return AdmissionStep::Answer(Looked::Done);
        };
        if !matches!(self.kernel.sockets().take(fd, &mut peeked[..header.len]), Ok(Some(taken)) if taken == header.len)
        {
            // It was there a moment ago, and only this worker reads from it.
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

    /// Chooses the route for what the client has said: the session gets the pool of the route that matches, if its
    /// rules let the client in, else the listener's own pool, or it is refused with `unmatched = "refuse"`.
    fn lead(&mut self, key: SlotKey, protocol: Option<Protocol>, hello: Option<&ClientHello>) -> AdmissionStep {
        let now = self.turn.now;
        let Some(slot) = self.slots.get_mut(key) else { return AdmissionStep::Answer(Looked::Done) };
        let Some(guest) = &mut slot.guest else { return AdmissionStep::Answer(Looked::Done) };
        guest.leads(now);
        let Some(admission) = guest.admission().cloned() else { return AdmissionStep::Next };
        let Some(preread) = &admission.preread else { return AdmissionStep::Next };
        let name = hello.and_then(|hello| hello.server_name.as_deref());
        if let (Some(draft), Some(name)) = (&mut slot.draft, name) {
            draft.asks_for(name);
        }
        let asked = name.map(Box::from);
        let offers = hello.map_or(&[][..], |hello| &hello.alpn);
        match routes::find(&preread.routes, Said { protocol, name, offers }) {
            Some((_, route)) => {
                let step = self.take_route(key, &admission, route);
                self.keep_asked_name(key, asked);
                return step;
            }
            None if preread.refuses_unmatched => return self.refuse(key, Refused::Unmatched),
            None => self.divide(key),
        }
        self.keep_asked_name(key, asked);
        AdmissionStep::Next
    }

    /// Gives a client that no route leads elsewhere to the pool whose turn it is, if its listener divides them.
    fn divide(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get(key) else { return };
        let entry = self.known.reader.table().listener(slot.listener);
        let share = entry.and_then(|entry| entry.split.as_ref()?.next(&self.shared.counts));
        if let Some((pool, route)) = share {
            self.give_to(key, pool, route);
        }
    }

    /// Gives a client to another pool than the one that it was accepted for.
    fn give_to(&mut self, key: SlotKey, pool: PoolId, route: RouteId) {
        let (jitter, now, table) = (self.turn.random.u32(..), self.turn.now, self.known.reader.table());
        let Some(slot) = self.slots.get_mut(key) else { return };
        // If a reload has removed the pool meanwhile, the pick finds no backend and ends the session.
        if let Some(entry) = table.pool(pool) {
            slot.session.adopt(entry.session.clone(), jitter, now);
        }
        (slot.pool, slot.route) = (pool, route);
    }

    /// Leads a client to the pool of a route, if the route lets it in.
    fn take_route(&mut self, key: SlotKey, admission: &Admission, route: &Route<RouteWay>) -> AdmissionStep {
        let RouteGuard { rules, source_limits } = &route.guard;
        if let Some(slot) = self.slots.get_mut(key)
            && !(rules.is_empty() && source_limits.is_none())
        {
            let Some(client) = client_of(slot, self.kernel.sockets()) else {
                return AdmissionStep::Answer(Looked::Refused(Who::Client));
            };
            let by = (rules, source_limits.as_ref(), route.pool.scope);
            if let Err(refused) = self.judge_by(key, &client, admission, by) {
                return self.refuse(key, refused);
            }
        }
        let Way { pool, route, split } = &route.pool.way;
        let share = split.as_ref().and_then(|split| split.next(&self.shared.counts));
        let (pool, route) = share.unwrap_or((*pool, *route));
        self.give_to(key, pool, route);
        AdmissionStep::Next
    }
}

/// Takes PostgreSQL's request out and answers it with one byte. False if the client has left.
pub(super) fn answer_request(sockets: &impl Sockets, fd: Fd, answer: u8) -> bool {
    let mut request = [0; postgresql::REQUEST_LEN];
    let is_taken = matches!(sockets.take(fd, &mut request), Ok(Some(postgresql::REQUEST_LEN)));
    is_taken && sockets.send_first(fd, &[answer], false).is_ok()
}

/// Asks the kernel to wake this worker when `need` bytes are there, if it has not been asked so.
pub(super) fn wake_at(sockets: &impl Sockets, fd: Fd, guest: &mut Guest, need: usize) {
    if let Some(bytes) = guest.low_water(need) {
        sockets.set_low_water(fd, bytes);
    }
}

/// Asks the kernel to wake this worker when as many bytes are there as `wait` needs.
fn wait_for(sockets: &impl Sockets, fd: Fd, wait: LookWait, guest: &mut Guest) -> Looked {
    match wait {
        LookWait::More { need, until } => {
            wake_at(sockets, fd, guest, need);
            Looked::More { until }
        }
        LookWait::Again { at } => Looked::Again { at },
    }
}

/// Gives back the client's place among the connections of its source address.
pub(super) fn leave(slot: &mut Slot) -> Option<Permit> {
    slot.guest.as_mut()?.leaves()
}
