//! Which pool a client gets by what it says before it encrypts: the server name (SNI) and the protocols (ALPN) of its
//! TLS ClientHello.
//!
//! A route is a list of names and a list of protocols with a pool; the first one that matches counts. `config` makes
//! routes to pools by name, `snapshot::build` makes them routes to ids. Nothing is decrypted, so a client that hides
//! its server name (ECH) is one without a name.

use std::fmt;

use crate::base::host;

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
     example.com; no address, and no `-` at the end of a part"
)]
pub struct NotAPattern;

impl NamePattern {
    /// Reads `db1.example.com` or `*.example.com`.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(text: &str) -> Result<NamePattern, NotAPattern> {
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

/// One route. If both lists are given, both must match; an empty list matches every client.
#[derive(Clone, Debug, PartialEq)]
pub struct Route<P> {
    /// Patterns; one of them must match.
    pub names: Vec<NamePattern>,
    /// Protocols; the client must offer one of them.
    pub protocols: Vec<String>,
    /// Where it leads to.
    pub pool: P,
}

impl<P> Route<P> {
    /// Whether a client with this name and these protocols takes this route.
    fn fits(&self, name: Option<&str>, protocols: &[Vec<u8>]) -> bool {
        let by_name =
            self.names.is_empty() || name.is_some_and(|name| self.names.iter().any(|pattern| pattern.matches(name)));
        let offers = |wanted: &String| protocols.iter().any(|offered| offered == wanted.as_bytes());
        by_name && (self.protocols.is_empty() || self.protocols.iter().any(offers))
    }
}

/// The first route that matches, in the order of the file. `name` must be in the form of [`host::server_name`].
pub fn find<'r, P>(routes: &'r [Route<P>], name: Option<&str>, protocols: &[Vec<u8>]) -> Option<&'r P> {
    routes.iter().find(|route| route.fits(name, protocols)).map(|route| &route.pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(names: &[&str], protocols: &[&str], pool: u32) -> Route<u32> {
        let names = names.iter().map(|name| NamePattern::new(name).unwrap()).collect();
        Route { names, protocols: protocols.iter().map(|name| name.to_string()).collect(), pool }
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
        let to = |name: Option<&str>, protocols: &[&str]| find(&routes, name, &alpn(protocols)).copied();
        assert_eq!(to(Some("db1.example.com"), &["postgresql"]), Some(1));
        assert_eq!(to(Some("db1.example.com"), &[]), Some(2));
        assert_eq!(to(Some("a.eu.example.com"), &[]), Some(2));
        assert_eq!(to(Some("a.b.eu.example.com"), &["h2"]), Some(2));
        assert_eq!(to(Some("eu.example.com"), &[]), None, "the star stands for something");
        assert_eq!(to(Some("xeu.example.com"), &[]), None);
        assert_eq!(to(Some("other"), &["http/1.1"]), Some(3));
        assert_eq!(to(None, &["h2"]), Some(3));
        assert_eq!(to(None, &["postgresql"]), None, "who gives no name has none");
    }

    #[test]
    fn patterns_are_host_names_with_at_most_one_star_in_front() {
        for text in ["db1.example.com", "*.example.com", "localhost", "a_b.example"] {
            assert_eq!(NamePattern::new(text).unwrap().to_string(), text);
        }
        assert!(NamePattern::new("DB1.Example.COM").unwrap().matches("db1.example.com"));
        for text in ["", "*", "*.", "*example.com", "a.*.com", "a..b", ".a", "a.", "a b", "10.0.0.1:80", "ä.example"] {
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
