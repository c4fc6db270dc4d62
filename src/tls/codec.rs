//! The records of a connection after its handshake: plaintext out of what has come, records around what is to be sent.
//!
//! What has come is opened in the receive buffer in which it lies. Only a record that lies in several of them is put
//! together first, in a backlog; while there is one, everything goes through it, in order. What is sent is sealed in
//! its buffer too: a record is that buffer with a few bytes before and behind it ([`Codec::parts`]).

mod bulk;

use std::fmt;
use std::ops::Range;

use rustls::ProtocolVersion;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::Alert;
use super::keys::KeySource;
use super::record::{self, ContentType, HEAD_MAX, RECORD_MAX, RecordKey, TAIL_MAX, Wrapping};
use crate::base::lease::BUFFER_LEN;

/// Records in a row without a byte of the application, after which their sender is up to no good.
const EMPTY_MAX: u8 = 32;
/// Records after which the keys for sending are renewed: far below the limit of AES-GCM (RFC 8446, section 5.5).
const RENEWED_AFTER: u64 = 1 << 23;
/// Most bytes of a message about the connection itself.
const MESSAGE_MAX: usize = RECORD_MAX;
/// Most bytes of a message of our own in its record: a KeyUpdate has five, an alert two.
const OWN_MAX: usize = HEAD_MAX + 5 + TAIL_MAX;
/// Backlogs that a worker keeps for the next ones.
const SPARE_MAX: usize = 64;
/// Records up to this length get a backlog of their own.
const SHORT: usize = 4096;

/// The type of a message of the handshake protocol: HelloRequest of TLS 1.2, which asks a client for a new handshake.
const HELLO_REQUEST: u8 = 0;
/// The same: ClientHello.
const CLIENT_HELLO: u8 = 1;
/// The same: NewSessionTicket.
const NEW_SESSION_TICKET: u8 = 4;
/// The same: KeyUpdate.
const KEY_UPDATE: u8 = 24;

/// The level of an alert that its sender survives (TLS 1.2), or that means nothing (TLS 1.3).
const WARNING: u8 = 1;
/// The level of an alert after which the connection is over.
const FATAL: u8 = 2;

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// Its sender has said all (close_notify).
    Closed,
    /// Its sender gave it up, with this alert.
    Alerted(Alert),
    /// Its sender broke the rules, and is to be told this.
    Broken(Alert),
}

/// Memory for backlogs, of a worker: what one session gives back, the next one takes.
#[derive(Debug, Default)]
pub struct BacklogPool(Vec<Vec<u8>>);

impl BacklogPool {
    /// An empty backlog with room for a record of that length. A client that sends a part of a short one and waits
    /// costs no more than it has sent, or announced.
    fn take(&mut self, need: usize) -> Vec<u8> {
        let pooled = if need > SHORT { self.0.pop() } else { None };
        pooled.unwrap_or_else(|| Vec::with_capacity(need))
    }

    /// Takes a backlog back, whatever is in it.
    fn put(&mut self, mut backlog: Vec<u8>) {
        if self.0.len() < SPARE_MAX && backlog.capacity() > SHORT {
            backlog.clear();
            self.0.push(backlog);
        }
    }
}

/// What is being sent: a message of our own, or bytes of a buffer between a head and a tail.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    /// A whole record before the others: a KeyUpdate, close_notify, an alert.
    message: [u8; OWN_MAX],
    /// Bytes of it; 0 if there is none.
    message_len: u8,
    /// Around the bytes of the buffer; `None` if there are none.
    wrapping: Option<Wrapping>,
    /// Bytes of the buffer.
    len: u16,
    /// Bytes that were sent of all of it.
    sent: usize,
}

impl Outgoing {
    /// How many bytes there are to send in all.
    fn total(&self) -> usize {
        let around = self.wrapping.map_or(0, |wrapping| wrapping.head().len() + wrapping.tail().len());
        usize::from(self.message_len) + around + usize::from(self.len)
    }
}

/// What is to be sent, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct SealedParts<'a> {
    /// A message of our own, and the head of a record.
    pub before: [&'a [u8]; 2],
    /// Which of the bytes that were sealed.
    pub body: Range<usize>,
    /// The tail of the record.
    pub after: &'a [u8],
}

/// One end of a TLS connection whose handshake is over.
pub struct Codec {
    /// Opens what the peer sends.
    receive: RecordKey,
    /// Seals what is sent to it.
    send: RecordKey,
    /// Where the keys come from that follow.
    keys: KeySource,
    /// Whether the peer is the server.
    is_client: bool,
    /// What was agreed on: 1.2 or 1.3.
    version: ProtocolVersion,
    /// Ciphertext that was not opened yet; no memory while there is none.
    backlog: Vec<u8>,
    /// Where the first record of the backlog begins.
    begin: usize,
    /// Bytes of the record that was opened last in bulk, with all that is around them; 0 if there was none.
    record_len: u16,
    /// A message of the handshake protocol that is not whole.
    message: Vec<u8>,
    /// How the stream of the peer ended, once it has.
    end: Option<StreamEnd>,
    /// Records in a row without a byte of the application.
    empty: u8,
    /// The peer has asked for new keys of ours (RFC 8446, section 4.6.3).
    owes_key_update: bool,
    /// It has said close_notify, or an alert.
    has_parted: bool,
    /// What was sealed and is not sent whole.
    outgoing: Option<Outgoing>,
}

impl fmt::Debug for Codec {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("version", &self.version)
            .field("backlog", &self.backlog.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Codec {
    /// The codec of a server after its handshake. `backlog` is what has come behind the handshake.
    ///
    /// # Errors
    /// Its cipher is not known here.
    pub fn of_server(
        secrets: rustls::ExtractedSecrets,
        connection: KernelConnection<ServerConnectionData>,
        backlog: Vec<u8>,
    ) -> Result<Codec, Alert> {
        let version = connection.protocol_version();
        Codec::new(secrets, KeySource::of_server(connection), version, backlog)
    }

    /// The same of a client.
    ///
    /// # Errors
    /// Its cipher is not known here.
    pub fn of_client(
        secrets: rustls::ExtractedSecrets,
        connection: KernelConnection<ClientConnectionData>,
        backlog: Vec<u8>,
    ) -> Result<Codec, Alert> {
        let version = connection.protocol_version();
        let keys = KeySource::of_client(connection);
        Ok(Codec { is_client: true, ..Codec::new(secrets, keys, version, backlog)? })
    }

    /// With these keys, before a record.
    ///
    /// # Errors
    /// The cipher is not known here.
    fn new(
        secrets: rustls::ExtractedSecrets,
        keys: KeySource,
        version: ProtocolVersion,
        backlog: Vec<u8>,
    ) -> Result<Codec, Alert> {
        Ok(Codec {
            receive: RecordKey::new(version, secrets.rx.0, &secrets.rx.1)?,
            send: RecordKey::new(version, secrets.tx.0, &secrets.tx.1)?,
            keys,
            is_client: false,
            version,
            backlog,
            begin: 0,
            record_len: 0,
            message: Vec::new(),
            end: None,
            empty: 0,
            owes_key_update: false,
            has_parted: false,
            outgoing: None,
        })
    }

    /// How the stream of the peer ended, once all before its end was opened.
    pub fn end(&self) -> Option<StreamEnd> {
        self.end
    }

    /// Whether bytes have come of a record that is not whole: an end of the connection now cuts it short.
    pub fn is_amid_record(&self) -> bool {
        self.end.is_none() && self.begin < self.backlog.len()
    }

    /// Whether the backlog has a record that can be opened, or that is too long for one.
    pub fn has_more(&self) -> bool {
        let rest = &self.backlog[self.begin..];
        self.end.is_none() && record::length(rest).map_or(true, |len| len.is_some_and(|len| len <= rest.len()))
    }

    /// Opens what has come: the first `len` bytes of a receive buffer. Returns where in that buffer the plaintext is
    /// afterwards; empty if there is none. What did not fit is in the backlog ([`Codec::has_more`]).
    pub fn open(&mut self, buffer: &mut [u8; BUFFER_LEN], len: usize, spare: &mut BacklogPool) -> Range<usize> {
        if self.end.is_some() {
            return 0..0;
        }
        if self.backlog.is_empty() {
            return self.open_in_place(buffer, len, spare);
        }
        if self.begin > 0 {
            self.backlog.drain(..std::mem::take(&mut self.begin));
        }
        self.backlog.extend_from_slice(&buffer[..len]);
        self.open_backlog(buffer, spare)
    }

    /// Opens more of the backlog into a receive buffer. Returns where in it the plaintext is; empty if there is none.
    pub fn open_backlog(&mut self, buffer: &mut [u8; BUFFER_LEN], spare: &mut BacklogPool) -> Range<usize> {
        let mut filled = 0;
        let mut backlog = std::mem::take(&mut self.backlog);
        while self.end.is_none() {
            let rest = &mut backlog[self.begin..];
            let len = match record::length(rest) {
                Ok(Some(len)) if len <= rest.len() => len,
                Ok(_) => break,
                Err(alert) => {
                    self.end = Some(StreamEnd::Broken(alert));
                    break;
                }
            };
            if filled + self.receive.plain_max(len) > BUFFER_LEN {
                break;
            }
            let plain = self.open_record(&mut rest[..len]);
            buffer[filled..filled + plain.len()].copy_from_slice(&rest[plain.clone()]);
            filled += plain.len();
            self.begin += len;
        }
        if self.begin == backlog.len() || self.end.is_some() {
            self.begin = 0;
            spare.put(backlog);
        } else {
            self.backlog = backlog;
        }
        0..filled
    }

    /// Opens the records in a buffer, moves their plaintexts together, and keeps what is not whole.
    fn open_in_place(&mut self, buffer: &mut [u8; BUFFER_LEN], len: usize, spare: &mut BacklogPool) -> Range<usize> {
        let (mut at, mut plain) = (0, 0..0);
        while self.end.is_none() && at < len {
            let record_len = match record::length(&buffer[at..len]) {
                Ok(Some(record_len)) if at + record_len <= len => record_len,
                Ok(announced) => {
                    self.backlog = spare.take(announced.unwrap_or(HEAD_MAX));
                    self.backlog.extend_from_slice(&buffer[at..len]);
                    break;
                }
                Err(alert) => {
                    self.end = Some(StreamEnd::Broken(alert));
                    break;
                }
            };
            let opened = self.open_record(&mut buffer[at..at + record_len]);
            let opened = at + opened.start..at + opened.end;
            if plain.is_empty() {
                plain = opened;
            } else {
                let moved = opened.len();
                buffer.copy_within(opened, plain.end);
                plain.end += moved;
            }
            at += record_len;
        }
        plain
    }

    /// Opens one record, and heeds what it says of the connection: where in it the bytes of the application are.
    fn open_record(&mut self, record: &mut [u8]) -> Range<usize> {
        let heeded = self.receive.open(record).and_then(|(kind, content)| {
            if kind == ContentType::Data && !content.is_empty() {
                // A message of the handshake protocol is never cut by others (RFC 8446, section 5.1).
                let is_cut = !self.message.is_empty();
                self.empty = 0;
                return if is_cut { Err(Alert::UNEXPECTED_MESSAGE) } else { Ok(content) };
            }
            self.empty += 1;
            if self.empty > EMPTY_MAX {
                return Err(Alert::UNEXPECTED_MESSAGE);
            }
            match kind {
                ContentType::Data => Ok(()),
                ContentType::Alert => self.alerted(&record[content]),
                ContentType::Handshake => self.messaged(&record[content]),
                ContentType::ChangeCipherSpec => Err(Alert::UNEXPECTED_MESSAGE),
            }
            .map(|()| 0..0)
        });
        heeded.unwrap_or_else(|alert| {
            self.end = Some(StreamEnd::Broken(alert));
            0..0
        })
    }

    /// Heeds an alert of the peer.
    fn alerted(&mut self, content: &[u8]) -> Result<(), Alert> {
        let &[level, number] = content else { return Err(Alert::DECODE_ERROR) };
        match Alert(number) {
            Alert::CLOSE_NOTIFY => self.end = Some(StreamEnd::Closed),
            Alert::USER_CANCELED => {}
            _ if level == WARNING && self.version != ProtocolVersion::TLSv1_3 => {}
            alert => self.end = Some(StreamEnd::Alerted(alert)),
        }
        Ok(())
    }

    /// Heeds messages of the handshake protocol, which may lie in several records.
    fn messaged(&mut self, content: &[u8]) -> Result<(), Alert> {
        if content.is_empty() {
            return Err(Alert::UNEXPECTED_MESSAGE);
        }
        let mut all = std::mem::take(&mut self.message);
        all.extend_from_slice(content);
        let mut rest = all.as_slice();
        while let &[kind, high, middle, low, ref behind @ ..] = rest {
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            if len > MESSAGE_MAX {
                return Err(Alert::ILLEGAL_PARAMETER);
            }
            let Some((message, behind)) = behind.split_at_checked(len) else { break };
            self.heed(kind, message, behind.is_empty())?;
            rest = behind;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// Heeds one message. After a KeyUpdate the record has to end (RFC 8446, section 5.1).
    fn heed(&mut self, kind: u8, message: &[u8], is_last: bool) -> Result<(), Alert> {
        let is_tls13 = self.version == ProtocolVersion::TLSv1_3;
        match (kind, message) {
            (KEY_UPDATE, &[asks @ (0 | 1)]) if is_tls13 && is_last => {
                let (sequence, secrets) = self.keys.renew_receive().map_err(|_| Alert::INTERNAL_ERROR)?;
                self.receive = RecordKey::new(self.version, sequence, &secrets)?;
                self.owes_key_update |= asks == 1;
                Ok(())
            }
            (KEY_UPDATE, _) if is_tls13 && is_last => Err(Alert::ILLEGAL_PARAMETER),
            // Without one, the next session begins anew.
            (NEW_SESSION_TICKET, ticket) if let KeySource::Client(connection) = &mut self.keys => {
                connection.handle_new_session_ticket(ticket).map_err(|_| Alert::DECODE_ERROR)
            }
            // A client can ignore it (RFC 5246, section 7.4.1.1).
            (HELLO_REQUEST, []) if self.is_client && !is_tls13 => Ok(()),
            (CLIENT_HELLO | HELLO_REQUEST, _) if !is_tls13 => Err(Alert::NO_RENEGOTIATION),
            _ => Err(Alert::UNEXPECTED_MESSAGE),
        }
    }

    /// Seals bytes for sending, at most one record of them, where they lie. While an earlier record is not sent whole,
    /// nothing changes: those bytes were sealed before. What is to be sent is [`Codec::parts`].
    ///
    /// # Errors
    /// No more can be sent on this connection.
    pub fn seal(&mut self, plain: &mut [u8]) -> Result<(), Alert> {
        if self.outgoing.is_some() {
            return Ok(());
        }
        let renews = self.version == ProtocolVersion::TLSv1_3 && self.send.sequence() >= RENEWED_AFTER;
        let mut outgoing = match self.owes_key_update || renews {
            true => self.key_update()?,
            false => Outgoing { message: [0; OWN_MAX], message_len: 0, wrapping: None, len: 0, sent: 0 },
        };
        outgoing.len = plain.len() as u16;
        outgoing.wrapping = Some(self.send.seal(ContentType::Data, plain)?);
        self.outgoing = Some(outgoing);
        Ok(())
    }

    /// A KeyUpdate, after which the next record is sealed with new keys.
    fn key_update(&mut self) -> Result<Outgoing, Alert> {
        let outgoing = self.message_of(ContentType::Handshake, &mut [KEY_UPDATE, 0, 0, 1, 0])?;
        let (sequence, secrets) = self.keys.renew_send().map_err(|_| Alert::INTERNAL_ERROR)?;
        self.send = RecordKey::new(self.version, sequence, &secrets)?;
        self.owes_key_update = false;
        Ok(outgoing)
    }

    /// A message of our own in a record.
    fn message_of(&mut self, kind: ContentType, content: &mut [u8]) -> Result<Outgoing, Alert> {
        let wrapping = self.send.seal(kind, content)?;
        let mut message = [0; OWN_MAX];
        let mut len = 0;
        for part in [wrapping.head(), content, wrapping.tail()] {
            message[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        // At most the length of the array.
        Ok(Outgoing { message, message_len: len as u8, wrapping: None, len: 0, sent: 0 })
    }

    /// Seals close_notify, if it was not said before. It must not follow a record that was not sent whole.
    pub fn part(&mut self) {
        self.say_last(WARNING, Alert::CLOSE_NOTIFY);
    }

    /// Seals a fatal alert, after which nothing more is to be said. Not in the middle of another record.
    pub fn give_up(&mut self, alert: Alert) {
        self.say_last(FATAL, alert);
    }

    /// Seals the one alert after which nothing more is said.
    fn say_last(&mut self, level: u8, alert: Alert) {
        if !std::mem::replace(&mut self.has_parted, true) && self.outgoing.is_none() {
            // Without a key there is nothing that could be said.
            self.outgoing = self.message_of(ContentType::Alert, &mut [level, alert.0]).ok();
        }
    }

    /// Whether something that was sealed is not sent whole.
    pub fn is_sending(&self) -> bool {
        self.outgoing.is_some()
    }

    /// What is to be sent next: what was sealed, less what was sent of it.
    pub fn parts(&self) -> SealedParts<'_> {
        let Some(outgoing) = &self.outgoing else { return SealedParts::default() };
        let (head, tail) = match &outgoing.wrapping {
            Some(wrapping) => (wrapping.head(), wrapping.tail()),
            None => (&[][..], &[][..]),
        };
        let mut skipped = outgoing.sent;
        let mut skip = |len: usize| {
            let skip = skipped.min(len);
            skipped -= skip;
            skip
        };
        let message = &outgoing.message[..usize::from(outgoing.message_len)];
        let (message, head) = (&message[skip(message.len())..], &head[skip(head.len())..]);
        let body = skip(outgoing.len.into())..usize::from(outgoing.len);
        SealedParts { before: [message, head], body, after: &tail[skip(tail.len())..] }
    }

    /// So many bytes of [`Codec::parts`] were sent. Returns how many bytes of plaintext that makes, once the record is
    /// sent whole.
    pub fn sent(&mut self, count: usize) -> Option<u32> {
        let outgoing = self.outgoing.as_mut()?;
        outgoing.sent += count;
        if outgoing.sent < outgoing.total() {
            return None;
        }
        let len = outgoing.len;
        self.outgoing = None;
        Some(len.into())
    }
}
