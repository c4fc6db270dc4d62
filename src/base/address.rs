//! Where a socket is: an IP address with a port, or a path.
//!
//! Its text form is that of the configuration, so a message can be copied into a file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            // A client chooses its own.
            Address::Unix(path) => write!(f, "unix:{}", printable(&path.to_string_lossy())),
        }
    }
}
