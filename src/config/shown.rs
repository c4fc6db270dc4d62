//! Values as text: as the file writes them, and as a change of them is shown.
//!
//! Lines about a change go to the log, to the API and to the caller of a reload. So values that may hold a secret are
//! compared here but never shown; only their length is.

use std::fmt::Display;
use std::time::Duration;

use crate::admit::Networks;
use crate::base::hash;

/// What is compared of a key, and what is shown of it.
#[derive(Debug)]
pub(super) struct Shown {
    /// As the file writes it.
    pub(super) value: String,
    /// If it may hold a secret: its length or the part that is no secret, which is all that is ever shown. `None` for
    /// everything else.
    pub(super) measure: Option<Measure>,
}

/// What is shown of a value that may hold a secret.
#[derive(Debug)]
pub(super) enum Measure {
    /// How many bytes it has.
    Bytes(usize),
    /// The part that is no secret, and how long the rest is.
    Part(String),
}

impl Shown {
    /// The change as text: `old → new`, or `changed (3 → 5 bytes)` for a secret.
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

/// A value that is no secret. Like the functions below it returns an `Option`, because a key that has no effect
/// has no value.
pub(super) fn text(value: impl Display) -> Option<Shown> {
    Some(Shown { value: value.to_string(), measure: None })
}

/// A value that is compared and never shown.
pub(super) fn secret(value: String, measure: Measure) -> Option<Shown> {
    Some(Shown { value, measure: Some(measure) })
}

/// A time.
pub(super) fn time(value: Duration) -> Option<Shown> {
    text(of_time(value.as_micros()))
}

/// A size; 0 is `auto`.
pub(super) fn size(bytes: u32) -> Option<Shown> {
    text(of_size(bytes))
}

/// Permission bits, in octal.
pub(super) fn mode(mode: u32) -> Option<Shown> {
    text(format_args!("{mode:04o}"))
}

/// A value, or the word that stands for none.
pub(super) fn or(value: Option<impl Display>, none: &str) -> Option<Shown> {
    value.map_or_else(|| text(none), text)
}

/// A list.
pub(super) fn list(items: &[impl Display]) -> Option<Shown> {
    text(joined(items))
}

/// A list, or the word that stands for an empty one.
pub(super) fn joined_or(items: &[impl Display], none: &str) -> Option<Shown> {
    or(Some(joined(items)).filter(|_| !items.is_empty()), none)
}

/// A list as text, with commas.
pub(super) fn joined(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Networks. A long list is shown by its beginning, so a mark made from the whole list is added: else a change further
/// on would not show.
pub(super) fn networks(value: &Networks) -> Option<Shown> {
    let all: Vec<String> = value.list().iter().map(ToString::to_string).collect();
    let mark = hash::stable(all.join(",").as_bytes(), 0);
    text(format_args!("{value} (#{:04x})", mark as u16))
}

/// A time in the largest unit that leaves a whole number: `90000000` is `90s`, `60000000` is `1m`.
pub(super) fn of_time(us: u128) -> String {
    let units = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    match units.iter().find(|(unit_us, _)| us > 0 && us.is_multiple_of(*unit_us)) {
        Some((unit_us, unit)) => format!("{}{unit}", us / unit_us),
        None => "0s".to_string(),
    }
}

/// A number of bytes in the largest unit that leaves a whole number; 0 is `auto`.
pub(super) fn of_size(bytes: u32) -> String {
    match bytes {
        0 => "auto".to_string(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ => format!("{}KiB", bytes >> 10),
    }
}
