//! What a program beside a server advises: HAProxy's agent checks (HAProxy configuration manual, `agent-check`). Pure.
//!
//! The agent sends a line of words: `up`, `down`, `drain`, `maint`, `ready`, `50%`. What a line does not name stays as
//! the line before left it.

use std::sync::Arc;

use super::transcript::printable;

/// A share of the weight that leaves it as it is.
const WHOLE: u16 = 100;
/// More than this makes no difference: a weight goes up to 256.
const PERCENT_MAX: u16 = 25_600;

/// What one line says; `None` is not said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Advice {
    /// Percent of the weight.
    percent: Option<u16>,
    /// What is wanted of the backend.
    wish: Option<Wish>,
    /// Whether the server works; `Some(Some(why))` if it does not.
    trouble: Option<Option<Arc<str>>>,
}

/// What an agent wants of its backend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wish {
    /// Used as its checks say.
    #[default]
    Ready,
    /// No new sessions.
    Drain,
    /// No new sessions either, and taken for out of service.
    Maintenance,
}

/// What an agent says, line after line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentState {
    /// Percent of the weight.
    percent: u16,
    /// What it wants of its backend.
    pub wish: Wish,
    /// Why the server does not work; `None` if the agent has nothing against it.
    pub trouble: Option<Arc<str>>,
}

impl Default for AgentState {
    /// Nothing.
    fn default() -> AgentState {
        AgentState { percent: WHOLE, wish: Wish::Ready, trouble: None }
    }
}

impl Advice {
    /// Reads a line, with or without its end. Words stand in any case and are separated by blanks or commas; `#` begins
    /// a comment, which is the reason for `down`. Words that are not known are left out, as HAProxy does with some.
    ///
    /// # Errors
    /// No word is known.
    pub fn parse(line: &[u8]) -> Result<Advice, String> {
        let line = line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let text = String::from_utf8_lossy(line).into_owned();
        let (words, comment) = text.split_once('#').unwrap_or((&text, ""));
        let mut advice = Advice::default();
        let is_between = |c: char| c == ',' || c.is_ascii_whitespace();
        for word in words.split(is_between).filter(|word| !word.is_empty()) {
            let word = word.to_ascii_lowercase();
            match word.as_str() {
                "ready" => advice.wish = Some(Wish::Ready),
                "drain" => advice.wish = Some(Wish::Drain),
                "maint" => advice.wish = Some(Wish::Maintenance),
                "up" => advice.trouble = Some(None),
                "down" | "fail" | "stopped" => {
                    let comment = printable(comment.trim().as_bytes());
                    let why = if comment.is_empty() { word } else { format!("{word}, {comment}") };
                    advice.trouble = Some(Some(why.into()));
                }
                _ => {
                    let percent = word.strip_suffix('%').and_then(|number| number.parse::<u16>().ok());
                    advice.percent = percent.map(|percent| percent.min(PERCENT_MAX)).or(advice.percent);
                }
            }
        }
        if advice == Advice::default() {
            let hint = "it sends words such as `up`, `down`, `drain`, `maint`, `ready` or `50%`";
            return Err(format!("its line has none of an agent's words: {}; {hint}", printable(line)));
        }
        Ok(advice)
    }
}

impl AgentState {
    /// Takes in what a line says; whether that changes anything.
    pub fn hear(&mut self, advice: &Advice) -> bool {
        let before = self.clone();
        self.percent = advice.percent.unwrap_or(self.percent);
        self.wish = advice.wish.unwrap_or(self.wish);
        if let Some(trouble) = &advice.trouble {
            self.trouble = trouble.clone();
        }
        *self != before
    }

    /// The part of a weight (0 to 256) that it leaves. What is not nothing does not become nothing.
    pub fn of_weight(&self, weight: u16) -> u16 {
        let part = (u32::from(weight) * u32::from(self.percent)).div_ceil(u32::from(WHOLE));
        u16::try_from(part.min(256)).unwrap_or(256)
    }

    /// The percent of the weight, if that is not all of it.
    pub fn percent(&self) -> Option<u16> {
        Some(self.percent).filter(|percent| *percent != WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(lines: &[&str]) -> AgentState {
        let mut state = AgentState::default();
        for line in lines {
            state.hear(&Advice::parse(line.as_bytes()).unwrap());
        }
        state
    }

    #[test]
    fn each_word_changes_its_own_part_and_leaves_the_others() {
        let state = after(&["DRAIN 50%\r\nmore", "up"]);
        assert_eq!((state.wish, state.percent(), &state.trouble), (Wish::Drain, Some(50), &None), "up ends no drain");
        let state = after(&["maint", "ready,75%"]);
        assert_eq!((state.wish, state.percent()), (Wish::Ready, Some(75)));
        let state = after(&["down 10% # disk is full"]);
        assert_eq!(state.trouble.as_deref(), Some("down, disk is full"));
        let state = after(&["stopped", "100%"]);
        assert_eq!(
            (state.trouble.as_deref(), state.percent()),
            (Some("stopped"), None),
            "a weight brings no server up"
        );
        assert_eq!(after(&["fail", "up"]), AgentState::default());
        assert_eq!(after(&["maxconn:30 up"]), AgentState::default(), "words of HAProxy that mean nothing here");
    }

    #[test]
    fn a_line_without_a_known_word_is_refused() {
        for line in ["", "\n", "HTTP/1.1 400 Bad Request", "50", "# up", "\u{1b}[31m"] {
            let why = Advice::parse(line.as_bytes()).unwrap_err();
            assert!(why.starts_with("its line has none") && !why.contains('\u{1b}'), "{why}");
        }
    }

    #[test]
    fn a_share_is_of_the_weight_and_only_nothing_becomes_nothing() {
        let of = |percent: &str, weight| after(&[percent]).of_weight(weight);
        assert_eq!([of("50%", 10), of("50%", 1), of("1%", 1), of("0%", 256), of("200%", 100)], [5, 1, 1, 0, 200]);
        assert_eq!([of("65535%", 256), of("100%", 256), of("100%", 0)], [256, 256, 0]);
    }

    proptest! {
        #[test]
        fn no_line_makes_more_than_a_bounded_state(line: Vec<u8>) {
            if let Ok(advice) = Advice::parse(&line) {
                let mut state = AgentState::default();
                state.hear(&advice);
                prop_assert!(state.of_weight(256) <= 256);
                prop_assert!(state.trouble.is_none_or(|why| why.len() < 1000));
            }
        }
    }
}
