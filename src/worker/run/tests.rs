use std::hash::RandomState;
use std::sync::Arc;

use super::*;
use crate::admit::Sources;
use crate::balance::Counts;
use crate::base::side::Side;
use crate::base::time::Clock;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Phase;
use crate::snapshot::table::Table;
use crate::stats::Stats;
use crate::sys::features::Features;
use crate::sys::system;
use crate::uring::Uring;
use crate::worker::slots::SlotKey;
use crate::worker::{Parts, Shared, WorkerSpec};

/// A worker with a ring of its own, no listener and nothing in the table; `None` where tests do without rings.
fn worker() -> Option<Worker<Uring>> {
    let kernel = crate::uring::wanted(Uring::new(Features { recv_credit: false }, 0, 0, Clock::new()))?;
    let table = Table {
        generation: 1,
        phase: Phase::Serving,
        listeners: Vec::new(),
        routes: Vec::new(),
        pools: Vec::new(),
        backends: Vec::new(),
    };
    let parts = Parts {
        cell: Arc::new(Cell::new(table)),
        stats: Arc::new(Stats::new(1)),
        counts: Arc::new(Counts::new()),
        sources: Sources::new(RandomState::new()),
        clock: Clock::new(),
        connections_max: 1,
        early_max: 0,
        backlog_max: 1,
        busy_poll_ns: 0,
        give_up: Box::new(|_, error| panic!("{error}")),
        on_trouble: Box::new(|| {}),
        journal: None,
    };
    let shared = Arc::new(Shared::new(parts, vec![Box::new(system::EventFd::new().unwrap())]));
    Some(Worker::new(WorkerSpec { index: 0, cpu: None, seed: 0, sockets: Vec::new(), shared }, kernel))
}

/// A timer, a kill or a queue may have released buffers of a session that has nothing in flight: no completion tells.
#[test]
fn no_worker_sleeps_while_a_receive_waits_for_a_buffer_and_there_is_one() {
    let Some(mut worker) = worker() else { return };
    assert_eq!(worker.rest(worker.turn.now), Wait::Forever);
    worker.agenda.starved.push_back((SlotKey { index: 7, generation: 0 }, Side::Client));
    assert_eq!(worker.rest(worker.turn.now), Wait::No);
    worker.turn().unwrap();
    assert!(worker.agenda.starved.is_empty(), "it was fed");
}

/// Else a worker with few buffers spins once for each of them.
#[test]
fn sessions_that_are_over_take_no_buffer_from_those_that_wait_for_one() {
    let Some(mut worker) = worker() else { return };
    let buffers = usize::from(worker.kernel.buffers().available());
    let key = |index| SlotKey { index, generation: 0 };
    worker.agenda.starved.extend((0..10 * buffers as u32 + 10).map(|index| (key(index), Side::Client)));
    worker.turn().unwrap();
    assert!(worker.agenda.starved.is_empty(), "all are gone");
}

#[cfg(debug_assertions)]
#[test]
fn a_session_that_is_counted_and_is_not_there_is_noticed_after_the_turn() {
    let Some(mut worker) = worker() else { return };
    worker.turn().unwrap();
    worker.stats().worker.connections.add(1);
    let turn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.turn()));
    assert!(turn.is_err());
}

#[cfg(debug_assertions)]
#[test]
fn a_buffer_that_is_released_and_was_not_leased_is_noticed_after_some_turns() {
    let Some(mut worker) = worker() else { return };
    (0..100).for_each(|_| worker.turn().unwrap());
    // It is the kernel's.
    worker.kernel.buffers().release(0);
    let turns =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..100).for_each(|_| worker.turn().unwrap())));
    assert!(turns.is_err());
}
