//! The loop of the control thread: hears, decides through the pure parts, publishes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::admin::{self, Admin};
use super::fleet::Fleet;
use super::lifecycle::{Action, Event, Lifecycle, STOPPING_MAX_NS};
use super::log::{Facts, Keeper, Names};
use super::tasks::Control;
use super::{Error, Spec, Stop};
use crate::base::time::ns;
use crate::snapshot::cell::{Cell, Reader};
use crate::snapshot::table::Phase;

/// How often the workers' `running` is looked at, while it matters.
const TICK: Duration = Duration::from_millis(10);
/// Changes seldom come alone: this long they are gathered before they are published.
const GATHER: Duration = Duration::from_millis(1);

/// Runs control on the calling thread, until shutdown was asked for and every worker's `running` gauge is 0. Start the
/// workers first, or at least at the same time.
pub fn run(spec: Spec) -> Result<(), Error> {
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(64)).map_err(Error::Runtime)?;
    runtime.block_on(serve(spec))
}

async fn serve(spec: Spec) -> Result<(), Error> {
    let signals = Signals::install().map_err(Error::Signals)?;
    let Spec { config, cell, stats, counts, clock, wake, alarm, admin, ready, stop, connections_max, logs } = spec;
    stats.control.config_generation.set(1);
    let fleet = Fleet::new(config.clone(), clock.now());
    let names = Rc::new(RefCell::new(Names::default()));
    names.borrow_mut().learn(&cell.reader().pin());
    let facts = Facts { names: names.clone(), stats: stats.clone(), counts: counts.clone(), clock };
    let keeper = Keeper::begin(logs, facts);
    let control = Control::new(fleet, stats.clone(), counts.clone(), clock);
    if let Some(listener) = admin {
        let admin = Admin { cell: cell.clone(), stats, counts, connections_max };
        admin::serve(listener, admin).await.map_err(Error::Admin)?;
    }
    control.begin(alarm);
    let publisher = Publisher { reader: cell.reader(), cell, wake, names };
    let lifecycle = Lifecycle::new(ns(config.process.shutdown_grace));
    let turning = Loop { control, publisher, lifecycle, ready: Some(ready) };
    let result = turning.turn_until_done(signals, stop, &keeper).await;
    keeper.finish().await;
    result
}

/// Makes tables known.
struct Publisher {
    cell: Arc<Cell>,
    reader: Reader,
    wake: Box<dyn Fn() + Send>,
    names: Rc<RefCell<Names>>,
}

impl Publisher {
    fn publish(&self, fleet: &RefCell<Fleet>, phase: Phase) {
        let table = fleet.borrow_mut().table(Some(&self.reader.pin()), phase);
        debug!(generation = table.generation, ?phase, "new table");
        self.names.borrow_mut().learn(&table);
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
    async fn turn_until_done(mut self, mut signals: Signals, mut stop: Stop, logs: &Keeper) -> Result<(), Error> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let watching_workers = self.ready.is_some() || self.lifecycle.phase() != Phase::Serving;
            let event = tokio::select! {
                () = self.control.changed.notified() => {
                    sleep(GATHER).await;
                    self.publisher.publish(&self.control.fleet, self.lifecycle.phase());
                    continue;
                }
                () = stop.asked() => Event::ShutdownAsked,
                name = signals.shutdown(logs) => {
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
    async fn shutdown(&mut self, logs: &Keeper) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "TERM",
                _ = self.int.recv() => return "INT",
                _ = self.hup.recv() => {
                    warn!("SIGHUP: this version cannot reload; restart ringway to apply a changed configuration");
                }
                _ = self.usr1.recv() => logs.reopen(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
