//! The thread beside a worker that makes steps of handshakes that take long: those with a signature by an RSA key, 0.3 ms
//! with 2048 bits and 2 ms with 4096, in which the worker serves thousands of small round trips.
//!
//! ```text
//! worker: ClientHello ─> Signer::push ─> [steps] ─> signer: Handshake::on ─> [answers] ─> bell ─> worker: goes on
//! ```
//!
//! Each worker has one of its own, so that as many signatures are made as if workers made them. It shares nothing with
//! it but two queues: the worker wakes it without a lock, and is woken by its bell. It stays on no CPU: where there is
//! an idle one the kernel has it there, else beside its worker, which comes first.
//!
//! Signers are started when the first listener has such a key ([`Shared::start_signers`]). As long as there is none (a
//! simulated worker has none) the worker makes the step itself.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};

use crossbeam::queue::SegQueue;

use super::shared::Shared;
use super::slots::SlotKey;
use crate::sys::system;
use crate::tls::Handshake;
use crate::tls::handshake::HandshakeStep;

/// How much lower than that of workers the priority of a signer is: it has a quarter of a CPU that they share.
const NICE: i32 = 5;

/// What a step of a handshake has come to.
pub struct StepAnswer {
    /// How far the handshake has come.
    pub step: HandshakeStep,
    /// What is to be sent.
    pub said: Vec<u8>,
}

impl StepAnswer {
    /// Tells a handshake what has come.
    pub fn of(handshake: Box<Handshake>, bytes: &[u8]) -> StepAnswer {
        let mut said = Vec::new();
        let step = handshake.on(bytes, &mut said);
        StepAnswer { step, said }
    }
}

impl fmt::Debug for StepAnswer {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepAnswer").field("said", &self.said.len()).finish_non_exhaustive()
    }
}

/// A step that is to be made.
pub(super) struct AwayStep {
    /// Of which session, which may end meanwhile.
    pub key: SlotKey,
    /// How far its handshake has come.
    pub handshake: Box<Handshake>,
    /// What has come since.
    pub bytes: Vec<u8>,
}

/// What goes between a worker and its signer. Neither queue holds more than [`AWAY_MAX`](super::tls_away::AWAY_MAX).
#[derive(Default)]
pub(super) struct Signer {
    /// From the worker.
    steps: SegQueue<AwayStep>,
    /// To the worker, which the bell wakes.
    answers: SegQueue<(SlotKey, StepAnswer)>,
    /// The signer, once it is started.
    thread: OnceLock<Thread>,
}

impl Signer {
    /// Whether there is one.
    pub fn is_running(&self) -> bool {
        self.thread.get().is_some()
    }

    /// Has it make a step.
    pub fn push(&self, step: AwayStep) {
        self.steps.push(step);
        self.wake();
    }

    /// The oldest answer that the worker has not taken.
    pub fn next_answer(&self) -> Option<(SlotKey, StepAnswer)> {
        self.answers.pop()
    }

    fn wake(&self) {
        self.thread.get().inspect(|thread| thread.unpark());
    }
}

impl Drop for Signer {
    /// It finds that nothing is left of what it worked for.
    fn drop(&mut self) {
        self.wake();
    }
}

impl Shared {
    /// Starts a signer for each worker that has none. To be called by one thread alone, which is pinned to no CPU and has
    /// the privileges that a signer is to have.
    ///
    /// # Errors
    /// There is no thread; that worker makes all of its steps itself.
    pub fn start_signers(self: &Arc<Shared>) -> io::Result<()> {
        for worker in 0..self.workers() {
            let signer = self.signer(worker);
            if !signer.is_running() {
                let shared = Arc::downgrade(self);
                let name = format!("ringway-tls-{worker}");
                let thread = thread::Builder::new().name(name).spawn(move || serve(&shared, worker))?;
                // Only this thread sets it.
                let _ = signer.thread.set(thread.thread().clone());
            }
        }
        Ok(())
    }
}

/// Makes the steps of a worker, as long as there is one.
fn serve(shared: &Weak<Shared>, worker: usize) {
    system::be_nice(NICE);
    while let Some(shared) = shared.upgrade() {
        let signer = shared.signer(worker);
        while let Some(AwayStep { key, handshake, bytes }) = signer.steps.pop() {
            signer.answers.push((key, StepAnswer::of(handshake, &bytes)));
            shared.bell(worker).ring();
        }
        drop(shared);
        thread::park();
    }
}
