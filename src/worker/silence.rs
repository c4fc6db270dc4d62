//! Receives that the kernel does not wake any more.
//!
//! A multishot receive that took in the last bytes of a connection waits for the next wake-up before it looks again. If
//! a reset came together with those bytes, its wake-up was used up by them, and there is no other one (seen on Linux
//! 6.18; a FIN is safe, because the kernel then says that there is more to read). So a receive that has been silent for
//! a moment is checked once: if its connection is closed, the receive is cancelled and armed again, and then it reports
//! what has happened. Connections that go on talking cost one comparison per [`LOOK_EVERY_NS`].
//!
//! The check belongs to connections, not to sessions: `heard` in a slot holds the interval in which a side was read
//! empty last, and 0 means that nothing is to be checked.

use super::Worker;
use super::slots::{SessionSlots, SlotKey};
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::kernel::token::Operation;
use crate::kernel::{Kernel, Sockets};

/// Length of an interval. A silent connection is checked after one to two of them.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// Which connections are to be checked.
pub(super) struct Silence {
    /// Each connection at most once: exactly those whose [`Slot::heard`](super::slots::Slot::heard) is not 0.
    watched: Vec<(SlotKey, Side)>,
    /// Number of the interval between two looks; never 0.
    interval: u32,
    /// End of the interval; [`Moment::NEVER`] while no connection is watched.
    look_at: Moment,
}

impl Silence {
    /// Nothing is watched yet.
    pub fn new() -> Silence {
        Silence { watched: Vec::new(), interval: 1, look_at: Moment::NEVER }
    }

    /// When the interval ends; [`Moment::NEVER`] while no connection is watched.
    pub fn look_at(&self) -> Moment {
        self.look_at
    }

    /// Notes that the connection was read empty and that its receive goes on.
    #[inline]
    pub fn heard(&mut self, slots: &mut SessionSlots, key: SlotKey, side: Side, now: Moment) {
        let Some(slot) = slots.get_mut(key) else { return };
        if std::mem::replace(&mut slot.heard[side.index()], self.interval) == 0 {
            self.watched.push((key, side));
            if self.look_at == Moment::NEVER {
                self.look_at = now.after_ns(LOOK_EVERY_NS);
            }
        }
    }

    /// Ends the interval. Returns the connections that were silent for at least one whole interval, and watches them no
    /// more.
    fn look(&mut self, slots: &mut SessionSlots, now: Moment) -> Vec<(SlotKey, Side)> {
        self.interval = self.interval.wrapping_add(1).max(1);
        let (interval, mut silent) = (self.interval, Vec::new());
        self.watched.retain(|&(key, side)| {
            let Some(slot) = slots.get_mut(key) else { return false };
            let is_silent = interval.wrapping_sub(slot.heard[side.index()]) > 1;
            if is_silent {
                slot.heard[side.index()] = 0;
                silent.push((key, side));
            }
            !is_silent
        });
        self.look_at = if self.watched.is_empty() { Moment::NEVER } else { now.after_ns(LOOK_EVERY_NS) };
        silent
    }
}

impl<K: Kernel> Worker<K> {
    /// Checks silent connections if the interval is over. Called once per turn.
    #[inline]
    pub(super) fn look_after_silence(&mut self) {
        if self.turn.now >= self.silence.look_at() {
            self.look_after_silent_ones();
        }
    }

    /// Cancels the receives of silent connections that are closed. `dispatch` arms them again, which reports the end.
    fn look_after_silent_ones(&mut self) {
        for (key, side) in self.silence.look(&mut self.slots, self.turn.now) {
            let Some(slot) = self.slots.get(key).filter(|slot| !slot.session.is_ending()) else { continue };
            if let Some(fd) = slot.fd(side).filter(|&fd| self.kernel.sockets().is_closed(fd)) {
                self.kernel.cancel(fd, key.token(Operation::recv(side)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Fd;
    use crate::session::{Session, SessionLimits};
    use crate::worker::slots::Slot;

    #[test]
    fn a_connection_is_looked_after_once_after_a_whole_silent_interval() {
        let (mut slots, mut silence, start) = (SessionSlots::default(), Silence::new(), Moment(1));
        let [quiet, busy] = [3, 4].map(|fd| {
            let make =
                |generation| Slot::new(Session::new(SessionLimits::default(), 0, start), Fd(fd), generation, start);
            slots.insert(make)
        });
        assert_eq!(silence.look_at(), Moment::NEVER);
        silence.heard(&mut slots, quiet, Side::Client, start);
        silence.heard(&mut slots, busy, Side::Backend, start);
        let mut now = silence.look_at();
        assert_eq!((now, silence.look(&mut slots, now)), (start.after_ns(LOOK_EVERY_NS), vec![]), "not a whole one");
        silence.heard(&mut slots, busy, Side::Backend, now);
        now = silence.look_at();
        assert_eq!(silence.look(&mut slots, now), [(quiet, Side::Client)]);
        slots.remove(busy);
        now = silence.look_at();
        assert_eq!((silence.look(&mut slots, now), silence.look_at()), (vec![], Moment::NEVER), "it is gone");
    }
}
