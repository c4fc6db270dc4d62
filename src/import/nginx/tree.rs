//! `nginx.conf` as a tree of directives. Files that it includes stand in the place of the line that does.
//!
//! A directive is a name with words and either `;` or a block. Quotes keep blanks and signs together; `${NAME}` keeps
//! its braces. `#` begins a comment where a word could begin. `include` is followed in `stream` and around it, and not
//! in `http` and `mail`, whose files are not translated anyway. Patterns that no file fits are no error, as in nginx; a
//! file that is named and cannot be read is refused by the line that includes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::import::note::{Notes, Origin};
use crate::import::{Files, Unreadable, of_template, template, unreadable};

/// Blocks in blocks, and files in files.
const DEPTH_MAX: usize = 32;
/// Files that a configuration includes.
const FILES_MAX: usize = 2_000;

/// A directive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directive {
    /// Its line.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Its words, without quotes.
    pub args: Vec<String>,
    /// What stands in its braces; `None` if it ends with a semicolon.
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    /// A word; empty if there are fewer.
    pub fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }

    /// What stands in its braces.
    pub fn inner(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The directives of that name in its braces.
    pub fn all<'d>(&'d self, name: &'d str) -> impl DoubleEndedIterator<Item = &'d Directive> {
        self.inner().iter().filter(move |one| one.name == name)
    }

    /// As it is written, for messages.
    pub fn shown(&self) -> String {
        let all: Vec<&str> = std::iter::once(self.name.as_str()).chain(self.args.iter().map(String::as_str)).collect();
        all.join(" ")
    }
}

/// Reads a file with everything that it includes.
///
/// # Errors
/// A quote or a block that is not closed, a template, includes without end.
pub fn read(text: &str, name: &str, files: &dyn Files, notes: &mut Notes) -> Result<Vec<Directive>, Unreadable> {
    let folder = Path::new(name).parent().unwrap_or(Path::new("")).to_path_buf();
    let mut reader = Reader { files, folder, read: 0, notes };
    let tokens = tokens(text, name)?;
    let mut at = 0;
    let all = reader.block(&tokens, &mut at, 0, true)?;
    match tokens.get(at) {
        Some(Token { origin, .. }) => Err(unreadable(origin, "this `}` closes nothing")),
        None => Ok(all),
    }
}

/// A word or a sign.
#[derive(Clone, Debug)]
struct Token {
    /// Where it begins.
    origin: Origin,
    /// What it is.
    kind: Kind,
}

/// What a token is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    /// A word without its quotes.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    End,
}

/// Cuts a text into tokens.
fn tokens(text: &str, name: &str) -> Result<Vec<Token>, Unreadable> {
    let file: Arc<str> = Arc::from(name);
    let mut chars = text.chars().peekable();
    let (mut tokens, mut line) = (Vec::new(), 1);
    for (number, text) in text.lines().enumerate() {
        let code = text.trim_start();
        let code = if code.starts_with('#') { "" } else { code.split(" #").next().unwrap_or_default() };
        if let Some(mark) = template(code) {
            return Err(unreadable(&Origin { file, line: number + 1 }, of_template(mark)));
        }
    }
    while let Some(c) = chars.next() {
        let origin = Origin { file: file.clone(), line };
        let kind = match c {
            '\n' => {
                line += 1;
                continue;
            }
            c if c.is_whitespace() => continue,
            '#' => {
                while chars.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            ';' => Kind::End,
            '{' => Kind::Open,
            '}' => Kind::Close,
            quote @ ('"' | '\'') => Kind::Word(
                quoted(&mut chars, quote, &mut line)
                    .ok_or_else(|| unreadable(&origin, format!("the quote {quote} is not closed")))?,
            ),
            c => Kind::Word(bare(&mut chars, c)),
        };
        tokens.push(Token { origin, kind });
    }
    Ok(tokens)
}

/// A word in quotes, whose first one was taken. `None`: it does not end.
///
/// Only quotes, backslashes and three letters are escaped; a backslash before anything else stays, as in the
/// expressions of a map.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char, line: &mut usize) -> Option<String> {
    let mut word = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(word),
            '\\' => match chars.next()? {
                c @ ('"' | '\'' | '\\') => word.push(c),
                'n' => word.push('\n'),
                'r' => word.push('\r'),
                't' => word.push('\t'),
                c => {
                    word.push('\\');
                    word.push(c);
                    *line += usize::from(c == '\n');
                }
            },
            c => {
                *line += usize::from(c == '\n');
                word.push(c);
            }
        }
    }
}

/// A word without quotes. The braces of `${NAME}` belong to it.
///
/// A brace begins a block only where a word has ended, or directly behind one: `stream{` is `stream {`.
fn bare(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, first: char) -> String {
    let mut word = String::from(first);
    let mut is_variable = false;
    while let Some(c) = chars.next_if(|c| {
        !c.is_whitespace() && *c != ';' && (*c != '{' || word.ends_with('$')) && (*c != '}' || is_variable)
    }) {
        is_variable = (is_variable || c == '{') && c != '}';
        word.push(c);
        if c == '\\' {
            word.extend(chars.next_if(|c| *c != '\n'));
        }
    }
    word
}

/// Builds the tree.
struct Reader<'a> {
    /// Where included files are.
    files: &'a dyn Files,
    /// The folder of the main file.
    folder: PathBuf,
    /// Included files so far.
    read: usize,
    /// Files that cannot be read are named here.
    notes: &'a mut Notes,
}

impl Reader<'_> {
    /// Reads directives up to a `}` or the end. `follows`: includes count here.
    fn block(
        &mut self,
        tokens: &[Token],
        at: &mut usize,
        depth: usize,
        follows: bool,
    ) -> Result<Vec<Directive>, Unreadable> {
        let mut all = Vec::new();
        while let Some(Token { origin, kind }) = tokens.get(*at) {
            let name = match kind {
                Kind::Close => break,
                Kind::End => {
                    *at += 1;
                    continue;
                }
                Kind::Open => return Err(unreadable(origin, "this `{` has no name before it")),
                Kind::Word(name) => name,
            };
            *at += 1;
            let mut args = Vec::new();
            while let Some(Token { kind: Kind::Word(word), .. }) = tokens.get(*at) {
                args.push(word.clone());
                *at += 1;
            }
            let mut directive = Directive { origin: origin.clone(), name: name.clone(), args, block: None };
            match tokens.get(*at).map(|token| &token.kind) {
                Some(Kind::End) => *at += 1,
                Some(Kind::Open) if depth < DEPTH_MAX => {
                    *at += 1;
                    let follows = follows && !["http", "mail"].contains(&name.as_str());
                    directive.block = Some(self.block(tokens, at, depth + 1, follows)?);
                    match tokens.get(*at) {
                        Some(Token { kind: Kind::Close, .. }) => *at += 1,
                        _ => return Err(unreadable(origin, format!("the block `{name} {{` does not end"))),
                    }
                }
                Some(Kind::Open) => return Err(unreadable(origin, "there are too many blocks in each other")),
                _ => return Err(unreadable(origin, format!("`{name}` does not end with `;` or a block"))),
            }
            match directive.name.as_str() {
                "include" if follows => self.include(&directive, depth, &mut all)?,
                _ => all.push(directive),
            }
        }
        Ok(all)
    }

    /// Reads the files that a line includes.
    fn include(&mut self, line: &Directive, depth: usize, all: &mut Vec<Directive>) -> Result<(), Unreadable> {
        let origin = &line.origin;
        if depth >= DEPTH_MAX {
            return Err(unreadable(origin, "files include each other without end"));
        }
        let pattern = self.folder.join(line.arg(0));
        let is_pattern = line.arg(0).contains(['*', '?', '[']);
        let paths = match is_pattern {
            false => vec![pattern.clone()],
            true => self.files.matching(&pattern).unwrap_or_default(),
        };
        for path in paths {
            self.read += 1;
            if self.read > FILES_MAX {
                return Err(unreadable(origin, format!("more than {FILES_MAX} files are included")));
            }
            let text = match self.files.text(&path) {
                Ok(text) => crate::import::variable::clean(&text),
                Err(error) => {
                    self.notes.refuse(origin, format!("{} cannot be read: {error}", path.display()));
                    continue;
                }
            };
            let tokens = tokens(&text, &path.display().to_string())?;
            let mut at = 0;
            // The depth grows, so that a file that includes itself ends.
            all.extend(self.block(&tokens, &mut at, depth + 1, true)?);
            if let Some(Token { origin, .. }) = tokens.get(at) {
                return Err(unreadable(origin, "this `}` closes nothing"));
            }
        }
        Ok(())
    }
}
