//! One connection of a session: our socket, the network, and the peer behind it.
//!
//! It behaves as Linux TCP was measured to: bytes that came before a reset can still be read; a reset is reported by
//! one operation only, and the next receive returns 0; after a FIN it is reported to senders only; a close with unread
//! bytes is a reset; urgent bytes stop splice for ever.

use ringway::base::lease::{Lease, Moved};
use ringway::base::time::Moment;
use ringway::session::ConnectError;

use crate::bytes::{Bytes, Run};
use crate::dice::Dice;
use crate::faults::Attempt;
use crate::peer::{Finale, Peer, Script};

const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;

/// An operation in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Bytes that a receive may still bring.
    pub credit: u32,
    /// The receive was armed just now.
    pub fresh: bool,
    pub lease: Lease,
    /// Its cancel was asked for, and it will end soon, one way or another.
    pub cancelled: bool,
    pub attempt: Attempt,
}

impl Op {
    pub fn new() -> Op {
        Op { credit: 0, fresh: true, lease: Lease::default(), cancelled: false, attempt: Attempt::Silence }
    }
}

/// Which operation of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Recv,
    Send,
    Readable,
    Writable,
    Connect,
    /// More has come than was looked at.
    Preread,
    /// The connection is no more, after the peer's FIN.
    Hangup,
}

pub const KINDS: [Kind; 7] =
    [Kind::Recv, Kind::Send, Kind::Readable, Kind::Writable, Kind::Connect, Kind::Preread, Kind::Hangup];

/// What a receive finds.
#[derive(Debug)]
pub enum Got {
    Bytes(Bytes),
    Eof,
    Error(i32),
    Nothing,
}

pub struct Link {
    /// The connection is there.
    pub open: bool,
    pub rx: Bytes,
    rx_max: u64,
    /// The peer's FIN has arrived, behind `rx`.
    pub fin_arrived: bool,
    pub urgent_at: Option<u64>,
    /// The peer has reset it, or is known to be lost.
    pub dead: bool,
    /// Not reported yet.
    error: Option<i32>,
    /// Nothing more comes from the peer, whatever it sends.
    pub reading_stopped: bool,
    /// A poll has said that it is dead.
    pub hangup_told: bool,
    /// Taken over by our kernel, not by the peer's.
    pub tx: Bytes,
    tx_max: u64,
    /// What a dead connection says about `tx`.
    stale_unsent: u32,
    /// A FIN follows `tx`.
    pub shut: bool,
    /// Closed, with a reset or not.
    pub closed: Option<bool>,
    /// Bytes that we have read.
    pub taken: u64,
    /// Bytes that our kernel has taken over.
    pub accepted: u64,
    /// When the peer's kernel last took something in.
    pub moved_at: Moment,
    /// True exactly when the kernel is at it.
    pub ops: [Option<Op>; KINDS.len()],
    /// True exactly from submission until the last completion was looked at.
    pub busy: [bool; KINDS.len()],
    pub peer: Peer,
}

impl Link {
    pub fn throw(dice: &mut Dice, open: bool) -> Link {
        let mut script = Script::throw(dice);
        let huge = script.total > 1_000_000;
        script.urgent_at = script.urgent_at.filter(|&at| at < script.total);
        Link {
            open,
            rx: Bytes::default(),
            rx_max: dice.pick(if huge { &[300_000, 1_500_000] } else { &[20_000, 70_000, 300_000, 1_500_000] }),
            fin_arrived: false,
            urgent_at: None,
            dead: false,
            error: None,
            reading_stopped: false,
            hangup_told: false,
            tx: Bytes::default(),
            tx_max: dice.pick(if huge { &[100_000, 600_000, 3_000_000] } else { &[10_000, 100_000, 600_000] }),
            stale_unsent: 0,
            shut: false,
            closed: None,
            taken: 0,
            accepted: 0,
            moved_at: Moment(0),
            ops: [None; KINDS.len()],
            busy: [false; KINDS.len()],
            peer: Peer::new(script),
        }
    }

    /// Up to `max` bytes, or what stands in their place. A receive stops before an urgent byte, and the next one reads
    /// on (SO_OOBINLINE).
    pub fn recv(&mut self, max: u64) -> Got {
        if !self.rx.is_empty() {
            let before_urgent = self.urgent_at.map(|at| at - self.taken);
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
    pub fn splice_in(&mut self, room: u64, pipe: &mut Bytes) -> Moved {
        let room = room.min(self.urgent_at.map_or(u64::MAX, |at| at - self.taken));
        if room == 0 {
            return Moved::WouldBlock;
        }
        match self.recv(room) {
            Got::Bytes(mut bytes) => Moved::Bytes(bytes.move_to(u64::MAX, pipe) as u32),
            Got::Eof => Moved::Bytes(0),
            Got::Error(errno) => Moved::Failed(errno),
            Got::Nothing => Moved::WouldBlock,
        }
    }

    /// Takes over as much of `bytes` as there is room for, at most `max`. I1 is looked after here: bytes of `stream`,
    /// in order, each once.
    pub fn send(&mut self, bytes: &mut Bytes, max: u64, stream: u32) -> Moved {
        assert!(!self.shut, "bytes are sent after the FIN");
        if self.dead {
            return Moved::Failed(self.error.take().unwrap_or(EPIPE));
        }
        let room = self.tx_max.saturating_sub(self.tx.len()).min(max);
        let mut left = room;
        while left > 0
            && let Some(run) = bytes.take(left)
        {
            assert_eq!(run.stream, stream, "I1: bytes of another stream: {run:?}");
            assert_eq!(run.from, self.accepted, "I1: lost, repeated or out of order: {run:?}");
            left -= run.len;
            self.accepted += run.len;
            self.tx.push(run);
        }
        if room == left { Moved::WouldBlock } else { Moved::Bytes((room - left) as u32) }
    }

    pub fn is_readable(&self) -> bool {
        !self.rx.is_empty() || self.fin_arrived || self.dead || self.reading_stopped
    }

    /// As `sk_stream_is_writeable`: a third of the queue is free.
    pub fn is_writable(&self) -> bool {
        self.dead || self.tx.len() * 3 <= self.tx_max * 2
    }

    pub fn unsent(&self) -> u32 {
        if self.dead { self.stale_unsent } else { self.tx.len() as u32 }
    }

    pub fn in_flight(&self) -> bool {
        self.busy.contains(&true)
    }

    /// Our side closes.
    pub fn close(&mut self, reset: bool) {
        assert!(self.closed.is_none(), "closed twice");
        self.closed = Some(reset);
        if !self.open || self.dead {
            return;
        }
        if reset || !self.rx.is_empty() {
            self.tx.clear();
            self.peer.reset_arrived = true;
        }
    }

    /// The peer's kernel takes in up to `max` bytes, or the FIN behind them. False if it cannot.
    pub fn deliver(&mut self, max: u64, now: Moment) -> bool {
        if !self.open || self.dead || self.peer.is_dead() {
            return false;
        }
        if !self.tx.is_empty() {
            if self.peer.gone {
                self.die(ECONNRESET);
                return true;
            }
            let room = self.peer.script.rx_max.saturating_sub(self.peer.rx.len()).min(max);
            self.moved_at = if room > 0 { now } else { self.moved_at };
            return self.tx.move_to(room, &mut self.peer.rx) > 0;
        }
        let fin = (self.shut || self.closed == Some(false)) && !self.peer.fin_arrived;
        self.peer.fin_arrived |= fin;
        fin
    }

    /// The peer writes once. False if it does not.
    pub fn peer_writes(&mut self, stream: u32, now: Moment) -> bool {
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
        self.rx.push(Run { stream, from, len });
        self.peer.wrote(from + len, now);
        true
    }

    /// The peer ends its stream, or the connection. False if it does not.
    pub fn peer_ends(&mut self, now: Moment) -> bool {
        if !self.open || self.dead {
            return false;
        }
        let finale = match (self.peer.wants_to_reset(), self.peer.wants_to_end(now)) {
            (true, _) => Finale::Reset,
            (_, true) => self.peer.script.finale,
            _ => return false,
        };
        match finale {
            Finale::FinThenReset if self.peer.fin_sent => self.peer_resets(),
            // A close with unread bytes is a reset.
            Finale::Close if !self.peer.rx.is_empty() => self.peer_resets(),
            Finale::Fin | Finale::Close | Finale::FinThenReset => {
                self.peer.fin_sent = true;
                self.fin_arrived = true;
                self.peer.gone = finale == Finale::Close;
            }
            Finale::Reset => self.peer_resets(),
            Finale::Vanish => self.peer.vanished_at = Some(now),
            Finale::Stay => return false,
        }
        true
    }

    /// Our kernel finds out that nobody is there any more. False if it does not.
    pub fn lose(&mut self, now: Moment) -> bool {
        let due = self.peer.vanished_at.is_some_and(|at| now >= at.after_ns(self.peer.script.lost_after_ns));
        if due && !self.dead {
            self.die(ETIMEDOUT);
            return true;
        }
        false
    }

    fn peer_resets(&mut self) {
        self.peer.reset_sent = true;
        self.die(if self.fin_arrived { EPIPE } else { ECONNRESET });
    }

    fn die(&mut self, errno: i32) {
        self.dead = true;
        self.error = Some(errno);
        self.stale_unsent = self.tx.len() as u32;
        self.tx.clear();
    }

    /// What an attempt to connect answers, if it does now.
    pub fn connected(&mut self, attempt: Attempt) -> Option<Result<(), ConnectError>> {
        let result = match attempt {
            Attempt::AtOnce(result) | Attempt::Later(result) => result,
            Attempt::Silence => return None,
        };
        self.open = result.is_ok();
        Some(result)
    }
}
