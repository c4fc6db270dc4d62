//! From serving to the end: which phase follows from what.

use crate::base::time::Moment;
use crate::snapshot::table::Phase;

/// How long workers may take to reset what is left.
pub const STOPPING_MAX_NS: u64 = 10_000_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LifecycleEvent {
    /// A signal, or a caller, asked for shutdown.
    ShutdownAsked,
    /// Another ringway accepts from the same sockets.
    Relieved,
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
    delay_ns: u64,
    grace_ns: u64,
    /// When workers that are still there count as stuck; set exactly while stopping.
    give_up: Moment,
}

impl Lifecycle {
    /// The phase a process starts in.
    pub const SERVING: Phase = Phase::Serving;

    /// Serving. After shutdown was asked for, new connections are served for `delay_ns`; then open sessions get
    /// `grace_ns`, with 0 they are reset at once.
    pub fn new(delay_ns: u64, grace_ns: u64) -> Lifecycle {
        Lifecycle { phase: Lifecycle::SERVING, delay_ns, grace_ns, give_up: Moment::NEVER }
    }

    /// Of a shutdown that has not begun.
    pub fn set_spans(&mut self, delay_ns: u64, grace_ns: u64) {
        (self.delay_ns, self.grace_ns) = (delay_ns, grace_ns);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes what happened; at most one thing follows.
    pub fn on(&mut self, event: LifecycleEvent, now: Moment) -> Option<Action> {
        match (event, self.phase) {
            (LifecycleEvent::ShutdownAsked, Phase::Serving) if self.delay_ns > 0 => {
                self.enter(Phase::Leaving { until: now.after_ns(self.delay_ns) }, now)
            }
            (LifecycleEvent::ShutdownAsked | LifecycleEvent::Relieved, Phase::Serving) => self.drain(now),
            (LifecycleEvent::Tick { .. }, Phase::Leaving { until }) if now >= until => self.drain(now),
            (LifecycleEvent::ShutdownAsked, Phase::Leaving { .. } | Phase::Draining { .. }) => {
                self.enter(Phase::Stopping, now)
            }
            (LifecycleEvent::ShutdownAsked, Phase::Stopping) | (LifecycleEvent::Relieved, _) => None,
            (LifecycleEvent::Tick { .. }, Phase::Serving | Phase::Leaving { .. }) => None,
            (LifecycleEvent::Tick { workers_running: 0 }, _) => Some(Action::Finish),
            (LifecycleEvent::Tick { .. }, Phase::Draining { until }) if now >= until => {
                self.enter(Phase::Stopping, now)
            }
            (LifecycleEvent::Tick { .. }, Phase::Draining { .. }) => None,
            (LifecycleEvent::Tick { workers_running }, Phase::Stopping) => {
                (now >= self.give_up).then_some(Action::GiveUp(workers_running))
            }
        }
    }

    fn drain(&mut self, now: Moment) -> Option<Action> {
        let until = now.after_ns(self.grace_ns);
        self.enter(if self.grace_ns > 0 { Phase::Draining { until } } else { Phase::Stopping }, now)
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

    const TWO: LifecycleEvent = LifecycleEvent::Tick { workers_running: 2 };
    const NONE: LifecycleEvent = LifecycleEvent::Tick { workers_running: 0 };
    const DRAINING: Action = Action::Enter(Phase::Draining { until: Moment(130) });
    const STOPPING: Action = Action::Enter(Phase::Stopping);

    fn draining() -> Lifecycle {
        let mut lifecycle = Lifecycle::new(0, 30);
        assert_eq!(lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(100)), Some(DRAINING));
        lifecycle
    }

    #[test]
    fn serving_goes_on_until_shutdown_is_asked_for() {
        let mut lifecycle = Lifecycle::new(0, 30);
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
        assert_eq!(lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(101)), Some(STOPPING));
        assert_eq!(lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(102)), None);
        assert_eq!(Lifecycle::new(0, 0).on(LifecycleEvent::ShutdownAsked, Moment(100)), Some(STOPPING));
    }

    #[test]
    fn another_grace_counts_for_the_next_shutdown_and_not_for_one_under_way() {
        let mut lifecycle = Lifecycle::new(0, 0);
        lifecycle.set_spans(0, 30);
        assert_eq!(lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(100)), Some(DRAINING));
        lifecycle.set_spans(9, 1000);
        assert_eq!(lifecycle.on(TWO, Moment(130)), Some(STOPPING));
    }

    #[test]
    fn a_stuck_worker_does_not_keep_the_process_for_ever() {
        let mut lifecycle = draining();
        lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(200));
        assert_eq!(lifecycle.on(TWO, Moment(199 + STOPPING_MAX_NS)), None);
        assert_eq!(lifecycle.on(TWO, Moment(200 + STOPPING_MAX_NS)), Some(Action::GiveUp(2)));
    }

    /// Whoever sends clients here needs a while to see that they are to go elsewhere.
    #[test]
    fn new_connections_are_served_for_the_delay_and_a_second_signal_ends_it_at_once() {
        let leaving = || {
            let mut lifecycle = Lifecycle::new(20, 30);
            let leaving = Action::Enter(Phase::Leaving { until: Moment(120) });
            assert_eq!(lifecycle.on(LifecycleEvent::ShutdownAsked, Moment(100)), Some(leaving));
            lifecycle
        };
        let mut lifecycle = leaving();
        assert_eq!(lifecycle.on(TWO, Moment(119)), None);
        assert_eq!(lifecycle.on(TWO, Moment(120)), Some(Action::Enter(Phase::Draining { until: Moment(150) })));
        assert_eq!(leaving().on(LifecycleEvent::ShutdownAsked, Moment(101)), Some(STOPPING));
        assert_eq!(Lifecycle::new(20, 0).on(TWO, Moment(1)), None);
    }

    #[test]
    fn who_is_relieved_drains_without_delay() {
        assert_eq!(Lifecycle::new(20, 30).on(LifecycleEvent::Relieved, Moment(100)), Some(DRAINING));
        assert_eq!(draining().on(LifecycleEvent::Relieved, Moment(101)), None, "it drains already");
    }
}
