//! The pipes of a worker: where bytes of a bulk stream stay in the kernel on their way.
//!
//! Pipes are costly to make (two system calls, two descriptors, a quota of pages for each user) and quick to lend. A
//! pipe that goes back must be empty; one that is not is closed, so no byte can reach another session.

use std::io;

use super::buffers::BufferPool;
use super::direct::Direct;
use super::socket;
use crate::base::lease::{BUFFER_LEN, Lease, Moved, PipeId};
use crate::kernel::{self, Fd, Sockets};

/// Sizes to ask for, best first. Without CAP_SYS_RESOURCE a user has 64 MiB of pipes (pipe-user-pages-soft).
const SIZES: [i32; 3] = [1 << 20, 1 << 19, 1 << 18];
/// Empty pipes that are kept.
const SPARE_MAX: usize = 32;

/// Both ends of a kernel pipe.
struct Pipe {
    /// Where bytes leave it.
    read: Fd,
    /// Where bytes enter it.
    write: Fd,
    /// Bytes that it takes, as the kernel has granted them.
    capacity: u32,
}

/// The pipes of one worker, spare and lent.
pub struct PipePool {
    /// By id; `None` where an id is vacant.
    pipes: Vec<Option<Pipe>>,
    /// Empty pipes, ready to be lent.
    spare: Vec<PipeId>,
    /// Ids without a pipe.
    vacant: Vec<PipeId>,
    /// Pipes lent or spare are never more than this.
    pipes_max: u16,
}

impl PipePool {
    /// No pipe yet, and never more than `pipes_max`.
    pub fn new(pipes_max: u16) -> PipePool {
        PipePool { pipes: Vec::new(), spare: Vec::new(), vacant: Vec::new(), pipes_max }
    }

    /// Moves the next bytes of a pipe into a buffer of `pool`, of whose buffers `leased` are in use. `None` if buffers
    /// are scarce, or there are not enough for all of the `left` bytes that are in the pipe: then none is moved.
    #[cold]
    pub fn unload(&self, id: PipeId, left: u32, pool: &mut BufferPool, leased: u16) -> Option<Lease> {
        let count = (left as usize).div_ceil(BUFFER_LEN) as u16;
        if !pool.has_spare(count, leased) {
            return None;
        }
        let buffer = pool.take()?;
        let len = self.read(id, pool.space(buffer, left as usize)) as u16;
        if len == 0 {
            pool.put_unused(buffer);
            return None;
        }
        Some(Lease { buffer, start: 0, len })
    }

    /// Copies bytes out of a pipe: how many, 0 if there are none.
    fn read(&self, id: PipeId, into: &mut [u8]) -> usize {
        let Some(pipe) = self.pipe(id) else { return 0 };
        // SAFETY: the kernel writes within `into`.
        let count = unsafe { libc::read(pipe.read.0, into.as_mut_ptr().cast(), into.len()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// The pipe of that id, unless it was closed.
    fn pipe(&self, id: PipeId) -> Option<&Pipe> {
        self.pipes.get(id.0 as usize)?.as_ref()
    }
}

impl kernel::Pipes for PipePool {
    /// Lends a pipe and says how many bytes it takes; `None` if no large one is to be had.
    fn borrow(&mut self) -> Option<(PipeId, u32)> {
        if let Some(id) = self.spare.pop() {
            return self.pipe(id).map(|pipe| (id, pipe.capacity));
        }
        let id = match self.vacant.pop() {
            Some(id) => id,
            None if self.pipes.len() < self.pipes_max as usize => {
                self.pipes.push(None);
                PipeId((self.pipes.len() - 1) as u16)
            }
            None => return None,
        };
        match open() {
            Some(pipe) => {
                let capacity = pipe.capacity;
                self.pipes[id.0 as usize] = Some(pipe);
                Some((id, capacity))
            }
            None => {
                self.vacant.push(id);
                None
            }
        }
    }

    /// Takes an empty pipe back.
    fn give_back(&mut self, id: PipeId) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(id);
        } else {
            self.destroy(id);
        }
    }

    /// Closes a pipe with whatever is in it.
    fn destroy(&mut self, id: PipeId) {
        if let Some(pipe) = self.pipes[id.0 as usize].take() {
            close(pipe.read);
            close(pipe.write);
            self.vacant.push(id);
        }
    }

    /// Closes the pipes that no session uses, for their descriptors.
    fn shrink(&mut self) {
        while let Some(id) = self.spare.pop() {
            self.destroy(id);
        }
    }

    /// Pipes that sessions have.
    fn lent(&self) -> usize {
        self.pipes.iter().flatten().count() - self.spare.len()
    }

    /// Moves up to `len` bytes from a socket into a pipe.
    fn fill(&mut self, id: PipeId, from: Fd, len: u32) -> Moved {
        self.pipe(id).map_or(Moved::Failed(libc::EBADF), |pipe| splice(from, pipe.write, len, from))
    }

    /// Moves up to `len` bytes from a pipe into a socket.
    ///
    /// A splice that moved something before it met an error reports what it moved, and the error is gone (fs/splice.c,
    /// `splice_to_socket`): the next receive would say 0, as after a FIN. So a socket that takes less than was offered
    /// is asked whether the connection is still there.
    fn drain(&mut self, id: PipeId, to: Fd, len: u32) -> Moved {
        let Some(pipe) = self.pipe(id) else { return Moved::Failed(libc::EBADF) };
        match splice(pipe.read, to, len, to) {
            Moved::Bytes(moved) if moved < len && socket::is_closed(to) => Moved::Failed(libc::ECONNRESET),
            moved => moved,
        }
    }
}

impl Drop for PipePool {
    fn drop(&mut self) {
        for id in 0..self.pipes.len() {
            kernel::Pipes::destroy(self, PipeId(id as u16));
        }
    }
}

/// Makes a pipe of the greatest size that the kernel grants; `None` without descriptors, or if only a small one is to
/// be had.
fn open() -> Option<Pipe> {
    let mut ends = [0i32; 2];
    // SAFETY: `ends` has room for the two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
        return None;
    }
    let [read, write] = ends.map(Fd);
    for size in SIZES {
        // SAFETY: a plain call on a descriptor that is ours.
        let capacity = unsafe { libc::fcntl(write.0, libc::F_SETPIPE_SZ, size) };
        if capacity >= size {
            return Some(Pipe { read, write, capacity: capacity as u32 });
        }
    }
    // A small pipe makes splicing slower than copying.
    close(read);
    close(write);
    None
}

/// Closes one end.
fn close(fd: Fd) {
    // SAFETY: a plain call on a descriptor that is ours and used no more.
    unsafe { libc::close(fd.0) };
}

/// Never SPLICE_F_MORE: on the last hop it acts like TCP_CORK, 200 ms of it.
#[inline]
fn splice(from: Fd, to: Fd, len: u32, socket: Fd) -> Moved {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: no memory of ours is involved.
    let moved = unsafe { libc::splice(from.0, std::ptr::null_mut(), to.0, std::ptr::null_mut(), len as usize, flags) };
    if moved >= 0 {
        return Moved::Bytes(moved as u32);
    }
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
    Direct.refusal(errno, socket)
}
