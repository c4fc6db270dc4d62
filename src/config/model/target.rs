//! Where a backend is: at an address, at those of a host name, and at which port.

use std::fmt;
use std::sync::Arc;

use crate::base::address::Address;

/// Where a backend is, as the file says it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// At this address.
    Address(Address),
    /// At the addresses of a name that must be looked up.
    Host {
        /// As it is written.
        name: Arc<str>,
        /// The port on each of its addresses.
        port: u16,
    },
    /// At the port that the client connected to.
    AtClientPort {
        /// The address or the name, with port 0.
        place: Box<Target>,
        /// What is added to the port.
        shift: i32,
    },
}

impl Target {
    /// The address or the name; its port is 0 if clients decide it.
    pub fn place(&self) -> &Target {
        match self {
            Target::AtClientPort { place, .. } => place,
            other => other,
        }
    }

    /// The address, whose port is 0 if clients decide it; `None` if it must be looked up.
    pub fn address(&self) -> Option<&Address> {
        match self.place() {
            Target::Address(address) => Some(address),
            _ => None,
        }
    }

    /// The name that must be looked up; `None` if it is an address.
    pub fn host(&self) -> Option<&str> {
        match self.place() {
            Target::Host { name, .. } => Some(name),
            _ => None,
        }
    }

    /// What is added to the port that the client connected to; `None` if the port is fixed.
    pub fn shift(&self) -> Option<i32> {
        match self {
            Target::AtClientPort { shift, .. } => Some(*shift),
            _ => None,
        }
    }

    /// The address or the name with this port; a unix socket stays as it is.
    pub fn with_port(&self, port: u16) -> Target {
        match self.place() {
            Target::Address(Address::Tcp(address)) => {
                let mut address = *address;
                address.set_port(port);
                Target::Address(Address::Tcp(address))
            }
            Target::Host { name, .. } => Target::Host { name: name.clone(), port },
            other => other.clone(),
        }
    }
}

/// A port of a client, shifted; `None` if there is no such port.
pub fn shifted(port: u16, shift: i32) -> Option<u16> {
    u16::try_from(i32::from(port) + shift).ok().filter(|port| *port > 0)
}

/// An address with port 0 as people write it where clients decide the port: `10.0.0.1:client+1000`.
pub fn at_client_port(place: impl fmt::Display, shift: i32) -> String {
    let place = place.to_string();
    let host = place.strip_suffix(":0").unwrap_or(&place);
    if shift == 0 { format!("{host}:client") } else { format!("{host}:client{shift:+}") }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Host { name, port } => write!(f, "{name}:{port}"),
            Target::AtClientPort { place, shift } => f.write_str(&at_client_port(place, *shift)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shifted_as_far_as_there_are_ports() {
        assert_eq!(shifted(7000, 1000), Some(8000));
        assert_eq!(shifted(7000, -6999), Some(1));
        assert_eq!((shifted(7000, -7000), shifted(65_000, 535), shifted(65_000, 536)), (None, Some(65_535), None));
    }
}
