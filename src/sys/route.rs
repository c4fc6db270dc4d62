//! Where the kernel would send from. A datagram socket finds its address as a stream does; it needs no port of the
//! peer, and nothing is sent.

use std::ffi::CString;
use std::net::{IpAddr, UdpSocket};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::address::Address;

/// Whether this host has an address to reach that one from.
pub fn has_source_for(to: &Address) -> bool {
    let Address::Tcp(to) = to else { return true };
    let connected = Socket::new(Domain::for_address(*to), Type::DGRAM.cloexec(), None)
        .and_then(|socket| socket.connect(&SockAddr::from(*to)));
    let lacking = [libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::EAFNOSUPPORT];
    !connected.is_err_and(|error| error.raw_os_error().is_some_and(|code| lacking.contains(&code)))
}

/// Whether this host has a network interface of that name.
pub fn has_interface(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: a plain call with a text that ends in a zero byte and outlives it.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

/// Whether an address is one of this host's. From there the kernel reaches it by the address itself.
pub fn is_own(ip: IpAddr) -> bool {
    /// The port of the discard service (RFC 863). Nothing is sent there: a UDP connect only looks the route up.
    const DISCARD: u16 = 9;
    let reached_from = || {
        let socket = UdpSocket::bind((if ip.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
        socket.connect((ip, DISCARD))?;
        socket.local_addr()
    };
    ip.is_loopback() || !ip.is_unspecified() && reached_from().is_ok_and(|own| own.ip() == ip)
}
