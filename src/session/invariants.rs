//! What holds of a session after each event, in builds with debug assertions.

use super::{Session, SessionState};
use crate::base::side::Side;

impl Session {
    pub(super) fn check_invariants(&self) {
        let state = self.state;
        let may_connect = matches!(state, SessionState::Connecting | SessionState::Closing);
        assert!(!self.connect_in_flight || may_connect, "a connect is in flight in {state:?}");
        let has_backend =
            matches!(state, SessionState::Connecting | SessionState::Relaying | SessionState::Flushing { .. });
        let has_none = matches!(state, SessionState::Prereading | SessionState::Picking | SessionState::Waiting);
        assert!(!has_backend || self.backend_open, "{state:?} without a backend");
        assert!(!has_none || !self.backend_open, "{state:?} with a backend");
        if let SessionState::Flushing { reset, .. } = state {
            assert_eq!(self.relay.first_failed(), Some(reset.peer()), "the one that failed is not flushed");
        }
        let is_idle = !Side::BOTH.into_iter().any(|side| self.is_in_flight(side));
        assert!(state != SessionState::Closed || is_idle, "closed with something in flight");
        assert!(state != SessionState::Closing || !is_idle, "nothing is in flight, and it is not closed");
        self.relay.check_invariants();
    }
}
