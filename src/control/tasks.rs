//! What control does all the time, each thing in a task of its own: checks, names, deadlines, failed connects.
//!
//! The tasks share [`Control`], and none of them holds a borrow of it over an `await`. What follows from an event is
//! decided by the fleet; here it is logged, counted and passed on.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::checks::{Said, finding, is_portless};
use crate::balance::Counts;
use crate::base::id::BackendId;
use crate::base::time::{Clock, Moment};
use crate::discover::dns::{ReadFile, Resolver};
use crate::discover::known::{Known, Learned, Pace};
use crate::fleet::order::{BackendName, Change, SetError};
use crate::fleet::{Changes, Finding, Fleet, Notice, Transition, WatchId};
use crate::health::State;
use crate::health::ejection::Trouble;
use crate::probe::{Checked, probe};
use crate::stats::alarm::Alarm;
use crate::stats::history::{History, HistoryEvent};
use crate::stats::{ConnectError, Stats};

/// First checks and first lookups start this far apart, so that a thousand of them are not one burst.
const STAGGER: Duration = Duration::from_micros(100);
/// Pause after a check that could not be made.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);
/// Checks in a row that find no port to connect from; then it is a failure, as sessions do not get there either.
const PORTLESS_MAX: u32 = 30;
/// How often it is seen whether files that say how names are looked up have changed.
const FILES_PAUSE: Duration = Duration::from_secs(2);
/// Failed connects come in bursts: this long they are gathered.
const GATHER: Duration = Duration::from_millis(5);
/// How often it is seen whether a backend that is gone has lost its last session.
const SWEEP_NS: u64 = 1_000_000_000;

/// What the tasks of the control thread share.
pub(super) struct Control {
    pub fleet: RefCell<Fleet>,
    /// The fleet has changed since the last publication.
    pub has_news: std::cell::Cell<bool>,
    /// Rung when that becomes true.
    pub changed: Notify,
    /// So may have the next deadline.
    rescheduled: Notify,
    /// Rung when a watch has ended.
    watching: RefCell<HashMap<WatchId, Rc<Notify>>>,
    /// The names that are looked up, each in a task of its own.
    resolving: RefCell<HashMap<Arc<str>, Rc<Naming>>>,
    /// Made when there is the first name.
    resolver: OnceCell<Resolver>,
    /// For it.
    read_file: RefCell<Option<ReadFile>>,
    /// `Some` until anything follows from failed connects.
    alarm: RefCell<Option<Alarm>>,
    pub stats: Arc<Stats>,
    pub counts: Arc<Counts>,
    /// The last ten minutes.
    pub history: RefCell<History>,
    pub clock: Clock,
    /// Another ringway has taken over.
    pub is_relieved: std::cell::Cell<bool>,
}

/// A name that is looked up.
#[derive(Default)]
struct Naming {
    /// Rung when nobody wants it any more.
    gone: Notify,
    /// Rung when it is to be looked up now.
    again: Notify,
}

impl Control {
    pub(super) fn new(fleet: Fleet, stats: Arc<Stats>, counts: Arc<Counts>, clock: Clock) -> Rc<Control> {
        Rc::new(Control {
            fleet: RefCell::new(fleet),
            has_news: std::cell::Cell::new(false),
            changed: Notify::new(),
            rescheduled: Notify::new(),
            watching: RefCell::default(),
            resolving: RefCell::default(),
            resolver: OnceCell::new(),
            read_file: RefCell::default(),
            alarm: RefCell::default(),
            stats,
            counts,
            history: RefCell::new(History::new(clock.now())),
            clock,
            is_relieved: std::cell::Cell::new(false),
        })
    }

    /// Starts every task. They end with the runtime.
    pub(super) fn begin(self: &Rc<Control>, alarm: Alarm) {
        self.alarm.replace(Some(alarm));
        tokio::task::spawn_local(keep_time(self.clone()));
        self.follow();
    }

    /// Starts what the configuration wants done and is not done yet, and ends what it wants no more.
    pub(super) fn follow(self: &Rc<Control>) {
        self.follow_watches();
        self.follow_hosts();
        if self.fleet.borrow().wants_troubles()
            && let Some(alarm) = self.alarm.take()
        {
            tokio::task::spawn_local(hear_of_troubles(self.clone(), alarm));
        }
    }

    /// What went wrong while nothing followed from it is nothing to begin with.
    pub(super) fn forget_old_troubles(&self) {
        if !self.fleet.borrow().wants_troubles() {
            let now = self.clock.now();
            self.fleet.borrow_mut().on_troubles(|id, trouble| self.troubles(id, trouble), now);
        }
    }

    /// Starts a task for each new name and ends those of names that are gone.
    fn follow_hosts(self: &Rc<Control>) {
        let hosts = self.fleet.borrow().hosts();
        let mut resolving = self.resolving.borrow_mut();
        resolving.retain(|host, naming| {
            let goes_on = hosts.contains(host);
            if !goes_on {
                naming.gone.notify_one();
            }
            goes_on
        });
        let mut delay = Duration::ZERO;
        for host in hosts {
            resolving.entry(host.clone()).or_insert_with(|| {
                let (naming, resolver) = (Rc::new(Naming::default()), self.resolver());
                tokio::task::spawn_local(resolve_until(self.clone(), resolver, host, delay, naming.clone()));
                delay += STAGGER;
                naming
            });
        }
    }

    /// How the resolver is to read its files.
    pub(super) fn read_names_by(&self, read_file: Option<ReadFile>) {
        self.read_file.replace(read_file);
    }

    fn resolver(self: &Rc<Control>) -> Resolver {
        let make = || {
            let resolver = Resolver::new(&self.fleet.borrow().dns(), self.read_file.take());
            tokio::task::spawn_local(follow_files(self.clone(), resolver.clone()));
            resolver
        };
        self.resolver.get_or_init(make).clone()
    }

    /// Another configuration: names are looked up as it says, and now, whatever their time to live.
    pub(super) fn look_up_again(&self) {
        if let Some(resolver) = self.resolver.get() {
            resolver.set(&self.fleet.borrow().dns());
            self.resolving.borrow().values().for_each(|naming| naming.again.notify_one());
        }
    }

    /// Takes what was learned of a name; what of it counts.
    fn on_learned(self: &Rc<Control>, host: &Arc<str>, learned: Learned) -> Learned {
        let now = self.clock.now();
        let (learned, changes) = match learned {
            Learned::Addresses { addresses, ttl, doubt } => {
                let (is_good, changes) = self.fleet.borrow_mut().on_resolved(host, &addresses, now);
                if changes.table {
                    info!(%host, ?addresses, "this name has new addresses");
                }
                let unfit = "none of its addresses can be that of a server";
                match is_good {
                    true => (Learned::Addresses { addresses, ttl, doubt }, changes),
                    false => (Learned::Nothing(unfit.to_owned()), changes),
                }
            }
            Learned::Denied(why) => {
                let changes = self.fleet.borrow_mut().on_denied(host, &why, now);
                (Learned::Denied(why), changes)
            }
            Learned::Nothing(why) => {
                let changes = self.fleet.borrow_mut().on_unresolved(host, &why, now);
                (Learned::Nothing(why), changes)
            }
        };
        self.apply(changes);
        // An address may have begun to be missing.
        self.rescheduled.notify_one();
        self.follow_watches();
        learned
    }

    /// Counts the result of a check and makes known what follows from it.
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

    /// Starts a task for each new watch and ends those of watches that are gone.
    fn follow_watches(self: &Rc<Control>) {
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

    /// Makes known what followed from an event.
    pub(super) fn apply(&self, changes: Changes) {
        for transition in &changes.transitions {
            log_transition(transition);
            self.history.borrow_mut().on_event(event_of(transition), self.clock.now());
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
            self.has_news.set(true);
            self.changed.notify_one();
            self.rescheduled.notify_one();
        }
    }

    /// Changes a backend at run time; one line for each thing that was changed.
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

    pub(super) fn workers_running(&self) -> usize {
        self.stats.workers.iter().filter(|worker| worker.worker.running.get() != 0).count()
    }

    /// What clients met with at a backend, and that was not ringway's own fault.
    fn troubles(&self, id: BackendId, trouble: Trouble) -> u64 {
        let of_worker = |cells: &crate::stats::BackendCells| -> u64 {
            match trouble {
                Trouble::HangUp => cells.hangups.get(),
                Trouble::Connect => {
                    // A reset is a hang-up: the backend had accepted, else it would have refused.
                    let others = ConnectError::ALL
                        .iter()
                        .filter(|reason| !matches!(reason, ConnectError::Resource | ConnectError::Reset));
                    others.map(|reason| cells.connect_errors[*reason as usize].get()).sum()
                }
            }
        };
        self.stats.of_backend(id).map(of_worker).sum()
    }

    /// Generation of the table that every worker that runs has seen.
    pub(super) fn seen_generation(&self) -> u64 {
        let running = self.stats.workers.iter().filter(|worker| worker.worker.running.get() != 0);
        running.map(|worker| worker.worker.generation.get()).min().unwrap_or(0)
    }
}

/// Checks one target again and again, until its watch has ended.
async fn check_for_ever(control: Rc<Control>, watch: WatchId, delay: Duration, gone: Rc<Notify>) {
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

/// Ends what is to end at a moment: ejections, drains, slow starts. Sleeps while there is nothing of the kind.
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
            let seen = control.seen_generation();
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

/// Looks at what workers have counted when one of them says that a client met with trouble.
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

/// Has names looked up again when a file that says how has changed.
async fn follow_files(control: Rc<Control>, resolver: Resolver) {
    let mut seen = resolver.edition();
    loop {
        sleep(FILES_PAUSE).await;
        let edition = resolver.edition();
        if std::mem::replace(&mut seen, edition) != edition {
            info!("the files that say how names are looked up have changed: looking all names up again");
            control.resolving.borrow().values().for_each(|naming| naming.again.notify_one());
        }
    }
}

/// Looks a name up again and again, until nobody wants it any more.
async fn resolve_until(control: Rc<Control>, resolver: Resolver, host: Arc<str>, delay: Duration, naming: Rc<Naming>) {
    tokio::select! {
        () = resolve_for_ever(control, resolver, host, delay, &naming.again) => {}
        () = naming.gone.notified() => {}
    }
}

async fn resolve_for_ever(control: Rc<Control>, resolver: Resolver, host: Arc<str>, delay: Duration, again: &Notify) {
    sleep(delay).await;
    let (mut known, mut pace) = (Known::default(), Pace::new());
    let mut trouble: Option<String> = None;
    loop {
        let learned = control.on_learned(&host, known.on(resolver.lookup(&host).await));
        let reason = match &learned {
            Learned::Addresses { doubt, .. } => doubt.clone(),
            Learned::Denied(why) | Learned::Nothing(why) => Some(why.clone()),
        };
        match (&reason, &learned) {
            (Some(reason), _) if trouble.as_ref() == Some(reason) => {}
            (Some(reason), Learned::Denied(_)) => {
                warn!(%host, %reason, "cannot look up: there is no such address; those that are known stay in use \
                                       for denied_hold");
            }
            (Some(reason), _) => warn!(%host, %reason, "cannot look up; the addresses that are known stay in use"),
            (None, _) if trouble.is_some() => info!(%host, "this name can be looked up again"),
            (None, _) => {}
        }
        trouble = reason;
        tokio::select! {
            () = sleep(pace.pause(&learned, fastrand::u64(..))) => {}
            () = again.notified() => {}
        }
    }
}

/// To be drawn on the plots.
fn event_of(transition: &Transition) -> HistoryEvent {
    HistoryEvent::State {
        pool: transition.pool.clone(),
        backend: transition.backend.clone(),
        from: transition.from.name(),
        to: transition.to.state.name(),
        reason: transition.to.reason.to_string(),
    }
}

/// One line a backend: what it became, why, and how long it had been the other.
fn log_transition(transition: &Transition) {
    let Transition { pool, backend, from, to, lasted_ns, .. } = transition;
    let lasted = humantime::format_duration(Duration::from_millis(lasted_ns / 1_000_000));
    let (reason, state) = (&to.reason, to.state);
    match state {
        State::Up => info!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is up"),
        State::Down | State::Ejected => {
            warn!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is {state}");
        }
        _ => info!(%pool, %backend, %reason, was = %from, for_ = %lasted, "backend is {state}"),
    }
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::Rivals { pool, backends: [one, other], used } => {
            let used = used.as_deref().unwrap_or("neither");
            error!(%pool, "two backends say that they are the primary: {one} and {other}; used is {used}");
        }
        Notice::Stale { pool, begins: true, .. } => {
            warn!(%pool, "no replica is within `lag_max`: the least stale ones serve");
        }
        Notice::Stale { pool, begins: false, .. } => info!(%pool, "stale replicas no longer serve"),
        Notice::TooMany { pool, backend, left_out } => {
            warn!(%pool, %backend, left_out, "the name of this backend has more addresses than ringway uses");
        }
    }
    debug!(?notice, "noticed");
}
