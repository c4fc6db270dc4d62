//! The loop of the control thread: hears, decides through the pure parts, publishes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use super::history::sample_for_ever;
use super::lifecycle::{Action, Lifecycle, LifecycleEvent, STOPPING_MAX_NS};
use super::notify;
use super::runtime::Runtime;
use super::sockets::ListeningSockets;
use super::tasks::Control;
use super::{ControlError, ControlSpec, Hooks, OutOfReach, Stop};
use crate::api::command::{self, ControlCommand, View};
use crate::api::{self, ApiContext};
use crate::base::time::ns;
use crate::config::model::{Config, Source};
use crate::fleet::Fleet;
use crate::log::{Keeper, LogContext, Names, SetLevel};
use crate::snapshot::cell::{Cell, Reader};
use crate::snapshot::table::Phase;
use crate::sys::route::is_own;
use crate::sys::signals;
use crate::take_over::{self, Succession};

/// How often the workers' `running` is looked at, while it matters.
const TICK: Duration = Duration::from_millis(10);
/// Changes seldom come alone: this long they are gathered before they are published.
const GATHER: Duration = Duration::from_millis(1);
/// How long a worker may take to serve by a new table, and how often that is looked at.
const SERVED_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);
/// How often it is seen whether the files of unix sockets are still there.
const MEND_EVERY: Duration = Duration::from_secs(2);
/// Until old tables are freed, when every worker has long seen the new one.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// Runs control on the calling thread, until shutdown was asked for and every worker's `running` gauge is 0. Start the
/// workers first, or at least at the same time.
pub fn run(spec: ControlSpec) -> Result<(), ControlError> {
    Runtime::new(spec.io.driver).map_err(ControlError::Runtime)?.block_on(serve(spec))
}

async fn serve(spec: ControlSpec) -> Result<(), ControlError> {
    let signals = Signals::install().map_err(ControlError::Signals)?;
    let ControlSpec { config, source, cell, stats, counts, clock, sockets, alarm, .. } = spec;
    let ControlSpec { admin, admin_socket, predecessor, stop, connections_max, io, mut logs, .. } = spec;
    let Hooks { wake, ask, out_of_reach, read_file, ready } = spec.hooks;
    stats.control.config_generation.set(1);
    let mut fleet = Fleet::new(config.clone(), clock.now());
    let led_back = fleet.tell_own_by(is_own, clock.now());
    let names = Rc::new(RefCell::new(Names::default()));
    names.borrow_mut().learn(&cell.reader().pin());
    let facts =
        LogContext { names: names.clone(), stats: stats.clone(), counts: counts.clone(), clock, driver: io.driver };
    let set_level = logs.set_level.take();
    let keeper = Keeper::begin(logs, facts);
    let control = Control::new(fleet, stats.clone(), counts.clone(), clock);
    control.read_names_by(read_file);
    let (asker, commands) = command::channel();
    let answers = ApiContext { cell: cell.clone(), stats, counts, connections_max, io, ask, asker, clock };
    let routes = take_over::routes();
    let servers = api::Servers::new(admin, &config.admin.hosts, admin_socket, routes).map_err(ControlError::Admin)?;
    control.begin(alarm);
    control.apply(led_back);
    tokio::task::spawn_local(notify::keep_alive(control.clone(), cell.clone()));
    tokio::task::spawn_local(sample_for_ever(control.clone(), cell.clone()));
    let publisher = Publisher { reader: cell.reader(), cell, wake, names, sweeps: Rc::default() };
    let lifecycle = Lifecycle::new(ns(config.process.shutdown_delay), ns(config.process.shutdown_grace));
    let succession = Succession::new(predecessor, servers, answers, clock.now());
    let ready = Some(ready);
    let turning = ControlLoop {
        control,
        publisher,
        lifecycle,
        commands,
        config,
        source,
        sockets,
        succession,
        set_level,
        out_of_reach,
        ready,
    };
    let result = turning.turn_until_done(signals, stop, &keeper).await;
    keeper.finish().await;
    result
}

/// Makes tables known.
pub(super) struct Publisher {
    cell: Arc<Cell>,
    reader: Reader,
    wake: Box<dyn Fn() + Send>,
    names: Rc<RefCell<Names>>,
    /// The tables before are about to be freed.
    sweeps: Rc<std::cell::Cell<bool>>,
}

impl Publisher {
    /// Publishes what follows from what is known now.
    pub(super) fn publish(&self, control: &Control, phase: Phase) {
        control.has_news.set(false);
        let table = control.fleet.borrow_mut().table(Some(&self.reader.pin()), phase);
        debug!(generation = table.generation, ?phase, "new table");
        self.names.borrow_mut().learn(&table);
        self.cell.publish(table);
        (self.wake)();
        if !self.sweeps.replace(true) {
            let (cell, sweeps) = (self.cell.clone(), self.sweeps.clone());
            tokio::task::spawn_local(async move {
                sleep(SWEEP_AFTER).await;
                sweeps.set(false);
                cell.sweep();
            });
        }
    }

    /// The same, unless the last table says it already.
    pub(super) fn publish_news(&self, control: &Control, phase: Phase) {
        if control.has_news.get() {
            self.publish(control, phase);
        }
    }

    /// Generation of the last table.
    fn generation(&self) -> u64 {
        self.reader.pin().generation
    }
}

pub(super) struct ControlLoop {
    pub(super) control: Rc<Control>,
    pub(super) publisher: Publisher,
    pub(super) lifecycle: Lifecycle,
    commands: mpsc::UnboundedReceiver<ControlCommand>,
    pub(super) config: Arc<Config>,
    pub(super) source: Source,
    pub(super) sockets: Box<dyn ListeningSockets>,
    pub(super) succession: Succession,
    pub(super) set_level: Option<SetLevel>,
    /// See [`Hooks`].
    pub(super) out_of_reach: OutOfReach,
    /// Not called yet.
    ready: Option<Box<dyn FnOnce() + Send>>,
}

impl ControlLoop {
    async fn turn_until_done(
        mut self,
        mut signals: Signals,
        mut stop: Stop,
        logs: &Keeper,
    ) -> Result<(), ControlError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mends = interval(MEND_EVERY);
        mends.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let watching_workers = self.ready.is_some() || self.lifecycle.phase() != Phase::Serving;
            let event = tokio::select! {
                () = self.control.changed.notified() => {
                    sleep(GATHER).await;
                    self.publisher.publish_news(&self.control, self.lifecycle.phase());
                    continue;
                }
                Some(command) = self.commands.recv() => match self.obey(command).await {
                    Some(event) => event,
                    None => continue,
                },
                () = stop.asked() => LifecycleEvent::ShutdownAsked,
                asked = signals.next(logs) => match asked {
                    Asked::Shutdown(name) => {
                        info!(signal = name, "asked to shut down");
                        LifecycleEvent::ShutdownAsked
                    }
                    Asked::Reload => {
                        info!(signal = "HUP", "asked to reload");
                        // The answer is in the log.
                        let _ = self.reload().await;
                        continue;
                    }
                },
                _ = mends.tick() => {
                    self.mend_socket_files();
                    continue;
                }
                _ = ticks.tick(), if watching_workers => {
                    LifecycleEvent::Tick { workers_running: self.control.workers_running() }
                }
            };
            self.tell_if_ready().await;
            match self.lifecycle.on(event, self.control.clock.now()) {
                None => {}
                Some(Action::Enter(phase)) => self.enter(phase),
                Some(Action::Finish) => return Ok(()),
                Some(Action::GiveUp(workers)) => {
                    return Err(ControlError::Stuck(workers, STOPPING_MAX_NS / 1_000_000_000));
                }
            }
        }
    }

    /// Who asked may have gone meanwhile, and then nobody hears the answer.
    async fn obey(&mut self, command: ControlCommand) -> Option<LifecycleEvent> {
        match command {
            ControlCommand::Set { target, change, by, reply } => {
                let changed = self.control.set(&target, change, &by);
                self.answer_when_served(reply, changed);
            }
            ControlCommand::Reload { reply } => {
                let reloaded = self.reload().await;
                self.answer_when_served(reply, reloaded);
            }
            ControlCommand::Lend { reply } => {
                let _ = reply.send(self.lend());
            }
            ControlCommand::Relieved { by, reply } => {
                let event = self.relieved(by).await;
                let _ = reply.send(());
                return event;
            }
            ControlCommand::History { look } => look(&self.control.history.borrow()),
            ControlCommand::Show { reply } => {
                let fleet = self.control.fleet.borrow().view(self.control.clock.now());
                let generation = self.control.stats.control.config_generation.get();
                let _ = reply.send(View { config: self.config.clone(), generation, fleet });
            }
        }
        None
    }

    /// Answers what was asked for. A change is answered when every worker serves by it: a client that connects after
    /// the answer meets with what was changed.
    fn answer_when_served<T: 'static, E: 'static>(&self, reply: oneshot::Sender<Result<T, E>>, result: Result<T, E>) {
        if result.is_err() {
            let _ = reply.send(result);
            return;
        }
        self.publisher.publish_news(&self.control, self.lifecycle.phase());
        let generation = self.publisher.generation();
        let control = self.control.clone();
        tokio::task::spawn_local(async move {
            let begun = control.clock.now();
            let is_pending = || control.workers_running() > 0 && control.seen_generation() < generation;
            while is_pending() && control.clock.now().since_ns(begun) < ns(SERVED_MAX) {
                sleep(LOOK).await;
            }
            let _ = reply.send(result);
        });
    }

    fn enter(&mut self, phase: Phase) {
        if !self.control.is_relieved.get() {
            notify::stopping();
        }
        match phase {
            Phase::Serving => {}
            Phase::Leaving { .. } => {
                info!("leaving: /ready answers 503, new connections are served for shutdown_delay")
            }
            Phase::Draining { .. } => info!("draining: no new connections; a second signal resets what is left"),
            Phase::Stopping => info!("stopping: resetting the sessions that are left"),
        }
        self.publisher.publish(&self.control, phase);
    }

    async fn tell_if_ready(&mut self) {
        if self.lifecycle.phase() == Phase::Serving
            && self.control.workers_running() == self.control.stats.workers.len()
            && self.ready.is_some()
            && self.has_succeeded().await
            && let Some(ready) = self.ready.take()
        {
            ready();
            notify::ready();
        }
    }
}

/// What a signal asks for.
enum Asked {
    /// The end; the name of the signal.
    Shutdown(&'static str),
    /// The configuration is to be read again.
    Reload,
}

/// The signals that ringway listens to. SIGPIPE is ignored since before `main`, by Rust's own start-up.
struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    /// These mean nothing, and end nothing.
    others: Vec<(&'static str, Signal)>,
}

/// What would end a process that has no handler for it, but for those that say what is wrong with it.
const OTHERS: [(&str, i32); 8] =
    [("USR2", 12), ("ALRM", 14), ("STKFLT", 16), ("VTALRM", 26), ("PROF", 27), ("WINCH", 28), ("IO", 29), ("PWR", 30)];

impl Signals {
    /// From now on they come here; those that were held back since the start come first.
    fn install() -> std::io::Result<Signals> {
        let other = |(name, number)| Ok((name, signal(SignalKind::from_raw(number))?));
        let all = Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            others: OTHERS.into_iter().map(other).collect::<std::io::Result<_>>()?,
        };
        signals::release();
        Ok(all)
    }

    /// What the next signal asks for; those that ask for nothing are answered on the way.
    async fn next(&mut self, logs: &Keeper) -> Asked {
        loop {
            let other = std::future::poll_fn(|context| {
                let came = |(name, other): &mut (_, Signal)| other.poll_recv(context).is_ready().then_some(*name);
                let name = self.others.iter_mut().find_map(came);
                name.map_or(Poll::Pending, Poll::Ready)
            });
            tokio::select! {
                _ = self.term.recv() => return Asked::Shutdown("TERM"),
                _ = self.int.recv() => return Asked::Shutdown("INT"),
                _ = self.quit.recv() => return Asked::Shutdown("QUIT"),
                _ = self.hup.recv() => return Asked::Reload,
                _ = self.usr1.recv() => logs.reopen(),
                name = other => info!(signal = name, "this signal means nothing to ringway"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
