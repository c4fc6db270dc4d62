//! The leases that a half holds, oldest first.

use crate::base::lease::Lease;

/// Most leases of a half. Credit (64 KiB and up to one buffer of overdraft) in buffers of 16 KiB, where any two
/// neighbours but the first two together fill more than one buffer, makes 1 + 2 * 5.
pub const LEASES_MAX: usize = 12;

/// A ring of leases, inline in the session.
#[derive(Debug)]
pub struct Queue {
    leases: [Lease; LEASES_MAX],
    first: u8,
    len: u8,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { leases: [Lease::default(); LEASES_MAX], first: 0, len: 0 }
    }
}

impl Queue {
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn front(&self) -> Option<Lease> {
        (self.len > 0).then(|| self.leases[self.first as usize])
    }

    #[inline]
    pub fn back(&self) -> Option<Lease> {
        (self.len > 0).then(|| self.leases[self.slot(self.len - 1)])
    }

    /// False if it is full.
    #[inline]
    pub fn push(&mut self, lease: Lease) -> bool {
        if self.len() == LEASES_MAX {
            return false;
        }
        let slot = self.slot(self.len);
        self.leases[slot] = lease;
        self.len += 1;
        true
    }

    /// The last lease has grown by `len` bytes.
    #[inline]
    pub fn extend_back(&mut self, len: u16) {
        debug_assert!(self.len > 0);
        let slot = self.slot(self.len - 1);
        self.leases[slot].len += len;
    }

    /// Takes `len` bytes off the first lease; returns its buffer if nothing of it is left.
    #[inline]
    pub fn consume(&mut self, len: u32) -> Option<u16> {
        let front = &mut self.leases[self.first as usize];
        debug_assert!(self.len > 0 && len <= u32::from(front.len));
        let len = len.min(u32::from(front.len)) as u16;
        front.start += len;
        front.len -= len;
        let buffer = front.buffer;
        (front.len == 0).then(|| {
            self.pop();
            buffer
        })
    }

    /// Takes the first lease out.
    pub fn pop(&mut self) -> Option<Lease> {
        let front = self.front()?;
        self.first = (self.first + 1) % LEASES_MAX as u8;
        self.len -= 1;
        Some(front)
    }

    /// Takes the last lease out.
    pub fn pop_back(&mut self) -> Option<Lease> {
        let back = self.back()?;
        self.len -= 1;
        Some(back)
    }

    #[inline]
    fn slot(&self, offset: u8) -> usize {
        (self.first as usize + offset as usize) % LEASES_MAX
    }
}
