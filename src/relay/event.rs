//! What a relay is told.

use crate::base::lease::{Lease, Moved, PipeId};
use crate::base::side::Side;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// Bytes came from `side`.
    Received {
        /// Where from.
        side: Side,
        /// Where they are.
        lease: Lease,
        /// The receive stays armed.
        more: bool,
        /// There was still more to read.
        nonempty: bool,
    },
    /// The receive on `side` ended and brought nothing.
    Ended {
        /// Which connection.
        side: Side,
        /// Why.
        end: End,
    },
    /// A send to `side` is over. [`Moved::WouldBlock`] means that nothing was sent: there is no room.
    Sent {
        /// Where to.
        side: Side,
        /// How much of it.
        moved: Moved,
    },
    /// A buffer is free for the receive on `side`, which had found none.
    Fed {
        /// Which connection.
        side: Side,
    },
    /// A poll of `side` for reading is over, because it can be read or because the poll was cancelled.
    Readable {
        /// Which connection.
        side: Side,
    },
    /// A poll of `side` for writing is over.
    Writable {
        /// Which connection.
        side: Side,
    },
    /// The connection of `side` is no more (`Effect::PollHangup`). The poll may go on.
    HungUp {
        /// Which connection.
        side: Side,
    },
    /// The poll of `side` for its end (`Effect::PollHangup`) is over.
    HangupPolled {
        /// Which connection.
        side: Side,
    },
    /// The time of `Effect::Pause` has passed.
    Resumed {
        /// Which half.
        half: Side,
    },
    /// The turn of `Effect::Gather` is at its end.
    Gathered {
        /// Which half.
        half: Side,
    },
    /// The answer to `Effect::Borrow`: a pipe and the bytes it takes.
    Lent {
        /// Which half.
        half: Side,
        /// `None`: there is none.
        pipe: Option<(PipeId, u32)>,
    },
    /// It is the half's turn (`Effect::Ready`) to move about `budget` bytes.
    Turn {
        /// Which half.
        half: Side,
        /// Bytes.
        budget: u32,
    },
    /// The answer to `Effect::Fill`.
    Filled {
        /// Which half.
        half: Side,
        /// How much.
        moved: Moved,
    },
    /// The answer to `Effect::Fill` of a vat, where what comes is opened: it knows what the source still has.
    Opened {
        /// Which half.
        half: Side,
        /// Bytes that can be drained now; what has come may not be whole.
        len: u32,
        /// What the source has.
        behind: Behind,
    },
    /// The answer to `Effect::Drain`.
    Drained {
        /// Which half.
        half: Side,
        /// How much.
        moved: Moved,
    },
    /// The answer to `Effect::Unload`.
    Unloaded {
        /// Which half.
        half: Side,
        /// Where the bytes are now; `None` if buffers are scarce.
        lease: Option<Lease>,
    },
    /// Give back a pipe that has not been of use lately. To be said about once per second.
    Reclaim,
}

impl Event {
    /// Whether it says that bytes moved.
    #[inline]
    pub fn is_progress(&self) -> bool {
        match self {
            Event::Received { .. } | Event::Opened { len: 1.., .. } => true,
            Event::Sent { moved, .. } | Event::Filled { moved, .. } | Event::Drained { moved, .. } => {
                matches!(moved, Moved::Bytes(1..))
            }
            _ => false,
        }
    }
}

/// What is behind the bytes that were opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behind {
    /// Nothing has come yet.
    Nothing,
    /// There may be more.
    More,
    /// The end of the stream, a failure, or something else of which copy mode knows more.
    Other,
}

/// Why a receive ended without bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The peer will send nothing more.
    Eof,
    /// No buffer was free. Not an error of the connection.
    Starved,
    /// It was not even armed: buffers are so few that only a half that holds none gets one. It receives again when it
    /// has got rid of what it holds.
    Scarce,
    /// It was cancelled.
    Cancelled,
    /// The kernel could not do it, for want of memory. Not an error of the connection.
    Later,
    /// The connection is no more: an errno.
    Failed(i32),
}
