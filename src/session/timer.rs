//! What a session does when time passes.
//!
//! A session has one timer, and moving bytes does not touch it: when it fires, the session looks how long ago the last
//! byte was, and sets it anew if that is not long enough.

use super::{ConnectState, Effect, Effects, Session, SessionState};
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;
use crate::relay;

/// Age at which a connection is worth keepalive probes: well before the first one would be due.
pub(super) const SETTLE_NS: u64 = 5_000_000_000;
/// Between looks at what a kernel has not sent yet, at the least and at the most.
pub(super) const FLUSH_INTERVAL_NS: u64 = 10_000_000;
/// The longest pause between two such looks.
pub(super) const FLUSH_INTERVAL_MAX_NS: u64 = 1_000_000_000;
/// Between looks at a pipe that may not be of use any more.
const PIPE_INTERVAL_NS: u64 = 1_000_000_000;
/// After a FIN: before it is made sure that a reset which follows it will be noticed. Most sessions are over by then.
const WATCH_NS: u64 = 50_000_000;
/// Before a connect that could not be started is tried again: a part of the time since the first attempt, within these.
const AGAIN_MIN_NS: u64 = 1_000_000;
/// The longest such pause.
const AGAIN_MAX_NS: u64 = 50_000_000;
/// Twice the time after which a connect that could not be started is late.
const LATE_MAX_NS: u64 = 3_000_000_000;

/// A stream that moved a byte within this time has most likely more on its way. Talk with longer pauses than this
/// counts as delivered when it pauses, and ends in a FIN.
const FLOWING_NS: u64 = 10_000_000;
/// The same of a stream that has a pipe, as so much has come of it. Its sender may be held up for longer, by its
/// network or for want of a CPU. Meanwhile its reader gets all that there is, and that must not look like the end.
const BULK_FLOWING_NS: u64 = 1_000_000_000;

/// 0 is no limit.
pub(super) fn or_never(span_ns: u64) -> u64 {
    if span_ns == 0 { u64::MAX } else { span_ns }
}

/// The end of the lifetime, give or take 10 %, so that sessions that began together do not end together.
pub(super) fn lifetime_end(lifetime_ns: u64, jitter: u32, now: Moment) -> Moment {
    if lifetime_ns == 0 {
        return Moment::NEVER;
    }
    let spread_ns = lifetime_ns / 5;
    let offset_ns = (u128::from(spread_ns) * u128::from(jitter) / u128::from(u32::MAX)) as u64;
    now.after_ns(lifetime_ns - spread_ns / 2 + offset_ns)
}

impl Session {
    /// Has the worker call back then. A session has one timer, so this replaces the one before.
    pub(super) fn set_timer(&mut self, at: Moment, out: &mut Effects) {
        if at != self.timer_at {
            self.timer_at = at;
            out.push(Effect::Timer(at));
        }
    }

    /// When it has to end if no byte moves.
    pub(super) fn deadline(&self) -> Moment {
        let half_close_ns = self.limits.half_close_timeout_ns;
        let quiet_ns =
            if self.is_half_closed() && half_close_ns > 0 { half_close_ns } else { self.limits.idle_timeout_ns };
        self.active_at.after_ns(or_never(quiet_ns)).min(self.ends_at)
    }

    /// When it has been silent for long enough to end before the drain is over. A session that has bytes to deliver, or
    /// whose client waits for an answer after its FIN, is not silent.
    fn drain_deadline(&self) -> Moment {
        let is_silent = !self.is_half_closed() && !Side::BOTH.iter().any(|&side| self.relay.is_undelivered(side));
        match self.drained_by {
            Some(_) if self.heeds_drains() && is_silent => self.active_at.after_ns(self.limits.drain_idle_ns),
            _ => Moment::NEVER,
        }
    }

    /// When it has to see whether it is silent.
    fn drain_look(&self, now: Moment) -> Moment {
        match self.drain_deadline() {
            Moment::NEVER if self.drained_by.is_some() && self.heeds_drains() => {
                now.after_ns(self.limits.drain_idle_ns)
            }
            at => at,
        }
    }

    /// Hears that its backend or the process drains (`who`), or no longer does (`None`).
    pub(super) fn drains(&mut self, who: Option<Who>, now: Moment, out: &mut Effects) {
        self.drained_by = who;
        match self.state {
            SessionState::Relaying { .. } => self.timer_while_relaying(now, out),
            // Its client may be silent too.
            SessionState::Prereading => out.push(Effect::Look { ended: false }),
            _ => {}
        }
    }

    /// When it has to look at itself: at its deadline, and sooner while it has a pipe, or while nothing would tell of a
    /// reset.
    pub(super) fn next_look(&self, now: Moment) -> Moment {
        let pipe = if self.relay.has_pipe() { PIPE_INTERVAL_NS } else { u64::MAX };
        let unwatched = Side::BOTH.iter().any(|&side| self.relay.is_unwatched(side));
        let watch = if unwatched { WATCH_NS } else { u64::MAX };
        self.deadline().min(now.after_ns(pipe.min(watch))).min(self.drain_look(now))
    }

    /// The timer has rung: what follows depends on the state.
    pub(super) fn timer(&mut self, now: Moment, out: &mut Effects) {
        self.timer_at = Moment::NEVER;
        match self.state {
            // What is awaited may be too late; the worker knows.
            SessionState::Prereading => out.push(Effect::Look { ended: false }),
            SessionState::Waiting => self.timer_while_waiting(now, out),
            SessionState::Connecting(attempt) => self.timer_while_connecting(attempt, now, out),
            SessionState::Relaying { .. } => self.timer_while_relaying(now, out),
            SessionState::Flushing { reset, .. } => out.push(Effect::QueryUnsent { side: reset }),
            SessionState::Closing { .. } => out.push(Effect::Stuck),
            SessionState::Picking | SessionState::Closed => {}
        }
    }

    /// Ends it if it has waited for long enough.
    pub(super) fn timer_while_waiting(&mut self, now: Moment, out: &mut Effects) {
        let until = self.wait_until;
        if now < until {
            self.set_timer(until, out);
            return;
        }
        self.termination = Termination(Who::ServerTimeout, When::Queue);
        self.terminate([true, true], out);
    }

    /// When the attempt must have succeeded.
    fn connect_deadline(&self) -> Moment {
        self.active_at.after_ns(or_never(self.limits.connect_timeout_ns))
    }

    /// Whether half of the time to connect is over, or a second and a half where there is more.
    pub fn is_late_to_connect(&self, now: Moment) -> bool {
        let half_ns = or_never(self.limits.connect_timeout_ns).min(LATE_MAX_NS) / 2;
        matches!(self.state, SessionState::Connecting(_)) && now.since_ns(self.active_at) >= half_ns
    }

    /// Cancels an attempt that is too late, or starts one that could not be started before.
    fn timer_while_connecting(&mut self, attempt: ConnectState, now: Moment, out: &mut Effects) {
        let deadline = self.connect_deadline();
        match (now < deadline, attempt) {
            (true, ConnectState::InFlight | ConnectState::Expired) => self.set_timer(deadline, out),
            // It may go now.
            (true, ConnectState::Hindered) => self.connect(deadline, out),
            (false, ConnectState::InFlight | ConnectState::Expired) => {
                self.state = SessionState::Connecting(ConnectState::Expired);
                out.push(Effect::CancelConnect);
            }
            // The worker knows what was in the way.
            (false, ConnectState::Hindered) => out.push(Effect::CancelConnect),
        }
    }

    /// Better late than not at all: descriptors come back when other sessions end, and a backend accepts.
    pub(super) fn connect_later(&mut self, now: Moment, out: &mut Effects) {
        match &mut self.state {
            SessionState::Connecting(attempt) => {
                debug_assert_ne!(*attempt, ConnectState::Expired, "it is told of the end of what it has cancelled");
                *attempt = ConnectState::Hindered;
                let pause_ns = (now.since_ns(self.active_at) / 4).clamp(AGAIN_MIN_NS, AGAIN_MAX_NS);
                self.set_timer(now.after_ns(pause_ns).min(self.connect_deadline()), out);
            }
            _ => self.connect_joined(out),
        }
    }

    /// Ends a session that was silent for too long, is too old, or is drained; else looks again later.
    fn timer_while_relaying(&mut self, now: Moment, out: &mut Effects) {
        if now >= self.deadline() {
            self.expire(now, out);
            return;
        }
        if now >= self.drain_deadline()
            && let Some(who) = self.drained_by
        {
            self.termination = Termination(who, When::Data);
            self.terminate([false, false], out);
            return;
        }
        if let SessionState::Relaying { kept_alive: kept_alive @ false } = &mut self.state {
            *kept_alive = true;
            out.push(Effect::KeepAlive);
        }
        self.relay.on(relay::Event::Reclaim, out);
        self.relay.watch(out);
        self.set_timer(self.next_look(now), out);
    }

    /// It was quiet for too long, or is too old. What was received and not delivered makes it a reset, and so does a
    /// failure whose last bytes could not be read for want of a buffer, and a stream that was flowing just now: what
    /// its reader has got must not look like all there is.
    fn expire(&mut self, now: Moment, out: &mut Effects) {
        let undelivered = [self.relay.is_undelivered(Side::Client), self.relay.is_undelivered(Side::Backend)];
        let who = match undelivered {
            _ if now >= self.ends_at => Who::Local,
            // The side that does not read...
            [true, false] => Who::ServerTimeout,
            [false, true] => Who::ClientTimeout,
            // ...or has not done its part while the other one has.
            _ if self.relay.is_finished(Side::Client) => Who::ServerTimeout,
            _ => Who::ClientTimeout,
        };
        let failed = self.relay.first_failed();
        self.termination = failed.map_or(Termination(who, self.phase()), |by| self.failed_by(by));
        let flowing_ns = if self.relay.has_pipe() { BULK_FLOWING_NS } else { FLOWING_NS };
        let flowing = now >= self.ends_at && now.since_ns(self.active_at) < flowing_ns;
        let cut = undelivered[0] || undelivered[1] || flowing || failed.is_some();
        self.terminate([cut, cut], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::{BUFFER_LEN, Lease, Moved, PipeId};
    use crate::session::{Event, Picked, SessionLimits};

    const SECOND: u64 = 1_000_000_000;
    const START: Moment = Moment(SECOND);

    fn tell(session: &mut Session, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Effects::default();
        session.on(event, now, &mut effects);
        std::iter::from_fn(|| effects.pop()).collect()
    }

    /// A session that will be ten seconds old, and whose bytes move.
    fn open() -> Session {
        relaying(SessionLimits { lifetime_max_ns: 10 * SECOND, ..SessionLimits::default() })
    }

    fn relaying(limits: SessionLimits) -> Session {
        let mut session = Session::new(limits, u32::MAX / 2, START);
        for event in [Event::Accepted, Event::Picked(Picked::Backend), Event::Connected(Ok(()))] {
            tell(&mut session, event, START);
        }
        session
    }

    /// Of a session that ends: which of its sides end in a reset.
    fn closes_in_resets(session: &Session) -> Option<[bool; 2]> {
        match session.state {
            SessionState::Closing { reset, .. } => Some(reset),
            _ => None,
        }
    }

    fn relay(session: &mut Session, event: relay::Event, now: Moment) {
        tell(session, Event::Relay(event), now);
    }

    /// Whether the end of its lifetime is a reset, `quiet_ns` after the last byte that the backend had sent was
    /// delivered.
    fn ends_in_a_reset(mut session: Session, is_bulk: bool, quiet_ns: u64) -> bool {
        let side = Side::Backend;
        let end = session.ends_at;
        let last = Moment(end.0 - quiet_ns);
        for buffer in 0..4 {
            let lease = Lease { buffer, start: 0, len: BUFFER_LEN as u16 };
            relay(&mut session, relay::Event::Received { side, lease, more: buffer < 3, nonempty: is_bulk }, last);
        }
        relay(&mut session, relay::Event::Gathered { half: side }, last);
        for _ in 0..4 {
            let moved = Moved::Bytes(BUFFER_LEN as u32);
            relay(&mut session, relay::Event::Sent { side: side.peer(), moved }, last);
        }
        if is_bulk {
            relay(&mut session, relay::Event::Lent { half: side, pipe: Some((PipeId(1), 1 << 20)) }, last);
        }
        let effects = tell(&mut session, Event::Timer, end);
        assert_eq!(session.termination(), Termination(Who::Local, When::Data));
        assert!(!effects.is_empty());
        closes_in_resets(&session) == Some([true, true])
    }

    /// The bytes that the backend has sent and the client has not taken are not to be lost.
    #[test]
    fn a_silent_session_ends_in_a_fin_when_its_backend_drains_and_others_go_on() {
        let limits = SessionLimits { drain_idle_ns: SECOND, ..SessionLimits::default() };
        let silent_for = |ns: u64| START.after_ns(ns);
        let mut session = relaying(limits);
        tell(&mut session, Event::Timer, silent_for(3 * SECOND));
        assert!(session.is_relaying(), "nothing drains");
        tell(&mut session, Event::Drains(Some(Who::Down)), silent_for(SECOND - 1));
        assert!(session.is_relaying() && session.timer_at == silent_for(SECOND));
        tell(&mut session, Event::Drains(None), silent_for(SECOND - 1));
        tell(&mut session, Event::Timer, silent_for(SECOND));
        assert!(session.is_relaying(), "it drains no more");
        tell(&mut session, Event::Drains(Some(Who::Killed)), silent_for(SECOND));
        assert_eq!(closes_in_resets(&session), Some([false, false]));
        assert_eq!(session.termination(), Termination(Who::Killed, When::Data));

        let mut talks = relaying(limits);
        tell(&mut talks, Event::Drains(Some(Who::Down)), START);
        let lease = Lease { buffer: 0, start: 0, len: 7 };
        let received = relay::Event::Received { side: Side::Backend, lease, more: false, nonempty: false };
        relay(&mut talks, received, silent_for(SECOND / 2));
        tell(&mut talks, Event::Timer, silent_for(5 * SECOND));
        assert!(talks.is_relaying(), "its client has not got all of it");
        relay(&mut talks, relay::Event::Sent { side: Side::Client, moved: Moved::Bytes(7) }, silent_for(5 * SECOND));
        tell(&mut talks, Event::Timer, silent_for(6 * SECOND));
        assert_eq!(talks.termination(), Termination(Who::Down, When::Data));

        let mut without = relaying(SessionLimits::default());
        tell(&mut without, Event::Drains(Some(Who::Down)), silent_for(1000 * SECOND));
        assert!(without.is_relaying(), "0 is off");
    }

    /// The pause of a stream is no end of it, and the pause of a talk most likely is.
    #[test]
    fn a_stream_that_pauses_at_the_end_of_its_lifetime_is_cut_and_a_talk_is_not() {
        assert!(ends_in_a_reset(open(), false, FLOWING_NS - 1));
        assert!(!ends_in_a_reset(open(), false, FLOWING_NS));
        assert!(ends_in_a_reset(open(), true, FLOWING_NS));
        assert!(ends_in_a_reset(open(), true, BULK_FLOWING_NS - 1));
        assert!(!ends_in_a_reset(open(), true, BULK_FLOWING_NS));
    }
}
