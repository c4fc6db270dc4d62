//! The loop of the control thread: it hears commands, signals and news, has the pure parts decide, and publishes.
//!
//! One thing is handled at a time: while a reload binds its addresses, for example, no command is carried out. Checks
//! and lookups are tasks of their own and go on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::certificates::follow_certificates;
use super::lifecycle::{Action, Lifecycle, LifecycleEvent, STOPPING_MAX_NS};
use super::notify;
use super::sockets::ListeningSockets;
use super::state_file::time_of_day;
use super::tasks::{Control, sample_for_ever};
use super::{ControlError, ControlSpec, Hooks, OutOfReach, Stop};
use crate::api::command::{self, ControlCommand, View};
use crate::api::{self, ApiContext};
use crate::base::time::ns;
use crate::config::model::{Config, Source};
use crate::fleet::{Fleet, KeptConfig};
use crate::log::changes::log_fallbacks;
use crate::log::runtime::Runtime;
use crate::log::{Keeper, LogContext, Names, SetLevel};
use crate::snapshot::cell::{Cell, Reader};
use crate::snapshot::table::Phase;
use crate::sys::route::is_own;
use crate::sys::signals;
use crate::take_over::{self, Succession};

/// How often the workers' `running` is looked at, while it matters (at the start and at the end).
const TICK: Duration = Duration::from_millis(10);
/// How long changes are gathered before a table is published: they rarely come alone.
const GATHER: Duration = Duration::from_millis(1);
/// How long the answer to a change waits for workers to use the new table, and how often it looks.
const SERVED_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);
/// How often the files of unix sockets are looked for.
const MEND_EVERY: Duration = Duration::from_secs(2);
/// After this time old tables are freed; by then every worker has long seen the new one.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// Runs control on the calling thread, until a shutdown was asked for and every worker's `running` gauge is 0. The
/// workers must be started before, or at the same time.
///
/// # Errors
/// Something that control needs cannot be had, or workers did not end.
pub fn run(spec: ControlSpec) -> Result<(), ControlError> {
    Runtime::new(spec.io.driver).map_err(ControlError::Runtime)?.block_on(serve(spec))
}

/// Starts everything, runs the loop, and lets the logs finish.
async fn serve(spec: ControlSpec) -> Result<(), ControlError> {
    let signals = Signals::install().map_err(ControlError::Signals)?;
    let ControlSpec { config, source, restored, cell, stats, counts, clock, sockets, alarm, .. } = spec;
    let ControlSpec { admin, predecessor, stop, connections_max, io, mut logs, .. } = spec;
    let Hooks { wake, ask, out_of_reach, read_file, ready } = spec.hooks;
    stats.control.config_generation.set(1);
    let mut fleet = Fleet::new(config.clone(), clock.now());
    restored.warnings.iter().for_each(|warning| warn!("{warning}"));
    let first = [fleet.restore(&restored.kept, time_of_day(clock)), fleet.tell_own_by(is_own, clock.now())];
    let names = Rc::new(RefCell::new(Names::default()));
    names.borrow_mut().learn(&cell.reader().pin());
    log_fallbacks(None, &cell.reader().pin());
    let facts =
        LogContext { names: names.clone(), stats: stats.clone(), counts: counts.clone(), clock, driver: io.driver };
    let set_level = logs.set_level.take();
    let keeper = Keeper::begin(logs, facts);
    let control = Control::new(fleet, stats.clone(), counts.clone(), clock);
    control.read_names_by(read_file);
    let (asker, commands) = command::channel();
    let answers = ApiContext { cell: cell.clone(), stats, counts, connections_max, io, ask, asker, clock };
    let routes = take_over::routes();
    let servers = api::Servers::new(admin, &config.admin.hosts, routes).map_err(ControlError::Admin)?;
    control.begin(alarm);
    first.into_iter().for_each(|changes| control.apply(changes));
    tokio::task::spawn_local(notify::keep_alive(control.clone(), cell.clone()));
    tokio::task::spawn_local(sample_for_ever(control.clone(), cell.clone()));
    tokio::task::spawn_local(follow_certificates(control.clone()));
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
        put_config: restored.kept.config,
        ready,
    };
    let result = turning.turn_until_done(signals, stop, &keeper).await;
    keeper.finish().await;
    result
}

/// Publishes tables.
pub(super) struct Publisher {
    /// Where tables are published.
    cell: Arc<Cell>,
    /// For the table before.
    reader: Reader,
    /// Wakes every worker.
    wake: Box<dyn Fn() + Send>,
    /// Learns the names of each table, for the access log.
    names: Rc<RefCell<Names>>,
    /// Old tables are about to be freed, so that this is not scheduled twice.
    sweeps: Rc<std::cell::Cell<bool>>,
}

impl Publisher {
    /// Publishes the table that follows from what is known now, and wakes the workers.
    pub(super) fn publish(&self, control: &Control, phase: Phase) {
        control.has_news.set(false);
        let before = self.reader.pin();
        let table = control.fleet.borrow_mut().table(Some(&before), phase);
        log_fallbacks(Some(&before), &table);
        drop(before);
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

    /// The same, unless the last table says it all already.
    pub(super) fn publish_news(&self, control: &Control, phase: Phase) {
        if control.has_news.get() {
            self.publish(control, phase);
        }
    }

    /// The generation of the last table.
    fn generation(&self) -> u64 {
        self.reader.pin().generation
    }
}

/// What the loop works with.
pub(super) struct ControlLoop {
    /// What the tasks share.
    pub(super) control: Rc<Control>,
    /// Publishes tables.
    pub(super) publisher: Publisher,
    /// Decides about the phase of the process.
    pub(super) lifecycle: Lifecycle,
    /// What other threads ask.
    commands: mpsc::UnboundedReceiver<ControlCommand>,
    /// The configuration in use.
    pub(super) config: Arc<Config>,
    /// Where a reload reads the next one.
    pub(super) source: Source,
    /// The listening sockets.
    pub(super) sockets: Box<dyn ListeningSockets>,
    /// The ringways before and after this one.
    pub(super) succession: Succession,
    /// Changes the level of ringway's own log.
    pub(super) set_level: Option<SetLevel>,
    /// What a configuration names and this process cannot open; see [`Hooks`].
    pub(super) out_of_reach: OutOfReach,
    /// The configuration that was put in the place of the file; `None` if the file counts.
    pub(super) put_config: Option<KeptConfig>,
    /// Called once, when ringway is ready; `None` afterwards.
    ready: Option<Box<dyn FnOnce() + Send>>,
}

impl ControlLoop {
    /// The loop. It ends when the lifecycle is finished.
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
                        // the outcome is in the log
                        let _ = self.reload().await;
                        continue;
                    }
                },
                _ = mends.tick() => {
                    self.mend_socket_files();
                    continue;
                }
                _ = ticks.tick(), if watching_workers => {
                    LifecycleEvent::Tick { workers_running: self.control.stats.workers_running() }
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

    /// Carries out a command. A caller that has gone meanwhile does not get its answer, which is no error.
    async fn obey(&mut self, command: ControlCommand) -> Option<LifecycleEvent> {
        match command {
            ControlCommand::Wish { wish, by, reply } => {
                let changed = self.grant(&wish, &by).await;
                self.answer_when_served(reply, changed);
            }
            ControlCommand::Put { text, is_dry_run, by, reply } => {
                let applied = self.put(text, is_dry_run, &by).await;
                self.answer_when_served(reply, applied);
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
            ControlCommand::CertificateFaults { reply } => {
                let _ = reply.send(self.control.certificate_faults.borrow().clone());
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

    /// Answers a command. A change is answered when every worker uses the new table, so that a client that connects
    /// after the answer meets the change.
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
            let is_pending = || control.stats.workers_running() > 0 && control.stats.seen_generation() < generation;
            while is_pending() && control.clock.now().since_ns(begun) < ns(SERVED_MAX) {
                sleep(LOOK).await;
            }
            let _ = reply.send(result);
        });
    }

    /// Enters a phase: logs it, tells systemd, and publishes the table.
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

    /// Says once that ringway is ready: when every worker runs and a ringway before it is relieved.
    async fn tell_if_ready(&mut self) {
        if self.lifecycle.phase() == Phase::Serving
            && self.control.stats.workers_running() == self.control.stats.workers.len()
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
    /// A shutdown; with the name of the signal.
    Shutdown(&'static str),
    /// A reload.
    Reload,
}

/// The signals that ringway handles. Rust's start-up code ignores SIGPIPE before `main`.
struct Signals {
    /// SIGTERM: shuts down.
    term: Signal,
    /// SIGINT: shuts down.
    int: Signal,
    /// SIGQUIT: shuts down.
    quit: Signal,
    /// SIGHUP: reloads.
    hup: Signal,
    /// SIGUSR1: opens the files of logs again.
    usr1: Signal,
    /// Signals that mean nothing here, and that would end a process without a handler.
    others: Vec<(&'static str, Signal)>,
}

/// The signals that would end a process without a handler, apart from those that report a fault of the process.
const OTHERS: [(&str, i32); 8] =
    [("USR2", 12), ("ALRM", 14), ("STKFLT", 16), ("VTALRM", 26), ("PROF", 27), ("WINCH", 28), ("IO", 29), ("PWR", 30)];

impl Signals {
    /// Installs the handlers. Signals that were held since the start come first.
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

    /// Waits for the next signal that asks for something. Others are handled on the way.
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
