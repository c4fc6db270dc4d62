//! The two ends of a session: what they write, how they read, how they leave, and what they have seen.

use ringway::base::time::Moment;

use crate::bytes::Bytes;
use crate::dice::Dice;
use crate::faults::{MS, SECOND};

/// How a peer ends when it has written everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finale {
    /// FIN; it goes on reading.
    Fin,
    /// FIN, and what comes from then on is answered with a reset.
    Close,
    /// Reset.
    Reset,
    /// FIN, and a reset some time after.
    FinThenReset,
    /// It is gone without a word.
    Vanish,
    /// It stays.
    Stay,
}

/// What a peer is going to do.
#[derive(Debug)]
pub struct Script {
    pub total: u64,
    pub write_chunk: u64,
    /// It writes nothing before it has received so much.
    pub write_after: u64,
    /// It rests after this many written bytes, for this time.
    pub write_pause: Option<(u64, u64)>,
    pub read_chunk: u64,
    /// It reads nothing before it has written everything.
    pub reads_last: bool,
    /// It stops reading after this many received bytes, for this time.
    pub read_pause: Option<(u64, u64)>,
    pub finale: Finale,
    /// It ends only after the other's FIN.
    pub finale_after_fin: bool,
    /// Instead of all that, a reset after so many written and received bytes.
    pub reset_after: Option<(u64, u64)>,
    /// Which of its bytes is urgent.
    pub urgent_at: Option<u64>,
    /// Bytes its kernel takes in.
    pub rx_max: u64,
    /// When it has vanished, our kernel finds out after this time.
    pub lost_after_ns: u64,
}

impl Script {
    pub fn throw(dice: &mut Dice) -> Script {
        let total = match dice.below(12) {
            0 => 0,
            1 | 2 => dice.size(200),
            3..6 => dice.size(60_000),
            6..9 => dice.size(600_000),
            _ => dice.between(400_000, 6_000_000),
        };
        let chunk = |dice: &mut Dice| dice.between(total / 60 + 1, (total / 4).max(10) + 1);
        let finale = match dice.below(32) {
            0..17 => Finale::Fin,
            17..22 => Finale::Close,
            22..26 => Finale::Reset,
            26..28 => Finale::FinThenReset,
            28 | 29 => Finale::Vanish,
            _ => Finale::Stay,
        };
        let pause = |dice: &mut Dice| {
            let for_ns = dice.pick(&[10 * MS, 200 * MS, 3 * SECOND, 100 * SECOND, u64::MAX]);
            dice.one_in(6).then(|| (dice.below(total + 100_000), for_ns))
        };
        Script {
            total,
            write_chunk: chunk(dice),
            write_after: 0,
            write_pause: pause(dice),
            read_chunk: dice.between(30_000, 300_000),
            reads_last: dice.one_in(12),
            read_pause: pause(dice),
            finale,
            finale_after_fin: dice.one_in(3),
            reset_after: dice.one_in(7).then(|| (dice.below(total + 1), dice.size(400_000) - 1)),
            urgent_at: dice.one_in(8).then(|| dice.below(total + 1)),
            rx_max: dice.pick(&[30_000, 100_000, 400_000]),
            lost_after_ns: dice.pick(&[SECOND, 100 * SECOND, u64::MAX]),
        }
    }
}

/// A peer, and the receive queue of its kernel.
#[derive(Debug)]
pub struct Peer {
    pub script: Script,
    pub sent: u64,
    pub fin_sent: bool,
    pub reset_sent: bool,
    /// What comes is answered with a reset.
    pub gone: bool,
    pub vanished_at: Option<Moment>,
    pub rx: Bytes,
    pub fin_arrived: bool,
    pub reset_arrived: bool,
    pub received: u64,
    pub fin_seen: bool,
    pub reset_seen: bool,
    pub write_at: Moment,
    pub read_at: Moment,
}

impl Peer {
    pub fn new(script: Script) -> Peer {
        Peer {
            script,
            sent: 0,
            fin_sent: false,
            reset_sent: false,
            gone: false,
            vanished_at: None,
            rx: Bytes::default(),
            fin_arrived: false,
            reset_arrived: false,
            received: 0,
            fin_seen: false,
            reset_seen: false,
            write_at: Moment(0),
            read_at: Moment(0),
        }
    }

    /// It does nothing any more, nor does its kernel.
    pub fn is_dead(&self) -> bool {
        self.reset_sent || self.vanished_at.is_some() || self.reset_arrived
    }

    pub fn wants_to_write(&self, now: Moment) -> bool {
        !self.is_dead()
            && !self.fin_sent
            && self.sent < self.script.total
            && now >= self.write_at
            && self.received >= self.script.write_after
    }

    pub fn wants_to_reset(&self) -> bool {
        let Some((sent, received)) = self.script.reset_after else { return false };
        !self.is_dead() && self.sent >= sent && self.received >= received
    }

    pub fn wants_to_end(&self, now: Moment) -> bool {
        let script = &self.script;
        if self.is_dead() || self.sent < script.total || now < self.write_at {
            return false;
        }
        match script.finale {
            Finale::Stay => false,
            Finale::FinThenReset if self.fin_sent => true,
            _ => !self.fin_sent && (self.fin_seen || !script.finale_after_fin),
        }
    }

    /// What was read can be taken in although the connection is gone.
    pub fn wants_to_read(&self, now: Moment) -> bool {
        if self.reset_sent || self.vanished_at.is_some() || self.gone || now < self.read_at {
            return false;
        }
        if self.script.reads_last && self.sent < self.script.total && !self.reset_arrived {
            return false;
        }
        let end_unseen = (self.reset_arrived && !self.reset_seen) || (self.fin_arrived && !self.fin_seen);
        !self.rx.is_empty() || end_unseen
    }

    /// Reads once. What it reads was compared when it was sent.
    pub fn read(&mut self, now: Moment) {
        if self.rx.is_empty() {
            self.reset_seen |= self.reset_arrived;
            self.fin_seen |= self.fin_arrived;
            return;
        }
        let before = self.received;
        self.received += self.rx.move_to(self.script.read_chunk, &mut Bytes::default());
        if let Some((at, for_ns)) = self.script.read_pause
            && before <= at
            && self.received > at
        {
            self.read_at = now.after_ns(for_ns);
        }
    }

    /// It has written up to `to`.
    pub fn wrote(&mut self, to: u64, now: Moment) {
        if let Some((at, for_ns)) = self.script.write_pause
            && self.sent <= at
            && to > at
        {
            self.write_at = now.after_ns(for_ns);
        }
        self.sent = to;
    }

    /// The next moment at which it may do something that it does not want to do now.
    pub fn wakes_at(&self, now: Moment) -> Moment {
        let lost = self.vanished_at.map_or(Moment::NEVER, |at| at.after_ns(self.script.lost_after_ns));
        [self.write_at, self.read_at, lost].into_iter().filter(|&at| at > now).min().unwrap_or(Moment::NEVER)
    }
}
