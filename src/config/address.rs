//! Addresses as they are written: `ip:port`, `[ip6]:port`, `unix:/path`, and port ranges to listen on.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::model::Target;
use crate::base::address::Address;
use crate::base::host;

/// Longest path of a unix socket in bytes (`sun_path` less its final zero).
const UNIX_PATH_MAX: usize = 107;

/// Why a text is no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// A relative or empty path, or one that the kernel cannot take.
    #[error("the path after `unix:` must begin with `/`, hold no zero byte and have at most 107 bytes")]
    UnixPath,
    /// `10.0.0.1`, `10.0.0.1:`.
    #[error("the port is missing; write {0}:PORT")]
    NoPort(String),
    /// `::1:5432`.
    #[error("write an IPv6 address in brackets, `[::1]:5432`")]
    NoBrackets,
    /// The port is no number, or none that there is.
    #[error("`{0}` is no port; ports go from {1} to 65535")]
    Port(String, u16),
    /// `7009-7000`.
    #[error("a port range goes upward from at least 1, as in `7000-7009`")]
    PortRange,
    /// `*:5432`, `:5432`.
    #[error("for every address write `0.0.0.0:{0}` (IPv4) or `[::]:{0}` (IPv6)")]
    Wildcard(String),
    /// A name where only an address can stand: to listen on.
    #[error("`{0}` is no IP address; write ip:port, [ip6]:port or unix:/path")]
    NotAnIp(String),
    /// Neither an address nor a name that can be looked up.
    #[error(
        "`{0}` is neither an IP address nor the name of a host; write ip:port, [ip6]:port, host:port or unix:/path"
    )]
    NotAHost(String),
}

/// Reads where to listen. A port range gives an address a port; port 0 lets the kernel choose.
pub fn binds(text: &str) -> Result<Vec<Address>, Error> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(vec![unix(path)?]);
    }
    let (host, port) = split(text)?;
    if host.is_empty() || host == "*" {
        return Err(Error::Wildcard(port.to_string()));
    }
    let ip = ip(host).ok_or_else(|| Error::NotAnIp(host.to_string()))?;
    let Some((first, last)) = port.split_once('-') else {
        return Ok(vec![with_port(ip, number(port, 0)?)]);
    };
    let (first, last) = (number(first, 1)?, number(last, 1)?);
    if first > last {
        return Err(Error::PortRange);
    }
    Ok((first..=last).map(|port| with_port(ip, port)).collect())
}

/// Reads where a backend is.
pub fn backend(text: &str) -> Result<Target, Error> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Target::Address(unix(path)?));
    }
    let (host, port) = split(text)?;
    let port = number(port, 1)?;
    match ip(host) {
        Some(ip) => Ok(Target::Address(with_port(ip, port))),
        None if host::is_name(host::without_dot(host).as_bytes()) && !host::is_number(host::without_dot(host)) => {
            Ok(Target::Host { name: Arc::from(host), port })
        }
        None => Err(Error::NotAHost(host.to_string())),
    }
}

/// An address without its port; keeps the scope of a link-local IPv6 address.
type Ip = SocketAddr;

fn with_port(mut ip: Ip, port: u16) -> Address {
    ip.set_port(port);
    Address::Tcp(ip)
}

fn ip(host: &str) -> Option<Ip> {
    if host.starts_with('[') {
        return SocketAddr::from_str(&format!("{host}:0")).ok();
    }
    match IpAddr::from_str(host) {
        Ok(ip @ IpAddr::V4(_)) => Some(SocketAddr::new(ip, 0)),
        _ => None,
    }
}

/// Splits at the last colon, and finds out what was meant where that does not work.
fn split(text: &str) -> Result<(&str, &str), Error> {
    if IpAddr::from_str(text).is_ok_and(|ip| ip.is_ipv6()) {
        return Err(Error::NoBrackets);
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => Err(Error::NoBrackets),
        Some((host, port)) if !port.is_empty() && !port.ends_with(']') => Ok((host, port)),
        _ => Err(Error::NoPort(text.trim_end_matches(':').to_string())),
    }
}

fn number(text: &str, min: u16) -> Result<u16, Error> {
    // `from_str` alone would take "+80".
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port >= min);
    port.ok_or_else(|| Error::Port(text.to_string(), min))
}

/// The path of a unix socket.
pub(super) fn unix(path: &str) -> Result<Address, Error> {
    if !path.starts_with('/') || path.len() > UNIX_PATH_MAX || path.contains('\0') {
        return Err(Error::UnixPath);
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        binds(text).unwrap().iter().map(Address::to_string).collect()
    }

    #[test]
    fn what_is_written_is_what_is_bound() {
        for text in ["0.0.0.0:5432", "[::]:5432", "unix:/run/x.sock", "127.0.0.1:0"] {
            assert_eq!(shown(text), [text]);
        }
        assert_eq!(shown("127.0.0.1:7000-7002"), ["127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7002"]);
        assert_eq!(shown("[::1]:9-9"), ["[::1]:9"]);
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        assert_eq!(binds("10.0.0.1"), Err(Error::NoPort("10.0.0.1".into())));
        assert_eq!(binds("10.0.0.1:"), Err(Error::NoPort("10.0.0.1".into())));
        assert_eq!(binds("[::1]"), Err(Error::NoPort("[::1]".into())));
        assert_eq!(binds("::1:5432"), Err(Error::NoBrackets));
        assert_eq!(binds("*:5432"), Err(Error::Wildcard("5432".into())));
        assert_eq!(binds(":5432"), Err(Error::Wildcard("5432".into())));
        assert_eq!(binds("localhost:5432"), Err(Error::NotAnIp("localhost".into())));
        assert_eq!(binds("1.1.1.1:65536"), Err(Error::Port("65536".into(), 0)));
        assert_eq!(binds("1.1.1.1:+80"), Err(Error::Port("+80".into(), 0)));
        assert_eq!(binds("1.1.1.1:9-8"), Err(Error::PortRange));
        assert_eq!(binds("1.1.1.1:0-8"), Err(Error::Port("0".into(), 1)));
        assert_eq!(binds("unix:run/x"), Err(Error::UnixPath));
        assert_eq!(binds(&format!("unix:/{}", "x".repeat(107))), Err(Error::UnixPath));
        assert_eq!(backend("db.example:5432"), Ok(Target::Host { name: "db.example".into(), port: 5432 }));
        for host in ["10.0.0.300", "10.1", "0x7f.1", "127", "-db.example", "db-.example", "a..b", "db.."] {
            assert_eq!(backend(&format!("{host}:5432")), Err(Error::NotAHost(host.into())));
        }
        for host in ["db.example.", "db.1", "my_db", "1st.example"] {
            assert!(backend(&format!("{host}:5432")).is_ok(), "{host}");
        }
        assert_eq!(backend("10.0.0.3:0"), Err(Error::Port("0".into(), 1)));
        assert_eq!(backend("10.0.0.3:1-2"), Err(Error::Port("1-2".into(), 1)));
    }
}
