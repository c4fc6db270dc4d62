//! What control does all the time, each thing in a task of its own: checks, deadlines, failed connects, samples for
//! plots; host names are in `names`, sources of backends in `discovery`.
//!
//! The tasks share [`Control`], and none of them holds a borrow of it over an `await`. What follows from an event is
//! decided by the fleet; here it is counted, logged (`tell`) and passed on:
//!
//! ```text
//! probe             ─> check_for_ever   ─┐
//! workers' counters ─> hear_of_troubles ─┼─> Fleet::on_… ─> Changes ─> Control::apply ─> has_news ─> run publishes
//! a deadline        ─> keep_time        ─┘
//! ```

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use crate::api::reading;
use crate::balance::Counts;
use crate::base::id::BackendId;
use crate::base::time::{Clock, Moment};
use crate::config::CertificateFault;
use crate::discover::dns::{ReadFile, Resolver};
use crate::discover::settings::Source;
use crate::fleet::order::{BackendName, Change, SetError};
use crate::fleet::{Changes, Fleet, Notice, WatchId};
use crate::health::State;
use crate::health::ejection::Trouble;
use crate::health::finding::Finding;
use crate::log::changes::{log_notice, log_transition};
use crate::probe::{Said, probe};
use crate::snapshot::cell::Cell;
use crate::stats::alarm::Alarm;
use crate::stats::history::History;
use crate::stats::{BackendCells, Stats};

/// First checks and first lookups start this far apart, so that a thousand of them are not one burst.
pub(super) const STAGGER: Duration = Duration::from_micros(100);
/// The pause after a check that could not be made.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);
/// How many checks in a row can find no port to connect from. After that it counts as a failure, because sessions do
/// not get there either.
const PORTLESS_MAX: u32 = 30;
/// How long failed connects are gathered, because they come in bursts.
const GATHER: Duration = Duration::from_millis(5);
/// How often removed backends are looked at: the last session of one may have ended.
const SWEEP_NS: u64 = 1_000_000_000;
/// From one reading of the counters to the next; [`History`] has a place per second.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What the tasks of the control thread share. They all run on one thread, so no lock is needed.
pub(super) struct Control {
    /// Every pool and backend, and what is known of them.
    pub fleet: RefCell<Fleet>,
    /// The fleet has changed since the last publication.
    pub has_news: std::cell::Cell<bool>,
    /// Rung when that becomes true.
    pub changed: Notify,
    /// Rung when the next deadline may have changed.
    pub rescheduled: Notify,
    /// By watch (a target that is checked): rung when the watch has ended.
    watching: RefCell<HashMap<WatchId, Rc<Notify>>>,
    /// The host names that are looked up, each in a task of its own.
    pub resolving: RefCell<HashMap<Arc<str>, Rc<Naming>>>,
    /// By pool: the task that follows its source of backends.
    pub following: RefCell<HashMap<Arc<str>, SourceTask>>,
    /// Made when the first host name appears.
    pub resolver: OnceCell<Resolver>,
    /// How the resolver reads its files; taken when it is made.
    pub read_file: RefCell<Option<ReadFile>>,
    /// Present until a configuration ejects backends for the first time; then a task has it.
    alarm: RefCell<Option<Alarm>>,
    /// What workers and control have counted.
    pub stats: Arc<Stats>,
    /// What workers count together.
    pub counts: Arc<Counts>,
    /// The last ten minutes, for plots.
    pub history: RefCell<History>,
    /// The clock of the process.
    pub clock: Clock,
    /// Which files of certificates cannot be used; what was shown before is shown on.
    pub certificate_faults: RefCell<Vec<CertificateFault>>,
    /// Another ringway has taken over.
    pub is_relieved: std::cell::Cell<bool>,
}

/// How the task of one host name (`names`) is told something.
#[derive(Default)]
pub(super) struct Naming {
    /// Rung when no backend has the name any more: the task ends.
    pub gone: Notify,
    /// Rung when the name must be looked up now.
    pub again: Notify,
}

/// The task of one source.
pub(super) struct SourceTask {
    /// What it follows.
    pub source: Source,
    /// Rung when nothing wants it any more: it ends.
    pub gone: Rc<Notify>,
}

impl Control {
    /// Nothing runs yet.
    pub(super) fn new(fleet: Fleet, stats: Arc<Stats>, counts: Arc<Counts>, clock: Clock) -> Rc<Control> {
        Rc::new(Control {
            fleet: RefCell::new(fleet),
            has_news: std::cell::Cell::new(false),
            changed: Notify::new(),
            rescheduled: Notify::new(),
            watching: RefCell::default(),
            resolving: RefCell::default(),
            following: RefCell::default(),
            resolver: OnceCell::new(),
            read_file: RefCell::default(),
            alarm: RefCell::default(),
            stats,
            counts,
            history: RefCell::new(History::new(clock.now())),
            clock,
            certificate_faults: RefCell::default(),
            is_relieved: std::cell::Cell::new(false),
        })
    }

    /// Starts every task. They end with the runtime.
    pub(super) fn begin(self: &Rc<Control>, alarm: Alarm) {
        self.alarm.replace(Some(alarm));
        tokio::task::spawn_local(keep_time(self.clone()));
        self.follow();
    }

    /// Starts what the configuration wants and does not run yet, and ends what it no longer wants.
    pub(super) fn follow(self: &Rc<Control>) {
        self.follow_watches();
        self.follow_hosts();
        self.follow_sources();
        if self.fleet.borrow().wants_troubles()
            && let Some(alarm) = self.alarm.take()
        {
            tokio::task::spawn_local(hear_of_troubles(self.clone(), alarm));
        }
    }

    /// Forgets failures from before, if no pool ejects backends: a configuration that begins to eject must not begin
    /// with those.
    pub(super) fn forget_old_troubles(&self) {
        if !self.fleet.borrow().wants_troubles() {
            let now = self.clock.now();
            self.fleet.borrow_mut().on_troubles(|id, trouble| self.troubles(id, trouble), now);
        }
    }

    /// Counts the result of a check, and passes on what follows from it.
    fn on_check(&self, watch: WatchId, begun: Moment, finding: &Finding) {
        let now = self.clock.now();
        let subscribers = self.fleet.borrow().watch(watch).map(|watch| watch.subscribers.clone());
        for id in subscribers.into_iter().flatten() {
            let cells = self.stats.control.backends.get(id.index());
            match finding {
                // No check of a server.
                Finding::Advice(_) => continue,
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

    /// Starts a task for each new watch, and ends the tasks of watches that are gone.
    pub(super) fn follow_watches(self: &Rc<Control>) {
        let fleet = self.fleet.borrow();
        let mut watching = self.watching.borrow_mut();
        watching.retain(|id, gone| {
            let goes_on = fleet.watch(*id).is_some();
            if !goes_on {
                gone.notify_one();
            }
            goes_on
        });
        let mut delay = Duration::ZERO;
        for (id, _) in fleet.watches() {
            watching.entry(id).or_insert_with(|| {
                let gone = Rc::new(Notify::new());
                tokio::task::spawn_local(check_for_ever(self.clone(), id, delay, gone.clone()));
                delay += STAGGER;
                gone
            });
        }
    }

    /// Has a table published: something has changed that is not told as [`Changes`].
    pub(super) fn publish_soon(&self) {
        self.has_news.set(true);
        self.changed.notify_one();
    }

    /// Logs and counts what has changed, and has the loop publish a table if it must.
    pub(super) fn apply(&self, changes: Changes) {
        for transition in &changes.transitions {
            log_transition(transition);
            self.history.borrow_mut().on_event(transition.event(), self.clock.now());
            let cells = self.stats.control.backends.get(transition.id.index());
            match transition.to.state {
                State::Up => cells.went_up.add(1),
                State::Standby => cells.went_standby.add(1),
                State::Down => cells.went_down.add(1),
                State::Ejected => cells.went_ejected.add(1),
                State::Draining => cells.went_draining.add(1),
                State::Maintenance => cells.went_maintenance.add(1),
            }
        }
        for notice in &changes.notices {
            if let Notice::Stale { id, begins, .. } = notice {
                self.stats.control.pools.get(id.index()).serves_stale.set(u64::from(*begins));
            }
            log_notice(notice);
        }
        if changes.table {
            self.publish_soon();
            self.rescheduled.notify_one();
        }
    }

    /// Changes a backend at run time. Returns one line per thing that was changed.
    ///
    /// # Errors
    /// The backend does not exist, or the change cannot be made; then nothing is changed.
    pub(super) fn set(
        self: &Rc<Control>,
        target: &BackendName,
        change: Change,
        by: &Arc<str>,
    ) -> Result<Vec<String>, SetError> {
        let mut changes = self.fleet.borrow_mut().set(target, change, by, self.clock.now())?;
        let lines = std::mem::take(&mut changes.lines);
        lines.iter().for_each(|line| info!(%by, "{line}"));
        self.apply(changes);
        self.follow_watches();
        Ok(lines)
    }

    /// How often clients met with trouble at a backend, apart from what was this host's own fault (no port, no memory).
    fn troubles(&self, id: BackendId, trouble: Trouble) -> u64 {
        let of_worker = |cells: &BackendCells| match trouble {
            Trouble::HangUp => cells.hangups.get(),
            Trouble::Connect => cells.connects_refused(),
        };
        self.stats.of_backend(id).map(of_worker).sum()
    }
}

/// The task of one watch: checks its target again and again, until the watch has ended.
async fn check_for_ever(control: Rc<Control>, watch: WatchId, delay: Duration, gone: Rc<Notify>) {
    sleep(delay).await;
    let (mut said, mut portless) = (Said::default(), 0);
    loop {
        let Some(ask) = control.fleet.borrow().ask(watch) else { return };
        let begun = control.clock.now();
        let checked = probe(&ask).await;
        debug!(target = %ask.target, transcript = ?checked.transcript.lines(), "checked");
        portless = if checked.outcome.is_portless() { portless + 1 } else { 0 };
        let finding = match checked.finding() {
            Finding::Unknown(why) if portless > PORTLESS_MAX => Finding::Failure(why),
            finding => finding,
        };
        control.fleet.borrow_mut().remember(watch, checked.transcript);
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

/// The task for deadlines: ends ejections, drains and slow starts at their moment, and frees removed backends. It
/// sleeps while there is nothing of the kind.
async fn keep_time(control: Rc<Control>) {
    let mut sweep_at = Moment::default();
    loop {
        let now = control.clock.now();
        let (deadline, has_gone) = {
            let fleet = control.fleet.borrow();
            (fleet.deadline(), fleet.has_retired() || fleet.has_leaving())
        };
        if now >= deadline {
            let changes = control.fleet.borrow_mut().on_time(now);
            control.apply(changes);
            continue;
        }
        if has_gone && now >= sweep_at {
            let seen = control.stats.seen_generation();
            let changes = control.fleet.borrow_mut().sweep(seen, |id| control.counts.connections(id));
            let free = control.fleet.borrow_mut().free_slots(seen, |id| control.counts.is_unused(id), now);
            free.into_iter().for_each(|id| control.stats.forget_backend(id));
            control.apply(changes);
            sweep_at = now.after_ns(SWEEP_NS);
            continue;
        }
        let next = if has_gone { deadline.min(sweep_at) } else { deadline };
        tokio::select! {
            () = sleep(Duration::from_nanos(next.since_ns(now))), if next < Moment::NEVER => {}
            () = control.rescheduled.notified() => {}
        }
    }
}

/// The task that looks at the workers' counters when one of them has said that a client met with trouble.
async fn hear_of_troubles(control: Rc<Control>, alarm: Alarm) {
    loop {
        alarm.arm();
        let changes = {
            let mut fleet = control.fleet.borrow_mut();
            fleet.on_troubles(|id, trouble| control.troubles(id, trouble), control.clock.now())
        };
        control.apply(changes);
        alarm.rung().await;
        sleep(GATHER).await;
    }
}

/// The task that reads every counter once per second, for the plots of the last ten minutes.
pub(super) async fn sample_for_ever(control: Rc<Control>, cell: Arc<Cell>) {
    let mut ticks = interval(SAMPLE_EVERY);
    // A late reading covers the seconds that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let reader = cell.reader();
    loop {
        ticks.tick().await;
        let reading = reading::read(&reader.pin(), &control.stats, &control.counts);
        control.history.borrow_mut().on_reading(reading, control.clock.now());
    }
}
