//! What was written: a walk over the parsed TOML that knows every key and finds every fault on its way.
//!
//! It is a walk and not a derived reader, because a derived one stops at its first error and cannot say where a missing
//! key belongs. Each table becomes a [`Table`]: its values, its defaults, and where each of them stands. A fault is
//! reported once: what follows from one that was reported is left out (`is_wrong`, `has_wrong_…`).

mod table;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Problem;
use super::foreign;
use super::keys::{self, Default, Key, Kind, Section};
use super::value::{self, At, Decoder, Fault, Value};
pub(super) use table::Table;
use table::of_list;

/// A whole file. A table that is not in the file is here with its defaults.
pub(super) struct Raw {
    /// `[process]`
    pub(super) process: Table,
    /// `[log]`
    pub(super) log: Table,
    /// `[access_log]`
    pub(super) access_log: Table,
    /// `[admin]`
    pub(super) admin: Table,
    /// `[dns]`
    pub(super) dns: Table,
    /// In the order of the file, as all lists here.
    pub(super) listeners: Vec<Listener>,
    /// `[pools.*]`
    pub(super) pools: Vec<Pool>,
    /// Something else stands in the place of listeners, and was reported.
    pub(super) has_wrong_listeners: bool,
    /// Something else stands in the place of pools, and was reported.
    pub(super) has_wrong_pools: bool,
}

/// A listener with its TLS and its routes.
pub(super) struct Listener {
    /// NAME of `[listeners.NAME]`.
    pub(super) name: String,
    /// Its own keys.
    pub(super) table: Table,
    /// `[listeners.NAME.tls]`; `None` if it is not written, or is no table.
    pub(super) tls: Option<Table>,
    /// `[[listeners.NAME.routes]]`
    pub(super) routes: Vec<Table>,
}

/// A pool with its check, its ejection, its source and its backends.
pub(super) struct Pool {
    /// NAME of `[pools.NAME]`.
    pub(super) name: String,
    /// Its own keys.
    pub(super) table: Table,
    /// `[pools.NAME.check]`
    pub(super) check: Table,
    /// `[pools.NAME.tls]`; `None` if it is not written, or is no table.
    pub(super) tls: Option<Table>,
    /// `[pools.NAME.ejection]`
    pub(super) ejection: Table,
    /// `[pools.NAME.discover]`; `None` if it is not written, or is no table.
    pub(super) discover: Option<Table>,
    /// `[[pools.NAME.backends]]`
    pub(super) backends: Vec<Table>,
    /// Something else stands in the place of backends, and was reported.
    pub(super) has_wrong_backends: bool,
}

/// Reads a whole document. Everything that is wrong with single keys is added to `faults`.
pub(super) fn read(root: &DeTable<'_>, decoder: &Decoder<'_>, faults: &mut Vec<At<Problem>>) -> Raw {
    const TABLES: [&str; 7] = ["process", "log", "access_log", "admin", "dns", "listeners", "pools"];
    let mut reader = Reader { decoder, faults, misplaced: Vec::new() };
    for (key, value) in in_order(root) {
        if !TABLES.contains(&key.get_ref().as_ref()) {
            let is_table = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
            let belongs = belongs(key.get_ref()).filter(|_| !is_table);
            let hint = reader.unknown(key, "the file", TABLES.into_iter(), None, belongs);
            let leads = |kind: &&str| {
                is_table && (hint.contains(&format!("`{kind}`")) || hint.contains(&format!("[{kind}.NAME]")))
            };
            reader.misplaced.extend(["listeners", "pools"].into_iter().filter(leads));
        }
    }
    let plain = |reader: &mut Reader<'_, '_>, name: &str, section: Section| {
        let table = reader.subtable(root, name, name);
        reader.table(table, section, name, 0..0)
    };
    let mut raw = Raw {
        process: plain(&mut reader, "process", Section::Process),
        log: plain(&mut reader, "log", Section::Log),
        access_log: plain(&mut reader, "access_log", Section::AccessLog),
        admin: plain(&mut reader, "admin", Section::Admin),
        dns: plain(&mut reader, "dns", Section::Dns),
        listeners: reader.listeners(root),
        pools: reader.pools(root),
        has_wrong_listeners: false,
        has_wrong_pools: false,
    };
    raw.has_wrong_listeners = reader.misplaced.contains(&"listeners");
    raw.has_wrong_pools = reader.misplaced.contains(&"pools");
    raw
}

/// Whether a reported fault says already what to do about this missing key.
fn leads_to(faults: &[At<Problem>], missing: &str) -> bool {
    let named = format!("`{missing}`");
    faults.iter().any(|(_, problem)| matches!(problem, Problem::UnknownKey { hint, .. } if hint.contains(&named)))
}

/// A key and its value, with their places.
type Entry<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

/// The entries of a table in the order of the file. The parser's map sorts them by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The reader: how values are decoded, and what was found wrong.
struct Reader<'a, 'e> {
    /// How values are read.
    decoder: &'a Decoder<'e>,
    /// What was found wrong.
    faults: &'a mut Vec<At<Problem>>,
    /// Which of `listeners` and `pools` were written in another form.
    misplaced: Vec<&'static str>,
}

impl Reader<'_, '_> {
    /// Reads every listener.
    fn listeners(&mut self, root: &DeTable<'_>) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for (name, value) in self.named(root, "listeners", Section::Listener) {
            let title = format!("listeners.{name}");
            if let Some(table) = self.as_table(value, &title) {
                let routes = self.tables(table, "routes", Section::Route, &title);
                let tls = self.switch(table, "tls", Section::ListenerTls, &title);
                let table = self.table(Some(table), Section::Listener, &title, value.span());
                listeners.push(Listener { name, table, tls, routes });
            }
        }
        listeners
    }

    /// Reads a table in another one that turns something on by being there: the TLS of a listener, for example.
    fn switch(&mut self, parent: &DeTable<'_>, name: &str, section: Section, title: &str) -> Option<Table> {
        let value = parent.get(name)?;
        let title = format!("{title}.{name}");
        let table = self.as_table(value, &title)?;
        Some(self.table(Some(table), section, &title, value.span()))
    }

    /// Reads every pool.
    fn pools(&mut self, root: &DeTable<'_>) -> Vec<Pool> {
        let mut pools = Vec::new();
        for (name, value) in self.named(root, "pools", Section::Pool) {
            let title = format!("pools.{name}");
            let Some(table) = self.as_table(value, &title) else { continue };
            let check_title = format!("{title}.check");
            let check = self.subtable(table, "check", &check_title);
            let check = self.table(check, Section::Check, &check_title, value.span());
            let tls = self.switch(table, "tls", Section::PoolTls, &title);
            let discover = self.switch(table, "discover", Section::Discover, &title);
            let ejection_title = format!("{title}.ejection");
            let ejection = self.subtable(table, "ejection", &ejection_title);
            let ejection = self.table(ejection, Section::Ejection, &ejection_title, value.span());
            let backends = self.tables(table, "backends", Section::Backend, &title);
            let (is_written, faults_before) = (table.contains_key("backends"), self.faults.len());
            let table = self.table(Some(table), Section::Pool, &title, value.span());
            let elsewhere = foreign::with_name(foreign::BACKENDS, &title);
            let is_elsewhere = self.faults[faults_before..].iter().any(|(_, problem)| {
                matches!(problem, Problem::UnknownKey { hint, .. } if *hint == elsewhere || hint.contains("`backends`"))
            });
            let has_wrong_backends = is_elsewhere || (is_written && !table_is_empty_list(value, "backends"));
            pools.push(Pool { name, table, check, tls, ejection, discover, backends, has_wrong_backends });
        }
        pools
    }

    /// Reads a list of tables (`[[…]]`) in another table.
    fn tables(&mut self, parent: &DeTable<'_>, name: &str, section: Section, title: &str) -> Vec<Table> {
        let title = format!("{title}.{name}");
        let Some(value) = parent.get(name) else { return Vec::new() };
        let example = match section {
            Section::Route => "{ sni = [\"db.example\"], pool = \"NAME\" }",
            _ => "{ address = \"10.0.0.1:5432\" }",
        };
        let DeValue::Array(items) = value.get_ref() else {
            let expected = match value.get_ref() {
                DeValue::Table(_) => format!("a list of tables; write [[{title}]] with two brackets, once for each"),
                _ => format!("a list of tables; write {name} = [{example}]"),
            };
            self.wrong_type(value, &title, expected);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            let DeValue::Table(table) = item.get_ref() else {
                let meant = match item.get_ref() {
                    DeValue::String(text) if section == Section::Backend && super::address::backend(text).is_ok() => {
                        format!("{{ address = {} }}", value::quoted(text))
                    }
                    _ => example.to_string(),
                };
                self.wrong_type(item, &title, format!("a table; write {meant} for it"));
                continue;
            };
            tables.push(self.table(Some(table), section, &title, item.span()));
        }
        tables
    }

    /// The tables below `[listeners]` or `[pools]`, with their names, in the order of the file.
    fn named<'t, 'i>(
        &mut self,
        root: &'t DeTable<'i>,
        kind: &'static str,
        section: Section,
    ) -> Vec<(String, &'t Spanned<DeValue<'i>>)> {
        let Some(value) = root.get(kind) else { return Vec::new() };
        let header = section.title();
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(value, kind, format!("tables with names; write {header}, where NAME is yours"));
            self.misplaced.push(kind);
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, value) in in_order(table) {
            let name = key.get_ref().to_string();
            if !matches!(value.get_ref(), DeValue::Table(_)) {
                // The user left out the name of the table. Everything there belongs into it, so this is reported once.
                let expected = format!("a table; write {header} above `{name}`, where NAME is yours");
                self.wrong_type(value, &format!("{kind}.{name}"), expected);
                self.misplaced.push(kind);
                break;
            }
            let slash = name.contains('/').then_some("a name holds no `/`");
            if let Some(hint) = value::fault_of_name(&name).or(slash) {
                let problem = Problem::BadValue {
                    key: kind.to_string(),
                    found: format!("named {name:?}"),
                    hint: hint.to_string(),
                };
                self.faults.push((key.span(), problem));
            }
            found.push((name, value));
        }
        found
    }

    /// A table in another table; `None` if it is not there or is no table, which is reported.
    fn subtable<'t, 'i>(&mut self, parent: &'t DeTable<'i>, name: &str, title: &str) -> Option<&'t DeTable<'i>> {
        self.as_table(parent.get(name)?, title)
    }

    /// A value that must be a table; `None` if it is not, which is reported.
    fn as_table<'t, 'i>(&mut self, value: &'t Spanned<DeValue<'i>>, title: &str) -> Option<&'t DeTable<'i>> {
        let one = match value.get_ref() {
            DeValue::Table(table) => return Some(table),
            DeValue::Array(_) => " with one bracket",
            _ => "",
        };
        // The short form of other programs, such as `check = true` or `log = "/var/log/x"`.
        let key = match title.rsplit('.').next() {
            Some("check") => " and `type` below it",
            Some("discover") => " and `type` below it",
            Some("tls") if title.starts_with("listeners.") => " and `certificates` below it",
            Some("log" | "access_log") => " and `output` below it",
            _ => "",
        };
        self.wrong_type(value, title, format!("a table; write [{title}]{one}{key}"));
        None
    }

    /// Reads the keys of one table, and fills in defaults. Without a table all keys have their defaults.
    fn table(&mut self, written: Option<&DeTable<'_>>, section: Section, title: &str, span: Range<usize>) -> Table {
        let mut values = BTreeMap::new();
        let faults_before = self.faults.len();
        if let Some(written) = written {
            for (name, value) in in_order(written) {
                self.key(section, title, name, value, &mut values);
            }
        }
        let is_pool = |key: &Key| section == Section::Listener && key.name == "pool";
        let is_written = |key: &&Key| written.is_some_and(|written| written.contains_key(key.name));
        let written_keys = keys::of(section).filter(is_written).map(|key| key.name).collect();
        for key in keys::of(section) {
            let absent = written.is_none_or(|written| !written.contains_key(key.name));
            match key.default {
                Default::Is(text) => {
                    values.entry(key.name).or_insert_with(|| (span.clone(), of_list(key.kind, text)));
                }
                Default::Required(_) if leads_to(&self.faults[faults_before..], key.name) => {}
                Default::Required(_) if key.instead.is_some_and(|other| stands_for_it(written, &values, other)) => {}
                Default::Required(_) if is_pool(key) && refuses_the_rest(written, &values) => {}
                Default::Required(hint) if absent => {
                    let table = brackets(section, title);
                    self.faults.push((span.clone(), Problem::Missing { table, key: key.name, hint }));
                }
                Default::Required(_) | Default::Absent => {}
            }
        }
        Table { span, is_wrong: self.faults.len() > faults_before, values, written: written_keys }
    }

    /// Reads one key. A key that is wrong is reported and gets its default.
    fn key(
        &mut self,
        section: Section,
        title: &str,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        values: &mut BTreeMap<&'static str, (Range<usize>, Value)>,
    ) {
        let below: &[&str] = match section {
            Section::Pool => &["tls", "check", "ejection", "discover", "backends"],
            Section::Listener => &["tls", "routes"],
            _ => &[],
        };
        if below.contains(&name.get_ref().as_ref()) {
            return;
        }
        let Some(key) = keys::find(section, name.get_ref()) else {
            let known = keys::of(section).map(|key| key.name).chain(below.iter().copied());
            self.unknown(name, &brackets(section, title), known, Some(section), None);
            return;
        };
        match self.decoder.decode(key.kind, value.span(), value.get_ref()) {
            Err(all) => {
                let name = if key.name == "type" { format!("{title}.type") } else { key.name.to_string() };
                let faults = all.into_iter().map(|(span, fault)| (span, problem_of(fault, &name, key.kind, title)));
                self.faults.extend(faults);
            }
            Ok(found) => {
                values.insert(key.name, (value.span(), found));
            }
        }
    }

    /// Reports an unknown key with the most helpful hint, and returns the hint. `section` is `None` at the top of the
    /// file. `certain` names the tables to which the key surely belongs.
    fn unknown<'k>(
        &mut self,
        key: &Spanned<DeString<'_>>,
        table: &str,
        known: impl Iterator<Item = &'k str> + Clone,
        section: Option<Section>,
        certain: Option<String>,
    ) -> String {
        let name = key.get_ref().to_string();
        let same = known.clone().find(|known| foreign::plain(known) == foreign::plain(&name));
        let of_others = section.map_or_else(|| foreign::at_top(&name), |section| foreign::in_table(section, &name));
        let of_others = of_others.filter(|_| same.is_none());
        let hint = match (certain, of_others, same.or_else(|| value::nearest(&name, known)), belongs(&name)) {
            (Some(places), ..) | (None, None, None, Some(places)) => format!("it belongs into {places}"),
            (None, Some(here), ..) => here.to_string(),
            (None, None, Some(near), _) => format!("did you mean `{near}`?"),
            (None, None, None, None) => {
                "no key there has a similar name; `ringway reference` prints every key".to_string()
            }
        };
        let hint = foreign::with_name(&hint, table);
        let problem = Problem::UnknownKey { key: name, table: table.to_string(), hint: hint.clone() };
        self.faults.push((key.span(), problem));
        hint
    }

    /// Reports a value of a TOML type that cannot stand there.
    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, title: &str, expected: String) {
        let found = value::name_of(value.get_ref());
        self.faults.push((value.span(), Problem::WrongType { key: title.to_string(), found, expected }));
    }
}

/// Whether a list that can stand for another key is there; also if it was wrong, which was reported.
fn stands_for_it(
    written: Option<&DeTable<'_>>,
    values: &BTreeMap<&'static str, (Range<usize>, Value)>,
    list: &str,
) -> bool {
    let is_empty = matches!(values.get(list), Some((_, Value::Split(shares))) if shares.is_empty());
    written.is_some_and(|written| written.contains_key(list)) && !is_empty
}

/// Whether a listener refuses each client that no route leads elsewhere.
fn refuses_the_rest(written: Option<&DeTable<'_>>, values: &BTreeMap<&'static str, (Range<usize>, Value)>) -> bool {
    let refuses = matches!(values.get("unmatched"), Some((_, Value::Word("refuse"))));
    let routes = written.and_then(|written| written.get("routes")).map(Spanned::get_ref);
    refuses && matches!(routes, Some(DeValue::Array(routes)) if !routes.is_empty())
}

/// The tables that have a key of this name; `None` if there are none.
fn belongs(name: &str) -> Option<String> {
    let places: Vec<&str> = keys::KEYS.iter().filter(|key| key.name == name).map(|key| key.section.title()).collect();
    let (last, others) = places.split_last()?;
    Some(if others.is_empty() { last.to_string() } else { format!("{} or {last}", others.join(", ")) })
}

/// Whether a key of a table is an empty list.
fn table_is_empty_list(table: &Spanned<DeValue<'_>>, key: &str) -> bool {
    let DeValue::Table(table) = table.get_ref() else { return false };
    table.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()))
}

/// The header of a table as the file writes it, for messages.
fn brackets(section: Section, title: &str) -> String {
    match section {
        Section::Backend | Section::Route => format!("[[{title}]]"),
        _ => format!("[{title}]"),
    }
}

/// Makes a problem of a fault, with the key it belongs to.
fn problem_of(fault: Fault, key: &str, kind: Kind, title: &str) -> Problem {
    let key = key.to_string();
    match fault {
        Fault::Type(found) => Problem::WrongType { key, found, expected: value::expected(kind) },
        Fault::Value(found, hint) => Problem::BadValue { key, found, hint: foreign::with_name(&hint, title) },
        Fault::Variable(why) => Problem::Variable { key, why },
        Fault::File(why) => Problem::File { key, why },
    }
}
