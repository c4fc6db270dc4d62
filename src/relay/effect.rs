//! What a relay asks for.

use crate::base::lease::{Lease, PipeId};
use crate::base::side::Side;

/// An operation on a connection that stays in flight until something happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Armed {
    /// Of [`Effect::Recv`].
    Recv,
    /// Of [`Effect::PollReadable`].
    Readable,
    /// Of [`Effect::PollWritable`].
    Writable,
    /// Of [`Effect::PollHangup`].
    Hangup,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Receive from `side` until about `credit` bytes have come.
    Recv {
        /// Which connection.
        side: Side,
        /// Bytes, more than 0.
        credit: u32,
        /// Nothing has come yet: most likely nothing is there to be tried for.
        fresh: bool,
    },
    /// Send the lease to `side` without waiting for room, answered by `Event::Sent` soon.
    Send {
        /// Which connection.
        side: Side,
        /// What. It must not be released before the answer.
        lease: Lease,
        /// Nothing follows from its success: that answer may wait until something else happens.
        quiet: bool,
        /// More bytes are there, and the next send follows its answer.
        followed: bool,
    },
    /// A quiet send that was not answered yet has to be answered soon.
    Hurry,
    /// Copy the bytes of `from` behind those of `to`; there is room.
    Append {
        /// What.
        from: Lease,
        /// Where.
        to: Lease,
    },
    /// The buffer is free.
    Release {
        /// Its number.
        buffer: u16,
    },
    /// Answer with `Event::Fed` when a buffer is free; in order of asking.
    Starve {
        /// Which connection.
        side: Side,
    },
    /// Send the last word of the protocol below the bytes to `side`, of which the relay knows nothing else; before the
    /// FIN. Answered by `Event::Sent`, as a send.
    SayLast {
        /// Which connection.
        side: Side,
    },
    /// Send a FIN to `side`.
    Finish {
        /// Which connection.
        side: Side,
    },
    /// Lend a pipe, answered by `Event::Lent`.
    Borrow {
        /// Which half.
        half: Side,
    },
    /// Take the empty pipe back.
    GiveBack {
        /// Its number.
        pipe: PipeId,
    },
    /// Close the pipe with what is in it.
    Destroy {
        /// Its number.
        pipe: PipeId,
    },
    /// Answer with `Event::Gathered` at the end of the worker's turn.
    Gather {
        /// Which half.
        half: Side,
    },
    /// Answer with `Event::Turn` when it is this half's turn.
    Ready {
        /// Which half.
        half: Side,
    },
    /// Splice from the half's source into the pipe, answered by `Event::Filled`, or `Event::Opened` of a vat.
    Fill {
        /// Which half.
        half: Side,
        /// Where to.
        pipe: PipeId,
        /// At most so many bytes.
        len: u32,
    },
    /// Splice from the pipe into the half's destination, answered by `Event::Drained`.
    Drain {
        /// Which half.
        half: Side,
        /// Where from.
        pipe: PipeId,
        /// At most so many bytes.
        len: u32,
    },
    /// Move the next bytes of the pipe, up to a buffer of them, into a free buffer; answered by `Event::Unloaded`. Only
    /// the first one of a pipe may be refused: there must be buffers for all that is left, as bytes in buffers would
    /// be sent before those in the pipe, and the pipe not be free.
    Unload {
        /// Which half.
        half: Side,
        /// Where from.
        pipe: PipeId,
        /// Bytes in the pipe.
        left: u32,
    },
    /// Answer with `Event::Readable` when `side` can be read, has finished, or has urgent data.
    PollReadable {
        /// Which connection.
        side: Side,
    },
    /// Answer with `Event::Writable` when `side` can be written.
    PollWritable {
        /// Which connection.
        side: Side,
    },
    /// Answer with `Event::HungUp` when the connection of `side`, which has sent its FIN, is no more; in any case
    /// with `Event::HangupPolled` in the end.
    PollHangup {
        /// Which connection.
        side: Side,
    },
    /// Answer with `Event::Resumed` after that time.
    Pause {
        /// Which half.
        half: Side,
        /// Nanoseconds.
        for_ns: u64,
    },
    /// Cancel an operation in flight; it is answered all the same.
    Cancel {
        /// Which connection.
        side: Side,
        /// Which operation.
        armed: Armed,
    },
    /// Have what `side` has sent so far be all there is: a receive on it ends after that.
    StopReading {
        /// Which connection.
        side: Side,
    },
}

/// Takes effects in the order they must be carried out.
pub trait Sink {
    /// Appends one.
    fn push(&mut self, effect: Effect);
}

impl Sink for Vec<Effect> {
    fn push(&mut self, effect: Effect) {
        Vec::push(self, effect);
    }
}
