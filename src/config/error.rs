//! What is wrong with a configuration: one line per fault, with its place and what to do.
//!
//! Readers collect all faults before they report any, as offsets into the text; [`Places`] turns those into lines and
//! columns at the end.

use std::fmt;
use std::sync::Arc;

use crate::base::text::printable;

/// One fault and its place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {}", self.message())]
pub struct Error {
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub problem: Problem,
}

impl Error {
    /// What is wrong, on one line. It may quote the file, so line breaks and characters that could control a terminal
    /// are shown as `\n` and the like.
    pub fn message(&self) -> String {
        printable(&self.problem.to_string()).into_owned()
    }
}

/// Where something was written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// In a file.
    File {
        /// The path of the file as the user gave it.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// On the command line: the option with its value.
    Argument(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Argument(argument) => f.write_str(argument),
        }
    }
}

/// What can be wrong. In every case the author of the configuration has to change something.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    /// The text is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// A key or table that does not exist.
    #[error("unknown key `{key}` in {table}; {hint}")]
    UnknownKey { key: String, table: String, hint: String },
    /// A TOML type that the key does not take.
    #[error("`{key}` is {found}; it takes {expected}")]
    WrongType { key: String, found: String, expected: String },
    /// The right TOML type, but a value that the key does not take.
    #[error("`{key}` cannot be {found}; {hint}")]
    BadValue { key: String, found: String, hint: String },
    /// A key without a default is missing.
    #[error("{table} has no `{key}`; add {hint}")]
    Missing { table: String, key: &'static str, hint: &'static str },
    /// A key that has no effect while another one is not set.
    #[error("`{key}` needs {what}; {hint}")]
    Needs { key: &'static str, what: String, hint: String },
    /// The same name or address twice.
    #[error("{what} is already in use on line {line}; {hint}")]
    Duplicate { what: String, line: usize, hint: &'static str },
    /// A listener or a route names a pool that does not exist.
    #[error("there is no pool `{pool}`; {hint}")]
    UnknownPool { pool: String, hint: String },
    /// A route without a condition, so that it would match every client.
    #[error("a route needs `protocol`, `sni` or `alpn`; all other clients get the listener's own `pool`")]
    RouteForAll,
    /// There is nothing to serve.
    #[error("there is no listener; add [listeners.NAME] with `bind` and `pool`")]
    NoListener,
    /// A pool without backends.
    #[error("pool `{0}` has no backends; add [[pools.{0}.backends]] with `address`")]
    EmptyPool(String),
    /// Connections that would come back to their own listener, again and again.
    #[error("connections would go around for ever: {0}; give the backend an address behind ringway")]
    Loop(String),
    /// Pools that fall back to each other.
    #[error("the fallbacks go around: {0}; one of these pools must be the last, without `fallback`")]
    FallbackLoop(String),
    /// `${NAME}` that cannot be replaced.
    #[error("`{key}`: {why}")]
    Variable { key: String, why: String },
    /// A file that the configuration names.
    #[error("`{key}`: {why}")]
    File { key: String, why: String },
}

/// Turns byte offsets into lines and columns. It keeps the offsets of all line starts, so a file with many faults costs
/// no more than one with few.
pub(super) struct Places<'a> {
    /// The text of the file, for columns.
    text: &'a str,
    /// What messages call the file.
    name: Arc<str>,
    /// The offset of each line's first byte.
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    /// For this text; `name` is what messages call the file.
    pub(super) fn new(text: &'a str, name: &str) -> Places<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Places { text, name: Arc::from(name), line_starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The line and column of a byte offset.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line(offset);
        let start = self.line_starts[line - 1]; // `line` is at least 1: the first start is 0
        let column = self.text.get(start..offset).map_or(offset.saturating_sub(start), |s| s.chars().count()) + 1;
        Place::File { name: Arc::clone(&self.name), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a value over several lines made an error of several lines, and could forge another one.
    #[test]
    fn an_error_is_one_line_whatever_was_written() {
        for written in ["x\ny", "\u{1b}[2Jx", "a\r\nf.toml:1:1: no error"] {
            let problem = Problem::BadValue { key: "type".into(), found: format!("`{written}`"), hint: "x".into() };
            let shown = Error { place: Place::Argument("--listen".into()), problem }.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
        let problem = Problem::EmptyPool("bücher".into());
        assert!(Error { place: Place::Argument("x".into()), problem }.to_string().contains("`bücher`"));
    }

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        let places = Places::new("a\nüx = 1\n", "f.toml");
        assert_eq!(places.place(0).to_string(), "f.toml:1:1");
        assert_eq!(places.place(4).to_string(), "f.toml:2:2");
        assert_eq!(places.place(10).to_string(), "f.toml:3:1");
    }
}
