//! Typed operations: each method queues one.

use io_uring::{opcode, squeue, types};

use super::buffers::GROUP;
use super::ring::Ring;
use crate::base::address::Address;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Fd, Interest, poll};
use crate::sys::stream;

/// Of accepted sockets: the worker never blocks on one, and no child process inherits it.
const SOCKET_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// How a send is made; see [`Op::Send`](crate::kernel::Op::Send).
#[derive(Clone, Copy, Debug)]
pub struct SendManner {
    /// Nothing follows from its success. Never true of one that is followed.
    pub quiet: bool,
    /// Another send follows its answer.
    pub followed: bool,
}

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

    /// Sends what there is room for of `bytes`, without waiting (EAGAIN if there is none). They must not go away before
    /// this completes, which it does when it is submitted.
    ///
    /// Never with the kernel's own wait for room: once the peer has sent its FIN, that poll is always ready
    /// (`IO_POLL_UNMASK` adds RDHUP to it), so that after 128 tries the kernel hands the send to a thread that blocks
    /// in it (`APOLL_MAX_RETRY` in io_uring/poll.c, 6.18). MSG_DONTWAIT makes it REQ_F_NOWAIT.
    ///
    /// A `quiet` one wakes no worker if all of it goes: with MSG_WAITALL less than all is a failure, and only those
    /// post a completion (CQE_SKIP_SUCCESS). So once it was submitted, no completion means success.
    #[inline]
    pub fn send(&mut self, fd: Fd, bytes: &[u8], manner: SendManner, token: Token) {
        let SendManner { quiet, followed } = manner;
        let flags = if quiet { libc::MSG_WAITALL } else { stream::more(followed) };
        let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let entry = opcode::Send::new(types::Fd(fd.0), bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
        let entry = entry.user_data(token.pack());
        if quiet {
            self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS));
            self.quiet.push((token, bytes.len() as u32));
        } else {
            self.push(&entry);
        }
    }

    /// The kernel adds RDHUP, HUP and ERR to every poll. The two that wait for an edge say once how it is, and from
    /// then on what has happened; the others complete once.
    #[inline]
    pub fn poll(&mut self, fd: Fd, interest: Interest, token: Token) {
        let (events, edge) = match interest {
            Interest::Readable => (poll::IN | poll::RDHUP | poll::PRI, false),
            Interest::Incoming => (poll::IN | poll::RDHUP, false),
            Interest::Acceptable => (poll::IN | libc::EPOLLEXCLUSIVE, false),
            Interest::Writable => (poll::OUT, false),
            Interest::WritableEdge => (poll::OUT, true),
            Interest::Hangup => (0, true),
        };
        let entry = opcode::PollAdd::new(types::Fd(fd.0), events as u32).multi(edge).build();
        self.push(&entry.user_data(token.pack()));
    }

    /// Connects. An address that no kernel would take leads to a completion with its error, like one that the kernel
    /// refuses.
    pub fn connect(&mut self, fd: Fd, to: &Address, token: Token) {
        let entry = match self.keep(to) {
            Ok(to) => opcode::Connect::new(types::Fd(fd.0), to.as_ptr().cast(), to.len()).build(),
            Err(_) => opcode::Connect::new(types::Fd(fd.0), std::ptr::null(), 0).build(),
        };
        self.push(&entry.user_data(token.pack()));
    }

    /// Accepts until it fails; accepted sockets are non-blocking (for splice) and close on exec.
    pub fn accept_multi(&mut self, fd: Fd, token: Token) {
        self.push(&opcode::AcceptMulti::new(types::Fd(fd.0)).flags(SOCKET_FLAGS).build().user_data(token.pack()));
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

    /// Completes when an event descriptor is signalled.
    pub fn watch(&mut self, fd: Fd, token: Token) {
        self.push(&opcode::PollAdd::new(types::Fd(fd.0), poll::IN as u32).build().user_data(token.pack()));
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

/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;

/// Sets `sqe->optlen` and a flag of `sqe->ioprio`, which io-uring 0.7 has no names for on this operation.
#[inline]
fn with_total_limit(entry: squeue::Entry, limit: u32, poll_first: bool) -> squeue::Entry {
    /// Where `optlen` stands in the submission, in words of four bytes.
    const OPTLEN_WORD: usize = 44 / 4;
    // SAFETY: `Entry` is `repr(C)` over the kernel's 64-byte `struct io_uring_sqe`, plain integers throughout.
    let mut words = unsafe { std::mem::transmute::<squeue::Entry, [u32; 16]>(entry) };
    words[OPTLEN_WORD] = limit;
    // `sqe->ioprio` is the upper half of the first word.
    words[0] |= if poll_first { u32::from(POLL_FIRST) << 16 } else { 0 };
    // SAFETY: as above, in the other direction.
    unsafe { std::mem::transmute::<[u32; 16], squeue::Entry>(words) }
}
