//! Colours, on a terminal only.

use std::io::{self, IsTerminal};

/// Whether and how to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Paint {
    /// Escape sequences are understood.
    Ansi,
    /// Text goes to a file or a pipe, or colours are not wanted.
    Plain,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
    Strong,
}

impl Paint {
    /// For standard output, as <https://no-color.org> has it.
    pub(super) fn of_stdout() -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if io::stdout().is_terminal() && !unwanted && !dumb { Paint::Ansi } else { Paint::Plain }
    }

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
