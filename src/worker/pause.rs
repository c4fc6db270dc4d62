//! Halves that wait a while before they try again: the kernel had no memory for an operation, or reported a socket as
//! ready and then refused.
//!
//! A session has one timer, which is for its time-outs, so these short waits (milliseconds) have a heap of their own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slots::SlotKey;
use crate::base::side::Side;
use crate::base::time::Moment;

/// When each half tries again, the earliest first: moment, place and generation of its session, and whether it is the
/// client's half.
#[derive(Default)]
pub(super) struct Pauses(BinaryHeap<Reverse<(Moment, u32, u32, bool)>>);

impl Pauses {
    /// Lets this half try again at that moment.
    pub fn add(&mut self, at: Moment, key: SlotKey, half: Side) {
        self.0.push(Reverse((at, key.index, key.generation, half == Side::Client)));
    }

    /// When the next one goes on; [`Moment::NEVER`] if none waits.
    #[inline]
    pub fn next(&self) -> Moment {
        self.0.peek().map_or(Moment::NEVER, |&Reverse((at, ..))| at)
    }

    /// Takes out one half whose moment has come. Its session may be over; the generation of the key tells.
    #[inline]
    pub fn due(&mut self, now: Moment) -> Option<(SlotKey, Side)> {
        if now < self.next() {
            return None;
        }
        let Reverse((_, index, generation, is_client)) = self.0.pop()?;
        Some((SlotKey { index, generation }, if is_client { Side::Client } else { Side::Backend }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_goes_on_at_its_moment_and_once() {
        let mut pauses = Pauses::default();
        let key = |index| SlotKey { index, generation: 7 };
        assert_eq!((pauses.next(), pauses.due(Moment(u64::MAX - 1))), (Moment::NEVER, None));
        pauses.add(Moment(30), key(1), Side::Client);
        pauses.add(Moment(10), key(2), Side::Backend);
        assert_eq!((pauses.next(), pauses.due(Moment(9))), (Moment(10), None));
        assert_eq!(pauses.due(Moment(10)), Some((key(2), Side::Backend)));
        assert_eq!(pauses.due(Moment(29)), None);
        assert_eq!(pauses.due(Moment(31)), Some((key(1), Side::Client)));
        assert_eq!(pauses.next(), Moment::NEVER);
    }
}
