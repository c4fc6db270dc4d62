//! What holds of a half after each event, in builds with debug assertions.

use super::{ByteSource, Half, LastWord, ReadState};

impl Half {
    /// What holds after each event.
    pub(in crate::relay) fn check_invariants(&self) {
        self.queue.check_invariants();
        let says_last = self.last_word == LastWord::Saying;
        assert!(!self.is_sending() || says_last || !self.queue.is_empty(), "nothing is being sent");
        assert!(!says_last || self.queue.is_empty(), "the last word before the last byte");
        let (has_source, is_idle) = (self.source != ByteSource::Absent, self.reading == ReadState::Nothing);
        assert!(has_source || is_idle && !self.received, "it reads before there is a connection");
        let is_splicing = self.splice.is_some();
        let is_copying = self.is_sending() || !matches!(self.reading, ReadState::Nothing | ReadState::Polling);
        assert!(!is_splicing || !is_copying, "copy mode beside splice mode");
        assert!(!self.is_finished() || self.is_drained(), "a FIN before the last bytes");
        let left = usize::from(self.is_sending() && !says_last);
        let is_empty = !is_splicing && self.queue.len() == left;
        assert!(!self.is_abandoned() || is_empty, "it holds what nobody is to get");
    }
}
