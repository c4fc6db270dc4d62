//! Which pool a client gets by what it says first: what it speaks, and the server name (SNI) and the protocols (ALPN)
//! of its TLS ClientHello.
//!
//! A route is a protocol, a list of names and a list of offers, with a pool; the first one that matches counts.
//! `config` makes routes to pools by name, `snapshot::build` makes them routes to ids. Nothing is decrypted, so a
//! client that hides its server name (ECH) is one without a name.

use std::fmt;

use super::Rules;
use super::sources::Quota;
use crate::base::host;
use crate::wire::first_bytes::Protocol;

/// A server name, or all names below a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern {
    /// The name in lower case; for `*.eu.example.com` the part after the star, with the dot.
    name: String,
    /// Whether it stands for every name below a domain.
    is_wildcard: bool,
}

/// Why a text is no pattern: it is not a name that a TLS client sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "write a host name as TLS clients send it, as in \"db1.example.com\", or \"*.example.com\" for every name below \
     example.com, or \"*\" for any name; no address, and no `-` at the end of a part"
)]
pub struct NotAPattern;

impl NamePattern {
    /// Reads `db1.example.com`, `*.example.com` or `*`.
    ///
    /// # Errors
    /// It is none of them.
    pub fn new(text: &str) -> Result<NamePattern, NotAPattern> {
        if text == "*" {
            return Ok(NamePattern { name: String::new(), is_wildcard: true });
        }
        let (name, is_wildcard) = match text.strip_prefix('*') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let host = if is_wildcard { name.strip_prefix('.').ok_or(NotAPattern)? } else { name };
        // The star stands for at least a letter and a dot.
        let most = if is_wildcard { host::NAME_MAX - 2 } else { host::NAME_MAX };
        let is_sent = host::server_name(host).is_some_and(|sent| sent.len() == host.len() && sent.len() <= most);
        if !is_sent {
            return Err(NotAPattern);
        }
        Ok(NamePattern { name: name.to_ascii_lowercase(), is_wildcard })
    }

    /// Whether it stands for every name.
    pub fn is_any(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether it matches this name, which must be in lower case. A star stands for one or more parts.
    pub fn matches(&self, name: &str) -> bool {
        match self.is_wildcard {
            true => name.len() > self.name.len() && name.ends_with(&self.name),
            false => name == self.name,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_wildcard { "*" } else { "" }, self.name)
    }
}

/// One route. All that is given must match; an empty list matches every client.
#[derive(Clone, Debug, PartialEq)]
pub struct Route<P> {
    /// What the client must speak; `None` matches every client that says something.
    pub protocol: Option<Protocol>,
    /// Patterns; one of them must match.
    pub names: Vec<NamePattern>,
    /// Protocols; the client must offer one of them.
    pub protocols: Vec<String>,
    /// Which of its clients are let in, on top of what their listener says.
    pub guard: RouteGuard,
    /// Where it leads to.
    pub pool: P,
}

/// What a route asks of the clients that match it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteGuard {
    /// Which client addresses can connect.
    pub rules: Rules,
    /// The limits per source address, which count the sessions of this route alone; `None` means none.
    pub source_limits: Option<Quota>,
}

/// What a client has said before a pool was chosen for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// What it speaks; `None` if it has said nothing, or not enough in time. Such a client fits no route.
    pub protocol: Option<Protocol>,
    /// The server name of its TLS, in the form of [`host::server_name`].
    pub name: Option<&'a str>,
    /// The protocols that its TLS offers.
    pub offers: &'a [Vec<u8>],
}

impl<P> Route<P> {
    /// Whether a client that has said this takes this route.
    fn fits(&self, said: Said<'_>) -> bool {
        let speaks = said.protocol.is_some_and(|protocol| self.protocol.is_none_or(|wanted| wanted == protocol));
        let is_named = |name: &str| self.names.iter().any(|pattern| pattern.matches(name));
        let offers = |wanted: &String| said.offers.iter().any(|offered| offered == wanted.as_bytes());
        speaks
            && (self.names.is_empty() || said.name.is_some_and(is_named))
            && (self.protocols.is_empty() || self.protocols.iter().any(offers))
    }

    /// Whether its names and protocols are those of TLS.
    pub fn wants_hello(&self) -> bool {
        !self.names.is_empty() || !self.protocols.is_empty()
    }
}

/// The first route that matches, in the order of the file, and its place among them.
pub fn find<'r, P>(routes: &'r [Route<P>], said: Said<'_>) -> Option<(usize, &'r Route<P>)> {
    routes.iter().enumerate().find(|(_, route)| route.fits(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(names: &[&str], protocols: &[&str], pool: u32) -> Route<u32> {
        let names = names.iter().map(|name| NamePattern::new(name).unwrap()).collect();
        let protocols = protocols.iter().map(|name| name.to_string()).collect();
        Route { protocol: None, names, protocols, guard: RouteGuard::default(), pool }
    }

    fn speaks(protocol: &str, names: &[&str], pool: u32) -> Route<u32> {
        Route { protocol: Protocol::named(protocol), ..route(names, &[], pool) }
    }

    fn alpn(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_first_route_that_fits_is_taken() {
        let routes = [
            route(&["db1.example.com"], &["postgresql"], 1),
            route(&["db1.example.com", "*.eu.example.com"], &[], 2),
            route(&[], &["h2", "http/1.1"], 3),
        ];
        let to = |name: Option<&str>, protocols: &[&str]| {
            let said = Said { protocol: Some(Protocol::Tls), name, offers: &alpn(protocols) };
            find(&routes, said).map(|(_, route)| route.pool)
        };
        assert_eq!(to(Some("db1.example.com"), &["postgresql"]), Some(1));
        assert_eq!(to(Some("db1.example.com"), &[]), Some(2));
        assert_eq!(to(Some("a.eu.example.com"), &[]), Some(2));
        assert_eq!(to(Some("a.b.eu.example.com"), &["h2"]), Some(2));
        assert_eq!(to(Some("eu.example.com"), &[]), None, "the star stands for something");
        assert_eq!(to(Some("xeu.example.com"), &[]), None);
        assert_eq!(to(Some("other"), &["http/1.1"]), Some(3));
        assert_eq!(to(None, &["h2"]), Some(3));
        assert_eq!(to(None, &["postgresql"]), None, "a client that gives no name has none");
    }

    #[test]
    fn a_client_is_led_by_what_it_speaks_and_one_that_says_nothing_is_not() {
        let routes = [
            speaks("ssh", &[], 1),
            speaks("postgresql", &["db.example"], 2),
            speaks("postgresql", &[], 3),
            route(&["*"], &[], 4),
            speaks("tls", &[], 5),
            speaks("other", &[], 6),
            route(&[], &[], 7),
        ];
        let to = |protocol: &str, name| {
            find(&routes, Said { protocol: Protocol::named(protocol), name, offers: &[] }).map(|(_, route)| route.pool)
        };
        assert_eq!(to("ssh", None), Some(1));
        assert_eq!(to("postgresql", Some("db.example")), Some(2));
        assert_eq!(to("postgresql", None), Some(3));
        assert_eq!(to("tls", Some("any.name")), Some(4));
        assert_eq!(to("tls", None), Some(5), "no name is not any name");
        assert_eq!(to("other", None), Some(6));
        assert_eq!(to("http", None), Some(7));
        assert_eq!(to("nothing", None), None);
    }

    #[test]
    fn patterns_are_host_names_with_at_most_one_star_in_front() {
        for text in ["db1.example.com", "*.example.com", "localhost", "a_b.example", "*"] {
            assert_eq!(NamePattern::new(text).unwrap().to_string(), text);
        }
        assert!(NamePattern::new("DB1.Example.COM").unwrap().matches("db1.example.com"));
        for text in ["", "**", "*.", "*example.com", "a.*.com", "a..b", ".a", "a.", "a b", "10.0.0.1:80", "ä.example"]
        {
            assert_eq!(NamePattern::new(text), Err(NotAPattern), "{text}");
        }
        // No client can send a name that these would fit.
        let long = format!("*.{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(60));
        for text in ["10.0.0.1", "*.0.0.1", "-a.example", "a.b-.example", &long, "db.example."] {
            assert_eq!(NamePattern::new(text), Err(NotAPattern), "{text}");
        }
        assert!(NamePattern::new(&long[..long.len() - 1]).is_ok());
    }
}
