//! A receive that says when the kernel put the bytes into the socket, which is what the proxy is answerable for; when
//! the generator gets round to looking at them is not.

use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use crate::ring::{Ring, Span};

/// A recvmsg(2) in memory that is never freed.
pub struct Stamped {
    header: *mut libc::msghdr,
    control: Span,
    /// Where the bytes arrive.
    pub data: Span,
}

const CONTROL: usize = 64;

/// Makes the kernel note when bytes arrive at this socket.
pub fn enable(socket: &TcpStream) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw const on).cast();
    // SAFETY: `place` points to an int, as the option wants.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, place, size) };
    if failed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

impl Stamped {
    /// A receive of up to `size` bytes.
    pub fn new(size: usize) -> Stamped {
        let (data, control) = (Span::leak(size), Span::leak(CONTROL));
        let vector = Box::leak(Box::new(libc::iovec { iov_base: data.start().cast(), iov_len: size }));
        // SAFETY: all zeroes is a valid msghdr: no address, no vectors, no control data.
        let mut header = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
        (header.msg_iov, header.msg_iovlen) = (vector, 1);
        (header.msg_control, header.msg_controllen) = (control.start().cast(), CONTROL);
        Stamped { header: Box::leak(Box::new(header)), control, data }
    }

    /// Pushes the receive.
    pub fn push(&mut self, ring: &mut Ring, token: u64, socket: RawFd) {
        // SAFETY: never freed, and the kernel has no receive in flight that uses it.
        let header = unsafe { &mut *self.header };
        header.msg_controllen = CONTROL;
        self.control.write(0, &[0; CONTROL]);
        ring.push(opcode::RecvMsg::new(Fd(socket), self.header).build(), token);
    }

    /// When the bytes of the completed receive came, on CLOCK_REALTIME, if the kernel has noted it.
    pub fn arrived_ns(&self) -> Option<u64> {
        let bytes = self.control.bytes();
        let number = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        // One cmsghdr: length, level and type, then a timespec.
        let kind = ((libc::SCM_TIMESTAMPNS as u64) << 32) | libc::SOL_SOCKET as u64;
        if number(8)? != kind {
            return None;
        }
        Some(number(16)? * 1_000_000_000 + number(24)?)
    }
}
