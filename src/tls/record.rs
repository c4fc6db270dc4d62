//! The protection of one record: opened and sealed where it lies.
//!
//! A record has a header, what it carries, and what authenticates both. Its nonce is a number that is never used twice
//! with the same key. What a record carries is not looked at here ([`codec`](super::codec) does that).

use std::ops::Range;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::Alert;

/// Bytes before the content of a record: its type, a version and its length.
pub const HEADER_LEN: usize = 5;
/// Most bytes that a record carries (RFC 8446, section 5.1).
pub const PLAIN_MAX: usize = 1 << 14;
/// Most bytes behind a header (RFC 8446, section 5.2); TLS 1.2 allows more, of which no cipher here makes use.
const CONTENT_MAX: usize = PLAIN_MAX + 256;
/// Most bytes of a record.
pub const RECORD_MAX: usize = HEADER_LEN + CONTENT_MAX;
/// Bytes by which each of the ciphers here authenticates a record.
const TAG_LEN: usize = aead::MAX_TAG_LEN;
/// Bytes of a nonce that a record of TLS 1.2 with GCM carries (RFC 5288, section 3).
const EXPLICIT_LEN: usize = 8;
/// Most bytes before what a sealed record carries.
pub const HEAD_MAX: usize = HEADER_LEN + EXPLICIT_LEN;
/// Most bytes behind it: in TLS 1.3 the type of the content comes first.
pub const TAIL_MAX: usize = 1 + TAG_LEN;

/// What a record carries (RFC 8446, section 5.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentType {
    /// Nothing that follows a handshake.
    ChangeCipherSpec,
    /// The end, or a failure.
    Alert,
    /// A message about the connection.
    Handshake,
    /// Bytes of the application.
    Data,
}

impl ContentType {
    /// Its number in a record.
    pub fn number(self) -> u8 {
        match self {
            ContentType::ChangeCipherSpec => 20,
            ContentType::Alert => 21,
            ContentType::Handshake => 22,
            ContentType::Data => 23,
        }
    }

    /// The type with that number.
    ///
    /// # Errors
    /// There is none.
    fn of(number: u8) -> Result<ContentType, Alert> {
        use ContentType::{Alert as A, ChangeCipherSpec, Data, Handshake};
        [ChangeCipherSpec, A, Handshake, Data]
            .into_iter()
            .find(|kind| kind.number() == number)
            .ok_or(Alert::UNEXPECTED_MESSAGE)
    }
}

/// The length of the record that begins with `bytes`, its header included; `None` while the header is not whole.
///
/// # Errors
/// It is longer than a record may be.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Alert> {
    let Some(&[high, low]) = bytes.get(3..HEADER_LEN) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > CONTENT_MAX { Err(Alert::RECORD_OVERFLOW) } else { Ok(Some(HEADER_LEN + len)) }
}

/// How records of a version and a cipher are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RecordForm {
    /// The type of the content is encrypted, and the header is authenticated.
    Tls13,
    /// A part of the nonce stands in the record.
    Tls12Gcm,
    /// The nonce is known.
    Tls12ChaCha,
}

/// The key of one direction, with the number of the next record.
pub struct RecordKey {
    /// The cipher with its key; aws-lc overwrites it when it is freed.
    key: LessSafeKey,
    /// What the number of a record is mixed into, to become its nonce.
    iv: [u8; aead::NONCE_LEN],
    /// The number of the next record.
    sequence: u64,
    /// How records are made.
    form: RecordForm,
}

/// What stands around the bytes of a sealed record.
#[derive(Clone, Copy, Debug)]
pub struct Wrapping {
    /// The header, and in TLS 1.2 with GCM the part of the nonce that the peer cannot know.
    head: [u8; HEAD_MAX],
    /// Bytes of it.
    head_len: u8,
    /// What authenticates the record, in TLS 1.3 behind the encrypted type of its content.
    tail: [u8; TAIL_MAX],
    /// Bytes of it.
    tail_len: u8,
}

impl Wrapping {
    /// What comes before the bytes.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// What comes after them.
    pub fn tail(&self) -> &[u8] {
        &self.tail[..usize::from(self.tail_len)]
    }
}

impl RecordKey {
    /// The key of a direction in which `sequence` records have gone.
    ///
    /// # Errors
    /// A cipher that is not known here.
    pub fn new(
        version: ProtocolVersion,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<RecordKey, Alert> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let is_tls13 = version == ProtocolVersion::TLSv1_3;
        let (algorithm, key, iv, tls12) = match secrets {
            Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv, RecordForm::Tls12Gcm),
            Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv, RecordForm::Tls12Gcm),
            Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv, RecordForm::Tls12ChaCha),
            _ => return Err(Alert::INTERNAL_ERROR),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Alert::INTERNAL_ERROR)?;
        let iv = iv.as_ref().try_into().map_err(|_| Alert::INTERNAL_ERROR)?;
        let form = if is_tls13 { RecordForm::Tls13 } else { tls12 };
        Ok(RecordKey { key: LessSafeKey::new(key), iv, sequence, form })
    }

    /// Records that have gone in this direction.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Most bytes that a record of this length can carry.
    pub fn plain_max(&self, record_len: usize) -> usize {
        let around = match self.form {
            RecordForm::Tls13 => TAIL_MAX,
            RecordForm::Tls12Gcm => EXPLICIT_LEN + TAG_LEN,
            RecordForm::Tls12ChaCha => TAG_LEN,
        };
        // Longer ones hold padding, or break the rules.
        record_len.saturating_sub(HEADER_LEN + around).min(PLAIN_MAX)
    }

    /// Opens a whole record where it lies: what it carries, and where.
    ///
    /// # Errors
    /// What its sender is to be told. The connection cannot go on.
    pub fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Alert> {
        let Some((header, content)) = record.split_first_chunk_mut::<HEADER_LEN>() else {
            return Err(Alert::DECODE_ERROR);
        };
        let (at, len) = match self.form {
            RecordForm::Tls13 => {
                if header[0] != ContentType::Data.number() {
                    return Err(Alert::UNEXPECTED_MESSAGE);
                }
                (HEADER_LEN, self.open_content(self.nonce(), &header[..], content)?)
            }
            RecordForm::Tls12Gcm => {
                let Some((explicit, content)) = content.split_first_chunk_mut::<EXPLICIT_LEN>() else {
                    return Err(Alert::BAD_RECORD_MAC);
                };
                let mut nonce = self.iv;
                nonce[aead::NONCE_LEN - EXPLICIT_LEN..].copy_from_slice(explicit);
                let aad = self.tls12_aad(header[0], content.len().saturating_sub(TAG_LEN));
                (HEAD_MAX, self.open_content(nonce, &aad, content)?)
            }
            RecordForm::Tls12ChaCha => {
                let aad = self.tls12_aad(header[0], content.len().saturating_sub(TAG_LEN));
                (HEADER_LEN, self.open_content(self.nonce(), &aad, content)?)
            }
        };
        self.next()?;
        let (kind, len) = match self.form {
            RecordForm::Tls13 => without_padding(&record[at..at + len])?,
            _ => (record[0], len),
        };
        if len > PLAIN_MAX {
            return Err(Alert::RECORD_OVERFLOW);
        }
        Ok((ContentType::of(kind)?, at..at + len))
    }

    /// Seals bytes where they lie, at most [`PLAIN_MAX`] of them: with what is returned around them they are a record.
    ///
    /// # Errors
    /// There can be no more records with this key.
    pub fn seal(&mut self, kind: ContentType, plain: &mut [u8]) -> Result<Wrapping, Alert> {
        debug_assert!(plain.len() <= PLAIN_MAX);
        let nonce = self.nonce();
        let mut wrapping = Wrapping { head: [0; HEAD_MAX], head_len: 0, tail: [0; TAIL_MAX], tail_len: 0 };
        let (outer, explicit, inner) = match self.form {
            RecordForm::Tls13 => (ContentType::Data.number(), 0, &[kind.number()][..]),
            RecordForm::Tls12Gcm => (kind.number(), EXPLICIT_LEN, &[][..]),
            RecordForm::Tls12ChaCha => (kind.number(), 0, &[][..]),
        };
        let tail_len = inner.len() + TAG_LEN;
        // At most PLAIN_MAX and a few bytes.
        let len = (explicit + plain.len() + tail_len) as u16;
        wrapping.head[0] = outer;
        // What TLS 1.2 was, and TLS 1.3 says as well (RFC 8446, section 5.1).
        wrapping.head[1..3].copy_from_slice(&[3, 3]);
        wrapping.head[3..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
        if explicit > 0 {
            wrapping.head[HEADER_LEN..].copy_from_slice(&nonce[aead::NONCE_LEN - EXPLICIT_LEN..]);
        }
        (wrapping.head_len, wrapping.tail_len) = ((HEADER_LEN + explicit) as u8, tail_len as u8);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tail = &mut wrapping.tail[..tail_len];
        let sealed = match self.form {
            RecordForm::Tls13 => {
                self.key.seal_in_place_scatter(nonce, Aad::from(&wrapping.head[..HEADER_LEN]), plain, inner, tail)
            }
            _ => {
                let aad = self.tls12_aad(outer, plain.len());
                self.key.seal_in_place_scatter(nonce, Aad::from(&aad[..]), plain, inner, tail)
            }
        };
        sealed.map_err(|_| Alert::INTERNAL_ERROR)?;
        self.next()?;
        Ok(wrapping)
    }

    /// Opens content where it lies: how many bytes it has.
    fn open_content(&self, nonce: [u8; aead::NONCE_LEN], aad: &[u8], content: &mut [u8]) -> Result<usize, Alert> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(aad), content);
        opened.map(|plain| plain.len()).map_err(|_| Alert::BAD_RECORD_MAC)
    }

    /// The nonce of the next record (RFC 8446, section 5.3).
    fn nonce(&self) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.iv;
        let counted = &mut nonce[aead::NONCE_LEN - size_of::<u64>()..];
        counted.iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        nonce
    }

    /// What TLS 1.2 authenticates beside the content (RFC 5246, section 6.2.3.3).
    fn tls12_aad(&self, kind: u8, plain_len: usize) -> [u8; 13] {
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad[8..11].copy_from_slice(&[kind, 3, 3]);
        // A record's length has 16 bits.
        aad[11..].copy_from_slice(&(plain_len as u16).to_be_bytes());
        aad
    }

    /// A number is used once (RFC 8446, section 5.5).
    fn next(&mut self) -> Result<(), Alert> {
        self.sequence = self.sequence.checked_add(1).ok_or(Alert::INTERNAL_ERROR)?;
        Ok(())
    }
}

/// The type and the length of what a record of TLS 1.3 carries: the type is its last byte that is not zero.
fn without_padding(content: &[u8]) -> Result<(u8, usize), Alert> {
    let at = content.iter().rposition(|byte| *byte != 0).ok_or(Alert::UNEXPECTED_MESSAGE)?;
    Ok((content[at], at))
}
