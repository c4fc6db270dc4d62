//! What a half is about, one value for what excludes each other.

/// How the stream from the source ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ByteSource {
    /// There may be more.
    Open,
    /// With a FIN.
    Eof,
    /// With a failure.
    Broken,
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

/// What is under way at the destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writing {
    Nothing,
    /// The front of the queue is being sent. `quiet`: that it was sent need not be heard before something else happens.
    Sending {
        quiet: bool,
    },
    /// A poll.
    Polling,
}
