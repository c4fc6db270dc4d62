//! The driver's calls on Linux, from 5.4 on.

use std::io;
use std::sync::Arc;

use rustix::event::{Timespec, epoll};

use super::calls::{Calls, Readiness, Received, ReceivedTwo, WatchMode};
use super::post::PostOffice;
use crate::base::address::Address;
use crate::base::lease::{BUFFER_LEN, Lease, PipeId};
use crate::base::time::{Clock, Moment};
use crate::kernel::token::Token;
use crate::kernel::{Buffers as _, Fd, Wait, Wrapped, errno};
use crate::sys::buffers::BufferPool;
use crate::sys::direct::Direct;
use crate::sys::pipes::PipePool;
use crate::sys::{socket, stream};

/// Reports that are taken in one call.
const REPORTS_MAX: usize = 512;

/// The calls of one worker.
pub struct Linux {
    /// The instance of epoll(7).
    epoll: std::os::fd::OwnedFd,
    /// Room for what one wait reports.
    events: Vec<epoll::Event>,
    /// The receive buffers.
    buffers: BufferPool,
    /// The pipes of bulk sessions.
    pipes: PipePool,
    /// Where workers post to each other.
    office: Arc<PostOffice>,
    /// Which worker this is.
    worker: usize,
    /// For the time of a turn.
    clock: Clock,
}

impl Linux {
    /// Of that worker, with at most so many pipes and so many bytes of receive buffers.
    ///
    /// # Errors
    /// No descriptor or no memory is left.
    pub fn new(
        (office, worker): (Arc<PostOffice>, usize),
        pipes_max: u16,
        buffers_max: u64,
        clock: Clock,
    ) -> io::Result<Linux> {
        Ok(Linux {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(REPORTS_MAX),
            buffers: BufferPool::new(buffers_max)?,
            pipes: PipePool::new(pipes_max),
            office,
            worker,
            clock,
        })
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        self.office.close(self.worker);
    }
}

impl Calls for Linux {
    type Buffers = BufferPool;
    type Pipes = PipePool;
    type Sockets = Direct;

    fn watch(&mut self, fd: Fd, mode: WatchMode, key: u64) -> Result<(), i32> {
        use epoll::EventFlags;
        let flags = match mode {
            WatchMode::Edges => EventFlags::IN | EventFlags::PRI | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            WatchMode::Arrivals => EventFlags::IN | EventFlags::ET,
            WatchMode::Exclusive => EventFlags::IN | EventFlags::EXCLUSIVE,
        };
        let data = epoll::EventData::new_u64(key);
        epoll::add(&self.epoll, socket::borrow(fd), data, flags).map_err(rustix::io::Errno::raw_os_error)
    }

    fn unwatch(&mut self, fd: Fd) {
        let gone = epoll::delete(&self.epoll, socket::borrow(fd));
        debug_assert!(gone.is_ok(), "{fd:?}: {gone:?}");
    }

    fn wait(&mut self, wait: Wait, into: &mut Vec<Readiness>) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Timespec::default()),
            Wait::Forever => None,
            Wait::For(ns) => Some(Timespec {
                tv_sec: (ns / 1_000_000_000).try_into().unwrap_or(i64::MAX),
                tv_nsec: (ns % 1_000_000_000) as _,
            }),
        };
        self.events.clear();
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref());
        match waited {
            Ok(_) => {
                let report = |event: &epoll::Event| {
                    let (flags, data) = (event.flags, event.data);
                    Readiness { key: data.u64(), mask: flags.bits() as i32 }
                };
                into.extend(self.events.iter().map(report));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn poll(&mut self, fd: Fd, events: i32) -> i32 {
        stream::poll(fd, events)
    }

    #[inline]
    fn recv(&mut self, fd: Fd) -> Received {
        let Some(buffer) = self.buffers.take() else { return Received::NoBuffer };
        let end = match stream::recv(fd, self.buffers.space(buffer, BUFFER_LEN), 0) {
            Ok(len @ 1..) => {
                self.buffers.filled();
                return Received::Bytes { buffer, len: len as u16 };
            }
            Ok(0) => Received::Fin,
            Err(errno::EAGAIN) => Received::Nothing,
            Err(error) => Received::Failed(error),
        };
        self.buffers.put_unused(buffer);
        end
    }

    #[inline]
    fn recv_two(&mut self, fd: Fd, in_second: usize) -> ReceivedTwo {
        let alone = |first| ReceivedTwo { first, second: None, room: BUFFER_LEN };
        let Some(first) = self.buffers.take() else { return alone(Received::NoBuffer) };
        let Some(second) = self.buffers.take() else {
            self.buffers.put_unused(first);
            return alone(self.recv(fd));
        };
        let room = BUFFER_LEN + in_second;
        let received = stream::recv_into_two(fd, self.buffers.two_spaces(first, second, in_second));
        let (buffers, end) = match received {
            Ok(len @ 1..) => {
                self.buffers.filled();
                let in_first = len.min(BUFFER_LEN);
                let bytes = Received::Bytes { buffer: first, len: in_first as u16 };
                if len > in_first {
                    self.buffers.filled();
                    return ReceivedTwo { first: bytes, second: Some((second, (len - in_first) as u16)), room };
                }
                (&[second][..], bytes)
            }
            Ok(0) => (&[second, first][..], Received::Fin),
            Err(errno::EAGAIN) => (&[second, first][..], Received::Nothing),
            Err(error) => (&[second, first][..], Received::Failed(error)),
        };
        buffers.iter().for_each(|buffer| self.buffers.put_unused(*buffer));
        ReceivedTwo { first: end, second: None, room }
    }

    #[inline]
    fn told(&mut self) {
        self.buffers.told();
    }

    #[inline]
    fn send(&mut self, fd: Fd, lease: Lease, followed: bool) -> Result<u32, i32> {
        stream::send(fd, self.buffers.bytes(lease), stream::more(followed))
    }

    fn connect(&mut self, fd: Fd, to: &Address) -> Result<(), i32> {
        socket::connect(fd, to).map_err(|error| error.raw_os_error().unwrap_or(errno::EINVAL))
    }

    fn connected(&mut self, fd: Fd) -> i32 {
        socket::take_error(fd)
    }

    fn close(&mut self, fd: Fd) {
        socket::close(fd);
    }

    fn post(&mut self, port: Fd, result: i32, there: Token) -> Result<(), i32> {
        self.office.post(port, there, result)
    }

    fn collect(&mut self, into: &mut Vec<(Token, i32)>) {
        self.office.collect(self.worker, into);
    }

    fn port(&self) -> Fd {
        self.office.port(self.worker)
    }

    #[inline]
    fn now(&self) -> Moment {
        self.clock.now()
    }

    #[inline]
    fn buffers(&mut self) -> &mut BufferPool {
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

    fn send_wrapped(
        &mut self,
        fd: Fd,
        Wrapped { before: [first, second], lease, after, followed }: Wrapped<'_>,
    ) -> Result<usize, i32> {
        stream::send_parts(fd, [first, second, self.buffers.bytes(lease), after], stream::more(followed))
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        let leased = self.buffers.leased();
        self.pipes.unload(pipe, left, &mut self.buffers, leased)
    }
}
