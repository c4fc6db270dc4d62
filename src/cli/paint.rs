//! Colours, and only on a terminal.

use std::io::{self, IsTerminal};

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paint {
    /// With escape sequences (ECMA-48, "SGR").
    Ansi,
    /// Without: the text goes to a file or a pipe, or colours are not wanted.
    Plain,
}

/// What a colour means. Which colour that is, is decided in one place, [`Paint::tone`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    /// It is as it should be.
    Good,
    /// It should be looked at.
    Warn,
    /// It is wrong.
    Bad,
    /// It matters less than what stands beside it.
    Dim,
    /// It matters most.
    Strong,
}

impl Paint {
    /// For standard output: no colours in a pipe, with `NO_COLOR` (<https://no-color.org>) or on a dumb terminal.
    pub(super) fn of_stdout() -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if io::stdout().is_terminal() && !unwanted && !dumb { Paint::Ansi } else { Paint::Plain }
    }

    /// A text in this tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        match self {
            Paint::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Paint::Plain => text.to_string(),
        }
    }
}
