//! How a check went, step by step, for the person who asks why a backend is down.

use std::fmt;

use crate::base::text::push_printable;
use crate::base::time::{Clock, Moment};

/// More lines than any check has. Further ones are left out.
const LINES_MAX: usize = 32;
/// How much is shown of what the backend sent, in characters.
const TEXT_MAX: usize = 300;

/// What was done, sent and received, with the time. It is bounded and printable, and has no secrets.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// For times.
    clock: Clock,
    /// When the check began.
    begun: Moment,
    /// What happened so far.
    lines: Vec<TranscriptLine>,
    /// What the check waits for.
    doing: &'static str,
    /// What has come since it began to wait.
    received: String,
    /// What the operator should change although the check succeeds.
    remark: Option<String>,
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TranscriptLine {
    /// Since the start of the check, in milliseconds.
    pub at_ms: u64,
    /// What it was.
    pub text: String,
}

impl Transcript {
    /// The transcript of a check that begins now.
    pub fn begin() -> Transcript {
        let (clock, received) = (Clock::new(), String::new());
        Transcript { begun: clock.now(), clock, lines: Vec::new(), doing: "connecting", received, remark: None }
    }

    /// Adds a line, cut to a reasonable length.
    pub fn note(&mut self, text: impl Into<String>) {
        if self.lines.len() < LINES_MAX {
            let at_ms = self.clock.now().since_ns(self.begun) / 1_000_000;
            self.lines.push(TranscriptLine { at_ms, text: printable(text.into().as_bytes()) });
        }
    }

    /// Adds something that the operator should change although the check succeeds.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.note(text.clone());
        self.remark = Some(text);
    }

    /// What the operator should change; `None` if there is nothing.
    pub fn remarked(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Says what the check waits for from now on; a time-out will name it.
    pub fn doing_now(&mut self, doing: &'static str) -> &'static str {
        self.doing = doing;
        self.received.clear();
        doing
    }

    /// Notes the part of an answer that has come; a time-out will show it.
    pub fn received(&mut self, answer: &[u8]) {
        self.received = printable(answer);
        self.note(format!("received {}", self.received));
    }

    /// What has come since the check began to wait.
    pub fn so_far(&self) -> &str {
        &self.received
    }

    /// What it has been waiting for.
    pub fn doing(&self) -> &'static str {
        self.doing
    }

    /// What happened, in order.
    pub fn lines(&self) -> &[TranscriptLine] {
        &self.lines
    }
}

impl fmt::Display for TranscriptLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} ms  {}", self.at_ms, self.text)
    }
}

/// Bytes from a network as text for a log: one line, bounded; bytes that are not text stand as `\xHH`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    'all: for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_printable(c, &mut out);
            if out.len() > TEXT_MAX {
                break 'all;
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
        if out.len() > TEXT_MAX {
            break;
        }
    }
    cut(&mut out, TEXT_MAX);
    out
}

/// Shortens a text to this many bytes.
pub fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_shown_on_one_bounded_line() {
        assert_eq!(printable(b"+OK\r\n\x00\xff\xfe\tz"), "+OK\\r\\n\\u{0}\\xff\\xfe\\tz");
        for long in ["x".repeat(10_000), "ü".repeat(10_000), "\u{7}".repeat(10_000)] {
            let shown = printable(long.as_bytes());
            assert!(shown.len() <= TEXT_MAX + 3 && shown.ends_with('…'), "{}", shown.len());
        }
        assert!(printable(&[0xff; 10_000]).len() <= TEXT_MAX + 3);
    }

    /// What is not shown is not looked at either, else a server would have control work for each byte it sends.
    #[test]
    fn showing_the_beginning_costs_no_more_when_more_follows() {
        let all = vec![0xff; 64 << 20];
        let clock = Clock::new();
        let begun = clock.now();
        (0..100).for_each(|_| assert!(printable(&all).len() <= TEXT_MAX + 3));
        assert!(clock.now().since_ns(begun) < 1_000_000_000);
    }

    #[test]
    fn a_transcript_has_an_end() {
        let mut transcript = Transcript::begin();
        (0..1000).for_each(|_| transcript.note("x"));
        assert_eq!(transcript.lines().len(), LINES_MAX);
    }
}
