//! The leases that a half holds, oldest first.

use std::collections::VecDeque;

use crate::base::lease::Lease;

/// Most leases that a half receives. Credit (64 KiB and up to one buffer of overdraft) in buffers of 16 KiB, where any
/// two neighbours but the first two together fill more than one buffer, makes 1 + 2 * 5.
pub const LEASES_MAX: usize = 12;

/// Leases in the session itself: one that is being sent, and one in which small messages gather meanwhile.
const INLINE: usize = 2;

/// Small messages need no memory of their own: only a third lease takes some, which goes back with the last such lease.
#[derive(Debug, Default)]
pub struct LeaseQueue {
    /// The oldest ones. A lease of no bytes is none.
    first: [Lease; INLINE],
    /// Bytes of all leases.
    bytes: u32,
    /// What comes after `first`; `None` if nothing does. In a box, because it is there rarely and would take four times
    /// the place of one.
    #[allow(clippy::box_collection)]
    rest: Option<Box<VecDeque<Lease>>>,
}

impl LeaseQueue {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        let inline = self.first.iter().filter(|lease| lease.len > 0).count();
        inline + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Bytes of all leases.
    #[inline]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first[0].len == 0
    }

    /// The oldest one.
    #[inline]
    pub fn front(&self) -> Option<Lease> {
        Some(self.first[0]).filter(|lease| lease.len > 0)
    }

    /// The newest one.
    #[inline]
    pub fn back(&self) -> Option<Lease> {
        match &self.rest {
            Some(rest) => rest.back().copied(),
            None => self.first.iter().rev().find(|lease| lease.len > 0).copied(),
        }
    }

    /// What holds between two calls.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        let leases = || self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()));
        let bytes: u32 = leases().map(|lease| u32::from(lease.len)).sum();
        assert_eq!(bytes, self.bytes, "bytes of all leases");
        let is_full = self.first.iter().all(|lease| lease.len > 0);
        assert!(self.rest.as_ref().is_none_or(|rest| is_full && !rest.is_empty()), "a hole among the leases");
    }

    /// Appends a lease, which has bytes.
    #[inline]
    pub fn push(&mut self, lease: Lease) {
        debug_assert!(lease.len > 0);
        self.bytes += u32::from(lease.len);
        match self.first.iter_mut().find(|place| place.len == 0) {
            Some(place) => *place = lease,
            None => self.rest.get_or_insert_default().push_back(lease),
        }
    }

    /// The last lease has grown by `len` bytes.
    #[inline]
    pub fn extend_back(&mut self, len: u16) {
        let back = match &mut self.rest {
            Some(rest) => rest.back_mut(),
            None => self.first.iter_mut().rev().find(|lease| lease.len > 0),
        };
        debug_assert!(back.is_some());
        if let Some(back) = back {
            back.len += len;
            self.bytes += u32::from(len);
        }
    }

    /// Takes `len` bytes off the first lease; returns its buffer if nothing of it is left.
    #[inline]
    pub fn consume(&mut self, len: u32) -> Option<u16> {
        let front = &mut self.first[0];
        debug_assert!(front.len > 0 && len <= u32::from(front.len));
        let len = len.min(u32::from(front.len)) as u16;
        front.start += len;
        front.len -= len;
        self.bytes -= u32::from(len);
        let (buffer, is_used_up) = (front.buffer, front.len == 0);
        is_used_up.then(|| {
            self.move_up();
            buffer
        })
    }

    /// Takes the last lease out.
    pub fn pop_back(&mut self) -> Option<Lease> {
        let back = match &mut self.rest {
            Some(rest) => rest.pop_back(),
            None => self.first.iter_mut().rev().find(|lease| lease.len > 0).map(std::mem::take),
        };
        self.free_rest();
        let back = back?;
        self.bytes -= u32::from(back.len);
        Some(back)
    }

    /// The first lease is used up.
    #[inline]
    fn move_up(&mut self) {
        self.first = [self.first[1], Lease::default()];
        if let Some(rest) = &mut self.rest {
            self.first[1] = rest.pop_front().unwrap_or_default();
            self.free_rest();
        }
    }

    /// Gives the memory of the third and later ones back, once they are gone.
    #[inline]
    fn free_rest(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16),
        Extend(u16),
        Consume(u16),
        PopBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u16..1000).prop_map(Step::Push),
            (1u16..1000).prop_map(Step::Extend),
            (1u16..2000).prop_map(Step::Consume),
            Just(Step::PopBack),
        ]
    }

    proptest! {
        /// Against a list.
        #[test]
        fn leases_come_out_in_the_order_they_went_in(steps in prop::collection::vec(step(), 1..80)) {
            let (mut queue, mut model) = (LeaseQueue::default(), VecDeque::<Lease>::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(len) => {
                        let lease = Lease { buffer: number as u16, start: 0, len };
                        queue.push(lease);
                        model.push_back(lease);
                    }
                    Step::Extend(len) if !model.is_empty() => {
                        queue.extend_back(len);
                        model.back_mut().unwrap().len += len;
                    }
                    Step::Consume(len) if !model.is_empty() => {
                        let front = model.front_mut().unwrap();
                        let len = len.min(front.len);
                        (front.start, front.len) = (front.start + len, front.len - len);
                        let used_up = (front.len == 0).then_some(front.buffer);
                        if used_up.is_some() {
                            model.pop_front();
                        }
                        prop_assert_eq!(queue.consume(u32::from(len)), used_up);
                    }
                    Step::PopBack => prop_assert_eq!(queue.pop_back(), model.pop_back()),
                    Step::Extend(_) | Step::Consume(_) => {}
                }
                let bytes: u32 = model.iter().map(|lease| u32::from(lease.len)).sum();
                prop_assert_eq!((queue.len(), queue.bytes()), (model.len(), bytes));
                prop_assert_eq!((queue.front(), queue.back()), (model.front().copied(), model.back().copied()));
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(queue.rest.is_some(), model.len() > INLINE, "memory is taken for a third lease only");
            }
        }
    }
}
