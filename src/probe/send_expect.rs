//! `send_expect`: sends something and looks for a pattern in the answer, in one step or several.
//!
//! Each step sends its bytes and then reads until its pattern matches what came after its own question. The check fails
//! if that has not happened when the server closes, when 64 KiB have come, or when the time is over.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Stream, part};
use super::{CheckTrouble, Transcript};
use crate::config::model::{Pattern, Step};
use crate::health::Facts;
use crate::health::transcript::printable;

/// Of an answer; what comes after it is not looked at.
const ANSWER_MAX: usize = 64 * 1024;
/// An answer in so many pieces is looked at after each; one in more when it has grown by an eighth, or has paused. So
/// the cost is linear in its length, however it is cut.
const PIECES: u32 = 64;
/// After so much silence an answer has paused, and what has come is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Goes through the steps; each has to match before the next one is sent.
///
/// # Errors
/// A step did not match, or the connection broke. The step is named where there are several.
pub(super) async fn check(
    mut stream: Stream,
    steps: &[Step],
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    for (number, Step { send, expect }) in steps.iter().enumerate() {
        let of_several = if steps.len() > 1 { format!("step {}: ", number + 1) } else { String::new() };
        if !send.is_empty() {
            let doing = transcript.doing_now("sending");
            stream.write_all(send).await.map_err(|error| CheckTrouble::broken(doing, error))?;
            // Its text is not shown: it may hold a password.
            transcript.note(format!("{of_several}sent {} bytes", send.len()));
        }
        if let Some(expect) = expect {
            answer(&mut stream, expect, &of_several, transcript).await?;
        }
    }
    part(stream);
    Ok(Facts::default())
}

/// Reads until what came matches `expect`.
async fn answer(
    stream: &mut Stream,
    expect: &Pattern,
    of_several: &str,
    transcript: &mut Transcript,
) -> Result<(), CheckTrouble> {
    let doing = transcript.doing_now("waiting for an answer that matches `expect`");
    let mut answer = Vec::new();
    let (mut pieces, mut looked_at) = (0, 0);
    let no_match = |what: &str, answer: &[u8]| {
        Err(CheckTrouble::answer(format!("{of_several}{what} not match `expect`: {}", shown(answer))))
    };
    while answer.len() < ANSWER_MAX {
        let room = ANSWER_MAX - answer.len();
        let mut limited = (&mut *stream).take(room as u64);
        let read = limited.read_buf(&mut answer);
        let is_behind = pieces > PIECES;
        // Bytes that were read and not looked at yet wait for more, and only for a moment.
        let length = match is_behind {
            true => tokio::time::timeout(PAUSE, read).await.ok(),
            false => Some(read.await),
        };
        let length = length.transpose().map_err(|error| CheckTrouble::broken(doing, error))?;
        pieces += 1;
        let is_due = length.is_none() || pieces <= PIECES || answer.len() - looked_at >= answer.len() / 8;
        let is_over = length == Some(0) || answer.len() == ANSWER_MAX;
        if (is_due || is_over) && answer.len() > looked_at {
            looked_at = answer.len();
            if pieces <= PIECES {
                transcript.received(&answer);
            }
            if expect.is_match(&answer) {
                transcript.note(format!("{of_several}it matches"));
                return Ok(());
            }
        }
        if length == Some(0) {
            return no_match("the answer does", &answer);
        }
    }
    no_match("the first 64 KiB of the answer do", &answer)
}

/// An answer as it stands in a reason: printable, and never empty.
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
    use crate::probe::testing::{against, failure, is_success};
    use crate::probe::{Checked, Outcome};

    fn kind(send: &str, expect: &str) -> CheckKind {
        let expect = Some(expect).filter(|text| !text.is_empty()).map(|text| Pattern::new(text).unwrap());
        CheckKind::SendExpect { steps: vec![Step { send: send.as_bytes().to_vec(), expect }] }
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
        let expected = "the answer does not match `expect`: the connection was closed without one; it may expect";
        assert!(failure(&checked).starts_with(expected), "{checked:?}");
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

    #[test]
    fn each_step_sees_what_came_after_its_own_question() {
        let step = |send: &str, expect: &str| Step {
            send: send.as_bytes().to_vec(),
            expect: Some(expect).filter(|text| !text.is_empty()).map(|text| Pattern::new(text).unwrap()),
        };
        let steps = vec![step("", "^220 "), step("EHLO x\r\n", "^250"), step("QUIT\r\n", "")];
        let smtp = |answer: &'static str| {
            let kind = CheckKind::SendExpect { steps: steps.clone() };
            against(kind, Duration::from_millis(300), move |mut stream| {
                stream.write_all(b"220 mail\r\n").unwrap();
                let mut question = [0; 8];
                stream.read_exact(&mut question).unwrap();
                assert_eq!(&question, b"EHLO x\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                assert!(answer != "250 ok\r\n" || rest == b"QUIT\r\n", "{rest:?}");
            })
        };
        assert!(is_success(&smtp("250 ok\r\n")));
        assert_eq!(
            failure(&smtp("550 no\r\n")),
            "no answer within 300 ms while waiting for an answer that matches \
            `expect`; it had sent 550 no\\r\\n"
        );
    }

    /// A server that sends byte by byte must not make control look at all of it for each.
    #[test]
    fn an_answer_in_many_pieces_costs_no_more_than_its_length() {
        let kind = kind("", "never said");
        let checked = against(kind, Duration::from_secs(20), |mut stream| {
            stream.set_nodelay(true).unwrap();
            for _ in 0..ANSWER_MAX {
                if stream.write_all(&[0xff]).is_err() {
                    break;
                }
            }
        });
        assert!(failure(&checked).starts_with("the first 64 KiB"), "{checked:?}");
        let slow = against(self::kind("", "end$"), Duration::from_secs(20), |mut stream| {
            stream.set_nodelay(true).unwrap();
            for byte in "x".repeat(200).bytes().chain(*b"end") {
                stream.write_all(&[byte]).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
            while stream.read(&mut [0; 16]).is_ok_and(|length| length > 0) {}
        });
        assert!(is_success(&slow), "the end of it is looked at all the same: {slow:?}");
    }
}
