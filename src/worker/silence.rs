//! Receives that the kernel has forgotten.
//!
//! A multishot receive that took in the last bytes of a connection does not look further: it waits for the next
//! wake-up. If a reset came together with those bytes, its wake-up was used up by them, and there is no other one
//! (seen on 6.18; a FIN is safe, because the kernel then says that there is more to read). So a receive that has been
//! silent for a moment is looked after once: if its connection is no more, it is cancelled and armed anew, which tells
//! what has happened. Connections that go on talking cost a comparison each [`LOOK_EVERY_NS`].

use super::Worker;
use super::slots::{Key, Slots};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::token::Operation;
use crate::kernel::{Kernel, Sockets};

const LOOK_EVERY_NS: u64 = 20_000_000;

/// Who is to be looked after.
pub(super) struct Silence {
    /// Each connection at most once: exactly those whose [`Slot::heard`](super::slots::Slot::heard) is not 0.
    watched: Vec<(Key, Side)>,
    /// Number of the interval between two looks; never 0.
    interval: u32,
    /// End of the interval; [`Moment::NEVER`] while nobody is watched.
    look_at: Moment,
}

impl Silence {
    pub fn new() -> Silence {
        Silence { watched: Vec::new(), interval: 1, look_at: Moment::NEVER }
    }

    pub fn look_at(&self) -> Moment {
        self.look_at
    }

    /// The connection was read empty, and its receive goes on.
    #[inline]
    pub fn heard(&mut self, slots: &mut Slots, key: Key, side: Side, now: Moment) {
        let Some(slot) = slots.get_mut(key) else { return };
        if std::mem::replace(&mut slot.heard[side.index()], self.interval) == 0 {
            self.watched.push((key, side));
            if self.look_at == Moment::NEVER {
                self.look_at = now.after_ns(LOOK_EVERY_NS);
            }
        }
    }
}

impl<K: Kernel> Worker<K> {
    /// To be called once a turn.
    #[inline]
    pub(super) fn look_after_silence(&mut self) {
        if self.now >= self.silence.look_at {
            self.look();
        }
    }

    fn look(&mut self) {
        let silence = &mut self.silence;
        silence.interval = silence.interval.wrapping_add(1).max(1);
        let (interval, slots, kernel) = (silence.interval, &mut self.slots, &mut self.kernel);
        silence.watched.retain(|&(key, side)| {
            let Some(slot) = slots.get_mut(key) else { return false };
            // At least one whole interval without a byte.
            let is_silent = interval.wrapping_sub(slot.heard[side.index()]) > 1;
            if is_silent {
                slot.heard[side.index()] = 0;
                if !slot.session.is_ending() && slot.fd(side).is_some_and(|fd| kernel.sockets().is_closed(fd)) {
                    kernel.cancel(key.token(Operation::recv(side)));
                }
            }
            !is_silent
        });
        silence.look_at = if silence.watched.is_empty() { Moment::NEVER } else { self.now.after_ns(LOOK_EVERY_NS) };
    }
}
