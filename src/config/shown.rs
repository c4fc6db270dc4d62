//! A value as it is written, and as a change of it is told.

use std::fmt::Display;
use std::time::Duration;

use crate::admit::Networks;
use crate::base::hash;

/// What is compared of a key, and what is shown of it.
#[derive(Debug)]
pub(super) struct Shown {
    /// As the file has it.
    pub(super) value: String,
    /// Of what may hold a secret: how much it is, which is all that is ever shown of it. Lines of a change go to the
    /// log, to the API and to the caller of a reload.
    pub(super) measure: Option<Measure>,
}

/// What is shown of what may hold a secret.
#[derive(Debug)]
pub(super) enum Measure {
    Bytes(usize),
    /// What of it is none, and how much the rest is.
    Part(String),
}

impl Shown {
    /// What it was and what it is; of what may hold a secret only how much.
    pub(super) fn change_from(&self, was: &Shown) -> String {
        let shown = |shown: &Shown| match &shown.measure {
            None => shown.value.clone(),
            Some(Measure::Bytes(count)) => format!("{count} bytes"),
            Some(Measure::Part(part)) => part.clone(),
        };
        match (&was.measure, &self.measure) {
            (None, None) => format!("{} → {}", was.value, self.value),
            (Some(Measure::Bytes(was)), Some(Measure::Bytes(is))) => format!("changed ({was} → {is} bytes)"),
            _ => format!("changed ({} → {})", shown(was), shown(self)),
        }
    }
}

/// A value that anybody may see. Like all of these it is an `Option`, as a key that means nothing has no value.
pub(super) fn text(value: impl Display) -> Option<Shown> {
    Some(Shown { value: value.to_string(), measure: None })
}

/// A value that is compared and never shown.
pub(super) fn secret(value: String, measure: Measure) -> Option<Shown> {
    Some(Shown { value, measure: Some(measure) })
}

pub(super) fn time(value: Duration) -> Option<Shown> {
    text(of_time(value.as_micros()))
}

pub(super) fn size(bytes: u32) -> Option<Shown> {
    text(of_size(bytes))
}

pub(super) fn mode(mode: u32) -> Option<Shown> {
    text(format_args!("{mode:04o}"))
}

/// A value, or the word for none.
pub(super) fn or(value: Option<impl Display>, none: &str) -> Option<Shown> {
    value.map_or_else(|| text(none), text)
}

pub(super) fn list(items: &[impl Display]) -> Option<Shown> {
    text(joined(items))
}

pub(super) fn joined(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A long list is shown by its beginning, so it is told by all of it whether it is the same.
pub(super) fn networks(value: &Networks) -> Option<Shown> {
    let all: Vec<String> = value.list().iter().map(ToString::to_string).collect();
    let mark = hash::stable(all.join(",").as_bytes(), 0);
    text(format_args!("{value} (#{:04x})", mark as u16))
}

/// A time as the file has it: in the greatest unit that leaves a whole number.
pub(super) fn of_time(us: u128) -> String {
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    match units.iter().find(|(unit_us, _)| us > 0 && us.is_multiple_of(*unit_us)) {
        Some((unit_us, unit)) => format!("{}{unit}", us / unit_us),
        None => "0s".to_string(),
    }
}

/// A number of bytes as the file has it.
pub(super) fn of_size(bytes: u32) -> String {
    match bytes {
        0 => "auto".to_string(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ => format!("{}KiB", bytes >> 10),
    }
}
