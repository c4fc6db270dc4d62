//! Receive buffers of a worker: one reservation of address space that all its sessions share.
//!
//! An idle session holds none. A filled buffer is known by a [`Lease`]. Address space for the most buffers there can
//! ever be is reserved once; memory is taken in blocks as buffers are needed, and given back when they have not been
//! used for a while. Which of the free buffers the kernel may fill is the driver's business: io_uring is shown some in
//! advance ([`uring::buffers`](crate::uring::buffers)), epoll takes one when a socket is readable.
//!
//! With the feature `paranoid`, a released buffer becomes inaccessible and another one takes its place. An operation
//! that still uses a released buffer then fails with EFAULT instead of corrupting a stream.

use std::io;

use crate::base::lease::{BUFFER_LEN, Lease};
use crate::kernel;
use crate::sys::system::page_bytes;

/// Fewest buffers that a worker may have, whatever its limit of bytes is. Their memory is taken at the start.
pub const BUFFERS_MIN: u16 = 256;
/// Half a GiB of buffers.
pub const BUFFERS_MAX: u16 = 32768;
/// Buffers that address space is opened for in one step.
const BLOCK: u16 = 16;
/// Spare buffers whose memory is kept, and buffers whose memory is given back in one call of `trim`.
const SPARE_KEPT: usize = 256;
/// So many at the most, as each costs a page fault when it is used again.
const TRIMMED_A_CALL: usize = 512;
/// Released buffers that the feature `paranoid` keeps inaccessible at the same time.
const AWAY: usize = 128;

/// The receive buffers of one worker.
pub struct BufferPool {
    /// Start of the reservation, of [`BUFFERS_MAX`] buffers.
    memory: *mut u8,
    /// Buffers of one page, on machines whose pages are larger than a buffer; otherwise 1.
    page_buffers: u16,
    /// Buffers that memory was taken for, and how many may there be.
    count: u16,
    /// Memory is never taken for more than this.
    count_max: u16,
    /// Free buffers. The last one in is the first one out: it is in the cache.
    spare: Vec<u16>,
    /// The fewest there were since the last `trim`.
    spare_min: usize,
    /// Free buffers whose memory was given back: the next use takes it again.
    returned: Vec<u16>,
    /// Buffers that were filled and that the worker does not know of.
    untold: u16,
    /// The kernel has refused memory since the last `trim`: until then no more is asked for.
    refused: bool,
    /// Released buffers that nothing can access, the oldest first.
    #[cfg(feature = "paranoid")]
    quarantine: std::collections::VecDeque<u16>,
}

impl BufferPool {
    /// Reserves the address space, and takes memory for the first [`BUFFERS_MIN`] buffers. There will be at most
    /// `bytes_max` bytes of them, but no fewer than the first ones.
    ///
    /// # Errors
    /// The kernel has no address space, or no memory.
    pub fn new(bytes_max: u64) -> io::Result<BufferPool> {
        // Those that are put away come on top of the fewest that sessions are served with.
        let fewest = BUFFERS_MIN + if cfg!(feature = "paranoid") { AWAY as u16 } else { 0 };
        let count_max = (bytes_max / BUFFER_LEN as u64).clamp(fewest.into(), BUFFERS_MAX.into()) as u16;
        let mut pool = BufferPool {
            memory: map(BUFFER_LEN * BUFFERS_MAX as usize, libc::PROT_NONE)?,
            page_buffers: (page_bytes() / BUFFER_LEN).max(1) as u16,
            count: 0,
            count_max,
            spare: Vec::new(),
            spare_min: 0,
            returned: Vec::new(),
            untold: 0,
            refused: false,
            #[cfg(feature = "paranoid")]
            quarantine: std::collections::VecDeque::new(),
        };
        while pool.count < BUFFERS_MIN {
            pool.grow()?;
        }
        // In the cache's order: the first one that is taken is the first in memory.
        pool.spare.reverse();
        // The first ones shall not cost the first sessions anything. What comes later is in the middle of a turn, and
        // its memory is taken as it is used.
        populate(pool.memory, BUFFER_LEN * BUFFERS_MIN as usize);
        Ok(pool)
    }

    /// Whether `count` buffers can be taken of which `leased` are in use already, without buffers becoming scarce. They
    /// are then there to be taken.
    pub fn has_spare(&mut self, count: u16, leased: u16) -> bool {
        if leased + count > self.count_max / 2 {
            return false;
        }
        while self.spare.len() + self.returned.len() < usize::from(count) {
            if self.grow().is_err() {
                return false;
            }
        }
        true
    }

    /// Takes a free buffer, with memory for another block where none is free. `None` at the limit, or if the kernel
    /// refuses memory.
    #[inline]
    pub fn take(&mut self) -> Option<u16> {
        let buffer = match self.spare.pop() {
            Some(buffer) => buffer,
            None => self.take_more()?,
        };
        self.spare_min = self.spare_min.min(self.spare.len());
        Some(buffer)
    }

    /// A buffer whose memory was given back, or one of a fresh block.
    #[cold]
    fn take_more(&mut self) -> Option<u16> {
        self.returned.pop().or_else(|| {
            self.grow().ok()?;
            self.spare.pop()
        })
    }

    /// Takes memory for another block. An error is the kernel's refusal of memory, or that the limit is reached.
    #[cold]
    fn grow(&mut self) -> io::Result<()> {
        if self.refused || self.count > self.count_max - BLOCK {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        let first = self.count;
        let opened = protect(self.address(first), BUFFER_LEN * BLOCK as usize, libc::PROT_READ | libc::PROT_WRITE);
        self.refused = opened.is_err();
        opened?;
        self.count += BLOCK;
        self.spare.extend(first..first + BLOCK);
        Ok(())
    }

    /// Buffers that memory was taken for and that are free.
    #[inline]
    pub fn free(&self) -> u16 {
        let free = self.spare.len() + self.returned.len();
        #[cfg(feature = "paranoid")]
        let free = free + self.quarantine.len();
        free as u16
    }

    /// Buffers that memory was taken for.
    #[inline]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Half of all buffers there can be: the most that sessions may hold before buffers are scarce. The other half is
    /// kept for sessions that hold nothing, so that each can be read from, if only to learn that it has left.
    #[inline]
    pub fn plenty(&self) -> u16 {
        self.count_max / 2
    }

    /// Whether there is none to be taken, and no more can be made.
    #[inline]
    pub fn has_none(&self) -> bool {
        self.spare.is_empty() && self.returned.is_empty() && self.count > self.count_max - BLOCK
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
    #[inline]
    pub fn space(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(buffer < self.count);
        // SAFETY: in bounds by the assertion; the kernel does not know of a buffer that was taken, and its owner has
        // not given it away.
        unsafe { std::slice::from_raw_parts_mut(self.address(buffer), len.min(BUFFER_LEN)) }
    }

    /// The memory of a buffer that was taken, or filled and told of.
    #[inline]
    pub fn whole(&mut self, buffer: u16) -> &mut [u8; BUFFER_LEN] {
        assert!(buffer < self.count);
        // SAFETY: in bounds by the assertion; the kernel does not write to a buffer that the worker has, and nothing of
        // it is sent meanwhile.
        unsafe { &mut *self.address(buffer).cast() }
    }

    /// Where bytes can be put into two buffers that were taken.
    #[inline]
    pub fn two_spaces(&mut self, first: u16, second: u16, in_second: usize) -> [&mut [u8]; 2] {
        assert!(first < self.count && second < self.count && first != second && in_second <= BUFFER_LEN);
        [(first, BUFFER_LEN), (second, in_second)].map(|(buffer, len)| {
            // SAFETY: in bounds and apart by the assertion; the kernel does not know of a buffer that was taken, and
            // its owner has not given it away.
            unsafe { std::slice::from_raw_parts_mut(self.address(buffer), len) }
        })
    }

    /// Where a buffer begins.
    #[inline]
    pub fn address(&self, buffer: u16) -> *mut u8 {
        self.memory.wrapping_add(buffer as usize * BUFFER_LEN)
    }

    /// A buffer that was taken is filled, and the worker will be told.
    #[inline]
    pub fn filled(&mut self) {
        self.untold += 1;
    }

    /// The worker is told of all that were filled.
    #[inline]
    pub fn told(&mut self) {
        self.untold = 0;
    }

    /// Takes a buffer back.
    #[inline]
    pub fn put(&mut self, buffer: u16) {
        debug_assert!(buffer < self.count);
        #[cfg(feature = "paranoid")]
        let Some(buffer) = self.exchange(buffer) else { return };
        self.spare.push(buffer);
    }

    /// Takes a buffer back that nothing was put into.
    #[inline]
    pub fn put_unused(&mut self, buffer: u16) {
        self.spare.push(buffer);
    }

    /// Copies the bytes of `from` behind those of `to`, which must have room, in another buffer.
    #[inline]
    pub fn append(&mut self, from: Lease, to: Lease) {
        assert!(from.buffer < self.count && from.end() <= BUFFER_LEN);
        assert!(to.buffer < self.count && to.end() + from.len as usize <= BUFFER_LEN);
        assert_ne!(from.buffer, to.buffer);
        let source = self.address(from.buffer).wrapping_add(from.start as usize);
        let target = self.address(to.buffer).wrapping_add(to.end());
        // SAFETY: both ranges are in bounds by the assertions, and in different buffers.
        unsafe { std::ptr::copy_nonoverlapping(source, target, from.len as usize) };
    }

    /// Gives memory back that was not used for a while: since the last call, at least so many buffers were spare. To be
    /// called about once per second; it does a part of the work each time.
    pub fn trim(&mut self) {
        let surplus = self.spare_min.saturating_sub(SPARE_KEPT).min(TRIMMED_A_CALL);
        for buffer in self.take_unused(surplus) {
            let address = self.memory.wrapping_add(buffer as usize * BUFFER_LEN);
            release_memory(address, BUFFER_LEN * usize::from(self.page_buffers));
            self.returned.extend(buffer..buffer + self.page_buffers);
        }
        self.spare_min = self.spare.len();
        self.refused = false;
    }

    /// Takes up to `count` buffers that are spare, in whole pages, of each the first one: the kernel gives a page up
    /// with whatever else is in it.
    fn take_unused(&mut self, count: usize) -> Vec<u16> {
        if self.page_buffers == 1 {
            // From the bottom, where those lie that have not been used for the longest time.
            return self.spare.drain(..count).collect();
        }
        let of_page = usize::from(self.page_buffers);
        if count < of_page {
            return Vec::new();
        }
        // Low ones are used first, so that pages become free at the other end.
        self.spare.sort_unstable_by(|one, other| other.cmp(one));
        let (mut pages, mut kept) = (Vec::new(), Vec::with_capacity(self.spare.len()));
        for page in self.spare.chunk_by(|one, next| one / self.page_buffers == next / self.page_buffers) {
            match page {
                [.., first] if page.len() == of_page && (pages.len() + 1) * of_page <= count => pages.push(*first),
                _ => kept.extend_from_slice(page),
            }
        }
        self.spare = kept;
        pages
    }

    /// Puts `buffer` away, inaccessible, and returns the one that has been away for long enough.
    #[cfg(feature = "paranoid")]
    fn exchange(&mut self, buffer: u16) -> Option<u16> {
        let hidden = protect(self.address(buffer), BUFFER_LEN, libc::PROT_NONE);
        debug_assert!(hidden.is_ok());
        self.quarantine.push_back(buffer);
        let oldest = if self.quarantine.len() > AWAY { self.quarantine.pop_front()? } else { return None };
        let shown = protect(self.address(oldest), BUFFER_LEN, libc::PROT_READ | libc::PROT_WRITE);
        debug_assert!(shown.is_ok());
        Some(oldest)
    }
}

/// Of a driver that takes each buffer when it needs one: all free buffers can be filled.
impl kernel::Buffers for BufferPool {
    /// Nothing is shown in advance.
    #[inline]
    fn publish(&mut self) {}

    /// Free buffers, with those that memory can still be taken for.
    #[inline]
    fn available(&self) -> u16 {
        let unmade = if self.refused { 0 } else { (self.count_max - self.count) / BLOCK * BLOCK };
        (self.spare.len() + self.returned.len()) as u16 + unmade
    }

    /// Those that sessions hold: all but the free ones and those that the worker was not told of.
    #[inline]
    fn leased(&self) -> u16 {
        self.count - self.free() - self.untold
    }

    #[inline]
    fn is_scarce(&self) -> bool {
        kernel::Buffers::leased(self) > self.plenty()
    }

    #[inline]
    fn is_exhausted(&self) -> bool {
        self.has_none()
    }

    /// There is no posted number that could be raised.
    #[inline]
    fn ran_dry(&mut self) {}

    #[inline]
    fn take(&mut self) -> Option<u16> {
        BufferPool::take(self)
    }

    #[inline]
    fn space(&mut self, buffer: u16) -> &mut [u8; BUFFER_LEN] {
        self.whole(buffer)
    }

    #[inline]
    fn release(&mut self, buffer: u16) {
        self.put(buffer);
    }

    #[inline]
    fn append(&mut self, from: Lease, to: Lease) {
        BufferPool::append(self, from, to);
    }

    fn trim(&mut self) {
        BufferPool::trim(self);
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        unmap(self.memory, BUFFER_LEN * BUFFERS_MAX as usize);
    }
}

/// Maps fresh memory of `len` bytes, all zero.
pub fn map(len: usize, protection: i32) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}

/// Gives a mapping of [`map`] back that is not used any more.
pub fn unmap(address: *mut u8, len: usize) {
    // SAFETY: only called by the owner of the mapping, with its length, when it goes.
    unsafe { libc::munmap(address.cast(), len) };
}

/// mprotect(2): opens a part of the reservation, or closes it.
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
    // SAFETY: only called on buffers that are free.
    unsafe { libc::madvise(address.cast(), len, libc::MADV_DONTNEED) };
}

/// Takes the memory now rather than at the first byte of a session; a refusal (before 5.14) is no error.
fn populate(address: *mut u8, len: usize) {
    // SAFETY: only called on parts of our own mapping, which it leaves as they are.
    unsafe { libc::madvise(address.cast(), len, libc::MADV_POPULATE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Buffers as _;

    #[test]
    fn after_a_peak_buffers_are_plenty_again_and_their_memory_goes_back() {
        let mut pool = BufferPool::new(u64::MAX).unwrap();
        let taken: Vec<u16> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((taken.len(), pool.available()), (BUFFERS_MAX as usize, 0));
        assert!(pool.is_scarce() && pool.is_exhausted());
        taken.iter().for_each(|&buffer| pool.put(buffer));
        assert!(!pool.is_scarce() && !pool.is_exhausted());
        for _ in 0..2 + BUFFERS_MAX as usize / TRIMMED_A_CALL {
            pool.trim();
        }
        let kept = pool.spare.len();
        assert!(kept <= SPARE_KEPT, "{kept} spare buffers keep their memory");
        let mut found: Vec<u16> = std::iter::from_fn(|| pool.take()).collect();
        found.sort_unstable();
        found.dedup();
        #[cfg(not(feature = "paranoid"))]
        assert_eq!(found.len(), BUFFERS_MAX as usize, "none is lost, none is there twice");
        #[cfg(feature = "paranoid")]
        assert_eq!(found.len() + pool.quarantine.len(), BUFFERS_MAX as usize, "none is lost, none is there twice");
    }

    /// With pages of 64 KiB, four buffers share one.
    #[test]
    fn memory_that_goes_back_is_never_that_of_a_buffer_in_use() {
        let mut pool = BufferPool::new(u64::MAX).unwrap();
        pool.page_buffers = 4;
        let taken: Vec<u16> = std::iter::from_fn(|| pool.take()).collect();
        let is_used = |buffer: u16| buffer % 8 == 5;
        taken.iter().for_each(|&buffer| pool.space(buffer, 1)[0] = 1);
        taken.iter().filter(|&&buffer| !is_used(buffer)).for_each(|&buffer| pool.put(buffer));
        for _ in 0..2 + BUFFERS_MAX as usize / TRIMMED_A_CALL {
            pool.trim();
        }
        assert!(!pool.returned.is_empty());
        let used: Vec<u16> = taken.into_iter().filter(|&buffer| is_used(buffer)).collect();
        assert!(used.iter().all(|&buffer| pool.space(buffer, 1)[0] == 1));
        assert!(pool.returned.iter().all(|buffer| !used.iter().any(|used| used / 4 == buffer / 4)));
        let free = pool.spare.len() + pool.returned.len();
        #[cfg(not(feature = "paranoid"))]
        assert_eq!(free + used.len(), BUFFERS_MAX as usize, "none is lost, none is there twice");
        #[cfg(feature = "paranoid")]
        assert_eq!(free + used.len() + pool.quarantine.len(), BUFFERS_MAX as usize);
    }

    #[test]
    fn a_pool_has_as_many_buffers_as_it_says() {
        for bytes_max in [0, 5 << 20, 5_000_000, u64::MAX] {
            let mut pool = BufferPool::new(bytes_max).unwrap();
            let said = usize::from(pool.available());
            assert_eq!(std::iter::from_fn(|| pool.take()).count(), said, "of {bytes_max} bytes");
        }
    }
}
