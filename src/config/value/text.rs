//! One text alone: from the characters between two quotes to the value that a key takes.
//!
//! Each function reads one form (a time, a size, a word, an address…) and returns a [`Fault`] with what to write if the
//! text does not have it. Lists call them for each of their items; [`Decoder`](super::Decoder) has replaced variables
//! before.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::units::{bytes, micros};
use super::{Fault, Value, WHOLE_PATH, bad, expected, instead, nearest, quoted, words_of, wrong};
use crate::admit::sources::RateLimit;
use crate::base::address::Address;
use crate::config::address;
use crate::config::foreign;
use crate::config::keys::{self, Kind, Span};
use crate::config::model::{CheckAddress, LocalAddress, Target};
use crate::discover::settings::Endpoint;

/// Reads what `kind` takes from a text that does not stand in a list. `span` is where it stands.
///
/// # Errors
/// The text has not the form of this kind, or is out of its range.
pub(super) fn one(kind: Kind, span: &Range<usize>, text: &str) -> Result<Value, Fault> {
    match kind {
        Kind::AutoOr(..) if text == "auto" => Ok(Value::Auto),
        Kind::Duration(limits) => duration(text, limits).map(Value::Duration),
        Kind::AutoOrSize(min, max) => size(text, min, max).map(Value::Size),
        Kind::Mode => {
            mode(text).map(Value::Mode).ok_or_else(|| wrong(text, "write up to 0777 in octal, as in \"0600\""))
        }
        Kind::Word(words) => word(text, words).map(Value::Word),
        Kind::BoolOr(words) if !words.contains(&text) => {
            let hint = instead::of_type(Kind::Bool, &DeValue::String(text.into())).map(|(_, hint)| hint);
            Err(wrong(text, &hint.unwrap_or_else(|| format!("write {}", expected(kind)))))
        }
        Kind::BoolOr(words) => word(text, words).map(Value::Word),
        Kind::WordPathOrSyslog(_) if text.starts_with(address::SYSLOG) => match address::syslog(text) {
            Some(_) => Ok(Value::Text(text.to_string())),
            None => Err(wrong(text, "write \"syslog:/dev/log\" or \"syslog:udp:127.0.0.1:514\"")),
        },
        Kind::WordOrPath(words) | Kind::WordPathOrSyslog(words) => match word(text, words) {
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
        Kind::Interface => interface(text).map(Value::Text),
        Kind::Rate => rate(text).map(Value::Rate).ok_or_else(|| wrong(text, "write \"20/s\", \"600/m\", or \"10/3s\"")),
        Kind::Source if text.is_empty() => Ok(Value::Source(LocalAddress::Any)),
        Kind::Source if text == "client" => Ok(Value::Source(LocalAddress::Client)),
        Kind::Source => Ok(Value::Source(LocalAddress::Addresses([address_of_ours(text)?].into()))),
        Kind::Binds => {
            let all = address::binds(text).map_err(|error| bad(text, &error))?;
            Ok(Value::Binds(all.into_iter().map(|address| (span.clone(), address)).collect()))
        }
        Kind::Target => address::backend(text).map(Value::Target).map_err(|error| bad(text, &error)),
        Kind::CheckAddress => check_address(text).map(Value::CheckAddress),
        Kind::IpPortOrOff if text.is_empty() => Ok(Value::Listen(None)),
        Kind::IpPortOrOff => match address::binds(text).map_err(|error| bad(text, &error))?.as_slice() {
            [Address::Tcp(address)] => Ok(Value::Listen(Some(*address))),
            _ => Err(wrong(text, "write one ip:port, as in \"127.0.0.1:9900\"")),
        },
        Kind::PathOrOff => path_or_off(text).map(Value::Text),
        Kind::EndpointOrOff => endpoint_or_off(text).map(Value::Endpoints),
        Kind::SocketOrOff if text.is_empty() => Ok(Value::Text(String::new())),
        Kind::SocketOrOff => match address::unix(text) {
            Ok(_) => Ok(Value::Text(text.to_string())),
            Err(_) => Err(wrong(text, "write a path that begins with `/` and has at most 107 bytes, without `unix:`")),
        },
        Kind::Bool | Kind::Level(_) | Kind::Integer(..) | Kind::AutoOr(..) | Kind::Networks | Kind::ServerNames => {
            let hint = instead::of_type(kind, &DeValue::String(text.into())).map(|(_, hint)| hint);
            Err(wrong(text, &hint.unwrap_or_else(|| format!("write {}", expected(kind)))))
        }
        // A `NetworkFile` is read by the decoder.
        Kind::Protocols
        | Kind::Statuses
        | Kind::Steps
        | Kind::Split
        | Kind::Certificates
        | Kind::Headers
        | Kind::Ports
        | Kind::NameServers
        | Kind::Endpoints
        | Kind::NetworkFile => Err(wrong(text, &format!("write {}", expected(kind)))),
    }
}

/// The path of a file or a folder, or an empty text.
fn path_or_off(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.starts_with('/') { Ok(text.to_string()) } else { Err(wrong(text, WHOLE_PATH)) }
}

/// Where a backend is checked: an address, or a port of its own address.
fn check_address(text: &str) -> Result<Option<CheckAddress>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port);
        let port = port.ok_or_else(|| wrong(text, "write a port from 1 to 65535, as in \":8008\""))?;
        return Ok(Some(CheckAddress::Port(port)));
    }
    match address::backend(text).map_err(|error| bad(text, &error))? {
        Target::Address(address) => Ok(Some(CheckAddress::At(address))),
        Target::Host { .. } | Target::AtClientPort { .. } => {
            Err(wrong(text, "write an IP address, as in \"127.0.0.1:8008\", or a port as in \":8008\""))
        }
    }
}

/// The name of a network interface, or an empty text.
fn interface(text: &str) -> Result<String, Fault> {
    match text.is_empty() || is_interface(text) {
        true => Ok(text.to_string()),
        false => Err(wrong(text, "write the name of one interface, as `ip link` shows it (at most 15 bytes)")),
    }
}

/// A server that speaks HTTP, or an empty text.
fn endpoint_or_off(text: &str) -> Result<Vec<Endpoint>, Fault> {
    if text.is_empty() { Ok(Vec::new()) } else { Ok(vec![endpoint(text)?]) }
}

/// A server that speaks HTTP.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    text.parse().map_err(|hint| wrong(text, hint))
}

/// The address of a name server, `ip` or `ip:port`. Without a port it is 53.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|server| server.port() > 0);
    let server = with_port.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)));
    server.ok_or_else(|| wrong(text, "write the address of a name server, as in \"10.0.0.53:53\" or \"[fd00::53]:53\""))
}

/// Why a text cannot be a name; `None` if it can. Names appear in paths of the API, in labels of metrics and in
/// `POOL/BACKEND`.
pub(crate) fn fault_of_name(name: &str) -> Option<&'static str> {
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

/// Whether the kernel could have an interface of this name (`dev_valid_name`, with IFNAMSIZ of 16).
fn is_interface(name: &str) -> bool {
    let is_clean = |c: char| !c.is_whitespace() && !c.is_control() && !"/:".contains(c);
    (1..16).contains(&name.len()) && ![".", ".."].contains(&name) && name.chars().all(is_clean)
}

/// A time such as `250ms` or `1h`: a whole number and its unit, within the range of the key.
fn duration(text: &str, limits: Span) -> Result<Duration, Fault> {
    match micros(text, limits) {
        Some(Some(us)) => Ok(Duration::from_micros(us)),
        Some(None) => Err(Fault::Value(quoted(text), format!("write a time {}", limits.range()))),
        None => Err(wrong(text, &instead::of_duration(text, limits))),
    }
}

/// A size in bytes, such as `256KiB`: a whole number and its unit, within `min` and `max`. `auto` and `0` are 0.
fn size(text: &str, min: u32, max: u32) -> Result<u32, Fault> {
    if matches!(text, "auto" | "0") {
        return Ok(0);
    }
    match bytes(text, min, max) {
        Some(Some(bytes)) => Ok(bytes),
        Some(None) => Err(Fault::Value(quoted(text), format!("write a size {}", keys::range_of_sizes(min, max)))),
        None => {
            let units = "write a whole number with its unit: \"256KiB\" or \"4MiB\", or \"auto\"".to_string();
            Err(wrong(text, &instead::of_size(text, min, max).unwrap_or(units)))
        }
    }
}

/// Permission bits in octal, up to 0777, such as `0600`.
fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

/// One of the words that a key takes. The message knows the words of other programs and small misspellings.
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

/// The time of a rate.
const RATE_TIME: Span = Span { zero: false, min_us: 1_000, max_us: 24 * 3_600_000_000, step_us: 1_000 };

/// A rate such as `20/s`, `600/m` or `10/3s`. The time is kept, because the count is also how many can come in one
/// moment.
fn rate(text: &str) -> Option<RateLimit> {
    let (number, unit) = text.split_once('/')?;
    let count = number.parse::<u32>().ok().filter(|_| !number.starts_with('+'))?;
    let time = if unit.starts_with(|first: char| first.is_ascii_digit()) { unit } else { &format!("1{unit}") };
    let unit_us = micros(time, RATE_TIME)??;
    Some(RateLimit { count, unit_ns: unit_us * 1_000 })
}

/// The name of a protocol for ALPN: 1 to 255 bytes (RFC 7301, section 3.1).
pub(super) fn protocol(text: &str) -> Result<Vec<String>, Fault> {
    match text.len() {
        1..=255 => Ok(vec![text.to_string()]),
        _ => Err(wrong(text, "the name of a protocol has 1 to 255 bytes, as in \"postgresql\" or \"h2\"")),
    }
}

/// An address of this host from which connections can come. Whether the host has it is not checked here.
pub(super) fn address_of_ours(text: &str) -> Result<IpAddr, Fault> {
    let known = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified() && !address.is_multicast());
    known.ok_or_else(|| wrong(text, "write an address of this host, as in \"10.0.0.1\", or \"client\""))
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
    fn a_backend_is_checked_at_a_port_or_an_address_and_at_no_name() {
        let read = |text: &str| check_address(text).ok().expect(text);
        assert_eq!(read(""), None);
        assert_eq!(read(":8008"), Some(CheckAddress::Port(8008)));
        for text in ["127.0.0.1:8008", "[::1]:1", "unix:/run/x"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        for text in [":", ":0", ":65536", ":+1", ":08", "8008", "db.example:8008", "10.0.0.1", "10.0.0.1:0"] {
            assert!(check_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_keeps_its_unit_because_it_is_also_the_size_of_a_burst() {
        assert_eq!(rate("20/s"), Some(RateLimit { count: 20, unit_ns: 1_000_000_000 }));
        assert_eq!(rate("600/m"), Some(RateLimit { count: 600, unit_ns: 60_000_000_000 }));
        assert_eq!(rate("10/3s"), Some(RateLimit { count: 10, unit_ns: 3_000_000_000 }));
        assert_eq!(rate("5/250ms"), Some(RateLimit { count: 5, unit_ns: 250_000_000 }));
        assert_eq!(rate("9/1m"), rate("9/m"));
        for text in [
            "20", "20/", "20/3", "20/d", "20/0s", "20/5us", "20/25h", "20/-1s", "20/3s/s", "/s", "+1/s", "-1/s",
            "1.5/s",
        ] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
