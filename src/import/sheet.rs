//! What is to be written: tables of keys with their values, each with the line that it comes from. Both languages lead
//! here, and `out` prints it.
//!
//! The sheet knows nothing of either language, and little of ringway's: which keys there are, and what they take, is
//! asked when it is proved. So a key that this ringway does not have yet can be set; the proof takes it away again, by
//! the line that asked for it.
//!
//! Names of listeners and pools are those of the original where it has names. Two that would be equal get a number.

use std::collections::{HashMap, HashSet};

use super::note::Origin;

/// The value of a key, before it is written as TOML.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Written {
    /// A text. Variables in it are marked (`variable`).
    Text(String),
    /// A number.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// A list of texts.
    Texts(Vec<String>),
    /// HTTP statuses and ranges of them.
    Statuses(Vec<(u16, u16)>),
    /// Steps of a check: what is sent, and what is expected.
    Steps(Vec<CheckStep>),
    /// Headers: names and values.
    Headers(Vec<(String, String)>),
    /// Ports.
    Ports(Vec<u16>),
    /// Pools with their weights.
    Split(Vec<(String, u64)>),
}

/// A question of a check, and its answer; an empty text asks for nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckStep {
    /// With the escapes that ringway decodes.
    pub send: String,
    /// A regular expression.
    pub expect: String,
}

impl From<&str> for Written {
    /// A value as it is written in TOML.
    fn from(text: &str) -> Written {
        Written::Text(text.to_string())
    }
}

impl From<String> for Written {
    /// A value as it is written in TOML.
    fn from(text: String) -> Written {
        Written::Text(text)
    }
}

impl From<u64> for Written {
    /// A value as it is written in TOML.
    fn from(number: u64) -> Written {
        Written::Number(number)
    }
}

impl From<bool> for Written {
    /// A value as it is written in TOML.
    fn from(flag: bool) -> Written {
        Written::Flag(flag)
    }
}

impl From<Vec<String>> for Written {
    /// A value as it is written in TOML.
    fn from(texts: Vec<String>) -> Written {
        Written::Texts(texts)
    }
}

/// A key with its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: Written,
    /// The line that it comes from.
    pub origin: Origin,
}

/// The keys of one table, in the order in which they are written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyTable {
    /// Each key once.
    pub entries: Vec<Entry>,
}

impl KeyTable {
    /// Sets a key, in the place that it has if it was set before.
    pub fn set(&mut self, key: &'static str, value: impl Into<Written>, origin: &Origin) {
        let entry = Entry { key, value: value.into(), origin: origin.clone() };
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Written> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Written::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }
}

/// `[listeners.NAME]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerSheet {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub origin: Origin,
    /// Its keys.
    pub keys: KeyTable,
    /// Its routes, in order.
    pub routes: Vec<RouteSheet>,
}

/// `[[listeners.NAME.routes]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteSheet {
    /// The line that leads there.
    pub origin: Origin,
    /// Its keys.
    pub keys: KeyTable,
}

/// `[pools.NAME]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolSheet {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub origin: Origin,
    /// Its keys.
    pub keys: KeyTable,
    /// `[pools.NAME.check]`.
    pub check: KeyTable,
    /// `[pools.NAME.ejection]`.
    pub ejection: KeyTable,
    /// Its backends, in order.
    pub backends: Vec<BackendSheet>,
}

/// `[[pools.NAME.backends]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendSheet {
    /// The line of the server.
    pub origin: Origin,
    /// Its keys.
    pub keys: KeyTable,
}

/// A whole configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sheet {
    /// `[process]`.
    pub process: KeyTable,
    /// `[log]`.
    pub log: KeyTable,
    /// `[access_log]`.
    pub access_log: KeyTable,
    /// `[admin]`.
    pub admin: KeyTable,
    /// `[dns]`.
    pub dns: KeyTable,
    /// In the order of the file.
    pub listeners: Vec<ListenerSheet>,
    /// In the order of the file.
    pub pools: Vec<PoolSheet>,
}

impl ListenerSheet {
    /// An empty one.
    pub fn new(name: &str, origin: &Origin) -> ListenerSheet {
        let (name, origin) = (name.to_string(), origin.clone());
        ListenerSheet { name, origin, keys: KeyTable::default(), routes: Vec::new() }
    }

    /// The pools that it names itself, each as often as it is named.
    pub fn pools(&self) -> Vec<&str> {
        let tables = std::iter::once(&self.keys).chain(self.routes.iter().map(|route| &route.keys));
        let mut pools = Vec::new();
        for table in tables {
            pools.extend(table.text("pool"));
            if let Some(Written::Split(parts)) = table.get("split") {
                pools.extend(parts.iter().map(|(pool, _)| pool.as_str()));
            }
        }
        pools
    }
}

impl PoolSheet {
    /// An empty one.
    pub fn new(name: &str, origin: &Origin) -> PoolSheet {
        PoolSheet {
            name: name.to_string(),
            origin: origin.clone(),
            keys: KeyTable::default(),
            check: KeyTable::default(),
            ejection: KeyTable::default(),
            backends: Vec::new(),
        }
    }
}

impl Sheet {
    /// The tables that are there once, with their names.
    pub fn tables(&self) -> [(&'static str, &KeyTable); 5] {
        [
            ("process", &self.process),
            ("log", &self.log),
            ("access_log", &self.access_log),
            ("admin", &self.admin),
            ("dns", &self.dns),
        ]
    }

    /// One of those tables.
    pub fn table_mut(&mut self, name: &str) -> Option<&mut KeyTable> {
        match name {
            "process" => Some(&mut self.process),
            "log" => Some(&mut self.log),
            "access_log" => Some(&mut self.access_log),
            "admin" => Some(&mut self.admin),
            "dns" => Some(&mut self.dns),
            _ => None,
        }
    }
}

/// Names that are given out once. Each takes the same time, however many there are.
#[derive(Debug, Default)]
pub struct NameStock {
    /// Those that were given out.
    taken: HashSet<String>,
    /// The number that the next one of that name gets.
    next: HashMap<String, usize>,
}

impl NameStock {
    /// A name that no other one has: the wanted one, or `NAME-2`, `NAME-3` and so on.
    pub fn take(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while !self.taken.insert(name.clone()) {
            let number = self.next.entry(wanted.to_string()).or_insert(2);
            name = format!("{wanted}-{number}");
            *number += 1;
        }
        name
    }
}
