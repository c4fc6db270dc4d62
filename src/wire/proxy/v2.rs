//! Version 2: binary.
//!
//! ```text
//! signature (12) | version 2, command | family, protocol | length (2) | addresses | TLVs
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crc::{CRC_32_ISCSI, Crc};

use super::{HEADER_MAX, Header, Malformed, ProxyClaim, tcp};

/// The beginning of each header.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
pub(super) const FIXED: usize = 16;
/// The type of the TLV that holds the checksum; and how many bytes come before the value of a TLV.
const CRC32C_TYPE: u8 = 0x03;
const TLV_FIXED: usize = 3;

/// CRC32c (RFC 4960, appendix B).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The kind of addresses in a header.
#[derive(Clone, Copy)]
enum Family {
    /// None: everything that follows is skipped.
    None,
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
    /// A unix socket.
    Unix,
}

impl Family {
    /// Bytes of both addresses, including the ports.
    fn len(self) -> usize {
        match self {
            Family::None => 0,
            Family::V4 => 2 * 4 + 2 * 2,
            Family::V6 => 2 * 16 + 2 * 2,
            Family::Unix => 2 * 108,
        }
    }
}

/// Reads a header of version 2. `bytes` agree with [`SIGNATURE`] as far as they go.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(command) = bytes.get(12) else { return Ok(None) };
    if command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    if command & 0x0f > 1 {
        return Err(Malformed::Command);
    }
    let Some(family) = bytes.get(13) else { return Ok(None) };
    // LOCAL: "discard the protocol block including the family which is ignored".
    let family = if command & 0x0f == 0 { Family::None } else { family_of(*family)? };
    if bytes.len() < FIXED {
        return Ok(None);
    }
    let len = announced(bytes);
    if len > HEADER_MAX {
        return Err(Malformed::TooLong);
    }
    if len < FIXED + family.len() {
        return Err(Malformed::TooShort);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let (addresses, tlvs) = header[FIXED..].split_at(family.len());
    let claim = match family {
        Family::None => return Ok(Some(Header { claim: ProxyClaim::Peer, len })),
        Family::V4 => inet(addresses, |ip: [u8; 4]| Ipv4Addr::from(ip).into())?,
        Family::V6 => inet(addresses, |ip: [u8; 16]| Ipv6Addr::from(ip).into())?,
        Family::Unix => ProxyClaim::Unix,
    };
    check_tlvs(header, len - tlvs.len())?;
    Ok(Some(Header { claim, len }))
}

/// The part of [`super::need`] for version 2; `bytes` are an incomplete header.
pub(super) fn need(bytes: &[u8]) -> usize {
    if bytes.len() < FIXED { FIXED } else { announced(bytes) }
}

/// The length of the whole header, from its first [`FIXED`] bytes.
fn announced(bytes: &[u8]) -> usize {
    FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))
}

/// The kind of addresses, for a family and a protocol that a stream can have.
fn family_of(byte: u8) -> Result<Family, Malformed> {
    match byte {
        // Unspecified, and an unspecified stream.
        0x00 | 0x01 => Ok(Family::None),
        0x11 => Ok(Family::V4),
        0x21 => Ok(Family::V6),
        0x31 => Ok(Family::Unix),
        0x02 | 0x12 | 0x22 | 0x32 => Err(Malformed::Datagram),
        _ => Err(Malformed::Family),
    }
}

/// Reads source and destination of `N` bytes each, then both ports.
fn inet<const N: usize>(addresses: &[u8], ip: fn([u8; N]) -> IpAddr) -> Result<ProxyClaim, Malformed> {
    let address = |at: usize| {
        let bytes = addresses.get(at * N..(at + 1) * N)?;
        let port = addresses.get(2 * N + 2 * at..2 * N + 2 * at + 2)?;
        Some((ip(bytes.try_into().ok()?), u16::from_be_bytes(port.try_into().ok()?)))
    };
    match (address(0), address(1)) {
        (Some(source), Some(destination)) => tcp(source, destination),
        _ => Err(Malformed::TooShort),
    }
}

/// Walks over the TLVs of `header`, which begin at `start`, and verifies the checksum if there is one.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), Malformed> {
    let (mut at, mut checksum) = (start, None);
    while at < header.len() {
        let [kind, high, low, ..] = header[at..] else { return Err(Malformed::Tlv) };
        let value = at + TLV_FIXED;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        if at > header.len() {
            return Err(Malformed::Tlv);
        }
        if kind == CRC32C_TYPE && (at - value != 4 || checksum.replace(value).is_some()) {
            return Err(Malformed::Checksum);
        }
    }
    match checksum {
        Some(value) if header[value..value + 4] != crc32c(header, value).to_be_bytes() => Err(Malformed::Checksum),
        _ => Ok(()),
    }
}

/// The checksum of `header`. The four bytes at `value`, which hold the checksum itself, count as zeros.
pub(super) fn crc32c(header: &[u8], value: usize) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&header[..value]);
    digest.update(&[0; 4]);
    digest.update(&header[value + 4..]);
    digest.finalize()
}
