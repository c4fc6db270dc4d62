//! How a session ends: the last bytes, `terminate → join → close`, and what it is called.

use super::timer::{FLUSH_INTERVAL_MAX_NS, FLUSH_INTERVAL_NS};
use super::{ConnectState, Effect, Effects, LastBackend, Session, SessionState};
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;
use crate::relay::{self, End, RelayStatus};

impl Session {
    /// Looks at what a relay event has come to.
    #[inline]
    pub(super) fn relaying(&mut self, event: relay::Event, now: Moment, out: &mut Effects) {
        match self.relay.status() {
            RelayStatus::Running => self.watch(event, now, out),
            RelayStatus::Finished => {
                self.termination = Termination::NORMAL;
                self.terminate([false, false], out);
            }
            RelayStatus::Cut { by } => self.flush(by, now, out),
        }
    }

    /// A FIN or a pipe brings the timer forward.
    #[inline]
    fn watch(&mut self, event: relay::Event, now: Moment, out: &mut Effects) {
        match event {
            relay::Event::Lent { pipe: Some(_), .. } => self.set_timer(self.next_look(now).min(self.timer_at), out),
            _ if self.is_half_closed() || matches!(event, relay::Event::Ended { end: End::Eof, .. }) => {
                let look = self.next_look(now);
                if look < self.timer_at {
                    self.set_timer(look, out);
                }
            }
            _ => {}
        }
    }

    /// `by` failed. What it had sent before was handed to the kernel of the other side, where a reset would throw it
    /// away: so it waits until the other side has acknowledged it.
    fn flush(&mut self, by: Side, now: Moment, out: &mut Effects) {
        self.termination = self.failed_by(by);
        let reset = by.peer();
        if self.relay.has_failed(reset) {
            self.terminate([true, true], out);
            return;
        }
        self.state = SessionState::Flushing { reset, unsent: u32::MAX };
        self.active_at = now;
        out.push(Effect::QueryUnsent { side: reset });
    }

    /// The code of a session in which `by` failed first.
    pub(super) fn failed_by(&self, by: Side) -> Termination {
        Termination(if by == Side::Client { Who::Client } else { Who::Server }, self.phase())
    }

    /// Only the last data is left exactly when one side has finished. That one side has failed is something else.
    pub(super) fn phase(&self) -> When {
        let finished = Side::BOTH.iter().any(|&side| self.relay.is_finished(side));
        if finished { When::Last } else { When::Data }
    }

    /// Hears how many bytes the kernel of the other side still has before the reset can follow them. None left, or no
    /// progress until the deadline: the session closes.
    pub(super) fn unsent(&mut self, bytes: u32, now: Moment, out: &mut Effects) {
        let SessionState::Flushing { reset, unsent } = self.state else { return };
        if bytes < unsent {
            self.active_at = now;
        }
        let stuck = now >= self.deadline();
        if bytes == 0 || stuck || self.relay.has_failed(reset) {
            self.terminate([true, true], out);
            return;
        }
        self.state = SessionState::Flushing { reset, unsent: bytes.min(unsent) };
        // The longer nothing has moved, the longer it takes until the next look: many may be stuck.
        let pause_ns = (now.since_ns(self.active_at) / 2).clamp(FLUSH_INTERVAL_NS, FLUSH_INTERVAL_MAX_NS);
        self.set_timer(now.after_ns(pause_ns).min(self.deadline()), out);
    }

    /// Ends it in a reset, for a reason that lies outside of it.
    pub(super) fn end_by(&mut self, who: Who, out: &mut Effects) {
        let when = match self.state {
            SessionState::Prereading | SessionState::Picking => When::Request,
            SessionState::Waiting => When::Queue,
            SessionState::Connecting(_) => When::Connect,
            SessionState::Relaying { .. } => When::Data,
            // It has ended already, for a reason of its own.
            SessionState::Flushing { .. } => return self.terminate([true, true], out),
            SessionState::Closing { .. } | SessionState::Closed => return,
        };
        self.termination = Termination(who, when);
        self.terminate([true, true], out);
    }

    /// First step: nothing starts any more, and what is in flight is cancelled, one operation at a time. (To cancel
    /// all operations on a descriptor, the kernel would look at all operations of the ring.)
    pub(super) fn terminate(&mut self, reset: [bool; 2], out: &mut Effects) {
        let before = self.state;
        if before == SessionState::Waiting {
            out.push(Effect::StopWaiting);
        }
        let backend = match before {
            SessionState::Connecting(ConnectState::InFlight | ConnectState::Expired) => LastBackend::InFlight,
            _ if self.has_backend() => LastBackend::Idle,
            _ => LastBackend::Nobody,
        };
        self.state = SessionState::Closing { reset, backend };
        self.relay.stop(out);
        if self.awaiting {
            out.push(Effect::CancelAwait);
        }
        if before == SessionState::Connecting(ConnectState::InFlight) {
            out.push(Effect::CancelConnect);
        }
        self.join(out);
        if self.state != SessionState::Closed {
            out.push(Effect::WatchClose);
        }
    }

    /// Second step: waits until nothing is in flight.
    #[inline]
    pub(super) fn join(&mut self, out: &mut Effects) {
        if let SessionState::Closing { reset, backend } = self.state
            && !Side::BOTH.iter().any(|&side| self.is_in_flight(side))
        {
            self.close(reset, backend != LastBackend::Nobody, out);
        }
    }

    /// Third step.
    fn close(&mut self, reset: [bool; 2], has_backend: bool, out: &mut Effects) {
        self.state = SessionState::Closed;
        out.push(Effect::Close { side: Side::Client, reset: reset[Side::Client.index()] });
        if has_backend {
            out.push(Effect::Close { side: Side::Backend, reset: reset[Side::Backend.index()] });
        }
        out.push(Effect::Over);
    }

    /// Whether an operation on that side is in flight, so that its descriptor must stay open.
    #[inline]
    pub(super) fn is_in_flight(&self, side: Side) -> bool {
        self.relay.is_in_flight(side)
            || (side == Side::Backend && self.is_connect_in_flight())
            || (side == Side::Client && self.awaiting)
    }

    /// Whether the kernel works on a connect, wanted or cancelled.
    #[inline]
    fn is_connect_in_flight(&self) -> bool {
        match self.state {
            SessionState::Connecting(attempt) => attempt != ConnectState::Hindered,
            SessionState::Closing { backend, .. } => backend == LastBackend::InFlight,
            _ => false,
        }
    }

    /// Whether one direction is over, by a FIN that was passed on or by a failure.
    #[inline]
    pub(super) fn is_half_closed(&self) -> bool {
        self.relay.is_over(Side::Client) || self.relay.is_over(Side::Backend)
    }

    /// Whether one side has ended its stream, or its connection has failed.
    #[inline]
    pub(super) fn has_an_end(&self) -> bool {
        self.relay.first_failed().is_some() || self.relay.has_ended(Side::Client) || self.relay.has_ended(Side::Backend)
    }

    /// Of a session that has its first end: whether it is one of a backend that has sent nothing.
    pub(super) fn is_hang_up(&self) -> bool {
        let by_client = self.relay.has_ended(Side::Client) || self.relay.first_failed() == Some(Side::Client);
        !by_client && !self.relay.has_received(Side::Backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::{BUFFER_LEN, Lease};
    use crate::session::{CLOSING_NS, Event, Picked, SessionLimits};

    /// What a session says to an event.
    fn tell(session: &mut Session, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Effects::default();
        session.on(event, now, &mut effects);
        std::iter::from_fn(|| effects.pop()).collect()
    }

    #[test]
    fn a_session_whose_end_is_never_answered_says_so() {
        let start = Moment(1);
        let mut session = Session::new(SessionLimits::default(), 0, start);
        tell(&mut session, Event::Accepted, start);
        tell(&mut session, Event::Picked(Picked::Backend), start);
        let effects = tell(&mut session, Event::End(Who::Killed), start);
        assert_eq!(effects.last(), Some(&Effect::WatchClose), "a connect and a receive are in flight");
        assert_eq!(tell(&mut session, Event::Timer, start.after_ns(CLOSING_NS)), [Effect::Stuck]);
    }

    /// Nothing is received any more that would tell.
    #[test]
    fn a_client_that_has_sent_all_that_is_kept_and_leaves_is_noticed_before_there_is_a_backend() {
        let (start, side) = (Moment(1), Side::Client);
        let mut session = Session::new(SessionLimits::default(), 0, start);
        for event in [Event::Accepted, Event::Picked(Picked::Backend)] {
            tell(&mut session, event, start);
        }
        for buffer in 0..4 {
            let lease = Lease { buffer, start: 0, len: BUFFER_LEN as u16 };
            let event = relay::Event::Received { side, lease, more: buffer < 3, nonempty: true };
            let effects = tell(&mut session, Event::Relay(event), start);
            let watched = effects.contains(&Effect::Relay(relay::Effect::PollHangup { side }));
            assert_eq!(watched, buffer == 3, "as soon as its receive has ended");
        }
        tell(&mut session, Event::Relay(relay::Event::HungUp { side }), start);
        assert!(session.is_ending());
        assert_eq!(session.termination(), Termination(Who::Client, When::Connect));
    }

    /// Its FIN is passed on as soon as there is a backend, so no further FIN would bring the timer forward.
    #[test]
    fn a_client_that_is_watched_no_more_when_there_is_a_backend_is_watched_again_soon() {
        let (start, side) = (Moment(1), Side::Client);
        let mut session = Session::new(SessionLimits::default(), 0, start);
        for event in [Event::Accepted, Event::Picked(Picked::Backend)] {
            tell(&mut session, event, start);
        }
        tell(&mut session, Event::Relay(relay::Event::Ended { side, end: End::Eof }), start);
        tell(&mut session, Event::Relay(relay::Event::HangupPolled { side }), start);
        let effects = tell(&mut session, Event::Connected(Ok(())), start);
        let look = effects.iter().find_map(|effect| if let Effect::Timer(at) = effect { Some(*at) } else { None });
        let look = look.expect("a timer is set");
        assert!(look <= start.after_ns(50_000_000), "{look:?}");
        let effects = tell(&mut session, Event::Timer, look);
        assert!(effects.contains(&Effect::Relay(relay::Effect::PollHangup { side })));
    }

    #[test]
    fn a_session_with_nothing_in_flight_is_over_at_once() {
        let mut session = Session::new(SessionLimits::default(), 0, Moment(1));
        tell(&mut session, Event::Accepted, Moment(1));
        let effects = tell(&mut session, Event::Picked(Picked::Nobody), Moment(1));
        assert_eq!(effects, [Effect::Close { side: Side::Client, reset: true }, Effect::Over]);
    }
}
