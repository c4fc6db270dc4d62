use std::hash::RandomState;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::admit::Sources;
use crate::balance::Counts;
use crate::base::time::Clock;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Table;
use crate::stats::Stats;
use crate::uring::features::Features;
use crate::worker::Parts;

/// A worker with a ring of its own, no listener and nothing in the table; `None` where there are no rings.
fn worker() -> Option<Worker> {
    let ring = match Ring::new() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => return None,
        ring => ring.unwrap(),
    };
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
        features: Features { recv_credit: false },
        connections_max: 1,
        pipes_max: 0,
        busy_poll_ns: 0,
        connect_failed: Box::new(|| {}),
        journal: None,
    };
    let shared = Arc::new(Shared::new(parts).unwrap());
    let buffers = Buffers::new(&ring).unwrap();
    ring.enable().unwrap();
    Some(Worker::new(Spec { index: 0, cpu: None, sockets: Vec::new(), shared }, ring, buffers))
}

/// A timer, a kill or a queue may have released buffers of a session that has nothing in flight: no completion tells.
#[test]
fn no_worker_sleeps_while_a_receive_waits_for_a_buffer_and_there_is_one() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut worker) = worker() else { return done.send(0).unwrap() };
        assert!(worker.buffers.available() > 0);
        worker.starved.push_back((Key { index: 7, generation: 0 }, Side::Client));
        worker.wait(worker.now).unwrap();
        worker.turn();
        done.send(worker.starved.len()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(Duration::from_secs(20)), Ok(0), "it sleeps, or has fed nobody");
}
