//! The receive buffers of a worker: one ring of provided buffers that all its sessions share.
//!
//! The kernel takes a buffer when it has bytes for it, so an idle session holds none. A filled buffer is known by a
//! [`Lease`]; releasing it gives it back to the kernel. Address space for the most buffers there can ever be is
//! reserved once, memory is taken in blocks when the ring runs dry: running dry costs a factor of 4 to 10
//! (docs/performance.md), unused memory costs nothing.
//!
//! With the feature `paranoid`, a released buffer is made inaccessible and another one is given to the kernel in its
//! place later. An operation still in flight on a released buffer then fails with EFAULT instead of corrupting a
//! stream.

use std::io;

use io_uring::types::BufRingEntry;

use super::ring::Ring;
use crate::base::lease::{BUFFER_LEN, Lease};
use crate::kernel;

/// Number of the one buffer group.
pub const GROUP: u16 = 1;
/// Entries of the ring: the most buffers that can be posted at once.
const ENTRIES: u16 = 1024;
/// Buffers posted at first; doubled whenever the kernel runs dry within one turn.
const POSTED_MIN: u16 = 256;
/// Buffers that address space is opened for at once.
const BLOCK: u16 = 16;
/// Spare buffers whose memory is kept, and buffers whose memory is given back at once.
const SPARE_KEPT: usize = 256;
const TRIMMED_AT_ONCE: usize = 512;
/// Half a GiB of buffers.
const BUFFERS_MAX: u16 = 32768;

/// The receive buffers of one worker, which the kernel fills.
pub struct BufferRing {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    published: u16,
    /// Buffers that memory was taken for, and how many may there be.
    count: u16,
    count_max: u16,
    /// Buffers the kernel may fill, and how many there should be.
    posted: u16,
    posted_target: u16,
    /// Free buffers that are not posted. The last one in is the first one out: it is in the cache.
    spare: Vec<u16>,
    /// The fewest there were since the last [`BufferRing::trim`].
    spare_min: usize,
    /// Free buffers that are not posted and whose memory was given back: the next use takes it again.
    returned: Vec<u16>,
    #[cfg(feature = "paranoid")]
    quarantine: std::collections::VecDeque<u16>,
}

impl BufferRing {
    /// Maps the ring and the first buffers, and registers them.
    /// There will be at most so many bytes of them, but no fewer than the first ones.
    pub fn new(ring: &Ring, bytes_max: u64) -> io::Result<BufferRing> {
        let entries = map(size_of::<BufRingEntry>() * ENTRIES as usize, libc::PROT_READ | libc::PROT_WRITE)?;
        let count_max = (bytes_max / BUFFER_LEN as u64).clamp(POSTED_MIN.into(), BUFFERS_MAX.into()) as u16;
        let memory = map(BUFFER_LEN * BUFFERS_MAX as usize, libc::PROT_NONE)?;
        let mut buffers = BufferRing {
            entries: entries.cast(),
            memory,
            tail: 0,
            published: 0,
            count: 0,
            count_max,
            posted: 0,
            posted_target: POSTED_MIN,
            spare: Vec::new(),
            spare_min: 0,
            returned: Vec::new(),
            #[cfg(feature = "paranoid")]
            quarantine: std::collections::VecDeque::new(),
        };
        // SAFETY: the mapping is as long as the number of entries says, page aligned, and lives as long as this,
        // which the worker drops after its ring.
        unsafe { ring.io().submitter().register_buf_ring_with_flags(entries as u64, ENTRIES, GROUP, 0) }?;
        while buffers.count < POSTED_MIN {
            buffers.grow()?;
        }
        // The first ones shall not cost the first sessions anything. What comes later is in the middle of a turn, and
        // its memory is taken as it is used.
        populate(buffers.memory, BUFFER_LEN * POSTED_MIN as usize);
        kernel::Buffers::publish(&mut buffers);
        Ok(buffers)
    }

    /// The kernel took so many buffers.
    #[inline]
    pub fn taken(&mut self, count: u16) {
        debug_assert!(count <= self.posted);
        self.posted -= count;
    }

    /// Whether so many buffers could be taken without buffers becoming scarce. They are then there to be taken.
    pub fn has_spare(&mut self, count: u16) -> bool {
        if kernel::Buffers::leased(self) + count > self.count_max / 2 {
            return false;
        }
        while self.spare.len() + self.returned.len() < usize::from(count) {
            if self.grow().is_err() {
                return false;
            }
        }
        true
    }

    /// Takes a buffer that the kernel is not to fill.
    pub fn take(&mut self) -> Option<u16> {
        let buffer = self.spare.pop().or_else(|| self.returned.pop());
        self.spare_min = self.spare_min.min(self.spare.len());
        buffer
    }

    /// Takes memory for another block. An error is the kernel's refusal of memory, or that the limit is reached.
    #[cold]
    fn grow(&mut self) -> io::Result<()> {
        if self.count > self.count_max - BLOCK {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        let first = self.count;
        protect(self.address(first), BUFFER_LEN * BLOCK as usize, libc::PROT_READ | libc::PROT_WRITE)?;
        self.count += BLOCK;
        self.spare.extend(first..first + BLOCK);
        Ok(())
    }

    /// The bytes of a lease.
    #[inline]
    pub fn bytes(&self, lease: Lease) -> &[u8] {
        assert!(lease.buffer < self.count && lease.end() <= BUFFER_LEN);
        let first = self.address(lease.buffer).wrapping_add(lease.start as usize);
        // SAFETY: in bounds by the assertion; the kernel does not write to a buffer that is leased.
        unsafe { std::slice::from_raw_parts(first, lease.len as usize) }
    }

    /// Where up to `len` bytes can be put into a buffer that was taken.
    pub fn space(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(buffer < self.count);
        // SAFETY: in bounds by the assertion; the kernel does not know of a buffer that is not posted, and whoever took
        // it has not given it away.
        unsafe { std::slice::from_raw_parts_mut(self.address(buffer), len.min(BUFFER_LEN)) }
    }

    #[inline]
    fn address(&self, buffer: u16) -> *mut u8 {
        self.memory.wrapping_add(buffer as usize * BUFFER_LEN)
    }

    #[inline]
    fn post(&mut self, buffer: u16) {
        let address = self.address(buffer) as u64;
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

    /// Puts `buffer` away, inaccessible, and returns the one that has been away for long enough.
    #[cfg(feature = "paranoid")]
    fn exchange(&mut self, buffer: u16) -> Option<u16> {
        const AWAY: usize = 128;
        let hidden = protect(self.address(buffer), BUFFER_LEN, libc::PROT_NONE);
        debug_assert!(hidden.is_ok());
        self.quarantine.push_back(buffer);
        let oldest = if self.quarantine.len() > AWAY { self.quarantine.pop_front()? } else { return None };
        let shown = protect(self.address(oldest), BUFFER_LEN, libc::PROT_READ | libc::PROT_WRITE);
        debug_assert!(shown.is_ok());
        Some(oldest)
    }
}

impl kernel::Buffers for BufferRing {
    /// Posts free buffers up to the target, taking memory for more where none is free. To be called before entering
    /// the kernel.
    #[inline]
    fn publish(&mut self) {
        while self.posted < self.posted_target {
            match self.spare.pop().or_else(|| self.returned.pop()) {
                Some(buffer) => self.post(buffer),
                // Without memory, sessions wait for a release.
                None if self.grow().is_err() => break,
                None => {}
            }
        }
        self.spare_min = self.spare_min.min(self.spare.len());
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

    #[inline]
    fn leased(&self) -> u16 {
        let free = self.posted + (self.spare.len() + self.returned.len()) as u16;
        #[cfg(feature = "paranoid")]
        let free = free + self.quarantine.len() as u16;
        self.count - free
    }

    /// Whether so much is leased that sessions should hold less each: half of all there can be. The other half is kept
    /// for those that hold nothing, so that each can be read from, if only to learn that it has left.
    #[inline]
    fn is_scarce(&self) -> bool {
        self.leased() > self.count_max / 2
    }

    /// Whether sessions hold everything there can be.
    #[inline]
    fn is_exhausted(&self) -> bool {
        self.posted == 0 && self.spare.is_empty() && self.returned.is_empty() && self.count > self.count_max - BLOCK
    }

    /// Gives memory back that was not used for a while: since the last call, at least so many buffers were spare. To be
    /// called about once a second; it does a part of the work each time.
    fn trim(&mut self) {
        let surplus = self.spare_min.saturating_sub(SPARE_KEPT).min(TRIMMED_AT_ONCE);
        // From the bottom, where those lie that have not been used for the longest time.
        for buffer in self.spare.drain(..surplus) {
            let address = self.memory.wrapping_add(buffer as usize * BUFFER_LEN);
            release_memory(address, BUFFER_LEN);
            self.returned.push(buffer);
        }
        self.spare_min = self.spare.len();
    }

    /// Takes a buffer back. The kernel sees it after `publish`.
    #[inline]
    fn release(&mut self, buffer: u16) {
        debug_assert!(buffer < self.count);
        #[cfg(feature = "paranoid")]
        let Some(buffer) = self.exchange(buffer) else { return };
        self.spare.push(buffer);
    }

    /// Copies the bytes of `from` behind those of `to`, which must have room, in another buffer.
    #[inline]
    fn append(&mut self, from: Lease, to: Lease) {
        assert!(from.buffer < self.count && from.end() <= BUFFER_LEN);
        assert!(to.buffer < self.count && to.end() + from.len as usize <= BUFFER_LEN);
        assert_ne!(from.buffer, to.buffer);
        let source = self.address(from.buffer).wrapping_add(from.start as usize);
        let target = self.address(to.buffer).wrapping_add(to.end());
        // SAFETY: both ranges are in bounds by the assertions, and in different buffers.
        unsafe { std::ptr::copy_nonoverlapping(source, target, from.len as usize) };
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and the ring that used it is gone.
        unsafe { libc::munmap(self.entries.cast(), size_of::<BufRingEntry>() * ENTRIES as usize) };
        // SAFETY: as above.
        unsafe { libc::munmap(self.memory.cast(), BUFFER_LEN * BUFFERS_MAX as usize) };
    }
}

fn map(len: usize, protection: i32) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}

fn protect(address: *mut u8, len: usize, protection: i32) -> io::Result<()> {
    // SAFETY: only called on parts of our own mapping.
    if unsafe { libc::mprotect(address.cast(), len, protection) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the memory back; the next use finds zeros. A refusal costs memory and nothing else.
fn release_memory(address: *mut u8, len: usize) {
    // SAFETY: only called on buffers that nobody holds.
    unsafe { libc::madvise(address.cast(), len, libc::MADV_DONTNEED) };
}

/// Takes the memory now rather than at the first byte of a session; a refusal is no error.
fn populate(address: *mut u8, len: usize) {
    // SAFETY: only called on parts of our own mapping, which it leaves as they are.
    unsafe { libc::madvise(address.cast(), len, libc::MADV_POPULATE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Buffers as _;

    /// Leases as many as there can be, and gives them back.
    #[test]
    fn after_a_peak_buffers_are_plenty_again_and_their_memory_goes_back() {
        let ring = match Ring::new() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => return,
            ring => ring.unwrap(),
        };
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
        assert_eq!(leased.len(), BUFFERS_MAX as usize);
        leased.iter().for_each(|&buffer| buffers.release(buffer));
        assert!(!buffers.is_scarce() && !buffers.is_exhausted());
        for _ in 0..2 + BUFFERS_MAX as usize / TRIMMED_AT_ONCE {
            buffers.publish();
            buffers.trim();
        }
        let kept = buffers.spare.len();
        assert!(kept <= SPARE_KEPT, "{kept} spare buffers keep their memory");
        let mut found: Vec<u16> = buffers.spare.iter().chain(&buffers.returned).copied().collect();
        found.sort_unstable();
        found.dedup();
        #[cfg(not(feature = "paranoid"))]
        assert_eq!(found.len() + buffers.posted as usize, BUFFERS_MAX as usize, "none is lost, none is there twice");
    }
}
