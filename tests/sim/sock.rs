//! One connection: our socket, the network, and the peer behind it.
//!
//! It behaves as Linux TCP was measured to: bytes that came before a reset can still be read; a reset is reported by
//! one operation only, and the next receive returns 0; after a FIN it is reported to senders only; a close with unread
//! bytes is a reset; urgent bytes stop splice for ever; and RDHUP, HUP and ERR stand in every poll's answer.

use ringway::base::address::Address;
use ringway::base::lease::Moved;
use ringway::base::time::Moment;
use ringway::kernel::{Interest, errno, poll};

use crate::bytes::{Bytes, Run};
use crate::dice::Dice;
use crate::pair::Key;
use crate::peer::{Finale, Peer, Script};

/// How long the worker may be short of memory for the next send.
const HELD_BACK_MAX_NS: u64 = 2_000_000_000;

/// The stream of bytes that ringway says itself.
pub const OURS: u32 = u32::MAX;
/// What a peer writes behind its preamble.
const FILLER: u8 = b'x';

/// The queues of a connection to a neighbour that is never in the way.
const FAST: u64 = 8_000_000;

/// What a receive finds.
#[derive(Debug)]
pub enum Got {
    Bytes(Bytes),
    Eof,
    Error(i32),
    Nothing,
}

/// What a worker left behind when it gave a connection up.
#[derive(Clone, Copy, Debug)]
pub struct Parting {
    pub at: Moment,
    pub reset: bool,
    pub dead: bool,
    /// Bytes that our kernel has taken over, and the peer's has not; and when the last one has moved on.
    pub unsent: u64,
    pub moved_at: Moment,
    /// Bytes from the other side that were not read, and that were read and not handed over.
    pub unread: u64,
    pub undelivered: u64,
}

pub struct Sock {
    pub id: usize,
    pub is_client: bool,
    pub unix: bool,
    pub peer_address: Address,
    pub own_address: Address,
    /// The connection is there.
    pub open: bool,
    pub rx: Bytes,
    rx_max: u64,
    pub fin_arrived: bool,
    pub urgent_at: Option<u64>,
    /// The peer has reset it, or is known to be lost.
    pub dead: bool,
    /// Not reported yet.
    error: Option<i32>,
    /// Nothing more comes from the peer, whatever it sends.
    pub reading_stopped: bool,
    /// The reset came together with the last bytes, and wakes no receive that has taken those.
    pub silent: bool,
    /// Taken over by our kernel, not by the peer's.
    pub tx: Bytes,
    tx_max: u64,
    /// Since when more is announced (MSG_MORE), and what there is waits for it. Linux waits for less, and not for ever.
    held_back: Option<Moment>,
    stale_unsent: u32,
    /// A FIN follows `tx`.
    pub shut: bool,
    /// Closed, with a reset or not.
    pub closed: Option<bool>,
    pub linger_reset: bool,
    /// Bytes that we have read: by `take` before the relay began, and in all.
    pub skipped: u64,
    pub taken: u64,
    /// The worker knows that it has these, and those that it took itself.
    pub heard: u64,
    /// Bytes that our kernel has taken over: ringway's own, and its partner's.
    pub greeting: Vec<u8>,
    pub accepted: u64,
    pub low_water: u64,
    /// How often its state has changed, and how often room has come.
    pub changes: u64,
    pub rooms: u64,
    /// How often it was looked at anew for another reason.
    pub wakes: u64,
    /// Why its connect has failed, until SO_ERROR is read.
    pub connect_error: Option<i32>,
    no_space: bool,
    /// The worker was told that there is no room, and of none since.
    pub room_denied: bool,
    /// The worker was told of the FIN; of the failure.
    pub eof_told: bool,
    pub error_told: bool,
    /// Bytes that went into a pipe in that turn.
    pub spliced: (u64, u64),
    /// Its bytes were in a pipe and are in buffers, and nothing was received since.
    pub unloaded: bool,
    /// In which turn it was told first, and when.
    pub error_turn: u64,
    pub error_at: Moment,
    /// When the peer's kernel last took something in.
    pub moved_at: Moment,
    /// Operations in flight on it.
    pub in_flight: u32,
    /// The connection on the other side of its session.
    pub partner: Option<usize>,
    /// The session that uses it, or did.
    pub session: Option<Key>,
    /// How the worker left it.
    pub parting: Option<Parting>,
    /// Where it came in, by the place of the listener in the file.
    pub listener: usize,
    /// When the worker started to connect it; when it has taken out what the client must say first.
    pub began_at: Moment,
    pub preamble: Vec<u8>,
    pub peer: Peer,
    /// Since when something that could go on did not.
    pub stuck_since: Option<Moment>,
}

impl Sock {
    pub fn new(dice: &mut Dice, id: usize, is_client: bool, total_max: u64, at: [Address; 2]) -> Sock {
        let [peer_address, own_address] = at;
        let unix = matches!(own_address, Address::Unix(_));
        let mut script = Script::throw(dice);
        script.total = script.total.min(dice.between(total_max / 2, total_max));
        script.write_chunk = script.write_chunk.min(script.total.max(40) / 2);
        script.urgent_at = script.urgent_at.filter(|&at| at < script.total && !unix);
        if unix {
            script.reset_after = None;
            script.finale = match script.finale {
                Finale::Reset | Finale::FinThenReset => Finale::Close,
                Finale::Vanish => Finale::Stay,
                other => other,
            };
        }
        let fast = total_max > FAST && dice.one_in(2);
        Sock {
            id,
            is_client,
            unix,
            peer_address,
            own_address,
            open: is_client,
            rx: Bytes::default(),
            rx_max: if fast { FAST } else { dice.pick(&[20_000, 70_000, 300_000, 1_500_000]) },
            fin_arrived: false,
            urgent_at: None,
            dead: false,
            error: None,
            reading_stopped: false,
            silent: false,
            tx: Bytes::default(),
            held_back: None,
            tx_max: if fast { FAST } else { dice.pick(&[10_000, 100_000, 600_000]) },
            stale_unsent: 0,
            shut: false,
            closed: None,
            linger_reset: true,
            skipped: 0,
            taken: 0,
            heard: 0,
            greeting: Vec::new(),
            accepted: 0,
            low_water: 1,
            changes: 0,
            rooms: 0,
            wakes: 0,
            connect_error: None,
            no_space: false,
            room_denied: false,
            eof_told: false,
            error_told: false,
            spliced: (0, 0),
            unloaded: false,
            error_turn: u64::MAX,
            error_at: Moment::NEVER,
            moved_at: Moment(0),
            in_flight: 0,
            partner: None,
            session: None,
            parting: None,
            listener: 0,
            began_at: Moment(0),
            preamble: Vec::new(),
            peer: Peer::new(script),
            stuck_since: None,
        }
    }

    /// The stream that its peer writes.
    pub fn stream(&self) -> u32 {
        self.id as u32
    }

    fn byte(&self, place: u64) -> u8 {
        self.preamble.get(place as usize).copied().unwrap_or(FILLER)
    }

    /// Copies what has come, as much as there is room for.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        let len = (self.rx.len() as usize).min(into.len());
        (0u64..).zip(&mut into[..len]).for_each(|(at, byte)| *byte = self.byte(self.taken + at));
        len
    }

    /// Up to `max` bytes, or what stands in their place. A receive stops before an urgent byte, and the next one reads
    /// on (SO_OOBINLINE).
    pub fn recv(&mut self, max: u64) -> Got {
        if !self.rx.is_empty() {
            let before_urgent = self.urgent_at.map(|at| at.saturating_sub(self.taken));
            let mut bytes = Bytes::default();
            let max = match before_urgent {
                Some(0) => {
                    self.urgent_at = None;
                    max
                }
                Some(len) => max.min(len),
                None => max,
            };
            self.taken += self.rx.move_to(max, &mut bytes);
            return Got::Bytes(bytes);
        }
        if self.fin_arrived || self.reading_stopped {
            return Got::Eof;
        }
        match self.error.take() {
            Some(errno) => Got::Error(errno),
            None if self.dead => Got::Eof,
            None => Got::Nothing,
        }
    }

    /// Bytes into a pipe that has `room`: like a receive, but never an urgent byte.
    pub fn splice_in(&mut self, room: u64, pipe: &mut Bytes) -> Result<u64, i32> {
        let room = room.min(self.urgent_at.map_or(u64::MAX, |at| at.saturating_sub(self.taken)));
        if room == 0 {
            return Err(errno::EAGAIN);
        }
        match self.recv(room) {
            Got::Bytes(mut bytes) => Ok(bytes.move_to(u64::MAX, pipe)),
            Got::Eof => Ok(0),
            Got::Error(errno) => Err(errno),
            Got::Nothing => Err(errno::EAGAIN),
        }
    }

    /// Takes over as much of `bytes` as there is room for, at most `max`. They must be those of its partner, in order,
    /// each once.
    pub fn send(&mut self, bytes: &mut Bytes, max: u64, skipped: u64) -> Result<u64, i32> {
        assert!(!self.shut, "bytes are sent after the FIN");
        if !self.open {
            return Err(errno::ENOTCONN);
        }
        if self.dead {
            return Err(self.error.take().unwrap_or(errno::EPIPE));
        }
        let room = self.tx_max.saturating_sub(self.tx.len()).min(max);
        let mut left = room;
        while left > 0
            && let Some(run) = bytes.take(left)
        {
            assert_eq!(Some(run.stream as usize), self.partner, "bytes of another stream: {run:?}");
            assert_eq!(run.from, skipped + self.accepted, "lost, repeated or out of order: {run:?}");
            left -= run.len;
            self.accepted += run.len;
            self.tx.push(run);
        }
        self.no_space |= !bytes.is_empty();
        assert!(room > left || !self.room_denied, "a poll was ready by a FIN alone, and is taken for room");
        if room == left { Err(errno::EAGAIN) } else { Ok(room - left) }
    }

    /// Takes over bytes of ringway's own.
    pub fn greet(&mut self, bytes: &[u8]) -> Result<(), i32> {
        assert!(!self.shut && self.accepted == 0, "ringway speaks amid a stream");
        if self.dead {
            return Err(self.error.take().unwrap_or(errno::EPIPE));
        }
        self.tx.push(Run { stream: OURS, from: self.greeted(), len: bytes.len() as u64 });
        self.greeting.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes of ringway's own.
    pub fn greeted(&self) -> u64 {
        self.greeting.len() as u64
    }

    pub fn is_readable(&self) -> bool {
        !self.rx.is_empty() || self.fin_arrived || self.dead || self.reading_stopped
    }

    /// As `sk_stream_is_writeable`: a third of the queue is free.
    pub fn is_writable(&self) -> bool {
        self.open && (self.dead || self.shut || self.tx.len() * 3 <= self.tx_max * 2)
    }

    /// What a poll for `interest` says now; 0 if it waits on.
    pub fn polled(&mut self, interest: Interest) -> i32 {
        let wanted = match interest {
            Interest::Readable => poll::IN | poll::RDHUP | poll::PRI,
            Interest::Incoming | Interest::Acceptable => poll::IN | poll::RDHUP,
            Interest::Writable | Interest::WritableEdge => poll::OUT,
            Interest::Hangup => 0,
        };
        self.mask(wanted) & (wanted | poll::RDHUP | poll::HUP | poll::ERR)
    }

    /// What a poll for these events says, and all that it says unasked.
    pub fn mask(&mut self, wanted: i32) -> i32 {
        let ended = self.fin_arrived || self.dead || self.reading_stopped;
        let enough = self.unix || self.rx.len() >= self.low_water;
        let readable = ended || (!self.rx.is_empty() && enough);
        let writable = self.is_writable();
        self.no_space |= wanted & poll::OUT != 0 && !writable;
        let is_hung_up = self.dead || ((self.fin_arrived || self.reading_stopped) && self.shut);
        let mask = [
            (readable, poll::IN),
            (self.urgent_at.is_some(), poll::PRI),
            (writable, poll::OUT),
            (ended, poll::RDHUP),
            (is_hung_up, poll::HUP),
            (self.error.is_some(), poll::ERR),
        ];
        mask.into_iter().filter(|&(is_so, _)| is_so).fold(0, |mask, (_, bit)| mask | bit)
    }

    pub fn unsent(&self) -> u32 {
        if self.dead { if self.unix { self.stale_unsent } else { 0 } } else { self.tx.len() as u32 }
    }

    /// As TCP_INFO: unix sockets do not say.
    pub fn is_closed(&self) -> bool {
        self.dead && !self.unix
    }

    /// Our side closes.
    pub fn close(&mut self, now: Moment) {
        assert!(self.closed.is_none(), "closed twice");
        assert_eq!(self.in_flight, 0, "operations are in flight on a connection that is closed");
        let reset = (self.linger_reset && !self.unix) || !self.rx.is_empty();
        self.closed = Some(reset);
        self.moved_at = now;
        if !self.open || self.dead {
            return;
        }
        if reset {
            self.tx.clear();
            self.peer.reset_arrived = true;
        }
    }

    /// What was taken over waits for more, or not any longer.
    pub fn hold_back(&mut self, since: Option<Moment>) {
        self.held_back = since;
    }

    /// The peer's kernel takes in up to `max` bytes, or the FIN behind them. False if it cannot.
    pub fn deliver(&mut self, max: u64, now: Moment) -> bool {
        if !self.open || self.dead || self.peer.is_dead() {
            return false;
        }
        if let Some(since) = self.held_back
            && !self.shut
            && self.closed.is_none()
        {
            assert!(now.since_ns(since) < HELD_BACK_MAX_NS, "bytes wait for more that does not come");
            return false;
        }
        if !self.tx.is_empty() {
            if self.peer.gone {
                self.die(errno::ECONNRESET, false);
                return true;
            }
            let room = self.peer.script.rx_max.saturating_sub(self.peer.rx.len()).min(max);
            self.moved_at = if room > 0 { now } else { self.moved_at };
            let moved = self.tx.move_to(room, &mut self.peer.rx) > 0;
            if moved && self.no_space && self.is_writable() {
                self.no_space = false;
                self.rooms += 1;
            }
            return moved;
        }
        let fin = (self.shut || self.closed == Some(false)) && !self.peer.fin_arrived;
        self.peer.fin_arrived |= fin;
        fin
    }

    /// The peer writes once. False if it does not.
    pub fn peer_writes(&mut self, now: Moment) -> bool {
        if !self.open || self.dead || !self.peer.wants_to_write(now) {
            return false;
        }
        if self.closed.is_some() {
            self.tx.clear();
            self.peer.reset_arrived = true;
            return true;
        }
        let room = self.rx_max.saturating_sub(self.rx.len());
        let left = self.peer.script.total - self.peer.sent;
        let len = left.min(self.peer.script.write_chunk).min(room);
        if len == 0 {
            return false;
        }
        let from = self.peer.sent;
        if let Some(at) = self.peer.script.urgent_at.filter(|at| (from..from + len).contains(at)) {
            self.urgent_at = Some(at);
        }
        let stream = self.stream();
        self.rx.push(Run { stream, from, len });
        self.peer.wrote(from + len, now);
        true
    }

    /// The peer ends its stream, or the connection. False if it does not.
    pub fn peer_ends(&mut self, silent: bool, now: Moment) -> bool {
        if !self.open || self.dead {
            return false;
        }
        let finale = match (self.peer.wants_to_reset(), self.peer.wants_to_end(now)) {
            (true, _) => Finale::Reset,
            (_, true) => self.peer.script.finale,
            _ => return false,
        };
        match finale {
            Finale::FinThenReset if self.peer.fin_sent => self.peer_resets(silent),
            // A close with unread bytes is a reset.
            Finale::Close if !self.peer.rx.is_empty() => self.peer_resets(silent),
            Finale::Fin | Finale::Close | Finale::FinThenReset => {
                self.peer.fin_sent = true;
                self.fin_arrived = true;
                self.peer.gone = finale == Finale::Close;
                self.changes += 1;
            }
            Finale::Reset => self.peer_resets(silent),
            Finale::Vanish => self.peer.vanished_at = Some(now),
            Finale::Stay => return false,
        }
        true
    }

    /// Our kernel finds out that the peer is gone. False if it does not.
    pub fn lose(&mut self, now: Moment) -> bool {
        let due = self.peer.vanished_at.is_some_and(|at| now >= at.after_ns(self.peer.script.lost_after_ns));
        if due && !self.dead {
            self.die(errno::ETIMEDOUT, false);
            return true;
        }
        false
    }

    fn peer_resets(&mut self, silent: bool) {
        self.peer.reset_sent = true;
        self.die(if self.fin_arrived { errno::EPIPE } else { errno::ECONNRESET }, silent);
    }

    fn die(&mut self, errno: i32, silent: bool) {
        self.dead = true;
        self.silent = silent && !self.rx.is_empty() && !self.fin_arrived && !self.unix;
        self.error = Some(errno);
        self.stale_unsent = self.tx.len() as u32;
        self.tx.clear();
        self.changes += 1;
        self.rooms += 1;
    }

    /// The worker is told that it has failed.
    pub fn tell_error(&mut self, turn: u64, now: Moment) {
        (self.error_told, self.error_turn, self.error_at) = (true, turn, now);
    }

    /// Bytes of its peer that were read and not handed to its partner.
    pub fn undelivered(&self, partner: &Sock) -> u64 {
        self.taken - self.skipped - partner.accepted
    }
}

/// What [`Moved`] a number of bytes is.
pub fn moved(bytes: u64) -> Moved {
    Moved::Bytes(bytes as u32)
}
