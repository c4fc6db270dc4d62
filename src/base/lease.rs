//! A part of a filled receive buffer, by number.

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
}
