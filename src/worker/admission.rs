//! Before a session has a backend: who the client is, whether it may connect, and which pool it gets.
//!
//! What a client must say first (a PROXY header, a TLS ClientHello) is looked at in the kernel's queue (MSG_PEEK) and
//! left there until all of it has come, so a client that says it byte by byte, or never, takes no buffer. SO_RCVLOWAT
//! has the kernel wake us only when there is more than we saw. Only the header is taken out; what follows it is the
//! relay's, which finds it where it would have been without one.

use std::net::SocketAddr;
use std::sync::Arc;

use super::slots::{Key, Slot};
use super::turn::Worker;
use crate::admit::routes;
use crate::admit::sources::Permit;
use crate::base::address::Address;
use crate::base::refused::Refused;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::{Moment, ns};
use crate::session::{Event, Looked};
use crate::snapshot::table::{Admission, Preread};
use crate::stats::record::{Client, Reason};
use crate::uring::{Fd, socket};
use crate::wire::{client_hello, postgresql, proxy};

/// Between looks where the kernel cannot say that more has come (unix sockets), at the least; and as a part of the time
/// that was waited already, so that who never goes on costs ever less; and at the most, so that who leaves is let go.
const LOOK_AGAIN_NS: u64 = 5_000_000;
const LOOK_AGAIN_PART: u64 = 8;
const LOOK_AGAIN_MAX_NS: u64 = 1_000_000_000;

/// What is known of a client that was asked for more than its connection.
pub(super) struct Guest {
    /// What its listener asks; `None` once that was asked, so that nobody keeps the rules of old times.
    admission: Option<Arc<Admission>>,
    /// By the PROXY header: who it is, and where it went.
    claimed: Option<(SocketAddr, SocketAddr)>,
    /// Its place among the connections of its source.
    permit: Option<Permit>,
    stage: Stage,
    /// When this stage began.
    entered_at: Moment,
    /// Of this stage.
    deadline: Moment,
    /// Bytes that the last look saw; `None` before there was one.
    seen: Option<usize>,
    /// The low-water mark was raised.
    is_low_water_raised: bool,
    /// The client asked for TLS with PostgreSQL's request and was told to go on: its backend must say the same.
    asked_for_tls: bool,
    /// It was told that there is no GSS encryption.
    was_told_no: bool,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Header,
    Hello,
    Nothing,
}

/// How a look at one stage ends.
enum Step {
    /// Something else is awaited now, or there may be more of the same.
    Next,
    /// The client will say no more.
    Ended,
    /// That is all for now.
    Answer(Looked),
}

impl Guest {
    /// Whether the backend must be asked for TLS before the client's bytes.
    pub(super) fn asked_for_tls(&self) -> bool {
        self.asked_for_tls
    }

    /// By the PROXY header: who the client is, and where it went.
    pub(super) fn claimed(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.claimed
    }

    /// Begins to await something, or nothing.
    fn enter(&mut self, stage: Stage, timeout_ns: u64, now: Moment) {
        self.stage = stage;
        self.entered_at = now;
        self.seen = None;
        self.deadline = if timeout_ns == 0 { Moment::NEVER } else { now.after_ns(timeout_ns) };
    }

    /// `seen` bytes are not enough, `need` may be: waits for more.
    fn wait(&mut self, fd: Fd, seen: usize, need: usize, now: Moment) -> Step {
        if self.seen.replace(seen) == Some(seen) {
            if socket::has_ended(fd) {
                return Step::Ended;
            }
            // Told that there is more, and there is not: this socket has no low-water mark.
            let part_ns = now.since_ns(self.entered_at) / LOOK_AGAIN_PART;
            let pause_ns = part_ns.clamp(LOOK_AGAIN_NS, LOOK_AGAIN_MAX_NS);
            return Step::Answer(Looked::Again { at: now.after_ns(pause_ns).min(self.deadline) });
        }
        let need = need.max(seen + 1);
        // What came before may have needed more than what is awaited now.
        if need > 1 || self.is_low_water_raised {
            self.is_low_water_raised = need > 1;
            socket::set_low_water(fd, need);
        }
        Step::Answer(Looked::More { until: self.deadline })
    }

    /// Nothing more is asked. The relay reads from now on.
    fn leave_the_rest(&mut self, fd: Fd) {
        self.admission = None;
        if std::mem::take(&mut self.is_low_water_raised) {
            socket::set_low_water(fd, 1);
        }
    }
}

/// Who the client of a session is: by its PROXY header, or by its connection.
pub(super) fn client_of(slot: &Slot) -> Option<Address> {
    match slot.guest.as_ref().and_then(|guest| guest.claimed) {
        Some((source, _)) => Some(Address::Tcp(source)),
        None => slot.fd(Side::Client).and_then(socket::peer_address),
    }
}

impl Worker {
    /// Asks a new client what its listener wants to know.
    pub(super) fn receive(&mut self, key: Key, admission: Arc<Admission>) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        let peer = slot.fd(Side::Client).and_then(socket::peer_address);
        let mut guest = Guest {
            admission: Some(admission.clone()),
            claimed: None,
            permit: None,
            stage: Stage::Nothing,
            entered_at: now,
            deadline: Moment::NEVER,
            seen: None,
            is_low_water_raised: false,
            asked_for_tls: false,
            was_told_no: false,
        };
        let proxy = admission.proxy.as_ref();
        if let Some(proxy) = proxy {
            guest.enter(Stage::Header, ns(proxy.timeout), now);
        } else if let Some(preread) = &admission.preread {
            guest.enter(Stage::Hello, preread.timeout_ns, now);
        }
        slot.guest = Some(Box::new(guest));
        // One that is gone already needs no rule.
        let Some(peer) = peer else { return self.tell(key, Event::End(Who::Client)) };
        let refused = match proxy {
            Some(proxy) if !proxy.trusted.contains(&peer) => Some(Refused::ProxyUntrusted),
            Some(_) => None,
            None => self.judge(key, &peer).err(),
        };
        match refused {
            Some(refused) => {
                self.note_refusal(key, refused);
                self.tell(key, Event::End(Who::Rule));
            }
            None if proxy.is_some() || admission.preread.is_some() => self.tell(key, Event::Preread),
            None => {
                if let Some(guest) = self.slots.get_mut(key).and_then(|slot| slot.guest.as_mut()) {
                    guest.admission = None;
                }
                self.tell(key, Event::Accepted);
            }
        }
    }

    /// Whether that client may have a session here.
    fn judge(&mut self, key: Key, client: &Address) -> Result<(), Refused> {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(guest) = &mut slot.guest else { return Ok(()) };
        // Nobody is judged twice.
        let Some(admission) = guest.admission.clone() else { return Err(Refused::Deny) };
        if !admission.rules.admit(Some(client)) {
            return Err(Refused::Deny);
        }
        if let (Some(limits), Address::Tcp(client)) = (&admission.source_limits, client) {
            guest.permit = Some(self.shared.sources.enter(slot.listener, client.ip(), limits, now)?);
        }
        Ok(())
    }

    fn note_refusal(&mut self, key: Key, refused: Refused) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(draft) = &mut slot.draft {
            draft.ends_for(Reason::Refused(refused));
        }
        let listener = slot.listener;
        self.stats().listeners.get(listener.index()).refused[refused as usize].add(1);
    }

    fn refuse(&mut self, key: Key, refused: Refused) -> Step {
        self.note_refusal(key, refused);
        Step::Answer(Looked::Refused(Who::Rule))
    }

    /// Looks at what the client has said so far.
    pub(super) fn look_at_client(&mut self, key: Key, mut ended: bool) -> Looked {
        let mut peeked = std::mem::take(&mut self.peeked);
        peeked.resize(client_hello::INPUT_MAX.max(proxy::HEADER_MAX), 0);
        let looked = loop {
            let stage = self.slots.get(key).and_then(|slot| slot.guest.as_ref()).map(|guest| guest.stage);
            let step = match stage {
                Some(Stage::Header) => self.look_for_header(key, ended, &mut peeked),
                Some(Stage::Hello) => self.look_for_hello(key, ended, &mut peeked),
                Some(Stage::Nothing) | None => Step::Answer(Looked::Done),
            };
            match step {
                Step::Next => {}
                Step::Ended => ended = true,
                Step::Answer(looked) => break looked,
            }
        };
        self.peeked = peeked;
        if looked == Looked::Done
            && let Some(slot) = self.slots.get_mut(key)
            && let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest)
        {
            guest.leave_the_rest(fd);
        }
        looked
    }

    fn look_for_header(&mut self, key: Key, ended: bool, peeked: &mut [u8]) -> Step {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return Step::Answer(Looked::Done) };
        let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest) else {
            return Step::Answer(Looked::Done);
        };
        let bytes = match socket::peek(fd, &mut peeked[..proxy::HEADER_MAX]) {
            // It says nothing and leaves: a check of somebody, or a client that thought better of it.
            Ok(Some(0)) | Err(_) => return Step::Answer(Looked::Refused(Who::Client)),
            Ok(count) => &peeked[..count.unwrap_or(0)],
        };
        let header = match proxy::parse(bytes) {
            Ok(Some(header)) => header,
            Ok(None) if now >= guest.deadline => return self.refuse(key, Refused::ProxyTimeout),
            Ok(None) if !ended => return guest.wait(fd, bytes.len(), proxy::need(bytes), now),
            Ok(None) if socket::is_closed(fd) => return Step::Answer(Looked::Refused(Who::Client)),
            Ok(None) | Err(_) => return self.refuse(key, Refused::ProxyMalformed),
        };
        if !matches!(socket::take(fd, &mut peeked[..header.len]), Ok(Some(taken)) if taken == header.len) {
            // It was there a moment ago, and nobody else reads.
            return Step::Answer(Looked::Refused(Who::Client));
        }
        let preread = guest.admission.as_ref().and_then(|admission| admission.preread.as_ref());
        match preread.map(|preread| preread.timeout_ns) {
            Some(timeout_ns) => guest.enter(Stage::Hello, timeout_ns, now),
            None => guest.enter(Stage::Nothing, 0, now),
        }
        if let proxy::Claim::Tcp { source, destination } = header.claim {
            guest.claimed = Some((source, destination));
            if let Some(draft) = &mut slot.draft {
                draft.is_of(Client::Tcp(source));
            }
        }
        let Some(client) = client_of(slot) else { return Step::Answer(Looked::Refused(Who::Client)) };
        match self.judge(key, &client) {
            Ok(()) => Step::Next,
            Err(refused) => self.refuse(key, refused),
        }
    }

    fn look_for_hello(&mut self, key: Key, ended: bool, peeked: &mut [u8]) -> Step {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return Step::Answer(Looked::Done) };
        let (Some(fd), Some(guest)) = (slot.fd(Side::Client), &mut slot.guest) else {
            return Step::Answer(Looked::Done);
        };
        let bytes = match socket::peek(fd, &mut peeked[..client_hello::INPUT_MAX]) {
            Ok(Some(0)) | Err(_) => return Step::Answer(Looked::Refused(Who::Client)),
            Ok(count) => &peeked[..count.unwrap_or(0)],
        };
        let is_over = ended || now >= guest.deadline;
        let request = postgresql::parse(bytes);
        match request.as_ref().filter(|_| !guest.asked_for_tls) {
            Some(postgresql::Request::Ssl) => return answer_request(fd, guest, b'S'),
            Some(postgresql::Request::GssEncryption) if !guest.was_told_no => return answer_request(fd, guest, b'N'),
            _ => {}
        }
        let could_be_a_request = !guest.asked_for_tls && request.is_none();
        match client_hello::parse(bytes) {
            Ok(Some(hello)) => self.lead(key, Some(&hello)),
            Ok(None) if !is_over => guest.wait(fd, bytes.len(), 0, now),
            Ok(None) if ended && socket::is_closed(fd) => Step::Answer(Looked::Refused(Who::Client)),
            Err(_) if could_be_a_request && !is_over => guest.wait(fd, bytes.len(), postgresql::REQUEST_LEN, now),
            Ok(None) | Err(_) => self.lead(key, None),
        }
    }

    /// To the pool of the route that fits, if one does.
    fn lead(&mut self, key: Key, hello: Option<&client_hello::ClientHello>) -> Step {
        let jitter = self.random.u32(..);
        let (now, table) = (self.now, self.reader.pin());
        let Some(slot) = self.slots.get_mut(key) else { return Step::Answer(Looked::Done) };
        let Some(guest) = &mut slot.guest else { return Step::Answer(Looked::Done) };
        let admission = guest.admission.clone();
        guest.enter(Stage::Nothing, 0, now);
        let preread = admission.as_ref().and_then(|admission| admission.preread.as_ref());
        let Some(Preread { routes, refuses_unmatched, .. }) = preread else { return Step::Next };
        let found = hello.and_then(|hello| routes::find(routes, hello.server_name.as_deref(), &hello.alpn));
        match found {
            Some(&(pool, route)) => {
                // A pool that a reload has taken away meanwhile serves nobody: the pick will say so.
                if let Some(entry) = table.pool(pool) {
                    slot.session.adopt(super::accept::limits_of(entry), jitter, now);
                }
                (slot.pool, slot.route) = (pool, route);
                Step::Next
            }
            None if *refuses_unmatched => {
                drop(table);
                self.refuse(key, Refused::Unmatched)
            }
            None => Step::Next,
        }
    }
}

/// Takes PostgreSQL's request out and answers it with one byte.
fn answer_request(fd: Fd, guest: &mut Guest, answer: u8) -> Step {
    let mut request = [0; postgresql::REQUEST_LEN];
    let taken = matches!(socket::take(fd, &mut request), Ok(Some(postgresql::REQUEST_LEN)));
    if !taken || socket::send_first(fd, &[answer], false).is_err() {
        return Step::Answer(Looked::Refused(Who::Client));
    }
    guest.seen = None;
    match answer {
        b'S' => guest.asked_for_tls = true,
        _ => guest.was_told_no = true,
    }
    Step::Next
}

/// Gives the place among the connections of its source back.
pub(super) fn leave(slot: &mut Slot) -> Option<Permit> {
    slot.guest.as_mut()?.permit.take()
}
