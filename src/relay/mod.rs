//! Moves the bytes of one session, both ways. Pure: it never sees a byte, only leases and pipes, and never a clock.
//!
//! A [`Relay`] is told what happened to its two connections and says what to do next. Each direction is a [`Half`],
//! named by the side it reads from.
//!
//! What holds at any time:
//!
//! - Bytes leave a half in the order they came in, each once. At most one send of a half is in flight.
//! - A half holds at most [`CREDIT`] bytes and one buffer in copy mode, and one pipe in splice mode.
//! - A FIN follows every byte before it. A connection that failed gets no FIN passed on: the session ends in a reset,
//!   after the bytes that came before the failure were delivered.
//! - Linux reports ECONNRESET once; the next receive returns 0, which looks like a clean end. So a failure seen by any
//!   operation on a connection is kept, and its end counts as a failure from then on.

mod half;
mod queue;
mod splice;

pub use half::Half;

use crate::base::lease::{Lease, Moved, PipeId};
use crate::base::side::Side;

/// Bytes that a half may hold in copy mode, give or take one buffer.
pub const CREDIT: u32 = 64 * 1024;

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
    /// A send to `side` is over. [`Moved::WouldBlock`] means that nothing was sent: it was cancelled or interrupted.
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
    /// The answer to [`Effect::Borrow`]: a pipe and the bytes it takes.
    Lent {
        /// Which half.
        half: Side,
        /// `None`: there is none.
        pipe: Option<(PipeId, u32)>,
    },
    /// It is the half's turn ([`Effect::Ready`]) to move about `budget` bytes.
    Turn {
        /// Which half.
        half: Side,
        /// Bytes.
        budget: u32,
    },
    /// The answer to [`Effect::Fill`].
    Filled {
        /// Which half.
        half: Side,
        /// How much.
        moved: Moved,
    },
    /// The answer to [`Effect::Drain`].
    Drained {
        /// Which half.
        half: Side,
        /// How much.
        moved: Moved,
    },
    /// Give back a pipe that has not been of use lately. To be said about once a second.
    Reclaim,
}

impl Event {
    /// Whether it says that bytes moved.
    #[inline]
    pub fn is_progress(&self) -> bool {
        match self {
            Event::Received { .. } => true,
            Event::Sent { moved, .. } | Event::Filled { moved, .. } | Event::Drained { moved, .. } => {
                matches!(moved, Moved::Bytes(1..))
            }
            _ => false,
        }
    }
}

/// Why a receive ended without bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The peer will send nothing more.
    Eof,
    /// No buffer was free. Not an error of the connection.
    Starved,
    /// It was cancelled.
    Cancelled,
    /// An errno.
    Failed(i32),
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
    /// Send the lease to `side`, answered by [`Event::Sent`].
    Send {
        /// Which connection.
        side: Side,
        /// What. It must not be released before the answer.
        lease: Lease,
    },
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
    /// Answer with [`Event::Fed`] when a buffer is free; in order of asking.
    Starve {
        /// Which connection.
        side: Side,
    },
    /// Send a FIN to `side`.
    Finish {
        /// Which connection.
        side: Side,
    },
    /// Lend a pipe, answered by [`Event::Lent`].
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
    /// Answer with [`Event::Turn`] when it is this half's turn.
    Ready {
        /// Which half.
        half: Side,
    },
    /// Splice from the half's source into the pipe, answered by [`Event::Filled`].
    Fill {
        /// Which half.
        half: Side,
        /// Where to.
        pipe: PipeId,
        /// At most so many bytes.
        len: u32,
    },
    /// Splice from the pipe into the half's destination, answered by [`Event::Drained`].
    Drain {
        /// Which half.
        half: Side,
        /// Where from.
        pipe: PipeId,
        /// At most so many bytes.
        len: u32,
    },
    /// Answer with [`Event::Readable`] when `side` can be read, has finished, or has urgent data.
    PollReadable {
        /// Which connection.
        side: Side,
    },
    /// Answer with [`Event::Writable`] when `side` can be written.
    PollWritable {
        /// Which connection.
        side: Side,
    },
    /// Cancel the poll for reading; it is answered all the same.
    CancelPoll {
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

/// How far a relay has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// There may be more.
    Running,
    /// Both streams were carried to their end.
    Finished,
    /// `by` failed, and what it had sent before is on its way: the other side is to be reset.
    Cut {
        /// The side that failed first.
        by: Side,
    },
}

/// Both halves of a session.
#[derive(Debug)]
pub struct Relay {
    halves: [Half; 2],
    failed: [bool; 2],
    first_failed: Option<Side>,
}

impl Relay {
    /// Nothing moves before [`Relay::open`].
    pub fn new() -> Relay {
        Relay { halves: [Half::new(Side::Client), Half::new(Side::Backend)], failed: [false; 2], first_failed: None }
    }

    /// The connection of `side` is there: it can be read from and written to from now on.
    pub fn open(&mut self, side: Side, out: &mut impl Sink) {
        self.half_mut(side.peer()).destination_opened(out);
        self.half_mut(side).source_opened(out);
    }

    /// Takes an event; pushes at most a handful of effects.
    #[inline]
    pub fn on(&mut self, event: Event, out: &mut impl Sink) {
        match event {
            Event::Received { side, lease, more, nonempty } => self.half_mut(side).received(lease, more, nonempty, out),
            Event::Sent { side, moved } => {
                let half = self.half_mut(side.peer());
                half.sent(moved, out);
                if let Moved::Failed(_) = moved {
                    self.fail(side, out);
                }
            }
            Event::Ended { side, end } => self.ended(side, end, out),
            Event::Fed { side } => self.half_mut(side).fed(out),
            Event::Readable { side } => self.half_mut(side).readable(out),
            Event::Writable { side } => self.half_mut(side.peer()).writable(out),
            Event::Lent { half, pipe } => self.half_mut(half).lent(pipe, out),
            Event::Turn { half, budget } => self.half_mut(half).turn(budget, out),
            Event::Filled { half, moved } => {
                self.half_mut(half).filled(moved, out);
                if let Moved::Failed(_) = moved {
                    self.fail(half, out);
                }
            }
            Event::Drained { half, moved } => {
                self.half_mut(half).drained(moved, out);
                if let Moved::Failed(_) = moved {
                    self.fail(half.peer(), out);
                }
            }
            Event::Reclaim => {
                for side in Side::BOTH {
                    self.half_mut(side).reclaim(out);
                }
            }
        }
        self.finish(out);
    }

    /// Gives everything up that is not in flight; nothing starts any more. What is in flight is released when its
    /// event comes.
    pub fn stop(&mut self, out: &mut impl Sink) {
        for half in &mut self.halves {
            half.stop(out);
        }
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        if let Some(by) = self.first_failed {
            // What the failed side had sent must reach the other one first; the other way there is nobody to reach.
            if self.half(by).is_over() {
                return Status::Cut { by };
            }
        } else if self.halves.iter().all(Half::is_over) {
            return Status::Finished;
        }
        Status::Running
    }

    /// Whether an operation of the relay is in flight on the connection of `side`.
    #[inline]
    pub fn is_in_flight(&self, side: Side) -> bool {
        self.half(side).is_source_in_flight() || self.half(side.peer()).is_destination_in_flight()
    }

    /// Whether bytes that came from `side` have not been handed to the other side's kernel.
    pub fn is_undelivered(&self, side: Side) -> bool {
        !self.half(side).is_drained()
    }

    /// Whether nothing more will be delivered of the stream from `side`, because of its end or of a failure.
    pub fn is_over(&self, side: Side) -> bool {
        self.half(side).is_over()
    }

    /// Whether the FIN of `side` was passed on, or will be by the close.
    pub fn is_finished(&self, side: Side) -> bool {
        self.half(side).is_finished()
    }

    /// Whether the end of the stream from `side` was seen.
    pub fn has_ended(&self, side: Side) -> bool {
        self.half(side).has_ended()
    }

    /// Whether `side` ever sent a byte.
    pub fn has_received(&self, side: Side) -> bool {
        self.half(side).has_received()
    }

    /// Whether a half has a pipe, which should be looked after with [`Event::Reclaim`].
    pub fn has_pipe(&self) -> bool {
        self.halves.iter().any(Half::is_splicing)
    }

    /// Whether the connection of `side` has failed.
    pub fn has_failed(&self, side: Side) -> bool {
        self.failed[side.index()]
    }

    /// The side whose connection failed first, if one has.
    pub fn first_failed(&self) -> Option<Side> {
        self.first_failed
    }

    fn ended(&mut self, side: Side, end: End, out: &mut impl Sink) {
        let end = match end {
            End::Eof if self.failed[side.index()] => End::Failed(0),
            end => end,
        };
        self.half_mut(side).ended(end, out);
        if let End::Failed(_) = end {
            self.fail(side, out);
        }
    }

    /// Nothing can be delivered to `side` any more. What it sent before may still be in its receive queue.
    fn fail(&mut self, side: Side, out: &mut impl Sink) {
        self.failed[side.index()] = true;
        self.first_failed.get_or_insert(side);
        self.half_mut(side.peer()).abandon(out);
    }

    /// Passes a FIN on, but for the last one: the close that follows sends it.
    #[inline]
    fn finish(&mut self, out: &mut impl Sink) {
        for side in Side::BOTH {
            let peer_is_over = self.half(side.peer()).is_over();
            self.half_mut(side).finish(peer_is_over, out);
        }
    }

    #[inline]
    fn half(&self, side: Side) -> &Half {
        &self.halves[side.index()]
    }

    #[inline]
    fn half_mut(&mut self, side: Side) -> &mut Half {
        &mut self.halves[side.index()]
    }
}

impl Default for Relay {
    fn default() -> Relay {
        Relay::new()
    }
}
