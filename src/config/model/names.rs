//! How names of backends are looked up, and what becomes of their addresses.

use std::net::IpAddr;
use std::time::Duration;

/// `address_family`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum AddressFamily {
    #[default]
    Any,
    Ipv4,
    Ipv6,
}

impl AddressFamily {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            AddressFamily::Any => "any",
            AddressFamily::Ipv4 => "ipv4",
            AddressFamily::Ipv6 => "ipv6",
        }
    }

    /// Whether that address is one of it.
    pub fn has(self, ip: &IpAddr) -> bool {
        match self {
            AddressFamily::Any => true,
            AddressFamily::Ipv4 => ip.is_ipv4(),
            AddressFamily::Ipv6 => ip.is_ipv6(),
        }
    }
}

/// What becomes of addresses that a host name had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// One that is missing from the answers stays in use for so long...
    pub obsolete: Duration,
    /// ...and all of them for so long when the name is denied.
    pub denied: Duration,
}
