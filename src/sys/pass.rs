//! Descriptors that go from one process to another over a unix socket (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::system;
use crate::kernel::Fd;

/// Descriptors that the kernel takes in one message (SCM_MAX_FD).
pub const DESCRIPTORS_MAX: usize = 253;

/// Sends bytes, and with the first of them these descriptors, at most [`DESCRIPTORS_MAX`]; how many bytes were taken.
/// Never waits.
///
/// # Errors
/// `WouldBlock`, or the connection is no more.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None)?)
}

/// Receives bytes, and adds the descriptors that came with them; the number of bytes, 0 at the end. Never waits.
///
/// # Errors
/// `WouldBlock`, the connection is no more, or there is no room for the descriptors: then some are lost.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let (len, is_cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC));
    if is_cut {
        return Err(io::Error::other("no room for the descriptors that were sent: raise the limit (`ulimit -Hn`)"));
    }
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = item {
            for number in numbers {
                descriptors.push(system::adopt(Fd(number))?);
            }
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_in_their_order_and_are_ours() {
        let (here, there) = UnixStream::pair().unwrap();
        let pipes: Vec<_> = (0..DESCRIPTORS_MAX).map(|_| io::pipe().unwrap()).collect();
        let writers: Vec<BorrowedFd> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
        assert_eq!(send(here.as_fd(), b"some", &writers).unwrap(), 4);
        assert_eq!(send(here.as_fd(), b" more", &[]).unwrap(), 5);
        let (mut bytes, mut found) = ([0; 100], Vec::new());
        let first = receive(there.as_fd(), &mut bytes, &mut found).unwrap();
        assert_eq!((&bytes[..first], found.len()), (&b"some"[..], DESCRIPTORS_MAX));
        let second = receive(there.as_fd(), &mut bytes, &mut found).unwrap();
        assert_eq!((&bytes[..second], found.len()), (&b" more"[..], DESCRIPTORS_MAX));
        assert_eq!(receive(there.as_fd(), &mut bytes, &mut found).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for (number, fd) in found.into_iter().enumerate() {
            // SAFETY: a plain call.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
            use std::io::Write;
            std::fs::File::from(fd).write_all(&[number as u8]).unwrap();
        }
        for (number, (mut reader, writer)) in pipes.into_iter().enumerate() {
            drop(writer);
            let mut found = Vec::new();
            reader.read_to_end(&mut found).unwrap();
            assert_eq!(found, [number as u8]);
        }
        drop(here);
        assert_eq!(receive(there.as_fd(), &mut bytes, &mut Vec::new()).unwrap(), 0);
    }
}
