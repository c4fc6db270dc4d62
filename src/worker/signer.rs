//! The thread beside a worker that makes steps of handshakes that take long: those with a signature by an RSA key,
//! 0.3 ms with 2048 bits and 2 ms with 4096, in which the worker would serve nothing else.
//!
//! ```text
//! worker: ClientHello ─> Signer::push ─> [steps] ─> signer: Handshake::on ─> [answers] ─> bell ─> worker: goes on
//! ```
//!
//! Each worker has one of its own, so that as many signatures are made as if workers made them. It shares nothing with
//! it but two queues: the worker wakes it without a lock, and is woken by its bell. It stays on no CPU: where there is
//! an idle one the kernel has it there, else beside its worker, which comes first.
//!
//! Signers are started when the first listener has such a key (`Shared::start_signers`). As long as there is none (a
//! simulated worker has none) the worker makes the step itself.

use std::sync::OnceLock;
use std::thread::Thread;

use crossbeam::queue::SegQueue;

use super::slots::SlotKey;
use super::tls_side::StepAnswer;
use crate::tls::Handshake;

/// A step that is to be made.
pub(super) struct AwayStep {
    /// Of which session, which may end meanwhile.
    pub key: SlotKey,
    /// How far its handshake has come.
    pub handshake: Box<Handshake>,
    /// What has come since.
    pub bytes: Vec<u8>,
}

/// What goes between a worker and its signer. Neither queue holds more than `AWAY_MAX`.
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

    /// Notes which thread it is. To be called by one thread alone.
    pub fn is_on(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// The oldest step that is to be made.
    pub fn next_step(&self) -> Option<AwayStep> {
        self.steps.pop()
    }

    /// Hands a step back.
    pub fn answer(&self, key: SlotKey, answer: StepAnswer) {
        self.answers.push((key, answer));
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
