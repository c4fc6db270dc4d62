//! What a worker says of a session that has ended, and how that gets to control: through one bounded queue per worker,
//! which drops a record rather than wait.

use std::fmt;
use std::net::SocketAddr;

use crossbeam::queue::ArrayQueue;

use super::ConnectError;
use super::tls::{TlsEndReason, TlsFacts};
use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::refused::Refused;
use crate::base::session::{PathQuality, SessionId};
use crate::base::termination::Termination;
use crate::base::time::Moment;

/// How many records of one worker can wait for control: some milliseconds of short sessions at full speed.
const QUEUE_MAX: usize = 8192;

/// A session from accept to close. Plain data with ids; control knows the names.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id.
    pub session: SessionId,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The pool that served it.
    pub pool: PoolId,
    /// The last backend that was tried.
    pub backend: Option<BackendId>,
    /// The client.
    pub client: Client,
    /// Ringway's own address of the connection to the backend; `None` if there was none, or it was a unix socket.
    pub backend_local: Option<SocketAddr>,
    /// When it was accepted.
    pub accepted_at: Moment,
    /// When it was over.
    pub ended_at: Moment,
    /// Time in the queue.
    pub queue_ns: u64,
    /// Clients of the pool that waited when it entered the queue, itself among them; 0 if it did not.
    pub queue_position: u32,
    /// Time spent connecting, all attempts together; `None` if it was never connected.
    pub connect_ns: Option<u64>,
    /// Attempts that failed, oldest first.
    pub failed: Vec<Attempt>,
    /// Time of the attempt that succeeded.
    pub last_attempt_ns: u64,
    /// Bytes delivered to the backend.
    pub bytes_to_backend: u64,
    /// Bytes delivered to the client.
    pub bytes_to_client: u64,
    /// How it ended.
    pub termination: Termination,
    /// Which rule or resource ended it, if the code needs one.
    pub reason: Option<EndReason>,
    /// The server that the client's TLS asked for, where routes look at it.
    pub server_name: Option<Box<str>>,
    /// How well the connections went, by side; `None` of one that was not there, or not over TCP.
    pub quality: [Option<PathQuality>; 2],
    /// What TLS with the client has agreed on, where it ends here.
    pub tls: Option<TlsFacts>,
    /// Why TLS failed.
    pub tls_error: Option<TlsEndReason>,
    /// The subject of the certificate that the client has shown (RFC 4514).
    pub client_certificate: Option<Box<str>>,
    /// The worker that served it.
    pub worker: u32,
}

impl Record {
    /// Whether the client sent nothing and nothing went wrong: a port scan, or a balancer that only asks whether
    /// something listens.
    pub fn is_empty(&self) -> bool {
        use crate::base::termination::Who::{Client, ClientTimeout, Normal};
        self.bytes_to_backend == 0 && matches!(self.termination.0, Normal | Client | ClientTimeout)
    }
}

/// The client of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// At this address.
    Tcp(SocketAddr),
    /// At a unix socket.
    Unix,
    /// Unknown: it had left before its address could be read.
    Gone,
}

/// An attempt to connect that failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The backend that was tried.
    pub backend: BackendId,
    /// Why it failed.
    pub error: ConnectError,
    /// How long it took.
    pub took_ns: u64,
    /// Why there was no TLS with the backend, if that is why.
    pub tls_error: Option<Box<str>>,
}

/// Which rule or resource ended a session (`docs/codes.md`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndReason {
    /// A rule of the listener.
    Refused(Refused),
    /// More clients wait than `queue_max`.
    QueueFull,
    /// No descriptor was left.
    Descriptors,
    /// No port was left to connect from.
    Ports,
    /// The kernel had no memory.
    Memory,
    /// The backend went down.
    BackendDown,
    /// The backend was drained.
    BackendDrained,
    /// The backend is no longer configured, or at another address.
    BackendRemoved,
    /// The backend is a backup, and one that is none came up.
    MainUp,
    /// It was silent while its backend or the process drained.
    DrainIdle,
    /// ringway shuts down.
    Shutdown,
    /// An operator ended it through the API.
    Operator,
}

impl EndReason {
    /// The word for it in the access log.
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Refused(refused) => refused.name(),
            EndReason::QueueFull => "queue_full",
            EndReason::Descriptors => "descriptors",
            EndReason::Ports => "ports",
            EndReason::Memory => "memory",
            EndReason::BackendDown => "backend_down",
            EndReason::BackendDrained => "backend_drained",
            EndReason::BackendRemoved => "backend_removed",
            EndReason::MainUp => "main_up",
            EndReason::DrainIdle => "drain_idle",
            EndReason::Shutdown => "shutdown",
            EndReason::Operator => "operator",
        }
    }
}

/// The queues, one per worker.
pub struct Journal {
    /// By worker.
    queues: Box<[ArrayQueue<Record>]>,
    /// Called after a record was put in.
    ring: Box<dyn Fn() + Send + Sync>,
}

impl Journal {
    /// Queues for that many workers; `ring` is called after each record, by the worker.
    pub fn new(workers: usize, ring: Box<dyn Fn() + Send + Sync>) -> Journal {
        Journal { queues: (0..workers).map(|_| ArrayQueue::new(QUEUE_MAX)).collect(), ring }
    }

    /// Puts a record in. False if there was no room and it is lost. Never waits.
    pub fn push(&self, worker: usize, record: Record) -> bool {
        let is_kept = self.queues[worker].push(record).is_ok();
        (self.ring)();
        is_kept
    }

    /// Takes out the oldest record of one of the workers that have any. Called by control.
    pub fn pop(&self) -> Option<Record> {
        self.queues.iter().find_map(ArrayQueue::pop)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("queues", &self.queues.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    pub(crate) fn record(session: u32) -> Record {
        Record {
            session: SessionId::new(0, session, 0),
            listener: ListenerId(0),
            pool: PoolId(0),
            backend: Some(BackendId(0)),
            client: Client::Tcp(([192, 0, 2, 7], 40_000).into()),
            backend_local: Some(([10, 0, 0, 9], 50_000).into()),
            accepted_at: Moment(1_000_000_000),
            ended_at: Moment(3_500_000_000),
            queue_ns: 0,
            queue_position: 0,
            connect_ns: Some(1_400_000),
            failed: Vec::new(),
            last_attempt_ns: 1_400_000,
            bytes_to_backend: 10,
            bytes_to_client: 20,
            termination: Termination::NORMAL,
            reason: None,
            server_name: None,
            quality: [None; 2],
            tls: None,
            tls_error: None,
            client_certificate: None,
            worker: 1,
        }
    }

    #[test]
    fn empty_is_a_session_without_a_byte_of_the_client_that_nothing_ended_but_the_client() {
        use crate::base::termination::{When, Who};
        let empty = |who, when, bytes| {
            Record { bytes_to_backend: bytes, termination: Termination(who, when), ..record(1) }.is_empty()
        };
        for (who, when) in [
            (Who::Normal, When::Done),
            (Who::Client, When::Data),
            (Who::Client, When::Queue),
            (Who::ClientTimeout, When::Data),
        ] {
            assert!(empty(who, when, 0), "{who:?}");
            assert!(!empty(who, when, 1), "{who:?}");
        }
        for who in [Who::Server, Who::Rule, Who::Resource, Who::Down, Who::Killed, Who::ServerTimeout, Who::Internal] {
            assert!(!empty(who, When::Data, 0), "{who:?}");
        }
    }

    #[test]
    fn a_full_queue_drops_and_says_so_and_what_came_before_stays() {
        let rung = Arc::new(AtomicU64::new(0));
        let ring = rung.clone();
        let journal = Journal::new(
            2,
            Box::new(move || {
                ring.fetch_add(1, Relaxed);
            }),
        );
        let kept = (0..QUEUE_MAX as u32 + 3).filter(|&session| journal.push(1, record(session))).count();
        assert_eq!((kept, rung.load(Relaxed)), (QUEUE_MAX, QUEUE_MAX as u64 + 3));
        assert!(journal.push(0, record(7)), "the other worker's queue has room");
        let all: Vec<SessionId> = std::iter::from_fn(|| journal.pop()).map(|record| record.session).collect();
        let id = |place| SessionId::new(0, place, 0);
        assert_eq!(all.len(), QUEUE_MAX + 1);
        assert!(all[1..].is_sorted() && all[0] == id(7) && all[QUEUE_MAX] == id(QUEUE_MAX as u32 - 1));
    }
}
