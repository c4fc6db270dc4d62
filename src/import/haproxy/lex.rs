//! Lines of `haproxy.cfg` as words: quotes, escapes, comments and variables, as HAProxy's manual (section 2.2) has
//! them.
//!
//! | | outside of quotes | in `"` | in `'` |
//! |---|---|---|---|
//! | `\ ` `\\` `\#` `\"` `\'` `\$` | the character | the character | as it is |
//! | `\n` `\r` `\t` `\xHH` | what it stands for | what it stands for | as it is |
//! | another `\` | stays | stays | stays |
//! | `$NAME`, `${NAME}`, `${NAME-else}` | as it is | a variable | as it is |
//! | `#` | a comment begins | as it is | as it is |
//!
//! `setenv` in the file itself gives a variable its value; others stay variables.

use std::collections::HashMap;
use std::sync::Arc;

use crate::import::note::Origin;
use crate::import::{Files, Unreadable, of_template, template, unreadable, variable};

/// A line with at least one word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Where it stands.
    pub origin: Origin,
    /// Its words, without quotes. Variables in them are marked.
    pub words: Vec<String>,
}

impl Line {
    /// A word; empty if the line is shorter.
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// Whether it begins with these words.
    pub fn is(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(word, wanted)| word == wanted)
    }

    /// The words from there on, as one text for messages.
    pub fn rest(&self, from: usize) -> String {
        variable::shown(&self.words.get(from..).unwrap_or_default().join(" "))
    }
}

/// Reads a whole file.
///
/// A line ends at the end of the line: HAProxy has no way to continue one. Its preprocessor's conditions depend on the
/// version and the build of HAProxy, so their lines are not guessed.
///
/// # Errors
/// A quote that is not closed, a template, a condition of HAProxy's preprocessor.
pub fn lines(text: &str, file: &str, files: &dyn Files) -> Result<Vec<Line>, Unreadable> {
    let file: Arc<str> = Arc::from(file);
    let mut reader = Reader { files, set: HashMap::new() };
    let mut lines = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let origin = Origin { file: file.clone(), line: at + 1 };
        let line = Line { words: reader.words(text, &origin)?, origin };
        let first = line.word(0);
        if [".if", ".elif", ".else", ".endif"].contains(&first) {
            let text = format!("`{first}` is decided by HAProxy itself; write the lines that hold, and import those");
            return Err(unreadable(&line.origin, text));
        }
        if let (true, Some(value)) = (["setenv", "presetenv"].contains(&first), line.words.get(2)) {
            reader.set.insert(line.word(1).to_string(), value.clone());
        }
        if !line.words.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Reads lines one after another, because a line can set variables for later ones.
struct Reader<'a> {
    /// Where variables of the environment come from.
    files: &'a dyn Files,
    /// Variables that the file sets itself.
    set: HashMap<String, String>,
}

impl Reader<'_> {
    /// The words of one line.
    fn words(&self, text: &str, origin: &Origin) -> Result<Vec<String>, Unreadable> {
        let (mut words, mut word, mut has_word) = (Vec::new(), String::new(), false);
        let mut quote: Option<char> = None;
        let mut at = text.char_indices().peekable();
        let mut end = text.len();
        while let Some((place, c)) = at.next() {
            match (quote, c) {
                (None, '#') => {
                    end = place;
                    break;
                }
                (None, c) if c.is_ascii_whitespace() => {
                    if std::mem::take(&mut has_word) {
                        words.push(std::mem::take(&mut word));
                    }
                    continue;
                }
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                (Some('\''), c) => word.push(c),
                (_, '\\') => {
                    let (taken, escaped) = escape(&text[place + 1..]);
                    word.push(escaped);
                    at.by_ref().take(taken).for_each(|_| ());
                }
                (Some('"'), '$') => {
                    let taken = self.variable(&text[place + 1..], &mut word);
                    at.by_ref().take(taken).for_each(|_| ());
                }
                (_, c) => word.push(c),
            }
            has_word = true;
        }
        if let Some(mark) = template(&text[..end]) {
            return Err(unreadable(origin, of_template(mark)));
        }
        if let Some(quote) = quote {
            return Err(unreadable(origin, format!("the quote {quote} is not closed")));
        }
        if has_word {
            words.push(word);
        }
        Ok(words)
    }

    /// Takes a variable behind its `$`, and says how many characters it took.
    fn variable(&self, rest: &str, word: &mut String) -> usize {
        let (inner, taken) = match rest.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((inner, _)) => (inner, inner.chars().count() + 2),
                None => {
                    word.push('$');
                    return 0;
                }
            },
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let inner = rest.split(|c| !is_part(c)).next().unwrap_or_default();
                (inner, inner.len())
            }
        };
        let (name, default) = inner.split_once('-').map_or((inner, None), |(name, default)| (name, Some(default)));
        if !variable::is_name(name) {
            word.push('$');
            return 0;
        }
        match (self.set.get(name), default) {
            (Some(value), _) => word.push_str(value),
            (None, Some(default)) if self.files.variable(name).is_none() => word.push_str(default),
            (None, _) => word.push_str(&variable::mark(name)),
        }
        taken
    }
}

/// What stands behind a backslash: how many characters belong to it, and which one it means. Most of them mean nothing,
/// and then the backslash stays.
///
/// The same in double quotes and outside. A backslash before anything else is one: regular expressions have many of
/// them.
fn escape(rest: &str) -> (usize, char) {
    match rest.chars().next() {
        Some(c @ (' ' | '\\' | '#' | '"' | '\'' | '$')) => (1, c),
        Some('n') => (1, '\n'),
        Some('r') => (1, '\r'),
        Some('t') => (1, '\t'),
        Some('x') => {
            let hex = rest.get(1..3).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => (3, char::from(byte)),
                None => (0, '\\'),
            }
        }
        _ => (0, '\\'),
    }
}
