//! `agent_port`: what a program beside the server advises, on one line (HAProxy configuration manual, `agent-check`).
//!
//! It is asked nothing: it sends its line as soon as it is connected to. One that does not answer, or not in its words,
//! says nothing about the server.

use tokio::io::AsyncReadExt;

use super::stream::{Stream, part};
use super::{CheckTrouble, Transcript};
use crate::health::agent::Advice;

/// Of a line.
const LINE_MAX: u64 = 1024;

/// Reads the line, to its end or that of the connection.
pub(super) async fn check(mut stream: Stream, transcript: &mut Transcript) -> Result<Advice, CheckTrouble> {
    let doing = transcript.doing_now("waiting for the agent's line");
    let mut line = Vec::new();
    let is_whole = |line: &[u8]| line.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    while !is_whole(&line) && (line.len() as u64) < LINE_MAX {
        let room = LINE_MAX - line.len() as u64;
        let read = (&mut stream).take(room).read_buf(&mut line).await;
        if read.map_err(|error| CheckTrouble::broken(doing, error))? == 0 {
            break;
        }
    }
    transcript.received(&line);
    part(stream);
    Advice::parse(&line).map_err(CheckTrouble::answer)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use crate::config::model::CheckKind;
    use crate::health::agent::{AgentState, Wish};
    use crate::probe::testing::{against, unknown};
    use crate::probe::{Checked, Outcome};

    fn agent(line: &'static [u8]) -> Checked {
        against(CheckKind::Agent, Duration::from_millis(300), move |mut stream| {
            stream.set_nodelay(true).unwrap();
            for piece in line.chunks((line.len() / 10).max(3)) {
                let _ = stream.write_all(piece);
                std::thread::sleep(Duration::from_millis(1));
            }
            if !line.contains(&b'!') {
                let _ = stream.read(&mut [0; 1]); // until the check ends
            }
        })
    }

    #[test]
    fn a_line_is_heard_however_it_is_cut_and_ends() {
        for line in [&b"drain 50%\n"[..], b"drain 50%\r\nand more", b"drain 50% #!"] {
            let checked = agent(line);
            let Outcome::Advice(advice) = &checked.outcome else { panic!("{checked:?}") };
            let mut state = AgentState::default();
            assert!(state.hear(advice));
            assert_eq!((state.wish, state.percent()), (Wish::Drain, Some(50)));
        }
    }

    #[test]
    fn what_is_no_line_of_an_agent_says_nothing_about_the_server() {
        assert!(
            unknown(&agent(b"220 mail\r\n")).starts_with("its agent: its line has none of an agent's words: 220 mail")
        );
        assert!(unknown(&agent(b"up")).starts_with("its agent: no answer within 300 ms while waiting for the agent's"));
        static LONG: [u8; 5000] = [b'!'; 5000];
        assert!(unknown(&agent(&LONG)).contains("none of an agent's words"));
    }
}
