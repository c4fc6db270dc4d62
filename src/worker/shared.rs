//! What the workers of a process share. Each item is one atomic, or never changes.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crossbeam::queue::SegQueue;

use super::errand::Errand;
use super::signer::Signer;
use crate::admit::Sources;
use crate::balance::counts::Counts;
use crate::base::time::Clock;
use crate::kernel::{Bell, Fd};
use crate::roster::RosterRequest;
use crate::snapshot::cell::Cell;
use crate::stats::Stats;
use crate::stats::record::Journal;

/// See [`Parts::give_up`].
pub type GiveUp = Box<dyn Fn(usize, &io::Error) + Send + Sync>;

/// What a process gives all of its workers.
pub struct Parts {
    /// The published table.
    pub cell: Arc<Cell>,
    /// Where everything is counted; as many workers as it has cells for.
    pub stats: Arc<Stats>,
    /// Open sessions of backends.
    pub counts: Arc<Counts>,
    /// Connections of clients by their addresses.
    pub sources: Sources,
    /// The process's clock.
    pub clock: Clock,
    /// Sessions of the process beyond which clients wait.
    pub connections_max: u64,
    /// Connections of each worker that may wait although they were accepted.
    pub early_max: usize,
    /// No backlog is longer, whatever a listener says.
    pub backlog_max: u32,
    /// Spin this long before sleeping.
    pub busy_poll_ns: u64,
    /// Called with its number and the reason when a worker cannot go on. Its connections are open still; this must not
    /// return while they are.
    pub give_up: GiveUp,
    /// Called after it was counted that a backend hung up, or that a connect failed and ringway was not at fault.
    pub on_trouble: Box<dyn Fn() + Send + Sync>,
    /// Where records of sessions go; `None` if there is no access log.
    pub journal: Option<Arc<Journal>>,
}

/// What the workers of a process share.
pub struct Shared {
    /// What they were given at the start.
    parts: Parts,
    /// One per worker, by its number.
    peers: Box<[Peer]>,
    /// A session found no descriptor.
    wants_descriptor: AtomicBool,
}

impl Deref for Shared {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// What workers know of each other.
#[repr(align(128))]
struct Peer {
    /// Where its kernel takes messages, negative until it has one and after it has gone.
    port: AtomicI32,
    /// Its client connections, with those on their way to it.
    connections: AtomicU64,
    /// Wakes the worker, wherever it waits.
    bell: Box<dyn Bell>,
    /// What it is to do with its listening sockets. Tables cannot carry descriptors: they are data, and freed at will.
    errands: SegQueue<Errand>,
    /// What it was asked and has not taken.
    requests: SegQueue<RosterRequest>,
    /// What makes its signatures.
    signer: Signer,
}

impl Shared {
    /// With what wakes each worker.
    pub fn new(parts: Parts, bells: Vec<Box<dyn Bell>>) -> Shared {
        debug_assert_eq!(bells.len(), parts.stats.workers.len());
        let peer = |bell| {
            let port = AtomicI32::new(-1);
            let (errands, requests) = (SegQueue::new(), SegQueue::new());
            Peer { port, connections: AtomicU64::new(0), bell, errands, requests, signer: Signer::default() }
        };
        let peers = bells.into_iter().map(peer).collect();
        Shared { parts, peers, wants_descriptor: AtomicBool::new(false) }
    }

    /// A session of a worker, none of whose clients waits, needs a descriptor.
    pub(super) fn want_descriptor(&self) {
        self.wants_descriptor.store(true, Ordering::Relaxed);
    }

    /// Whether the caller, one of whose clients waits, is to give up its descriptor.
    pub(super) fn takes_wanted_descriptor(&self) -> bool {
        self.wants_descriptor.load(Ordering::Relaxed) && self.wants_descriptor.swap(false, Ordering::Relaxed)
    }

    /// Wakes every worker, so that it looks at the table.
    pub fn wake(&self) {
        self.peers.iter().for_each(|peer| peer.bell.ring());
    }

    /// Has a worker open or close listening sockets, as soon as it wakes. Publish the table that knows the listeners
    /// first.
    pub fn send(&self, worker: usize, errand: Errand) {
        self.peers[worker].errands.push(errand);
        self.peers[worker].bell.ring();
    }

    /// The oldest errand of a worker that it has not run.
    pub(super) fn next_errand(&self, worker: usize) -> Option<Errand> {
        self.peers[worker].errands.pop()
    }

    /// Asks a worker about its sessions. One that has ended never takes it.
    pub fn ask(&self, worker: usize, request: RosterRequest) {
        if let Some(peer) = self.peers.get(worker) {
            peer.requests.push(request);
            peer.bell.ring();
        }
    }

    /// The oldest request to a worker that it has not taken.
    pub(super) fn next_request(&self, worker: usize) -> Option<RosterRequest> {
        self.peers[worker].requests.pop()
    }

    /// What goes between a worker and the thread that makes its signatures.
    pub(super) fn signer(&self, worker: usize) -> &Signer {
        &self.peers[worker].signer
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// The bell that a worker waits for.
    pub(super) fn bell(&self, worker: usize) -> &dyn Bell {
        &*self.peers[worker].bell
    }

    /// Says where a worker's kernel takes messages; `None` before it has a kernel.
    pub(super) fn set_port(&self, worker: usize, port: Option<Fd>) {
        self.peers[worker].port.store(port.map_or(-1, |fd| fd.0), Ordering::Release);
    }

    /// Where messages to a worker go; `None` if it takes none.
    pub(super) fn port(&self, worker: usize) -> Option<Fd> {
        let fd = self.peers[worker].port.load(Ordering::Acquire);
        (fd >= 0).then_some(Fd(fd))
    }

    /// Counts a connection that is about to go to a worker, and says where to; `None`, and nothing counted, if
    /// it has none.
    pub(super) fn send_to(&self, worker: usize) -> Option<Fd> {
        let peer = &self.peers[worker];
        // Counted before the port is looked at, as the worker takes its port back before it looks at the count: either
        // it finds the connection counted and stays, or there is no port to send it to.
        peer.connections.fetch_add(1, Ordering::SeqCst);
        let fd = peer.port.load(Ordering::SeqCst);
        if fd < 0 {
            self.not_sent(worker);
            return None;
        }
        Some(Fd(fd))
    }

    /// A connection that was counted for a worker does not come after all.
    pub(super) fn not_sent(&self, worker: usize) {
        self.sub_load(worker);
        // It may sleep, waiting for nothing else.
        self.peers[worker].bell.ring();
    }

    /// Whether a worker that has no sessions may end: from now on no worker sends it a connection, and none is on its
    /// way. To be asked by the worker itself.
    pub(super) fn may_end(&self, worker: usize) -> bool {
        let peer = &self.peers[worker];
        let port = peer.port.swap(-1, Ordering::SeqCst);
        let is_over = peer.connections.load(Ordering::SeqCst) == 0;
        if !is_over {
            peer.port.store(port, Ordering::SeqCst);
        }
        is_over
    }

    /// Client connections of a worker, with those on their way to it.
    pub(super) fn load(&self, worker: usize) -> u64 {
        self.peers[worker].connections.load(Ordering::Relaxed)
    }

    /// Counts a client connection of a worker, and returns how many it has with it.
    pub(super) fn add_load(&self, worker: usize) -> u64 {
        self.peers[worker].connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts one less.
    pub(super) fn sub_load(&self, worker: usize) {
        self.peers[worker].connections.fetch_sub(1, Ordering::Relaxed);
    }
}
