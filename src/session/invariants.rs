//! What holds of a session after each event, in builds with debug assertions.

use super::{Session, SessionState};
use crate::base::side::Side;

impl Session {
    /// Asserts, in builds with debug assertions, what the state says of attempts and of operations in flight. Called
    /// after each event.
    pub(super) fn check_invariants(&self) {
        let state = self.state;
        assert!(!self.has_backend() || self.attempts > 0, "{state:?} with a backend that nobody has chosen");
        if let SessionState::Flushing { reset, .. } = state {
            assert_eq!(self.relay.first_failed(), Some(reset.peer()), "the one that failed is not flushed");
        }
        let is_idle = !Side::BOTH.into_iter().any(|side| self.is_in_flight(side));
        assert!(state != SessionState::Closed || is_idle, "closed with something in flight");
        let is_closing = matches!(state, SessionState::Closing { .. });
        assert!(!is_closing || !is_idle, "nothing is in flight, and it is not closed");
        self.relay.check_invariants();
    }
}
