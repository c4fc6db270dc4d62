//! Writes a [`Sheet`] as TOML. Each part has the line that it comes from as a comment.
//!
//! The order of a table is the one in which its keys were set. A line that comes from another one than its table says
//! so:
//!
//! ```toml
//! # haproxy.cfg:12
//! [listeners.db]
//! bind = "0.0.0.0:5432"  # haproxy.cfg:13
//! pool = "db"  # haproxy.cfg:14
//! ```
//!
//! Backends are inline tables, one per line, so that a pool can be read as a list. Checks and ejection stand behind
//! them as tables of their own, because they are long.

use std::fmt::Write;

use super::note::Origin;
use super::sheet::{CheckStep, Entry, KeyTable, ListenerSheet, PoolSheet, Sheet, Written};
use super::variable;
use crate::base::text::printable;

/// A part that can be left out when it turns out to be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A key of a table that is there once.
    Table(&'static str, &'static str),
    /// A listener, by its place.
    Listener(usize),
    /// A pool, by its place.
    Pool(usize),
}

/// The text, and what each of its lines belongs to.
#[derive(Debug, Default)]
pub struct Page {
    /// The whole configuration.
    pub text: String,
    /// For each line of the text.
    pub lines: Vec<Option<(Part, Origin)>>,
}

impl Page {
    /// Adds a line.
    fn line(&mut self, text: &str, of: Option<(Part, &Origin)>) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines.push(of.map(|(part, origin)| (part, origin.clone())));
    }

    /// Adds a comment with a line of the original, and the header that follows.
    fn header(&mut self, header: &str, part: Part, origin: &Origin) {
        self.line("", None);
        self.line(&format!("# {origin}"), Some((part, origin)));
        self.line(header, Some((part, origin)));
    }

    /// Adds a key. `beside` is the line that its table comes from.
    fn key(&mut self, entry: &Entry, part: Part, beside: &Origin) {
        let text = format!("{} = {}", entry.key, value(&entry.value));
        let comment = if entry.origin == *beside { String::new() } else { format!("  # {}", entry.origin) };
        self.line(&format!("{text}{comment}"), Some((part, &entry.origin)));
    }
}

/// Writes everything down. `about` is what the first lines say.
///
/// Tables that are there once come first, then listeners, then pools, each in the order of the original.
pub fn page(sheet: &Sheet, about: &[String]) -> Page {
    let mut page = Page::default();
    for line in about {
        page.line(&format!("# {}", printable(line)), None);
    }
    for (name, table) in sheet.tables() {
        let Some(first) = table.entries.first() else { continue };
        page.line("", None);
        page.line(&format!("[{name}]"), Some((Part::Table(name, first.key), &first.origin)));
        for entry in &table.entries {
            let text = format!("{} = {}  # {}", entry.key, value(&entry.value), entry.origin);
            page.line(&text, Some((Part::Table(name, entry.key), &entry.origin)));
        }
    }
    for (place, listener) in sheet.listeners.iter().enumerate() {
        self::listener(&mut page, place, listener);
    }
    for (place, pool) in sheet.pools.iter().enumerate() {
        self::pool(&mut page, place, pool);
    }
    page
}

/// Writes a listener with its routes.
fn listener(page: &mut Page, place: usize, listener: &ListenerSheet) {
    let (part, name) = (Part::Listener(place), key(&listener.name));
    page.header(&format!("[listeners.{name}]"), part, &listener.origin);
    for entry in &listener.keys.entries {
        page.key(entry, part, &listener.origin);
    }
    for route in &listener.routes {
        page.header(&format!("[[listeners.{name}.routes]]"), part, &route.origin);
        for entry in &route.keys.entries {
            page.key(entry, part, &route.origin);
        }
    }
}

/// Writes a pool with its check and its backends.
fn pool(page: &mut Page, place: usize, pool: &PoolSheet) {
    let (part, name) = (Part::Pool(place), key(&pool.name));
    page.header(&format!("[pools.{name}]"), part, &pool.origin);
    for entry in &pool.keys.entries {
        page.key(entry, part, &pool.origin);
    }
    page.line("backends = [", Some((part, &pool.origin)));
    for backend in &pool.backends {
        let text = format!("  {},  # {}", inline(&backend.keys), backend.origin);
        page.line(&text, Some((part, &backend.origin)));
    }
    page.line("]", Some((part, &pool.origin)));
    for (table, keys) in [("check", &pool.check), ("ejection", &pool.ejection)] {
        let Some(first) = keys.entries.first() else { continue };
        page.line("", None);
        page.line(&format!("[pools.{name}.{table}]"), Some((part, &first.origin)));
        for entry in &keys.entries {
            page.key(entry, part, &pool.origin);
        }
    }
}

/// A table on one line.
fn inline(table: &KeyTable) -> String {
    let keys: Vec<String> =
        table.entries.iter().map(|entry| format!("{} = {}", entry.key, value(&entry.value))).collect();
    format!("{{ {} }}", keys.join(", "))
}

/// A value as TOML.
fn value(value: &Written) -> String {
    match value {
        Written::Text(text) => quoted(&variable::written(text)),
        Written::Number(number) => number.to_string(),
        Written::Flag(flag) => flag.to_string(),
        Written::Texts(texts) => match texts.as_slice() {
            [] => "[]".to_string(),
            texts => list(texts.iter().map(|text| quoted(&variable::written(text)))),
        },
        Written::Ports(ports) => list(ports.iter().map(u16::to_string)),
        Written::Statuses(ranges) => list(ranges.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("\"{first}-{last}\""),
        })),
        Written::Steps(steps) => list(steps.iter().map(step)),
        Written::Headers(headers) => {
            let one =
                |(name, value): &(String, String)| format!("{} = {}", key(name), quoted(&variable::written(value)));
            format!("{{ {} }}", headers.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Written::Split(parts) => {
            list(parts.iter().map(|(pool, weight)| format!("{{ pool = {}, weight = {weight} }}", quoted(pool))))
        }
    }
}

/// A list on one line.
fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A step of a check.
fn step(CheckStep { send, expect }: &CheckStep) -> String {
    let keys = [("send", send), ("expect", expect)].into_iter().filter(|(_, text)| !text.is_empty());
    let keys: Vec<String> = keys.map(|(key, text)| format!("{key} = {}", quoted(&variable::written(text)))).collect();
    format!("{{ {} }}", keys.join(", "))
}

/// A key of TOML: bare where that is possible.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_string(),
        false => basic(name),
    }
}

/// A text of TOML. One with backslashes is easier to read as a literal one.
///
/// ringway decodes backslashes in what a check sends, and expressions have their own: as a literal string of TOML both
/// stand there as they are.
fn quoted(text: &str) -> String {
    let is_literal = text.contains('\\') && !text.contains('\'') && !text.chars().any(char::is_control);
    if is_literal { format!("'{text}'") } else { basic(text) }
}

/// A basic string of TOML.
fn basic(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
