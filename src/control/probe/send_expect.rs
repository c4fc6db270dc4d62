//! `send_expect`: sends something, and looks for a pattern in the answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Stream, part};
use super::transcript::printable;
use super::{Failure, Transcript};
use crate::config::model::Pattern;
use crate::health::Facts;

/// Of an answer; what comes after it is not looked at.
const ANSWER_MAX: usize = 64 * 1024;

pub(super) async fn check(
    mut stream: Stream,
    send: &[u8],
    expect: Option<&Pattern>,
    transcript: &mut Transcript,
) -> Result<Facts, Failure> {
    if !send.is_empty() {
        let doing = transcript.doing_now("sending");
        stream.write_all(send).await.map_err(|error| Failure::broken(doing, error))?;
        // Its text is not shown: it may hold a password.
        transcript.note(format!("sent {} bytes", send.len()));
    }
    if let Some(expect) = expect {
        answer(&mut stream, expect, transcript).await?;
    }
    part(stream);
    Ok(Facts::default())
}

async fn answer(stream: &mut Stream, expect: &Pattern, transcript: &mut Transcript) -> Result<(), Failure> {
    let doing = transcript.doing_now("waiting for an answer that matches `expect`");
    let mut answer = Vec::new();
    while answer.len() < ANSWER_MAX {
        let room = ANSWER_MAX - answer.len();
        let mut limited = (&mut *stream).take(room as u64);
        let length = limited.read_buf(&mut answer).await.map_err(|error| Failure::broken(doing, error))?;
        if length == 0 {
            return Err(Failure::Answer(format!("the answer does not match `expect`: {}", shown(&answer))));
        }
        transcript.received(&answer);
        if expect.is_match(&answer) {
            transcript.note("it matches");
            return Ok(());
        }
    }
    Err(Failure::Answer(format!("the first 64 KiB of the answer do not match `expect`: {}", shown(&answer))))
}

fn shown(answer: &[u8]) -> String {
    if answer.is_empty() { "the connection was closed without one".to_string() } else { printable(answer) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::config::model::CheckKind;
    use crate::control::probe::testing::{against, failure, is_success};
    use crate::control::probe::{Checked, Outcome};

    fn kind(send: &str, expect: &str) -> CheckKind {
        let expect = Some(expect).filter(|text| !text.is_empty()).map(|text| Pattern::new(text).unwrap());
        CheckKind::SendExpect { send: send.as_bytes().to_vec(), expect }
    }

    fn check(send: &str, expect: &str, server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
        against(kind(send, expect), Duration::from_millis(300), server)
    }

    fn asked(stream: &mut TcpStream) -> bool {
        let mut question = [0; 6];
        stream.read_exact(&mut question).is_ok() && &question == b"PING\r\n"
    }

    #[test]
    fn an_answer_in_pieces_is_matched() {
        let checked = check("PING\r\n", "^\\+PO.*G\r\n", |mut stream| {
            assert!(asked(&mut stream));
            for piece in [&b"+P"[..], b"ON", b"G\r", b"\nmore"] {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "a clean end");
        });
        assert!(is_success(&checked), "{checked:?}");
        let shown = format!("{:?}", checked.transcript.lines());
        assert!(shown.contains("sent 6 bytes") && !shown.contains("PING") && shown.contains("+PONG"), "{shown}");
    }

    #[test]
    fn a_greeting_is_enough_when_nothing_is_sent() {
        assert!(is_success(&check("", "^220 ", |mut stream| stream.write_all(b"220 mail\r\n").unwrap())));
    }

    #[test]
    fn nothing_expected_is_success_once_it_is_sent() {
        assert!(is_success(&check("PING\r\n", "", |mut stream| assert!(asked(&mut stream)))));
    }

    #[test]
    fn another_answer_is_a_failure_that_shows_it() {
        let checked = check("PING\r\n", "PONG", |mut stream| {
            asked(&mut stream);
            stream.write_all(b"-LOADING\xff\r\n").unwrap();
        });
        assert_eq!(failure(&checked), "the answer does not match `expect`: -LOADING\\xff\\r\\n");
        let checked = check("PING\r\n", "PONG", |mut stream| assert!(asked(&mut stream)));
        assert_eq!(failure(&checked), "the answer does not match `expect`: the connection was closed without one");
    }

    #[test]
    fn an_answer_that_stops_half_way_shows_what_came() {
        let checked = check("PING\r\n", "PONG", |mut stream| {
            stream.write_all(b"PON").unwrap();
            while stream.read(&mut [0; 16]).is_ok_and(|length| length > 0) {}
        });
        let expected = "no answer within 300 ms while waiting for an answer that matches `expect`; it had sent PON";
        assert_eq!(failure(&checked), expected);
    }

    #[test]
    fn an_endless_answer_has_an_end() {
        let checked = check("", "never", |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(failure(&checked).starts_with("the first 64 KiB of the answer do not match"), "{checked:?}");
    }

    #[test]
    fn a_reset_is_a_failure_with_its_reason() {
        let checked = check("PING\r\n", "PONG", |stream| {
            std::thread::sleep(Duration::from_millis(20));
            drop(stream); // with unread bytes
        });
        assert!(matches!(checked.outcome, Outcome::Failure(_)));
        assert!(failure(&checked).contains("reset"), "{checked:?}");
    }
}
