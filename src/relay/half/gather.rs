//! Bytes of a stream that come in many buffers at a time are sent when all of those are there.
//!
//! A kernel that has filled a buffer and has more answers with several buffers in one turn. Each send wakes the reader,
//! which costs more than the bytes do; so the first one waits until the end of the turn, and goes as one that is
//! followed. A small message never waits.

use super::{Half, Writing};
use crate::base::lease::{BUFFER_LEN, Lease};
use crate::relay::{Effect, Sink};

impl Half {
    /// Puts the send of what has come off to the end of the turn, if it most likely has more behind it. `more` and
    /// `nonempty` are those of [`Event::Received`](crate::relay::Event::Received).
    #[inline]
    pub(super) fn gather(&mut self, lease: Lease, more: bool, nonempty: bool, out: &mut impl Sink) {
        let has_more_behind = more && nonempty && usize::from(lease.len) > BUFFER_LEN / 2;
        if let Writing::Nothing { promised } = self.writing
            && has_more_behind
            && self.queue.is_empty()
            && !self.paused
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::side::Side;
    use crate::relay::{Event, Relay};

    fn open() -> Relay {
        let (mut relay, mut effects) = (Relay::new(), Vec::new());
        Side::BOTH.into_iter().for_each(|side| relay.open(side, &mut effects));
        relay
    }

    /// The sends that follow from something, with whether each is followed.
    fn sends(relay: &mut Relay, event: Event) -> Vec<bool> {
        let mut effects = Vec::new();
        relay.on(event, &mut effects);
        let sends = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { followed, .. } => Some(followed),
            _ => None,
        });
        sends.collect()
    }

    fn received(buffer: u16, len: usize, nonempty: bool) -> Event {
        let lease = Lease { buffer, start: 0, len: len as u16 };
        Event::Received { side: Side::Client, lease, more: true, nonempty }
    }

    #[test]
    fn bulk_waits_for_the_rest_of_the_turn_and_a_message_does_not() {
        let mut relay = open();
        assert_eq!(sends(&mut relay, received(0, BUFFER_LEN, true)), [false; 0]);
        assert_eq!(sends(&mut relay, received(1, BUFFER_LEN, true)), [false; 0]);
        assert_eq!(sends(&mut relay, Event::Gathered { half: Side::Client }), [true]);
        let sent = Event::Sent { side: Side::Backend, moved: crate::base::lease::Moved::Bytes(BUFFER_LEN as u32) };
        assert_eq!(sends(&mut relay, sent), [false], "nothing is behind the last one");
        for (len, nonempty) in [(100, true), (BUFFER_LEN, false)] {
            assert_eq!(sends(&mut open(), received(0, len, nonempty)), [false], "{len}");
        }
    }
}
