//! One direction of a session: copy mode, and the way into splice mode and back.

mod ending;
mod gather;
#[cfg(debug_assertions)]
mod invariants;

use super::queue::{LEASES_MAX, LeaseQueue};
use super::splice::Splice;
use super::state::{ByteSource, Course, LastWord, ReadState, Writing};
use super::{CREDIT, Effect, End, PAUSE_MAX_NS, PAUSE_NS, Sink};
use crate::base::lease::{BUFFER_LEN, Lease, Moved, PipeId};
use crate::base::side::Side;

/// Full buffers in a row, with more behind each, that make a stream bulk.
const BULK_AFTER: u8 = 4;
/// The same, after no pipe was to be had.
const BULK_AFTER_REFUSAL: u8 = 64;

/// One direction, from `side` to its peer.
#[derive(Debug)]
pub struct Half {
    /// Where its bytes come from; they go to the peer of that side.
    side: Side,
    /// How far the stream from there has come.
    source: ByteSource,
    /// What becomes of its bytes.
    course: Course,
    /// What is under way at the source.
    reading: ReadState,
    /// What is under way at the destination.
    writing: Writing,
    /// The source has sent a byte. It stays true whatever becomes of the source.
    received: bool,
    /// True exactly while a poll for the end of the source's connection is in flight. Independent of `reading`: where
    /// it began before the destination was there, a receive may be armed beside it.
    polling_hangup: bool,
    /// True exactly from [`Effect::Pause`] to its answer: nothing starts meanwhile. Independent of `reading` and
    /// `writing`: what is in flight at one end goes on while the other one has made the half pause.
    paused: bool,
    /// Times in a row that something should have been possible and was not.
    refusals: u8,
    /// Full buffers in a row, with more behind each.
    bulk_streak: u8,
    /// How many of them make it ask for a pipe.
    bulk_after: u8,
    /// What was received and is not sent whole.
    queue: LeaseQueue,
    /// What the destination is to get between the last byte and the FIN.
    last_word: LastWord,
    /// Splice mode, exactly when it is there. Few sessions ever are in it, so the others do not keep its place.
    pub(super) splice: Option<Box<Splice>>,
}

impl Half {
    /// The half whose bytes come from `side`, before either connection is there.
    pub(super) fn new(side: Side) -> Half {
        Half {
            side,
            source: ByteSource::Absent,
            course: Course::Deliver,
            reading: ReadState::Nothing,
            writing: Writing::Absent,
            received: false,
            polling_hangup: false,
            paused: false,
            refusals: 0,
            bulk_streak: 0,
            bulk_after: BULK_AFTER,
            queue: LeaseQueue::default(),
            last_word: LastWord::None,
            splice: None,
        }
    }

    /// Whether the destination can be reached no more, or the session ends.
    #[inline]
    pub(super) fn is_abandoned(&self) -> bool {
        self.course != Course::Deliver
    }

    /// Whether a send is in flight.
    #[inline]
    fn is_sending(&self) -> bool {
        matches!(self.writing, Writing::Sending { .. })
    }

    /// Whether there is a connection to send to.
    #[inline]
    fn has_destination(&self) -> bool {
        self.writing != Writing::Absent
    }

    /// There is a connection to receive from.
    pub(super) fn source_opened(&mut self, out: &mut impl Sink) {
        if self.source == ByteSource::Absent {
            self.source = ByteSource::Open;
        }
        self.proceed(out);
    }

    /// There is a connection to send to.
    pub(super) fn destination_opened(&mut self, out: &mut impl Sink) {
        if !self.has_destination() {
            self.writing = Writing::Nothing { promised: false };
        }
        self.proceed(out);
    }

    /// Bytes have come: with `nonempty` there was still more to read, and with `more` the receive goes on.
    #[inline]
    pub(super) fn received(&mut self, lease: Lease, more: bool, nonempty: bool, out: &mut impl Sink) {
        debug_assert!(self.reading == ReadState::Armed && self.splice.is_none());
        self.reading = if more { ReadState::Armed } else { ReadState::Nothing };
        self.received = true;
        self.refusals = 0;
        // Behind a hole nothing more is sent.
        if self.is_abandoned() || self.source == ByteSource::Broken {
            out.push(Effect::Release { buffer: lease.buffer });
            self.proceed(out);
            return;
        }
        // Records of TLS may not fill a buffer, however many of them there are.
        let full = lease.len as usize > BUFFER_LEN / 2 && nonempty;
        self.bulk_streak = if full { self.bulk_streak.saturating_add(1) } else { 0 };
        self.gather(lease, more, nonempty, out);
        self.enqueue(lease, out);
        self.proceed(out);
    }

    /// Small messages behind a send in flight are put together, so that a half never holds many buffers, and sends them
    /// immediately.
    #[inline]
    fn enqueue(&mut self, lease: Lease, out: &mut impl Sink) {
        let queued = self.queue.len();
        if let Some(back) = self.queue.back().filter(|_| queued > usize::from(self.is_sending()))
            && back.room() >= lease.len as usize
        {
            out.push(Effect::Append { from: lease, to: back });
            out.push(Effect::Release { buffer: lease.buffer });
            self.queue.extend_back(lease.len);
            return;
        }
        debug_assert!(queued < LEASES_MAX, "the credit bounds the queue");
        if queued < LEASES_MAX {
            self.queue.push(lease);
        } else {
            // Cannot happen while the kernel keeps to the credit. If it does not, a stream that ends in a reset is
            // better than one with a hole.
            out.push(Effect::Release { buffer: lease.buffer });
            self.source = ByteSource::Broken;
        }
    }

    /// The receive has ended without bytes.
    pub(super) fn ended(&mut self, end: End, out: &mut impl Sink) {
        debug_assert_eq!(self.reading, ReadState::Armed);
        self.reading = ReadState::Nothing;
        match end {
            End::Eof if self.source == ByteSource::Broken => {}
            End::Eof => self.source = ByteSource::Eof,
            End::Failed(_) => self.source = ByteSource::Broken,
            End::Starved if !self.is_stopped() => {
                self.reading = ReadState::Starved;
                out.push(Effect::Starve { side: self.side });
            }
            End::Later if !self.is_stopped() => self.pause(out),
            End::Scarce => {
                debug_assert!(!self.queue.is_empty() || self.is_stopped(), "it would wait for nothing");
                self.watch_unread(out);
            }
            End::Starved | End::Later | End::Cancelled => {}
        }
        // A cancelled receive is part of the end of the session: nothing starts again.
        self.be_heard(out);
        if !matches!(end, End::Cancelled | End::Scarce) {
            self.proceed(out);
        }
    }

    /// There is a buffer for a receive that found none.
    pub(super) fn fed(&mut self, out: &mut impl Sink) {
        if self.reading == ReadState::Starved {
            self.reading = ReadState::Nothing;
        }
        self.proceed(out);
    }

    /// The send is over.
    #[inline]
    pub(super) fn sent(&mut self, moved: Moved, out: &mut impl Sink) {
        debug_assert!(self.is_sending());
        let promised = matches!(self.writing, Writing::Sending { promised: true, .. });
        self.writing = Writing::Nothing { promised };
        if self.last_word == LastWord::Saying {
            return self.said_last(moved, out);
        }
        if self.is_abandoned() {
            self.release_all(out);
            // While it held this, memory may have been too scarce to read on.
            self.proceed(out);
            return;
        }
        match moved {
            Moved::Bytes(len) => {
                (self.refusals, self.writing) = (0, Writing::Nothing { promised: false });
                match self.queue.consume(len) {
                    Some(buffer) => out.push(Effect::Release { buffer }),
                    // It took less than it was offered: there is no room for the rest.
                    None => self.await_room(out),
                }
                self.proceed(out);
            }
            Moved::WouldBlock => self.await_room(out),
            Moved::Later => self.pause(out),
            // The relay abandons this half.
            Moved::Failed(_) => {}
        }
    }

    /// The destination has no room: waits for it. A poll that says there is room when there is none (the kernel is
    /// short of memory for sockets) is not asked again and again.
    pub(super) fn await_room(&mut self, out: &mut impl Sink) {
        if self.writing == (Writing::Nothing { promised: true }) {
            self.writing = Writing::Nothing { promised: false };
            self.pause(out);
        } else {
            self.writing = Writing::Polling;
            out.push(Effect::PollWritable { side: self.side.peer() });
        }
    }

    /// Tries again after a while.
    pub(super) fn pause(&mut self, out: &mut impl Sink) {
        self.refusals = self.refusals.saturating_add(1);
        if !std::mem::replace(&mut self.paused, true) {
            let for_ns = PAUSE_MAX_NS.min(PAUSE_NS << self.refusals.min(20));
            out.push(Effect::Pause { half: self.side, for_ns });
        }
    }

    /// A pause is over.
    pub(super) fn resumed(&mut self, out: &mut impl Sink) {
        self.paused = false;
        match &mut self.splice {
            Some(splice) => {
                splice.try_destination();
                out.push(Effect::Ready { half: self.side });
            }
            None => self.proceed(out),
        }
    }

    /// Has the end of the source's connection noticed, now that nothing is received from it.
    pub(super) fn watch(&mut self, out: &mut impl Sink) {
        self.polling_hangup = true;
        out.push(Effect::PollHangup { side: self.side });
    }

    /// The poll for the end of the source's connection is over.
    pub(super) fn hangup_polled(&mut self, out: &mut impl Sink) {
        self.polling_hangup = false;
        self.watch_unread(out);
    }

    /// Watches the source while all that may be held waits for a destination to connect to: no receive tells that the
    /// source has gone meanwhile.
    fn watch_unread(&mut self, out: &mut impl Sink) {
        let is_read = self.reading != ReadState::Nothing || self.source != ByteSource::Open || self.queue.is_empty();
        if !is_read && !self.has_destination() && !self.paused && !self.polling_hangup && !self.is_abandoned() {
            self.watch(out);
        }
    }

    /// Whether the source has ended and nothing would tell that its connection is gone.
    pub(super) fn has_unwatched_end(&self) -> bool {
        matches!(self.source, ByteSource::Eof | ByteSource::PassedOn) && !self.polling_hangup && !self.is_stopped()
    }

    /// Nothing is behind what is sent, and the receive that would bring more is armed: nothing follows from the send.
    #[inline]
    fn may_be_quiet(&self) -> bool {
        let is_armed = self.reading == ReadState::Armed && self.source == ByteSource::Open;
        is_armed && self.queue.len() == 1 && !self.is_stopped()
    }

    /// A send in flight that was quiet has to be heard, if something follows from it now.
    #[inline]
    fn be_heard(&mut self, out: &mut impl Sink) {
        if let Writing::Sending { quiet: true, promised } = self.writing
            && !self.may_be_quiet()
        {
            self.writing = Writing::Sending { quiet: false, promised };
            out.push(Effect::Hurry);
        }
    }

    /// Starts whatever can start now.
    #[inline]
    pub(super) fn proceed(&mut self, out: &mut impl Sink) {
        self.be_heard(out);
        if self.is_stopped() || self.splice.is_some() || self.paused {
            return;
        }
        if let Writing::Nothing { promised } = self.writing
            && !self.is_abandoned()
            && let Some(lease) = self.queue.front()
        {
            let quiet = self.may_be_quiet();
            self.writing = Writing::Sending { quiet, promised };
            let followed = self.queue.len() > 1;
            out.push(Effect::Send { side: self.side.peer(), lease, quiet, followed });
        }
        if self.reading != ReadState::Nothing || self.source != ByteSource::Open {
            return;
        }
        if self.bulk_streak >= self.bulk_after && self.has_destination() && !self.is_abandoned() {
            if self.queue.is_empty() {
                self.reading = ReadState::Borrowing;
                out.push(Effect::Borrow { half: self.side });
            }
            return;
        }
        self.arm(out);
    }

    /// Receives again when half of the credit is free.
    #[inline]
    fn arm(&mut self, out: &mut impl Sink) {
        let held = self.queue.bytes();
        if held <= CREDIT / 2 {
            self.reading = ReadState::Armed;
            out.push(Effect::Recv { side: self.side, credit: CREDIT - held, fresh: !self.received });
        } else {
            self.watch_unread(out);
        }
    }

    /// Into splice mode, or not.
    pub(super) fn lent(&mut self, pipe: Option<(PipeId, u32)>, out: &mut impl Sink) {
        self.reading = ReadState::Nothing;
        match pipe {
            Some((pipe, _)) if self.is_abandoned() => {
                out.push(Effect::GiveBack { pipe });
                self.proceed(out);
            }
            Some((pipe, capacity)) => {
                self.splice = Some(Box::new(Splice::new(pipe, capacity)));
                out.push(Effect::Ready { half: self.side });
            }
            None => {
                self.bulk_after = BULK_AFTER_REFUSAL;
                self.bulk_streak = 0;
                self.proceed(out);
            }
        }
    }

    /// Out of splice mode. The receive that follows tells whether the stream has ended, and how.
    pub(super) fn leave_splice(&mut self, out: &mut impl Sink) {
        if let Some(splice) = self.splice.take() {
            debug_assert_eq!(splice.held(), 0);
            out.push(Effect::GiveBack { pipe: splice.pipe() });
        }
        self.bulk_streak = 0;
        self.bulk_after = BULK_AFTER;
        self.proceed(out);
    }

    /// Nothing more will be delivered.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        match self.source {
            ByteSource::Absent | ByteSource::Open | ByteSource::Eof => self.is_abandoned(),
            ByteSource::PassedOn => true,
            ByteSource::Broken => self.is_abandoned() || self.is_drained(),
        }
    }

    /// Whether all that was received is handed to the kernel of the destination.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.splice.as_ref().is_none_or(|splice| splice.held() == 0)
    }

    /// Whether an operation is in flight on the connection of the source.
    #[inline]
    pub(super) fn is_source_in_flight(&self) -> bool {
        matches!(self.reading, ReadState::Armed | ReadState::Polling) || self.polling_hangup
    }

    /// Whether an operation is in flight on the connection of the destination.
    #[inline]
    pub(super) fn is_destination_in_flight(&self) -> bool {
        matches!(self.writing, Writing::Sending { .. } | Writing::Polling)
    }

    /// Whether it holds receive buffers.
    pub(super) fn holds_buffers(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Receive buffers that it holds.
    pub(super) fn leases(&self) -> usize {
        self.queue.len()
    }

    /// Whether it has a pipe.
    pub(super) fn is_splicing(&self) -> bool {
        self.splice.is_some()
    }

    /// Whether the FIN was passed on, or will be by the close.
    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.source == ByteSource::PassedOn
    }

    /// Whether the end of the stream was seen.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.source, ByteSource::Absent | ByteSource::Open)
    }

    /// Whether the source ever sent a byte.
    pub(super) fn has_received(&self) -> bool {
        self.received
    }

    /// Where its bytes come from.
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Whether the session ends.
    pub(super) fn is_stopped(&self) -> bool {
        self.course == Course::Stop
    }

    /// Whether a poll of the source is in flight.
    pub(super) fn is_polling_source(&self) -> bool {
        self.reading == ReadState::Polling
    }

    /// Whether the bytes it holds wait for the destination, or for something that the kernel was short of.
    pub(super) fn is_stuck(&self) -> bool {
        self.writing == Writing::Polling || self.paused
    }

    /// Waits until there is something to read.
    pub(super) fn poll_source(&mut self, out: &mut impl Sink) {
        self.reading = ReadState::Polling;
        out.push(Effect::PollReadable { side: self.side });
    }

    /// The poll of the source is over.
    pub(super) fn source_polled(&mut self) {
        self.reading = ReadState::Nothing;
    }

    /// The poll of the destination is over: it has room.
    pub(super) fn destination_polled(&mut self) {
        self.writing = Writing::Nothing { promised: true };
    }

    /// Bytes have gone from the pipe to the destination.
    pub(super) fn has_drained(&mut self) {
        self.refusals = 0;
        if let Writing::Nothing { promised } = &mut self.writing {
            *promised = false;
        }
    }

    /// It stays in splice mode, for want of buffers. With a part of the pipe in buffers it cannot. That does not happen
    /// while the kernel keeps to [`Effect::Unload`]; if it does, the stream ends in a reset.
    pub(super) fn not_unloaded(&mut self, out: &mut impl Sink) {
        debug_assert!(self.queue.is_empty(), "a part of a pipe was moved");
        if !self.queue.is_empty()
            && let Some(splice) = self.splice.take()
        {
            out.push(Effect::Destroy { pipe: splice.pipe() });
            self.source = ByteSource::Broken;
        }
    }

    /// Bytes that were in the pipe are in a buffer now, behind those that came before them.
    pub(super) fn keep(&mut self, lease: Lease) {
        self.queue.push(lease);
    }
}
