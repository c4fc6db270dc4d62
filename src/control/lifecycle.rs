//! From serving to the end: which phase follows from which event. Pure.
//!
//! ```text
//! Serving ── SIGTERM ──> Leaving ── shutdown_delay ──> Draining ── shutdown_grace ──> Stopping ──> the end
//! ```
//!
//! A second SIGTERM goes to Stopping immediately. Leaving is skipped without a delay, Draining without a grace; and a
//! ringway that was relieved by another one drains without leaving. The drain also ends when the last worker has ended.

use crate::base::time::Moment;
use crate::snapshot::table::Phase;

/// How long workers can take to reset the sessions that are left, before they count as stuck.
pub const STOPPING_MAX_NS: u64 = 10_000_000_000;

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LifecycleEvent {
    /// A signal, or a caller, asked for shutdown.
    ShutdownAsked,
    /// Another ringway accepts on the same sockets.
    Relieved,
    /// Time has passed.
    Tick {
        /// How many workers run.
        workers_running: usize,
    },
}

/// What control has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Publish a table with this phase.
    Enter(Phase),
    /// Return: every worker has ended.
    Finish,
    /// Return with an error: this many workers do not end.
    GiveUp(usize),
}

/// The phase of the process, and when it has to end.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Where the process is.
    phase: Phase,
    /// How long it leaves.
    delay_ns: u64,
    /// How long it drains.
    grace_ns: u64,
    /// When workers that still run count as stuck; set exactly in the phase Stopping.
    give_up: Moment,
}

impl Lifecycle {
    /// The phase in which a process starts.
    pub const SERVING: Phase = Phase::Serving;

    /// A process that serves. When shutdown is asked for, new connections are served for `delay_ns` more, and then open
    /// sessions get `grace_ns`; with 0 they are reset immediately.
    pub fn new(delay_ns: u64, grace_ns: u64) -> Lifecycle {
        Lifecycle { phase: Lifecycle::SERVING, delay_ns, grace_ns, give_up: Moment::NEVER }
    }

    /// Changes both times, as a reload does. A shutdown that is under way keeps its own.
    pub fn set_spans(&mut self, delay_ns: u64, grace_ns: u64) {
        (self.delay_ns, self.grace_ns) = (delay_ns, grace_ns);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Handles an event. At most one thing follows.
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

    /// Begins the drain, or the stop if sessions get no time.
    fn drain(&mut self, now: Moment) -> Option<Action> {
        let until = now.after_ns(self.grace_ns);
        self.enter(if self.grace_ns > 0 { Phase::Draining { until } } else { Phase::Stopping }, now)
    }

    /// Goes to a phase.
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

    /// A load balancer in front needs a while to notice that it must send clients elsewhere.
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
