//! What an import has to say about lines of the file that it reads.
//!
//! A note is about a line that is carried over differently, or needs nothing; the translation is as good as the
//! original. A refusal is about a line without which it would be weaker, so the exit status of the command is 1.
//!
//! A line that several sections inherit is spoken of once. What is true of nearly every file (`Notes::once`) is said at
//! the first line that it is about, and not again.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::base::text::printable;

/// A line of the file that is translated, or of one that it includes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The path as it was given.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", printable(&self.file), self.line)
    }
}

/// Why a line cannot be carried over, and the line.
pub type Refusal = (Origin, String);

/// What becomes of a line of the original, by its first word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The translation has it, or says what it makes of it.
    Carried,
    /// It needs nothing here; why.
    Idle(&'static str),
    /// It cannot be said; why.
    Refused(&'static str),
}

/// One remark about a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// The line.
    pub origin: Origin,
    /// What it asks for is not in the translation, and the translation would be weaker without it. Otherwise it is said
    /// differently, or needs nothing.
    pub is_refused: bool,
    /// What there is to say, on one line.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = if self.is_refused { "refused: " } else { "" };
        write!(f, "{}: {refused}{}", self.origin, printable(&self.text))
    }
}

/// All remarks of an import.
#[derive(Debug, Default)]
pub struct Notes {
    /// As they were made.
    list: Vec<Note>,
    /// What was said once for the whole file.
    said: HashSet<String>,
    /// What was said of a line, so that a line that several sections inherit is spoken of once.
    spoken: HashSet<(Origin, String)>,
}

impl Notes {
    /// The line is said differently, or needs nothing.
    pub fn note(&mut self, origin: &Origin, text: impl Into<String>) {
        self.push(origin, false, text.into());
    }

    /// The line cannot be carried over.
    pub fn refuse(&mut self, origin: &Origin, text: impl Into<String>) {
        self.push(origin, true, text.into());
    }

    /// A note that is made for the first such line of the file only.
    pub fn once(&mut self, origin: &Origin, text: &str) {
        if self.said.insert(text.to_string()) {
            self.push(origin, false, text.to_string());
        }
    }

    /// Whether anything was refused.
    pub fn has_refusals(&self) -> bool {
        self.list.iter().any(|note| note.is_refused)
    }

    /// All of them, file by file, in the order of the lines.
    pub fn sorted(mut self) -> Vec<Note> {
        self.list.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.list
    }

    /// Keeps a remark, unless it was made before.
    fn push(&mut self, origin: &Origin, is_refused: bool, text: String) {
        if self.spoken.insert((origin.clone(), text.clone())) {
            self.list.push(Note { origin: origin.clone(), is_refused, text });
        }
    }
}
