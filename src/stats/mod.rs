//! What is counted. Each worker writes its own cells, so counting never waits and never locks; a reader that wants the
//! sums reads all of them.
//!
//! Which metric each cell becomes is in [`list`] and `api::metrics`. Names here end in `_total` only where two cells
//! would be confused otherwise; units stand last (`_ns`).
#![forbid(unsafe_code)]

pub mod alarm;
pub mod cell;
pub mod draft;
pub mod history;
pub mod list;
pub mod record;
pub mod tls;

use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::refused::Refused;
use crate::base::slots::Slots;
use crate::base::termination::Termination;
pub use cell::{Counter, Distribution, Gauge, Histogram};

/// All cells of the process.
#[derive(Debug)]
pub struct Stats {
    /// One per worker, by its number.
    pub workers: Box<[WorkerStats]>,
    /// What the control thread counts.
    pub control: ControlStats,
}

impl Stats {
    /// Cells for that many workers, all 0.
    pub fn new(workers: usize) -> Stats {
        Stats { workers: (0..workers).map(|_| WorkerStats::default()).collect(), control: ControlStats::default() }
    }

    /// The cells of a listener, of each worker that has any.
    pub fn of_listener(&self, id: ListenerId) -> impl Iterator<Item = &ListenerCells> {
        self.workers.iter().filter_map(move |worker| worker.listeners.existing(id.index()))
    }

    /// The cells of a pool, of each worker that has any.
    pub fn of_pool(&self, id: PoolId) -> impl Iterator<Item = &PoolCells> {
        self.workers.iter().filter_map(move |worker| worker.pools.existing(id.index()))
    }

    /// The cells of a backend, of each worker that has any.
    pub fn of_backend(&self, id: BackendId) -> impl Iterator<Item = &BackendCells> {
        self.workers.iter().filter_map(move |worker| worker.backends.existing(id.index()))
    }

    /// How many workers run.
    pub fn workers_running(&self) -> usize {
        self.running().count()
    }

    /// The generation of the newest table that every running worker has seen; 0 if none runs.
    pub fn seen_generation(&self) -> u64 {
        self.running().map(|worker| worker.generation.get()).min().unwrap_or(0)
    }

    /// The cells of each worker that has started and not ended.
    fn running(&self) -> impl Iterator<Item = &WorkerCells> {
        self.workers.iter().map(|worker| &worker.worker).filter(|worker| worker.running.get() != 0)
    }

    /// Sets everything that was counted of a backend to 0, because another backend gets its slot. No thread can count
    /// anything of it at that time.
    pub fn forget_backend(&self, id: BackendId) {
        for cells in self.of_backend(id) {
            let BackendCells { connections_total, connect_errors, bytes_to_backend, bytes_to_client, .. } = cells;
            let counters =
                [connections_total, bytes_to_backend, bytes_to_client, &cells.sessions_cut_total, &cells.hangups];
            counters.into_iter().chain(connect_errors).for_each(Counter::restart);
        }
        if let Some(cells) = self.control.backends.existing(id.index()) {
            let CheckCells { success, failure, went_up, went_standby, went_down, went_ejected, .. } = cells;
            let CheckCells { went_draining, went_maintenance, refused, unknown, check_ns, .. } = cells;
            let came = [went_up, went_standby, went_down, went_ejected, went_draining, went_maintenance];
            came.into_iter().chain([success, failure, refused, unknown]).for_each(Counter::restart);
            check_ns.restart();
        }
    }
}

/// The cells of one worker, which alone writes them. Aligned so that no two workers share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Of the worker itself.
    pub worker: WorkerCells,
    /// By listener id.
    pub listeners: Slots<ListenerCells>,
    /// By route id.
    pub routes: Slots<RouteCells>,
    /// By pool id.
    pub pools: Slots<PoolCells>,
    /// By backend id.
    pub backends: Slots<BackendCells>,
}

/// What a worker counts about itself.
#[derive(Debug, Default)]
pub struct WorkerCells {
    /// Client connections open on this worker.
    pub connections: Gauge,
    /// Time spent working rather than waiting.
    pub busy_ns: Counter,
    /// Bytes moved through pipes.
    pub spliced_bytes: Counter,
    /// Bytes moved through buffers.
    pub copied_bytes: Counter,
    /// Connections this worker accepted.
    pub accepted: Counter,
    /// Connections that it gave to a less loaded worker.
    pub handed_over: Counter,
    /// Times a receive found no buffer.
    pub buffers_starved: Counter,
    /// Sessions that have been closing for long.
    pub closing_stuck: Gauge,
    /// Sessions whose record found no room on its way to the access log.
    pub access_log_dropped: Counter,
    /// 1 exactly while the worker's loop runs: from its first turn with its listeners armed until it has let go of
    /// every session and listener.
    pub running: Gauge,
    /// io_uring features in use, as bits the worker defines.
    pub features: Gauge,
    /// Generation of the table it saw last.
    pub generation: Gauge,
}

/// What one worker counts of one listener.
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Client connections open.
    pub connections: Gauge,
    /// Client connections accepted.
    pub connections_total: Counter,
    /// Accepts that failed.
    pub accept_errors: Counter,
    /// Clients that were refused, by [`Refused`].
    pub refused: [Counter; Refused::COUNT],
    /// Handshakes of TLS that are over.
    pub handshakes: tls::HandshakeCells,
    /// Streams that ended without close_notify.
    pub tls_truncated: Counter,
}

/// What one worker counts of the way from a listener to a pool.
#[derive(Debug)]
pub struct RouteCells {
    /// Sessions that ended, by [`Termination::index`].
    pub sessions: [Counter; Termination::COUNT],
}

impl Default for RouteCells {
    fn default() -> RouteCells {
        RouteCells { sessions: std::array::from_fn(|_| Counter::default()) }
    }
}

impl RouteCells {
    /// Counts a session that ended.
    #[inline]
    pub fn ended(&self, termination: Termination) {
        self.sessions[termination.index()].add(1);
    }
}

/// What one worker counts of one pool.
#[derive(Debug, Default)]
pub struct PoolCells {
    /// Attempts after the first of a session.
    pub retries_total: Counter,
    /// Sessions that its fallback served.
    pub fallbacks_total: Counter,
    /// Clients that were forgotten before their time was over, because others came.
    pub sticky_evictions_total: Counter,
    /// Sessions no backend could take.
    pub refused_total: Counter,
    /// Sessions that waited in the queue for too long.
    pub queue_timeouts_total: Counter,
    /// Time in the queue, of clients that had to wait.
    pub queue_ns: Histogram,
    /// From the start of a successful attempt to the open connection.
    pub connect_ns: Histogram,
    /// From accept to close.
    pub session_ns: Histogram,
    /// Handshakes of TLS with backends that are over.
    pub backend_handshakes: tls::HandshakeCells,
    /// Streams of backends that ended without close_notify.
    pub tls_truncated: Counter,
}

/// A backend that ends a session within this time without sending a byte has hung up: 1 s.
pub const HANGUP_NS: u64 = 1_000_000_000;

/// What one worker counts of one backend.
#[derive(Debug, Default)]
pub struct BackendCells {
    /// Connections that were established.
    pub connections_total: Counter,
    /// Attempts that failed, by [`ConnectError`].
    pub connect_errors: [Counter; ConnectError::COUNT],
    /// Sessions that it ended within [`HANGUP_NS`] without having sent a byte.
    pub hangups: Counter,
    /// Bytes delivered to it.
    pub bytes_to_backend: Counter,
    /// Bytes from it delivered to clients.
    pub bytes_to_client: Counter,
    /// Its sessions that were reset because it went down, was drained or removed.
    pub sessions_cut_total: Counter,
}

/// Why an attempt to connect to a backend failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum ConnectError {
    /// Nothing listens there.
    Refused,
    /// No answer within `connect_timeout`.
    Timeout,
    /// No route to host or network.
    Unreachable,
    /// Reset before the connect was looked at: accepted, and hung up on. It counts as a hang-up too.
    Reset,
    /// ringway or the kernel ran out of descriptors, ports or memory: not the backend's fault.
    Resource,
    /// No TLS could be agreed on, or its certificate proves nothing.
    Tls,
    /// It does not have the name that the client asked for, and that it was to prove: not the backend's fault.
    TlsName,
    /// Anything else.
    Other,
}

impl ConnectError {
    /// How many there are.
    pub const COUNT: usize = ConnectError::ALL.len();
    /// Every reason, by its number.
    pub const ALL: [ConnectError; 8] = [
        ConnectError::Refused,
        ConnectError::Timeout,
        ConnectError::Unreachable,
        ConnectError::Reset,
        ConnectError::Resource,
        ConnectError::Tls,
        ConnectError::TlsName,
        ConnectError::Other,
    ];

    /// Which one an error of `connect` is.
    pub fn of(error: &std::io::Error) -> ConnectError {
        use std::io::ErrorKind;
        // ENFILE, EMFILE and ENOBUFS, which have no kind of their own (errno-base.h, errno.h).
        const OUT_OF: [Option<i32>; 3] = [Some(23), Some(24), Some(105)];
        match error.kind() {
            // Nothing listens at a unix socket that does not exist, either.
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => ConnectError::Refused,
            ErrorKind::TimedOut => ConnectError::Timeout,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                ConnectError::Unreachable
            }
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ConnectError::Reset,
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse | ErrorKind::OutOfMemory => ConnectError::Resource,
            _ if OUT_OF.contains(&error.raw_os_error()) => ConnectError::Resource,
            _ => ConnectError::Other,
        }
    }

    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            ConnectError::Refused => "refused",
            ConnectError::Timeout => "timeout",
            ConnectError::Unreachable => "unreachable",
            ConnectError::Reset => "reset",
            ConnectError::Resource => "resource",
            ConnectError::Tls => "tls",
            ConnectError::TlsName => "tls_name",
            ConnectError::Other => "other",
        }
    }
}

impl BackendCells {
    /// Counts an attempt that failed.
    #[inline]
    pub fn connect_failed(&self, error: ConnectError) {
        self.connect_errors[error as usize].add(1);
    }

    /// Attempts that failed, for whatever reason.
    pub fn connects_failed(&self) -> u64 {
        self.connect_errors.iter().map(Counter::get).sum()
    }

    /// Those that failed through the backend or the way to it. What this host lacked (a port, memory) is not among
    /// them, nor what a client asked for, and neither is a reset: the backend had accepted, else it would have refused.
    pub fn connects_refused(&self) -> u64 {
        let is_other = |reason: &&ConnectError| {
            !matches!(reason, ConnectError::Resource | ConnectError::Reset | ConnectError::TlsName)
        };
        ConnectError::ALL.iter().filter(is_other).map(|reason| self.connect_errors[*reason as usize].get()).sum()
    }
}

/// What the control thread counts. Only that thread writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ControlStats {
    /// How many configurations were applied; 1 after the start.
    pub config_generation: Gauge,
    /// Configurations that were applied while it ran.
    pub reloads_success: Counter,
    /// Configurations that were refused while it ran.
    pub reloads_failure: Counter,
    /// Lines of the access log that could not be written.
    pub access_log_dropped: Counter,
    /// By backend id.
    pub backends: Slots<CheckCells>,
    /// By pool id.
    pub pools: Slots<PoolControlCells>,
    /// By listener id.
    pub listeners: Slots<CertificateCells>,
}

/// About the certificates of one listener.
#[derive(Debug, Default)]
pub struct CertificateCells {
    /// Replacements of its files that could not be used.
    pub errors: Counter,
}

/// What control says of one pool.
#[derive(Debug, Default)]
pub struct PoolControlCells {
    /// 1 exactly while none of its replicas is fresh enough and the least stale ones serve.
    pub serves_stale: Gauge,
    /// 1 while its source of backends can be heard.
    pub discovery_up: Gauge,
    /// How many backends its source has found.
    pub discovery_found: Gauge,
    /// When its source was heard last, in seconds since 1970; 0 before it was.
    pub discovery_confirmed_s: Gauge,
}

/// About the checks of one backend, and its changes of state.
#[derive(Debug, Default)]
pub struct CheckCells {
    /// Checks that succeeded.
    pub success: Counter,
    /// Checks that failed.
    pub failure: Counter,
    /// Checks whose account was refused by a server that lives.
    pub refused: Counter,
    /// Checks that could not be made.
    pub unknown: Counter,
    /// Changes to up.
    pub went_up: Counter,
    /// Changes to standby.
    pub went_standby: Counter,
    /// Changes to down.
    pub went_down: Counter,
    /// Changes to ejected.
    pub went_ejected: Counter,
    /// Changes to draining.
    pub went_draining: Counter,
    /// Changes to maintenance.
    pub went_maintenance: Counter,
    /// How long checks took.
    pub check_ns: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connect_error_has_its_own_number_and_name() {
        for (number, error) in ConnectError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, number);
        }
        let cells = BackendCells::default();
        cells.connect_failed(ConnectError::Reset);
        let counts = cells.connect_errors.each_ref().map(Counter::get);
        assert_eq!(counts, [0, 0, 0, 1, 0, 0, 0, 0]);
        let mut names = ConnectError::ALL.map(ConnectError::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ConnectError::COUNT);
    }

    #[test]
    fn what_ringway_lacks_is_not_held_against_the_backend() {
        let of = |errno| ConnectError::of(&std::io::Error::from_raw_os_error(errno));
        // ECONNREFUSED ENOENT ETIMEDOUT EHOSTUNREACH ENETUNREACH ECONNRESET EMFILE ENFILE ENOBUFS ENOMEM EADDRNOTAVAIL
        let refused = [111, 2].map(of);
        assert_eq!(refused, [ConnectError::Refused; 2]);
        assert_eq!(of(110), ConnectError::Timeout);
        assert_eq!([113, 101].map(of), [ConnectError::Unreachable; 2]);
        assert_eq!(of(104), ConnectError::Reset);
        assert_eq!([24, 23, 105, 12, 99].map(of), [ConnectError::Resource; 5]);
        assert_eq!(of(13), ConnectError::Other, "EACCES");
    }

    #[test]
    fn whoever_has_a_slot_anew_begins_at_zero() {
        let stats = Stats::new(2);
        let cells = stats.workers[1].backends.get(3);
        cells.connections_total.add(1);
        cells.bytes_to_client.add(1);
        cells.bytes_to_backend.add(1);
        cells.sessions_cut_total.add(1);
        ConnectError::ALL.into_iter().for_each(|error| cells.connect_failed(error));
        stats.control.backends.get(3).went_up.add(1);
        stats.control.backends.get(3).check_ns.record_ns(5);
        stats.workers[1].backends.get(4).bytes_to_client.add(7);
        stats.forget_backend(BackendId(3));
        let none = format!("{:?}", BackendCells::default());
        assert_eq!(format!("{cells:?}"), none);
        assert_eq!(format!("{:?}", stats.control.backends.get(3)), format!("{:?}", CheckCells::default()));
        assert_eq!(stats.workers[1].backends.get(4).bytes_to_client.get(), 7);
    }

    #[test]
    fn workers_share_no_cache_line() {
        let stats = Stats::new(3);
        for pair in stats.workers.windows(2) {
            let distance = (&raw const pair[1]).addr() - (&raw const pair[0]).addr();
            assert!(distance >= 128 && (&raw const pair[0]).addr().is_multiple_of(128));
        }
    }
}
