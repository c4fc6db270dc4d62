//! What a session borrows from its worker, by number: receive buffers and pipes.

/// Bytes in a receive buffer. For small messages the size does not matter; messages of 16 KiB need one send
/// (docs/performance.md).
pub const BUFFER_LEN: usize = 16 * 1024;

/// Bytes `start .. start + len` of receive buffer `buffer`. The holder of the lease must release the buffer exactly
/// once. Only `uring::buffers` knows the bytes themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lease {
    /// Number of the buffer in its worker's pool.
    pub buffer: u16,
    /// First byte.
    pub start: u16,
    /// Number of bytes.
    pub len: u16,
}

impl Lease {
    /// One past the last byte.
    #[inline]
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// Bytes of the buffer behind the lease.
    #[inline]
    pub fn room(self) -> usize {
        BUFFER_LEN - self.end()
    }
}

/// Number of a pipe in its worker's pool, or of a vat, which is the same in memory of the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PipeId(pub u16);

impl PipeId {
    /// The numbers of vats begin here: there are far fewer pipes.
    const VATS: u16 = 1 << 15;

    /// The vat of that number.
    pub fn of_vat(number: u16) -> PipeId {
        PipeId(PipeId::VATS | number)
    }

    /// The number of a vat; `None` of a pipe.
    #[inline]
    pub fn vat(self) -> Option<usize> {
        (self.0 >= PipeId::VATS).then(|| usize::from(self.0 - PipeId::VATS))
    }
}

/// What an attempt to move bytes did, without waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moved {
    /// This many bytes, perhaps fewer than were asked for.
    Bytes(u32),
    /// None can move before the other end has done something.
    WouldBlock,
    /// No byte moved, because this host lacks something, such as memory. The connection is as it was: try again later.
    Later,
    /// No byte can ever move again, because the connection is broken: an errno.
    Failed(i32),
}
