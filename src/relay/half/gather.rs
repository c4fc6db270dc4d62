//! Bytes of a stream that come in many buffers at a time are sent when all of those are there.
//!
//! A kernel that has filled a buffer and has more answers with several buffers in one turn. Each send wakes the reader,
//! which costs more than the bytes do; so the first one waits until the end of the turn, and goes as one that is
//! followed. A small message never waits.

use super::{Half, Writing};
use crate::base::lease::{BUFFER_LEN, Lease};
use crate::relay::{Effect, Sink};

impl Half {
    /// Whether what has come now most likely has more behind it in this turn. `more` and `nonempty` are those of
    /// [`Event::Received`](crate::relay::Event::Received).
    #[inline]
    pub(super) fn gathers(&self, lease: Lease, more: bool, nonempty: bool) -> bool {
        let is_idle = matches!(self.writing, Writing::Nothing { .. }) && self.queue.is_empty();
        more && nonempty && usize::from(lease.len) > BUFFER_LEN / 2 && is_idle && !self.paused
    }

    /// Puts the send off to the end of the turn.
    #[inline]
    pub(super) fn gather(&mut self, out: &mut impl Sink) {
        if let Writing::Nothing { promised } = self.writing {
            self.writing = Writing::Gathering { promised };
            out.push(Effect::Gather { half: self.side });
        }
    }

    /// The turn is at its end.
    pub(in crate::relay) fn gathered(&mut self, out: &mut impl Sink) {
        if let Writing::Gathering { promised } = self.writing {
            self.writing = Writing::Nothing { promised };
            self.proceed(out);
        }
    }
}
