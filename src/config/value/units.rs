//! Whole numbers with a unit: times and sizes, as text and as a number.
//!
//! There are two ways to be wrong, which need different hints: a text does not have the form at all (`None`), or the
//! number is out of range (`Some(None)`).

use crate::config::keys::Span;

/// A time in microseconds. `None`: it does not have the form of a time. `Some(None)`: it is out of range.
pub(super) fn micros(text: &str, limits: Span) -> Option<Option<u64>> {
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

/// A size in bytes. `None`: it does not have the form of a size. `Some(None)`: it is out of range.
pub(super) fn bytes(text: &str, min: u32, max: u32) -> Option<Option<u32>> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[split..] {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = text[..split].parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    Some(bytes.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| (min..=max).contains(bytes)))
}
