//! The system calls that the driver makes, as a trait: Linux's ([`Linux`](super::linux::Linux)), or a simulated
//! kernel's (`tests/sim`). None of them waits but [`Calls::wait`].

use std::io;

use crate::base::address::Address;
use crate::base::lease::{BUFFER_LEN, Lease, PipeId};
use crate::base::time::Moment;
use crate::kernel::token::Token;
use crate::kernel::{Buffers, Fd, Pipes, Sockets, Wait, Wrapped, errno};

/// How a descriptor is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchMode {
    /// Each change is reported once, of both directions: EPOLLET with EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLRDHUP.
    Edges,
    /// Each arrival is reported once: EPOLLET with EPOLLIN.
    Arrivals,
    /// As long as there is something to read or to accept, it is reported to one of those that watch it: EPOLLIN with
    /// EPOLLEXCLUSIVE (Linux 4.5).
    Exclusive,
}

/// A change of a descriptor that is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Readiness {
    /// What was said when it was watched.
    pub key: u64,
    /// A mask of [`poll`](crate::kernel::poll).
    pub mask: i32,
}

/// What a receive has brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// The buffer was taken from the pool and holds so many bytes, more than 0.
    Bytes {
        /// Number of the buffer.
        buffer: u16,
        /// How many.
        len: u16,
    },
    /// The peer's FIN.
    Fin,
    /// There is nothing.
    Nothing,
    /// There is no buffer for it.
    NoBuffer,
    /// An errno, positive.
    Failed(i32),
}

/// What a receive into two buffers has brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReceivedTwo {
    /// In the first one, or in its stead.
    pub first: Received,
    /// Number of the second buffer and how many bytes it holds; `None` if there are no more than the first one has.
    pub second: Option<(u16, u16)>,
    /// How many bytes there was room for: those of one buffer if there was no other.
    pub room: usize,
}

/// The calls of one worker. An error is an errno, positive.
pub trait Calls {
    /// See [`Kernel`](crate::kernel::Kernel).
    type Buffers: Buffers;
    /// See [`Kernel`](crate::kernel::Kernel).
    type Pipes: Pipes;
    /// See [`Kernel`](crate::kernel::Kernel).
    type Sockets: Sockets;

    /// Watches a descriptor until it is closed or not watched any more. How it is now is the first report.
    ///
    /// # Errors
    /// ENOMEM, and ENOSPC at the user's limit of watched descriptors.
    fn watch(&mut self, fd: Fd, mode: WatchMode, key: u64) -> Result<(), i32>;

    /// Watches it no more. A close does that too, unless the descriptor has a duplicate.
    fn unwatch(&mut self, fd: Fd);

    /// Waits for reports as told, and appends them.
    ///
    /// # Errors
    /// This kernel is of no use any more; a signal is no error.
    fn wait(&mut self, wait: Wait, into: &mut Vec<Readiness>) -> io::Result<()>;

    /// Which of `events` (a mask) are so now, with HUP and ERR.
    fn poll(&mut self, fd: Fd, events: i32) -> i32;

    /// Receives into a buffer.
    fn recv(&mut self, fd: Fd) -> Received;

    /// The same into two buffers, if there are two, and at most `in_second` bytes into the second one.
    fn recv_two(&mut self, fd: Fd, _in_second: usize) -> ReceivedTwo {
        ReceivedTwo { first: self.recv(fd), second: None, room: BUFFER_LEN }
    }

    /// The worker learns now of all that was received.
    fn told(&mut self);

    /// Sends what there is room for: how many bytes.
    ///
    /// # Errors
    /// EAGAIN where there is no room, or the connection's.
    fn send(&mut self, fd: Fd, lease: Lease, followed: bool) -> Result<u32, i32>;

    /// See [`Kernel::send_wrapped`](crate::kernel::Kernel::send_wrapped).
    ///
    /// # Errors
    /// EAGAIN where there is no room, or the connection's.
    fn send_wrapped(&mut self, _fd: Fd, _wrapped: Wrapped<'_>) -> Result<usize, i32> {
        Err(errno::EPIPE)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// EINPROGRESS if it takes time, or why it cannot.
    fn connect(&mut self, fd: Fd, to: &Address) -> Result<(), i32>;

    /// What has become of a connect: 0, or a positive errno.
    fn connected(&mut self, fd: Fd) -> i32;

    /// Closes a descriptor.
    fn close(&mut self, fd: Fd);

    /// Has another worker answer `there` with `result`.
    ///
    /// # Errors
    /// There is no such worker any more.
    fn post(&mut self, port: Fd, result: i32, there: Token) -> Result<(), i32>;

    /// What other workers have posted.
    fn collect(&mut self, into: &mut Vec<(Token, i32)>);

    /// Where other workers post: what becomes readable when they have.
    fn port(&self) -> Fd;

    /// The moment it is.
    fn now(&self) -> Moment;

    /// The receive buffers.
    fn buffers(&mut self) -> &mut Self::Buffers;

    /// The pipes.
    fn pipes(&mut self) -> &mut Self::Pipes;

    /// Calls on sockets.
    fn sockets(&self) -> &Self::Sockets;

    /// See [`Kernel::unload`](crate::kernel::Kernel::unload).
    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease>;
}
