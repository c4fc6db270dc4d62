//! Opening a bulk stream: many records at a time, where they were received, in memory that has room for all of them.
//!
//! In a receive buffer of 16 KiB no record of full length fits, so that each goes through the backlog, and is copied on
//! its way in and on its way out. Here a record is opened where the kernel has put it. Only what is left of the last
//! one goes to the backlog; and as the records of a bulk stream are all of one length, a receive that asks for a
//! multiple of that leaves nothing.

use std::ops::Range;

use super::{BacklogPool, Codec, StreamEnd};
use crate::tls::record::{self, HEAD_MAX, RECORD_MAX};

/// A piece of plaintext that is shorter than this is moved behind the one before it: a part of a send costs more than
/// so many bytes do.
const SHORT_PIECE: usize = 4096;

impl Codec {
    /// Bytes that have come and were not opened.
    pub fn unopened(&self) -> usize {
        self.backlog.len() - self.begin
    }

    /// How many bytes to receive for about `most` bytes of records, those that were not opened included, so that
    /// they end with a record if all are as long as the last one was. At least 1.
    pub fn appetite(&self, most: usize) -> usize {
        let wanted = match usize::from(self.record_len) {
            0 => most,
            len => (most / len).max(1) * len,
        };
        let wanted = wanted.saturating_sub(self.unopened());
        if wanted > 0 { wanted } else { RECORD_MAX }
    }

    /// Opens what has come, where it lies in `memory`: `came` bytes behind [`Codec::unopened`] bytes of room, which
    /// those take that were not opened before. Appends to `pieces` where the plaintext is afterwards; returns how many
    /// bytes it has. What is not whole is not opened, and does not stay in `memory`.
    pub fn open_bulk(
        &mut self,
        memory: &mut [u8],
        came: usize,
        pieces: &mut Vec<Range<usize>>,
        spare: &mut BacklogPool,
    ) -> usize {
        let before = self.unopened();
        if before > 0 {
            memory[..before].copy_from_slice(&self.backlog[self.begin..]);
            self.begin = 0;
            spare.put(std::mem::take(&mut self.backlog));
        }
        let (all, mut at, mut count) = (&mut memory[..before + came], 0, 0);
        while self.end.is_none() && at < all.len() {
            let len = match record::length(&all[at..]) {
                Ok(Some(len)) if at + len <= all.len() => len,
                Ok(announced) => {
                    self.backlog = spare.take(announced.unwrap_or(HEAD_MAX));
                    self.backlog.extend_from_slice(&all[at..]);
                    break;
                }
                Err(alert) => {
                    self.end = Some(StreamEnd::Broken(alert));
                    break;
                }
            };
            let plain = self.open_record(&mut all[at..at + len]);
            self.record_len = len as u16;
            count += plain.len();
            append(all, pieces, at + plain.start..at + plain.end);
            at += len;
        }
        count
    }
}

/// Appends a piece, or moves it behind the last one.
fn append(all: &mut [u8], pieces: &mut Vec<Range<usize>>, piece: Range<usize>) {
    match pieces.last_mut() {
        Some(last) if piece.len() < SHORT_PIECE => {
            let end = last.end + piece.len();
            all.copy_within(piece, last.end);
            last.end = end;
        }
        _ if piece.is_empty() => {}
        _ => pieces.push(piece),
    }
}
