//! From serving to the end: which phase follows from what.

use crate::base::time::Moment;
use crate::snapshot::table::Phase;

/// How long workers may take to reset what is left.
pub const STOPPING_MAX_NS: u64 = 10_000_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A signal, or a caller, asked for shutdown.
    ShutdownAsked,
    /// Time has passed; this many workers run.
    Tick {
        /// Workers whose loop runs.
        workers_running: usize,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Publish a table with that phase.
    Enter(Phase),
    /// Every worker has ended: return.
    Finish,
    /// Workers do not end: give up on this many.
    GiveUp(usize),
}

/// The phase, and when it must end.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Phase,
    grace_ns: u64,
    /// When workers that are still there count as stuck; set exactly while stopping.
    give_up: Moment,
}

impl Lifecycle {
    /// The phase a process starts in.
    pub const SERVING: Phase = Phase::Serving;

    /// Serving; open sessions get `grace_ns` after shutdown was asked for, with 0 they are reset at once.
    pub fn new(grace_ns: u64) -> Lifecycle {
        Lifecycle { phase: Lifecycle::SERVING, grace_ns, give_up: Moment::NEVER }
    }

    /// Of a shutdown that has not begun.
    pub fn set_grace(&mut self, grace_ns: u64) {
        self.grace_ns = grace_ns;
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes what happened; at most one thing follows.
    pub fn on(&mut self, event: Event, now: Moment) -> Option<Action> {
        match (event, self.phase) {
            (Event::ShutdownAsked, Phase::Serving) if self.grace_ns > 0 => {
                self.enter(Phase::Draining { until: now.after_ns(self.grace_ns) }, now)
            }
            (Event::ShutdownAsked, Phase::Serving | Phase::Draining { .. }) => self.enter(Phase::Stopping, now),
            (Event::ShutdownAsked, Phase::Stopping) | (Event::Tick { .. }, Phase::Serving) => None,
            (Event::Tick { workers_running: 0 }, _) => Some(Action::Finish),
            (Event::Tick { .. }, Phase::Draining { until }) if now >= until => self.enter(Phase::Stopping, now),
            (Event::Tick { .. }, Phase::Draining { .. }) => None,
            (Event::Tick { workers_running }, Phase::Stopping) => {
                (now >= self.give_up).then_some(Action::GiveUp(workers_running))
            }
        }
    }

    fn enter(&mut self, phase: Phase, now: Moment) -> Option<Action> {
        self.phase = phase;
        if phase == Phase::Stopping {
            self.give_up = now.after_ns(STOPPING_MAX_NS);
        }
        Some(Action::Enter(phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Event = Event::Tick { workers_running: 2 };
    const NONE: Event = Event::Tick { workers_running: 0 };
    const DRAINING: Action = Action::Enter(Phase::Draining { until: Moment(130) });
    const STOPPING: Action = Action::Enter(Phase::Stopping);

    fn draining() -> Lifecycle {
        let mut lifecycle = Lifecycle::new(30);
        assert_eq!(lifecycle.on(Event::ShutdownAsked, Moment(100)), Some(DRAINING));
        lifecycle
    }

    #[test]
    fn serving_goes_on_until_shutdown_is_asked_for() {
        let mut lifecycle = Lifecycle::new(30);
        assert_eq!(lifecycle.on(TWO, Moment(1)), None);
        assert_eq!(lifecycle.on(NONE, Moment(2)), None, "workers that have not started do not end the process");
        assert_eq!(lifecycle.phase(), Phase::Serving);
    }

    #[test]
    fn draining_ends_with_the_last_worker_or_the_grace() {
        assert_eq!(draining().on(NONE, Moment(101)), Some(Action::Finish));
        let mut lifecycle = draining();
        assert_eq!(lifecycle.on(TWO, Moment(129)), None);
        assert_eq!(lifecycle.on(TWO, Moment(130)), Some(STOPPING));
        assert_eq!(lifecycle.on(TWO, Moment(131)), None, "entered once");
        assert_eq!(lifecycle.on(NONE, Moment(132)), Some(Action::Finish));
    }

    #[test]
    fn asking_twice_or_having_no_grace_resets_at_once() {
        let mut lifecycle = draining();
        assert_eq!(lifecycle.on(Event::ShutdownAsked, Moment(101)), Some(STOPPING));
        assert_eq!(lifecycle.on(Event::ShutdownAsked, Moment(102)), None);
        assert_eq!(Lifecycle::new(0).on(Event::ShutdownAsked, Moment(100)), Some(STOPPING));
    }

    #[test]
    fn another_grace_counts_for_the_next_shutdown_and_not_for_one_under_way() {
        let mut lifecycle = Lifecycle::new(0);
        lifecycle.set_grace(30);
        assert_eq!(lifecycle.on(Event::ShutdownAsked, Moment(100)), Some(DRAINING));
        lifecycle.set_grace(1000);
        assert_eq!(lifecycle.on(TWO, Moment(130)), Some(STOPPING));
    }

    #[test]
    fn a_stuck_worker_does_not_keep_the_process_for_ever() {
        let mut lifecycle = draining();
        lifecycle.on(Event::ShutdownAsked, Moment(200));
        assert_eq!(lifecycle.on(TWO, Moment(199 + STOPPING_MAX_NS)), None);
        assert_eq!(lifecycle.on(TWO, Moment(200 + STOPPING_MAX_NS)), Some(Action::GiveUp(2)));
    }
}
