//! A client that must say something first, and what it has said.
//!
//! ```text
//! told(count) ─> Attention::Look ─> read(bytes) ─> Verdict::Header ─> headed ─> … ─> Verdict::Said ─> leads ─> done
//!             └> Attention::Wait                └> Verdict::Wait, Answer, Left, Refused
//! ```
//!
//! The worker carries out what a verdict asks for (`worker::admission`); nothing here touches a socket or a clock.

use std::net::SocketAddr;
use std::sync::Arc;

use super::look::{Look, LookWait};
use crate::admit::sources::Permit;
use crate::base::refused::Refused;
use crate::base::time::{Moment, ns};
use crate::snapshot::table::{Admission, PrereadEntry};
use crate::wire::first_bytes::{self, Protocol};
use crate::wire::{client_hello, postgresql, proxy};

/// How many looks at a complete ClientHello of the greatest length one client can cost.
const LOOKS_AT_ALL: usize = 8;

/// What is known of a client that was asked for something.
#[derive(Debug)]
pub struct Guest {
    /// What its listener asks. `None` when that has been asked, so that old rules are not kept in memory.
    admission: Option<Arc<Admission>>,
    /// The addresses in its PROXY header. In a box, because most clients send none.
    claimed: Option<Box<(SocketAddr, SocketAddr)>>,
    /// Its places among the connections of its source address: at its listener, and on its route.
    permits: [Option<Permit>; 2],
    /// What is awaited now.
    stage: GuestStage,
    /// The wait for that.
    look: Look,
    /// At how many bytes the kernel wakes this worker.
    low_water: usize,
    /// It has asked for TLS with PostgreSQL's request and was told to go on.
    asked_for_tls: bool,
    /// It was told that there is no encryption by GSS.
    was_told_no: bool,
}

/// What is awaited of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GuestStage {
    /// A PROXY header.
    Header,
    /// A ClientHello, perhaps after PostgreSQL's request.
    Hello,
    /// Nothing more.
    Nothing,
}

/// What must be done before the bytes are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attention {
    /// Look at this many bytes, from the first one on, and tell [`Guest::read`].
    Look {
        /// At most this many.
        most: usize,
        /// The client will send no more.
        ended: bool,
    },
    /// Wait; a look would tell nothing new.
    Wait(LookWait),
    /// Nothing is awaited.
    Done,
}

/// What the bytes of a client mean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Something is missing.
    Wait(LookWait),
    /// The header says which client this is. The caller takes its bytes out and judges the client by its rules; then
    /// something else may be awaited ([`Guest::headed`]).
    Header(proxy::Header),
    /// The caller takes PostgreSQL's request out, answers with this byte, and looks again.
    Answer(u8),
    /// What the client speaks, `None` if it has not said enough, and all that its TLS says: see [`Guest::leads`].
    Said(Option<Protocol>, Option<client_hello::ClientHello>),
    /// The client has left.
    Left,
    /// The client has broken a rule.
    Refused(Refused),
}

impl Guest {
    /// A client that was just accepted, and what its listener asks.
    pub fn new(admission: Arc<Admission>, now: Moment) -> Guest {
        let stage = match (&admission.proxy, &admission.preread) {
            (Some(_), _) => GuestStage::Header,
            (None, Some(_)) => GuestStage::Hello,
            (None, None) => GuestStage::Nothing,
        };
        let look = Look::new(0, 0, now);
        let mut guest = Guest {
            admission: Some(admission),
            claimed: None,
            permits: [None, None],
            stage: GuestStage::Nothing,
            look,
            low_water: 1,
            asked_for_tls: false,
            was_told_no: false,
        };
        guest.enter(stage, now);
        guest
    }

    /// Whether the backend must be asked for TLS before the client's bytes: the client has asked with PostgreSQL's
    /// request and was told to go on.
    pub fn asked_for_tls(&self) -> bool {
        self.asked_for_tls
    }

    /// The client's address and the address it connected to, as its PROXY header claims them.
    pub fn claimed(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.claimed.as_deref().copied()
    }

    /// What its listener asks; `None` when that has been asked.
    pub fn admission(&self) -> Option<&Arc<Admission>> {
        self.admission.as_ref()
    }

    /// The low-water mark (SO_RCVLOWAT) that its socket must get to wake this worker at `need` bytes; `None` if it has
    /// that already.
    pub fn low_water(&mut self, need: usize) -> Option<usize> {
        // The bytes before may have needed more than what is awaited now.
        (std::mem::replace(&mut self.low_water, need) != need).then_some(need)
    }

    /// Whether something is awaited of it.
    pub fn is_awaited(&self) -> bool {
        self.stage != GuestStage::Nothing
    }

    /// Notes a place among the connections of its source address. There are two at most.
    pub fn holds(&mut self, permit: Permit) {
        let free = self.permits.iter_mut().find(|place| place.is_none());
        debug_assert!(free.is_some(), "it is counted for a third time");
        if let Some(free) = free {
            *free = Some(permit);
        }
    }

    /// Takes such a place out, to give it back; `None` when there is none left.
    pub fn leaves(&mut self) -> Option<Permit> {
        self.permits.iter_mut().find_map(Option::take)
    }

    /// Nothing more will be asked.
    pub fn is_asked_no_more(&mut self) {
        self.admission = None;
    }

    /// Begins to await something, or nothing.
    fn enter(&mut self, stage: GuestStage, now: Moment) {
        let admission = self.admission.as_ref();
        let proxy_ns = admission.and_then(|admission| admission.proxy.as_ref()).map_or(0, |proxy| ns(proxy.timeout));
        let hello_ns = admission.and_then(|admission| admission.preread.as_ref()).map_or(0, |asked| asked.timeout_ns);
        self.stage = stage;
        self.look = match stage {
            GuestStage::Header => Look::new(proxy_ns, LOOKS_AT_ALL * proxy::HEADER_MAX, now),
            GuestStage::Hello => Look::new(hello_ns, LOOKS_AT_ALL * client_hello::INPUT_MAX, now),
            GuestStage::Nothing => Look::new(0, 0, now),
        };
    }

    /// Takes how many bytes there are, and whether the client will send no more (`ended`). `has_ended` asks for that
    /// again, and is called only if it matters.
    pub fn told(&mut self, count: usize, ended: bool, has_ended: impl FnOnce() -> bool, now: Moment) -> Attention {
        let most = match self.stage {
            GuestStage::Header => proxy::HEADER_MAX,
            GuestStage::Hello => client_hello::INPUT_MAX,
            GuestStage::Nothing => return Attention::Done,
        };
        if ended || self.look.is_worth(count, now) {
            return Attention::Look { most, ended };
        }
        if self.look.is_known(count) && has_ended() {
            return Attention::Look { most, ended: true };
        }
        Attention::Wait(self.look.wait_on(count, now))
    }

    /// Takes the bytes; `None` means that the client has ended without any. `is_closed` asks whether the connection is
    /// closed, and is called only if it matters.
    pub fn read(&mut self, bytes: Option<&[u8]>, ended: bool, is_closed: impl Fn() -> bool, now: Moment) -> Verdict {
        // It sends nothing and leaves: a health check of another program, or a client that has changed its mind.
        let Some(bytes) = bytes else { return Verdict::Left };
        self.look.looked(bytes.len());
        match self.stage {
            GuestStage::Header => self.read_header(bytes, ended, is_closed, now),
            GuestStage::Hello => self.read_hello(bytes, ended, is_closed, now),
            GuestStage::Nothing => Verdict::Said(None, None),
        }
    }

    /// What the bytes mean while a PROXY header is awaited.
    fn read_header(&mut self, bytes: &[u8], ended: bool, is_closed: impl Fn() -> bool, now: Moment) -> Verdict {
        match proxy::parse(bytes) {
            Ok(Some(header)) => Verdict::Header(header),
            Ok(None) if self.look.is_late(now) => Verdict::Refused(Refused::ProxyTimeout),
            Ok(None) if !ended && !self.look.is_spent() => {
                Verdict::Wait(self.look.wait(bytes.len(), proxy::need(bytes), now))
            }
            Ok(None) if is_closed() => Verdict::Left,
            Ok(None) | Err(_) => Verdict::Refused(Refused::ProxyMalformed),
        }
    }

    /// Its header was taken out: notes the claim, and awaits what comes next.
    pub fn headed(&mut self, header: proxy::Header, now: Moment) {
        if let proxy::ProxyClaim::Tcp { source, destination } = header.claim {
            self.claimed = Some(Box::new((source, destination)));
        }
        let asks_for_hello = self.admission.as_ref().is_some_and(|admission| admission.preread.is_some());
        self.enter(if asks_for_hello { GuestStage::Hello } else { GuestStage::Nothing }, now);
    }

    /// What the bytes mean while it is awaited what the client speaks.
    fn read_hello(&mut self, bytes: &[u8], ended: bool, is_closed: impl Fn() -> bool, now: Moment) -> Verdict {
        let is_over = ended || self.look.is_late(now) || self.look.is_spent();
        // A client that has asked with PostgreSQL's request speaks PostgreSQL, whatever follows.
        let asked = self.asked_for_tls || self.was_told_no;
        let request = postgresql::parse(bytes);
        let wants_hello = self.asks_for(|preread| preread.wants_hello);
        match request.as_ref().filter(|_| wants_hello && !self.asked_for_tls) {
            Some(postgresql::Request::Ssl) => return Verdict::Answer(b'S'),
            Some(postgresql::Request::GssEncryption) if !self.was_told_no => return Verdict::Answer(b'N'),
            _ => {}
        }
        let could_be_a_request = !self.asked_for_tls && request.is_none();
        let told = match asked {
            true => Some(Protocol::Postgresql),
            false => first_bytes::tell(bytes),
        };
        let wants_protocol = self.asks_for(|preread| preread.wants_protocol);
        let mut wait = |need: usize| Verdict::Wait(self.look.wait(bytes.len(), need, now));
        match client_hello::parse(bytes) {
            Ok(Some(hello)) => {
                Verdict::Said(Some(if asked { Protocol::Postgresql } else { Protocol::Tls }), Some(hello))
            }
            Ok(None) if !is_over => wait(client_hello::need(bytes)),
            Ok(None) if ended && is_closed() => Verdict::Left,
            // It said nothing, or began to speak TLS and did not end its ClientHello.
            Ok(None) => Verdict::Said(None, None),
            Err(_) if could_be_a_request && !is_over => wait(postgresql::REQUEST_LEN),
            Err(_) if told.is_none() && wants_protocol && !is_over => wait(bytes.len() + 1),
            Err(_) => Verdict::Said(Some(told.unwrap_or(Protocol::Other)), None),
        }
    }

    /// Whether the routes of its listener ask for something.
    fn asks_for(&self, what: impl Fn(&PrereadEntry) -> bool) -> bool {
        self.admission.as_ref().and_then(|admission| admission.preread.as_ref()).is_some_and(what)
    }

    /// PostgreSQL's request was taken out and answered with this byte.
    pub fn answered(&mut self, answer: u8) {
        self.look.restart();
        match answer {
            b'S' => self.asked_for_tls = true,
            _ => self.was_told_no = true,
        }
    }

    /// Nothing is awaited any more. Returns the routes by which its TLS decides about the pool, if there are any.
    pub fn leads(&mut self, now: Moment) -> Option<&PrereadEntry> {
        self.enter(GuestStage::Nothing, now);
        self.admission.as_ref()?.preread.as_ref()
    }
}

#[cfg(test)]
mod tests;
