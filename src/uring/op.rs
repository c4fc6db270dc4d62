//! Typed operations: each method queues one.

use io_uring::{opcode, squeue, types};

use super::Fd;
use super::buffers::{Buffers, GROUP};
use super::ring::Ring;
use super::socket::Destination;
use super::token::{Operation, Token};
use crate::base::lease::Lease;

const SOCKET_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

impl Ring {
    /// Receives into the worker's shared buffers until `credit` bytes or more have come, then ends by itself (Linux
    /// 6.17, commit 0ebc9a7e). It overdraws the credit by less than one buffer.
    #[inline]
    pub fn recv_multi(&mut self, fd: Fd, credit: u32, poll_first: bool, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(fd.0), GROUP).build().user_data(token.pack());
        self.push(&with_total_limit(entry, credit, poll_first));
    }

    /// Receives into one of the worker's shared buffers, once. With `poll_first` it does not try before the socket
    /// says it is readable, and takes its buffer only then.
    #[inline]
    pub fn recv_once(&mut self, fd: Fd, poll_first: bool, token: Token) {
        let priority = if poll_first { POLL_FIRST } else { 0 };
        let entry = opcode::Recv::new(types::Fd(fd.0), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .ioprio(priority)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Sends what there is room for of the bytes of `lease`, without waiting (EAGAIN if there is none). The lease must
    /// not be released before this completes, which it does when it is submitted.
    ///
    /// Never with the kernel's own wait for room: once the peer has sent its FIN, that poll is always ready
    /// (`IO_POLL_UNMASK` adds RDHUP to it), so that after 128 tries the kernel hands the send to a thread that blocks
    /// in it (`APOLL_MAX_RETRY` in io_uring/poll.c, 6.18). MSG_DONTWAIT makes it REQ_F_NOWAIT.
    #[inline]
    pub fn send(&mut self, fd: Fd, buffers: &Buffers, lease: Lease, token: Token) {
        let bytes = buffers.bytes(lease);
        let entry = opcode::Send::new(types::Fd(fd.0), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Completes once when the socket can be read, or its peer has finished, or urgent data is there.
    pub fn poll_readable(&mut self, fd: Fd, token: Token) {
        self.poll(fd, (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) as u32, token);
    }

    /// Completes once when the socket has as many bytes as SO_RCVLOWAT says, or its peer has finished. The result is a
    /// mask of `poll(2)`; see [`says_ended`].
    pub fn poll_incoming(&mut self, fd: Fd, token: Token) {
        self.poll(fd, (libc::POLLIN | libc::POLLRDHUP) as u32, token);
    }

    /// Completes once when the socket can be written, or its peer has finished: the result is a mask of `poll(2)`; see
    /// [`says_writable`]. The kernel adds RDHUP to every poll.
    pub fn poll_writable(&mut self, fd: Fd, token: Token) {
        self.poll(fd, libc::POLLOUT as u32, token);
    }

    /// Completes each time something happens to the socket that may have made it writable, and not because of how it
    /// is: the way to wait for room on a connection whose peer has finished. Goes on until it is cancelled.
    pub fn poll_writable_edge(&mut self, fd: Fd, token: Token) {
        self.poll_edge(fd, libc::POLLOUT as u32, token);
    }

    /// Completes each time something happens to the socket that may be its end; see [`says_hung_up`]. Goes on until it
    /// is cancelled.
    pub fn poll_hangup(&mut self, fd: Fd, token: Token) {
        self.poll_edge(fd, 0, token);
    }

    fn poll_edge(&mut self, fd: Fd, events: u32, token: Token) {
        self.push(&opcode::PollAdd::new(types::Fd(fd.0), events).multi(true).build().user_data(token.pack()));
    }

    fn poll(&mut self, fd: Fd, events: u32, token: Token) {
        self.push(&opcode::PollAdd::new(types::Fd(fd.0), events).build().user_data(token.pack()));
    }

    /// Connects. The kernel copies the address when the operation is submitted, so `to` must live until the next
    /// [`Ring::enter`]; see `Worker::retired_destinations`.
    pub fn connect(&mut self, fd: Fd, to: &Destination, token: Token) {
        let entry = opcode::Connect::new(types::Fd(fd.0), to.as_ptr().cast(), to.len()).build().user_data(token.pack());
        self.push(&entry);
    }

    /// Accepts until it fails; accepted sockets are non-blocking (for splice) and close on exec.
    pub fn accept_multi(&mut self, fd: Fd, token: Token) {
        self.push(&opcode::AcceptMulti::new(types::Fd(fd.0)).flags(SOCKET_FLAGS).build().user_data(token.pack()));
    }

    /// Completes once when a connection can be accepted. Of the workers that share the socket, one is woken.
    pub fn poll_acceptable(&mut self, fd: Fd, token: Token) {
        self.poll(fd, libc::POLLIN as u32 | libc::EPOLLEXCLUSIVE as u32, token);
    }

    /// Closes; completes only if that failed. Nothing may be in flight on the descriptor.
    pub fn close(&mut self, fd: Fd) {
        let entry = opcode::Close::new(types::Fd(fd.0))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Token::plain(Operation::Forget, fd.0 as u32).pack());
        self.push(&entry);
    }

    /// Cancels the one operation that has this token; completes only if that failed, which means it is already over.
    /// The kernel finds it by the hash of its token. (Of a descriptor it would look at every operation that is armed in
    /// the ring: 3.9 ms among those of 9,000 sessions.)
    pub fn cancel(&mut self, which: Token) {
        let entry = opcode::AsyncCancel::new(which.pack())
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Token::plain(Operation::Forget, 0).pack());
        self.push(&entry);
    }

    /// Completes with [`Operation::Wake`] when the event descriptor is signalled.
    pub fn watch(&mut self, event: &super::system::Event) {
        let token = Token::plain(Operation::Wake, 0);
        self.push(&opcode::PollAdd::new(types::Fd(event.fd().0), libc::POLLIN as u32).build().user_data(token.pack()));
    }

    /// Posts a completion to another ring: `result` with the token `there`. Fails here, with `failed`, if it cannot.
    pub fn message(&mut self, ring: Fd, result: i32, there: Token, failed: Token) {
        let entry = opcode::MsgRingData::new(types::Fd(ring.0), result, there.pack(), None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(failed.pack());
        self.push(&entry);
    }
}

/// Whether the result of [`Ring::poll_incoming`] says that nothing follows what is there.
pub fn says_ended(result: i32) -> bool {
    result < 0 || result & i32::from(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

/// Whether the result of a poll for writing says that a send will do something, if only fail.
pub fn says_writable(result: i32) -> bool {
    result < 0 || result & i32::from(libc::POLLOUT | libc::POLLHUP | libc::POLLERR) != 0
}

/// Whether the result of [`Ring::poll_hangup`] says that the connection is no more: it failed, or both sides have sent
/// their FIN.
pub fn says_hung_up(result: i32) -> bool {
    result > 0 && result & i32::from(libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;

/// Sets `sqe->optlen` and a flag of `sqe->ioprio`, which io-uring 0.7 has no names for on this operation.
#[inline]
fn with_total_limit(entry: squeue::Entry, limit: u32, poll_first: bool) -> squeue::Entry {
    const OPTLEN_WORD: usize = 44 / 4;
    // SAFETY: `Entry` is `repr(C)` over the kernel's 64-byte `struct io_uring_sqe`, plain integers throughout.
    let mut words = unsafe { std::mem::transmute::<squeue::Entry, [u32; 16]>(entry) };
    words[OPTLEN_WORD] = limit;
    // `sqe->ioprio` is the upper half of the first word.
    words[0] |= if poll_first { u32::from(POLL_FIRST) << 16 } else { 0 };
    // SAFETY: as above, in the other direction.
    unsafe { std::mem::transmute::<[u32; 16], squeue::Entry>(words) }
}
