//! A body that is read line by line: what a watch sends.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::error::{HttpError, HttpFault};
use super::within;

/// The lines of a body, as they come.
pub struct Lines {
    /// What follows.
    body: Incoming,
    /// What has come of lines that were not taken yet.
    splitter: Splitter,
    /// For messages.
    at: String,
    /// The task that moves bytes; it ends with this.
    _tasks: JoinSet<()>,
}

/// Makes lines of parts of any length. Pure.
#[derive(Debug)]
struct Splitter {
    /// What has come and was not taken.
    held: Vec<u8>,
    /// How much of the beginning was taken already; it is removed when more comes.
    taken: usize,
    /// Up to here there is no end of a line.
    looked: usize,
    /// The longest line.
    line_max: usize,
}

impl Lines {
    /// Those of a body.
    pub(super) fn new(body: Incoming, at: String, tasks: JoinSet<()>, line_max: usize) -> Lines {
        Lines { body, splitter: Splitter::new(line_max), at, _tasks: tasks }
    }

    /// The next line without its end, which must have come as a whole within `timeout`; `None` if the server has ended
    /// the body after a whole line. A caller that stops waiting loses nothing: the next call goes on from there.
    ///
    /// # Errors
    /// The line is too long or late, the connection broke, or the body ended in the middle of a line.
    pub async fn next(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, HttpError> {
        let read = async {
            loop {
                if let Some(line) = self.splitter.next()? {
                    return Ok(Some(line));
                }
                let Some(frame) = self.body.frame().await else {
                    return match self.splitter.is_empty() {
                        true => Ok(None),
                        false => Err(HttpFault::Broken("its answer ended in the middle of a line".to_string())),
                    };
                };
                let frame = frame.map_err(|error| HttpFault::of_hyper(&error))?;
                if let Some(bytes) = frame.data_ref() {
                    self.splitter.push(bytes);
                }
            }
        };
        within(timeout, "the next line", read).await.map_err(|why| HttpError::new(self.at.clone(), why))
    }

    /// The first bytes, as many as come in time and fit, for a message.
    pub(super) async fn beginning(&mut self, bytes_max: usize, timeout: Duration) -> Vec<u8> {
        let read = async {
            while self.splitter.held.len() < bytes_max {
                let Some(Ok(frame)) = self.body.frame().await else { break };
                if let Some(bytes) = frame.data_ref() {
                    let room = bytes_max - self.splitter.held.len();
                    self.splitter.push(&bytes[..bytes.len().min(room)]);
                }
            }
        };
        // What has come by then is shown.
        let _ = tokio::time::timeout(timeout, read).await;
        std::mem::take(&mut self.splitter.held)
    }
}

impl Splitter {
    /// Of lines up to that length.
    fn new(line_max: usize) -> Splitter {
        Splitter { held: Vec::new(), taken: 0, looked: 0, line_max }
    }

    /// More has come. It is called only when no whole line is left, so what is held is one line at most, and this.
    fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.taken);
        self.looked -= self.taken;
        self.taken = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, HttpFault> {
        let end = self.held[self.looked..].iter().position(|byte| *byte == b'\n').map(|at| self.looked + at);
        let length = end.unwrap_or(self.held.len()) - self.taken;
        if length > self.line_max {
            return Err(HttpFault::TooLong { what: "a line of its answer", bytes_max: self.line_max });
        }
        let Some(end) = end else {
            self.looked = self.held.len();
            return Ok(None);
        };
        let line = self.held[self.taken..end].to_vec();
        (self.taken, self.looked) = (end + 1, end + 1);
        Ok(Some(line.strip_suffix(b"\r").map(<[u8]>::to_vec).unwrap_or(line)))
    }

    /// Whether nothing is left of what has come.
    fn is_empty(&self) -> bool {
        self.taken == self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of a text that comes in these parts.
    fn split(parts: &[&[u8]], line_max: usize) -> (Vec<Vec<u8>>, Result<bool, String>) {
        let (mut splitter, mut lines) = (Splitter::new(line_max), Vec::new());
        for part in parts {
            splitter.push(part);
            loop {
                match splitter.next() {
                    Ok(Some(line)) => lines.push(line),
                    Ok(None) => break,
                    Err(why) => return (lines, Err(why.to_string())),
                }
            }
        }
        (lines, Ok(splitter.is_empty()))
    }

    #[test]
    fn a_line_ends_where_its_end_stands_and_half_of_one_is_none() {
        let (lines, is_whole) = split(&[b"a\r\nb", b"c\n\n", b"d"], 10);
        assert_eq!(lines, [b"a".to_vec(), b"bc".to_vec(), b"".to_vec()]);
        assert_eq!(is_whole, Ok(false));
        assert_eq!(split(&[b"abc\n"], 3).1, Ok(true));
        assert_eq!(split(&[b"abcd\n"], 3).1, Err("a line of its answer has more than 3 bytes".to_string()));
        assert!(split(&[b"ab", b"cd"], 3).1.is_err(), "a line that has no end yet");
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(
            text in "[a\r\n]{0,200}",
            cuts in prop::collection::vec(0..200usize, 0..20),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&parts, 1000), split(&[bytes], 1000));
        }
    }
}
