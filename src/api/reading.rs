//! What all workers have counted, added up: one reading for the plots of the last ten minutes
//! ([`stats::history`](crate::stats::history)). Control takes one per second, and `history` answers with what follows.

use crate::balance::Counts;
use crate::snapshot::table::{BackendEntry, ListenerEntry, PoolEntry, Table};
use crate::stats::Stats;
use crate::stats::history::{BackendCount, BackendKey, ListenerCount, PoolCount, Reading, TotalCount};

/// What all workers have counted so far, added up. It only reads atomics, so the workers are not disturbed.
pub fn read(table: &Table, stats: &Stats, counts: &Counts) -> Reading {
    let workers = &stats.workers;
    let of_listener = |entry: &ListenerEntry| {
        let mut sum = ListenerCount::default();
        for cells in stats.of_listener(entry.id) {
            sum.connections += cells.connections.get();
            sum.accepted += cells.connections_total.get();
            for (sum, refused) in sum.refused.iter_mut().zip(&cells.refused) {
                *sum += refused.get();
            }
        }
        // A removed listener stays until its last session has ended.
        (!entry.retired || sum.connections > 0).then(|| (entry.name.clone(), sum))
    };
    let of_pool = |entry: &PoolEntry| {
        let mut sum = PoolCount { queue_length: counts.queue(entry.id).waiting().into(), ..PoolCount::default() };
        for cells in stats.of_pool(entry.id) {
            sum.refused += cells.refused_total.get();
            sum.queue_timeouts += cells.queue_timeouts_total.get();
            sum.retries += cells.retries_total.get();
            cells.connect_ns.add_to(&mut sum.connect);
            cells.queue_ns.add_to(&mut sum.queue);
        }
        (entry.name.clone(), sum)
    };
    let of_backend = |entry: &BackendEntry| {
        let key = BackendKey { id: entry.id, pool: table.pool(entry.pool)?.name.clone(), name: entry.name.clone() };
        Some((key, backend(entry, stats, counts)))
    };
    Reading {
        total: TotalCount {
            connections: counts.process_connections(),
            accepted: workers.iter().map(|worker| worker.worker.accepted.get()).sum(),
            bytes: workers
                .iter()
                .map(|worker| worker.worker.copied_bytes.get() + worker.worker.spliced_bytes.get())
                .sum(),
            busy_ns: workers.iter().map(|worker| worker.worker.busy_ns.get()).collect(),
        },
        listeners: table.listeners.iter().flatten().filter_map(of_listener).collect(),
        pools: table.pools.iter().flatten().map(of_pool).collect(),
        backends: table.backends.iter().flatten().filter_map(of_backend).collect(),
    }
}

/// What all workers have counted for one backend.
fn backend(entry: &BackendEntry, stats: &Stats, counts: &Counts) -> BackendCount {
    let mut sum = BackendCount { connections: counts.connections(entry.id), ..BackendCount::default() };
    for cells in stats.of_backend(entry.id) {
        sum.established += cells.connections_total.get();
        sum.connect_errors += cells.connects_failed();
        sum.bytes_to_backend += cells.bytes_to_backend.get();
        sum.bytes_to_client += cells.bytes_to_client.get();
    }
    sum
}
