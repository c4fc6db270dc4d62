//! Moves the bytes of one session, both ways. Pure: it never sees a byte, only leases and pipes, and never a clock.
//!
//! A [`Relay`] is told what happened to its two connections and says what to do next. Each direction is a [`Half`],
//! named by the side it reads from.
//!
//! What holds at any time:
//!
//! - Bytes leave a half in the order they came in, each once. At most one send of a half is in flight.
//! - A half holds at most [`CREDIT`] bytes and one buffer in copy mode, and one pipe in splice mode; or in copy mode
//!   what was in that pipe, and it receives nothing before that has gone down.
//! - A FIN follows every byte before it. A connection that failed gets no FIN passed on: the session ends in a reset,
//!   after the bytes that came before the failure were delivered.
//! - Linux reports ECONNRESET once; the next receive returns 0, which looks like a clean end. So a failure seen by any
//!   operation on a connection is kept, and its end counts as a failure from then on.

mod effect;
mod event;
mod half;
mod queue;
mod splice;
mod state;

pub use effect::{Armed, Effect, Sink};
pub use event::{Behind, End, Event};
pub use half::Half;
use state::Failed;

use crate::base::lease::Moved;
use crate::base::side::Side;

/// Before something is tried again that the kernel had no memory for, or that it called possible and refused; doubled
/// each time, up to [`PAUSE_MAX_NS`].
const PAUSE_NS: u64 = 1_000_000;
const PAUSE_MAX_NS: u64 = 1_000_000_000;

/// Bytes that a half may hold in copy mode, give or take one buffer.
pub const CREDIT: u32 = 64 * 1024;

/// How far a relay has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelayStatus {
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
    failed: Failed,
    /// Whose pipe is unloaded first where there are buffers for one: not of the half that there were too few for last.
    unloads_first: Side,
}

impl Relay {
    /// Nothing moves before [`Relay::open`].
    pub fn new() -> Relay {
        Relay {
            halves: [Half::new(Side::Client), Half::new(Side::Backend)],
            failed: Failed::None,
            unloads_first: Side::Client,
        }
    }

    /// The connection of `side` is there: it can be read from and written to from now on.
    pub fn open(&mut self, side: Side, out: &mut impl Sink) {
        self.half_mut(side.peer()).destination_opened(out);
        self.half_mut(side).source_opened(out);
        // The FIN may have come before there was a peer to pass it on to.
        self.finish(out);
    }

    /// What goes to `side` ends in a last word before the FIN ([`Effect::SayLast`]). To be called before it is open.
    pub fn speaks_last(&mut self, side: Side) {
        self.half_mut(side.peer()).owes_last_word();
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
            // After our own FIN nothing more is to reach it, so that it is gone says nothing.
            Event::HungUp { side } if self.half(side.peer()).is_finished() => {}
            Event::HungUp { side } => self.fail(side, out),
            Event::HangupPolled { side } => self.half_mut(side).hangup_polled(out),
            Event::Resumed { half } => self.half_mut(half).resumed(out),
            Event::Lent { half, pipe } => self.half_mut(half).lent(pipe, out),
            Event::Turn { half, budget } => self.half_mut(half).turn(budget, out),
            Event::Gathered { half } => self.half_mut(half).gathered(out),
            Event::Filled { half, moved } => {
                self.half_mut(half).filled(moved, out);
                if let Moved::Failed(_) = moved {
                    self.fail(half, out);
                }
            }
            Event::Opened { half, len, behind } => self.half_mut(half).opened(len, behind, out),
            Event::Drained { half, moved } => {
                self.half_mut(half).drained(moved, out);
                if let Moved::Failed(_) = moved {
                    self.fail(half.peer(), out);
                }
            }
            Event::Unloaded { half, lease } => {
                if lease.is_none() {
                    self.unloads_first = half.peer();
                }
                self.half_mut(half).unloaded(lease, out);
            }
            Event::Reclaim => {
                // One pipe is unloaded at a time, so that the buffers for all that is in it stay there meanwhile.
                let mut may_unload = true;
                for side in [self.unloads_first, self.unloads_first.peer()] {
                    may_unload &= !self.half_mut(side).reclaim(may_unload, out);
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

    /// Has the end of each connection noticed whose FIN has come: nothing is received there any more that would tell.
    /// To be called again now and then while a side has finished ([`Relay::is_unwatched`]).
    pub fn watch(&mut self, out: &mut impl Sink) {
        for side in Side::BOTH {
            if self.is_unwatched(side) {
                self.half_mut(side).watch(out);
            }
        }
    }

    /// Whether `side` has sent its FIN, may still be sent something, and nothing would tell of its end.
    pub fn is_unwatched(&self, side: Side) -> bool {
        let is_open = !self.failed.has(side) && !self.half(side.peer()).is_finished();
        is_open && self.half(side).has_unwatched_end()
    }

    /// How far it has come.
    pub fn status(&self) -> RelayStatus {
        if let Some(by) = self.failed.first() {
            // What the failed side had sent must reach the other one first; the other way there is no peer to reach.
            if self.half(by).is_over() {
                return RelayStatus::Cut { by };
            }
        } else if self.halves.iter().all(Half::is_over) {
            return RelayStatus::Finished;
        }
        RelayStatus::Running
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

    /// Whether it holds receive buffers.
    pub fn holds_buffers(&self) -> bool {
        self.halves.iter().any(Half::holds_buffers)
    }

    /// Receive buffers that it holds.
    pub fn leases(&self) -> usize {
        self.halves.iter().map(Half::leases).sum()
    }

    /// Pipes that it holds.
    pub fn pipes(&self) -> usize {
        self.halves.iter().filter(|half| half.is_splicing()).count()
    }

    /// What holds after each event.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        self.halves.iter().for_each(Half::check_invariants);
        let has_abandoned = |side: Side| !self.failed.has(side) || self.half(side.peer()).is_abandoned();
        assert!(Side::BOTH.into_iter().all(has_abandoned), "bytes are kept for a side that has failed");
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
        self.failed.has(side)
    }

    /// The side whose connection failed first, if one has.
    pub fn first_failed(&self) -> Option<Side> {
        self.failed.first()
    }

    /// A receive has ended without bytes.
    fn ended(&mut self, side: Side, end: End, out: &mut impl Sink) {
        let end = match end {
            End::Eof if self.failed.has(side) => End::Failed(0),
            end => end,
        };
        self.half_mut(side).ended(end, out);
        if let End::Failed(_) = end {
            self.fail(side, out);
        }
    }

    /// Nothing can be delivered to `side` any more. What it sent before may still be in its receive queue, and is read
    /// to its end. That there is one does not depend on what made us think that the connection has failed.
    fn fail(&mut self, side: Side, out: &mut impl Sink) {
        if !self.failed.has(side) && !self.half(side).has_ended() {
            out.push(Effect::StopReading { side });
        }
        self.failed = self.failed.and(side);
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

    /// The half whose bytes come from that side.
    #[inline]
    fn half(&self, side: Side) -> &Half {
        &self.halves[side.index()]
    }

    /// The same to change.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::Lease;

    fn tell(relay: &mut Relay, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        relay.on(event, &mut effects);
        effects
    }

    /// Else it might never take in the last bytes of the side that is gone.
    #[test]
    fn a_side_whose_other_side_is_gone_is_read_on_as_soon_as_what_was_too_much_is_given_back() {
        let (mut relay, mut effects, side) = (Relay::new(), Vec::new(), Side::Backend);
        Side::BOTH.into_iter().for_each(|side| relay.open(side, &mut effects));
        let lease = Lease { buffer: 7, start: 0, len: 1 };
        let too_much = Effect::Recv { side, credit: CREDIT - 1, fresh: false };
        let effects = tell(&mut relay, Event::Received { side, lease, more: false, nonempty: false });
        assert!(effects.contains(&too_much));
        assert_eq!(tell(&mut relay, Event::Ended { side, end: End::Scarce }), []);
        assert!(tell(&mut relay, Event::HungUp { side: Side::Client }).contains(&too_much));
        assert_eq!(tell(&mut relay, Event::Ended { side, end: End::Scarce }), []);
        let effects = tell(&mut relay, Event::Sent { side: Side::Client, moved: Moved::WouldBlock });
        assert_eq!(effects, [Effect::Release { buffer: 7 }, Effect::Recv { side, credit: CREDIT, fresh: false }]);
    }
}
