//! What a host name is. All parts that read one use this: the TLS of a client, a route, a backend.

use std::net::IpAddr;

/// Longest name, and longest part of one, in bytes (RFC 1035).
pub const NAME_MAX: usize = 253;
/// The longest part of a name, in bytes (RFC 1035).
const LABEL_MAX: usize = 63;

/// A name without its final dot, which only says that it is complete.
pub fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether it is made as names of hosts are (RFC 1123, and underscores, which are in use): parts of 1 to 63 letters,
/// digits, `-` and `_`, no `-` at either end of one, 253 bytes in all, no dot at the end.
pub fn is_name(name: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
    };
    name.len() <= NAME_MAX && name.split(|byte| *byte == b'.').all(is_label)
}

/// The name that a client's TLS asks for, in lower case: a name of a host, with or without its final dot. No top-level
/// domain is a number, so what ends in one is an address, or half of one.
pub fn server_name(name: &str) -> Option<String> {
    let name = without_dot(name);
    let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (is_name(name.as_bytes()) && !is_address).then(|| name.to_ascii_lowercase())
}

/// Whether a certificate can have it: a name of a host, with or without its final dot, or an IP address.
pub fn is_provable(name: &str) -> bool {
    server_name(name).is_some() || without_dot(name).parse::<IpAddr>().is_ok()
}

/// Whether the C library takes a text for an IPv4 address: numbers alone, as in `10.1`, `0x7f.0.0.1` or `127`. Such a
/// name is never looked up.
pub fn is_number(name: &str) -> bool {
    let is_number = |part: &str| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
    };
    name.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_everybody() {
        for name in ["a", "A.b-c.De", "my_db.internal", "1.2.3.4a", "0x1", "xn--nxasmq6b.example"] {
            assert_eq!(server_name(name), Some(name.to_ascii_lowercase()), "{name}");
            assert_eq!(server_name(&format!("{name}.")), Some(name.to_ascii_lowercase()), "{name}.");
        }
        for name in ["", ".", "a..", "1.2.3.4", "1.2.3.4.", "db.1", ".a", "a..b", "-a.b", "a-.b", "a b", "*.a", "a:1"] {
            assert_eq!(server_name(name), None, "{name}");
        }
        let long = |last: usize| format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(last));
        assert!(is_name(long(61).as_bytes()) && !is_name(long(62).as_bytes()) && !is_name("a".repeat(64).as_bytes()));
    }

    #[test]
    fn what_the_c_library_takes_for_an_address_is_no_name() {
        for text in ["127", "10.1", "0x7f.0.0.1", "0X7F", "10.0.0.300", "1.2.3.4.5", "0x"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["db", "db.1", "1.db", "0xg", "10.", "f00"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
