//! The keys of one table, and how their values are read by name and type.
//!
//! A caller knows the type of each key from the list of keys. If the two disagree, that is a mistake in ringway and not
//! in a file, so these methods panic; each start and each test reads every key, so such a mistake cannot remain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use crate::admit::Networks;
use crate::admit::routes::NamePattern;
use crate::admit::sources::RateLimit;
use crate::base::address::Address;
use crate::config::keys::{self, Default, Key, Kind, Section};
use crate::config::model::{CheckAddress, LocalAddress, NetworkFile, Target};
use crate::config::value::{Decoder, Value, WrittenHeader, WrittenPair, WrittenShare, WrittenStep};
use crate::discover::settings::Endpoint;

/// One table: for each key the written value or the default. A key is missing exactly when it has no default or was
/// wrong.
pub(in crate::config) struct Table {
    /// Where the table stands, or the key that holds it.
    pub(in crate::config) span: Range<usize>,
    /// Something in it was wrong, so a key may be missing for that reason.
    pub(in crate::config) is_wrong: bool,
    /// By key: where the value stands, and the value.
    pub(super) values: BTreeMap<&'static str, (Range<usize>, Value)>,
    /// The keys that the file contains.
    pub(super) written: BTreeSet<&'static str>,
}

/// Whether a key was written, and where.
impl Table {
    /// Whether the file contains this key with a value that asks for something. `0`, `""`, `[]`, `"0s"`, `false`,
    /// `"off"` and `"any"` ask for nothing if they are the default; every other value asks for something, even a
    /// default.
    pub(in crate::config) fn is_asked_for(&self, section: Section, key: &str) -> bool {
        const NOTHING: [&str; 9] = ["0", "\"\"", "[]", "{}", "\"0s\"", "\"0/s\"", "false", "\"off\"", "\"any\""];
        let asks_for_nothing = keys::find(section, key)
            .is_some_and(|key| matches!(key.default, Default::Is(text) if NOTHING.contains(&text)));
        self.is_written(key) && !(asks_for_nothing && self.is_default(section, key))
    }

    /// Whether the file contains this key.
    pub(in crate::config) fn is_written(&self, key: &str) -> bool {
        self.written.contains(key)
    }

    /// Whether the value is the default, written or not.
    pub(in crate::config) fn is_default(&self, section: Section, key: &str) -> bool {
        match keys::find(section, key) {
            Some(&Key { kind, default: Default::Is(text), .. }) => self.get(key) == Some(&of_list(kind, text)),
            _ => self.get(key).is_none(),
        }
    }

    /// Where the value stands; the place of the table if it is not written.
    pub(in crate::config) fn span_of(&self, key: &str) -> Range<usize> {
        self.values.get(key).map_or(self.span.clone(), |(span, _)| span.clone())
    }

    /// The value; `None` if it has no default and is not written.
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(_, value)| value)
    }
}

/// Values of keys with a default, which always exist.
impl Table {
    /// True or false.
    pub(in crate::config) fn flag(&self, key: &str) -> bool {
        match self.held(key) {
            Value::Bool(flag) => *flag,
            other => disagree(key, other),
        }
    }

    /// A number; the range in the list of keys must fit `N`.
    pub(in crate::config) fn number<N: TryFrom<u64>>(&self, key: &str) -> N {
        self.number_or_auto(key).unwrap_or_else(|| disagree(key, self.held(key)))
    }

    /// A number, or `None` for "auto"; the range in the list of keys must fit `N`.
    pub(in crate::config) fn number_or_auto<N: TryFrom<u64>>(&self, key: &str) -> Option<N> {
        match self.held(key) {
            Value::Auto => None,
            other @ Value::Integer(number) => Some(N::try_from(*number).unwrap_or_else(|_| disagree(key, other))),
            other => disagree(key, other),
        }
    }

    /// A time.
    pub(in crate::config) fn duration(&self, key: &str) -> Duration {
        match self.held(key) {
            Value::Duration(duration) => *duration,
            other => disagree(key, other),
        }
    }

    /// Bytes; zero means "auto".
    pub(in crate::config) fn size(&self, key: &str) -> u32 {
        match self.held(key) {
            Value::Size(bytes) => *bytes,
            other => disagree(key, other),
        }
    }

    /// Permission bits.
    pub(in crate::config) fn mode(&self, key: &str) -> u32 {
        match self.held(key) {
            Value::Mode(mode) => *mode,
            other => disagree(key, other),
        }
    }

    /// One of the words of this key.
    pub(in crate::config) fn word(&self, key: &str) -> &'static str {
        match self.held(key) {
            Value::Word(word) => word,
            other => disagree(key, other),
        }
    }

    /// A text.
    pub(in crate::config) fn text(&self, key: &str) -> &str {
        match self.held(key) {
            Value::Text(text) => text,
            other => disagree(key, other),
        }
    }

    /// A text; `None` if it is empty.
    pub(in crate::config) fn text_or_off(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// One of the words of this key, or else a path.
    pub(in crate::config) fn word_or_path(&self, key: &str) -> Result<&'static str, &str> {
        match self.held(key) {
            Value::Word(word) => Ok(word),
            Value::Text(path) => Err(path),
            other => disagree(key, other),
        }
    }

    /// An address, or `None` for "off".
    pub(in crate::config) fn listen(&self, key: &str) -> Option<SocketAddr> {
        match self.held(key) {
            Value::Listen(address) => *address,
            other => disagree(key, other),
        }
    }

    /// A list of name servers.
    pub(in crate::config) fn name_servers(&self, key: &str) -> &[SocketAddr] {
        match self.held(key) {
            Value::NameServers(servers) => servers,
            other => disagree(key, other),
        }
    }

    /// Servers that speak HTTP.
    pub(in crate::config) fn endpoints(&self, key: &str) -> &[Endpoint] {
        match self.held(key) {
            Value::Endpoints(endpoints) => endpoints,
            other => disagree(key, other),
        }
    }

    /// A list of networks.
    pub(in crate::config) fn networks(&self, key: &str) -> Networks {
        match self.held(key) {
            Value::Networks(list) => Networks::new(list.clone()),
            other => disagree(key, other),
        }
    }

    /// A list of networks in a file of its own.
    pub(in crate::config) fn network_file(&self, key: &str) -> Option<&NetworkFile> {
        match self.held(key) {
            Value::NetworkFile(file) => file.as_ref(),
            other => disagree(key, other),
        }
    }

    /// Where a backend is checked.
    pub(in crate::config) fn check_address(&self, key: &str) -> Option<&CheckAddress> {
        match self.held(key) {
            Value::CheckAddress(address) => address.as_ref(),
            other => disagree(key, other),
        }
    }

    /// A list of ports.
    pub(in crate::config) fn ports(&self, key: &str) -> &[u16] {
        match self.held(key) {
            Value::Ports(ports) => ports,
            other => disagree(key, other),
        }
    }

    /// True, false or one of the words of this key.
    pub(in crate::config) fn flag_or_word(&self, key: &str) -> Result<bool, &'static str> {
        match self.held(key) {
            Value::Bool(flag) => Ok(*flag),
            Value::Word(word) => Err(word),
            other => disagree(key, other),
        }
    }

    /// A rate; a count of 0 means no limit.
    pub(in crate::config) fn rate(&self, key: &str) -> RateLimit {
        match self.held(key) {
            Value::Rate(rate) => *rate,
            other => disagree(key, other),
        }
    }

    /// The source of connections.
    pub(in crate::config) fn source(&self, key: &str) -> &LocalAddress {
        match self.held(key) {
            Value::Source(source) => source,
            other => disagree(key, other),
        }
    }

    /// First and last code of each range.
    pub(in crate::config) fn statuses(&self, key: &str) -> &[(u16, u16)] {
        match self.held(key) {
            Value::Statuses(ranges) => ranges,
            other => disagree(key, other),
        }
    }

    /// Headers.
    pub(in crate::config) fn headers(&self, key: &str) -> &[WrittenHeader] {
        match self.held(key) {
            Value::Headers(headers) => headers,
            other => disagree(key, other),
        }
    }

    /// The steps of a check.
    pub(in crate::config) fn steps(&self, key: &str) -> &[WrittenStep] {
        match self.held(key) {
            Value::Steps(steps) => steps,
            other => disagree(key, other),
        }
    }

    /// The shares of a split.
    pub(in crate::config) fn split(&self, key: &str) -> &[WrittenShare] {
        match self.held(key) {
            Value::Split(shares) => shares,
            other => disagree(key, other),
        }
    }

    /// Certificates with their keys.
    pub(in crate::config) fn certificates(&self, key: &str) -> &[WrittenPair] {
        match self.held(key) {
            Value::Certificates(pairs) => pairs,
            other => disagree(key, other),
        }
    }

    /// The value of a key that has a default. Each start and each test reads every key, so a mistake in the list cannot
    /// hide.
    fn held(&self, key: &str) -> &Value {
        self.get(key).unwrap_or_else(|| panic!("the key list has no default for `{key}`"))
    }
}

/// Values of keys that have no default or were wrong.
impl Table {
    /// A text.
    pub(in crate::config) fn find_text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            other => disagree(key, other),
        }
    }

    /// One of the words of this key.
    pub(in crate::config) fn find_word(&self, key: &str) -> Option<&'static str> {
        match self.get(key)? {
            Value::Word(word) => Some(word),
            other => disagree(key, other),
        }
    }

    /// Each address with the bytes of the file that it came from.
    pub(in crate::config) fn find_binds(&self, key: &str) -> Option<&[(Range<usize>, Address)]> {
        match self.get(key)? {
            Value::Binds(binds) => Some(binds),
            other => disagree(key, other),
        }
    }

    /// The address of a backend.
    pub(in crate::config) fn find_target(&self, key: &str) -> Option<&Target> {
        match self.get(key)? {
            Value::Target(target) => Some(target),
            other => disagree(key, other),
        }
    }

    /// A list of server names; empty if the key is not written.
    pub(in crate::config) fn server_names(&self, key: &str) -> &[NamePattern] {
        match self.get(key) {
            None => &[],
            Some(Value::ServerNames(names)) => names,
            Some(other) => disagree(key, other),
        }
    }

    /// A list of protocols; empty if the key is not written.
    pub(in crate::config) fn protocols(&self, key: &str) -> &[String] {
        match self.get(key) {
            None => &[],
            Some(Value::Protocols(names)) => names,
            Some(other) => disagree(key, other),
        }
    }

    /// The name of a backend: its `name`, or else its address.
    pub(in crate::config) fn name_or_address(&self) -> Option<String> {
        let name = self.find_text("name").map(str::to_string);
        name.or_else(|| self.find_target("address").map(ToString::to_string))
    }
}

/// The list of keys says another type than the caller expects: a mistake in ringway.
fn disagree(key: &str, found: &Value) -> ! {
    panic!("the key list and the resolver disagree about `{key}`: {found:?}")
}

/// The value of a default in the list of keys. A test reads every default, so none can be wrong.
pub(super) fn of_list(kind: Kind, text: &str) -> Value {
    let decoder = Decoder { outside: &|_: &str| None };
    let decoded = DeValue::parse(text).ok().and_then(|value| decoder.decode(kind, 0..0, value.get_ref()).ok());
    decoded.unwrap_or_else(|| panic!("the key list holds a value that its own kind does not take: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_one_that_its_key_takes() {
        for key in keys::KEYS {
            if let Default::Is(text) = key.default {
                of_list(key.kind, text);
            }
        }
    }
}
