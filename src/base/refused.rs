//! Clients that are refused before a backend is chosen for them.

use std::fmt;

/// Why a client was refused before a backend was chosen for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Refused {
    /// `allow` and `deny`.
    Deny,
    /// `source_connections_max`.
    SourceLimit,
    /// `source_rate_max`.
    SourceRate,
    /// A PROXY header was expected, but the sender is not in `proxy_trusted`.
    ProxyUntrusted,
    /// What came is not a PROXY header, or a wrong one.
    ProxyMalformed,
    /// No complete PROXY header came within `proxy_timeout`.
    ProxyTimeout,
    /// No route matches, and `unmatched` is `"refuse"`.
    Unmatched,
    /// Its TLS handshake failed, or took longer than `handshake_timeout`.
    Tls,
}

impl Refused {
    /// Every reason, by its number.
    pub const ALL: [Refused; 8] = [
        Refused::Deny,
        Refused::SourceLimit,
        Refused::SourceRate,
        Refused::ProxyUntrusted,
        Refused::ProxyMalformed,
        Refused::ProxyTimeout,
        Refused::Unmatched,
        Refused::Tls,
    ];
    /// How many there are.
    pub const COUNT: usize = Refused::ALL.len();

    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Refused::Deny => "deny",
            Refused::SourceLimit => "source_limit",
            Refused::SourceRate => "source_rate",
            Refused::ProxyUntrusted => "proxy_untrusted",
            Refused::ProxyMalformed => "proxy_malformed",
            Refused::ProxyTimeout => "proxy_timeout",
            Refused::Unmatched => "unmatched",
            Refused::Tls => "tls",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_numbers_and_names_of_their_own() {
        for (number, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert!(Refused::ALL[..number].iter().all(|other| other.name() != reason.name()));
        }
    }
}
