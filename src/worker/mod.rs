//! One thread, one [`Kernel`], and everything its sessions need.
//!
//! A worker decides nothing about a session: it tells the session what the kernel said and carries out what the
//! session answers ([`execute`]). What it does decide is the order of things: completions first, then one bulk half,
//! then timers (`run`).

mod accept;
mod acceptors;
mod admission;
mod connect;
mod dialers;
mod dispatch;
mod drain;
mod early;
mod errand;
mod execute;
mod greet;
mod hand_over;
#[cfg(debug_assertions)]
mod invariants;
mod limit;
mod pause;
mod pick;
mod queue;
mod record;
mod renew;
mod roster;
mod run;
mod shared;
mod signer;
mod silence;
mod slots;
mod tls;
mod tls_away;
mod tls_bulk;
mod tls_dial;
mod tls_side;
mod tls_told;
mod tls_turns;
mod vats;
mod wanting;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub use accept::options_of;
pub use acceptors::ListenSocket;
pub use errand::Errand;
pub use shared::{GiveUp, Parts, Shared};

use crate::balance::line::Waiters;
use crate::base::id::BackendId;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::base::wheel::Wheel;
use crate::kernel::{Completion, Kernel};
use crate::roster::survey::Surveys;
use crate::session::Effects;
use crate::snapshot::cell::Reader;
use crate::snapshot::table::Phase;
use crate::stats::WorkerStats;
use crate::stats::record::EndReason;
use crate::sys::system;
use crate::tls::codec::BacklogPool;
use acceptors::Acceptors;
use dialers::Dialers;
use pause::Pauses;
use silence::Silence;
use slots::{SessionSlots, SlotKey};
use vats::Vats;

/// What a worker starts with.
pub struct WorkerSpec {
    /// Its number.
    pub index: usize,
    /// The CPU to stay on; `None` if the kernel chooses.
    pub cpu: Option<usize>,
    /// Of its random numbers.
    pub seed: u64,
    /// Its listening sockets.
    pub sockets: Vec<ListenSocket>,
    /// What all workers share.
    pub shared: Arc<Shared>,
}

/// One worker.
pub struct Worker<K: Kernel> {
    /// The ring, or epoll: what it submits to and waits in.
    kernel: K,
    /// Every session, by slot and generation.
    slots: SessionSlots,
    /// The deadlines of sessions.
    wheel: Wheel,
    /// Its listening sockets, and how many clients they may bring.
    acceptors: Acceptors,
    /// Which sessions are looked at because the kernel hides their resets.
    silence: Silence,
    /// Clients that wait for a backend, by pool.
    waiters: Waiters<SlotKey>,
    /// Requests about its sessions that are being answered, a slice per turn.
    surveys: Surveys,
    /// TLS to its backends.
    dialers: Dialers,
    /// What was put off.
    agenda: Agenda,
    /// What it has seen of the published tables.
    known: KnownTable,
    /// Buffers and budgets of the turn that runs; kept, so that a turn allocates nothing.
    turn: Turn,
    /// What all workers share.
    shared: Arc<Shared>,
    /// Its number, from 0.
    index: usize,
}

/// What waits for a turn, or for its moment.
struct Agenda {
    /// Halves that try something again later.
    pauses: Pauses,
    /// Halves in splice mode that wait for their turn.
    ready: VecDeque<(SlotKey, Side)>,
    /// Receives that found no buffer, oldest first.
    starved: VecDeque<(SlotKey, Side)>,
    /// Sessions that are to end, some in each turn.
    to_end: VecDeque<ToEnd>,
    /// Sessions whose backend or process has started to drain or has ceased to, some in each turn.
    to_drain: VecDeque<SlotKey>,
    /// Handshakes of TLS that a turn had no time for, oldest first.
    handshakes: VecDeque<(SlotKey, Side)>,
    /// Steps of handshakes that are being made on another thread.
    steps_away: usize,
    /// Handshakes that wait for one of those to be back, oldest first.
    unsigned: VecDeque<SlotKey>,
    /// Sessions for whose backend there is no descriptor.
    wanting: wanting::Wanting,
    /// When unused memory is given back next.
    housekeeping_at: Moment,
    /// Since when sessions hold every buffer while others wait for one; [`Moment::NEVER`] if they do not.
    exhausted_at: Moment,
}

/// A session that is to end, and why.
struct ToEnd {
    /// The session.
    key: SlotKey,
    /// The first letter of its termination code.
    who: Who,
    /// The `reason` in the access log.
    reason: EndReason,
    /// Its backend, if that is why: with another one it goes on.
    backend: Option<BackendId>,
}

/// What was taken over of the tables so far.
struct KnownTable {
    /// Pins the published table while a turn looks at it.
    reader: Reader,
    /// The table that was seen last.
    generation: u64,
    /// Whether the process serves, leaves, drains or stops, as of that table.
    phase: Phase,
    /// By backend id: its sessions are to end, as of that table, and have been ended.
    ended: Vec<bool>,
    /// By backend id: it drains, as of that table.
    drained: Vec<bool>,
    /// By backend id: until when its sessions had to make room, as of that table.
    yielded: Vec<Moment>,
}

/// What a turn works with.
struct Turn {
    /// The time of the turn: read once, after the wait.
    now: Moment,
    /// What the kernel has answered, in its order.
    batch: Vec<Completion>,
    /// What a session wants done; empty between two events.
    effects: Effects,
    /// For policies and jitter; seeded, so that a simulated run can be replayed.
    random: fastrand::Rng,
    /// Halves whose sends wait for the end of the turn.
    gathering: Vec<(SlotKey, Side)>,
    /// A quiet send must be heard of: the next wait is none.
    hurried: bool,
    /// Bytes of stalled pipes that this turn may still move into buffers.
    unload_budget: u32,
    /// How long this turn has spent on handshakes of TLS.
    handshakes_ns: u64,
    /// Memory for records of TLS that have not come whole.
    backlogs: BacklogPool,
    /// Memory for bulk that comes by TLS.
    vats: Vats,
    /// The bytes that a client has sent, while it is looked at; no memory before there is one that must say something.
    peeked: Vec<u8>,
    /// When the invariants are looked at next.
    #[cfg(debug_assertions)]
    watch: invariants::InvariantWatch,
}

impl<K: Kernel> Worker<K> {
    /// Nothing happens before [`Worker::start`].
    pub fn new(spec: WorkerSpec, kernel: K) -> Worker<K> {
        let shared = spec.shared;
        let now = kernel.now();
        let agenda = Agenda {
            pauses: Pauses::default(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            to_end: VecDeque::new(),
            to_drain: VecDeque::new(),
            handshakes: VecDeque::new(),
            steps_away: 0,
            unsigned: VecDeque::new(),
            wanting: wanting::Wanting::default(),
            housekeeping_at: now,
            exhausted_at: Moment::NEVER,
        };
        let known = KnownTable {
            reader: shared.cell.reader(),
            generation: 0,
            phase: Phase::Serving,
            ended: Vec::new(),
            drained: Vec::new(),
            yielded: Vec::new(),
        };
        let turn = Turn {
            now,
            batch: Vec::with_capacity(4096),
            effects: Effects::default(),
            random: fastrand::Rng::with_seed(spec.seed),
            gathering: Vec::new(),
            hurried: false,
            unload_budget: 0,
            handshakes_ns: 0,
            backlogs: BacklogPool::default(),
            vats: Vats::default(),
            peeked: Vec::new(),
            #[cfg(debug_assertions)]
            watch: invariants::InvariantWatch::default(),
        };
        Worker {
            kernel,
            slots: SessionSlots::default(),
            wheel: Wheel::new(now),
            acceptors: Acceptors::new(spec.sockets),
            silence: Silence::new(),
            waiters: Waiters::default(),
            surveys: Surveys::default(),
            dialers: Dialers::default(),
            agenda,
            known,
            turn,
            shared,
            index: spec.index,
        }
    }

    /// Its cells, which it alone writes.
    #[inline]
    fn stats(&self) -> &WorkerStats {
        &self.shared.stats.workers[self.index]
    }
}

/// Starts a worker and returns when it accepts, or cannot. `make_kernel` is called on its thread.
///
/// # Errors
/// There is no kernel for it, or no thread.
pub fn spawn<K: Kernel>(
    spec: WorkerSpec,
    make_kernel: impl FnOnce() -> io::Result<K> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (started, start) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("ringway-{}", spec.index))
        .spawn(move || run(spec, make_kernel, &started))?;
    match start.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("a worker stopped while it was starting")),
    }
}

fn run<K: Kernel>(
    spec: WorkerSpec,
    make_kernel: impl FnOnce() -> io::Result<K>,
    started: &mpsc::Sender<io::Result<()>>,
) {
    // A CPU that was taken away meanwhile costs speed, not service.
    if let Some(cpu) = spec.cpu {
        let _ = system::pin(cpu);
    }
    let kernel = match make_kernel() {
        Ok(kernel) => kernel,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut worker = Worker::new(spec, kernel);
    worker.start();
    let _ = started.send(Ok(()));
    worker.run();
}
