//! Before a backend is chosen: what the client must say first is waited for, and looked at without being taken.
//!
//! The session only knows that something is awaited. What it is, and what it means, is the worker's: it looks at the
//! bytes where they are, in the kernel.

use std::sync::Arc;

use super::{Effect, Effects, Session, SessionState};
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;
use crate::session::SessionLimits;

/// What became of [`Effect::Look`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looked {
    /// More must come: look again when it has, or at that moment.
    More {
        /// [`Moment::NEVER`] if there is no hurry.
        until: Moment,
    },
    /// Look again at that moment: the kernel cannot say when more has come.
    Again {
        /// Soon.
        at: Moment,
    },
    /// All is known: a backend may be chosen.
    Done,
    /// It is turned away, by a rule or because the client has left.
    Refused(Who),
    /// It is turned away, and was told why: it gets a FIN.
    Told(Who),
    /// It has said nothing for as long as a session may be idle (`ClientTimeout`), or silent during a drain.
    Silent(Who),
}

impl Session {
    /// The limits of another pool than the one it was accepted for. To be called before a backend is chosen.
    pub fn adopt(&mut self, limits: Arc<SessionLimits>, jitter: u32, now: Moment) {
        debug_assert!(matches!(self.state, SessionState::Prereading | SessionState::Picking | SessionState::Waiting));
        self.ends_at = super::timer::lifetime_end(limits.lifetime_max_ns, jitter, now);
        self.limits = limits;
    }

    /// Whether a backend was not thought of yet.
    pub fn is_prereading(&self) -> bool {
        self.state == SessionState::Prereading
    }

    /// Begins by looking at what the client has sent, before a backend is picked.
    pub(super) fn preread(&mut self, out: &mut Effects) {
        debug_assert_eq!(self.state, SessionState::Picking);
        self.state = SessionState::Prereading;
        out.push(Effect::Look { ended: false });
    }

    /// Something has come, or the client will say no more.
    pub(super) fn client_spoke(&mut self, ended: bool, out: &mut Effects) {
        self.awaiting = false;
        match self.state {
            SessionState::Prereading => out.push(Effect::Look { ended }),
            _ => self.join(out),
        }
    }

    /// Hears what a look at the client's first bytes has found.
    pub(super) fn looked(&mut self, looked: Looked, out: &mut Effects) {
        if self.state != SessionState::Prereading {
            return;
        }
        match looked {
            Looked::More { until } => {
                if !self.awaiting {
                    self.awaiting = true;
                    out.push(Effect::AwaitClient);
                }
                self.set_timer(until, out);
            }
            Looked::Again { at } => self.set_timer(at, out),
            Looked::Done => {
                self.state = SessionState::Picking;
                out.push(Effect::Pick);
            }
            Looked::Silent(who) | Looked::Told(who) => {
                self.termination = Termination(who, When::Request);
                self.terminate([false, false], out);
            }
            Looked::Refused(who) => {
                self.termination = Termination(who, When::Request);
                self.terminate([true, true], out);
            }
        }
    }
}
