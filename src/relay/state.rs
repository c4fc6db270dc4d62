//! What a half is about, one value for what excludes each other.

use crate::base::side::Side;

/// How far the stream from the source has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ByteSource {
    /// Its connection is not there yet.
    Absent,
    /// There may be more.
    Open,
    /// It ended with a FIN, which the destination is still to get.
    Eof,
    /// It ended with a FIN, which was passed on, or will be by the close.
    PassedOn,
    /// It ended with a failure.
    Broken,
}

/// The last word that the destination is to get between the last byte and the FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LastWord {
    /// There is none.
    None,
    /// It was not said yet.
    Due,
    /// It is being said.
    Saying,
    /// It was said.
    Said,
}

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Course {
    /// They are delivered.
    Deliver,
    /// The destination cannot be reached any more: what comes in is thrown away.
    Discard,
    /// The session ends: nothing starts any more, and what comes in all the same is thrown away.
    Stop,
}

/// What is under way at the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadState {
    Nothing,
    /// A receive is armed.
    Armed,
    /// A receive waits for a buffer.
    Starved,
    /// A pipe was asked for, and the answer has not come.
    Borrowing,
    /// A poll.
    Polling,
}

/// What is under way at the destination. `promised`: a poll said that it has room, and nothing was sent since.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writing {
    /// Its connection is not there yet.
    Absent,
    Nothing {
        promised: bool,
    },
    /// What has come waits for what comes with it in this turn.
    Gathering {
        promised: bool,
    },
    /// The front of the queue is being sent. `quiet`: that it was sent need not be heard before something else happens.
    Sending {
        quiet: bool,
        promised: bool,
    },
    /// A poll.
    Polling,
}

/// Which of the two connections have failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    None,
    One(Side),
    Both { first: Side },
}

impl Failed {
    #[inline]
    pub fn has(self, side: Side) -> bool {
        match self {
            Failed::None => false,
            Failed::One(one) => one == side,
            Failed::Both { .. } => true,
        }
    }

    #[inline]
    pub fn first(self) -> Option<Side> {
        match self {
            Failed::None => None,
            Failed::One(first) | Failed::Both { first } => Some(first),
        }
    }

    /// That side has failed, too.
    pub fn and(self, side: Side) -> Failed {
        match self {
            Failed::None => Failed::One(side),
            Failed::One(first) if first != side => Failed::Both { first },
            same => same,
        }
    }
}
