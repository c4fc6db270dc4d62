//! One ring: set-up with the newest flags the kernel takes, submission, waiting.

use std::io;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::Timespec;
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

use crate::base::address::Address;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Completion, Fd, Wait};
use crate::sys::socket;

/// Operations that are submitted together; more are submitted in between.
const SQ_ENTRIES: u32 = 4096;
/// Completions that wait to be read. If there are more, the kernel keeps them in a list (IORING_FEAT_NODROP).
const CQ_ENTRIES: u32 = 65536;

/// Attempts to make a ring while there is no memory for it, and the pause between two.
const ATTEMPTS: u32 = 15;
/// With the attempts, 0.3 seconds in all.
const PAUSE: Duration = Duration::from_millis(20);

/// What may be submitted; register operations are all refused.
const ALLOWED: [u8; 8] = [
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::PollAdd::CODE,
    opcode::Connect::CODE,
    opcode::Accept::CODE,
    opcode::Close::CODE,
    opcode::AsyncCancel::CODE,
    opcode::MsgRingData::CODE,
];

/// Attempts to make room in a full submission queue. The kernel takes everything at the first, unless it has no memory.
const PUSHES_MAX: u32 = 10_000;

/// IORING_ENTER_GETEVENTS: waits for completions, and runs what was deferred to this thread.
const ENTER_GETEVENTS: u32 = 1;
/// IORING_ENTER_EXT_ARG (Linux 5.11): the last argument is [`GetEventsArg`], with a time-out.
const ENTER_EXT_ARG: u32 = 8;
/// IORING_ENTER_REGISTERED_RING (Linux 5.18): `enter_fd` is an index.
const ENTER_REGISTERED_RING: u32 = 16;
/// IORING_ENTER_NO_IOWAIT (Linux 6.15): a worker that waits does not count as one that waits for a disk.
const ENTER_NO_IOWAIT: u32 = 128;
/// IORING_REGISTER_RING_FDS (Linux 5.18).
const REGISTER_RING_FDS: libc::c_uint = 20;

/// One io_uring, entered only by the thread that made it.
pub struct Ring {
    /// The queues that are shared with the kernel.
    io: IoUring,
    /// What enter is called on: the ring's descriptor, or its index when it is registered.
    enter_fd: i32,
    /// Flags of every enter: what this kernel knows of the above.
    enter_flags: u32,
    /// Why the ring cannot be entered any more, if that was found out where no caller could be told.
    failed: Option<io::Error>,
    /// Where connects go that the kernel may not have seen yet: it copies an address when it takes the operation.
    #[expect(clippy::vec_box, reason = "the kernel has been told where each one is")]
    addresses: Vec<Box<SockAddr>>,
    /// Sends whose success is not answered: see [`Ring::send`](super::op).
    pub(super) quiet: Vec<(Token, u32)>,
}

impl Ring {
    /// Sets up a ring, without the newest flags where the kernel refuses them. Must be called on the thread that will
    /// use it (SINGLE_ISSUER). Nothing can be submitted before [`Ring::enable`]; what must be registered is registered
    /// until then.
    pub fn new() -> io::Result<Ring> {
        let io = match build_patiently(true) {
            // NO_SQARRAY came with 6.6.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build_patiently(false)?,
            other => other?,
        };
        // A tripwire rather than a limit: nothing we submit should ever need a kernel worker thread.
        let _ = io.submitter().register_iowq_max_workers(&mut [1, 1]);
        let mut enter_flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if io.params().is_feature_no_iowait() {
            enter_flags |= ENTER_NO_IOWAIT;
        }
        let mut enter_fd = fd_of(&io);
        if let Some(index) = register_ring_fd(enter_fd) {
            enter_fd = index;
            enter_flags |= ENTER_REGISTERED_RING;
        }
        Ok(Ring { io, enter_fd, enter_flags, failed: None, addresses: Vec::new(), quiet: Vec::new() })
    }

    /// Opens the ring for the operations of [`op`](super::op) and for nothing else, for as long as it lives: an
    /// attacker that takes over this process through it can open no file, start no program and listen nowhere. System
    /// call filters do not see what goes through a ring, so this is the only place where that can be said.
    pub fn enable(&self) -> io::Result<()> {
        let operations = ALLOWED.iter().map(|&operation| Restriction::sqe_op(operation));
        let flags = squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
        let mut all: Vec<Restriction> = operations.chain([Restriction::sqe_flags_allowed(flags.bits())]).collect();
        let submitter = self.io.submitter();
        submitter.register_restrictions(&mut all)?;
        submitter.register_enable_rings()
    }

    /// The ring's descriptor, for messages from other rings.
    pub fn fd(&self) -> Fd {
        Fd(fd_of(&self.io))
    }

    /// For registering the buffers.
    pub(super) fn io(&self) -> &IoUring {
        &self.io
    }

    /// Queues an operation for the next [`Ring::enter`]; enters the kernel itself when the queue is full.
    #[inline]
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        for _ in 0..PUSHES_MAX {
            // SAFETY: entries are made by `op` only, whose builders name memory that outlives the operation.
            if unsafe { self.io.submission().push(entry) }.is_ok() {
                return;
            }
            if let Err(error) = self.enter(Wait::No) {
                self.failed = Some(error);
                return;
            }
        }
        self.failed = Some(io::Error::other("the kernel takes no operation from a full submission queue"));
    }

    /// Submits what is queued, lets the kernel run its deferred work and waits as told.
    ///
    /// GETEVENTS is always passed: without it deferred work is not run, and a worker with local work to do would
    /// starve every completion.
    ///
    /// # Errors
    /// The ring is of no use any more. What is short-lived (a signal, a lack of memory) is no error.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let to_submit = self.io.submission().len() as u32;
        let (want, timeout) = match wait {
            Wait::No => (0, None),
            Wait::Forever => (1, None),
            Wait::For(ns) => (1, Some(Timespec::new().sec(ns / 1_000_000_000).nsec((ns % 1_000_000_000) as u32))),
        };
        let timeout_address = timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout) as u64);
        let argument = GetEventsArg { sigmask: 0, sigmask_size: 0, min_wait_us: 0, timeout_address };
        // SAFETY: the ring is ours, and `argument` and `timeout` live until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                want,
                self.enter_flags,
                &raw const argument,
                size_of::<GetEventsArg>(),
            )
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Time passed, a signal came, or completions must be taken first: the caller's next step anyway.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        }
    }

    /// Whether an operation waits for the next [`Ring::enter`].
    #[inline]
    pub fn has_queued(&mut self) -> bool {
        !self.io.submission().is_empty()
    }

    /// Moves everything completed to `out`, in order; sends that were quiet come first. How many buffers were filled.
    #[inline]
    pub fn completions(&mut self, out: &mut Vec<Completion>) -> u16 {
        let first = out.len();
        // While the kernel has not taken everything, nothing is known of those that are silent.
        if !self.quiet.is_empty() && self.io.submission().is_empty() {
            let done =
                |(token, len)| Completion { token, result: len as i32, more: false, nonempty: false, buffer: None };
            out.extend(self.quiet.drain(..).map(done));
        }
        let (quiet, mut filled) = (first..out.len(), 0);
        for entry in self.io.completion() {
            let Some(token) = Token::unpack(entry.user_data()) else { continue };
            let (result, flags) = (entry.result(), entry.flags());
            let is_send = matches!(token.operation, Operation::SendClient | Operation::SendBackend);
            if is_send && let Some(loud) = out[quiet.clone()].iter_mut().find(|done| done.token == token) {
                // Not all of it went, or nothing.
                loud.result = result;
                continue;
            }
            if is_send {
                self.quiet.retain(|&(other, _)| other != token);
            }
            let (more, nonempty) = (cqueue::more(flags), cqueue::sock_nonempty(flags));
            let buffer = cqueue::buffer_select(flags);
            filled += u16::from(buffer.is_some());
            out.push(Completion { token, result, more, nonempty, buffer });
        }
        filled
    }

    /// Keeps an address for the kernel until it has taken every operation that was queued.
    pub(super) fn keep(&mut self, address: &Address) -> io::Result<&SockAddr> {
        if self.io.submission().is_empty() {
            self.addresses.clear();
        }
        self.addresses.push(Box::new(socket::sockaddr(address)?));
        Ok(&self.addresses[self.addresses.len() - 1])
    }
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEventsArg {
    /// No mask: signals are control's business.
    sigmask: u64,
    /// Bytes of a mask, in any case 0.
    sigmask_size: u32,
    /// After so many microseconds one completion is enough (Linux 6.12); 0 here.
    min_wait_us: u32,
    /// Address of a `struct __kernel_timespec`; 0 waits without end.
    timeout_address: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct ResourceUpdate {
    /// `u32::MAX` asks for any index; the kernel writes the one that it gave.
    offset: u32,
    /// Must be 0.
    reserved: u32,
    /// The descriptor to register.
    data: u64,
}

/// Where most memory is page cache, the kernel may refuse a ring for a moment although there is memory: it takes the
/// pages in bulk, which does not wait for any to be reclaimed (`io_region_allocate_pages`, seen on 6.18).
fn build_patiently(no_sqarray: bool) -> io::Result<IoUring> {
    for _ in 0..ATTEMPTS {
        match build(no_sqarray) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    build(no_sqarray)
}

/// A ring for one thread whose work is done when it enters (SINGLE_ISSUER, DEFER_TASKRUN: Linux 6.1), disabled until it
/// is restricted.
fn build(no_sqarray: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp().setup_cqsize(CQ_ENTRIES);
    builder.setup_r_disabled();
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.dontfork();
    builder.build(SQ_ENTRIES)
}

/// Its descriptor.
fn fd_of(io: &IoUring) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(io)
}

/// Registers the ring's descriptor with the calling thread, which saves a reference count an enter. `None` where the
/// kernel cannot (before 5.18).
fn register_ring_fd(fd: i32) -> Option<i32> {
    let mut update = ResourceUpdate { offset: u32::MAX, reserved: 0, data: fd as u64 };
    // SAFETY: `update` is one `io_uring_rsrc_update` and lives until the call returns.
    let registered =
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_RING_FDS, &raw mut update, 1u32) };
    (registered == 1).then_some(update.offset as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Interest;

    /// S5.
    #[test]
    fn a_ring_takes_what_the_data_plane_needs_and_nothing_else() {
        let Some(mut ring) = crate::uring::wanted(Ring::new()) else { return };
        ring.enable().unwrap();
        let path = c"/etc/hostname";
        let here = io_uring::types::Fd(libc::AT_FDCWD);
        let token = |index| Token::plain(Operation::Wake, index);
        ring.push(&opcode::OpenAt::new(here, path.as_ptr()).build().user_data(token(0).pack()));
        ring.push(&opcode::Nop::new().build().flags(squeue::Flags::ASYNC).user_data(token(1).pack()));
        ring.poll(Fd(-1), Interest::Readable, token(2));
        let mut completions = Vec::new();
        ring.enter(Wait::Forever).unwrap();
        ring.completions(&mut completions);
        let results: Vec<_> = completions.iter().map(|done| (done.token.index, -done.result)).collect();
        assert_eq!(results, [(0, libc::EACCES), (1, libc::EACCES), (2, libc::EBADF)]);
        let refused = ring.io().submitter().register_files(&[0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "nor can anything be registered");
    }
}
