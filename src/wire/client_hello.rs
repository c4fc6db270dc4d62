//! The ClientHello of TLS: which server a client wants, before anything is encrypted.
//!
//! Sources: RFC 8446 (sections 4.1.2 and 5.1), RFC 6066 (section 3, server_name), RFC 7301 (ALPN). TLS 1.0 to 1.3 look
//! the same up to here. Only the frame and these two extensions are judged; everything else is left to the server.

#[cfg(test)]
mod tests;

use crate::base::host;

/// Bytes of the longest handshake message that is read, with its header. Browsers send up to 2 KiB, and more with
/// post-quantum keys.
pub const HELLO_MAX: usize = 16 * 1024;
/// How many bytes are looked at, including the headers of the records around the message.
pub const INPUT_MAX: usize = 20 * 1024;

/// Bytes of the header of a record: type, version, length.
const RECORD_HEADER: usize = 5;
/// The longest fragment in one record (RFC 8446, section 5.1).
const FRAGMENT_MAX: usize = 1 << 14;
/// The type of a record with a handshake message.
const HANDSHAKE: u8 = 22;
/// The first byte of a record's version, the same for all versions.
const MAJOR: u8 = 3;
/// Bytes of the header of a handshake message: type, length.
const MESSAGE_HEADER: usize = 4;
/// The type of a handshake message: ClientHello.
const CLIENT_HELLO: u8 = 1;
/// The extension server_name (RFC 6066).
const SERVER_NAME: u16 = 0;
/// The type of a name in it: a host.
const HOST_NAME: u8 = 0;
/// The extension for protocols (RFC 7301).
const ALPN: u16 = 16;

/// What a client says about itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello {
    /// The host that it wants, in lower case. `None` also if what it sent is not a host name but, for example, an IP
    /// address, which RFC 6066 forbids.
    pub server_name: Option<String>,
    /// The protocols it speaks, the preferred one first: `h2`, `http/1.1`, `postgresql`.
    pub alpn: Vec<Vec<u8>>,
}

/// Why these bytes are no ClientHello.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MalformedHello {
    /// The first bytes are no TLS handshake record, or a later record is of another type.
    #[error("not TLS")]
    NotTls,
    /// A record that is empty or longer than 16 KiB.
    #[error("a TLS record of a wrong length")]
    RecordLength,
    /// A handshake message, but another one.
    #[error("TLS does not begin with a ClientHello")]
    NotClientHello,
    /// Longer than [`HELLO_MAX`], or in so many records that it does not end within [`INPUT_MAX`].
    #[error("a ClientHello that is too long")]
    TooLong,
    /// A length in it leads beyond what it is in, or leaves something over.
    #[error("a ClientHello with a wrong length in it")]
    Length,
    /// An extension that may be there once is there twice, or names two hosts.
    #[error("a ClientHello with something twice that may be there once")]
    Twice,
}

/// Reads the ClientHello with which `bytes` begin, over as many records as it has. `None` means that more bytes are
/// needed.
///
/// # Errors
/// What is wrong. A fault in the frame is found at the byte that shows it, a fault in the message when the message is
/// complete.
pub fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, MalformedHello> {
    let view = &bytes[..bytes.len().min(INPUT_MAX)];
    match message_end(view)? {
        Some(end) => read_body(&mut HelloInput(&join(view, end)[MESSAGE_HEADER..])).map(Some),
        None if view.len() == INPUT_MAX => Err(MalformedHello::TooLong),
        None => Ok(None),
    }
}

/// How many bytes there must be at least, counted from the first one, before [`parse`] can read a ClientHello. That is
/// what to wait for with `SO_RCVLOWAT`. It is exact if the rest of the message is in one record, and never more than
/// [`INPUT_MAX`]. `bytes` must be incomplete.
pub fn need(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        // The first byte tells whether it is TLS.
        return 1;
    }
    let (mut rest, mut message, mut have) = (bytes, [0; MESSAGE_HEADER], 0);
    // What is missing of the header of the last record, and how much of its content has yet to come.
    let (header_left, record_left) = loop {
        let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) else {
            break (RECORD_HEADER - rest.len(), FRAGMENT_MAX);
        };
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let fragment = &behind[..len.min(behind.len())];
        for (at, byte) in (have..MESSAGE_HEADER).zip(fragment) {
            message[at] = *byte;
        }
        have += fragment.len();
        if fragment.len() < len {
            break (0, len - fragment.len());
        }
        rest = &behind[len..];
    };
    let whole = if have < MESSAGE_HEADER { MESSAGE_HEADER } else { message_len(message) };
    let missing = whole.saturating_sub(have).max(1);
    let more_headers = missing.saturating_sub(record_left).div_ceil(FRAGMENT_MAX) * RECORD_HEADER;
    (bytes.len() + header_left + missing + more_headers).min(INPUT_MAX)
}

/// The length of the whole message, from its header.
fn message_len(header: [u8; MESSAGE_HEADER]) -> usize {
    MESSAGE_HEADER + usize::from(header[1]) * 65536 + usize::from(header[2]) * 256 + usize::from(header[3])
}

/// Walks over the records to the end of the message. Returns its length, or `None` if it is not complete. Nothing is
/// copied, so a message that comes in many pieces is cheap until it is complete.
fn message_end(view: &[u8]) -> Result<Option<usize>, MalformedHello> {
    let (mut header, mut have) = ([0; MESSAGE_HEADER], 0);
    for fragment in (Records { rest: view }) {
        for (at, byte) in (have..MESSAGE_HEADER).zip(fragment?) {
            header[at] = *byte;
        }
        have += fragment?.len();
        if have > 0 && header[0] != CLIENT_HELLO {
            return Err(MalformedHello::NotClientHello);
        }
        if have >= MESSAGE_HEADER {
            let len = message_len(header);
            if len > HELLO_MAX {
                return Err(MalformedHello::TooLong);
            }
            if have >= len {
                return Ok(Some(len));
            }
        }
    }
    Ok(None)
}

/// The first `len` bytes of the handshake, without the headers of the records.
fn join(view: &[u8], len: usize) -> Vec<u8> {
    let mut message: Vec<u8> = Vec::with_capacity(len);
    for fragment in (Records { rest: view }).map_while(Result::ok) {
        let left = len - message.len();
        message.extend_from_slice(&fragment[..fragment.len().min(left)]);
    }
    message
}

/// The fragments in the records; the last one may be incomplete.
struct Records<'a> {
    /// What was not read yet.
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], MalformedHello>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        // The second byte of the version does not matter (RFC 8446, section 5.1).
        let expected = self.rest.iter().zip([HANDSHAKE, MAJOR]).all(|(byte, expected)| *byte == expected);
        if !expected {
            return Some(Err(MalformedHello::NotTls));
        }
        let (header, rest) = self.rest.split_at_checked(RECORD_HEADER)?;
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if len == 0 || len > FRAGMENT_MAX {
            return Some(Err(MalformedHello::RecordLength));
        }
        let (fragment, rest) = rest.split_at(len.min(rest.len()));
        self.rest = rest;
        Some(Ok(fragment))
    }
}

/// Reads what follows the header of the message.
fn read_body(body: &mut HelloInput) -> Result<ClientHello, MalformedHello> {
    const VERSION_AND_RANDOM: usize = 2 + 32;
    body.take(VERSION_AND_RANDOM)?;
    let _session = body.short_list()?;
    let _ciphers = body.list()?;
    let _compressions = body.short_list()?;
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        return Ok(hello); // TLS 1.2 and older may have no extensions.
    }
    let mut extensions = body.list()?;
    if !body.0.is_empty() {
        return Err(MalformedHello::Length);
    }
    let (mut named, mut alpn) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let mut content = extensions.list()?;
        let again = match kind {
            SERVER_NAME => std::mem::replace(&mut named, true),
            ALPN => std::mem::replace(&mut alpn, true),
            _ => continue,
        };
        if again {
            return Err(MalformedHello::Twice);
        }
        let mut list = content.list()?;
        if list.0.is_empty() || !content.0.is_empty() {
            return Err(MalformedHello::Length);
        }
        match kind {
            SERVER_NAME => hello.server_name = read_server_name(&mut list)?,
            _ => hello.alpn = read_alpn(&mut list)?,
        }
    }
    Ok(hello)
}

/// Reads the list of names, of which at most one is a host name (RFC 6066, section 3). Names of other types are skipped
/// by their length.
fn read_server_name(names: &mut HelloInput) -> Result<Option<String>, MalformedHello> {
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.byte()?;
        let name = names.list()?.0;
        if name.is_empty() {
            return Err(MalformedHello::Length);
        }
        if kind == HOST_NAME && host.replace(name).is_some() {
            return Err(MalformedHello::Twice);
        }
    }
    Ok(host.and_then(|name| host::server_name(std::str::from_utf8(name).ok()?)))
}

/// Reads the list of protocols, none of which is empty (RFC 7301, section 3.1).
fn read_alpn(names: &mut HelloInput) -> Result<Vec<Vec<u8>>, MalformedHello> {
    let mut alpn = Vec::new();
    while !names.0.is_empty() {
        match names.short_list()?.0 {
            [] => return Err(MalformedHello::Length),
            name => alpn.push(name.to_vec()),
        }
    }
    Ok(alpn)
}

/// What is left to read. It is never read beyond its end.
struct HelloInput<'a>(&'a [u8]);

impl<'a> HelloInput<'a> {
    /// Takes the next `len` bytes.
    fn take(&mut self, len: usize) -> Result<HelloInput<'a>, MalformedHello> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(MalformedHello::Length)?;
        self.0 = rest;
        Ok(HelloInput(taken))
    }

    /// Takes one byte.
    fn byte(&mut self) -> Result<u8, MalformedHello> {
        self.take(1).map(|one| one.0[0])
    }

    /// Takes two bytes as a number, big endian.
    fn number(&mut self) -> Result<u16, MalformedHello> {
        self.take(2).map(|two| u16::from_be_bytes([two.0[0], two.0[1]]))
    }

    /// Takes a list whose length is given by one byte.
    fn short_list(&mut self) -> Result<HelloInput<'a>, MalformedHello> {
        let len = self.byte()?;
        self.take(usize::from(len))
    }

    /// Takes a list whose length is given by two bytes.
    fn list(&mut self) -> Result<HelloInput<'a>, MalformedHello> {
        let len = self.number()?;
        self.take(usize::from(len))
    }
}
