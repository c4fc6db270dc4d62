//! What a worker needs of its kernel, as a trait: the data plane's system calls with io_uring
//! ([`uring`](crate::uring)), or a simulated kernel (`tests/sim`).
//!
//! Operations are data ([`Op`]). Each is pushed with a [`Token`], and answered by a [`Completion`] of that token; which
//! operations answer more than once, or not at all, is said there. Everything else is a call that never waits.
//!
//! Rules that hold for every kernel:
//!
//! - Nothing may be in flight on a descriptor when it is closed.
//! - A lease that is being sent must not be released before its send is answered.
//! - Memory that the kernel reads from or writes to belongs to the kernel's side of this trait.

pub mod driver;
pub mod errno;
pub mod poll;
pub mod token;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::lease::{BUFFER_LEN, Lease, Moved, PipeId};
use crate::base::session::PathQuality;
use crate::base::time::Moment;
use token::{Operation, Token};

/// An open descriptor, by number. The slot that holds it closes it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fd(pub i32);

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Receive into the shared buffers. Answered by each buffer that was filled, until about `credit` bytes have come
    /// (less than one buffer more), or by its end: 0 after a FIN, or an errno. Only the last answer has no `more`.
    Recv {
        /// From where.
        fd: Fd,
        /// Bytes, more than 0.
        credit: u32,
        /// Most likely nothing has come yet.
        fresh: bool,
    },
    /// Send what there is room for, without waiting: answered at the next [`Kernel::enter`], by the number of bytes or
    /// an errno; EAGAIN where there is no room.
    Send {
        /// Where to.
        fd: Fd,
        /// What.
        lease: Lease,
        /// If all of it is sent, nothing follows from that: that answer is not waited for, and comes with the next one.
        quiet: bool,
        /// Another send follows as soon as this one is answered: what fills no segment can wait for it (MSG_MORE).
        followed: bool,
    },
    /// Wait for something to happen to a socket. The result is a mask of [`poll`], or a negative errno. It may hold
    /// more than was asked for: io_uring adds RDHUP, HUP and ERR to every poll.
    Poll {
        /// Of which socket.
        fd: Fd,
        /// For what.
        interest: Interest,
    },
    /// Connect. The address is copied.
    Connect {
        /// A socket that is not connected.
        fd: Fd,
        /// Where to.
        to: &'a Address,
    },
    /// Accept connections until it fails or is cancelled. Each result is a descriptor, non-blocking and closed on exec.
    Accept {
        /// A listening socket.
        fd: Fd,
    },
    /// Close a descriptor. Not answered.
    Close {
        /// Which.
        fd: Fd,
    },
    /// Cancel the operation that has this token. Not answered; the operation is, as ever.
    Cancel {
        /// What it was pushed for.
        fd: Fd,
        /// Of that operation.
        token: Token,
    },
    /// Answer an operation that another worker has not pushed: it gets `result` with the token `there`. Answered here
    /// only if that could not be done.
    Message {
        /// See [`Kernel::port`].
        port: Fd,
        /// What it gets.
        result: i32,
        /// As which operation.
        there: Token,
    },
}

/// What a poll waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interest {
    /// Once: bytes, the peer's FIN, urgent data.
    Readable,
    /// Once: as many bytes as the low-water mark says, or the peer's FIN.
    Incoming,
    /// Once: a connection to accept. Of the workers that share the socket, one is told.
    Acceptable,
    /// Once: room.
    Writable,
    /// Each time that something has happened which may have made room, whatever there is now; until it is cancelled.
    WritableEdge,
    /// Each time that something has happened which may be the end of the connection; until it is cancelled.
    Hangup,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Completion {
    /// Which operation it was.
    pub token: Token,
    /// Bytes, a descriptor, a mask, or a negative errno.
    pub result: i32,
    /// The operation goes on: another answer follows.
    pub more: bool,
    /// The socket had still more to read.
    pub nonempty: bool,
    /// The buffer that was filled.
    pub buffer: Option<u16>,
}

/// How long [`Kernel::enter`] may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Submit, run what is due, come back.
    No,
    /// Until one completion is there.
    Forever,
    /// Until one completion is there or so many nanoseconds have passed.
    For(u64),
}

/// What a session's sockets are set to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Idle time before keepalive probes; zero: none.
    pub keepalive: Duration,
    /// TCP_USER_TIMEOUT; zero: the kernel's own.
    pub user_timeout: Duration,
    /// SO_RCVBUF, in bytes; zero: the kernel's own, which grows.
    pub receive_buffer: u32,
    /// TCP_NOTSENT_LOWAT, in bytes; zero: the kernel's own.
    pub unsent_max: u32,
}

/// One worker's kernel.
pub trait Kernel {
    /// See the trait.
    type Buffers: Buffers;
    /// See the trait.
    type Pipes: Pipes;
    /// See the trait.
    type Sockets: Sockets;

    /// Queues an operation for the next [`Kernel::enter`].
    fn push(&mut self, token: Token, op: Op<'_>);

    /// Waits for something to happen to a socket.
    #[inline]
    fn poll(&mut self, fd: Fd, interest: Interest, token: Token) {
        self.push(token, Op::Poll { fd, interest });
    }

    /// Cancels the operation that has this token and was pushed for `fd`.
    #[inline]
    fn cancel(&mut self, fd: Fd, token: Token) {
        self.push(Token::plain(Operation::Forget, 0), Op::Cancel { fd, token });
    }

    /// Closes a descriptor on which nothing is in flight, at the next [`Kernel::enter`] at the latest.
    #[inline]
    fn close(&mut self, fd: Fd) {
        self.push(Token::plain(Operation::Forget, fd.0 as u32), Op::Close { fd });
    }

    /// Closes a descriptor on which nothing is in flight before it returns, for a session that needs one.
    fn close_now(&mut self, fd: Fd);

    /// Whether an operation waits for the next [`Kernel::enter`].
    fn has_queued(&mut self) -> bool;

    /// Submits what is queued, waits as told, and appends what has completed, in order.
    ///
    /// # Errors
    /// This kernel is of no use any more. What is short-lived (a signal, a lack of memory) is no error.
    fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> io::Result<()>;

    /// The moment it is.
    fn now(&self) -> Moment;

    /// Where other workers send [`Op::Message`].
    fn port(&self) -> Fd;

    /// Has [`Operation::Wake`] answered once the bell of that worker has rung.
    fn await_bell(&mut self, bell: &dyn Bell);

    /// Whether a receive that goes on may not hear of a reset that came together with the last bytes.
    fn misses_resets(&self) -> bool;

    /// Whether receives end by themselves after a credit; else each brings one buffer.
    fn has_credit(&self) -> bool;

    /// The receive buffers.
    fn buffers(&mut self) -> &mut Self::Buffers;

    /// The pipes.
    fn pipes(&mut self) -> &mut Self::Pipes;

    /// Calls on sockets.
    fn sockets(&self) -> &Self::Sockets;

    /// Sends what there is room for of a lease with what stands around it: how many bytes, immediately.
    ///
    /// # Errors
    /// An errno, positive: EAGAIN where there is no room, or the connection's.
    fn send_wrapped(&mut self, _fd: Fd, _wrapped: Wrapped<'_>) -> Result<usize, i32> {
        // A simulated kernel, whose bytes have no values, speaks no TLS.
        Err(errno::EPIPE)
    }

    /// Moves the next bytes of a pipe, up to a buffer of them, into a free buffer. `None` if buffers are scarce, or
    /// there are not enough of them for all of the `left` bytes that are in the pipe: then none is moved.
    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease>;
}

/// A lease with what stands around it, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<'a> {
    /// What comes first.
    pub before: [&'a [u8]; 2],
    /// The bytes of a buffer; of length 0 if there are none.
    pub lease: Lease,
    /// What comes last.
    pub after: &'a [u8],
    /// Another send follows as soon as this one is answered, as in [`Op::Send`].
    pub followed: bool,
}

/// Wakes a worker that sleeps in its kernel.
pub trait Bell: Send + Sync {
    /// Wakes it. Many rings before it looks count as one.
    fn ring(&self);

    /// Forgets the rings so far.
    fn clear(&self);

    /// The descriptor that becomes readable.
    fn fd(&self) -> Fd;
}

/// The receive buffers of a worker, which all its sessions share.
pub trait Buffers {
    /// Gives free buffers to the kernel, which does so itself at each [`Kernel::enter`].
    fn publish(&mut self);

    /// Buffers the kernel may fill before it runs dry.
    fn available(&self) -> u16;

    /// Buffers that were filled and told of, or taken, and not released.
    fn leased(&self) -> u16;

    /// Whether so much is leased that sessions should hold less each, and those that hold something no more than that.
    fn is_scarce(&self) -> bool;

    /// Whether sessions hold everything there can be.
    fn is_exhausted(&self) -> bool;

    /// The kernel ran dry: more buffers are given to it from now on.
    fn ran_dry(&mut self);

    /// Takes a free buffer, to put bytes into it; `None` if there is none.
    fn take(&mut self) -> Option<u16>;

    /// The memory of a buffer that the worker has.
    fn space(&mut self, buffer: u16) -> &mut [u8; BUFFER_LEN];

    /// Takes a buffer back.
    fn release(&mut self, buffer: u16);

    /// Copies the bytes of `from` behind those of `to`, which has room, in another buffer.
    fn append(&mut self, from: Lease, to: Lease);

    /// Gives memory back that was not used for a while. To be called about once per second.
    fn trim(&mut self);
}

/// The pipes of a worker. One that goes back must be empty.
pub trait Pipes {
    /// Lends a pipe and says how many bytes it takes; `None` if no large one is to be had.
    fn borrow(&mut self) -> Option<(PipeId, u32)>;

    /// Takes an empty pipe back.
    fn give_back(&mut self, id: PipeId);

    /// Closes a pipe with whatever is in it.
    fn destroy(&mut self, id: PipeId);

    /// Closes the pipes that no session uses, for their descriptors.
    fn shrink(&mut self);

    /// Pipes that are lent.
    fn lent(&self) -> usize;

    /// Moves up to `len` bytes from a socket into a pipe.
    fn fill(&mut self, id: PipeId, from: Fd, len: u32) -> Moved;

    /// Moves up to `len` bytes from a pipe into a socket.
    fn drain(&mut self, id: PipeId, to: Fd, len: u32) -> Moved;
}

/// Calls on sockets. None of them waits.
pub trait Sockets {
    /// A socket to connect from.
    ///
    /// # Errors
    /// The kernel's.
    fn open(&self, to: &Address, options: &Options) -> io::Result<Fd>;

    /// Has a socket connect from that address, which need not be this host's if it is `transparent`.
    ///
    /// # Errors
    /// The kernel's.
    fn bind_source(&self, fd: Fd, source: IpAddr, transparent: bool) -> io::Result<()>;

    /// Connects to a unix socket: done, or refused.
    ///
    /// # Errors
    /// The kernel's.
    fn connect_unix(&self, fd: Fd, to: &Address) -> io::Result<()>;

    /// Whether this host has an address that it could reach that one from. To be asked when a connect failed for want
    /// of an address: the kernel says the same when all ports are taken.
    fn has_source_for(&self, _to: &Address) -> bool {
        true
    }

    /// Takes a connection out of a backlog.
    ///
    /// # Errors
    /// EAGAIN if there is none, or the kernel's.
    fn accept(&self, listener: Fd) -> io::Result<Fd>;

    /// Address of the peer; `None` when it is gone.
    fn peer_address(&self, fd: Fd) -> Option<Address>;

    /// The address of ours that a connection was made to.
    fn own_address(&self, fd: Fd) -> Option<Address>;

    /// Bytes that have come and were not taken.
    fn available(&self, fd: Fd) -> usize;

    /// Copies what has come and leaves it there: how many bytes, 0 after a FIN without any, `None` if there is nothing.
    ///
    /// # Errors
    /// The connection's.
    fn peek(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>>;

    /// Takes what has come: how many bytes, 0 after a FIN, `None` if there is nothing.
    ///
    /// # Errors
    /// The connection's.
    fn take(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>>;

    /// Sends all of `bytes` on a connection whose buffer is empty. With `more`, in one segment with what follows.
    ///
    /// # Errors
    /// The connection's, or there was no room for all of it.
    fn send_first(&self, fd: Fd, bytes: &[u8], more: bool) -> io::Result<()>;

    /// Sends what there is room for of several pieces, one behind the other: how many bytes.
    ///
    /// # Errors
    /// An errno, positive: EAGAIN where there is no room, or the connection's.
    fn send_pieces(&self, _fd: Fd, _pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<usize, i32> {
        // A simulated kernel, whose bytes have no values, speaks no TLS.
        Err(errno::EPIPE)
    }

    /// Has the socket be readable only when so many bytes are there.
    fn set_low_water(&self, fd: Fd, bytes: usize);

    /// Turns the Nagle algorithm off.
    fn no_delay(&self, fd: Fd);

    /// Has the kernel probe an idle connection.
    fn keep_alive(&self, fd: Fd, options: &Options);

    /// Sends a FIN after everything that was sent before.
    fn shutdown_write(&self, fd: Fd);

    /// Has what was received so far be all there is.
    fn stop_reading(&self, fd: Fd);

    /// Makes the close that follows a reset, or a proper one. (Before, it is a reset: see
    /// [`sys::socket`](crate::sys::socket).)
    fn end_on_close(&self, fd: Fd, reset: bool);

    /// Whether a TCP connection is no more.
    fn is_closed(&self, fd: Fd) -> bool;

    /// Whether the peer will send no more, whatever is there still to be read.
    fn has_ended(&self, fd: Fd) -> bool;

    /// How well a TCP connection went so far; `None` if nothing was measured.
    fn quality(&self, fd: Fd) -> Option<PathQuality>;

    /// Bytes that the peer's kernel has not acknowledged; 0 of a connection that is no more.
    fn unsent(&self, fd: Fd) -> u32;

    /// What an errno says that an attempt to move bytes through a socket has met. Most are the end of its connection;
    /// some say what this host is short of, and the connection does not know. One that we do not expect means what the
    /// connection says.
    fn refusal(&self, errno: i32, fd: Fd) -> Moved {
        match errno {
            errno::EAGAIN | errno::EINTR => Moved::WouldBlock,
            errno::ENOMEM | errno::ENOBUFS | errno::EMFILE | errno::ENFILE | errno::EBUSY => Moved::Later,
            errno::ECONNRESET | errno::EPIPE | errno::ETIMEDOUT | errno::EHOSTUNREACH | errno::ENETUNREACH => {
                Moved::Failed(errno)
            }
            // Ours: a descriptor that is none, memory that is not there. Nothing to try again.
            errno::EBADF | errno::ENOTSOCK | errno::ENOTCONN | errno::EFAULT => Moved::Failed(errno),
            _ if self.is_closed(fd) => Moved::Failed(errno),
            _ => Moved::Later,
        }
    }
}
