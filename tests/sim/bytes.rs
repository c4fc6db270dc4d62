//! Bytes by name. A byte of a stream is known by the stream and its place in it, so what arrives can be compared with
//! what was sent without moving a single byte, and two different bytes are never taken for each other.

use std::collections::VecDeque;

/// Bytes `from .. from + len` of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    pub stream: u32,
    pub from: u64,
    pub len: u64,
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    runs: VecDeque<Run>,
    len: u64,
}

impl Bytes {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    pub fn push(&mut self, run: Run) {
        if run.len == 0 {
            return;
        }
        self.len += run.len;
        match self.runs.back_mut() {
            Some(back) if back.stream == run.stream && back.from + back.len == run.from => back.len += run.len,
            _ => self.runs.push_back(run),
        }
    }

    /// Takes up to `len` bytes off the front that belong together.
    pub fn take(&mut self, len: u64) -> Option<Run> {
        let front = self.runs.front_mut()?;
        let taken = Run { len: front.len.min(len), ..*front };
        front.from += taken.len;
        front.len -= taken.len;
        self.len -= taken.len;
        if front.len == 0 {
            self.runs.pop_front();
        }
        Some(taken)
    }

    /// Bytes `start .. start + len`. Panics if there are not so many.
    pub fn slice(&self, start: u64, len: u64) -> Bytes {
        assert!(start + len <= self.len, "bytes {start}+{len} of {} that were written", self.len);
        let mut copy = Bytes::default();
        let (mut skip, mut left) = (start, len);
        for run in &self.runs {
            let skipped = run.len.min(skip);
            let taken = (run.len - skipped).min(left);
            copy.push(Run { from: run.from + skipped, len: taken, ..*run });
            skip -= skipped;
            left -= taken;
        }
        copy
    }

    /// Moves up to `len` bytes behind those of `to`; returns how many.
    pub fn move_to(&mut self, len: u64, to: &mut Bytes) -> u64 {
        let mut left = len;
        while left > 0
            && let Some(run) = self.take(left)
        {
            left -= run.len;
            to.push(run);
        }
        len - left
    }
}
