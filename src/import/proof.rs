//! Nothing leaves an import that ringway would not take: what was translated is read as ringway reads it, and what it
//! does not take is left out and named, with what hangs on it. So a key that ringway does not have yet is refused by
//! the line that asks for it.
//!
//! ```text
//! sheet ── leave_loose_ends_out ──> out::page ──> config::load ──> taken: done
//!   ^                                                  │
//!   └──────────── leave_out ── errors, by line ────────┘
//! ```
//!
//! Each line of the page knows the part that it was written for (`out::Part`), so an error of the configuration has the
//! line of the original. How much goes with an error:
//!
//! | the error is in | what goes |
//! |---|---|
//! | a listener, or one of its routes | the listener: without a route its clients would go elsewhere |
//! | a pool, its check, a backend | the pool, and every listener and pool that leads to it |
//! | `[process]`, `[dns]` | that key |
//! | `[log]`, `[access_log]`, `[admin]` | that key, and it counts as a note |
//!
//! What is left after that is proved again, because parts depend on each other: the same address can be bound only
//! once, and with a listener the other one may become right.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use super::Files;
use super::note::{Notes, Origin};
use super::out::{self, Page, Part};
use super::sheet::Sheet;
use super::variable;
use crate::config::error::{Error, Place, Problem};
use crate::config::{self, Outside};

/// How often something can be left out. Each time at least one part goes, mostly all that is wrong.
const ROUNDS_MAX: usize = 100;

/// What a configuration takes from outside, where it may not be: a variable that is not set has a value that fits.
struct Surroundings<'a> {
    /// Where the files are that were read.
    files: &'a dyn Files,
    /// Values of variables that are not set.
    invented: HashMap<String, String>,
}

impl Outside for Surroundings<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.files.variable(name).or_else(|| self.invented.get(name).cloned())
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.text(path).map(String::into_bytes)
    }
}

/// Writes the sheet down as far as ringway takes it. `None`: nothing is left to serve.
pub fn prove(mut sheet: Sheet, notes: &mut Notes, files: &dyn Files, about: &[String]) -> Option<String> {
    for _ in 0..ROUNDS_MAX {
        leave_loose_ends_out(&mut sheet, notes);
        if sheet.listeners.is_empty() {
            return None;
        }
        let page = out::page(&sheet, about);
        let surroundings = Surroundings { files, invented: invented(&sheet, &page.text) };
        let Err(errors) = config::load(&page.text, "import", &surroundings) else {
            note_variables(&sheet, notes, files);
            return Some(page.text);
        };
        if !leave_out(&mut sheet, notes, &page, &errors) {
            break;
        }
    }
    let origin = sheet.listeners.first().map(|listener| listener.origin.clone());
    if let Some(origin) = origin {
        notes.refuse(&origin, "ringway does not take what this became");
    }
    None
}

/// Leaves out listeners that lead to a pool that is not there, and pools that no listener leads to.
///
/// First pools that would fall back to one that is gone, until none is left; then listeners; then pools that are
/// reached neither by a listener nor as the fallback of a pool that is.
fn leave_loose_ends_out(sheet: &mut Sheet, notes: &mut Notes) {
    let mut there: HashSet<String> = sheet.pools.iter().map(|pool| pool.name.clone()).collect();
    loop {
        let before = there.len();
        sheet.pools.retain(|pool| {
            let missing = pool.keys.text("fallback").filter(|fallback| !there.contains(*fallback));
            if let Some(fallback) = missing {
                notes.note(&pool.origin, format!("left out with the pool `{fallback}`, which it falls back to"));
                there.remove(&pool.name);
            }
            missing.is_none()
        });
        if there.len() == before {
            break;
        }
    }
    sheet.listeners.retain(|listener| {
        let missing = listener.pools().into_iter().find(|pool| !there.contains(*pool)).map(str::to_string);
        if let Some(pool) = &missing {
            notes.note(&listener.origin, format!("left out with the pool `{pool}`, which it leads to"));
        }
        missing.is_none()
    });
    let mut reached: HashSet<String> =
        sheet.listeners.iter().flat_map(|listener| listener.pools()).map(str::to_string).collect();
    loop {
        let fallbacks = sheet.pools.iter().filter(|pool| reached.contains(&pool.name));
        let more: Vec<String> = fallbacks.filter_map(|pool| pool.keys.text("fallback").map(str::to_string)).collect();
        let before = reached.len();
        reached.extend(more);
        if reached.len() == before {
            break;
        }
    }
    sheet.pools.retain(|pool| {
        let is_reached = reached.contains(&pool.name);
        if !is_reached {
            notes.note(&pool.origin, format!("left out: nothing that is carried over leads to `{}`", pool.name));
        }
        is_reached
    });
}

/// Leaves out what the errors are about. `false` if that is nothing.
///
/// All errors are taken together, so that most configurations need one round. An error in a pool takes its listeners
/// only in the next round, when nothing leads anywhere any more.
fn leave_out(sheet: &mut Sheet, notes: &mut Notes, page: &Page, errors: &[Error]) -> bool {
    let (mut listeners, mut pools, mut keys) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for error in errors {
        let Place::File { line, .. } = &error.place else { continue };
        let Some(Some((part, origin))) = page.lines.get(line - 1) else { continue };
        let text = reason(error);
        match *part {
            Part::Listener(place) => _ = listeners.insert(place),
            Part::Pool(place) => _ = pools.insert(place),
            Part::Table(table, key) => keys.push((table, key)),
        }
        match part {
            // What is logged, and how the API is reached, changes nothing for a client.
            Part::Table("access_log" | "log" | "admin", _) => notes.note(origin, format!("left out: {text}")),
            _ => notes.refuse(origin, text),
        }
    }
    for place in listeners.iter().rev() {
        sheet.listeners.remove(*place);
    }
    for place in pools.iter().rev() {
        sheet.pools.remove(*place);
    }
    for (table, key) in &keys {
        if let Some(table) = sheet.table_mut(table) {
            table.remove(key);
        }
    }
    !(listeners.is_empty() && pools.is_empty() && keys.is_empty())
}

/// Why ringway does not take something.
fn reason(error: &Error) -> String {
    match &error.problem {
        Problem::UnknownKey { key, .. } => format!("ringway cannot say `{key}` yet"),
        _ => error.message(),
    }
}

/// Values for the variables of a configuration: a port behind a colon, else an address. All of them differ.
///
/// They are of networks that no host has (RFC 2544), and differ from each other, so that no address is there twice only
/// because two variables are not known.
fn invented(sheet: &Sheet, text: &str) -> HashMap<String, String> {
    let mut values = HashMap::new();
    for (name, _) in variables(sheet) {
        let number = values.len() as u32;
        let is_port = text.contains(&format!(":${{{name}}}"));
        let value = match is_port {
            true => (10_000 + number % 50_000).to_string(),
            false => format!("198.18.{}.{}", number / 250 % 256, number % 250 + 1),
        };
        values.insert(name, value);
    }
    values
}

/// Says which variables must be set where ringway starts.
///
/// ringway refuses a variable that is not set, and so would `ringway check` on this machine.
fn note_variables(sheet: &Sheet, notes: &mut Notes, files: &dyn Files) {
    for (name, origin) in variables(sheet) {
        if files.variable(&name).is_none() {
            notes
                .note(&origin, format!("the environment variable {name} is not set here; set it where ringway starts"));
        }
    }
}

/// Every variable that the configuration names, with the first line that does.
fn variables(sheet: &Sheet) -> Vec<(String, Origin)> {
    use super::sheet::{Entry, Written};
    let mut all: Vec<&Entry> = sheet.tables().iter().flat_map(|(_, table)| &table.entries).collect();
    for listener in &sheet.listeners {
        all.extend(&listener.keys.entries);
        all.extend(listener.routes.iter().flat_map(|route| &route.keys.entries));
    }
    for pool in &sheet.pools {
        let tables = [&pool.keys, &pool.check, &pool.ejection];
        all.extend(tables.into_iter().flat_map(|table| &table.entries));
        all.extend(pool.backends.iter().flat_map(|backend| &backend.keys.entries));
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for entry in all {
        let texts: Vec<&str> = match &entry.value {
            Written::Text(text) => vec![text],
            Written::Texts(texts) => texts.iter().map(String::as_str).collect(),
            Written::Steps(steps) => steps.iter().flat_map(|step| [step.send.as_str(), &step.expect]).collect(),
            Written::Headers(headers) => headers.iter().map(|(_, value)| value.as_str()).collect(),
            _ => Vec::new(),
        };
        for name in texts.into_iter().flat_map(variable::names) {
            if seen.insert(name.to_string()) {
                found.push((name.to_string(), entry.origin.clone()));
            }
        }
    }
    found
}
