//! Sections of `haproxy.cfg`, and what a proxy inherits from `defaults`.
//!
//! `defaults` hold for the proxies that follow, up to the next `defaults`, which begins anew. `from NAME` takes named
//! ones instead. Of several lines that say the same thing the last one counts, so a proxy is its inherited lines with
//! its own behind them; `no option X` takes an earlier `option X` back.

use std::collections::{HashMap, HashSet};

use super::lex::Line;
use crate::import::note::Origin;
use crate::import::{Unreadable, time, unreadable};

/// What can begin a section. A line with one of these words first begins one.
const KINDS: [&str; 22] = [
    "global",
    "defaults",
    "listen",
    "frontend",
    "backend",
    "peers",
    "resolvers",
    "userlist",
    "program",
    "mailers",
    "ring",
    "cache",
    "http-errors",
    "fcgi-app",
    "log-forward",
    "log-profile",
    "crt-store",
    "traces",
    "acme",
    "healthcheck",
    "ruleset",
    "dynamic-update",
];

/// A section with its lines.
#[derive(Clone, Debug)]
pub struct Section {
    /// The word that begins it.
    pub kind: String,
    /// Its name; empty if it has none.
    pub name: String,
    /// The `defaults` that it takes by name.
    pub from: Option<String>,
    /// Its first line.
    pub head: Line,
    /// The others.
    pub lines: Vec<Line>,
}

/// Cuts a file into sections.
///
/// # Errors
/// A line stands before the first section, or there is none.
pub fn sections(lines: Vec<Line>, file: &str) -> Result<Vec<Section>, Unreadable> {
    let mut sections: Vec<Section> = Vec::new();
    for line in lines {
        if KINDS.contains(&line.word(0)) {
            let from = line.words.iter().position(|word| word == "from").map(|at| line.word(at + 1).to_string());
            let name = if line.word(1) == "from" { String::new() } else { line.word(1).to_string() };
            sections.push(Section { kind: line.word(0).to_string(), name, from, head: line, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else if ![".notice", ".warning", ".alert", ".diag"].contains(&line.word(0)) {
            let text = format!("`{}` stands before the first section; is this a file of HAProxy?", line.rest(0));
            return Err(unreadable(&line.origin, text));
        }
    }
    if sections.is_empty() {
        let start = Origin { file: file.into(), line: 1 };
        return Err(unreadable(
            &start,
            "no section (`frontend`, `backend`, `listen`) is in it; is this a file of HAProxy?",
        ));
    }
    Ok(sections)
}

/// A `frontend`, `backend` or `listen`, with what it inherits.
#[derive(Debug)]
pub struct Proxy<'a> {
    /// The section.
    pub section: &'a Section,
    /// The lines of its `defaults` and its own, in the order in which they count.
    pub lines: Vec<&'a Line>,
    /// The place of the first own one.
    own: usize,
    /// By their first words: the places of lines.
    places: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Proxy<'a> {
    /// A proxy with the lines that it inherits.
    fn new(section: &'a Section, inherited: &[&'a Line]) -> Proxy<'a> {
        let mut lines = inherited.to_vec();
        let own = lines.len();
        lines.extend(&section.lines);
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            places.entry(line.word(0)).or_default().push(at);
        }
        Proxy { section, lines, own, places }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.section.name
    }

    /// Its first line.
    pub fn origin(&self) -> &'a Origin {
        &self.section.head.origin
    }

    /// Whether clients connect to it.
    pub fn is_front(&self) -> bool {
        self.section.kind != "backend"
    }

    /// Whether it has servers.
    pub fn is_back(&self) -> bool {
        self.section.kind != "frontend"
    }

    /// The lines that begin with this word.
    pub fn all(&self, word: &str) -> impl DoubleEndedIterator<Item = &'a Line> + '_ {
        self.places.get(word).into_iter().flatten().map(|at| self.lines[*at])
    }

    /// The same, without what it inherits.
    pub fn own(&self, word: &str) -> impl DoubleEndedIterator<Item = &'a Line> + '_ {
        self.places.get(word).into_iter().flatten().filter(|at| **at >= self.own).map(|at| self.lines[*at])
    }

    /// The last line that begins with these words.
    pub fn last(&self, words: &[&str]) -> Option<&'a Line> {
        self.all(words[0]).rev().find(|line| line.is(words))
    }

    /// The last `option NAME`, unless a later `no option NAME` takes it back.
    pub fn option(&self, name: &str) -> Option<&'a Line> {
        let on = self.places.get("option")?.iter().rev().find(|at| self.lines[**at].word(1) == name)?;
        let off =
            self.places.get("no").into_iter().flatten().rev().find(|at| self.lines[**at].is(&["no", "option", name]));
        off.is_none_or(|off| off < on).then(|| self.lines[*on])
    }

    /// A `timeout`, in microseconds, also by one of its old names.
    pub fn timeout(&self, name: &str) -> Option<(u64, &'a Origin)> {
        const OLD: [(&str, &str); 3] = [("connect", "contimeout"), ("client", "clitimeout"), ("server", "srvtimeout")];
        let place = |word: &str, name: Option<&str>| {
            let fits = |at: &&usize| name.is_none_or(|name| self.lines[**at].word(1) == name);
            self.places.get(word).into_iter().flatten().rev().find(fits).copied()
        };
        let old = OLD.iter().find(|(new, _)| *new == name).and_then(|(_, old)| place(old, None));
        let at = place("timeout", Some(name)).max(old)?;
        let line = self.lines[at];
        let text = if line.word(0) == "timeout" { line.word(2) } else { line.word(1) };
        time::of_haproxy(text).map(|us| (us, &line.origin))
    }

    /// `mode`; TCP where none is written.
    pub fn mode(&self) -> &'a str {
        self.last(&["mode"]).map_or("tcp", |line| line.word(1))
    }
}

/// Every proxy of a file, in order.
///
/// A `defaults` without a name can be followed by another one; each proxy has the last one before it.
///
/// # Errors
/// A named `defaults` that is not there.
pub fn proxies(sections: &[Section]) -> Result<Vec<Proxy<'_>>, Unreadable> {
    let mut named: HashMap<&str, Vec<&Line>> = HashMap::new();
    let mut current: Vec<&Line> = Vec::new();
    let mut all = Vec::new();
    for section in sections {
        let inherited = match &section.from {
            None => None,
            Some(name) => Some(named.get(name.as_str()).cloned().ok_or_else(|| {
                unreadable(&section.head.origin, format!("there is no `defaults {name}` before this line"))
            })?),
        };
        match section.kind.as_str() {
            // One `defaults` does not inherit from another unless it says from which.
            "defaults" => {
                current = inherited.unwrap_or_default();
                current.extend(&section.lines);
                named.insert(&section.name, current.clone());
            }
            "listen" | "frontend" | "backend" => {
                all.push(Proxy::new(section, inherited.as_ref().unwrap_or(&current)));
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Names that two proxies share: then a name does not say which one is meant.
pub fn doubles<'a>(proxies: &[Proxy<'a>]) -> Vec<&'a Origin> {
    let (mut fronts, mut backs) = (HashSet::new(), HashSet::new());
    let is_double = |proxy: &&Proxy<'a>| {
        let front = proxy.is_front() && !fronts.insert(proxy.name());
        let back = proxy.is_back() && !backs.insert(proxy.name());
        front || back
    };
    proxies.iter().filter(is_double).map(Proxy::origin).collect()
}
