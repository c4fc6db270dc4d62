//! Splice mode of a half: bytes of a bulk stream go from socket to pipe to socket without being copied.
//!
//! A half takes turns with the other bulk halves of its worker, so that small sessions do not wait behind it. In a
//! turn it fills the pipe and drains it until its budget is used up or a socket has had enough; then it waits for that
//! socket. Only an empty pipe goes back. The end of a stream, a failure and urgent data (which stalls splice for ever)
//! are all left to copy mode: the half goes back and receives, which tells the truth about each.

use super::half::Half;
use super::{Armed, Effect, Sink};
use crate::base::lease::{Moved, PipeId};

/// A turn that moved less is not worth a pipe...
const SMALL_TURN: u32 = 16 * 1024;
/// ...if so many such turns come in a row.
const SMALL_TURNS_MAX: u8 = 8;
/// A source that gave less than this at once has most likely no more: ask the poll, not the socket.
const DRY_BELOW: u32 = 512 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Splice {
    pipe: PipeId,
    capacity: u32,
    /// Bytes in the pipe.
    held: u32,
    /// Bytes that this turn may still take in.
    budget: u32,
    /// Bytes that this turn has taken in.
    turn_bytes: u32,
    small_turns: u8,
    /// The source may have bytes.
    source_ready: bool,
    /// The destination may have room.
    destination_ready: bool,
    /// The source will be read by copy mode, as soon as the pipe is empty.
    leaving: bool,
    /// The last turn came from a poll that said the source can be read.
    woken: bool,
    /// Nothing moved since the last look.
    idle: bool,
}

impl Splice {
    pub(super) fn new(pipe: PipeId, capacity: u32) -> Splice {
        Splice {
            pipe,
            capacity,
            held: 0,
            budget: 0,
            turn_bytes: 0,
            small_turns: 0,
            source_ready: true,
            destination_ready: true,
            leaving: false,
            woken: false,
            idle: false,
        }
    }

    #[inline]
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn pipe(&self) -> PipeId {
        self.pipe
    }

    /// The destination may have room, in spite of what it said.
    pub(super) fn try_destination(&mut self) {
        self.destination_ready = true;
    }

    /// Bytes to take in next, 0 for none.
    fn intake(&self) -> u32 {
        // Only into an empty pipe: a destination that is slower than its source shall stop it, not fill the pipe.
        if self.leaving || !self.source_ready || self.held > 0 { 0 } else { self.capacity.min(self.budget) }
    }
}

impl Half {
    pub(super) fn turn(&mut self, budget: u32, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        splice.budget = budget;
        splice.turn_bytes = 0;
        self.step(out);
    }

    /// The next call of this turn, or its end.
    fn step(&mut self, out: &mut impl Sink) {
        let half = self.side();
        let Some(splice) = &self.splice else { return };
        let (pipe, held) = (splice.pipe, splice.held);
        if held > 0 && splice.destination_ready {
            out.push(Effect::Drain { half, pipe, len: held });
            return;
        }
        match splice.intake() {
            0 => self.end_turn(out),
            len => out.push(Effect::Fill { half, pipe, len }),
        }
    }

    pub(super) fn filled(&mut self, moved: Moved, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        match moved {
            // A FIN most likely, but 0 without one has been seen: copy mode will find out.
            // What splice cannot do for want of memory, it may be able to.
            Moved::Bytes(0) | Moved::Later | Moved::Failed(_) => splice.leaving = true,
            Moved::Bytes(len) => {
                splice.held += len;
                splice.turn_bytes += len;
                splice.budget = splice.budget.saturating_sub(len);
                splice.source_ready = len >= DRY_BELOW;
                splice.woken = false;
                splice.idle = false;
            }
            Moved::WouldBlock => {
                splice.source_ready = false;
                // The poll said that there is something, and splice says that there is nothing: urgent data.
                splice.leaving |= splice.woken;
            }
        }
        self.step(out);
    }

    pub(super) fn drained(&mut self, moved: Moved, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        match moved {
            Moved::Bytes(len) => {
                splice.destination_ready = len == splice.held;
                splice.held -= len.min(splice.held);
                splice.idle = false;
                (self.refusals, self.room_promised) = (0, false);
            }
            Moved::WouldBlock => splice.destination_ready = false,
            Moved::Later => {
                splice.destination_ready = false;
                self.pause(out);
                return;
            }
            // The relay abandons this half.
            Moved::Failed(_) => return,
        }
        self.step(out);
    }

    /// Waits for whoever has had enough, or for the next turn, or goes back to copy mode.
    fn end_turn(&mut self, out: &mut impl Sink) {
        let half = self.side();
        let Some(splice) = &mut self.splice else { return };
        let small = splice.turn_bytes < SMALL_TURN && splice.held == 0;
        splice.small_turns = if small { splice.small_turns + 1 } else { 0 };
        splice.leaving |= splice.small_turns >= SMALL_TURNS_MAX;
        if splice.held > 0 {
            if splice.destination_ready {
                out.push(Effect::Ready { half });
            } else {
                self.await_room(out);
            }
        } else if splice.leaving {
            self.leave_splice(out);
        } else if splice.source_ready {
            out.push(Effect::Ready { half });
        } else {
            self.polling_source = true;
            out.push(Effect::PollReadable { side: half });
        }
    }

    pub(super) fn readable(&mut self, out: &mut impl Sink) {
        self.polling_source = false;
        let Some(splice) = &mut self.splice else {
            self.proceed(out);
            return;
        };
        if splice.leaving {
            self.leave_splice(out);
            return;
        }
        splice.source_ready = true;
        splice.woken = true;
        out.push(Effect::Ready { half: self.side() });
    }

    pub(super) fn writable(&mut self, out: &mut impl Sink) {
        self.polling_destination = false;
        self.room_promised = true;
        let Some(splice) = &mut self.splice else { return self.proceed(out) };
        splice.destination_ready = true;
        // What the poll of the source said may be long ago.
        splice.woken = false;
        out.push(Effect::Ready { half: self.side() });
    }

    /// Leaves splice mode if nothing has moved for two looks and the pipe is empty.
    pub(super) fn reclaim(&mut self, out: &mut impl Sink) {
        let side = self.side();
        let waiting = self.polling_source && !self.is_stopped();
        let Some(splice) = &mut self.splice else { return };
        if !waiting || splice.held > 0 {
            return;
        }
        if splice.idle && !splice.leaving {
            splice.leaving = true;
            out.push(Effect::Cancel { side, armed: Armed::Readable });
        }
        splice.idle = true;
    }
}
