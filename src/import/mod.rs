//! Translates configurations of HAProxy (`mode tcp`) and nginx (`stream`) into ringway's. Pure: texts come in, through
//! [`Files`] also those that a configuration includes; TOML and remarks about lines go out.
//!
//! ```text
//! haproxy ─┐
//!          ├─> sheet::Sheet ── proof::prove ──> TOML        (out: how it is written)
//! nginx ───┘                        │
//!                         config::load: does ringway take it?
//! ```
//!
//! The rules: what differs between the defaults of both is written out; what has no meaning here is a note; what would
//! be weaker than the original is refused, by its line, with everything that hangs on it; nothing is guessed.

mod address;
mod haproxy;
mod names;
mod nets;
mod nginx;
mod note;
mod out;
mod proof;
mod routes;
mod sheet;
mod time;
mod variable;

#[cfg(test)]
mod stricter_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use note::{Note, Origin};

/// Where an import finds what lies beside the file: variables, and files that it includes or names.
pub trait Files {
    /// The value of an environment variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn text(&self, path: &Path) -> io::Result<String>;

    /// The files that a pattern such as `/etc/nginx/conf.d/*.conf` stands for, sorted.
    ///
    /// # Errors
    /// Why the folder cannot be read.
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The program that a configuration is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// `haproxy.cfg`.
    Haproxy,
    /// `nginx.conf`.
    Nginx,
}

/// What became of a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Translation {
    /// The configuration for ringway; empty if nothing of it can be served.
    pub toml: String,
    /// Remarks, in the order of the lines.
    pub notes: Vec<Note>,
}

impl Translation {
    /// How many remarks say that something was refused.
    pub fn refused(&self) -> usize {
        self.notes.iter().filter(|note| note.is_refused).count()
    }
}

/// Why a file cannot be read at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{origin}: {text}")]
pub struct Unreadable {
    /// The line.
    pub origin: Origin,
    /// What is wrong with it, and what to do.
    pub text: String,
}

/// A line that cannot be read.
fn unreadable(origin: &Origin, text: impl Into<String>) -> Unreadable {
    Unreadable { origin: origin.clone(), text: text.into() }
}

/// Finds out what a file is for; `None` if it looks like neither.
///
/// The first line that says anything decides. Lines of nginx end with `;` or a brace; sections of HAProxy begin with a
/// word of their own, on a line without either.
pub fn guess(text: &str) -> Option<Language> {
    const SECTIONS: [&str; 10] =
        ["global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "program", "cache"];
    const BLOCKS: [&str; 7] = ["stream", "http", "events", "upstream", "server", "map", "user"];
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let first = line.split_whitespace().next().unwrap_or_default();
        let is_nginx = line.ends_with([';', '{', '}']);
        if !is_nginx && SECTIONS.contains(&first) {
            return Some(Language::Haproxy);
        }
        if is_nginx && (BLOCKS.contains(&first.trim_end_matches(['{', ';'])) || line.ends_with(';')) {
            return Some(Language::Nginx);
        }
    }
    None
}

/// Translates a configuration. `name` is the path of the file, as messages show it.
///
/// # Errors
/// The file cannot be read: it is a template, a quote is not closed, a block does not end.
pub fn translate(text: &str, name: &str, language: Language, files: &dyn Files) -> Result<Translation, Unreadable> {
    let text = variable::clean(text);
    let (sheet, mut notes) = match language {
        Language::Haproxy => haproxy::translate(&text, name, files)?,
        Language::Nginx => nginx::translate(&text, name, files)?,
    };
    let about = [
        format!("Translated from {name} by `ringway import`. The comments name its lines."),
        "What is written here although it is no default of ringway is one of the original: sessions of a server that"
            .to_string(),
        "goes down, passive ejection and time-outs differ. Each such key is worth a thought: `ringway reference`."
            .to_string(),
    ];
    let toml = proof::prove(sheet, &mut notes, files, &about);
    if toml.is_none() && !notes.has_refusals() {
        let start = Origin { file: name.into(), line: 1 };
        notes.refuse(&start, "nothing in this file listens for TCP clients, so there is nothing to translate");
    }
    Ok(Translation { toml: toml.unwrap_or_default(), notes: notes.sorted() })
}

/// Finds what templates write in front of what they replace. Comments of the language must be gone from the line.
///
/// `%{` alone is also what log formats of HAProxy have, so it counts only before a word of a template language.
fn template(line: &str) -> Option<&'static str> {
    let directive = |rest: &str| {
        let word =
            rest.trim_start_matches(['~', ' ']).split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        ["if", "else", "endif", "for", "endfor"].contains(&word)
    };
    for mark in ["{{", "{%", "<%"] {
        if line.contains(mark) {
            return Some(mark);
        }
    }
    line.match_indices("%{").any(|(at, _)| directive(&line[at + 2..])).then_some("%{")
}

/// The message for a template.
fn of_template(mark: &str) -> String {
    format!("`{mark}` is of a template; have the program that fills it in write the file, and import that one")
}
