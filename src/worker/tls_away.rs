//! Steps of clients' handshakes that another thread makes ([`signer`](super::signer)), so that sessions with bytes to
//! move do not wait for a signature.
//!
//! While a step is away, the bytes of its client stay in the kernel, and the session waits for its deadline. A session
//! that ends meanwhile is found gone when the answer comes, which is dropped. Few steps are away at a time: the others
//! wait here, so that none is made for a client that was given up while it waited.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use super::Worker;
use super::shared::Shared;
use super::signer::AwayStep;
use super::slots::SlotKey;
use super::tls_side::{ShakeTerms, StepAnswer, TlsAway, TlsSide};
use crate::base::side::Side;
use crate::kernel::Kernel;
use crate::session::Event;
use crate::sys::system;

/// How much lower than that of workers the priority of a signer is: it has a quarter of a CPU that they share.
const NICE: i32 = 5;

/// Steps of a worker that are away at a time: enough that its signer never waits for it.
pub(super) const AWAY_MAX: usize = 16;

/// Where the next step of a handshake stands.
pub(super) enum StepPlace {
    /// It was not started.
    Here,
    /// Another thread makes it.
    Away,
    /// It has come to this.
    Back(ShakeTerms, StepAnswer),
}

impl<K: Kernel> Worker<K> {
    /// Where the next step of a client's handshake stands. An answer is taken out.
    pub(super) fn step_place(&mut self, key: SlotKey) -> StepPlace {
        let side = self.slots.get_mut(key).map(|slot| &mut slot.tls[Side::Client.index()]);
        match side.and_then(|side| side.as_deref_mut()) {
            Some(TlsSide::Away(away)) => match away.answer.take() {
                Some(answer) => StepPlace::Back(away.terms, answer),
                None => StepPlace::Away,
            },
            _ => StepPlace::Here,
        }
    }

    /// Whether the next step of a client's handshake may take long, and is to be made on another thread.
    pub(super) fn goes_away(&self, key: SlotKey) -> bool {
        let side = self.slots.get(key).and_then(|slot| slot.tls[Side::Client.index()].as_deref());
        matches!(side, Some(TlsSide::Shaking(shake)) if shake.handshake.may_sign_slowly())
            && self.shared.signer(self.index).is_running()
    }

    /// Whether a step that goes away has to wait until another one is back.
    pub(super) fn waits_for_signer(&mut self, key: SlotKey) -> bool {
        let waits = self.agenda.steps_away >= AWAY_MAX;
        if waits
            && let Some(is_queued) = self.slots.get_mut(key).and_then(|slot| slot.handshake_waits(Side::Client))
            && !std::mem::replace(is_queued, true)
        {
            self.agenda.unsigned.push_back(key);
        }
        waits
    }

    /// Has another thread tell a client's handshake what has come.
    pub(super) fn send_away(&mut self, key: SlotKey, bytes: &[u8]) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let side = &mut slot.tls[Side::Client.index()];
        // The caller has found one.
        if let Some(TlsSide::Shaking(shake)) = side.take().map(|side| *side) {
            *side = Some(Box::new(TlsSide::Away(TlsAway { terms: shake.terms, answer: None })));
            self.agenda.steps_away += 1;
            let step = AwayStep { key, handshake: shake.handshake, bytes: bytes.to_vec() };
            self.shared.signer(self.index).push(step);
        }
    }

    /// Goes on with handshakes whose step is back, and with those that have waited for that. Called when another thread
    /// has woken this worker.
    pub(super) fn take_answers(&mut self) {
        while let Some((key, answer)) = self.shared.signer(self.index).next_answer() {
            self.agenda.steps_away -= 1;
            let side = self.slots.get_mut(key).and_then(|slot| slot.tls[Side::Client.index()].as_deref_mut());
            if let Some(TlsSide::Away(away)) = side {
                away.answer = Some(answer);
                self.look_at_step(key);
            }
        }
        while self.agenda.steps_away < AWAY_MAX
            && let Some(key) = self.agenda.unsigned.pop_front()
        {
            // It may have ended meanwhile.
            let is_queued = self.slots.get_mut(key).and_then(|slot| slot.handshake_waits(Side::Client));
            if is_queued.is_some_and(std::mem::take) {
                self.look_at_step(key);
            }
        }
    }

    /// Has the session of a client look at it, unless it is about to end.
    fn look_at_step(&mut self, key: SlotKey) {
        if self.slots.get(key).is_some_and(|slot| slot.session.is_prereading()) {
            self.tell(key, Event::Timer);
        }
    }
}

impl Shared {
    /// Starts a signer for each worker that has none. To be called by one thread alone, which is pinned to no CPU and
    /// has the privileges that a signer is to have.
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
                signer.is_on(thread.thread().clone());
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
        while let Some(AwayStep { key, handshake, bytes }) = signer.next_step() {
            signer.answer(key, StepAnswer::of(handshake, &bytes));
            shared.bell(worker).ring();
        }
        drop(shared);
        thread::park();
    }
}
