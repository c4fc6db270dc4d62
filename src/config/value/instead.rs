//! A value of the wrong type or form, and what to write instead.
//!
//! It is called only after a value was refused. A hint is given only if what was meant is clear, and only with a value
//! that the key would take, so that a user who follows it does not get a second error.

use toml::de::DeValue;

use super::units::{bytes, micros};
use super::{certificates, expected, quoted};
use crate::config::foreign;
use crate::config::keys::{Kind, Span};
use crate::config::shown;

/// What was written, and what to write, for a value of the wrong TOML type; `None` if it is unclear what was meant.
pub(super) fn of_type(kind: Kind, value: &DeValue<'_>) -> Option<(String, String)> {
    let text = match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::String(text) => {
            let hint = of_text(kind, text)?;
            return Some((quoted(text), hint));
        }
        DeValue::Array(_) if matches!(kind, Kind::Target) => {
            let hint = "a backend has one address; write [[pools.NAME.backends]] for each".to_string();
            return Some(("a list".to_string(), hint));
        }
        _ => return None,
    };
    Some((text.clone(), of_bare(kind, &text)?))
}

/// Whether a key would take this text if it stood in quotes.
///
/// # Errors
/// What to write instead, because it would not.
pub(in crate::config) fn of_unquoted(kind: Kind, text: &str) -> Result<(), String> {
    let decoder = super::Decoder { outside: &|_: &str| None };
    match decoder.decode(kind, 0..0, &DeValue::String(text.into())) {
        Err(faults) => match faults.into_iter().next() {
            Some((_, super::Fault::Value(_, hint))) => Err(hint),
            Some((_, super::Fault::Type(_))) => Err(format!("write {}", expected(kind))),
            _ => Ok(()),
        },
        Ok(_) => Ok(()),
    }
}

/// What to write instead of a text, for a key that takes something else.
fn of_text(kind: Kind, text: &str) -> Option<String> {
    Some(match kind {
        Kind::Bool | Kind::Level(_) => match foreign::plain(text).as_str() {
            level if matches!(kind, Kind::Level(_)) && is_number(level) && level != "0" => {
                format!("write {level}, without quotes")
            }
            "true" | "yes" | "on" | "1" | "enabled" => "write true, without quotes".to_string(),
            "false" | "no" | "off" | "0" | "disabled" => "write false, without quotes".to_string(),
            _ => return None,
        },
        Kind::Integer(..) | Kind::AutoOr(..) if is_number(text) => format!("write {text}, without quotes"),
        Kind::Integer(..) | Kind::AutoOr(..) => format!("write {}, without quotes", expected(kind)),
        Kind::Networks | Kind::ServerNames | Kind::Protocols | Kind::NameServers | Kind::Endpoints => {
            format!("write a list: [{}]", quoted(text))
        }
        Kind::Certificates => format!("write a list of pairs: [{}]", certificates::pair_of(text)),
        _ => return None,
    })
}

/// What to write instead of a bare number or flag, for a key that takes something else.
fn of_bare(kind: Kind, text: &str) -> Option<String> {
    let is_number = is_number(text);
    Some(match kind {
        Kind::Bool if text == "1" => "write true".to_string(),
        Kind::Bool if text == "0" => "write false".to_string(),
        Kind::Duration(limits) if is_number => with_unit(text, limits),
        Kind::AutoOrSize(min, max) if is_number => of_size(text, min, max)?,
        Kind::Rate if is_number => format!("write it with its unit of time, in quotes: \"{text}/s\" or \"{text}/m\""),
        Kind::Mode if is_number => format!("write it in octal and in quotes: \"{text:0>4}\""),
        Kind::Binds if is_number => format!("write the address before the port: \"0.0.0.0:{text}\""),
        Kind::Target if is_number => format!("write the address before the port: \"10.0.0.1:{text}\""),
        Kind::IpPortOrOff if is_number => format!("write the address before the port: \"127.0.0.1:{text}\""),
        Kind::Word(words) => match foreign::value(text, words) {
            Some(word) => format!("that is \"{word}\" here; it takes {}", expected(kind)),
            None => return None,
        },
        Kind::Statuses if is_number => format!("write a list: [{text}]"),
        Kind::Text | Kind::Name => format!("write it in quotes: \"{text}\""),
        _ => return None,
    })
}

/// What to write instead of a text that is no time.
pub(super) fn of_duration(text: &str, limits: Span) -> String {
    const UNITS: &str = "write a whole number with its unit: \"250ms\", \"5s\", \"10m\" or \"1h\"";
    const NEVER: [&str; 8] = ["0", "off", "none", "never", "infinity", "infinite", "unlimited", "forever"];
    let lower = text.trim().to_lowercase();
    if limits.zero && NEVER.contains(&lower.as_str()) {
        return "write \"0s\" to turn it off".to_string();
    }
    if is_number(&lower) {
        return with_unit(&lower, limits);
    }
    let meant = humantime::parse_duration(&lower).ok().map(|time| shown::of_time(time.as_micros()));
    match meant.filter(|shown| micros(shown, limits).flatten().is_some()) {
        Some(shown) => format!("write \"{shown}\""),
        None => UNITS.to_string(),
    }
}

/// A number without a unit: it may be seconds or milliseconds, and only the author knows. So the hint offers both.
fn with_unit(number: &str, limits: Span) -> String {
    let units: &[&str] = if number.bytes().all(|byte| byte == b'0') { &["s"] } else { &["s", "ms"] };
    let all = units.iter().map(|unit| format!("{number}{unit}"));
    let fits: Vec<String> =
        all.filter(|text| micros(text, limits).flatten().is_some()).map(|text| format!("\"{text}\"")).collect();
    match fits.is_empty() {
        true => "write a time with its unit, in quotes, as in \"250ms\", \"5s\", \"10m\" or \"1h\"".to_string(),
        false => format!("write it with its unit, in quotes: {}", fits.join(" or ")),
    }
}

/// What to write instead of a text that is no size; `None` if it is unclear what was meant.
pub(super) fn of_size(text: &str, min: u32, max: u32) -> Option<String> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let fits = |text: &str| bytes(text, min, max).flatten().is_some();
    let unit = match foreign::plain(&text[split..]).as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "" | "b" => {
            let bytes = text[..split].parse::<u32>().ok().filter(|bytes| *bytes > 0 && bytes.is_multiple_of(1024))?;
            let shown = shown::of_size(bytes);
            return fits(&shown).then(|| format!("write \"{shown}\""));
        }
        _ => return None,
    };
    let meant = format!("{}{unit}", &text[..split]);
    fits(&meant).then(|| format!("write \"{meant}\""))
}

/// Whether a text consists of digits.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
