//! The composition root: the only place where workers and control meet.

pub mod account;
mod admin;
mod cgroup;
mod inherited;
mod io;
mod limits;
mod listeners;
mod log_line;
mod logging;
pub mod names;
mod pinning;
mod privileges;
mod sandbox;
mod secrets;
mod signers;
mod sources;
mod taken;

use std::hash::RandomState;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::admit::Sources;
use crate::balance::Counts;
use crate::base::address::Address;
use crate::base::time::{Clock, ns, unix_s};
use crate::config::model::{Config, Output, Source};
use crate::config::{CertificateFault, load_certificates};
use crate::control::disk::Disk;
use crate::control::state_file::{self, Restored};
use crate::control::{self, Stopper};
use crate::discover::dns::ReadFile;
use crate::epoll::Epoll;
use crate::epoll::linux::Linux;
use crate::epoll::post::PostOffice;
use crate::kernel::Bell;
use crate::kernel::driver::Driver;
use crate::log;
use crate::snapshot::cell::Cell;
use crate::snapshot::ids::Ids;
use crate::snapshot::table::Table;
use crate::stats::Stats;
use crate::stats::alarm::Alarm;
use crate::stats::record::Journal;
use crate::sys::system;
use crate::take_over::Predecessor;
use crate::uring::{Uring, probe};
use crate::worker;
use listeners::{Before, BoundListeners};
use logging::Operational;
use privileges::Identity;
use sandbox::Permitted;

/// How long workers that have just started may take to do something.
const WORKERS_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the end of the process waits for whatever its log goes to.
const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

/// A running ringway.
pub struct Server {
    /// What workers and control count, also after they have ended.
    stats: Arc<Stats>,
    /// Where control publishes tables.
    cell: Arc<Cell>,
    /// Name of the listener and address of each socket, with the port that the kernel has chosen.
    addresses: Vec<(Arc<str>, Address)>,
    /// The address of `admin.listen`, with its real port.
    admin: Option<SocketAddr>,
    /// Asks control for a shutdown.
    stopper: Stopper,
    /// Ends last: it waits for the workers.
    control: JoinHandle<Result<(), control::ControlError>>,
    /// One per CPU that is used.
    workers: Vec<JoinHandle<()>>,
}

/// Serves in the foreground until it is told to stop and has drained; from where the ringway that has this admin socket
/// leaves off, if one is given.
///
/// # Errors
/// What prevented it from starting or going on, with the remedy.
pub fn serve(config: Config, source: Source, restored: Restored, take_over: Option<&Path>) -> anyhow::Result<()> {
    privileges::renounce();
    let identity = privileges::Identity::of(&config)?;
    if identity.is_none() {
        privileges::keep_needed();
    }
    let stays_root = privileges::Identity::is_root(identity.as_ref());
    let read_file = stays_root.then(|| names::reader_for(&config)).flatten();
    // Before there is another thread, so that all of them inherit it.
    let permitted = sandbox::Permitted::restrict(&config, &source, stays_root);
    let log = logging::start(&config.log)?;
    let outlet = log.outlet.clone();
    secrets::warn_of_readable(&config, &source);
    let mut start = Start {
        source,
        before: Before::Bound(Vec::new()),
        predecessor: None,
        log: Some(log),
        restored,
        identity,
        permitted: Some(permitted),
        read_file,
    };
    match take_over {
        None => start.before = Before::Bound(inherited::sockets()?),
        Some(socket) => {
            let (sockets, predecessor) = taken::from(socket)?;
            (start.before, start.predecessor) = (Before::Taken(sockets), Some(predecessor));
            // From now on the other one changes nothing any more.
            start.restored = restored_again(&config, start.restored)?;
        }
    }
    let result = Server::start_from(config, start).and_then(Server::wait);
    outlet.flush(LOG_FLUSH_MAX);
    result
}

/// Faults of certificates as one error, a line each.
fn lines_of(faults: &[CertificateFault]) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\nringway: "))
}

/// What is kept now, for a ringway that takes over: the one before may have changed something since it was read first.
///
/// # Errors
/// The other one was given a whole configuration meanwhile, with which this process was not started.
fn restored_again(config: &Config, before: Restored) -> anyhow::Result<Restored> {
    let Some(path) = &config.process.state_file else { return Ok(before) };
    if !before.warnings.is_empty() {
        return Ok(before);
    }
    let now = state_file::read(path, unix_s(SystemTime::now()));
    if now.kept.config != before.kept.config {
        anyhow::bail!("the ringway to relieve was given another configuration just now; start this one again");
    }
    Ok(now)
}

/// What a server begins with, beside its configuration.
struct Start {
    /// Where the configuration came from, and where a reload reads it.
    source: Source,
    /// Sockets that are there before this process binds its own.
    before: Before,
    /// The ringway to relieve; `Some` exactly if `before` was taken from it.
    predecessor: Option<Predecessor>,
    /// An operational log that can be reopened and changed.
    log: Option<Operational>,
    /// What was kept in `process.state_file`.
    restored: Restored,
    /// The user and group to become once everything is bound; `None` to stay the same.
    identity: Option<Identity>,
    /// What of the file system it may use; `None` if that is up to the program that embeds it.
    permitted: Option<Permitted>,
    /// How files are read that say how names are looked up; `None`: as any other.
    read_file: Option<ReadFile>,
}

impl Server {
    /// Binds every listener, starts the workers and control. Returns when every listener accepts.
    ///
    /// # Errors
    /// What prevented it, with the remedy; nothing is left behind.
    pub fn start(config: Config) -> anyhow::Result<Server> {
        let before = Before::Bound(Vec::new());
        let identity = Identity::of(&config)?;
        let (source, predecessor, log, permitted) = (Source::CommandLine, None, None, None);
        let (restored, read_file) = (Restored::default(), None);
        let start = Start { source, before, predecessor, log, restored, identity, permitted, read_file };
        Server::start_from(config, start)
    }

    /// Starts with what is there already. The order counts: first everything that can fail without a trace, then the
    /// sockets, then the threads, and privileges are dropped when nothing is left that needs them.
    fn start_from(mut config: Config, start: Start) -> anyhow::Result<Server> {
        // While it is still root, if it is.
        load_certificates(&mut config, None, &Disk).map_err(|faults| lines_of(&faults))?;
        let Start { source, before, predecessor, log, restored, identity, permitted, read_file } = start;
        let (operational, set_level) = log.map(|log| (log.outlet, log.set_level)).unzip();
        system::ignore_sigpipe();
        let io = io::choose(config.process.io)?;
        let cpus = system::cpus();
        let (workers, limits) = size(&config, &cpus, before.len())?;
        let pinned = pinning::cpus_of_workers(config.process.pin_workers, workers, &cpus);

        let config = Arc::new(config);
        let ids = Ids::assign(&config);
        let access = logging::access(&config, workers, operational.as_ref())?;
        let (mut listeners, sockets) = BoundListeners::bind(&config, &ids, workers, before)?;
        let admin = admin::bind(&config.admin, &mut listeners)?;
        if predecessor.is_none() {
            inherited::report_unused(&listeners.close_unused());
        }
        let admin_address = admin.listen.as_ref().and_then(|listener| listener.local_addr().ok());

        let alarm = Alarm::new();
        let journal = access.as_ref().map(|access| access.journal.clone());
        let first = control::first_table_with(&config, &restored.kept);
        let parts = parts(&config, first, workers, &limits, (alarm.clone(), operational.clone()), journal);
        let shared = Arc::new(worker::Shared::new(parts, bells(workers)?));
        listeners.tell(shared.clone());
        let (stopper, stop) = control::stop_channel();
        let mut server = Server {
            stats: shared.stats.clone(),
            cell: shared.cell.clone(),
            addresses: listeners.addresses(),
            admin: admin_address,
            stopper,
            control: std::thread::spawn(|| Ok(())),
            workers: Vec::new(),
        };
        identity.as_ref().map_or(Ok(()), Identity::prepare)?;
        server.workers = start_workers(pinned, sockets, &shared, (&io, &limits))?;
        // The workers have their rings and sockets. What control opens from now on, it opens as that user.
        if let Some(identity) = identity
            && identity.assume(&files_of(&config))?
        {
            keep_one_everywhere(&shared)?;
        }
        signers::start_if_wanted(&shared);
        let permitted = Arc::new(permitted);
        limits.report(&config, workers, cpus.len());
        let spec = control::ControlSpec {
            config,
            source,
            restored,
            cell: shared.cell.clone(),
            stats: shared.stats.clone(),
            counts: shared.counts.clone(),
            clock: shared.clock,
            sockets: Box::new(listeners),
            alarm,
            admin,
            predecessor,
            hooks: hooks(&shared, &permitted, read_file),
            stop,
            connections_max: limits.connections_max,
            io: io.chosen,
            logs: log::Logs { operational, access, set_level },
        };
        server.control = start_control(spec, permitted, pinned.is_some())?;
        Ok(server)
    }

    /// Where each listener accepts, with the ports the kernel chose.
    pub fn listen_addresses(&self) -> &[(Arc<str>, Address)] {
        &self.addresses
    }

    /// Everything that is counted.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The published table.
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    /// Where `admin.listen` is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Asks it to stop, as SIGTERM does: the first time it drains, the second time it resets what is left.
    pub fn stop(&self) {
        self.stopper.ask();
    }

    /// Returns when it has stopped.
    ///
    /// # Errors
    /// Control could not go on.
    pub fn wait(self) -> anyhow::Result<()> {
        match self.control.join() {
            Ok(result) => result?,
            Err(_) => anyhow::bail!("the control thread panicked; this is a bug of ringway"),
        }
        for worker in self.workers {
            if worker.join().is_err() {
                anyhow::bail!("a worker panicked; this is a bug of ringway");
            }
        }
        Ok(())
    }
}

/// How many workers there are, and what they may have. So many sockets are there already.
fn size(config: &Config, cpus: &[usize], before: usize) -> anyhow::Result<(usize, limits::Capacity)> {
    let group = cgroup::Group::of_this_process();
    let workers = config.process.workers.map_or_else(|| group.workers_for(cpus.len()), |count| count.get());
    let limits = limits::Capacity::of(config, workers, before, &group)?;
    system::presize_descriptors(limits.descriptors_to_expect(workers));
    Ok((workers, limits))
}

/// Runs control on a thread of its own and returns when everything accepts. From then on it is confined: by then every
/// ring is there, and no more are made. `pinned` is whether each worker stays on a CPU.
fn start_control(
    mut spec: control::ControlSpec,
    permitted: Arc<Option<Permitted>>,
    pinned: bool,
) -> anyhow::Result<JoinHandle<Result<(), control::ControlError>>> {
    let (ready, is_ready) = mpsc::channel();
    let (listeners, workers, io) = (spec.config.listeners.len(), spec.stats.workers.len(), spec.io.clone());
    spec.hooks.ready = Box::new(move || {
        permitted.iter().for_each(|permitted| permitted.confine(io.driver));
        tracing::info!(listeners, workers, pinned, io = io.driver.name(), io_reason = io.reason, "ready");
        let _ = ready.send(());
    });
    let thread = std::thread::Builder::new().name("ringway-control".to_owned()).spawn(move || control::run(spec));
    let thread = thread.context("cannot start the control thread")?;
    if is_ready.recv().is_err() {
        // It ended before it was ready: because it was told to stop, or its result says why.
        return match thread.join() {
            Ok(Ok(())) => Ok(std::thread::spawn(|| Ok(()))),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => anyhow::bail!("the control thread panicked while it was starting; this is a bug of ringway"),
        };
    }
    Ok(thread)
}

/// Each with its sockets, and on its CPU if they are `pinned`; returns when all of them accept.
fn start_workers(
    pinned: Option<&[usize]>,
    sockets: Vec<Vec<worker::ListenSocket>>,
    shared: &Arc<worker::Shared>,
    (io, limits): (&io::Choice, &limits::Capacity),
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let office = Arc::new(PostOffice::new(shared.workers()).context("cannot make the workers' mailboxes")?);
    let start = |(index, sockets)| {
        let cpu = pinned.map(|cpus| cpus[index]);
        let spec = worker::WorkerSpec { index, cpu, seed: fastrand::u64(..), sockets, shared: shared.clone() };
        let (pipes_max, buffers_max, clock) = (limits.pipes_max, limits.buffers_max, shared.clock);
        match io.chosen.driver {
            Driver::IoUring => {
                let features = io.features;
                worker::spawn(spec, move || Uring::new(features, pipes_max, buffers_max, clock))
                    .map_err(|error| anyhow::anyhow!(probe::explain(&error)))
            }
            Driver::Epoll => {
                let office = office.clone();
                let calls = move || Linux::new((office, index), pipes_max, buffers_max, clock);
                worker::spawn(spec, move || Epoll::new(calls()?)).context("a worker cannot start")
            }
        }
    };
    sockets.into_iter().enumerate().map(start).collect()
}

/// What wakes each worker.
fn bells(workers: usize) -> anyhow::Result<Vec<Box<dyn Bell>>> {
    let bell = |_| Ok(Box::new(system::EventFd::new()?) as Box<dyn Bell>);
    let bells: std::io::Result<_> = (0..workers).map(bell).collect();
    bells.context("cannot make the workers' wake-up descriptors")
}

/// Has this thread and every worker keep one capability and give up the others.
fn keep_one_everywhere(shared: &worker::Shared) -> anyhow::Result<()> {
    const WHY: &str = "cannot keep CAP_NET_RAW, which source = \"client\" takes, and give up the other capabilities";
    let (told, answers) = mpsc::channel();
    for worker in 0..shared.workers() {
        let told = told.clone();
        let task = move || drop(told.send(privileges::keep_one())); // the receiver below waits for it
        shared.send(worker, worker::Errand::Run(Box::new(task)));
    }
    privileges::keep_one().context(WHY)?;
    for _ in 0..shared.workers() {
        answers.recv_timeout(WORKERS_ANSWER_MAX).context(WHY)?.context(WHY)?;
    }
    Ok(())
}

/// What control has the process do.
fn hooks(
    shared: &Arc<worker::Shared>,
    permitted: &Arc<Option<Permitted>>,
    read_file: Option<ReadFile>,
) -> control::Hooks {
    let (waker, asker, permitted) = (shared.clone(), shared.clone(), permitted.clone());
    let missing = move |config: &Config| permitted.as_ref().as_ref().map_or(Vec::new(), |one| one.missing(config));
    control::Hooks {
        wake: Box::new(move || {
            signers::start_if_wanted(&waker);
            waker.wake();
        }),
        ask: Arc::new(move |worker, request| asker.ask(worker, request)),
        out_of_reach: Box::new(missing),
        read_file,
        ready: Box::new(|| ()),
    }
}

/// What the workers share from their start.
fn parts(
    config: &Arc<Config>,
    first: Table,
    workers: usize,
    limits: &limits::Capacity,
    (alarm, log): (Alarm, Option<log::Outlet>),
    journal: Option<Arc<Journal>>,
) -> worker::Parts {
    worker::Parts {
        cell: Arc::new(Cell::new(first)),
        stats: Arc::new(Stats::new(workers)),
        counts: Arc::new(Counts::beginning_at(fastrand::u32(..))),
        sources: Sources::new(RandomState::new()),
        clock: Clock::new(),
        connections_max: limits.connections_max,
        early_max: limits.early_max,
        backlog_max: system::backlog_max(),
        busy_poll_ns: ns(config.process.busy_poll),
        give_up: give_up_after(log),
        on_trouble: Box::new(move || alarm.ring()),
        journal,
    }
}

/// Ends the process when a worker cannot go on, as a panic does: it holds connections that no other worker can serve,
/// and their peers must be told. The service manager starts it again.
fn give_up_after(log: Option<log::Outlet>) -> worker::GiveUp {
    Box::new(move |worker, error| {
        tracing::error!(worker, %error, "a worker cannot go on; ringway ends and must be started again");
        log.iter().for_each(|log| log.flush(LOG_FLUSH_MAX));
        std::process::abort();
    })
}

/// Files that ringway has made and goes on using: the user that it becomes must own them.
fn files_of(config: &Config) -> Vec<PathBuf> {
    let outputs = [Some(&config.log.output), config.access_log.as_ref().map(|access| &access.output)];
    let files = outputs.into_iter().flatten().filter_map(|output| match output {
        Output::File(path) => Some(path.clone()),
        Output::Stderr | Output::Stdout | Output::Syslog(_) => None,
    });
    files.chain(config.admin.socket.clone()).collect()
}
