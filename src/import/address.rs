//! Addresses as HAProxy and nginx write them, as ringway writes them.
//!
//! | HAProxy | ringway |
//! |---|---|
//! | `:80`, `*:80` | `0.0.0.0:80` |
//! | `:::80`, `[::]:80`, `ipv6@:80` | `[::]:80`, and `0.0.0.0:80` unless `v6only` |
//! | `2001:db8::1:80` | `[2001:db8::1]:80`: the port is behind the last colon |
//! | `unix@/run/x`, `/run/x` | `unix:/run/x` |
//! | a server `10.0.0.1` | `10.0.0.1:client`, the port that the client connected to |
//! | a server `10.0.0.1:+1000` | `10.0.0.1:client+1000` |
//!
//! Whether a host is a name that can be looked up is left to ringway's own reader.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::variable;

/// Where a server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerPlace {
    /// A unix socket, by its path.
    Unix(String),
    /// A host with a port.
    Host(String, ServerPort),
}

/// The port of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerPort {
    /// This one, or a variable.
    Given(String),
    /// The one that the client connected to, shifted by so much.
    OfClient(i32),
}

impl ServerPlace {
    /// The address as ringway writes it.
    pub fn address(&self) -> String {
        match self {
            ServerPlace::Unix(path) => format!("unix:{path}"),
            ServerPlace::Host(host, ServerPort::Given(port)) => format!("{host}:{port}"),
            ServerPlace::Host(host, ServerPort::OfClient(0)) => format!("{host}:client"),
            ServerPlace::Host(host, ServerPort::OfClient(shift)) => format!("{host}:client{shift:+}"),
        }
    }

    /// The host without its port; `None` for a unix socket.
    pub fn host(&self) -> Option<&str> {
        match self {
            ServerPlace::Unix(_) => None,
            ServerPlace::Host(host, _) => Some(host),
        }
    }

    /// Whether the host is a name, which can have several addresses.
    pub fn is_name(&self) -> bool {
        self.host().is_some_and(|host| Ipv4Addr::from_str(host).is_err() && !host.starts_with('['))
    }
}

/// An address to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BindPlace {
    /// As ringway writes it.
    pub address: String,
    /// For every IPv6 address: the port, because such a socket can take IPv4 clients, too.
    pub every_v6: Option<String>,
}

impl BindPlace {
    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        self.address.starts_with("unix:")
    }

    /// The ports, first and last; `None` for a unix socket or a variable.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let port = self.address.rsplit_once(':').filter(|_| !self.is_unix())?.1;
        let (first, last) = port.split_once('-').unwrap_or((port, port));
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// The families and kinds of sockets that HAProxy writes before an address.
enum Family {
    /// Not said.
    Any,
    /// `ipv4@`.
    V4,
    /// `ipv6@`.
    V6,
    /// `unix@`, or a path.
    Unix,
}

/// Splits the prefix off, such as `ipv4@`.
fn family(text: &str) -> Result<(Family, &str), String> {
    if text.starts_with('/') {
        return Ok((Family::Unix, text));
    }
    match text.split_once('@') {
        None => Ok((Family::Any, text)),
        Some(("ipv4", rest)) => Ok((Family::V4, rest)),
        Some(("ipv6", rest)) => Ok((Family::V6, rest)),
        Some(("unix", rest)) => Ok((Family::Unix, rest)),
        Some((kind, _)) if kind.starts_with("udp") || kind.starts_with("quic") => {
            Err(format!("`{kind}@`: ringway passes on TCP alone"))
        }
        Some((kind, _)) => Err(format!("ringway cannot use a socket of the kind `{kind}@`")),
    }
}

/// Splits host and port at the last colon. The brackets of an IPv6 address go.
fn split(text: &str) -> (&str, Option<&str>) {
    let (host, port) = match text.rsplit_once(':') {
        _ if text.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// The host as ringway writes it before a port.
fn host(host: &str) -> String {
    match Ipv6Addr::from_str(host.split('%').next().unwrap_or_default()) {
        Ok(_) => format!("[{host}]"),
        Err(_) => host.to_string(),
    }
}

/// Reads the address of a server of HAProxy.
///
/// # Errors
/// Why ringway cannot connect there.
pub fn haproxy_server(text: &str) -> Result<ServerPlace, String> {
    let text = variable::expand(text);
    let (family, rest) = family(&text)?;
    if matches!(family, Family::Unix) {
        return Ok(ServerPlace::Unix(rest.to_string()));
    }
    let (name, port) = split(rest);
    if ["", "*", "0.0.0.0", "::"].contains(&name) {
        return Err(format!(
            "`{}` is where the client wanted to go, which ringway does not know",
            variable::shown(rest)
        ));
    }
    let port = match port {
        None | Some("" | "0") => ServerPort::OfClient(0),
        Some(shift) if shift.starts_with(['+', '-']) => {
            let shift = shift.parse().ok().filter(|shift: &i32| shift.unsigned_abs() < 65536);
            ServerPort::OfClient(shift.ok_or_else(|| format!("`{rest}` has no port"))?)
        }
        Some(port) => ServerPort::Given(port.to_string()),
    };
    Ok(ServerPlace::Host(host(name), port))
}

/// Reads the addresses of a `bind` of HAProxy.
///
/// # Errors
/// Why ringway cannot listen there.
pub fn haproxy_binds(text: &str) -> Result<Vec<BindPlace>, String> {
    let text = variable::expand(text);
    text.split(',').filter(|one| !one.is_empty()).map(haproxy_bind).collect()
}

/// One of them.
fn haproxy_bind(text: &str) -> Result<BindPlace, String> {
    let (family, rest) = family(text)?;
    if matches!(family, Family::Unix) {
        return Ok(BindPlace { address: format!("unix:{rest}"), every_v6: None });
    }
    let (name, port) = split(rest);
    let port = port.filter(|port| !port.is_empty()).ok_or_else(|| format!("`{rest}` has no port"))?;
    let name = match (family, name) {
        (Family::V6, "" | "*") => "::",
        (_, "" | "*") => "0.0.0.0",
        (Family::V6, "localhost") => "::1",
        (_, "localhost") => "127.0.0.1",
        (_, name) => name,
    };
    bind_at(name, port)
}

/// An address to listen on from its parts.
fn bind_at(name: &str, port: &str) -> Result<BindPlace, String> {
    let host = host(name);
    let is_ip = host.starts_with('[') || Ipv4Addr::from_str(&host).is_ok() || variable::is_in(&host);
    if !is_ip {
        return Err(format!("`{name}` is a name; ringway listens on addresses, so write the one it stands for"));
    }
    let every_v6 = (host == "[::]").then(|| port.to_string());
    Ok(BindPlace { address: format!("{host}:{port}"), every_v6 })
}

/// Reads the address of a `listen` of nginx.
///
/// # Errors
/// Why ringway cannot listen there.
pub fn nginx_bind(text: &str) -> Result<BindPlace, String> {
    let text = variable::expand(text);
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(BindPlace { address: format!("unix:{path}"), every_v6: None });
    }
    let (name, port) = match split(&text) {
        (port, None) => ("0.0.0.0", port),
        ("" | "*", Some(port)) => ("0.0.0.0", port),
        ("localhost", Some(port)) => ("127.0.0.1", port),
        (name, Some(port)) => (name, port),
    };
    bind_at(name, port)
}

/// Reads the address of a server of nginx.
///
/// # Errors
/// Why ringway cannot connect there.
pub fn nginx_server(text: &str) -> Result<ServerPlace, String> {
    let text = variable::expand(text);
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ServerPlace::Unix(path.to_string()));
    }
    match split(&text) {
        (_, None) => Err(format!("`{}` has no port", variable::shown(&text))),
        (name, Some(port)) => Ok(ServerPlace::Host(host(name), ServerPort::Given(port.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_where_haproxy_has_it() {
        let at = |text: &str| haproxy_server(text).map(|place| place.address());
        assert_eq!(at("10.0.0.1:80").as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(at("2001:db8::12:6443").as_deref(), Ok("[2001:db8::12]:6443"), "the port is behind the last colon");
        assert_eq!(at("[2001:db8::12]:6443").as_deref(), Ok("[2001:db8::12]:6443"));
        assert_eq!(at("10.0.0.1").as_deref(), Ok("10.0.0.1:client"));
        assert_eq!(at("10.0.0.1:+1000").as_deref(), Ok("10.0.0.1:client+1000"));
        assert_eq!(at("db.example:-7").as_deref(), Ok("db.example:client-7"));
        assert_eq!(at("unix@/run/x").as_deref(), Ok("unix:/run/x"));
        assert_eq!(at("/run/x").as_deref(), Ok("unix:/run/x"));
        for text in ["0.0.0.0:0", "*:80", "abns@x", "udp@1.1.1.1:53", "10.0.0.1:+x"] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bind_is_where_haproxy_listens() {
        let at = |text: &str| haproxy_binds(text).map(|all| all.into_iter().map(|one| one.address).collect::<Vec<_>>());
        assert_eq!(at("*:80,:81").unwrap(), ["0.0.0.0:80", "0.0.0.0:81"]);
        assert_eq!(at(":::80").unwrap(), ["[::]:80"]);
        assert_eq!(at("ipv6@:80").unwrap(), ["[::]:80"]);
        assert_eq!(at("[::1]:7000-7009").unwrap(), ["[::1]:7000-7009"]);
        assert_eq!(haproxy_binds(":::80").unwrap()[0].every_v6.as_deref(), Some("80"));
        for text in ["db.example:80", "10.0.0.1", "quic4@:443", "fd@3"] {
            assert!(at(text).is_err(), "{text}");
        }
        assert_eq!(nginx_bind("5432").unwrap().address, "0.0.0.0:5432");
        assert_eq!(nginx_bind("[::]:5432").unwrap().address, "[::]:5432");
        assert_eq!(nginx_bind("unix:/run/x").unwrap().address, "unix:/run/x");
    }
}
