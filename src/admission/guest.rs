//! A client that was asked for more than its connection, and what it has said.

use std::net::SocketAddr;
use std::sync::Arc;

use super::look::{Look, LookWait};
use crate::admit::sources::Permit;
use crate::base::refused::Refused;
use crate::base::time::{Moment, ns};
use crate::snapshot::table::{Admission, PrereadEntry};
use crate::wire::{client_hello, postgresql, proxy};

/// Looks at a whole ClientHello of the greatest length that one client may cost.
const LOOKS_AT_ALL: usize = 8;

/// What is known of a client that was asked for something.
#[derive(Debug)]
pub struct Guest {
    /// What its listener asks; `None` once that was asked, so that nobody keeps the rules of old times.
    admission: Option<Arc<Admission>>,
    /// In a box, as most clients claim nothing.
    claimed: Option<Box<(SocketAddr, SocketAddr)>>,
    permit: Option<Permit>,
    stage: GuestStage,
    look: Look,
    /// The kernel wakes us at so many bytes.
    low_water: usize,
    asked_for_tls: bool,
    /// It was told that there is no GSS encryption.
    was_told_no: bool,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GuestStage {
    Header,
    Hello,
    Nothing,
}

/// What is to be done before anything is known of the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attention {
    /// Look at the bytes, at so many from the first on, and tell [`Guest::read`].
    Look {
        /// At most.
        most: usize,
        /// The client will say no more.
        ended: bool,
    },
    /// Not yet.
    Wait(LookWait),
    /// Nothing is awaited.
    Done,
}

/// What the bytes of a client come to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not all has come.
    Wait(LookWait),
    /// The client is who this header says. Take its bytes out; its rules are to be judged by, then something else may
    /// be awaited: see [`Guest::headed`].
    Header(proxy::Header),
    /// Take PostgreSQL's request out and answer with this byte; then look again.
    Answer(u8),
    /// This is all that its TLS says, if it is TLS: see [`Guest::leads`].
    Hello(Option<client_hello::ClientHello>),
    /// It has left.
    Left,
    /// It has broken a rule.
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
            permit: None,
            stage: GuestStage::Nothing,
            look,
            low_water: 1,
            asked_for_tls: false,
            was_told_no: false,
        };
        guest.enter(stage, now);
        guest
    }

    /// Whether the backend must be asked for TLS before the client's bytes: the client asked with PostgreSQL's request
    /// and was told to go on.
    pub fn asked_for_tls(&self) -> bool {
        self.asked_for_tls
    }

    /// By the PROXY header: who the client is, and where it went.
    pub fn claimed(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.claimed.as_deref().copied()
    }

    /// What its listener asks; `None` once that was asked.
    pub fn admission(&self) -> Option<&Arc<Admission>> {
        self.admission.as_ref()
    }

    /// Where to set the low-water mark of its socket (SO_RCVLOWAT) so that it wakes us at `need` bytes; `None` if it is
    /// there already.
    pub fn low_water(&mut self, need: usize) -> Option<usize> {
        // What came before may have needed more than what is awaited now.
        (std::mem::replace(&mut self.low_water, need) != need).then_some(need)
    }

    /// Whether something is awaited of it.
    pub fn is_awaited(&self) -> bool {
        self.stage != GuestStage::Nothing
    }

    /// It has a place among the connections of its source.
    pub fn holds(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Gives that place back.
    pub fn leaves(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Nothing more is asked.
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

    /// `count` bytes are there, and the client will say no more if it has `ended`. `has_ended` asks for that again, if
    /// it matters.
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

    /// `bytes` are there; `None` is an end without any. `is_closed` asks whether the connection is no more, if it
    /// matters.
    pub fn read(&mut self, bytes: Option<&[u8]>, ended: bool, is_closed: impl Fn() -> bool, now: Moment) -> Verdict {
        // It says nothing and leaves: a check of somebody, or a client that thought better of it.
        let Some(bytes) = bytes else { return Verdict::Left };
        self.look.looked(bytes.len());
        match self.stage {
            GuestStage::Header => self.read_header(bytes, ended, is_closed, now),
            GuestStage::Hello => self.read_hello(bytes, ended, is_closed, now),
            GuestStage::Nothing => Verdict::Hello(None),
        }
    }

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

    /// Its header was taken out: who it is from now on, and what else is awaited.
    pub fn headed(&mut self, header: proxy::Header, now: Moment) {
        if let proxy::ProxyClaim::Tcp { source, destination } = header.claim {
            self.claimed = Some(Box::new((source, destination)));
        }
        let asks_for_hello = self.admission.as_ref().is_some_and(|admission| admission.preread.is_some());
        self.enter(if asks_for_hello { GuestStage::Hello } else { GuestStage::Nothing }, now);
    }

    fn read_hello(&mut self, bytes: &[u8], ended: bool, is_closed: impl Fn() -> bool, now: Moment) -> Verdict {
        let is_over = ended || self.look.is_late(now) || self.look.is_spent();
        let request = postgresql::parse(bytes);
        match request.as_ref().filter(|_| !self.asked_for_tls) {
            Some(postgresql::Request::Ssl) => return Verdict::Answer(b'S'),
            Some(postgresql::Request::GssEncryption) if !self.was_told_no => return Verdict::Answer(b'N'),
            _ => {}
        }
        let could_be_a_request = !self.asked_for_tls && request.is_none();
        let mut wait = |need: usize| Verdict::Wait(self.look.wait(bytes.len(), need, now));
        match client_hello::parse(bytes) {
            Ok(Some(hello)) => Verdict::Hello(Some(hello)),
            Ok(None) if !is_over => wait(client_hello::need(bytes)),
            Ok(None) if ended && is_closed() => Verdict::Left,
            Err(_) if could_be_a_request && !is_over => wait(postgresql::REQUEST_LEN),
            Ok(None) | Err(_) => Verdict::Hello(None),
        }
    }

    /// PostgreSQL's request was taken out and answered with that byte.
    pub fn answered(&mut self, answer: u8) {
        self.look.restart();
        match answer {
            b'S' => self.asked_for_tls = true,
            _ => self.was_told_no = true,
        }
    }

    /// Its TLS says all that it will: how it is led by that. Nothing is awaited any more.
    pub fn leads(&mut self, now: Moment) -> Option<&PrereadEntry> {
        self.enter(GuestStage::Nothing, now);
        self.admission.as_ref()?.preread.as_ref()
    }
}

#[cfg(test)]
mod tests;
