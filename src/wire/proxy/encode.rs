//! Writing a PROXY header, for a backend that wants one.
//!
//! Checks use it (`probe::stream`), and workers before the client's first byte (`worker::greet`). A header never has
//! TLVs.

use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Deref;

use super::v2::SIGNATURE;

/// The version of a header.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// The length of the longest header that is written here, which is the longest of version 1.
const LEN_MAX: usize = 107;

/// Version 2 with the command LOCAL.
const LOCAL: u8 = 0x20;
/// Version 2 with the command PROXY.
const PROXY: u8 = 0x21;
/// No family: there are no addresses.
const UNSPECIFIED: u8 = 0x00;
/// TCP over IPv4.
const TCP_V4: u8 = 0x11;
/// TCP over IPv6.
const TCP_V6: u8 = 0x21;

/// A header that is ready to send. Nothing is allocated for it.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    /// The header, followed by zeros.
    bytes: [u8; LEN_MAX],
    /// How long the header is.
    len: usize,
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The header of a connection from the first address to the second. With mixed families, IPv4 is written as IPv6
/// (`::ffff:1.2.3.4`). Without addresses it is a connection of ringway itself, a check: version 1 says UNKNOWN, version
/// 2 LOCAL.
pub fn encode(version: Version, addresses: Option<(SocketAddr, SocketAddr)>) -> Encoded {
    match (version, addresses) {
        (Version::V1, Some((source, destination))) => line(source, destination),
        (Version::V2, Some((source, destination))) => binary(source, destination),
        (Version::V1, None) => encode_unknown(version),
        (Version::V2, None) => unspecified(LOCAL),
    }
}

/// The header of a client without an address, which is one on a unix socket.
pub fn encode_unknown(version: Version) -> Encoded {
    match version {
        Version::V1 => write(|out| out.write_all(b"PROXY UNKNOWN\r\n")),
        Version::V2 => unspecified(PROXY),
    }
}

/// A header of version 1.
fn line(source: SocketAddr, destination: SocketAddr) -> Encoded {
    let (source_ip, destination_ip) = of_one_family(source.ip(), destination.ip());
    let protocol = if source_ip.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source_port, destination_port) = (source.port(), destination.port());
    write(|out| write!(out, "PROXY {protocol} {source_ip} {destination_ip} {source_port} {destination_port}\r\n"))
}

/// A header of version 2.
fn binary(source: SocketAddr, destination: SocketAddr) -> Encoded {
    let addresses = of_one_family(source.ip(), destination.ip());
    write(|out| {
        out.write_all(&SIGNATURE)?;
        match addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                out.write_all(&[PROXY, TCP_V4, 0, 12])?;
                out.write_all(&source.octets())?;
                out.write_all(&destination.octets())?;
            }
            (source, destination) => {
                out.write_all(&[PROXY, TCP_V6, 0, 36])?;
                out.write_all(&as_v6(source).octets())?;
                out.write_all(&as_v6(destination).octets())?;
            }
        }
        out.write_all(&source.port().to_be_bytes())?;
        out.write_all(&destination.port().to_be_bytes())
    })
}

/// A header of version 2 without addresses.
fn unspecified(command: u8) -> Encoded {
    write(|out| out.write_all(&SIGNATURE).and_then(|()| out.write_all(&[command, UNSPECIFIED, 0, 0])))
}

/// Both addresses in one family: IPv4 if both are (also IPv4 in IPv6), else IPv6.
fn of_one_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    match (source.to_canonical(), destination.to_canonical()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (as_v6(source).into(), as_v6(destination).into()),
    }
}

/// An address as IPv6.
fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// A header that `with` writes.
fn write(with: impl FnOnce(&mut Cursor<&mut [u8]>) -> std::io::Result<()>) -> Encoded {
    let mut bytes = [0; LEN_MAX];
    let mut out = Cursor::new(&mut bytes[..]);
    // Nothing written here is longer than LEN_MAX, which the protocol works out for the longest addresses.
    with(&mut out).expect("a header fits");
    let len = out.position() as usize;
    Encoded { bytes, len }
}
