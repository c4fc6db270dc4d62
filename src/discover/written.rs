//! Backends as others write them: `10.0.0.1:5432`, `[fd00::1]:5432`, `db.example:5432`. Pure.

use std::net::Ipv6Addr;

use super::found::FoundHost;
use super::gather::host;

/// What is wrong with a text that is no host.
pub const NO_HOST: &str = "has a host that is neither an address of a server nor a name";

/// Reads `host:port`.
///
/// # Errors
/// The text is none; with what it lacks.
pub fn address(text: &str) -> Result<(FoundHost, u16), &'static str> {
    let (written, port) = text.rsplit_once(':').ok_or("has no port")?;
    let port =
        port.parse().ok().filter(|port: &u16| *port > 0 && port.to_string().len() == text.len() - written.len() - 1);
    let port = port.ok_or("has a port that is none")?;
    let in_brackets = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = match in_brackets {
        Some(inner) if inner.parse::<Ipv6Addr>().is_err() => return Err("has brackets around what is no IPv6 address"),
        Some(inner) => inner,
        None if written.contains(':') => return Err("is an IPv6 address without brackets"),
        None => written,
    };
    Ok((host(inner).ok_or(NO_HOST)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::found::Found;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for text in
            ["10.0.0.1:5432", "[fd00::1]:1", "db.example:65535", "db:1", "db.example.:80", "my_db:80", "1.db:80"]
        {
            let (host, port) = address(text).unwrap();
            assert_eq!(Found::at(host, port).address(), text);
        }
        for (text, lacks) in [
            ("10.0.0.1", "has no port"),
            ("10.0.0.1:", "has a port that is none"),
            ("10.0.0.1:0", "has a port that is none"),
            ("10.0.0.1:080", "has a port that is none"),
            ("10.0.0.1:+80", "has a port that is none"),
            ("10.0.0.1:65536", "has a port that is none"),
            ("fd00::1:80", "is an IPv6 address without brackets"),
            ("[10.0.0.1]:80", "has brackets around what is no IPv6 address"),
            ("[fe80::1%eth0]:80", "has brackets around what is no IPv6 address"),
            ("0.0.0.0:80", NO_HOST),
            ("[ff02::1]:80", NO_HOST),
            ("10.1:80", NO_HOST),
            (":80", NO_HOST),
            ("a b:80", NO_HOST),
            ("http://a:80", "is an IPv6 address without brackets"),
        ] {
            assert_eq!(address(text), Err(lacks), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_an_address_that_it_is_not(text in r"[0-9a-f:.\[\]%-]{0,24}|\PC{0,12}") {
            if let Ok((host, port)) = address(&text) {
                let shown = Found::at(host.clone(), port).address();
                prop_assert_eq!(address(&shown), Ok((host, port)));
            }
        }
    }
}
