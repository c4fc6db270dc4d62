//! Health checks, each target's in a task of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::tasks::Control;
use crate::base::time::Moment;
use crate::fleet::{Finding, WatchId};
use crate::health::transcript::Transcript;
use crate::probe::{Checked, Outcome, probe, reason};

/// Pause after a check that could not be made.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);
/// Checks in a row that find no port to connect from; then it is a failure, as sessions do not get there either.
const PORTLESS_MAX: u32 = 30;

/// Checks one target again and again, until its watch has ended.
pub(super) async fn check_for_ever(control: Rc<Control>, watch: WatchId, delay: Duration, gone: Rc<Notify>) {
    sleep(delay).await;
    let (mut said, mut portless) = (Said::default(), 0);
    loop {
        let Some(ask) = control.fleet.borrow().ask(watch) else { return };
        let begun = control.clock.now();
        let Checked { outcome, transcript } = probe(&ask).await;
        debug!(target = %ask.target, transcript = ?transcript.lines(), "checked");
        portless = if is_portless(&outcome) { portless + 1 } else { 0 };
        let finding = match finding(outcome, &transcript) {
            Finding::Unknown(why) if portless > PORTLESS_MAX => Finding::Failure(why),
            finding => finding,
        };
        control.fleet.borrow_mut().remember(watch, transcript);
        said.about(&finding, &ask.target);
        control.on_check(watch, begun, &finding);
        let pause = match finding {
            Finding::Unknown(_) => UNKNOWN_PAUSE,
            _ => Duration::from_nanos(control.fleet.borrow().pause_ns(watch, fastrand::u64(..))),
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = gone.notified() => return,
        }
    }
}

fn is_portless(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown(lack) if lack.is_of_ports())
}

fn finding(outcome: Outcome, transcript: &Transcript) -> Finding {
    match (outcome, transcript.remarked()) {
        (Outcome::Success(facts), None) => Finding::Success(facts),
        (Outcome::Success(facts), Some(remark)) => Finding::Doubtful(facts, reason(&remark)),
        (Outcome::Refused(text), _) => Finding::Refused(reason(&text)),
        (Outcome::Failure(failure), _) => Finding::Failure(reason(&failure)),
        (Outcome::Unknown(lack), _) => Finding::Unknown(reason(&lack)),
    }
}

/// What a person was told of a target beside its changes of state: each thing once, and when it is over.
#[derive(Default)]
struct Said(Option<Arc<str>>);

impl Said {
    fn about(&mut self, finding: &Finding, target: &impl std::fmt::Display) {
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
                warn!(%target, %reason, "it lives and refuses the check; the last known role stays");
            }
            Finding::Doubtful(_, reason) => warn!(%target, %reason, "the check succeeds, and could be better"),
            Finding::Success(_) | Finding::Failure(_) => info!(%target, "checks go as they should again"),
        }
    }
}

impl Control {
    fn on_check(&self, watch: WatchId, begun: Moment, finding: &Finding) {
        let now = self.clock.now();
        let subscribers = self.fleet.borrow().watch(watch).map(|watch| watch.subscribers.clone());
        for id in subscribers.into_iter().flatten() {
            let cells = self.stats.control.backends.get(id.index());
            match finding {
                Finding::Success(_) | Finding::Doubtful(..) => cells.success.add(1),
                Finding::Refused(_) => cells.refused.add(1),
                Finding::Failure(_) => cells.failure.add(1),
                Finding::Unknown(_) => cells.unknown.add(1),
            }
            cells.check_ns.record_ns(now.since_ns(begun));
        }
        let changes = self.fleet.borrow_mut().on_check(watch, begun, finding, now);
        self.apply(changes);
    }
}
