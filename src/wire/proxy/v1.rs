//! Version 1: one line of text.
//!
//! ```text
//! PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n
//! PROXY UNKNOWN\r\n
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Header, Malformed, ProxyClaim, tcp};

/// The beginning of each line.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The length of the longest line, including its end.
const LINE_MAX: usize = 107;

/// The kind of addresses in a line.
#[derive(Clone, Copy)]
enum Protocol {
    /// IPv4 addresses.
    Tcp4,
    /// IPv6 addresses.
    Tcp6,
    /// None that are known to the sender.
    Unknown,
}

/// The words for them, with the space that must follow; after UNKNOWN the line may also end.
const PROTOCOLS: [(&[u8], Protocol); 3] =
    [(b"TCP4 ", Protocol::Tcp4), (b"TCP6 ", Protocol::Tcp6), (b"UNKNOWN", Protocol::Unknown)];

/// What is left of the line, read from left to right. The first fault in the line is the one that is reported, however
/// much of the line is there.
struct V1Line<'a> {
    /// What was not read yet.
    rest: &'a [u8],
}

/// The result of one step; `None` if more bytes are needed.
type V1Step<T> = Result<Option<T>, Malformed>;

/// Reads a header of version 1. `bytes` agree with [`SIGNATURE`] as far as they go.
pub(super) fn parse(bytes: &[u8]) -> V1Step<Header> {
    let view = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(rest) = view.get(SIGNATURE.len()..) else { return Ok(None) };
    let mut line = V1Line { rest };
    match line.claim()? {
        Some(claim) => Ok(Some(Header { claim, len: view.len() - line.rest.len() })),
        None if view.len() == LINE_MAX => Err(Malformed::LineTooLong),
        None => Ok(None),
    }
}

impl<'a> V1Line<'a> {
    /// Reads the whole line.
    fn claim(&mut self) -> V1Step<ProxyClaim> {
        match self.protocol()? {
            None => Ok(None),
            Some(Protocol::Tcp4) => self.addresses(|text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from)),
            Some(Protocol::Tcp6) => self.addresses(|text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from)),
            Some(Protocol::Unknown) => Ok(self.skip()?.map(|()| ProxyClaim::Peer)),
        }
    }

    /// Reads the kind of addresses.
    fn protocol(&mut self) -> V1Step<Protocol> {
        for (word, protocol) in PROTOCOLS {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(Some(protocol));
            }
            if word.starts_with(self.rest) {
                return Ok(None);
            }
        }
        Err(Malformed::Protocol)
    }

    /// Reads both addresses and both ports; each is followed by one space, the last one by the end of the line.
    fn addresses(&mut self, read: fn(&str) -> Option<IpAddr>) -> V1Step<ProxyClaim> {
        /// `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`; the forms that are too long do not parse.
        const ADDRESS_LEN_MAX: usize = 45;
        let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':';
        let Some(source) = self.field(ADDRESS_LEN_MAX, is_address, Malformed::Address, read, b' ')? else {
            return Ok(None);
        };
        let Some(destination) = self.field(ADDRESS_LEN_MAX, is_address, Malformed::Address, read, b' ')? else {
            return Ok(None);
        };
        let Some(source_port) = self.port(b' ')? else { return Ok(None) };
        let Some(destination_port) = self.port(b'\r')? else { return Ok(None) };
        let Some(()) = self.line_feed()? else { return Ok(None) };
        tcp((source, source_port), (destination, destination_port)).map(Some)
    }

    /// Reads a port in plain digits, without leading zeros.
    fn port(&mut self, end: u8) -> V1Step<u16> {
        let plain = |text: &str| text.parse().ok().filter(|_| text.len() == 1 || !text.starts_with('0'));
        self.field(5, |byte| byte.is_ascii_digit(), Malformed::Port, plain, end)
    }

    /// Reads one field: at most `len_max` bytes of a kind, up to `end`. Every fault in it is reported as `fault`, so
    /// that the report does not depend on how much has come.
    fn field<T>(
        &mut self,
        len_max: usize,
        is_kind: impl Fn(u8) -> bool,
        fault: Malformed,
        read: impl Fn(&str) -> Option<T>,
        end: u8,
    ) -> V1Step<T> {
        let len = self.rest.iter().take_while(|byte| is_kind(**byte)).count();
        if len > len_max {
            return Err(fault);
        }
        match self.rest.get(len) {
            None => Ok(None),
            Some(byte) if *byte == end => {
                let text = std::str::from_utf8(&self.rest[..len]).map_err(|_| fault)?;
                let value = read(text).ok_or(fault)?;
                self.rest = &self.rest[len + 1..];
                Ok(Some(value))
            }
            Some(_) => Err(fault),
        }
    }

    /// Skips everything up to the end of the line.
    fn skip(&mut self) -> V1Step<()> {
        if self.rest.first().is_some_and(|byte| *byte != b' ' && *byte != b'\r') {
            return Err(Malformed::Protocol);
        }
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\r' || *byte == b'\n') else { return Ok(None) };
        if self.rest[end] == b'\n' {
            return Err(Malformed::LineEnd);
        }
        self.rest = &self.rest[end + 1..];
        self.line_feed()
    }

    /// Reads the line feed that must follow a carriage return.
    fn line_feed(&mut self) -> V1Step<()> {
        match self.rest.split_first() {
            None => Ok(None),
            Some((b'\n', rest)) => {
                self.rest = rest;
                Ok(Some(()))
            }
            Some(_) => Err(Malformed::LineEnd),
        }
    }
}
