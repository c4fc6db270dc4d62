//! The two connections of a session.
//!
//! Arrays with one entry per side are indexed by [`Side::index`]: the client's comes first.

/// Which connection of a session. A half is named by the side it reads from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Side {
    /// The connection that was accepted.
    Client = 0,
    /// The connection that was made.
    Backend = 1,
}

impl Side {
    /// Both, for loops.
    pub const BOTH: [Side; 2] = [Side::Client, Side::Backend];

    /// The other one.
    #[inline]
    pub fn peer(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }

    /// As an array index.
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }
}
