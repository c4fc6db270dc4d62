//! The kernel of a worker, by io_uring.
//!
//! Memory that the kernel may write to or read from belongs to [`buffers::Buffers`] or to the ring itself, which is
//! dropped first. Nothing here may start a kernel worker thread.

pub mod buffers;
pub mod op;
pub mod probe;
pub mod ring;

use std::io;

use crate::base::time::{Clock, Moment};
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Bell, Buffers as _, Completion, Fd, Kernel, Op, Wait};
use crate::sys::direct::Direct;
use crate::sys::features::Features;
use crate::sys::pipes::Pipes;
use buffers::Buffers;
use ring::Ring;

/// One worker's kernel. The ring is dropped before the memory it refers to.
pub struct Uring {
    ring: Ring,
    buffers: Buffers,
    pipes: Pipes,
    features: Features,
    clock: Clock,
}

impl Uring {
    /// With at most so many pipes, and so many bytes of receive buffers. Must be called on the thread that will use it.
    ///
    /// # Errors
    /// There is no io_uring here, or no memory for it.
    pub fn new(features: Features, pipes_max: u16, buffers_max: u64, clock: Clock) -> io::Result<Uring> {
        let ring = Ring::new()?;
        let buffers = Buffers::new(&ring, buffers_max)?;
        ring.enable()?;
        Ok(Uring { ring, buffers, pipes: Pipes::new(pipes_max), features, clock })
    }
}

impl Kernel for Uring {
    type Buffers = Buffers;
    type Pipes = Pipes;
    type Sockets = Direct;

    #[inline]
    fn push(&mut self, token: Token, op: Op<'_>) {
        let ring = &mut self.ring;
        match op {
            Op::Recv { fd, credit, fresh } if self.features.recv_credit => ring.recv_multi(fd, credit, fresh, token),
            Op::Recv { fd, .. } => ring.recv_once(fd, true, token),
            Op::Send { fd, lease, quiet } => ring.send(fd, self.buffers.bytes(lease), quiet, token),
            Op::Poll { fd, interest } => ring.poll(fd, interest, token),
            Op::Connect { fd, to } => ring.connect(fd, to, token),
            Op::Accept { fd } => ring.accept_multi(fd, token),
            Op::Close { fd } => ring.close(fd),
            Op::Cancel { token } => ring.cancel(token),
            Op::Message { port, result, there } => ring.message(port, result, there, token),
        }
    }

    #[inline]
    fn has_queued(&mut self) -> bool {
        self.ring.has_queued()
    }

    #[inline]
    fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> io::Result<()> {
        self.buffers.publish();
        self.ring.enter(wait)?;
        let first = into.len();
        self.ring.completions(into);
        for _ in into[first..].iter().filter(|completion| completion.buffer.is_some()) {
            self.buffers.taken();
        }
        Ok(())
    }

    #[inline]
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn port(&self) -> Fd {
        self.ring.fd()
    }

    fn await_bell(&mut self, bell: &dyn Bell) {
        self.ring.watch(bell.fd(), Token::plain(Operation::Wake, 0));
    }

    fn has_credit(&self) -> bool {
        self.features.recv_credit
    }

    #[inline]
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    #[inline]
    fn pipes(&mut self) -> &mut Pipes {
        &mut self.pipes
    }

    #[inline]
    fn sockets(&self) -> &Direct {
        &Direct
    }
}
