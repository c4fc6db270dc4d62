//! Memory in which bulk is opened that comes by TLS and goes on as plain bytes: for the relay it is a pipe.
//!
//! A half that has a vat fills it and drains it in its turn, as others do with a pipe of the kernel. A vat has memory
//! only while something is in it, so that the sessions of a worker take turns with memory that is in the cache; and
//! there is a limit to both. A half that gets none goes on in copy mode.

use std::ops::Range;

use crate::base::lease::{BUFFER_LEN, Lease, PipeId};
use crate::kernel::Buffers;
use crate::tls::record::PLAIN_MAX;

/// Bytes of plaintext that a vat takes.
pub const CAPACITY: usize = 8 * PLAIN_MAX;
/// Its memory: that, with what is around it, and what came of one more record, or before it became bulk.
const MEMORY_LEN: usize = 9 * PLAIN_MAX;
/// Vats of a worker that are lent at the same time.
const LENT_MAX: u16 = 1024;
/// Vats with something in them at the same time.
const FULL_MAX: usize = 32;
/// Memory that is kept for the next ones.
const SPARE_KEPT: usize = 2;

/// One vat.
#[derive(Debug, Default)]
pub struct Vat {
    /// Empty while nothing is in it.
    pub memory: Box<[u8]>,
    /// Where plaintext is that was not drained, in order.
    pub pieces: Vec<Range<usize>>,
    /// Where it is instead, once it was moved into receive buffers; the first one is the last.
    unloaded: Vec<Lease>,
    /// A session has it.
    is_lent: bool,
}

/// The vats of a worker.
#[derive(Debug, Default)]
pub struct Vats {
    /// By number.
    vats: Vec<Vat>,
    /// Numbers of those that are not lent.
    free: Vec<u16>,
    /// Memory that is in no vat.
    spare: Vec<Box<[u8]>>,
    /// The fewest there were since the last [`Vats::trim`].
    spare_min: usize,
    /// Vats that have memory.
    full: usize,
}

impl Vats {
    /// Lends a vat, and says how many bytes it takes; `None` if too many are in use.
    pub fn lend(&mut self) -> Option<(PipeId, u32)> {
        if self.full >= FULL_MAX {
            return None;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.vats.len() < LENT_MAX.into() => {
                self.vats.push(Vat::default());
                (self.vats.len() - 1) as u16
            }
            None => return None,
        };
        self.vats[usize::from(number)].is_lent = true;
        Some((PipeId::of_vat(number), CAPACITY as u32))
    }

    /// Takes a vat back, and forgets what is in it.
    pub fn take_back(&mut self, vat: usize) {
        self.empty(vat);
        let lent = &mut self.vats[vat];
        debug_assert!(lent.unloaded.is_empty() && lent.is_lent);
        lent.is_lent = false;
        self.free.push(vat as u16);
    }

    /// A vat that is lent, with memory; `None` if there is none for it.
    pub fn with_memory(&mut self, vat: usize) -> Option<&mut Vat> {
        if self.vats[vat].memory.is_empty() {
            if self.full >= FULL_MAX {
                return None;
            }
            self.full += 1;
            self.vats[vat].memory = self.spare.pop().unwrap_or_else(|| vec![0; MEMORY_LEN].into_boxed_slice());
            self.spare_min = self.spare_min.min(self.spare.len());
        }
        Some(&mut self.vats[vat])
    }

    /// What is to be drained of a vat, in order.
    pub fn pieces(&self, vat: usize) -> impl Iterator<Item = &[u8]> {
        let Vat { memory, pieces, .. } = &self.vats[vat];
        pieces.iter().map(|piece| &memory[piece.clone()])
    }

    /// So many bytes were drained.
    pub fn drained(&mut self, vat: usize, count: usize) {
        let (pieces, mut left) = (&mut self.vats[vat].pieces, count);
        pieces.retain_mut(|piece| {
            let taken = left.min(piece.len());
            (piece.start, left) = (piece.start + taken, left - taken);
            piece.start < piece.end
        });
        if self.vats[vat].pieces.is_empty() {
            self.empty(vat);
        }
    }

    /// Moves what is in a vat into receive buffers, and returns the first one that was not returned yet. `None` if
    /// there are not enough of them: then nothing is moved.
    #[cold]
    pub fn unload(&mut self, vat: usize, buffers: &mut impl Buffers) -> Option<Lease> {
        if !self.vats[vat].pieces.is_empty() {
            let leases = copied(&self.vats[vat], buffers)?;
            self.vats[vat].unloaded = leases;
            self.empty(vat);
        }
        self.vats[vat].unloaded.pop()
    }

    /// Gives memory back that was not used since the last call.
    pub fn trim(&mut self) {
        let unused = self.spare_min.saturating_sub(SPARE_KEPT);
        self.spare.truncate(self.spare.len() - unused);
        self.spare_min = self.spare.len();
    }

    /// Vats that sessions have.
    #[cfg(debug_assertions)]
    pub fn lent(&self) -> usize {
        self.vats.len() - self.free.len()
    }

    /// What holds between two turns.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        let full = self.vats.iter().filter(|vat| !vat.memory.is_empty()).count();
        assert_eq!(full, self.full, "vats that have memory");
        for vat in &self.vats {
            assert_eq!(vat.memory.is_empty(), vat.pieces.is_empty(), "memory without bytes, or bytes without memory");
            assert!(vat.unloaded.is_empty(), "a vat is unloaded within a turn");
            assert!(vat.is_lent || vat.memory.is_empty(), "a vat that is not lent has memory");
        }
    }

    /// Nothing is in a vat any more, so its memory goes to the next one.
    pub fn empty(&mut self, vat: usize) {
        let vat = &mut self.vats[vat];
        vat.pieces.clear();
        if !vat.memory.is_empty() {
            self.spare.push(std::mem::take(&mut vat.memory));
            self.full -= 1;
        }
    }
}

/// Copies what is in a vat into receive buffers; the first one is the last of them. `None` if there are not enough.
fn copied(vat: &Vat, buffers: &mut impl Buffers) -> Option<Vec<Lease>> {
    let bytes: usize = vat.pieces.iter().map(Range::len).sum();
    let taken: Vec<u16> = (0..bytes.div_ceil(BUFFER_LEN)).map_while(|_| buffers.take()).collect();
    if taken.len() * BUFFER_LEN < bytes || buffers.is_scarce() {
        taken.into_iter().for_each(|buffer| buffers.release(buffer));
        return None;
    }
    let mut leases: Vec<Lease> = taken.into_iter().map(|buffer| Lease { buffer, start: 0, len: 0 }).collect();
    let mut places = leases.iter_mut();
    let mut place = places.next()?;
    for mut piece in vat.pieces.iter().cloned() {
        while !piece.is_empty() {
            if place.room() == 0 {
                place = places.next()?;
            }
            let count = piece.len().min(place.room());
            let space = &mut buffers.space(place.buffer)[place.end()..][..count];
            space.copy_from_slice(&vat.memory[piece.start..][..count]);
            (place.len, piece.start) = (place.len + count as u16, piece.start + count);
        }
    }
    leases.reverse();
    Some(leases)
}
