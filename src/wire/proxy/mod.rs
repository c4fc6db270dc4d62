//! The PROXY protocol, versions 1 and 2: the header by which a proxy in front says for which client it connects.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`. Where that leaves a choice, this is strict: the sender is trusted with
//! the address of the client, so a header that is only nearly right is refused.

mod encode;
mod tlv;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use encode::{Encoded, Version, encode, encode_unknown};
pub use tlv::{ClientTlsFacts, append, encode_tls};

/// The length of the longest header that is read. A header of version 2 that announces more is refused immediately,
/// though the protocol allows 64 KiB; one of version 1 has at most 107 bytes.
pub const HEADER_MAX: usize = v2::FIXED + 4096;

/// The client for which the sender says that it connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyClaim {
    /// No client in particular (LOCAL, UNKNOWN, AF_UNSPEC): the connection's own addresses count.
    Peer,
    /// A TCP connection between these two. IPv4 in IPv6 (`::ffff:1.2.3.4`) becomes IPv4, so that rules for IPv4 match.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
    /// A stream over a unix socket (version 2): the connection's own addresses count.
    Unix,
}

/// A header that is complete and right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The client for which the sender connects.
    pub claim: ProxyClaim,
    /// The length of the header; the client's own bytes follow.
    pub len: usize,
}

/// Why a header is refused. The sender is at fault, or should send none here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The first bytes are those of neither version.
    #[error("no PROXY header")]
    Signature,
    /// Version 1: neither TCP4, TCP6 nor UNKNOWN.
    #[error("PROXY v1: not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    /// Version 1: an address that is missing, of the other family, or in no form this version allows.
    #[error("PROXY v1: wrong address")]
    Address,
    /// Version 1: a port that is missing, above 65535, or written otherwise than in plain digits.
    #[error("PROXY v1: wrong port")]
    Port,
    /// Version 1: something else than CR LF where the line must end.
    #[error("PROXY v1: no CR LF at its end")]
    LineEnd,
    /// Version 1: no end of the line within 107 bytes.
    #[error("PROXY v1: longer than 107 bytes")]
    LineTooLong,
    /// Version 2: the version is another.
    #[error("PROXY v2: not version 2")]
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    #[error("PROXY v2: unknown command")]
    Command,
    /// Version 2: a family or a protocol there is none of, or a pair of them that means nothing.
    #[error("PROXY v2: unknown address family or protocol")]
    Family,
    /// Version 2: a datagram protocol, over a stream.
    #[error("PROXY v2: a datagram over TCP")]
    Datagram,
    /// Version 2: longer than [`HEADER_MAX`].
    #[error("PROXY v2: longer than 4096 bytes")]
    TooLong,
    /// Version 2: too short for the addresses of its family.
    #[error("PROXY v2: too short for its addresses")]
    TooShort,
    /// Version 2: a TLV that goes beyond the header, or a part of one at its end.
    #[error("PROXY v2: a TLV goes beyond the header")]
    Tlv,
    /// Version 2: the CRC32c is wrong, of another length than four bytes, or there twice.
    #[error("PROXY v2: wrong checksum")]
    Checksum,
    /// No TCP connection is from or to that address: multicast, broadcast, unspecified.
    #[error("PROXY: an address that no connection has")]
    NotUnicast,
}

/// Reads the header with which `bytes` begin; the first bytes tell the version. `None` means that more bytes are
/// needed.
///
/// # Errors
/// What is wrong, as soon as the bytes cannot become an accepted header. The result does not change when more bytes
/// follow.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins_with(bytes, &v2::SIGNATURE) {
        v2::parse(bytes)
    } else if begins_with(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else {
        Err(Malformed::Signature)
    }
}

/// How many bytes there must be at least, counted from the first one, before [`parse`] can accept. That is what to wait
/// for with `SO_RCVLOWAT`. It is never more than the header has, and no more than there are if [`parse`] has a result.
pub fn need(bytes: &[u8]) -> usize {
    /// Until it is known which version it is.
    const EITHER: usize = 8;
    match parse(bytes) {
        Ok(Some(header)) => header.len,
        Err(_) => bytes.len(),
        Ok(None) if bytes.is_empty() => EITHER,
        Ok(None) if begins_with(bytes, &v2::SIGNATURE) => v2::need(bytes),
        Ok(None) => EITHER.max(bytes.len() + 1),
    }
}

/// Whether one of both is the beginning of the other.
fn begins_with(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

/// A claim about a TCP connection, with its addresses in their plain form.
fn tcp(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Result<ProxyClaim, Malformed> {
    let plain = |(ip, port): (IpAddr, u16)| {
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
            return Err(Malformed::NotUnicast);
        }
        Ok(SocketAddr::new(ip, port))
    };
    Ok(ProxyClaim::Tcp { source: plain(source)?, destination: plain(destination)? })
}
