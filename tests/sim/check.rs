//! What must hold of a session: while it lives, when nothing moves, when it closes, and at the end.

use ringway::base::lease::BUFFER_LEN;
use ringway::base::side::Side;
use ringway::base::termination::{Termination, When, Who};
use ringway::base::time::Moment;
use ringway::base::wheel::TICK_NS;
use ringway::relay::CREDIT;
use ringway::session::{ConnectError, Event};

use crate::corner::Corner;
use crate::faults::{MS, SECOND};
use crate::link::Kind;
use crate::pools::Half;
use crate::world::{Slot, World};

/// Leases of a half: `relay::queue` has the reason.
const LEASES_MAX: usize = 12;
/// A timer comes at most a tick late, and is looked at in whole ticks.
const LATE_NS: u64 = 2 * TICK_NS;
/// Between two looks at what a kernel has not sent.
const FLUSH_NS: u64 = 10 * MS;
const FLUSH_MAX_NS: u64 = SECOND;
/// Until a reset after a FIN is noticed, at the most, with what a busy worker adds.
const WATCH_NS: u64 = 70 * MS;
/// A session that has lived for so long has its connections probed.
const SETTLED_NS: u64 = 5 * SECOND + 20 * MS;
/// A pipe that is of no use goes back after two looks, a second apart, and the first may come just before it rests.
const PIPE_REST_NS: u64 = 3 * SECOND + 100 * MS;

fn or_never(span_ns: u64) -> u64 {
    if span_ns == 0 { u64::MAX } else { span_ns }
}

impl Slot {
    /// How long it may be quiet.
    fn quiet_ns(&self) -> u64 {
        let half_closed = self.half_closed_at.is_some() && self.limits.half_close_timeout_ns > 0;
        or_never(if half_closed { self.limits.half_close_timeout_ns } else { self.limits.idle_timeout_ns })
    }

    pub fn quiet_since(&self) -> Moment {
        self.active_at.max(self.half_closed_at.unwrap_or_default())
    }

    /// The end of its lifetime lies between these.
    fn lifetime_end(&self) -> (Moment, Moment) {
        match self.limits.lifetime_max_ns {
            0 => (Moment::NEVER, Moment::NEVER),
            ns => (self.accepted_at.after_ns(ns - ns / 10), self.accepted_at.after_ns(ns + ns / 10)),
        }
    }

    fn counts_as_failed(&self, by: Side) -> Who {
        if by == Side::Client { Who::Client } else { Who::Server }
    }
}

impl World {
    /// After an event. `was`: whether it was ending, and flushing, before.
    pub fn look_at(&mut self, s: usize, event: &Event, was: (bool, bool)) {
        let now = self.kernel.now;
        if self.is_flushing(s) && self.slots[s].flushing_since.is_none() {
            self.slots[s].flushing_since = Some(now);
        }
        let expired = matches!(event, Event::Timer) && !was.0 && self.slots[s].session.is_ending();
        if expired && !was.1 && self.slots[s].connected {
            self.check_expiry(s);
        }
        for half in Side::BOTH.map(|side| (s, side)) {
            let leases = self.kernel.buffers.held_by(half);
            // All that a pipe held, and until some of that is delivered nothing is received.
            let unloaded = if self.slots[s].unloaded[half.1.index()] { self.kernel.pipes.capacity } else { 0 };
            let leases_max = LEASES_MAX.max(unloaded as usize / BUFFER_LEN);
            assert!(leases <= leases_max, "{half:?} holds {leases} buffers");
            if self.kernel.pipes.lent_to(half).is_none() && !self.slots[s].session.is_ending() {
                let (held, max) = (self.undelivered(half), u64::from(CREDIT.max(unloaded)) + BUFFER_LEN as u64);
                assert!(held < max, "{half:?} holds {held} bytes");
            }
        }
    }

    /// A limit has ended it: it was time, and it says so.
    fn check_expiry(&mut self, s: usize) {
        let now = self.kernel.now;
        let slot = &self.slots[s];
        let open = slot.open_at_timer;
        let Termination(who, when) = slot.session.termination();
        let quiet_for = now.since_ns(slot.quiet_since());
        let too_old = now >= slot.lifetime_end().0;
        assert!(quiet_for >= slot.quiet_ns() || too_old, "ended after {quiet_for} ns without a byte");
        let expected = match slot.first_error {
            Some(by) => slot.counts_as_failed(by),
            None if who == Who::Local => Who::Local,
            None if open == [true, false] => Who::ServerTimeout,
            None if open == [false, true] => Who::ClientTimeout,
            None if slot.finished_to[Side::Backend.index()] => Who::ServerTimeout,
            None => Who::ClientTimeout,
        };
        assert_eq!(who, expected, "the wrong side is blamed, {open:?} undelivered");
        assert!(who != Who::Local || too_old, "ended before its time");
        let expected = if slot.finished_to == [false, false] { When::Data } else { When::Last };
        assert!(when == expected || slot.first_error.is_some(), "{when:?} rather than {expected:?}");
        let corner = match (who, slot.half_closed_at) {
            (Who::Local, _) => Corner::LifetimeEnd,
            (_, Some(_)) => Corner::HalfCloseEnd,
            _ => Corner::IdleEnd,
        };
        self.kernel.corners.reach(corner);
        if open != [false, false] {
            self.kernel.corners.reach(Corner::CutWithBytesHeld);
        }
    }

    /// Nobody is left waiting longer than its limits say.
    pub fn check_deadlines(&mut self) {
        let now = self.kernel.now;
        for s in 0..self.slots.len() {
            let slot = &self.slots[s];
            if slot.over || !slot.accepted || slot.session.is_ending() {
                continue;
            }
            self.check_hangups(s);
            let slot = &self.slots[s];
            let due = if self.is_prereading(s) {
                slot.preread.map_or(Moment::NEVER, |preread| preread.deadline)
            } else if slot.queued {
                let since = slot.first_queued_at.unwrap_or(now);
                since.after_ns(or_never(slot.limits.queue_timeout_ns)).max(since)
            } else if !slot.connected {
                let in_flight = self.is_connecting(s) && !slot.connect_expired;
                let due = slot.connecting_at.after_ns(or_never(slot.limits.connect_timeout_ns));
                if in_flight || slot.waits_for_descriptor { due } else { Moment::NEVER }
            } else if let Some(since) = slot.flushing_since {
                self.flush_due(s, since)
            } else {
                let too_old_at = slot.lifetime_end().1.max(slot.connected_at);
                slot.quiet_since().after_ns(slot.quiet_ns()).min(too_old_at)
            };
            assert!(now <= due.after_ns(LATE_NS), "s{s} should have ended at {due:?}, now it is {now:?}");
            let settled = now.since_ns(self.slots[s].connected_at) > SETTLED_NS;
            let relaying = self.slots[s].session.is_relaying();
            assert!(!settled || !relaying || self.slots[s].kept_alive, "s{s} lives long and is not probed");
            Side::BOTH.into_iter().for_each(|side| self.check_pipe((s, side)));
        }
    }

    /// A pipe that is of no use goes back. So does one that is stuck, unless there were too few buffers.
    fn check_pipe(&self, half: Half) {
        let slot = &self.slots[half.0];
        let rests_for = self.kernel.now.since_ns(slot.spliced_at[half.1.index()]);
        let Some(held) = self.kernel.pipes.lent_to(half) else { return };
        // The pipe of the other half may go first.
        let rest_ns = if held > 0 { PIPE_REST_NS + SECOND } else { PIPE_REST_NS };
        let may_stay = held > 0 && !slot.session.is_relaying();
        assert!(may_stay || rests_for < rest_ns, "{half:?} keeps a pipe with {held} bytes that is of no use");
    }

    /// When a flush must be over.
    fn flush_due(&self, s: usize, since: Moment) -> Moment {
        let now = self.kernel.now;
        let slot = &self.slots[s];
        let Some(by) = slot.first_error else { return Moment::NEVER };
        let link = &self.kernel.links[s][by.peer().index()];
        let since = since.max(link.moved_at);
        let quiet_ns = if link.tx.is_empty() && !link.dead { 0 } else { slot.quiet_ns() };
        // One look notices the last byte that moved, and another one that it was long ago.
        let look_ns = (now.since_ns(since) / 2).clamp(FLUSH_NS, FLUSH_MAX_NS);
        since.after_ns(quiet_ns.saturating_add(2 * (look_ns + TICK_NS)))
    }

    /// A reset that follows a FIN is noticed soon.
    fn check_hangups(&mut self, s: usize) {
        let now = self.kernel.now;
        for side in Side::BOTH {
            let (slot, link) = (&mut self.slots[s], &self.kernel.links[s][side.index()]);
            let is_due = slot.session.is_relaying()
                && link.dead
                && !link.busy[Kind::Hangup as usize]
                && slot.eof_told[side.index()]
                && !slot.error_told[side.index()]
                && !slot.finished_to[side.index()];
            if !is_due {
                slot.unnoticed_since[side.index()] = None;
                continue;
            }
            let since = *slot.unnoticed_since[side.index()].get_or_insert(now);
            assert!(now.since_ns(since) < WATCH_NS, "the reset of s{s} {side:?} after its FIN is not noticed");
            self.kernel.corners.reach(Corner::ResetAfterFin);
        }
    }

    /// No operation can go on and no peer wants to do anything: then nothing may be left undone.
    pub fn check_rest(&mut self) {
        for s in 0..self.slots.len() {
            let slot = &self.slots[s];
            if slot.over || !slot.accepted {
                continue;
            }
            assert!(!slot.session.is_ending(), "s{s} waits for its end, and nothing is in flight");
            if self.is_prereading(s) {
                let listens = self.kernel.links[s][0].busy[Kind::Preread as usize];
                let looks_again = slot.preread.is_some_and(|preread| preread.looks_again);
                assert!(listens || looks_again, "s{s} waits for what its client must say, and does not listen");
                continue;
            }
            if !slot.connected {
                let waits = slot.waits_for_descriptor || slot.queued;
                assert!(self.is_connecting(s) || waits, "s{s} waits for nothing");
                let left = slot.error_told[0];
                assert!(!left || slot.connect_expired, "the client of s{s} has left, and it still connects");
                let (queued, link) = (slot.queued, &self.kernel.links[s][0]);
                // Who has sent more than is read before there is a backend is not heard to the end.
                let reads = link.rx.is_empty() && link.taken <= u64::from(CREDIT / 2);
                let gone = reads && link.dead;
                let told = left || self.waits_for_us((s, Side::Client));
                assert!(!queued || !gone || told, "the client of s{s} has left, and nobody listens to it");
                continue;
            }
            let (relaying, failed) = (slot.session.is_relaying(), slot.first_error);
            if let Some(by) = failed {
                self.check_read_on((s, by.peer()));
            }
            if relaying {
                Side::BOTH.into_iter().for_each(|side| self.check_half_at_rest((s, side)));
            }
        }
    }

    /// A half that waits for a buffer, or for a moment.
    fn waits_for_us(&self, half: Half) -> bool {
        self.starved.contains(&half) || self.pauses.iter().any(|&(_, other)| other == half)
    }

    /// The other side has failed. This one is read all the same, or it might never take in its last bytes.
    fn check_read_on(&mut self, from: Half) {
        let waits = self.waits_for_us(from);
        let link = self.kernel.link(from);
        assert!(waits || link.dead || link.rx.is_empty(), "{} bytes of {from:?} are left unread", link.rx.len());
    }

    fn check_half_at_rest(&mut self, from: Half) {
        let to = (from.0, from.1.peer());
        let slot = &self.slots[from.0];
        let (to_failed, eof_told) = (slot.error_told[to.1.index()], slot.eof_told[from.1.index()]);
        let finished = slot.finished_to[to.1.index()];
        if self.waits_for_us(from) || self.kernel.link(to).dead {
            return;
        }
        let undelivered = self.undelivered(from);
        let unread = self.kernel.link(from).rx.len();
        let room = self.kernel.link(to).is_writable();
        assert!(!room || unread + undelivered == 0, "{unread} + {undelivered} bytes from {from:?} lie about");
        let (fin, dead) = (self.kernel.link(from).fin_arrived, self.kernel.link(from).dead);
        if unread + undelivered > 0 {
            return;
        }
        assert!(!fin || dead || finished, "the FIN of {from:?} is not passed on");
        assert!(!dead || eof_told, "the reset of {from:?} is not passed on");
        let leases = self.kernel.buffers.held_by(from);
        assert!(leases == 0 || to_failed, "{from:?} holds {leases} buffers and no byte");
    }

    /// No timer comes, or none that changes anything: so nobody has a limit that could run out.
    pub fn check_nobody_has_a_limit(&self) {
        for (s, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.over) {
            let limited = match slot.connected {
                false if self.is_prereading(s) => slot.preread.is_some_and(|preread| preread.deadline != Moment::NEVER),
                false if slot.queued => slot.limits.queue_timeout_ns != 0,
                false => slot.waits_for_descriptor || or_never(slot.limits.connect_timeout_ns) != u64::MAX,
                true => slot.quiet_ns() != u64::MAX || slot.limits.lifetime_max_ns != 0,
            };
            assert!(!limited, "the timer of s{s} is lost");
        }
    }

    /// The close of a connection that was used: a FIN or a reset, and nothing lost that need not be.
    pub fn ensure_close_is_right(&mut self, at: Half, reset: bool) {
        let from = (at.0, at.1.peer());
        let undelivered = self.undelivered(from);
        let slot = &self.slots[at.0];
        let Termination(who, when) = slot.session.termination();
        let early = matches!(when, When::Request | When::Connect | When::Queue);
        let timed_out = matches!(who, Who::ClientTimeout | Who::ServerTimeout | Who::Local) && !early;
        let failed = slot.first_error.is_some();
        match (who, reset) {
            (Who::Normal, true) => panic!("a reset to {at:?} after a normal end"),
            (Who::Normal, false) => self.ensure_complete(at),
            (_, false) => {
                assert!(timed_out && !failed, "I2: FIN to {at:?} after {who:?}");
                assert!(who != Who::Local || !slot.flowing_at_timer, "I2: FIN to {at:?} amid a stream");
                assert_eq!(undelivered, 0, "I2: FIN to {at:?} with bytes undelivered");
            }
            (_, true) if timed_out && !failed => {
                let flowing = who == Who::Local && slot.flowing_at_timer;
                let held = slot.open_at_timer != [false, false] || undelivered + self.undelivered(at) > 0;
                assert!(held || flowing, "a reset to {at:?} although nothing was undelivered");
            }
            (_, true) => self.ensure_flushed(at, from),
        }
    }

    /// What `from` had sent before it failed has reached `at`, unless that is stuck.
    fn ensure_flushed(&mut self, at: Half, from: Half) {
        let now = self.kernel.now;
        let undelivered = self.undelivered(from);
        let slot = &self.slots[at.0];
        let since = slot.flushing_since.unwrap_or(now);
        if slot.limit_came
            || slot.first_error != Some(from.1)
            || slot.error_told == [true, true]
            || slot.ended_by.is_some()
        {
            return;
        }
        let (quiet_ns, lifetime_end) = (slot.quiet_ns(), slot.lifetime_end().0);
        let unread = self.kernel.link(from).rx.len();
        assert_eq!(unread + undelivered, 0, "bytes that came before the failure of {from:?} are thrown away");
        let link = self.kernel.link(at);
        if link.tx.is_empty() || link.dead {
            return;
        }
        let stuck_ns = now.since_ns(since.max(link.moved_at)).saturating_add(FLUSH_NS + LATE_NS);
        let given_up = stuck_ns >= quiet_ns || now >= lifetime_end || self.slots[at.0].killed_while_flushing;
        assert!(given_up, "a reset overtakes {} bytes to {at:?}", self.kernel.link(at).tx.len());
        self.kernel.corners.reach(Corner::FlushGaveUp);
    }

    /// The code fits what happened (INTERFACE section 6).
    pub fn check_termination(&mut self, s: usize) {
        let slot = &self.slots[s];
        let Termination(who, when) = slot.session.termination();
        let [client, backend] = slot.error_told;
        let last = slot.last_error;
        let fits = match (who, when) {
            (Who::Killed | Who::Down, When::Connect) => slot.ended_by == Some(who) && !slot.connected,
            (Who::Killed | Who::Down, When::Data) => slot.ended_by == Some(who) && slot.connected,
            (Who::Killed | Who::Down, When::Queue) => slot.ended_by == Some(who) && slot.left_queue,
            (Who::Killed | Who::Down, When::Request) => slot.ended_by == Some(who) && self.is_prereading(s),
            _ if slot.ended_by.is_some() => false,
            (who, When::Request) => slot.picks == 0 && slot.preread.is_some_and(|it| it.refused_by == Some(who)),
            (Who::Resource, When::Queue) => slot.queue_full,
            (_, When::Queue) if !slot.left_queue => false,
            (Who::Client, When::Queue) => client,
            (Who::ServerTimeout, When::Queue) => {
                let timeout_ns = slot.limits.queue_timeout_ns;
                slot.first_queued_at.is_some_and(|at| timeout_ns > 0 && self.kernel.now >= at.after_ns(timeout_ns))
            }
            (Who::Normal, When::Done) => slot.eof_told == [true, true],
            (Who::Client, When::Connect) if slot.client_gone => !slot.connected,
            (Who::Client, When::Connect) => !slot.connected && client,
            (_, When::Connect) if slot.connected => false,
            (Who::Server, When::Connect) => last.map_or(slot.no_backend, |last| last == ConnectError::Backend),
            (Who::ServerTimeout, When::Connect) => last == Some(ConnectError::Timeout),
            (Who::Resource, When::Connect) => slot.waits_for_descriptor || last == Some(ConnectError::Resource),
            (Who::Client, When::Data | When::Last) => client && slot.first_error == Some(Side::Client),
            (Who::Server, When::Data | When::Last) => backend && slot.first_error == Some(Side::Backend),
            (Who::ClientTimeout | Who::ServerTimeout | Who::Local, When::Data | When::Last) => slot.connected,
            _ => false,
        };
        assert!(fits, "{who:?} {when:?} does not fit what happened");
        if matches!(who, Who::Client | Who::Server) && !matches!(when, When::Request | When::Connect | When::Queue) {
            let expected = match (slot.finished_to, slot.eof_told) {
                (_, [false, false]) => When::Data,
                ([false, false], _) => when,
                _ => When::Last,
            };
            assert_eq!(when, expected, "when it failed");
        }
        let gave_up = !slot.connected && matches!(who, Who::Server | Who::ServerTimeout | Who::Resource);
        let gave_up = gave_up && when != When::Queue;
        let tried_all = slot.no_backend || slot.picks >= slot.limits.connect_attempts_max.max(1);
        assert!(!gave_up || tried_all, "there was another backend to try");
        match (who, when) {
            (Who::Client, When::Connect) => self.kernel.corners.reach(Corner::ClientLeftEarly),
            (Who::Client, When::Queue) => self.kernel.corners.reach(Corner::ClientLeftQueue),
            (Who::ServerTimeout, When::Queue) => self.kernel.corners.reach(Corner::QueueTimedOut),
            _ => {}
        }
    }

    /// Everything was given back, and the peers saw what they should.
    pub fn check_end(&mut self) {
        let buffers = &self.kernel.buffers;
        assert_eq!(buffers.free(), buffers.all(), "contract 2: buffers were never released");
        assert_eq!(self.wheel.next(), Moment::NEVER, "a timer outlives its session");
        for s in 0..self.slots.len() {
            for at in Side::BOTH.map(|side| (s, side)) {
                assert!(self.kernel.pipes.lent_to(at).is_none(), "contract 2: {at:?} never gave its pipe back");
                let link = self.kernel.link(at);
                assert!(!link.in_flight(), "something is in flight on {at:?} after the end");
                let peer = &link.peer;
                assert!(!peer.fin_seen || peer.received == link.accepted, "I2: {at:?} saw a FIN too early");
            }
        }
        let in_flight = self.kernel.links.iter().flatten().any(|link| link.busy[Kind::Recv as usize]);
        assert!(!in_flight, "a receive outlives its session");
    }
}
