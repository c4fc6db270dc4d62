//! Moving bytes through sockets, one call each, which never waits. An error is an errno, positive. A signal is no
//! error: the call is made again.

use std::io;

use crate::kernel::Fd;

/// Receives up to `into.len()` bytes; 0 is the peer's FIN. `flags` are those of recv(2), without MSG_DONTWAIT.
///
/// # Errors
/// EAGAIN if there is nothing, or the connection's.
#[inline]
pub fn recv(fd: Fd, into: &mut [u8], flags: libc::c_int) -> Result<usize, i32> {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most `into.len()` bytes to it, during the call only.
    again(|| unsafe { libc::recv(fd.0, into.as_mut_ptr().cast(), into.len(), flags) })
}

/// Receives as many bytes as both hold, the first one first; 0 is the peer's FIN.
///
/// # Errors
/// EAGAIN if there is nothing, or the connection's.
#[inline]
pub fn recv_into_two(fd: Fd, into: [&mut [u8]; 2]) -> Result<usize, i32> {
    let mut parts = into.map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    // SAFETY: all of its fields may be zero: no address, no control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: the kernel writes at most that many bytes to each part, and to `message`, during the call only.
    again(|| unsafe { libc::recvmsg(fd.0, &raw mut message, libc::MSG_DONTWAIT) })
}

/// Sends what there is room for. `flags` are those of send(2), without MSG_DONTWAIT and MSG_NOSIGNAL.
///
/// # Errors
/// EAGAIN if there is no room, or the connection's.
#[inline]
pub fn send(fd: Fd, bytes: &[u8], flags: libc::c_int) -> Result<u32, i32> {
    let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the kernel reads `bytes` during the call only.
    again(|| unsafe { libc::send(fd.0, bytes.as_ptr().cast(), bytes.len(), flags) }).map(|sent| sent as u32)
}

/// The flag of a send that another one follows soon, or none.
#[inline]
pub fn more(followed: bool) -> libc::c_int {
    if followed { libc::MSG_MORE } else { 0 }
}

/// Sends what there is room for of several parts, one behind the other. `flags` are as those of [`send`].
///
/// # Errors
/// EAGAIN if there is no room, or the connection's.
pub fn send_parts(fd: Fd, parts: [&[u8]; 4], flags: libc::c_int) -> Result<usize, i32> {
    send_vectors(fd, &mut parts.map(vector), flags)
}

/// Most pieces of one [`send_pieces`].
const PIECES_MAX: usize = 48;

/// The same of any number of pieces, of which there is room for the first [`PIECES_MAX`] at the most.
///
/// # Errors
/// EAGAIN if there is no room, or the connection's.
pub fn send_pieces(fd: Fd, pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<usize, i32> {
    let mut vectors = [vector(&[]); PIECES_MAX];
    let count = vectors.iter_mut().zip(pieces).map(|(place, piece)| *place = vector(piece)).count();
    send_vectors(fd, &mut vectors[..count], 0)
}

/// Where a part is, for a call that writes nothing to it.
fn vector(part: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
}

/// Sends what there is room for of parts that are there.
fn send_vectors(fd: Fd, parts: &mut [libc::iovec], flags: libc::c_int) -> Result<usize, i32> {
    let flags = flags | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: all of its fields may be zero: no address, no control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: the kernel reads the parts and `message` during the call only.
    again(|| unsafe { libc::sendmsg(fd.0, &raw const message, flags) })
}

/// Repeats a call that a signal has interrupted (EINTR). An error is an errno.
#[inline]
fn again(mut call: impl FnMut() -> isize) -> Result<usize, i32> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                error => return Err(error.unwrap_or(libc::EINVAL)),
            },
        }
    }
}

/// Which of these events are so now, with HUP, ERR and NVAL: masks of poll(2).
#[inline]
pub fn poll(fd: Fd, events: i32) -> i32 {
    let mut poll = libc::pollfd { fd: fd.0, events: events as i16, revents: 0 };
    // SAFETY: the kernel reads and writes one `pollfd`; it does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents.into()
}
