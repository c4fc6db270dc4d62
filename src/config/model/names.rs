//! How host names of backends are looked up, and what happens to their addresses.

use std::net::IpAddr;
use std::time::Duration;

/// `address_family`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AddressFamily {
    /// Both families.
    #[default]
    Any,
    /// Only IPv4 addresses (A records).
    Ipv4,
    /// Only IPv6 addresses (AAAA records).
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

    /// Whether an address belongs to this family.
    pub fn has(self, ip: &IpAddr) -> bool {
        match self {
            AddressFamily::Any => true,
            AddressFamily::Ipv4 => ip.is_ipv4(),
            AddressFamily::Ipv6 => ip.is_ipv6(),
        }
    }
}

/// How long addresses stay in use that a host name had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hold {
    /// One address that is missing from the answers.
    pub obsolete: Duration,
    /// All addresses, when the name is denied (NXDOMAIN, or no address).
    pub denied: Duration,
}
