//! The keys below a prefix, as they are in etcd, and what a watch says of them. Pure.
//!
//! It is filled by the pages of one revision, and follows by the events behind that revision. A watch whose connection
//! has died says nothing, and so does one of keys that do not change; so what is known is compared with what etcd says
//! of the keys now ([`Keyspace::is_current`]).

use std::collections::BTreeMap;

use super::wire::{KeyEvent, KeyPage, KeyValue, WatchLine, end_of};
use crate::discover::found::FOUND_MAX;

/// How long a value can be, in bytes. One that is longer describes no backend.
const VALUE_MAX: usize = 16 * 1024;
/// How much all keys with their values can have, in bytes.
const ALL_MAX: usize = 16 * 1024 * 1024;

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub struct Keyspace {
    /// What they begin with.
    prefix: Vec<u8>,
    /// Each key that is known.
    keys: BTreeMap<Vec<u8>, HeldKey>,
    /// Bytes in them.
    bytes: usize,
    /// The revision of the pages; 0 before the first one.
    revision: u64,
    /// There are more keys than are known: of those no change is taken in.
    is_crowded: bool,
}

/// A key that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
struct HeldKey {
    /// `None` if it is longer than [`VALUE_MAX`].
    value: Option<Vec<u8>>,
    /// The revision of its last change.
    mod_revision: u64,
}

/// What follows from a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listing {
    /// The next page begins at this key, at the same revision.
    Next(Vec<u8>),
    /// All keys are known, or as many as can be.
    Done,
}

/// What follows from a line of a watch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Keys have changed, and it is the whole change.
    Changed,
    /// Nothing to be told.
    Nothing,
    /// Changes were lost: the keys must be listed anew.
    Lost,
}

impl Keyspace {
    /// Nothing is known.
    pub fn new(prefix: &[u8]) -> Keyspace {
        Keyspace { prefix: prefix.to_vec(), keys: BTreeMap::new(), bytes: 0, revision: 0, is_crowded: false }
    }

    /// Takes a page that begins at `from`.
    ///
    /// # Errors
    /// It is not what was asked for; with the words for it.
    pub fn on_page(&mut self, from: &[u8], page: KeyPage) -> Result<Listing, String> {
        if self.revision == 0 {
            self.revision = page.revision();
        }
        if self.revision == 0 {
            return Err("its answer has no revision".to_string());
        }
        let (count, length) = (page.count, page.kvs.len());
        let (mut at, end) = (from.to_vec(), end_of(&self.prefix));
        for kv in page.kvs {
            // Each page goes on behind the one before, so there is an end.
            if kv.key < at || (kv.key >= end && end != [0]) {
                return Err("it sends keys that it was not asked for".to_string());
            }
            at = [&kv.key[..], &[0]].concat();
            if !self.put(kv) {
                return Ok(Listing::Done);
            }
        }
        match (length as u64) < count {
            true if length == 0 => Err("it says that there are more keys, and sends none".to_string()),
            true => Ok(Listing::Next(at)),
            false => Ok(Listing::Done),
        }
    }

    /// Takes a line of a watch that has asked for changes from [`Keyspace::next_revision`] on.
    ///
    /// # Errors
    /// The watch has ended; with the reason.
    pub fn on_line(&mut self, line: WatchLine) -> Result<Heard, String> {
        match line {
            WatchLine::Compacted => Ok(Heard::Lost),
            WatchLine::Refused(refusal) if refusal.asks_to_log_in() => Ok(Heard::Lost),
            WatchLine::Refused(refusal) => Err(refusal.to_string()),
            WatchLine::Events { events, goes_on } => {
                let has_events = !events.is_empty();
                for event in events {
                    self.on_event(event);
                }
                Ok(match (self.is_crowded, has_events && !goes_on) {
                    (true, _) => Heard::Lost,
                    (false, true) => Heard::Changed,
                    (false, false) => Heard::Nothing,
                })
            }
        }
    }

    /// Whether it is what etcd has: `newest` says how many keys there are and which one was changed last.
    ///
    /// A change that was missed shows: a key that was put is the newest one unless it is gone again, and a key that is
    /// gone is missing in the count unless another one was put since.
    pub fn is_current(&self, newest: &KeyPage) -> bool {
        let known = self.keys.values().map(|held| held.mod_revision).max();
        let says = newest.kvs.first().map(|kv| kv.mod_revision);
        newest.count == self.keys.len() as u64 && says == known && !self.is_crowded
    }

    /// The revision from which a watch has to go on.
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Whether there are more keys than are known.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// The part of each key behind the prefix, with its value; `None` is a value that is too long.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let prefix = self.prefix.len();
        self.keys.iter().map(move |(key, held)| (&key[prefix..], held.value.as_deref()))
    }

    /// One change. A key that is none of these changes nothing.
    fn on_event(&mut self, event: KeyEvent) {
        if !event.kv.key.starts_with(&self.prefix) {
            return;
        }
        match event.is_delete() {
            true => self.take(&event.kv.key),
            false => _ = self.put(event.kv),
        }
    }

    /// A key has this value now. False if there is no room for it.
    fn put(&mut self, kv: KeyValue) -> bool {
        self.take(&kv.key);
        let value = Some(kv.value).filter(|value| value.len() <= VALUE_MAX);
        let bytes = self.bytes + kv.key.len() + value.as_ref().map_or(0, Vec::len);
        if self.keys.len() == FOUND_MAX || bytes > ALL_MAX {
            self.is_crowded = true;
            return false;
        }
        self.bytes = bytes;
        self.keys.insert(kv.key, HeldKey { value, mod_revision: kv.mod_revision });
        true
    }

    /// A key is gone.
    fn take(&mut self, key: &[u8]) {
        if let Some(held) = self.keys.remove(key) {
            self.bytes -= key.len() + held.value.map_or(0, |value| value.len());
        }
    }
}

#[cfg(test)]
mod tests;
