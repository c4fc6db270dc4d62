//! The receive buffers of a worker as the kernel sees them: one ring of provided buffers that all its sessions share.
//!
//! The kernel takes a buffer when it has bytes for it. Only some of the free buffers of the [pool](crate::sys::buffers)
//! are shown to it, and more of them once it has run dry: running dry costs a factor of 4 to 10 (docs/performance.md),
//! and a long ring goes through cold memory.

use std::io;

use io_uring::types::BufRingEntry;

use super::ring::Ring;
use crate::base::lease::{BUFFER_LEN, Lease};
use crate::kernel;
use crate::sys::buffers::{BUFFERS_MIN, BufferPool, map, unmap};

/// Number of the one buffer group.
pub const GROUP: u16 = 1;
/// Entries of the ring: the most buffers that can be posted at the same time.
const ENTRIES: u16 = 1024;
/// Free buffers that the kernel is not shown, for what the worker itself puts into one, such as records of TLS that
/// have come and were not opened.
const KEPT: u16 = 8;

/// The receive buffers of one worker, which the kernel fills.
pub struct BufferRing {
    /// The mapping that kernel and worker share: [`ENTRIES`] entries, page aligned.
    entries: *mut BufRingEntry,
    /// Where buffers come from and go back to.
    pool: BufferPool,
    /// Index behind the last entry that was written; it wraps.
    tail: u16,
    /// The tail as the kernel was shown it last.
    published: u16,
    /// Buffers the kernel may fill, and how many there should be.
    posted: u16,
    /// How many there should be; doubled each time the kernel runs dry.
    posted_target: u16,
}

impl BufferRing {
    /// Maps the ring and the first buffers, and registers them. See [`BufferPool::new`].
    pub fn new(ring: &Ring, bytes_max: u64) -> io::Result<BufferRing> {
        let entries = map(size_of::<BufRingEntry>() * ENTRIES as usize, libc::PROT_READ | libc::PROT_WRITE)?;
        let pool = BufferPool::new(bytes_max)?;
        let entries = entries.cast();
        let mut buffers = BufferRing { entries, pool, tail: 0, published: 0, posted: 0, posted_target: BUFFERS_MIN };
        // SAFETY: the mapping is as long as the number of entries says, page aligned, and lives as long as this,
        // which the worker drops after its ring.
        unsafe { ring.io().submitter().register_buf_ring_with_flags(entries as u64, ENTRIES, GROUP, 0) }?;
        kernel::Buffers::publish(&mut buffers);
        Ok(buffers)
    }

    /// The kernel took so many buffers.
    #[inline]
    pub fn taken(&mut self, count: u16) {
        debug_assert!(count <= self.posted);
        self.posted -= count;
    }

    /// The bytes of a lease.
    #[inline]
    pub fn bytes(&self, lease: Lease) -> &[u8] {
        self.pool.bytes(lease)
    }

    /// The pool they come from, and how many of it sessions hold.
    pub fn pool(&mut self) -> (&mut BufferPool, u16) {
        let leased = kernel::Buffers::leased(self);
        (&mut self.pool, leased)
    }

    /// Writes a free buffer into the next entry. The kernel sees it after `publish`.
    #[inline]
    fn post(&mut self, buffer: u16) {
        let address = self.pool.address(buffer) as u64;
        let slot = (self.tail & (ENTRIES - 1)) as usize;
        // SAFETY: `slot` is below the number of entries.
        let entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel does not read entries beyond the tail it was shown.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(BUFFER_LEN as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.posted += 1;
    }
}

impl kernel::Buffers for BufferRing {
    /// Posts free buffers up to the target, taking memory for more where none is free. To be called before entering
    /// the kernel.
    #[inline]
    fn publish(&mut self) {
        while self.posted < self.posted_target && kernel::Buffers::available(&self.pool) > KEPT {
            // Without memory, sessions wait for a release.
            let Some(buffer) = self.pool.take() else { break };
            self.post(buffer);
        }
        if self.tail != self.published {
            // SAFETY: `entries` is the start of the ring's mapping, where the kernel expects the tail.
            let tail = unsafe { BufRingEntry::tail(self.entries) };
            // SAFETY: the tail is an aligned u16 that the kernel only reads.
            let tail = unsafe { &*tail.cast::<std::sync::atomic::AtomicU16>() };
            tail.store(self.tail, std::sync::atomic::Ordering::Release);
            self.published = self.tail;
        }
    }

    /// The kernel ran dry: more buffers are posted from now on.
    fn ran_dry(&mut self) {
        self.posted_target = (self.posted_target * 2).min(ENTRIES);
    }

    /// Buffers the kernel may fill before it runs dry.
    #[inline]
    fn available(&self) -> u16 {
        self.posted
    }

    /// Buffers that sessions hold: all that there are, less those that are shown to the kernel or free.
    #[inline]
    fn leased(&self) -> u16 {
        self.pool.count() - self.posted - self.pool.free()
    }

    /// Whether sessions hold so many that each should hold fewer.
    #[inline]
    fn is_scarce(&self) -> bool {
        self.leased() > self.pool.plenty()
    }

    /// Whether sessions hold everything there can be.
    #[inline]
    fn is_exhausted(&self) -> bool {
        self.posted == 0 && kernel::Buffers::available(&self.pool) <= KEPT
    }

    /// Gives memory back that was not used lately; the kernel keeps what it was shown.
    fn trim(&mut self) {
        self.pool.trim();
    }

    /// Takes a buffer that the kernel was not shown.
    #[inline]
    fn take(&mut self) -> Option<u16> {
        self.pool.take()
    }

    /// The memory of a buffer that was taken, or filled.
    #[inline]
    fn space(&mut self, buffer: u16) -> &mut [u8; BUFFER_LEN] {
        self.pool.whole(buffer)
    }

    /// Takes a buffer back. The kernel sees it after `publish`.
    #[inline]
    fn release(&mut self, buffer: u16) {
        self.pool.put(buffer);
    }

    /// Moves the bytes of one buffer behind those of another.
    #[inline]
    fn append(&mut self, from: Lease, to: Lease) {
        self.pool.append(from, to);
    }
}

impl Drop for BufferRing {
    /// The worker drops its ring first, so the kernel no longer fills these.
    fn drop(&mut self) {
        unmap(self.entries.cast(), size_of::<BufRingEntry>() * ENTRIES as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Buffers as _;
    use crate::sys::buffers::BUFFERS_MAX;

    /// Leases as many as there can be, and gives them back.
    #[test]
    fn a_ring_whose_buffers_are_all_leased_says_so_and_is_filled_again() {
        let Some(ring) = crate::uring::wanted(Ring::new()) else { return };
        let mut buffers = BufferRing::new(&ring, u64::MAX).unwrap();
        let mut leased = Vec::new();
        while !buffers.is_exhausted() {
            // As the kernel takes the oldest one that is posted.
            for back in (1..=buffers.posted).rev() {
                let slot = buffers.tail.wrapping_sub(back) & (ENTRIES - 1);
                // SAFETY: `slot` is below the number of entries.
                let entry = unsafe { buffers.entries.add(slot as usize) };
                // SAFETY: the entry is initialised, and no kernel writes to entries.
                leased.push(unsafe { &*entry }.bid());
            }
            buffers.taken(buffers.posted);
            assert_eq!(buffers.is_scarce(), leased.len() > BUFFERS_MAX as usize / 2);
            buffers.publish();
        }
        // The worker has some for itself.
        let kept: Vec<u16> = std::iter::from_fn(|| buffers.take()).collect();
        assert_eq!(kept.len(), usize::from(KEPT));
        leased.extend(kept);
        leased.iter().for_each(|&buffer| buffers.release(buffer));
        buffers.publish();
        assert!(!buffers.is_scarce() && !buffers.is_exhausted());
        assert_eq!(buffers.posted, POSTED_AGAIN);
        leased.sort_unstable();
        leased.dedup();
        assert_eq!(leased.len(), BUFFERS_MAX as usize, "none is lost, none is there twice");
    }

    /// It was never told that it ran dry.
    const POSTED_AGAIN: u16 = BUFFERS_MIN;
}
