//! Addresses as a configuration writes them: `ip:port`, `[ip6]:port`, `host:port`, `unix:/path`, and port ranges to
//! listen on.
//!
//! Many texts here come from other programs (`*:80`, `http://…`, `10.0.0.1:80 weight=5`), so most of the code finds out
//! what was meant and says what to write instead. Nothing is looked up.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::model::{SyslogServer, Target};
use crate::base::address::Address;
use crate::base::host;

/// The example in messages about listening: every IPv4 address.
const ANY: &str = "0.0.0.0";
/// Longest path of a unix socket in bytes (`sun_path` less its final zero).
const UNIX_PATH_MAX: usize = 107;

/// Why a text is not an address. Each message says what to write.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// A relative or empty path, or one that the kernel cannot take.
    #[error("the path after `unix:` must begin with `/`, hold no zero byte and have at most 107 bytes")]
    UnixPath,
    /// A path without `unix:`, such as `/run/x.sock`.
    #[error("for a unix socket write `unix:{0}`")]
    Path(String),
    /// No port, such as `10.0.0.1` or `10.0.0.1:`.
    #[error("the port is missing; write `{0}:PORT`")]
    NoPort(String),
    /// A port alone, such as `80`; with the address that could stand before it.
    #[error("the address is missing; write it before the port, as in `{1}:{0}`")]
    OnlyPort(String, &'static str),
    /// An IPv6 address without brackets, such as `::1:5432`.
    #[error("write an IPv6 address in brackets: `[{0}]:{1}`")]
    NoBrackets(String, String),
    /// The port is not a number from the second value to 65535.
    #[error("`{0}` is no port; write a number from {1} to 65535")]
    Port(String, u16),
    /// A port range that goes downward, such as `7009-7000`.
    #[error("a port range goes upward from at least 1, as in `7000-7009`")]
    PortRange,
    /// A port range where a backend is meant, such as `10.0.0.1:80-90`.
    #[error("a backend has one port; write one `address` for each")]
    OnePort,
    /// Something after `client` that is no shift, such as `client*2`.
    #[error("`{0}` is no port; write `client`, or `client+1000` for the port that the client connected to and 1000")]
    ClientPort(String),
    /// A wildcard of other programs, such as `*:5432` or `:5432`.
    #[error("for every address write `0.0.0.0:{0}` (IPv4) or `[::]:{0}` (IPv6)")]
    Wildcard(String),
    /// A URL, such as `http://10.0.0.1:80/x`; with the part of it that is an address.
    #[error("write the address without `{0}` and without a path: `{1}`")]
    Url(String, String),
    /// Several addresses in one text, such as `10.0.0.1:80,10.0.0.2:80`.
    #[error("these are several addresses; write {0}")]
    Several(String),
    /// Something behind the address, such as `10.0.0.1:80 weight=5`; with the address alone.
    #[error("an address holds no blanks; write `{0}` alone, and what belongs to it as keys, as in weight = 5")]
    Blanks(String),
    /// TLS behind an address to listen on, such as `0.0.0.0:443 ssl crt /x.pem`; with the address alone.
    #[error("an address holds no blanks; write `{0}` alone, and TLS as [listeners.NAME.tls] with `certificates`")]
    Tls(String),
    /// A variable without braces, such as `$NAME`.
    #[error("the environment variable is written `${{{0}}}`")]
    Variable(String),
    /// A name where only an IP address can stand: ringway listens on addresses of this host.
    #[error("`{0}` is no IP address; write one of this host, as in `127.0.0.1:{1}`, or `0.0.0.0:{1}` for all")]
    NotAnIp(String, String),
    /// Neither an address nor a host name.
    #[error(
        "`{0}` is neither an IP address nor the name of a host; write ip:port, [ip6]:port, host:port or unix:/path"
    )]
    NotAHost(String),
}

/// How the address of a syslog server begins.
pub const SYSLOG: &str = "syslog:";

/// Reads the address of a syslog server: `syslog:/dev/log` or `syslog:udp:127.0.0.1:514`; `None` if it is neither.
pub fn syslog(text: &str) -> Option<SyslogServer> {
    let rest = text.strip_prefix(SYSLOG)?;
    match rest.strip_prefix("udp:") {
        Some(address) => address.parse().ok().filter(|server: &SocketAddr| server.port() > 0).map(SyslogServer::Udp),
        None => unix(rest).ok().and_then(|address| match address {
            Address::Unix(path) => Some(SyslogServer::Unix(path)),
            Address::Tcp(_) => None,
        }),
    }
}

/// Reads where to listen. A port range gives one address per port; with port 0 the kernel chooses the port.
///
/// # Errors
/// What is wrong with the text, and what to write.
pub fn binds(text: &str) -> Result<Vec<Address>, Error> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(vec![unix(path)?]);
    }
    let (host, port) = split(text, ANY)?;
    if host.is_empty() || host == "*" {
        return Err(Error::Wildcard(port.to_string()));
    }
    let ip = ip(host).ok_or_else(|| Error::NotAnIp(host.to_string(), port.to_string()))?;
    let Some((first, last)) = port.split_once('-') else {
        return Ok(vec![with_port(ip, number(port, 0)?)]);
    };
    let (first, last) = (number(first, 1)?, number(last, 1)?);
    if first > last {
        return Err(Error::PortRange);
    }
    Ok((first..=last).map(|port| with_port(ip, port)).collect())
}

/// Reads where a backend is: an address, or a host name to look up.
///
/// # Errors
/// What is wrong with the text, and what to write.
pub fn backend(text: &str) -> Result<Target, Error> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Target::Address(unix(path)?));
    }
    let (host, port) = split(text, "10.0.0.1")?;
    if port.split_once('-').is_some_and(|(first, last)| number(first, 0).is_ok() && number(last, 0).is_ok()) {
        return Err(Error::OnePort);
    }
    if let Some(shift) = port.strip_prefix("client") {
        let shift = shift_of(shift).ok_or_else(|| Error::ClientPort(port.to_string()))?;
        return Ok(Target::AtClientPort { place: Box::new(at(host, 0)?), shift });
    }
    at(host, number(port, 1)?)
}

/// The most that a port can be shifted.
const SHIFT_MAX: i32 = 65_534;

/// What follows `client`: nothing, or a number with its sign.
fn shift_of(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let number = text.strip_prefix(['+', '-'])?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let shift = text.parse::<i32>().ok().filter(|_| is_number)?;
    Some(shift).filter(|shift| (1..=SHIFT_MAX).contains(&shift.abs()))
}

/// An IP address or a host name, with that port.
fn at(host: &str, port: u16) -> Result<Target, Error> {
    match ip(host) {
        Some(ip) => Ok(Target::Address(with_port(ip, port))),
        None if host::is_name(host::without_dot(host).as_bytes()) && !host::is_number(host::without_dot(host)) => {
            Ok(Target::Host { name: Arc::from(host), port })
        }
        None => Err(Error::NotAHost(host.to_string())),
    }
}

/// An address whose port does not count yet. The type keeps the scope of a link-local IPv6 address.
type Ip = SocketAddr;

/// The address with this port.
fn with_port(mut ip: Ip, port: u16) -> Address {
    ip.set_port(port);
    Address::Tcp(ip)
}

/// Reads an IP address: IPv6 in brackets, IPv4 without.
fn ip(host: &str) -> Option<Ip> {
    if host.starts_with('[') {
        return SocketAddr::from_str(&format!("{host}:0")).ok();
    }
    match IpAddr::from_str(host) {
        Ok(ip @ IpAddr::V4(_)) => Some(SocketAddr::new(ip, 0)),
        _ => None,
    }
}

/// Splits a text at its last colon into host and port, and finds out what was meant if that does not work. `example` is
/// an address that messages show for a text without one.
fn split<'t>(text: &'t str, example: &'static str) -> Result<(&'t str, &'t str), Error> {
    if let Some(error) = of_another_kind(text, example) {
        return Err(error);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if Ipv6Addr::from_str(host).is_ok() && number(port, 0).is_ok() => {
            Err(Error::NoBrackets(host.to_string(), port.to_string()))
        }
        _ if Ipv6Addr::from_str(text).is_ok() => Err(Error::NoBrackets(text.to_string(), "PORT".to_string())),
        Some((host, port)) if !port.is_empty() && !port.ends_with(']') => Ok((host, port)),
        _ => Err(Error::NoPort(text.trim_end_matches(':').to_string())),
    }
}

/// Finds texts that other programs take as an address and ringway does not.
fn of_another_kind(text: &str, example: &'static str) -> Option<Error> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Error::OnlyPort(text.to_string(), example));
    }
    if let Some(name) = text.strip_prefix('$') {
        return Some(Error::Variable(name.split(':').next().unwrap_or_default().to_string()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host); // without a user and a password
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| number(port, 0).is_ok());
        let port = match scheme {
            _ if has_port => "",
            "http" => ":80",
            "https" => ":443",
            _ => ":PORT",
        };
        return Some(Error::Url(format!("{scheme}://"), format!("{host}{port}")));
    }
    if text.contains([',', ';']) {
        let all: Vec<String> = text.split([',', ';']).map(|one| format!("\"{}\"", one.trim())).collect();
        let is_bind = example == ANY;
        let list = || format!("them as a list: [{}]", all.join(", "));
        return Some(Error::Several(if is_bind { list() } else { "[[pools.NAME.backends]] for each".to_string() }));
    }
    let path = text.trim_start_matches("unix@");
    if path.starts_with('/') {
        return Some(Error::Path(path.to_string()));
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.len() < text.len() && first.contains(':') {
        let is_tls = example == ANY && text.split_whitespace().any(|word| word == "ssl");
        return Some(if is_tls { Error::Tls(first.to_string()) } else { Error::Blanks(first.to_string()) });
    }
    let (address, _) = text.split_once('/')?;
    let (_, port) = address.rsplit_once(':')?;
    number(port, 0).is_ok().then(|| Error::Url(text[address.len()..].to_string(), address.to_string()))
}

/// Reads a port of at least `min`.
fn number(text: &str, min: u16) -> Result<u16, Error> {
    // `from_str` alone would take "+80".
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port >= min);
    port.ok_or_else(|| Error::Port(text.to_string(), min))
}

/// Reads the path of a unix socket: absolute, and short enough for the kernel.
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
        assert_eq!(binds("::1:5432"), Err(Error::NoBrackets("::1".into(), "5432".into())));
        assert_eq!(binds("fe80::aaaa:bbbb"), Err(Error::NoBrackets("fe80::aaaa:bbbb".into(), "PORT".into())));
        assert_eq!(binds("::1"), Err(Error::NoBrackets("::1".into(), "PORT".into())));
        assert_eq!(binds("*:5432"), Err(Error::Wildcard("5432".into())));
        assert_eq!(binds(":5432"), Err(Error::Wildcard("5432".into())));
        assert_eq!(binds("80"), Err(Error::OnlyPort("80".into(), ANY)));
        assert_eq!(binds("localhost:5432"), Err(Error::NotAnIp("localhost".into(), "5432".into())));
        assert_eq!(binds("1.1.1.1:65536"), Err(Error::Port("65536".into(), 0)));
        assert_eq!(binds("1.1.1.1:+80"), Err(Error::Port("+80".into(), 0)));
        assert_eq!(binds("1.1.1.1:9-8"), Err(Error::PortRange));
        assert_eq!(binds("1.1.1.1:0-8"), Err(Error::Port("0".into(), 1)));
        assert_eq!(binds("unix:run/x"), Err(Error::UnixPath));
        assert_eq!(binds(&format!("unix:/{}", "x".repeat(107))), Err(Error::UnixPath));
        assert_eq!(binds("/run/x"), Err(Error::Path("/run/x".into())));
        assert_eq!(backend("db.example:5432"), Ok(Target::Host { name: "db.example".into(), port: 5432 }));
        for host in ["10.0.0.300", "10.1", "0x7f.1", "127", "-db.example", "db-.example", "a..b", "db..", "1:2:3"] {
            assert_eq!(backend(&format!("{host}:5432")), Err(Error::NotAHost(host.into())));
        }
        for host in ["db.example.", "db.1", "my_db", "1st.example"] {
            assert!(backend(&format!("{host}:5432")).is_ok(), "{host}");
        }
        assert_eq!(backend("10.0.0.3:0"), Err(Error::Port("0".into(), 1)));
        assert_eq!(backend("10.0.0.3:1-2"), Err(Error::OnePort));
        assert_eq!(backend("10.0.0.3:1-x"), Err(Error::Port("1-x".into(), 1)));
    }

    #[test]
    fn a_port_can_be_that_of_the_client_with_a_shift() {
        for (text, shift) in [
            ("10.0.0.1:client", 0),
            ("[fd00::1]:client", 0),
            ("db.example:client+1000", 1000),
            ("10.0.0.1:client-65534", -65_534),
        ] {
            let target = backend(text).unwrap();
            assert_eq!((target.to_string().as_str(), target.shift()), (text, Some(shift)));
            assert_eq!(backend(&target.with_port(80).to_string()), Ok(target.with_port(80)));
        }
        for port in ["client+", "client+0", "client+65535", "client*2", "client+-1", "clients", "client+1x", "client 1"]
        {
            assert!(backend(&format!("10.0.0.1:{port}")).is_err(), "{port}");
        }
        assert_eq!(backend("10.0.0.1:client*2"), Err(Error::ClientPort("client*2".into())));
        assert_eq!(backend("10.1:client"), Err(Error::NotAHost("10.1".into())));
    }

    #[test]
    fn an_address_of_another_program_leads_to_the_one_that_was_meant() {
        for (written, address) in [
            ("http://10.0.0.1", "10.0.0.1:80"),
            ("https://db.example/x?y", "db.example:443"),
            ("postgres://u:secret@db:5432/x", "db:5432"),
            ("tcp://[::1]:80", "[::1]:80"),
            ("tcp://[::1]", "[::1]:PORT"),
            ("10.0.0.1:80/x", "10.0.0.1:80"),
        ] {
            assert!(matches!(backend(written), Err(Error::Url(_, meant)) if meant == address), "{written}");
        }
        assert_eq!(backend("$DB:5432"), Err(Error::Variable("DB".into())));
        assert_eq!(backend("10.0.0.1:80,10.0.0.2:80"), Err(Error::Several("[[pools.NAME.backends]] for each".into())));
        assert_eq!(backend("10.0.0.1:80 weight=5"), Err(Error::Blanks("10.0.0.1:80".into())));
        assert_eq!(binds("10.0.0.1:443 ssl crt /x.pem"), Err(Error::Tls("10.0.0.1:443".into())));
        assert_eq!(backend("10.0.0.1:443 ssl verify none"), Err(Error::Blanks("10.0.0.1:443".into())));
    }
}
