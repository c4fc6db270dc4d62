//! What a session borrows from its worker, by number: receive buffers and pipes.

/// Bytes in a receive buffer. Small messages do not care, 16 KiB messages take one send (docs/performance.md).
pub const BUFFER_LEN: usize = 16 * 1024;

/// Bytes `start .. start + len` of receive buffer `buffer`. Whoever holds the lease must release the buffer exactly
/// once; the bytes themselves are only known to `uring::buffers`.
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

/// Number of a pipe in its worker's pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PipeId(pub u16);

/// What an attempt to move bytes did, without waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moved {
    /// So many bytes, perhaps fewer than were asked for.
    Bytes(u32),
    /// None can move before the other end has done something.
    WouldBlock,
    /// None could move, for want of something of ours, such as memory. The connection is as it was: try again later.
    Later,
    /// None can move ever, because the connection is no more: an errno.
    Failed(i32),
}
