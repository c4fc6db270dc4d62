//! How a half ends: its FIN is passed on, its destination is lost, or its session ends.

use super::Half;
use crate::base::lease::Moved;
use crate::relay::state::{ByteSource, Course, LastWord, ReadState, Writing};
use crate::relay::{Armed, Effect, Sink};

impl Half {
    /// Its destination is to get a last word before the FIN.
    pub(in crate::relay) fn owes_last_word(&mut self) {
        self.last_word = LastWord::Due;
    }

    /// The last word was said, or there was no room for it.
    pub(super) fn said_last(&mut self, moved: Moved, out: &mut impl Sink) {
        self.last_word = if let Moved::Bytes(_) = moved { LastWord::Said } else { LastWord::Due };
        match moved {
            _ if self.is_abandoned() => self.proceed(out),
            Moved::WouldBlock => self.await_room(out),
            Moved::Later => self.pause(out),
            // The relay passes the FIN on now, or abandons this half.
            Moved::Bytes(_) | Moved::Failed(_) => {}
        }
    }

    /// The destination is gone. What comes from the source is thrown away from now on, but it is read: a source that
    /// cannot get rid of its bytes might never take in the last ones of the other half.
    pub(in crate::relay) fn abandon(&mut self, out: &mut impl Sink) {
        self.course = self.course.max(Course::Discard);
        if let Some(splice) = self.splice.take() {
            out.push(match splice.held() {
                0 => Effect::GiveBack { pipe: splice.pipe() },
                _ => Effect::Destroy { pipe: splice.pipe() },
            });
        }
        self.release_all(out);
        self.proceed(out);
    }

    /// The session ends. What is in flight is cancelled and waited for, and nothing else starts.
    pub(in crate::relay) fn stop(&mut self, out: &mut impl Sink) {
        self.course = Course::Stop;
        if self.reading == ReadState::Starved {
            self.reading = ReadState::Nothing;
        }
        self.abandon(out);
        self.be_heard(out);
        let (source, destination) = (self.side, self.side.peer());
        let in_flight = [
            (self.reading == ReadState::Armed, source, Armed::Recv),
            (self.reading == ReadState::Polling, source, Armed::Readable),
            (self.polling_hangup, source, Armed::Hangup),
            (self.writing == Writing::Polling, destination, Armed::Writable),
        ];
        for (_, side, armed) in in_flight.into_iter().filter(|&(is_in_flight, ..)| is_in_flight) {
            out.push(Effect::Cancel { side, armed });
        }
    }

    /// Releases every lease but the one in flight.
    pub(super) fn release_all(&mut self, out: &mut impl Sink) {
        while self.queue.len() > usize::from(self.is_sending()) {
            if let Some(lease) = self.queue.pop_back() {
                out.push(Effect::Release { buffer: lease.buffer });
            }
        }
    }

    /// Passes a FIN on once all bytes before it are sent. If nothing more comes the other way (`peer_is_over`), the
    /// close of the connection sends it.
    #[inline]
    pub(in crate::relay) fn finish(&mut self, peer_is_over: bool, out: &mut impl Sink) {
        let has_ended = self.source == ByteSource::Eof && !self.is_abandoned();
        if has_ended && self.is_drained() && self.has_destination() {
            if matches!(self.last_word, LastWord::Due | LastWord::Saying) {
                return self.say_last(out);
            }
            self.source = ByteSource::PassedOn;
            if !peer_is_over {
                out.push(Effect::Finish { side: self.side.peer() });
            }
        }
    }

    /// Says the last word, once nothing else is under way.
    fn say_last(&mut self, out: &mut impl Sink) {
        if let Writing::Nothing { promised } = self.writing
            && !self.paused
        {
            self.writing = Writing::Sending { quiet: false, promised };
            self.last_word = LastWord::Saying;
            out.push(Effect::SayLast { side: self.side.peer() });
        }
    }
}
