//! What a client speaks, as far as its first bytes tell. Pure.
//!
//! Sources: RFC 8446 (TLS, section 5.1), RFC 4253 (SSH, section 4.2), RFC 9112 (HTTP/1.1, section 3), RFC 9113
//! (HTTP/2, section 3.4), PostgreSQL documentation, "Message Formats". A client of MySQL says nothing before its server
//! does, and so has no first bytes.

use super::postgresql;

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// A TLS ClientHello.
    Tls,
    /// SSH.
    Ssh,
    /// A request of HTTP/1 or HTTP/2 in the clear.
    Http,
    /// PostgreSQL: its start-up message, a request to cancel, or a request for TLS or GSS.
    Postgresql,
    /// Something else.
    Other,
}

impl Protocol {
    /// The words for them in the configuration.
    pub const WORDS: [&str; 5] = ["tls", "ssh", "http", "postgresql", "other"];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tls => "tls",
            Protocol::Ssh => "ssh",
            Protocol::Http => "http",
            Protocol::Postgresql => "postgresql",
            Protocol::Other => "other",
        }
    }

    /// The protocol of that word.
    pub fn named(word: &str) -> Option<Protocol> {
        use Protocol::{Http, Other, Postgresql, Ssh, Tls};
        [Tls, Ssh, Http, Postgresql, Other].into_iter().find(|protocol| protocol.name() == word)
    }
}

/// The beginning of an SSH identification string.
const SSH: &[u8] = b"SSH-";
/// Methods of HTTP (RFC 9110, section 9), and the one with which HTTP/2 begins.
const METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"];

/// What a client speaks that begins with `bytes` and whose ClientHello they are not; `None` while more bytes could make
/// a difference. At most 16 bytes do.
pub fn tell(bytes: &[u8]) -> Option<Protocol> {
    let mut is_open = bytes.is_empty();
    for (protocol, found) in [
        (Protocol::Ssh, begins(bytes, SSH)),
        (Protocol::Http, is_http(bytes)),
        (Protocol::Postgresql, postgresql::is_begin(bytes)),
    ] {
        match found {
            Some(true) => return Some(protocol),
            Some(false) => {}
            None => is_open = true,
        }
    }
    if is_open { None } else { Some(Protocol::Other) }
}

/// Whether `bytes` begin with `word`; `None` while they could.
fn begins(bytes: &[u8], word: &[u8]) -> Option<bool> {
    match bytes.iter().zip(word).all(|(byte, expected)| byte == expected) {
        true if bytes.len() >= word.len() => Some(true),
        true => None,
        false => Some(false),
    }
}

/// Whether `bytes` are a method, a blank and the beginning of what is asked for: a path, a URL or a star; after CONNECT
/// a host. Redis has commands of the same names (`GET key`).
fn is_http(bytes: &[u8]) -> Option<bool> {
    let Some(method) = bytes.split(|byte| *byte == b' ').next().filter(|method| method.len() < bytes.len()) else {
        let could = METHODS.iter().any(|method| method.starts_with(bytes));
        return if could { None } else { Some(false) };
    };
    if !METHODS.contains(&method) {
        return Some(false);
    }
    let target = bytes.get(method.len() + 1)?;
    Some(match method {
        b"CONNECT" => target.is_ascii_alphanumeric() || *target == b'[',
        b"PRI" => *target == b'*',
        _ => matches!(target, b'/' | b'*' | b'h' | b'H'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// After how many bytes it is told, and what.
    fn told(bytes: &[u8]) -> (usize, Option<Protocol>) {
        let found = (0..=bytes.len()).map(|len| (len, tell(&bytes[..len]))).find(|(_, told)| told.is_some());
        found.unwrap_or((bytes.len(), None))
    }

    #[test]
    fn each_protocol_is_known_by_its_first_bytes() {
        for (bytes, len, protocol) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], 4, Protocol::Ssh),
            (b"GET / HTTP/1.1\r\n", 5, Protocol::Http),
            (b"OPTIONS * HTTP/1.1\r\n", 9, Protocol::Http),
            (b"CONNECT db.example:5432 HTTP/1.1\r\n", 9, Protocol::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 5, Protocol::Http),
            (&postgresql::SSL_REQUEST, 8, Protocol::Postgresql),
            (b"\0\0\0\x29\0\x03\0\0user\0postgres\0\0", 8, Protocol::Postgresql),
            (b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02", 8, Protocol::Postgresql),
            (b"\x10\x10\0\x04MQTT", 1, Protocol::Other),
            (b"*1\r\n$4\r\nPING\r\n", 1, Protocol::Other),
            (b"GET key\r\n", 5, Protocol::Other),
            (b"PING\r\n", 2, Protocol::Other),
            (b"SSX", 3, Protocol::Other),
            (b"\x16\x03\x01\xff\xff", 1, Protocol::Other),
            (b"\0\0\0\x08\0\x02\0\0", 6, Protocol::Other),
        ] {
            assert_eq!(told(bytes), (len, Some(protocol)), "{:?}", bytes.escape_ascii().to_string());
        }
        for word in Protocol::WORDS {
            assert_eq!(Protocol::named(word).map(Protocol::name), Some(word));
        }
        assert_eq!(Protocol::named("any"), None);
    }

    proptest! {
        #[test]
        fn sixteen_bytes_tell_and_more_change_nothing(bytes: Vec<u8>) {
            let whole = tell(&bytes);
            prop_assert!(bytes.len() < 16 || whole.is_some());
            for len in 0..bytes.len() {
                let told = tell(&bytes[..len]);
                prop_assert!(told.is_none() || told == whole);
            }
        }
    }
}
