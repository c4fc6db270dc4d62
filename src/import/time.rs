//! Times as HAProxy and nginx write them, and as ringway does.
//!
//! | | alone | units |
//! |---|---|---|
//! | HAProxy | milliseconds | `us ms s m h d` |
//! | nginx | seconds | `ms s m h d w M y`, several of them in a row |
//! | ringway | an error | `ms s m h` |
//!
//! A time is never made shorter: less than a millisecond becomes one. 0 means "no limit" in all three.

/// A year, in microseconds: the longest time of ringway.
const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;

/// A time of HAProxy, in microseconds: a number with a unit, or milliseconds.
pub fn of_haproxy(text: &str) -> Option<u64> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let unit_us = match &text[split..] {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    text[..split].parse::<u64>().ok()?.checked_mul(unit_us)
}

/// A time of nginx, in microseconds: numbers with units, as in `1h30m`, or seconds.
pub fn of_nginx(text: &str) -> Option<u64> {
    let (mut all_us, mut rest) = (0u64, text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let split = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..split].parse().ok()?;
        let unit = rest[split..].split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        let unit_us = match unit {
            "ms" => 1_000,
            "" | "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "w" => 7 * 86_400_000_000,
            "M" => 30 * 86_400_000_000,
            "y" => YEAR_US,
            _ => return None,
        };
        all_us = all_us.checked_add(number.checked_mul(unit_us)?)?;
        rest = &rest[split + unit.len()..];
    }
    Some(all_us)
}

/// The time as ringway writes it: whole milliseconds, and a year at most.
pub fn shown(us: u64) -> String {
    let ms = us.div_ceil(1_000).min(YEAR_US / 1_000);
    match ms {
        0 => "0s".to_string(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_milliseconds_for_one_and_seconds_for_the_other() {
        assert_eq!(of_haproxy("5000").map(shown).as_deref(), Some("5s"));
        assert_eq!(of_nginx("5000").map(shown).as_deref(), Some("5000s"));
        assert_eq!(of_haproxy("1500us").map(shown).as_deref(), Some("2ms"), "never shorter");
        assert_eq!(of_nginx("1h30m").map(shown).as_deref(), Some("90m"));
        assert_eq!(of_nginx("1d").map(shown).as_deref(), Some("24h"));
        assert_eq!(of_haproxy("999d").map(shown).as_deref(), Some("8760h"));
        assert_eq!(of_haproxy("0").map(shown).as_deref(), Some("0s"));
        for text in ["", "s", "5x", "-1", "99999999999999999999", "1h30m"] {
            assert_eq!(of_haproxy(text).filter(|_| !text.is_empty()), None, "{text}");
        }
        for text in ["", "s", "5x", "1h 2m", "99999999999999999999y"] {
            assert_eq!(of_nginx(text), None, "{text}");
        }
    }
}
