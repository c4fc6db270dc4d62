//! The loop of the control thread: hears, decides through the pure parts, publishes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::admin::{self, Admin};
use super::fleet::{Fleet, Transition, Watch};
use super::lifecycle::{Action, Event, Lifecycle, STOPPING_MAX_NS};
use super::probe::{Ask, Outcome, probe};
use super::{Error, Spec, Stop};
use crate::base::time::{Clock, ns};
use crate::health::State;
use crate::snapshot::cell::{Cell, Reader};
use crate::snapshot::table::Phase;
use crate::stats::Stats;

/// How often the workers' `running` is looked at, while it matters.
const TICK: Duration = Duration::from_millis(10);
/// First checks start this far apart, so that a thousand backends are not connected to in one burst.
const STAGGER: Duration = Duration::from_micros(100);
/// Pause after a check that could not be made.
const INCONCLUSIVE_PAUSE: Duration = Duration::from_secs(1);

/// What the tasks of the control thread share; none of them holds a borrow over an `await`.
struct Control {
    fleet: RefCell<Fleet>,
    /// The fleet has changed since the last publication.
    changed: Notify,
    stats: Arc<Stats>,
    clock: Clock,
}

/// Runs control on the calling thread, until shutdown was asked for and every worker's `running` gauge is 0. Start the
/// workers first, or at least at the same time.
pub fn run(spec: Spec) -> Result<(), Error> {
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(64)).map_err(Error::Runtime)?;
    runtime.block_on(serve(spec))
}

async fn serve(spec: Spec) -> Result<(), Error> {
    let signals = Signals::install().map_err(Error::Signals)?;
    let Spec { config, cell, stats, counts, clock, wake, admin, ready, stop, connections_max } = spec;
    stats.control.config_generation.set(1);
    let control = Rc::new(Control {
        fleet: RefCell::new(Fleet::new(config.clone(), clock.now())),
        changed: Notify::new(),
        stats: stats.clone(),
        clock,
    });
    if let Some(listener) = admin {
        let admin = Admin { cell: cell.clone(), stats: stats.clone(), counts, connections_max };
        admin::serve(listener, admin).await.map_err(Error::Admin)?;
    }
    let watches = control.fleet.borrow().watches().len();
    for watch in 0..watches {
        tokio::task::spawn_local(check_for_ever(control.clone(), watch));
    }
    let publisher = Publisher { reader: cell.reader(), cell, wake };
    let lifecycle = Lifecycle::new(ns(config.process.shutdown_grace));
    Loop { control, publisher, lifecycle, ready: Some(ready) }.turn_until_done(signals, stop).await
}

/// Checks one target again and again. Ends with the runtime.
async fn check_for_ever(control: Rc<Control>, watch: usize) {
    sleep(STAGGER * u32::try_from(watch).unwrap_or(u32::MAX)).await;
    let ask = {
        let fleet = control.fleet.borrow();
        let Watch { target, check, .. } = &fleet.watches()[watch];
        let (role, lag) = (check.role.is_some(), !check.lag_max.is_zero());
        Ask { target: target.clone(), kind: check.kind.clone(), timeout: check.timeout, role, lag }
    };
    let mut was_inconclusive = false;
    loop {
        let begun = control.clock.now();
        let checked = probe(&ask).await;
        debug!(target = %ask.target, transcript = ?checked.transcript.lines(), "checked");
        let took_ns = control.clock.now().since_ns(begun);
        match checked.outcome {
            Outcome::Success(facts) => {
                debug!(target = %ask.target, ?facts, "a check succeeded");
                control.on_check(watch, None, took_ns);
            }
            Outcome::Failure(failure) => control.on_check(watch, Some(&failure), took_ns),
            Outcome::Inconclusive(error) => {
                if !std::mem::replace(&mut was_inconclusive, true) {
                    warn!(target = %ask.target, %error, "cannot check: out of descriptors, ports or memory");
                }
                sleep(INCONCLUSIVE_PAUSE).await;
                continue;
            }
        }
        was_inconclusive = false;
        let pause_ns = control.fleet.borrow().pause_ns(watch, fastrand::u64(..));
        sleep(Duration::from_nanos(pause_ns)).await;
    }
}

impl Control {
    fn on_check(&self, watch: usize, failure: Option<&super::probe::Failure>, took_ns: u64) {
        let mut fleet = self.fleet.borrow_mut();
        let transition = fleet.on_check(watch, failure.is_none(), self.clock.now());
        let watch = &fleet.watches()[watch];
        for backend in &watch.backends {
            let cells = self.stats.control.backends.get(backend.id.index());
            if failure.is_none() { &cells.success } else { &cells.failure }.add(1);
            cells.check_ns.record_ns(took_ns);
            if let Some(transition) = transition {
                if transition.to == State::Up { &cells.went_up } else { &cells.went_down }.add(1);
            }
        }
        if let Some(transition) = transition {
            log_transition(watch, transition, failure);
            self.changed.notify_one();
        }
    }

    fn workers_running(&self) -> usize {
        self.stats.workers.iter().filter(|worker| worker.worker.running.get() != 0).count()
    }
}

/// One line a backend: what it became, why, and how long it had been the other.
fn log_transition(watch: &Watch, transition: Transition, failure: Option<&super::probe::Failure>) {
    let lasted = humantime::format_duration(Duration::from_millis(transition.lasted_ns / 1_000_000));
    for backend in &watch.backends {
        let (pool, name, target) = (&backend.pool, &backend.name, &watch.target);
        match failure {
            Some(reason) => warn!(%pool, backend = %name, %target, %reason, up_for = %lasted, "backend is down"),
            None => info!(%pool, backend = %name, %target, reason = "accepts connections", down_for = %lasted,
                "backend is up"),
        }
    }
}

/// Makes tables known.
struct Publisher {
    cell: Arc<Cell>,
    reader: Reader,
    wake: Box<dyn Fn() + Send>,
}

impl Publisher {
    fn publish(&self, fleet: &RefCell<Fleet>, phase: Phase) {
        let table = fleet.borrow_mut().table(Some(&self.reader.pin()), phase);
        debug!(generation = table.generation, ?phase, "new table");
        self.cell.publish(table);
        (self.wake)();
    }
}

struct Loop {
    control: Rc<Control>,
    publisher: Publisher,
    lifecycle: Lifecycle,
    /// Not called yet.
    ready: Option<Box<dyn FnOnce() + Send>>,
}

impl Loop {
    async fn turn_until_done(mut self, mut signals: Signals, mut stop: Stop) -> Result<(), Error> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let watching_workers = self.ready.is_some() || self.lifecycle.phase() != Phase::Serving;
            let event = tokio::select! {
                () = self.control.changed.notified() => {
                    self.publisher.publish(&self.control.fleet, self.lifecycle.phase());
                    continue;
                }
                () = stop.asked() => Event::ShutdownAsked,
                name = signals.shutdown() => {
                    info!(signal = name, "asked to shut down");
                    Event::ShutdownAsked
                }
                _ = ticks.tick(), if watching_workers => {
                    Event::Tick { workers_running: self.control.workers_running() }
                }
            };
            self.tell_if_ready();
            match self.lifecycle.on(event, self.control.clock.now()) {
                None => {}
                Some(Action::Enter(phase)) => self.enter(phase),
                Some(Action::Finish) => return Ok(()),
                Some(Action::GiveUp(workers)) => return Err(Error::Stuck(workers, STOPPING_MAX_NS / 1_000_000_000)),
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Serving => {}
            Phase::Draining { .. } => info!("draining: no new connections; a second signal resets what is left"),
            Phase::Stopping => info!("stopping: resetting the sessions that are left"),
        }
        self.publisher.publish(&self.control.fleet, phase);
    }

    fn tell_if_ready(&mut self) {
        if self.lifecycle.phase() == Phase::Serving
            && self.control.workers_running() == self.control.stats.workers.len()
            && let Some(ready) = self.ready.take()
        {
            ready();
        }
    }
}

/// The signals ringway listens to. SIGPIPE is ignored since before `main`, by Rust's own start-up.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Name of the next signal that asks for shutdown; the others are answered on the way.
    async fn shutdown(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "TERM",
                _ = self.int.recv() => return "INT",
                _ = self.hup.recv() => {
                    warn!("SIGHUP: this version cannot reload; restart ringway to apply a changed configuration");
                }
                _ = self.usr1.recv() => info!("SIGUSR1: no log file is open that could be reopened"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
