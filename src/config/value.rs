//! One value: from what TOML holds to what the key takes.
//!
//! ```text
//! DeValue ── Decoder::decode(kind) ──┬─> Value                     the key has it
//!                                    └─> Vec<At<Fault>>            what is wrong, and what to write instead
//! ```
//!
//! The kind of a key ([`Kind`]) decides how a value is read. `text` reads what stands between two quotes, `lists` reads
//! lists of other things, `units` reads numbers with a unit, and `instead` finds out what was meant by a value of the
//! wrong type.

mod certificates;
mod files;
mod instead;
mod lists;
mod text;
mod units;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::address;
use super::keys::Kind;
use super::model::{CheckAddress, LocalAddress, NetworkFile, Target};
use super::outside::Outside;
use crate::admit::networks::Network;
use crate::admit::routes::NamePattern;
use crate::admit::sources::RateLimit;
use crate::base::address::Address;
pub(super) use certificates::WrittenPair;
pub(super) use instead::of_unquoted;
pub(super) use lists::{WrittenHeader, WrittenShare, WrittenStep};
pub(crate) use text::fault_of_name;
use text::{address_of_ours, endpoint, name_server, one, protocol};

use crate::discover::settings::Endpoint;

/// What to write instead of a path that would depend on where ringway starts.
const WHOLE_PATH: &str = "write the whole path, which begins with /";

/// The value of a key. Which form a key has is given by its [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Integer(u64),
    /// `"auto"` where else a number stands.
    Auto,
    /// A time.
    Duration(Duration),
    /// Bytes; zero means `"auto"`.
    Size(u32),
    /// Permission bits.
    Mode(u32),
    /// One of the words that the key takes.
    Word(&'static str),
    /// Any text; also a name or a path.
    Text(String),
    /// Networks of clients.
    Networks(Vec<Network>),
    /// A list of networks in a file of its own; `None` if no file is named.
    NetworkFile(Option<NetworkFile>),
    /// Server names of TLS.
    ServerNames(Vec<NamePattern>),
    /// Protocol names of ALPN.
    Protocols(Vec<String>),
    /// The source of connections to backends.
    Source(LocalAddress),
    /// Connections per unit of time.
    Rate(RateLimit),
    /// Status codes: the first and last code of each range.
    Statuses(Vec<(u16, u16)>),
    /// Ports, each once.
    Ports(Vec<u16>),
    /// Headers.
    Headers(Vec<WrittenHeader>),
    /// The steps of a check.
    Steps(Vec<WrittenStep>),
    /// Pools with their shares.
    Split(Vec<WrittenShare>),
    /// Certificates with their keys.
    Certificates(Vec<WrittenPair>),
    /// Addresses to listen on, each with the place in the file that it came from.
    Binds(Vec<(Range<usize>, Address)>),
    /// The address of a backend.
    Target(Target),
    /// Where a backend is checked; `None` means at its own address.
    CheckAddress(Option<CheckAddress>),
    /// An address to listen on; `None` means "off".
    Listen(Option<SocketAddr>),
    /// Addresses of name servers.
    NameServers(Vec<SocketAddr>),
    /// Servers that speak HTTP; of a key that takes one there is at most one.
    Endpoints(Vec<Endpoint>),
}

/// Why there is no value.
pub(super) enum Fault {
    /// The key does not take this TOML type, which the text names.
    Type(String),
    /// The value as it was written, and what to write instead.
    Value(String, String),
    /// A variable that cannot be replaced: why, and what to do.
    Variable(String),
    /// A file that the value names: what is wrong with it.
    File(String),
}

/// Something together with its place: the range of bytes in the file.
pub(super) type At<T> = (Range<usize>, T);

/// Reads values. It is the only part of the reader that knows the environment.
pub(super) struct Decoder<'a> {
    /// Where variables and files are.
    pub(super) outside: &'a dyn Outside,
}

impl Decoder<'_> {
    /// Reads what `kind` takes.
    ///
    /// # Errors
    /// Everything that is wrong: of a list every fault is found, not only the first.
    pub(super) fn decode(&self, kind: Kind, span: Range<usize>, value: &DeValue<'_>) -> Result<Value, Vec<At<Fault>>> {
        let here = |fault| vec![(span.clone(), fault)];
        match (kind, value) {
            (Kind::Bool | Kind::BoolOr(_), DeValue::Boolean(flag)) => Ok(Value::Bool(*flag)),
            (Kind::Level(_), DeValue::Boolean(flag)) => Ok(Value::Integer((*flag).into())),
            (Kind::Level(max), DeValue::Integer(_)) => self.decode(Kind::Integer(1, max), span, value).map_err(|all| {
                let with_words = |(span, fault)| match fault {
                    Fault::Value(found, _) => (span, Fault::Value(found, format!("write {}", expected(kind)))),
                    other => (span, other),
                };
                all.into_iter().map(with_words).collect()
            }),
            (Kind::Integer(min, max) | Kind::AutoOr(min, max), DeValue::Integer(number)) => {
                let known = u64::from_str_radix(number.as_str(), number.radix()).ok();
                let fits = known.filter(|number| (min..=max).contains(number));
                fits.map(Value::Integer)
                    .ok_or_else(|| here(Fault::Value(number.to_string(), format!("write {}", expected(kind)))))
            }
            (Kind::Binds, DeValue::Array(items)) => self
                .list(items, |span, text| {
                    let all = address::binds(text).map_err(|error| bad(text, &error))?;
                    Ok(all.into_iter().map(|address| (span.clone(), address)).collect())
                })
                .map(Value::Binds)
                .and_then(|value| non_empty(value, &span)),
            (Kind::Networks, DeValue::Array(items)) => {
                self.list(items, |_, text| parsed(text, text.parse::<Network>())).map(Value::Networks)
            }
            (Kind::ServerNames, DeValue::Array(items)) => {
                self.list(items, |_, text| parsed(text, NamePattern::new(text))).map(Value::ServerNames)
            }
            (Kind::Protocols, DeValue::Array(items)) => {
                self.list(items, |_, text| protocol(text)).map(Value::Protocols)
            }
            (Kind::NameServers, DeValue::Array(items)) => {
                self.list(items, |_, text| name_server(text).map(|server| vec![server])).map(Value::NameServers)
            }
            (Kind::Endpoints, DeValue::Array(items)) => {
                let all =
                    self.list(items, |_, text| endpoint(text).map(|endpoint| vec![endpoint])).map(Value::Endpoints);
                all.and_then(|value| non_empty(value, &span))
            }
            (Kind::Source, DeValue::Array(items)) => {
                let all = self.list(items, |_, text| address_of_ours(text).map(|address| vec![address]))?;
                Ok(Value::Source(if all.is_empty() { LocalAddress::Any } else { LocalAddress::Addresses(all.into()) }))
            }
            (Kind::Statuses, DeValue::Array(items)) => self.statuses(items).map(Value::Statuses),
            (Kind::Ports, DeValue::Array(items)) => self.ports(items).map(Value::Ports),
            (Kind::Headers, DeValue::Table(table)) => self.headers(table).map(Value::Headers),
            (Kind::Steps, DeValue::Array(items)) => self.steps(items).map(Value::Steps),
            (Kind::Certificates, DeValue::Array(items)) => self.certificates(items).map(Value::Certificates),
            (Kind::Split, DeValue::Array(items)) => self.split(items).map(Value::Split),
            (Kind::NetworkFile, DeValue::String(text)) => {
                let text = self.substitute(text).map_err(|why| here(Fault::Variable(why)))?;
                let at = |faults: Vec<Fault>| faults.into_iter().map(|fault| (span.clone(), fault)).collect();
                self.network_file(&text).map_err(at)
            }
            (kind, DeValue::String(text)) if takes_text(kind) => {
                let text = self.substitute(text).map_err(|why| here(Fault::Variable(why)))?;
                one(kind, &span, &text).map_err(here)
            }
            (kind, other) => Err(here(match instead::of_type(kind, other) {
                Some((found, hint)) => Fault::Value(found, hint),
                None => Fault::Type(name_of(other)),
            })),
        }
    }

    /// Reads a list of texts. One text can stand for several values, as a port range does.
    fn list<T>(
        &self,
        items: &toml::de::DeArray<'_>,
        read: impl Fn(Range<usize>, &str) -> Result<Vec<T>, Fault>,
    ) -> Result<Vec<T>, Vec<At<Fault>>> {
        let (mut values, mut faults) = (Vec::new(), Vec::new());
        for item in items.iter() {
            let result = match item.get_ref() {
                DeValue::String(text) => {
                    self.substitute(text).map_err(Fault::Variable).and_then(|text| read(item.span(), &text))
                }
                other => Err(Fault::Type(name_of(other))),
            };
            match result {
                Ok(more) => values.extend(more),
                Err(fault) => faults.push((item.span(), fault)),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(faults) }
    }

    /// Replaces `${NAME}` by the value of the variable, which is not searched for variables again. `$${` stands for
    /// `${`, and every other `$` for itself.
    fn substitute(&self, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let (name, after) = rest[at + 2..]
                .split_once('}')
                .ok_or("`${` without `}`; a literal `${` is written `$${`".to_string())?;
            if let Some((name, _)) = name.split_once([':', '-']).filter(|(name, _)| is_variable_name(name)) {
                let why = "a variable has no default here";
                return Err(format!("{why}; write `${{{name}}}`, and set {name} where ringway starts"));
            }
            if !is_variable_name(name) {
                return Err(format!("`{name}` is not the name of a variable; a literal `${{` is written `$${{`"));
            }
            let value = self
                .outside
                .variable(name)
                .ok_or_else(|| format!("the environment variable {name} is not set; set it where ringway starts"))?;
            out.push_str(&value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// What a key of this kind takes, in words for messages.
pub(super) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_string(),
        Kind::BoolOr(words) => format!("true, false or {}", words_of(words)),
        Kind::Level(max) => format!("true, false or a level from 1 to {max}"),
        Kind::Integer(min, max) => format!("a number from {min} to {max}"),
        Kind::AutoOr(min, max) => format!("\"auto\" or a number from {min} to {max}"),
        Kind::Duration(_) => "a duration in quotes, as in \"250ms\", \"5s\", \"10m\" or \"1h\"".to_string(),
        Kind::AutoOrSize(..) => "\"auto\" or a size in quotes, as in \"256KiB\" or \"4MiB\"".to_string(),
        Kind::Mode => "an octal mode in quotes, as in \"0600\"".to_string(),
        Kind::Word(words) => words_of(words),
        Kind::WordOrPath(words) => format!("{} or a path, in quotes", words_of(words)),
        Kind::WordPathOrSyslog(words) => {
            format!("{}, a path, or a syslog server as in \"syslog:/dev/log\", in quotes", words_of(words))
        }
        Kind::Text | Kind::Name => "a text in quotes".to_string(),
        Kind::Interface => "the name of a network interface in quotes, as in \"eth0\", or \"\"".to_string(),
        Kind::Rate => "a rate in quotes, as in \"20/s\", \"600/m\" or \"10/3s\"".to_string(),
        Kind::Networks => "a list of networks and addresses, as in [\"10.0.0.0/8\", \"unix:\"]".to_string(),
        Kind::NetworkFile => "the path of a list in quotes, as in \"/etc/ringway/clients.txt\", or \"\"".to_string(),
        Kind::ServerNames => "a list of server names, as in [\"db1.example.com\", \"*.eu.example.com\"]".to_string(),
        Kind::Protocols => "a list of protocols, as in [\"postgresql\"]".to_string(),
        Kind::Source => "an address in quotes, as in \"10.0.0.1\", a list of them, \"client\", or \"\"".to_string(),
        Kind::Statuses => "a list of codes and ranges, as in [200, \"300-399\"]".to_string(),
        Kind::Ports => "a list of ports, as in [135, 59532]".to_string(),
        Kind::Headers => "a table of headers, as in { X-Token = \"secret\" }".to_string(),
        Kind::Steps => "a list of steps, as in [{ send = 'PING\\r\\n', expect = '^\\+PONG' }]".to_string(),
        Kind::Split => {
            "a list of pools, as in [{ pool = \"a\", weight = 90 }, { pool = \"b\", weight = 10 }]".to_string()
        }
        Kind::Certificates => format!("a list of pairs, as in [{}]", certificates::EXAMPLE),
        Kind::PathOrOff => "a path that begins with / in quotes, or \"\" for none".to_string(),
        Kind::Binds => "an address in quotes, as in \"0.0.0.0:5432\", or a list of them".to_string(),
        Kind::Target => {
            "an address in quotes, as in \"10.0.0.1:5432\", \"db.example:5432\" or \"unix:/run/x.sock\"".to_string()
        }
        Kind::CheckAddress => {
            "an address or a port in quotes, as in \"127.0.0.1:8008\" or \":8008\", or \"\"".to_string()
        }
        Kind::IpPortOrOff => "an address in quotes, as in \"127.0.0.1:9900\", or \"\" for none".to_string(),
        Kind::NameServers => "a list of name servers, as in [\"10.0.0.53:53\"]".to_string(),
        Kind::Endpoints => "a list of servers, as in [\"http://10.0.0.1:2379\"]".to_string(),
        Kind::EndpointOrOff => "a server in quotes, as in \"http://127.0.0.1:8500\", or \"\"".to_string(),
        Kind::SocketOrOff => "a path in quotes, as in \"/run/ringway/admin.sock\", or \"\" for none".to_string(),
    }
}

/// Whether a text can be what this kind takes. For the other kinds a text is the wrong type.
fn takes_text(kind: Kind) -> bool {
    use Kind::*;
    let takes_lists = matches!(
        kind,
        Networks
            | ServerNames
            | Protocols
            | Statuses
            | Steps
            | Split
            | Certificates
            | Headers
            | Ports
            | NameServers
            | Endpoints
    );
    !takes_lists && !matches!(kind, Bool | Level(_) | Integer(..))
}

/// The word that was most likely meant; `None` if none is similar enough. Similar means few edits (Damerau-Levenshtein
/// distance), at most a third of the length of the word.
pub fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|word| (strsim::damerau_levenshtein(text, word), word));
    near.min().filter(|(distance, word)| *distance <= word.len().max(3) / 3).map(|(_, word)| word)
}

/// A text in quotes as TOML writes it on one line, with control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Words in quotes, with commas.
fn words_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// Refuses an empty list of what must be there.
fn non_empty(value: Value, span: &Range<usize>) -> Result<Value, Vec<At<Fault>>> {
    match value {
        Value::Endpoints(all) if all.is_empty() => {
            Err(vec![(span.clone(), Fault::Value("[]".to_string(), "write at least one server".to_string()))])
        }
        Value::Binds(all) if all.is_empty() => {
            Err(vec![(span.clone(), Fault::Value("[]".to_string(), "write at least one address".to_string()))])
        }
        value => Ok(value),
    }
}

/// The result of reading one item of a list.
fn parsed<T>(text: &str, result: Result<T, impl ToString>) -> Result<Vec<T>, Fault> {
    result.map(|item| vec![item]).map_err(|error| bad(text, &error))
}

/// A value that was refused by `error`. A password in a URL is not shown.
fn bad(text: &str, error: &impl ToString) -> Fault {
    // `postgres://user:password@host`
    let secret = text.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(secret, _)| secret);
    let shown = secret.filter(|secret| !secret.is_empty()).map_or(text.to_string(), |it| text.replacen(it, "…", 1));
    Fault::Value(quoted(&shown), error.to_string())
}

/// A value that was refused, and what to write instead.
fn wrong(text: &str, hint: &str) -> Fault {
    Fault::Value(quoted(text), hint.to_string())
}

/// Whether an environment variable can have this name (POSIX, "Environment Variable Definition").
fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a value is, in words for messages. A text is not shown, because it may be a secret.
pub(super) fn name_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_string(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(_) => "a date or time".to_string(),
        DeValue::Array(_) => "a list".to_string(),
        DeValue::Table(_) => "a table".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_can_be_escaped() {
        let env = |name: &str| (name == "HOST").then(|| "10.0.0.1${HOST}".to_string());
        let decoder = Decoder { outside: &env };
        assert_eq!(decoder.substitute("a${HOST}:1$").as_deref(), Ok("a10.0.0.1${HOST}:1$"));
        assert_eq!(decoder.substitute("$${HOST} $5 $$").as_deref(), Ok("${HOST} $5 $$"));
        assert!(decoder.substitute("${PORT}").is_err_and(|why| why.contains("PORT is not set")));
        assert!(decoder.substitute("${HOST").is_err());
        assert!(decoder.substitute("${HO ST}").is_err());
        assert!(decoder.substitute("${}").is_err());
    }
}
