//! Where a socket is: an IP address with a port, or a path.
//!
//! Its text form is that of the configuration, so a message can be copied into a file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::text::printable;

/// An address to listen on or to connect to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// `10.0.0.1:5432` or `[::1]:5432`.
    Tcp(SocketAddr),
    /// `unix:/run/x.sock`.
    Unix(PathBuf),
}

impl Address {
    /// Its IP address and port, if it has them.
    pub fn tcp(self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    }
}

/// Where a listening socket is: its address, and the network interface that it is limited to (SO_BINDTODEVICE).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BindAddress {
    /// What it is bound to.
    pub address: Address,
    /// The only interface on which it accepts; `None` means every one, and always for a unix socket.
    pub interface: Option<Arc<str>>,
}

impl BindAddress {
    /// An address on one interface only, if one is given. A unix socket is on none.
    pub fn new(address: &Address, interface: Option<&Arc<str>>) -> BindAddress {
        let interface = interface.filter(|_| matches!(address, Address::Tcp(_))).cloned();
        BindAddress { address: address.clone(), interface }
    }

    /// An address on every interface.
    pub fn everywhere(address: Address) -> BindAddress {
        BindAddress { address, interface: None }
    }

    /// Whether a client can mean both by the same interface.
    pub fn shares_interface(&self, other: &BindAddress) -> bool {
        self.interface == other.interface || self.interface.is_none() || other.interface.is_none()
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{} on {interface}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            // A client chooses its own.
            Address::Unix(path) => write!(f, "unix:{}", printable(&path.to_string_lossy())),
        }
    }
}
