//! The kernel of a worker, by io_uring.
//!
//! Memory that the kernel may write to or read from belongs to [`buffers::BufferRing`] or to the ring itself, which is
//! dropped first. Nothing here may start a kernel worker thread.

pub mod buffers;
pub mod op;
pub mod probe;
pub mod ring;

use std::io;

use crate::base::lease::{Lease, PipeId};
use crate::base::time::{Clock, Moment};
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Bell, Buffers as _, Completion, Fd, Kernel, Op, Wait, Wrapped};
use crate::sys::direct::Direct;
use crate::sys::features::Features;
use crate::sys::pipes::PipePool;
use crate::sys::{socket, stream};
use buffers::BufferRing;
use op::SendManner;
use ring::Ring;

/// One worker's kernel. The ring is dropped before the memory it refers to.
pub struct Uring {
    /// Submissions and completions.
    ring: Ring,
    /// Receive buffers that the kernel fills.
    buffers: BufferRing,
    /// Pipes of bulk transfers.
    pipes: PipePool,
    /// What this kernel can do beyond the oldest that is supported.
    features: Features,
    /// The clock of the process.
    clock: Clock,
}

impl Uring {
    /// With at most so many pipes, and so many bytes of receive buffers. Must be called on the thread that will use it.
    ///
    /// # Errors
    /// There is no io_uring here, or no memory for it.
    pub fn new(features: Features, pipes_max: u16, buffers_max: u64, clock: Clock) -> io::Result<Uring> {
        let ring = Ring::new()?;
        let buffers = BufferRing::new(&ring, buffers_max)?;
        ring.enable()?;
        Ok(Uring { ring, buffers, pipes: PipePool::new(pipes_max), features, clock })
    }
}

impl Kernel for Uring {
    type Buffers = BufferRing;
    type Pipes = PipePool;
    type Sockets = Direct;

    /// Fills one entry of the submission queue per operation; nothing reaches the kernel before `enter`.
    #[inline]
    fn push(&mut self, token: Token, op: Op<'_>) {
        let ring = &mut self.ring;
        match op {
            Op::Recv { fd, credit, fresh } if self.features.recv_credit => ring.recv_multi(fd, credit, fresh, token),
            Op::Recv { fd, .. } => ring.recv_once(fd, true, token),
            Op::Send { fd, lease, quiet, followed } => {
                ring.send(fd, self.buffers.bytes(lease), SendManner { quiet, followed }, token)
            }
            Op::Poll { fd, interest } => ring.poll(fd, interest, token),
            Op::Connect { fd, to } => ring.connect(fd, to, token),
            Op::Accept { fd } => ring.accept_multi(fd, token),
            Op::Close { fd } => ring.close(fd),
            Op::Cancel { token, .. } => ring.cancel(token),
            Op::Message { port, result, there } => ring.message(port, result, there, token),
        }
    }

    #[inline]
    fn has_queued(&mut self) -> bool {
        self.ring.has_queued()
    }

    /// One io_uring_enter(2): submits everything and waits as it is told. Buffers that were released go to the kernel
    /// first.
    #[inline]
    fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> io::Result<()> {
        self.buffers.publish();
        self.ring.enter(wait)?;
        let filled = self.ring.completions(into);
        self.buffers.taken(filled);
        Ok(())
    }

    #[inline]
    fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The ring's own descriptor, to which MSG_RING sends.
    fn port(&self) -> Fd {
        self.ring.fd()
    }

    fn await_bell(&mut self, bell: &dyn Bell) {
        self.ring.watch(bell.fd(), Token::plain(Operation::Wake, 0));
    }

    fn close_now(&mut self, fd: Fd) {
        socket::close(fd);
    }

    /// A multishot receive may end without a word of a reset that came together with the last bytes.
    fn misses_resets(&self) -> bool {
        true
    }

    /// Linux 6.17 has a receive stop by itself after a number of bytes.
    fn has_credit(&self) -> bool {
        self.features.recv_credit
    }

    #[inline]
    fn buffers(&mut self) -> &mut BufferRing {
        &mut self.buffers
    }

    #[inline]
    fn pipes(&mut self) -> &mut PipePool {
        &mut self.pipes
    }

    #[inline]
    fn sockets(&self) -> &Direct {
        &Direct
    }

    #[cold]
    fn send_wrapped(
        &mut self,
        fd: Fd,
        Wrapped { before: [first, second], lease, after, followed }: Wrapped<'_>,
    ) -> Result<usize, i32> {
        stream::send_parts(fd, [first, second, self.buffers.bytes(lease), after], stream::more(followed))
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        let (pool, leased) = self.buffers.pool();
        self.pipes.unload(pipe, left, pool, leased)
    }
}

/// The ring that a test has made. `None` where `RINGWAY_TEST_WITHOUT=io_uring` has the tests do without, because an
/// emulator runs them. Otherwise a ring that is missing is a failure.
#[cfg(test)]
pub(crate) fn wanted<T>(made: io::Result<T>) -> Option<T> {
    let without = std::env::var("RINGWAY_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|word| word == "io_uring") {
        eprintln!("left out: RINGWAY_TEST_WITHOUT has io_uring");
        return None;
    }
    Some(made.expect("io_uring, or RINGWAY_TEST_WITHOUT=io_uring"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::base::lease::Moved;
    use crate::kernel::Pipes as _;

    #[test]
    fn what_is_in_a_pipe_goes_into_buffers_in_order() {
        let made = Uring::new(Features { recv_credit: false }, 4, u64::MAX, Clock::new());
        let Some(mut kernel) = wanted(made) else { return };
        let (mut from, to) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..40_000u32).map(|number| (number % 251) as u8).collect();
        from.write_all(&bytes).unwrap();
        let Some((pipe, _)) = kernel.pipes.borrow() else { return };
        let mut left = 0;
        while left < bytes.len() as u32 {
            let Moved::Bytes(len @ 1..) = kernel.pipes.fill(pipe, Fd(to.as_raw_fd()), 1 << 20) else { panic!() };
            left += len;
        }
        let mut found = Vec::new();
        while left > 0 {
            let lease = kernel.unload(pipe, left).unwrap();
            left -= u32::from(lease.len);
            found.extend_from_slice(kernel.buffers.bytes(lease));
            kernel.buffers.release(lease.buffer);
        }
        assert_eq!(found, bytes);
        assert_eq!(kernel.unload(pipe, 1), None, "it is empty");
        kernel.pipes.give_back(pipe);
    }
}
