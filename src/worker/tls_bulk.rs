//! Bulk that comes by TLS and goes on as plain bytes: many records in one receive, and their plaintext in one send.
//!
//! To the relay this is splice mode, with a [vat](super::vats) for a pipe. What a receive has brought is opened
//! immediately, so that nothing but plaintext is ever in a vat; the beginning of a record that is not whole is in the
//! codec, as in copy mode. So the half can go back to copy mode at any time, and does for whatever is no plain
//! progress: the end of the stream or of its connection, and failures. Copy mode tells the truth about each.

use super::Worker;
use super::slots::SlotKey;
use crate::base::lease::Moved;
use crate::base::side::Side;
use crate::kernel::{Fd, Kernel, Sockets, errno};
use crate::relay::{self, Behind};
use crate::tls::record::PLAIN_MAX;

/// What is around the plaintext of a record in TLS 1.3.
const AROUND: usize = 22;

impl<K: Kernel> Worker<K> {
    /// Receives from a side that speaks TLS, and opens what has come into an empty vat: about `len` bytes.
    pub(super) fn fill_vat(&mut self, key: SlotKey, half: Side, vat: usize, len: u32) -> relay::Event {
        let (len, behind) = self.open_into(key, half, vat, len as usize);
        if len == 0 {
            self.turn.vats.empty(vat);
        }
        relay::Event::Opened { half, len: len as u32, behind }
    }

    /// The same: how many bytes of plaintext there are, and what is behind them.
    fn open_into(&mut self, key: SlotKey, half: Side, vat: usize, len: usize) -> (usize, Behind) {
        let other = (0, Behind::Other);
        let (Some(slot), Some(room)) = (self.slots.get_mut(key), self.turn.vats.with_memory(vat)) else { return other };
        let (Some(fd), Some(stream)) = (slot.fd(half), slot.tls_stream(half)) else { return other };
        if stream.codec.end().is_some() || stream.has_ended || stream.failure.is_some() {
            return other;
        }
        let before = stream.codec.unopened();
        let (mut came, mut wanted) = (0, 0);
        // What came before is opened first, as far as it is whole.
        if !stream.codec.has_more() {
            wanted = stream.codec.appetite(len + len / PLAIN_MAX * AROUND);
            let Some(space) = room.memory.get_mut(before..before + wanted) else { return other };
            match self.kernel.sockets().take(fd, space) {
                Ok(Some(count @ 1..)) => came = count,
                Ok(Some(0)) => {
                    stream.has_ended = true;
                    return other;
                }
                Ok(None) => return (0, Behind::Nothing),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(errno::EINVAL);
                    if let Moved::Failed(errno) = self.kernel.sockets().refusal(errno, fd) {
                        stream.failure = Some(errno);
                    }
                    return other;
                }
            }
        }
        if before + came > room.memory.len() {
            return other;
        }
        let opened = stream.codec.open_bulk(&mut room.memory, came, &mut room.pieces, &mut self.turn.backlogs);
        let behind = match () {
            () if stream.codec.end().is_some() => Behind::Other,
            () if came < wanted => Behind::Nothing,
            () => Behind::More,
        };
        (opened, behind)
    }

    /// Sends what is in a vat.
    pub(super) fn drain_vat(&mut self, fd: Fd, vat: usize) -> Moved {
        let sent = self.kernel.sockets().send_pieces(fd, &mut self.turn.vats.pieces(vat));
        match sent {
            Ok(count) => {
                self.turn.vats.drained(vat, count);
                Moved::Bytes(count as u32)
            }
            Err(errno) => self.kernel.sockets().refusal(errno, fd),
        }
    }
}
