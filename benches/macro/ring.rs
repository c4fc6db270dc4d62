//! The load generator's ring: a thin cover over `io_uring` for buffers that live until the process ends.
//!
//! One process makes one run, so memory that the kernel may still hold is simply never freed; that is what makes the
//! safe functions here safe.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

/// Group number of the one ring of provided buffers.
const GROUP: u16 = 0;

/// What a completion says.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What the operation was pushed with.
    pub token: u64,
    /// Bytes, a descriptor, or a negative errno.
    pub result: i32,
    flags: u32,
}

impl Event {
    /// True exactly when a multishot operation goes on.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that was filled.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// Page-aligned memory that is never freed.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: *mut u8,
    length: usize,
}

impl Span {
    /// `length` bytes, zeroed.
    pub fn leak(length: usize) -> Span {
        let layout = std::alloc::Layout::from_size_align(length.max(1), 4096).unwrap_or_else(|_| unreachable!());
        // SAFETY: the layout has a size above 0.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!start.is_null(), "the load generator is out of memory");
        Span { start, length }
    }

    /// The bytes from `at`, `length` of them.
    pub fn part(self, at: usize, length: usize) -> Span {
        assert!(at + length <= self.length);
        // SAFETY: inside the allocation, by the line above.
        Span { start: unsafe { self.start.add(at) }, length }
    }

    /// Its address, for entries that this module does not make.
    pub fn start(self) -> *mut u8 {
        self.start
    }

    /// What stands there. The caller has no operation in flight that writes here.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated, initialised, never freed.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// The same to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated, initialised, never freed; this program has one thread, and no operation is in flight here.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Copies `data` to `at`.
    pub fn write(self, at: usize, data: &[u8]) {
        let to = self.part(at, data.len());
        // SAFETY: `to` lies inside one allocation; `data` is either elsewhere or, at worst, the same bytes.
        unsafe { std::ptr::copy(data.as_ptr(), to.start, data.len()) };
    }
}

/// A ring and, if asked for, its provided buffers.
pub struct Ring {
    inner: IoUring,
    buffers: Option<Buffers>,
}

struct Buffers {
    entries: *mut BufRingEntry,
    memory: Span,
    count: u16,
    size: usize,
    tail: u16,
}

impl Ring {
    /// A ring for the calling thread.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(32768);
        Ok(Ring { inner: builder.build(4096)?, buffers: None })
    }

    /// Gives the ring `count` (a power of two) buffers of `size` bytes for multishot receives.
    pub fn provide_buffers(&mut self, count: u16, size: usize) -> io::Result<()> {
        let entries = Span::leak(usize::from(count) * size_of::<BufRingEntry>()).start.cast::<BufRingEntry>();
        // SAFETY: `entries` is page-aligned, holds `count` entries and is never freed.
        unsafe { self.inner.submitter().register_buf_ring_with_flags(entries as u64, count, GROUP, 0) }?;
        let memory = Span::leak(usize::from(count) * size);
        self.buffers = Some(Buffers { entries, memory, count, size, tail: 0 });
        (0..count).for_each(|buffer| self.release(buffer));
        Ok(())
    }

    /// The first `length` bytes of a provided buffer that the kernel has filled.
    pub fn filled(&self, buffer: u16, length: usize) -> Span {
        let buffers = self.buffers.as_ref().unwrap_or_else(|| unreachable!("no buffers were provided"));
        buffers.memory.part(usize::from(buffer) * buffers.size, length)
    }

    /// Gives a buffer back to the kernel.
    pub fn release(&mut self, buffer: u16) {
        let Some(buffers) = self.buffers.as_mut() else { return };
        let slot = usize::from(buffers.tail & (buffers.count - 1));
        let address = buffers.memory.part(usize::from(buffer) * buffers.size, buffers.size).start;
        // SAFETY: `slot` is below `count`.
        let entry = unsafe { buffers.entries.add(slot) };
        // SAFETY: the entry is ours until the tail moves past it; nothing else holds a reference to it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address as u64);
        entry.set_len(buffers.size as u32);
        entry.set_bid(buffer);
        buffers.tail = buffers.tail.wrapping_add(1);
        // SAFETY: `entries` is the start of the ring.
        let tail = unsafe { BufRingEntry::tail(buffers.entries) }.cast::<AtomicU16>();
        // SAFETY: the tail is an aligned u16 inside the ring, shared with the kernel, so only touched atomically.
        unsafe { &*tail }.store(buffers.tail, Ordering::Release);
    }

    /// Sends all of `data`; with `quiet` only a failure completes.
    pub fn send(&mut self, token: u64, socket: RawFd, data: Span, wait_all: bool, quiet: bool) {
        let flags = libc::MSG_NOSIGNAL | if wait_all { libc::MSG_WAITALL } else { 0 };
        let entry = opcode::Send::new(Fd(socket), data.start, data.length as u32).flags(flags).build();
        self.push(if quiet { entry.flags(Flags::SKIP_SUCCESS) } else { entry }, token);
    }

    /// Fills `into` with what arrives.
    pub fn receive(&mut self, token: u64, socket: RawFd, into: Span, flags: i32) {
        self.push(receive_entry(socket, into, flags, 0), token);
    }

    /// Receives into provided buffers until the stream ends.
    pub fn receive_multishot(&mut self, token: u64, socket: RawFd) {
        self.push(opcode::RecvMulti::new(Fd(socket), GROUP).build(), token);
    }

    /// Pushes an entry. Every buffer that it names is a [`Span`].
    pub fn push(&mut self, entry: Entry, token: u64) {
        let entry = entry.user_data(token);
        loop {
            // SAFETY: entries are made from descriptors and spans, and spans are never freed.
            if unsafe { self.inner.submission().push(&entry) }.is_ok() {
                return;
            }
            self.inner.submit().unwrap_or_else(|error| panic!("io_uring submit: {error}"));
        }
    }

    /// Submits, waits up to `wait_ns` for one completion, and moves what completed into `events`.
    pub fn turn(&mut self, wait_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        let span = Timespec::new().sec(wait_ns / 1_000_000_000).nsec((wait_ns % 1_000_000_000) as u32);
        // A want of 1 sets GETEVENTS, without which deferred task work does not run.
        match self.inner.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span)) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        events.clear();
        events.extend(self.inner.completion().map(|done| Event {
            token: done.user_data(),
            result: done.result(),
            flags: done.flags(),
        }));
        Ok(())
    }
}

/// An entry that receives into `into`; `flags` are recv(2)'s, `ring_flags` the ring's own.
pub fn receive_entry(socket: RawFd, into: Span, flags: i32, ring_flags: u16) -> Entry {
    opcode::Recv::new(Fd(socket), into.start, into.length as u32).flags(flags).ioprio(ring_flags).build()
}

/// An entry that sends all of `data`.
pub fn send_entry(socket: RawFd, data: Span) -> Entry {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    opcode::Send::new(Fd(socket), data.start, data.length as u32).flags(flags).build()
}
