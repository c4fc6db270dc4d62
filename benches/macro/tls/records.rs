//! The records of a client of TLS 1.3 after its handshake, sealed and opened where they lie.

use std::io::{self, Read};
use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::client::ClientConnection;

use crate::load::Fault;

/// Bytes of the header of a record.
pub const HEADER: usize = 5;
/// Bytes behind what a record carries: its type and the tag of AES-GCM.
const TAIL: usize = 1 + 16;
/// Bytes that a record has more than it carries.
const OVERHEAD: usize = HEADER + TAIL;
/// Most bytes that a record carries.
pub const PLAIN_MAX: usize = 1 << 14;

/// The type of a record that carries an alert.
const ALERT: u8 = 21;
/// The type of a record that carries a message of the handshake protocol.
const HANDSHAKE: u8 = 22;
/// The type of a record that carries bytes of the application.
pub const APPLICATION_DATA: u8 = 23;
/// The alert that ends a stream.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Bytes of a record that carries `plain` bytes.
pub const fn record_len(plain: usize) -> usize {
    plain + OVERHEAD
}

/// What a record was.
#[derive(Debug, Eq, PartialEq)]
pub enum Opened {
    /// Bytes of the application, and where they are.
    Data(Range<usize>),
    /// A ticket, for which a long session has no use.
    Ticket,
    /// The end of the stream.
    CloseNotify,
}

/// Both directions of a connection after its handshake.
pub struct Records {
    send: Direction,
    receive: Direction,
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Records {
    /// Takes over from rustls, which has nothing left to say. Tickets are skipped from then on, and no subject renews
    /// its keys within a run.
    pub fn new(connection: ClientConnection) -> Result<Records, Fault> {
        let secrets = connection.dangerous_extract_secrets().map_err(|error| format!("secrets: {error}"))?;
        Ok(Records { send: Direction::new(secrets.tx)?, receive: Direction::new(secrets.rx)? })
    }

    /// Makes a record of all of `record`, in which what it carries stands behind the room for the header.
    pub fn seal(&mut self, kind: u8, record: &mut [u8]) -> Result<(), Fault> {
        let (header, content) = record.split_at_mut(HEADER);
        let length = (content.len() as u16).to_be_bytes();
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, length[0], length[1]]);
        let (plain, tail) = content.split_at_mut(content.len() - TAIL);
        let nonce = self.send.nonce();
        let sealed = self.send.key.seal_in_place_scatter(nonce, Aad::from(&*header), plain, &[kind], tail);
        sealed.map_err(|_| "a record cannot be sealed".to_string())
    }

    /// The record that ends the stream.
    pub fn close_notify(&mut self) -> Result<[u8; CLOSE_NOTIFY.len() + OVERHEAD], Fault> {
        let mut record = [0; CLOSE_NOTIFY.len() + OVERHEAD];
        record[HEADER..HEADER + CLOSE_NOTIFY.len()].copy_from_slice(&CLOSE_NOTIFY);
        self.seal(ALERT, &mut record)?;
        Ok(record)
    }

    /// Opens the record that `bytes` begin with, if it is whole: what it was and how long.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Option<(Opened, usize)>, Fault> {
        let Some(&[kind, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
        let len = HEADER + usize::from(u16::from_be_bytes([high, low]));
        let Some((header, content)) = bytes.get_mut(..len).map(|record| record.split_at_mut(HEADER)) else {
            return Ok(None);
        };
        if kind != APPLICATION_DATA {
            return Err(format!("a record of type {kind} is not protected"));
        }
        let opened = self.receive.key.open_in_place(self.receive.nonce_of_next(), Aad::from(&*header), content);
        let plain = opened.map_err(|_| "a record cannot be opened".to_string())?;
        self.receive.sequence += 1;
        // No subject pads its records.
        let Some((kind, carried)) = plain.split_last() else { return Err("a record is empty".into()) };
        match (*kind, carried) {
            (APPLICATION_DATA, _) => Ok(Some((Opened::Data(HEADER..HEADER + carried.len()), len))),
            (HANDSHAKE, [4, ..]) => Ok(Some((Opened::Ticket, len))),
            (ALERT, alert) if alert == CLOSE_NOTIFY => Ok(Some((Opened::CloseNotify, len))),
            (kind, _) => Err(format!("an unexpected record of type {kind}")),
        }
    }

    /// Reads exactly `count` bytes of the application; tickets among them are skipped.
    pub fn read(&mut self, socket: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(count);
        while plain.len() < count {
            let mut record = vec![0; HEADER];
            socket.read_exact(&mut record)?;
            record.resize(HEADER + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
            socket.read_exact(&mut record[HEADER..])?;
            match self.open(&mut record).map_err(io::Error::other)? {
                Some((Opened::Data(at), _)) => plain.extend_from_slice(&record[at]),
                Some((Opened::Ticket, _)) => {}
                other => return Err(io::Error::other(format!("not an answer: {other:?}"))),
            }
        }
        Ok(plain)
    }
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Direction, Fault> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err("the cipher suite is not the one that was offered".into());
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(|_| "a key cannot be used".to_string())?;
        let iv = iv.as_ref().try_into().map_err(|_| "an IV cannot be used".to_string())?;
        Ok(Direction { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record (RFC 8446, section 5.3).
    fn nonce_of_next(&self) -> Nonce {
        let mut nonce = self.iv;
        let counted = &mut nonce[NONCE_LEN - size_of::<u64>()..];
        counted.iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        Nonce::assume_unique_for_key(nonce)
    }

    /// The same, and counts it as used.
    fn nonce(&mut self) -> Nonce {
        let nonce = self.nonce_of_next();
        self.sequence += 1;
        nonce
    }
}
