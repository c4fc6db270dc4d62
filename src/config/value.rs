//! One value: from what TOML holds to what the key means.

mod instead;
mod lists;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::address;
use super::foreign;
use super::keys::{self, Kind, Span};
use super::model::{LocalAddress, Target};
use crate::admit::networks::Network;
use crate::admit::routes::NamePattern;
use crate::admit::sources::RateLimit;
use crate::base::address::Address;
pub(super) use instead::of_unquoted;
pub(super) use lists::WrittenStep;

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(u64),
    Auto,
    Duration(Duration),
    /// Bytes; zero is "auto".
    Size(u32),
    Mode(u32),
    Word(&'static str),
    Text(String),
    Networks(Vec<Network>),
    ServerNames(Vec<NamePattern>),
    Protocols(Vec<String>),
    Source(LocalAddress),
    Rate(RateLimit),
    /// First and last code of each range.
    Statuses(Vec<(u16, u16)>),
    Steps(Vec<WrittenStep>),
    /// Each address with the bytes of the file that it came from.
    Binds(Vec<(Range<usize>, Address)>),
    Target(Target),
    Listen(Option<SocketAddr>),
    NameServers(Vec<SocketAddr>),
}

/// Why there is no value.
pub(super) enum Fault {
    /// A TOML type that the key cannot take.
    Type(String),
    /// The value as it was written, and what to write instead.
    Value(String, String),
    /// A variable that cannot be replaced.
    Variable(String),
}

/// A fault and the bytes where it stands.
pub(super) type At<T> = (Range<usize>, T);

/// Reads values; knows the environment.
pub(super) struct Decoder<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
}

impl Decoder<'_> {
    /// Reads what `kind` takes. Every fault of a list is found, not only the first.
    pub(super) fn decode(&self, kind: Kind, span: Range<usize>, value: &DeValue<'_>) -> Result<Value, Vec<At<Fault>>> {
        let here = |fault| vec![(span.clone(), fault)];
        match (kind, value) {
            (Kind::Bool, DeValue::Boolean(flag)) => Ok(Value::Bool(*flag)),
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
            (Kind::Source, DeValue::Array(items)) => {
                let all = self.list(items, |_, text| address_of_ours(text).map(|address| vec![address]))?;
                Ok(Value::Source(if all.is_empty() { LocalAddress::Any } else { LocalAddress::Addresses(all.into()) }))
            }
            (Kind::Statuses, DeValue::Array(items)) => self.statuses(items).map(Value::Statuses),
            (Kind::Steps, DeValue::Array(items)) => self.steps(items).map(Value::Steps),
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

    /// Reads a list of texts; one text may stand for several values.
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

    /// Replaces `${NAME}`; `$${` stands for `${`, any other `$` for itself. What comes in is not read again.
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
            let value = (self.env)(name)
                .ok_or_else(|| format!("the environment variable {name} is not set; set it where ringway starts"))?;
            out.push_str(&value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// What a key of this kind takes, for messages.
pub(super) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_string(),
        Kind::Integer(min, max) => format!("a number from {min} to {max}"),
        Kind::AutoOr(min, max) => format!("\"auto\" or a number from {min} to {max}"),
        Kind::Duration(_) => "a duration in quotes, as in \"250ms\", \"5s\", \"10m\" or \"1h\"".to_string(),
        Kind::AutoOrSize(..) => "\"auto\" or a size in quotes, as in \"256KiB\" or \"4MiB\"".to_string(),
        Kind::Mode => "an octal mode in quotes, as in \"0600\"".to_string(),
        Kind::Word(words) => words_of(words),
        Kind::WordOrPath(words) => format!("{} or a path, in quotes", words_of(words)),
        Kind::Text | Kind::Name => "a text in quotes".to_string(),
        Kind::Rate => "a rate in quotes, as in \"20/s\" or \"600/m\"".to_string(),
        Kind::Networks => "a list of networks and addresses, as in [\"10.0.0.0/8\", \"unix:\"]".to_string(),
        Kind::ServerNames => "a list of server names, as in [\"db1.example.com\", \"*.eu.example.com\"]".to_string(),
        Kind::Protocols => "a list of protocols, as in [\"postgresql\"]".to_string(),
        Kind::Source => "an address in quotes, as in \"10.0.0.1\", a list of them, \"client\", or \"\"".to_string(),
        Kind::Statuses => "a list of codes and ranges, as in [200, \"300-399\"]".to_string(),
        Kind::Steps => "a list of steps, as in [{ send = 'PING\\r\\n', expect = '^\\+PONG' }]".to_string(),
        Kind::Binds => "an address in quotes, as in \"0.0.0.0:5432\", or a list of them".to_string(),
        Kind::Target => {
            "an address in quotes, as in \"10.0.0.1:5432\", \"db.example:5432\" or \"unix:/run/x.sock\"".to_string()
        }
        Kind::IpPortOrOff => "an address in quotes, as in \"127.0.0.1:9900\", or \"\" for none".to_string(),
        Kind::NameServers => "a list of name servers, as in [\"10.0.0.53:53\"]".to_string(),
        Kind::SocketOrOff => "a path in quotes, as in \"/run/ringway/admin.sock\", or \"\" for none".to_string(),
    }
}

/// Reads a text that stands alone.
fn one(kind: Kind, span: &Range<usize>, text: &str) -> Result<Value, Fault> {
    match kind {
        Kind::AutoOr(..) if text == "auto" => Ok(Value::Auto),
        Kind::Duration(limits) => duration(text, limits).map(Value::Duration),
        Kind::AutoOrSize(min, max) => size(text, min, max).map(Value::Size),
        Kind::Mode => {
            mode(text).map(Value::Mode).ok_or_else(|| wrong(text, "write up to 0777 in octal, as in \"0600\""))
        }
        Kind::Word(words) => word(text, words).map(Value::Word),
        Kind::WordOrPath(words) => match word(text, words) {
            Ok(word) => Ok(Value::Word(word)),
            Err(_) if text.starts_with('/') => Ok(Value::Text(text.to_string())),
            Err(Fault::Value(text, hint)) => Err(Fault::Value(text, format!("{hint}, or a path that begins with /"))),
            Err(fault) => Err(fault),
        },
        Kind::Text => Ok(Value::Text(text.to_string())),
        Kind::Name => match fault_of_name(text) {
            None => Ok(Value::Text(text.to_string())),
            Some(why) => Err(wrong(text, why)),
        },
        Kind::Rate => rate(text).map(Value::Rate).ok_or_else(|| wrong(text, "write \"20/s\" or \"600/m\"")),
        Kind::Source if text.is_empty() => Ok(Value::Source(LocalAddress::Any)),
        Kind::Source if text == "client" => Ok(Value::Source(LocalAddress::Client)),
        Kind::Source => Ok(Value::Source(LocalAddress::Addresses([address_of_ours(text)?].into()))),
        Kind::Binds => {
            let all = address::binds(text).map_err(|error| bad(text, &error))?;
            Ok(Value::Binds(all.into_iter().map(|address| (span.clone(), address)).collect()))
        }
        Kind::Target => address::backend(text).map(Value::Target).map_err(|error| bad(text, &error)),
        Kind::IpPortOrOff if text.is_empty() => Ok(Value::Listen(None)),
        Kind::IpPortOrOff => match address::binds(text).map_err(|error| bad(text, &error))?.as_slice() {
            [Address::Tcp(address)] => Ok(Value::Listen(Some(*address))),
            _ => Err(wrong(text, "write one ip:port, as in \"127.0.0.1:9900\"")),
        },
        Kind::SocketOrOff if text.is_empty() => Ok(Value::Text(String::new())),
        Kind::SocketOrOff => match address::unix(text) {
            Ok(_) => Ok(Value::Text(text.to_string())),
            Err(_) => Err(wrong(text, "write a path that begins with `/` and has at most 107 bytes, without `unix:`")),
        },
        Kind::Bool | Kind::Integer(..) | Kind::AutoOr(..) | Kind::Networks | Kind::ServerNames => {
            let hint = instead::of_type(kind, &DeValue::String(text.into())).map(|(_, hint)| hint);
            Err(wrong(text, &hint.unwrap_or_else(|| format!("write {}", expected(kind)))))
        }
        Kind::Protocols | Kind::Statuses | Kind::Steps | Kind::NameServers => {
            Err(wrong(text, &format!("write {}", expected(kind))))
        }
    }
}

/// Reads where a name server is; its port is 53 where none is written.
fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|server| server.port() > 0);
    let server = with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)));
    server.ok_or_else(|| wrong(text, "write the address of a name server, as in \"10.0.0.53:53\" or \"[fd00::53]:53\""))
}

/// Whether a text can hold what this kind takes; for the others it is a wrong type.
fn takes_text(kind: Kind) -> bool {
    use Kind::*;
    !matches!(kind, Bool | Integer(..) | Networks | ServerNames | Protocols | Statuses | Steps | NameServers)
}

/// Why a text cannot be the name of something: names stand in paths, labels and `POOL/BACKEND`.
pub(super) fn fault_of_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a name has at least one character")
    } else if name.len() > 128 {
        Some("a name has at most 128 bytes")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Some("a name holds no blanks and no control characters")
    } else {
        None
    }
}

fn duration(text: &str, limits: Span) -> Result<Duration, Fault> {
    match micros(text, limits) {
        Some(Some(us)) => Ok(Duration::from_micros(us)),
        Some(None) => Err(Fault::Value(quoted(text), format!("write a time {}", limits.range()))),
        None => Err(wrong(text, &instead::of_duration(text, limits))),
    }
}

/// A time in microseconds: `None` if it has not the form of one, `Some(None)` if it is out of range.
fn micros(text: &str, limits: Span) -> Option<Option<u64>> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let unit_us: u64 = match &text[split..] {
        _ if split == 0 => return None,
        "us" if limits.step_us == 1 => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let all_us = text[..split].parse::<u64>().ok().and_then(|number| number.checked_mul(unit_us));
    let fits = |us: &u64| match *us {
        0 => limits.zero,
        us => (limits.min_us..=limits.max_us).contains(&us) && us.is_multiple_of(limits.step_us),
    };
    Some(all_us.filter(fits))
}

/// A size is a whole number and a unit; 0 is "auto".
fn size(text: &str, min: u32, max: u32) -> Result<u32, Fault> {
    if matches!(text, "auto" | "0") {
        return Ok(0);
    }
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[split..] {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            let units = "write a whole number with its unit: \"256KiB\" or \"4MiB\", or \"auto\"".to_string();
            return Err(wrong(text, &instead::of_size(text, min, max).unwrap_or(units)));
        }
    };
    let bytes = text[..split].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let fits = bytes.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| (min..=max).contains(bytes));
    fits.ok_or_else(|| Fault::Value(quoted(text), format!("write a size {}", keys::range_of_sizes(min, max))))
}

fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

fn word(text: &str, words: &[&'static str]) -> Result<&'static str, Fault> {
    words.iter().copied().find(|word| *word == text).ok_or_else(|| {
        let hint = match (foreign::value(text, words), nearest(text, words.iter().copied())) {
            (Some(word), _) => format!("that is \"{word}\" here; it takes {}", words_of(words)),
            (None, Some(word)) => format!("did you mean \"{word}\"? It takes {}", words_of(words)),
            (None, None) => format!("it takes {}", words_of(words)),
        };
        Fault::Value(quoted(text), hint)
    })
}

fn rate(text: &str) -> Option<RateLimit> {
    let (number, unit) = text.split_once('/')?;
    let count = number.parse::<u32>().ok().filter(|_| !number.starts_with('+'))?;
    let unit_ns = match unit {
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        _ => return None,
    };
    Some(RateLimit { count, unit_ns })
}

/// The name of a protocol for ALPN (RFC 7301): 1 to 255 bytes.
fn protocol(text: &str) -> Result<Vec<String>, Fault> {
    match text.len() {
        1..=255 => Ok(vec![text.to_string()]),
        _ => Err(wrong(text, "the name of a protocol has 1 to 255 bytes, as in \"postgresql\" or \"h2\"")),
    }
}

/// An address of this host to connect from.
fn address_of_ours(text: &str) -> Result<IpAddr, Fault> {
    let known = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified() && !address.is_multicast());
    known.ok_or_else(|| wrong(text, "write an address of this host, as in \"10.0.0.1\", or \"client\""))
}

/// The word that was most likely meant, if one is near enough.
pub fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|word| (strsim::damerau_levenshtein(text, word), word));
    near.min().filter(|(distance, word)| *distance <= word.len().max(3) / 3).map(|(_, word)| word)
}

/// A text as TOML writes it on one line, whatever it holds.
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

fn words_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn non_empty(value: Value, span: &Range<usize>) -> Result<Value, Vec<At<Fault>>> {
    match value {
        Value::Binds(all) if all.is_empty() => {
            Err(vec![(span.clone(), Fault::Value("[]".to_string(), "write at least one address".to_string()))])
        }
        value => Ok(value),
    }
}

/// One item of a list.
fn parsed<T>(text: &str, result: Result<T, impl ToString>) -> Result<Vec<T>, Fault> {
    result.map(|item| vec![item]).map_err(|error| bad(text, &error))
}

fn bad(text: &str, error: &impl ToString) -> Fault {
    // `postgres://user:password@host`
    let secret = text.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(secret, _)| secret);
    let shown = secret.filter(|secret| !secret.is_empty()).map_or(text.to_string(), |it| text.replacen(it, "…", 1));
    Fault::Value(quoted(&shown), error.to_string())
}

fn wrong(text: &str, hint: &str) -> Fault {
    Fault::Value(quoted(text), hint.to_string())
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a value is, for messages. A text may be a secret, so it is not shown.
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

    const ANY: Span = Span { zero: true, min_us: 1, max_us: u64::MAX, step_us: 1 };

    fn span_of(text: &str) -> Option<u128> {
        duration(text, ANY).ok().map(|duration| duration.as_micros())
    }

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        assert_eq!(span_of("250ms"), Some(250_000));
        assert_eq!(span_of("1h"), Some(3_600_000_000));
        assert_eq!(span_of("0s"), Some(0));
        assert_eq!(span_of("7us"), Some(7));
        for text in
            ["", "5", "s", "-5s", "1.5s", "5 s", "1m30s", "5S", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(span_of(text), None, "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_once_and_can_be_escaped() {
        let env = |name: &str| (name == "HOST").then(|| "10.0.0.1${HOST}".to_string());
        let decoder = Decoder { env: &env };
        assert_eq!(decoder.substitute("a${HOST}:1$").as_deref(), Ok("a10.0.0.1${HOST}:1$"));
        assert_eq!(decoder.substitute("$${HOST} $5 $$").as_deref(), Ok("${HOST} $5 $$"));
        assert!(decoder.substitute("${PORT}").is_err_and(|why| why.contains("PORT is not set")));
        assert!(decoder.substitute("${HOST").is_err());
        assert!(decoder.substitute("${HO ST}").is_err());
        assert!(decoder.substitute("${}").is_err());
    }

    #[test]
    fn sizes_are_a_whole_number_and_a_unit() {
        let bytes = |text: &str| size(text, 16 << 10, 1 << 30).ok();
        assert_eq!(bytes("auto"), Some(0));
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("256KiB"), Some(256 << 10));
        assert_eq!(bytes("4MiB"), Some(4 << 20));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        for text in ["", "4", "4MB", "4 MiB", "-4MiB", "1.5MiB", "15KiB", "2GiB", "99999999999999999999MiB", "MiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0666"), Some(0o666));
        assert_eq!(mode("0o600"), Some(0o600));
        for text in ["", "0888", "1777", "rw", "00600", "-600"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }

    #[test]
    fn a_rate_keeps_its_unit_for_that_is_how_many_may_come_at_once() {
        assert_eq!(rate("20/s"), Some(RateLimit { count: 20, unit_ns: 1_000_000_000 }));
        assert_eq!(rate("600/m"), Some(RateLimit { count: 600, unit_ns: 60_000_000_000 }));
        for text in ["20", "20/h", "/s", "+1/s", "-1/s", "1.5/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
