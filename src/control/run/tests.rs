use super::*;
use crate::balance::Counts;
use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::time::{Clock, Moment};
use crate::config::model::{Config, Ejection, Target};
use crate::control::state_file::Restored;
use crate::control::{Alarm, Stopper, first_table, stop_channel};
use crate::health::State;
use crate::kernel::driver::{ChosenDriver, Driver};
use crate::snapshot::build::tests::{config, pool};
use crate::stats::{ConnectError, Stats};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);

/// Control on a thread of its own, with one worker that is nothing but its `running` gauge.
struct Running {
    cell: Arc<Cell>,
    stats: Arc<Stats>,
    wakes: Arc<AtomicUsize>,
    ready: Arc<AtomicBool>,
    stopper: Stopper,
    alarm: Alarm,
    thread: JoinHandle<Result<(), ControlError>>,
}

/// There is nothing to bind.
struct NoSockets;

impl ListeningSockets for NoSockets {
    fn prepare(&mut self, _: &Config) -> Result<(), crate::control::sockets::SocketsRefused> {
        Ok(())
    }

    fn commit(&mut self, _: &dyn Fn(&str) -> Option<crate::base::id::ListenerId>) {}

    fn lend(&self) -> Vec<Arc<std::os::fd::OwnedFd>> {
        Vec::new()
    }

    fn mend(&mut self, _: &dyn Fn(&str) -> Option<crate::base::id::ListenerId>) {}

    fn leave(&mut self) {}
}

fn start(config: Config) -> Running {
    let config = Arc::new(config);
    let cell = Arc::new(Cell::new(first_table(&config)));
    let (stats, wakes, ready) =
        (Arc::new(Stats::new(1)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let ((stopper, stop), alarm) = (stop_channel(), Alarm::new());
    let (wakes_there, ready_there) = (wakes.clone(), ready.clone());
    let hooks = Hooks {
        wake: Box::new(move || {
            wakes_there.fetch_add(1, SeqCst);
        }),
        out_of_reach: Box::new(|_| Vec::new()),
        read_file: None,
        ask: Arc::new(|_, _| ()),
        ready: Box::new(move || ready_there.store(true, SeqCst)),
    };
    let spec = ControlSpec {
        restored: Restored::default(),
        config,
        source: Source::CommandLine,
        cell: cell.clone(),
        stats: stats.clone(),
        counts: Arc::new(Counts::new()),
        clock: Clock::new(),
        sockets: Box::new(NoSockets),
        alarm: alarm.clone(),
        admin: crate::api::AdminSockets::default(),
        predecessor: None,
        hooks,
        stop,
        connections_max: 0,
        io: ChosenDriver { driver: Driver::IoUring, reason: String::new() },
        logs: crate::log::Logs::default(),
    };
    let thread = std::thread::spawn(move || run(spec));
    Running { cell, stats, wakes, ready, stopper, alarm, thread }
}

impl Running {
    fn set_running(&self, value: u64) {
        self.stats.workers[0].worker.running.set(value);
    }

    fn phase(&self) -> Phase {
        self.cell.reader().pin().phase
    }

    fn states(&self) -> Vec<State> {
        self.cell.reader().pin().backends.iter().flatten().map(|backend| backend.state).collect()
    }

    fn finish(self) -> Result<(), ControlError> {
        self.set_running(0);
        wait_until("control returns", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let clock = Clock::new();
    let begun = clock.now();
    while !done() {
        assert!(clock.now().since_ns(begun) < ns(DEADLINE), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A pool on these addresses that is checked every few milliseconds.
fn quick(addresses: &[std::net::SocketAddr]) -> Config {
    let names: Vec<_> = (0..addresses.len()).map(|index| format!("b{index}")).collect();
    let mut pool = pool("p", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for (backend, address) in pool.backends.iter_mut().zip(addresses) {
        backend.target = Target::Address(Address::Tcp(*address));
    }
    let check = pool.check.as_mut().unwrap();
    let interval = Duration::from_millis(20);
    (check.interval, check.fast_interval, check.down_interval) = (interval, interval, interval);
    config(vec![pool])
}

#[test]
fn a_dead_backend_is_taken_out_and_brought_back() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let control = start(quick(&[alive.local_addr().unwrap(), address]));
    control.set_running(1);
    wait_until("down", || control.states() == [State::Up, State::Down]);
    let ends_sessions = || control.cell.reader().pin().backend(BackendId(1)).unwrap().end_sessions;
    wait_until("the other one is known to take its sessions", ends_sessions);
    wait_until("workers are woken", || control.wakes.load(SeqCst) > 0);
    let back = std::cell::OnceCell::new();
    // Another socket may hold the port for a moment.
    wait_until("the port is free", || TcpListener::bind(address).is_ok_and(|listener| back.set(listener).is_ok()));
    wait_until("up", || control.states() == [State::Up, State::Up]);
    let checks = control.stats.control.backends.get(1);
    assert_eq!((checks.went_down.get(), checks.went_up.get()), (1, 1));
    assert!(checks.failure.get() >= 1 && checks.success.get() >= 2, "rise is 2");
    control.stopper.ask();
    control.finish().unwrap();
}

#[test]
fn ready_is_told_once_every_worker_runs() {
    let control = start(quick(&[]));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!control.ready.load(SeqCst), "no worker runs yet");
    control.set_running(1);
    wait_until("ready", || control.ready.load(SeqCst));
    control.stopper.ask();
    control.finish().unwrap();
}

#[test]
fn shutdown_drains_and_asking_again_resets_what_is_left() {
    let control = start(quick(&[]));
    control.set_running(1);
    assert_eq!(control.phase(), Phase::Serving);
    control.stopper.ask();
    wait_until("draining", || matches!(control.phase(), Phase::Draining { until } if until < Moment::NEVER));
    assert!(!control.thread.is_finished(), "the worker still runs");
    control.stopper.ask();
    wait_until("stopping", || control.phase() == Phase::Stopping);
    assert_eq!(control.wakes.load(SeqCst), 2);
    control.finish().unwrap();
}

#[test]
fn the_grace_ends_in_a_reset_of_what_is_left() {
    let mut config = quick(&[]);
    config.process.shutdown_grace = Duration::from_millis(50);
    let control = start(config);
    control.set_running(1);
    control.stopper.ask();
    wait_until("stopping", || control.phase() == Phase::Stopping);
    control.finish().unwrap();
}

/// Many first results come at about the same time, and each table costs every worker a look.
#[test]
fn changes_that_come_together_are_published_together() {
    let dead: Vec<_> = (0..100).map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).collect();
    let control = start(quick(&dead));
    control.set_running(1);
    wait_until("all are down", || control.states().iter().all(|state| *state == State::Down));
    let tables = control.cell.generation() - 1;
    assert!(tables <= 50, "{tables} tables for 100 changes");
    control.stopper.ask();
    control.finish().unwrap();
}

/// A worker counts and rings; ringway's own want of ports is no backend's fault.
#[test]
fn failed_connects_that_workers_count_eject_a_backend_until_it_is_over() {
    let alive: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut config = quick(&alive.iter().map(|listener| listener.local_addr().unwrap()).collect::<Vec<_>>());
    config.pools[0].check = None;
    let duration = Duration::from_millis(200);
    let rules = Ejection { failures: 3, hangups: 0, window: Duration::from_secs(10), duration, percent_max: 50 };
    config.pools[0].ejection = Some(rules);
    let control = start(config);
    control.set_running(1);
    let fail = |backend: usize, error| {
        control.stats.workers[0].backends.get(backend).connect_failed(error);
        control.alarm.ring();
    };
    (0..9).for_each(|_| fail(0, ConnectError::Resource));
    (0..3).for_each(|_| fail(1, ConnectError::Refused));
    wait_until("ejected", || control.states() == [State::Up, State::Ejected]);
    assert!(!control.cell.reader().pin().backend(BackendId(1)).unwrap().end_sessions);
    let clock = Clock::new();
    let begun = clock.now();
    wait_until("it is over", || control.states() == [State::Up, State::Up]);
    assert!(clock.now().since_ns(begun) >= 150_000_000, "not before its time");
    let counted = control.stats.control.backends.get(1);
    assert_eq!((counted.went_ejected.get(), counted.went_up.get()), (1, 1));
    control.stopper.ask();
    control.finish().unwrap();
}
