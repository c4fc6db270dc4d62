//! What the result of a health check means: for the fleet, and for the log.
//!
//! `probe` says what happened; the fleet wants one of a few findings, and people want to hear of a problem once, not
//! every two seconds.
//!
//! It is asked by the task of a watch after each check (`tasks`).

use std::sync::Arc;

use tracing::{error, info, warn};

use crate::fleet::Finding;
use crate::health::transcript::Transcript;
use crate::probe::{Outcome, reason};

/// Whether a check could not be made because no port was left to connect from.
pub(super) fn is_portless(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown(lack) if lack.is_of_ports())
}

/// What a result says to the fleet, as a finding with its reason.
pub(super) fn finding(outcome: Outcome, transcript: &Transcript) -> Finding {
    match (outcome, transcript.remarked()) {
        (Outcome::Success(facts), None) => Finding::Success(facts),
        (Outcome::Success(facts), Some(remark)) => Finding::Doubtful(facts, reason(&remark)),
        (Outcome::Refused(text), _) => Finding::Refused(reason(&text)),
        (Outcome::Failure(failure), _) => Finding::Failure(reason(&failure)),
        (Outcome::Unknown(lack), _) => Finding::Unknown(reason(&lack)),
    }
}

/// What was logged about one target besides its changes of state: each problem once, and when it is over.
#[derive(Default)]
pub(super) struct Said(Option<Arc<str>>);

impl Said {
    /// Logs what is new about the target.
    pub(super) fn about(&mut self, finding: &Finding, target: &impl std::fmt::Display) {
        let now = match finding {
            Finding::Doubtful(_, text) | Finding::Refused(text) | Finding::Unknown(text) => Some(text),
            Finding::Success(_) | Finding::Failure(_) => None,
        };
        let before = std::mem::replace(&mut self.0, now.cloned());
        if before.as_ref() == now {
            return;
        }
        match finding {
            Finding::Unknown(reason) => error!(%target, %reason, "cannot check; the last state stays"),
            Finding::Refused(reason) => {
                warn!(%target, %reason, "the server lives and refuses the check: its last known role stays");
            }
            Finding::Doubtful(_, reason) => warn!(%target, %reason, "the check succeeds, and could be better"),
            Finding::Success(_) | Finding::Failure(_) => info!(%target, "checks work again"),
        }
    }
}
