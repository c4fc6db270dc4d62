//! What the outcome of a health check means: for the fleet, and for the log.
//!
//! The fleet wants one of a few findings, and people want to hear of a problem once, not every two seconds. The task of
//! a watch asks for both after each check (`control::tasks`).

use std::sync::Arc;

use tracing::{error, info, warn};

use super::{Checked, Outcome, reason};
use crate::health::finding::Finding;

impl Outcome {
    /// Whether the check could not be made because no port was left to connect from.
    pub(crate) fn is_portless(&self) -> bool {
        matches!(self, Outcome::Unknown(lack) if lack.is_of_ports())
    }
}

impl Checked {
    /// What it says to the fleet, as a finding with its reason.
    pub(crate) fn finding(&self) -> Finding {
        match (&self.outcome, self.transcript.remarked()) {
            (Outcome::Success(facts), None) => Finding::Success(*facts),
            (Outcome::Success(facts), Some(remark)) => Finding::Doubtful(*facts, reason(&remark)),
            (Outcome::Refused(text), _) => Finding::Refused(reason(text)),
            (Outcome::Advice(advice), _) => Finding::Advice(advice.clone()),
            (Outcome::Failure(failure), _) => Finding::Failure(reason(failure)),
            (Outcome::Unknown(lack), _) => Finding::Unknown(reason(lack)),
        }
    }
}

/// What was logged about one target besides its changes of state: each problem once, and when it is over.
#[derive(Default)]
pub(crate) struct Said(Option<Arc<str>>);

impl Said {
    /// Logs what is new about the target.
    pub(crate) fn about(&mut self, finding: &Finding, target: &impl std::fmt::Display) {
        let now = match finding {
            Finding::Doubtful(_, text) | Finding::Refused(text) | Finding::Unknown(text) => Some(text),
            Finding::Success(_) | Finding::Failure(_) | Finding::Advice(_) => None,
        };
        let before = std::mem::replace(&mut self.0, now.cloned());
        if before.as_ref() == now {
            return;
        }
        match finding {
            Finding::Unknown(reason) => error!(%target, %reason, "cannot check this server; its last state stays"),
            Finding::Refused(reason) => {
                warn!(%target, %reason, "the server lives but refuses the check: its last known role stays");
            }
            Finding::Doubtful(_, reason) => warn!(%target, %reason, "the check succeeds, but this should be changed"),
            Finding::Success(_) | Finding::Failure(_) | Finding::Advice(_) => info!(%target, "checks work again"),
        }
    }
}
