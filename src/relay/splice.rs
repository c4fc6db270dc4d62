//! Splice mode of a half: bytes of a bulk stream go from socket to pipe to socket without being copied.
//!
//! A half takes turns with the other bulk halves of its worker, so that small sessions do not wait behind it. In a
//! turn it fills the pipe and drains it until its budget is used up or a socket has had enough; then it waits for that
//! socket. Only an empty pipe goes back. The end of a stream, a failure and urgent data (which stalls splice for ever)
//! are all left to copy mode: the half goes back and receives, which tells the truth about each.
//!
//! Pipes are few, and what is in them is kernel memory. So a half takes in little at first, and twice as much each time
//! that all of it was drained. A half whose destination takes nothing for a second or two loses its pipe: what is in it
//! is moved into buffers, and the half goes back to copy mode with them.
//!
//! Where the source speaks TLS and the destination does not, the pipe is one of the worker (a vat), in which what comes
//! is opened. Nothing else is different, but that a vat knows what is left at the source ([`Behind`]).

use super::half::Half;
use super::{Armed, Behind, Effect, Sink};
use crate::base::lease::{Lease, Moved, PipeId};

/// A turn that moved less is not worth a pipe...
const SMALL_TURN: u32 = 16 * 1024;
/// ...if so many such turns come in a row.
const SMALL_TURNS_MAX: u8 = 8;
/// A source that gave less than this in one read has most likely no more: ask the poll, not the socket.
const DRY_BELOW: u32 = 512 * 1024;
/// What a half takes in at first, and at the least.
pub(super) const WINDOW_MIN: u32 = 128 * 1024;

/// The splice mode of a half: its pipe, what is in it, and what is under way.
#[derive(Debug)]
pub struct Splice {
    pipe: PipeId,
    capacity: u32,
    /// Bytes that it takes in with one splice, at the most.
    window: u32,
    /// Bytes that were asked for last.
    asked: u32,
    /// Bytes in the pipe.
    held: u32,
    /// Bytes that this turn may still take in.
    budget: u32,
    /// Bytes that this turn has taken in.
    turn_bytes: u32,
    small_turns: u8,
    source: PipeSource,
    /// The destination may have room. Independent of the source: each socket says for itself that it has had enough.
    destination_ready: bool,
    /// Nothing moved since the last look. Independent of what the sockets said.
    idle: bool,
}

/// What is known of the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PipeSource {
    /// It has nothing now.
    Dry,
    /// It may have bytes.
    Ready,
    /// It may have bytes: this turn comes from a poll that found it readable.
    Woken,
    /// Copy mode reads it, as soon as the pipe is empty.
    Left,
}

impl Splice {
    /// In splice mode with an empty pipe, which takes `capacity` bytes.
    pub(super) fn new(pipe: PipeId, capacity: u32) -> Splice {
        Splice {
            pipe,
            capacity,
            window: WINDOW_MIN.min(capacity),
            asked: 0,
            held: 0,
            budget: 0,
            turn_bytes: 0,
            small_turns: 0,
            source: PipeSource::Ready,
            destination_ready: true,
            idle: false,
        }
    }

    /// Bytes in the pipe.
    #[inline]
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// The pipe.
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
        let may_have = matches!(self.source, PipeSource::Ready | PipeSource::Woken);
        if may_have && self.held == 0 { self.window.min(self.budget) } else { 0 }
    }

    /// The source was read. One that is left stays so.
    fn source_told(&mut self, source: PipeSource) {
        if self.source != PipeSource::Left {
            self.source = source;
        }
    }

    /// `len` bytes have come into the pipe.
    fn taken_in(&mut self, len: u32) {
        self.held += len;
        self.turn_bytes += len;
        self.budget = self.budget.saturating_sub(len);
        self.idle = false;
    }

    /// `len` bytes have left the pipe.
    fn moved_out(&mut self, len: u32) {
        self.destination_ready = len == self.held;
        if self.destination_ready {
            self.window = (self.window * 2).min(self.capacity);
        }
        self.held -= len.min(self.held);
        self.idle = false;
    }
}

impl Half {
    /// It may move about `budget` bytes.
    pub(super) fn turn(&mut self, budget: u32, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        splice.budget = budget;
        splice.turn_bytes = 0;
        self.step(out);
    }

    /// The next call of this turn, or its end.
    fn step(&mut self, out: &mut impl Sink) {
        let half = self.side();
        let Some(splice) = &mut self.splice else { return };
        let (pipe, held) = (splice.pipe, splice.held);
        if held > 0 && splice.destination_ready {
            out.push(Effect::Drain { half, pipe, len: held });
            return;
        }
        match splice.intake() {
            0 => self.end_turn(out),
            len => {
                splice.asked = len;
                out.push(Effect::Fill { half, pipe, len });
            }
        }
    }

    /// The splice from the source is over.
    pub(super) fn filled(&mut self, moved: Moved, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        match moved {
            // A FIN most likely, but 0 without one has been seen: copy mode will find out.
            // What splice cannot do for want of memory, it may be able to.
            Moved::Bytes(0) | Moved::Later | Moved::Failed(_) => splice.source = PipeSource::Left,
            Moved::Bytes(len) => {
                splice.taken_in(len);
                let has_more = len >= DRY_BELOW.min(splice.asked);
                splice.source_told(if has_more { PipeSource::Ready } else { PipeSource::Dry });
            }
            // The poll said that there is something, and splice says that there is nothing: urgent data.
            Moved::WouldBlock if splice.source == PipeSource::Woken => splice.source = PipeSource::Left,
            Moved::WouldBlock => splice.source_told(PipeSource::Dry),
        }
        self.step(out);
    }

    /// So many bytes are in the vat.
    pub(super) fn opened(&mut self, len: u32, behind: Behind, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        splice.taken_in(len);
        // To open bytes and to copy them takes longer than to splice them.
        splice.budget = splice.budget.saturating_sub(len);
        splice.source_told(match behind {
            Behind::Nothing => PipeSource::Dry,
            Behind::More => PipeSource::Ready,
            Behind::Other => PipeSource::Left,
        });
        self.step(out);
    }

    /// The splice into the destination is over.
    pub(super) fn drained(&mut self, moved: Moved, out: &mut impl Sink) {
        let Some(splice) = &mut self.splice else { return };
        match moved {
            Moved::Bytes(len) => {
                splice.moved_out(len);
                self.has_drained();
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

    /// Waits for the side that cannot go on, or for the next turn, or goes back to copy mode.
    fn end_turn(&mut self, out: &mut impl Sink) {
        let half = self.side();
        let Some(splice) = &mut self.splice else { return };
        let small = splice.turn_bytes < SMALL_TURN && splice.held == 0;
        splice.small_turns = if small { splice.small_turns + 1 } else { 0 };
        if splice.small_turns >= SMALL_TURNS_MAX {
            splice.source = PipeSource::Left;
        }
        match (splice.held, splice.source) {
            (1.., _) if splice.destination_ready => out.push(Effect::Ready { half }),
            (1.., _) => self.await_room(out),
            (0, PipeSource::Left) => self.leave_splice(out),
            (0, PipeSource::Ready | PipeSource::Woken) => out.push(Effect::Ready { half }),
            (0, PipeSource::Dry) => self.poll_source(out),
        }
    }

    /// The poll of the source is over.
    pub(super) fn readable(&mut self, out: &mut impl Sink) {
        self.source_polled();
        let Some(splice) = &mut self.splice else {
            self.proceed(out);
            return;
        };
        if splice.source == PipeSource::Left {
            self.leave_splice(out);
            return;
        }
        splice.source = PipeSource::Woken;
        out.push(Effect::Ready { half: self.side() });
    }

    /// The poll of the destination is over.
    pub(super) fn writable(&mut self, out: &mut impl Sink) {
        self.destination_polled();
        let Some(splice) = &mut self.splice else { return self.proceed(out) };
        splice.destination_ready = true;
        // What the poll of the source said may be long ago.
        if splice.source == PipeSource::Woken {
            splice.source = PipeSource::Ready;
        }
        out.push(Effect::Ready { half: self.side() });
    }

    /// A look, about once per second. Leaves splice mode if nothing has moved since the look before: if the pipe is not
    /// empty, by [`Effect::Unload`]; returns whether it asks for that.
    pub(super) fn reclaim(&mut self, may_unload: bool, out: &mut impl Sink) -> bool {
        let (side, is_stuck) = (self.side(), self.is_stuck());
        let is_waiting = self.is_polling_source() && !self.is_stopped();
        let Some(splice) = &mut self.splice else { return false };
        // Otherwise its turn is to come.
        if !(if splice.held > 0 { is_stuck } else { is_waiting }) {
            return false;
        }
        if !std::mem::replace(&mut splice.idle, true) {
            return false;
        }
        splice.window = (splice.window / 2).max(WINDOW_MIN.min(splice.capacity));
        let (pipe, left) = (splice.pipe, splice.held);
        if left > 0 && may_unload {
            out.push(Effect::Unload { half: side, pipe, left });
            return true;
        }
        if left == 0 && splice.source != PipeSource::Left {
            splice.source = PipeSource::Left;
            out.push(Effect::Cancel { side, armed: Armed::Readable });
        }
        false
    }

    /// The next bytes of the pipe are in a buffer. `None`: there is none to spare, which is only said at the beginning.
    pub(super) fn unloaded(&mut self, lease: Option<Lease>, out: &mut impl Sink) {
        let half = self.side();
        let Some(lease) = lease else { return self.not_unloaded(out) };
        let Some(splice) = &mut self.splice else {
            return out.push(Effect::Release { buffer: lease.buffer });
        };
        splice.held -= u32::from(lease.len).min(splice.held);
        let (pipe, left) = (splice.pipe, splice.held);
        self.keep(lease);
        match left {
            0 => self.leave_splice(out),
            left => out.push(Effect::Unload { half, pipe, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::BUFFER_LEN;
    use crate::base::side::Side;
    use crate::relay::{CREDIT, Event, Relay};

    const CAPACITY: u32 = 1 << 20;
    const PIPE: PipeId = PipeId(7);
    const HALF: Side = Side::Client;

    fn tell(relay: &mut Relay, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        relay.on(event, &mut effects);
        effects
    }

    /// A relay whose client has sent so much that its half has a pipe.
    fn spliced() -> Relay {
        let (mut relay, mut effects) = (Relay::new(), Vec::new());
        Side::BOTH.into_iter().for_each(|side| relay.open(side, &mut effects));
        lend(&mut relay, HALF, PIPE);
        relay
    }

    fn lend(relay: &mut Relay, half: Side, pipe: PipeId) {
        for buffer in 0..4 {
            let lease = Lease { buffer, start: 0, len: BUFFER_LEN as u16 };
            tell(relay, Event::Received { side: half, lease, more: buffer < 3, nonempty: true });
        }
        tell(relay, Event::Gathered { half });
        let borrows = (0..4).any(|_| {
            let moved = Moved::Bytes(BUFFER_LEN as u32);
            tell(relay, Event::Sent { side: half.peer(), moved }).contains(&Effect::Borrow { half })
        });
        assert!(borrows, "a stream that fills its buffers is bulk");
        tell(relay, Event::Lent { half, pipe: Some((pipe, CAPACITY)) });
    }

    /// The pipe is filled with what was asked for; says how much that was.
    fn fill(relay: &mut Relay, effects: &[Effect]) -> (u32, Vec<Effect>) {
        let Some(&Effect::Fill { half, len, .. }) = effects.last() else { panic!("no fill: {effects:?}") };
        (len, tell(relay, Event::Filled { half, moved: Moved::Bytes(len) }))
    }

    /// A relay with bytes in its pipe that its backend does not take; how many.
    fn stalled(relay: &mut Relay) -> u32 {
        stall(relay, HALF, PIPE)
    }

    fn stall(relay: &mut Relay, half: Side, pipe: PipeId) -> u32 {
        let effects = tell(relay, Event::Turn { half, budget: 4 << 20 });
        let (held, effects) = fill(relay, &effects);
        assert_eq!(effects, [Effect::Drain { half, pipe, len: held }]);
        let effects = tell(relay, Event::Drained { half, moved: Moved::WouldBlock });
        assert_eq!(effects, [Effect::PollWritable { side: half.peer() }]);
        held
    }

    #[test]
    fn a_steady_stream_soon_fills_its_pipe_and_goes_on_doing_so() {
        let mut relay = spliced();
        let mut filled = Vec::new();
        for _ in 0..3 {
            let mut effects = tell(&mut relay, Event::Turn { half: HALF, budget: 2 * CAPACITY });
            while let Some(Effect::Fill { .. }) = effects.last() {
                let (len, _) = fill(&mut relay, &effects);
                filled.push(len >> 10);
                effects = tell(&mut relay, Event::Drained { half: HALF, moved: Moved::Bytes(len) });
            }
            assert_eq!(effects, [Effect::Ready { half: HALF }], "more is there: no poll is needed to learn that");
        }
        assert_eq!(filled, [128, 256, 512, 1024, 128, 1024, 1024, 1024, 1024]);
    }

    #[test]
    fn a_vat_says_itself_what_is_behind_what_it_has_opened() {
        let drain = |len| Effect::Drain { half: HALF, pipe: PIPE, len };
        for (behind, next) in [
            (Behind::Nothing, Effect::PollReadable { side: HALF }),
            (Behind::More, Effect::Fill { half: HALF, pipe: PIPE, len: WINDOW_MIN }),
            (Behind::Other, Effect::GiveBack { pipe: PIPE }),
        ] {
            for len in [0, 1] {
                let mut relay = spliced();
                tell(&mut relay, Event::Turn { half: HALF, budget: CAPACITY });
                let mut effects = tell(&mut relay, Event::Opened { half: HALF, len, behind });
                if len > 0 {
                    assert_eq!(effects, [drain(len)]);
                    effects = tell(&mut relay, Event::Drained { half: HALF, moved: Moved::Bytes(len) });
                }
                let is_next = |effect: &Effect| std::mem::discriminant(effect) == std::mem::discriminant(&next);
                assert!(effects.first().is_some_and(is_next), "{effects:?} and not {next:?}");
            }
        }
    }

    #[test]
    fn a_client_that_never_reads_keeps_little_in_the_pipe() {
        assert_eq!(stalled(&mut spliced()), WINDOW_MIN);
    }

    #[test]
    fn the_pipe_of_a_half_that_is_stuck_goes_to_others_and_its_bytes_keep_their_order() {
        let mut relay = spliced();
        let held = stalled(&mut relay);
        assert_eq!(tell(&mut relay, Event::Reclaim), [], "it may have stopped just now");
        let mut effects = tell(&mut relay, Event::Reclaim);
        let mut left = held;
        for buffer in 10.. {
            assert_eq!(effects, [Effect::Unload { half: HALF, pipe: PIPE, left }]);
            left -= BUFFER_LEN as u32;
            let lease = Some(Lease { buffer, start: 0, len: BUFFER_LEN as u16 });
            effects = tell(&mut relay, Event::Unloaded { half: HALF, lease });
            if left == 0 {
                break;
            }
        }
        assert_eq!(effects, [Effect::GiveBack { pipe: PIPE }], "and nothing is received beyond that");
        assert!(relay.holds_buffers() && relay.is_undelivered(HALF));
        let mut effects = tell(&mut relay, Event::Writable { side: HALF.peer() });
        for buffer in 10..10 + (held / BUFFER_LEN as u32) as u16 {
            let sent = effects.iter().find_map(|effect| match effect {
                Effect::Send { lease, .. } => Some(lease.buffer),
                _ => None,
            });
            assert_eq!(sent, Some(buffer));
            effects = tell(&mut relay, Event::Sent { side: HALF.peer(), moved: Moved::Bytes(BUFFER_LEN as u32) });
            let receives = effects.iter().any(|effect| matches!(effect, Effect::Recv { .. }));
            let still_held = held - u32::from(buffer - 9) * BUFFER_LEN as u32;
            assert!(!receives || still_held <= CREDIT / 2, "received beside {still_held} bytes");
        }
        assert!(!relay.is_undelivered(HALF));
    }

    #[test]
    fn a_half_that_moves_a_little_keeps_its_pipe() {
        let mut relay = spliced();
        stalled(&mut relay);
        for _ in 0..3 {
            assert_eq!(tell(&mut relay, Event::Reclaim), []);
            tell(&mut relay, Event::Writable { side: HALF.peer() });
            tell(&mut relay, Event::Turn { half: HALF, budget: CAPACITY });
            tell(&mut relay, Event::Drained { half: HALF, moved: Moved::Bytes(1) });
        }
    }

    #[test]
    fn a_half_whose_pipe_cannot_be_unloaded_does_not_keep_the_other_one_from_it() {
        const OTHER: PipeId = PipeId(8);
        let mut relay = spliced();
        lend(&mut relay, HALF.peer(), OTHER);
        stalled(&mut relay);
        stall(&mut relay, HALF.peer(), OTHER);
        assert_eq!(tell(&mut relay, Event::Reclaim), []);
        let asked: Vec<Side> = (0..4)
            .map(|_| match tell(&mut relay, Event::Reclaim)[..] {
                [Effect::Unload { half, .. }] => {
                    assert_eq!(tell(&mut relay, Event::Unloaded { half, lease: None }), []);
                    half
                }
                ref other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(asked, [HALF, HALF.peer(), HALF, HALF.peer()], "one at a time, and each of them");
    }

    #[test]
    fn without_buffers_the_pipe_stays_and_is_asked_for_again() {
        let mut relay = spliced();
        let left = stalled(&mut relay);
        assert_eq!(tell(&mut relay, Event::Reclaim), []);
        for _ in 0..3 {
            assert_eq!(tell(&mut relay, Event::Reclaim), [Effect::Unload { half: HALF, pipe: PIPE, left }]);
            assert_eq!(tell(&mut relay, Event::Unloaded { half: HALF, lease: None }), []);
        }
        tell(&mut relay, Event::Writable { side: HALF.peer() });
        let effects = tell(&mut relay, Event::Turn { half: HALF, budget: CAPACITY });
        assert_eq!(effects, [Effect::Drain { half: HALF, pipe: PIPE, len: left }]);
    }
}
