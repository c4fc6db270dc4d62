//! The kernel of a worker, by epoll: for where io_uring is forbidden or not there (containers, old kernels, gVisor).
//!
//! An operation is tried when it is pushed, and waits only for what would block; its answer is told at the next
//! [`Kernel::enter`]. Each socket is watched once, by its edges, when something on it has to wait for the first time.
//! What was reported is remembered, because an edge is reported once, whether or not an operation waits for it:
//! `readable` is true until a receive brings less than a buffer (a stream has no more then, epoll(7)) or nothing. After
//! a FIN, a failure or urgent data only nothing counts, because a receive stops before an urgent byte.
//!
//! What is read beside the driver (splice, the look at a client's first bytes) makes this a mere "may be": a poll asks
//! poll(2) before it believes it. A poll for room always asks: where memory is short, a send is refused with nothing
//! under way whose acknowledgement would be an edge.
//!
//! Listening sockets are watched by level, and only while the worker accepts, because several workers share them.
//!
//! Sends never wait, receives have a credit, and a peer's FIN alone is never room: see [`Op`].

pub mod calls;
pub mod linux;
pub mod post;
mod receive;
mod watch;

use std::io;

use crate::base::address::Address;
use crate::base::lease::{Lease, PipeId};
use crate::base::time::Moment;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Bell, Completion, Fd, Interest, Kernel, Op, Sockets as _, Wait, Wrapped, errno, poll};
use calls::{Calls, Readiness, WatchMode};
use watch::{Place, Reading, Watches, Writing};

/// Connections that are accepted from one socket before others are looked at.
const ACCEPTS_MAX: u32 = 16;
/// Answers that are told without a look at what else has happened: so often in a row, at most.
const UNSEEN_MAX: u8 = 3;
/// Keys of what is no socket of a session.
const BELL: u64 = u64::MAX;
const POST: u64 = u64::MAX - 1;

/// What follows a report: something to read, or that nothing follows.
const READ: i32 = poll::IN | poll::PRI | poll::RDHUP | poll::HUP | poll::ERR;
const ENDS: i32 = poll::PRI | poll::RDHUP | poll::HUP | poll::ERR;
const WRITE: i32 = poll::OUT | poll::HUP | poll::ERR;
const HUNG_UP: i32 = poll::HUP | poll::ERR;

/// One worker's kernel.
pub struct Epoll<C: Calls> {
    /// The system calls.
    calls: C,
    /// The descriptors that are watched, with what is in flight on each.
    watches: Watches,
    /// Answers that are to be told.
    done: Vec<Completion>,
    /// Room for what one wait reports, kept from turn to turn.
    reports: Vec<Readiness>,
    /// How often in a row it was not looked what has happened.
    unseen: u8,
    /// The bell of the worker is watched.
    hears_bell: bool,
    /// Why it is of no use, if that was found out where it could not be told.
    failed: Option<io::Error>,
}

impl<C: Calls> Epoll<C> {
    /// With these calls.
    ///
    /// # Errors
    /// The port of the worker cannot be watched.
    pub fn new(mut calls: C) -> io::Result<Epoll<C>> {
        calls.watch(calls.port(), WatchMode::Arrivals, POST).map_err(io::Error::from_raw_os_error)?;
        Ok(Epoll {
            calls,
            watches: Watches::default(),
            done: Vec::new(),
            reports: Vec::new(),
            unseen: 0,
            hears_bell: false,
            failed: None,
        })
    }

    /// Tells the answers that there are, as [`Kernel::enter`] does after it has looked what has happened.
    pub fn take_answers(&mut self, into: &mut Vec<Completion>) {
        self.calls.told();
        into.append(&mut self.done);
    }

    /// Puts an answer without a buffer on the list of those that are to be told.
    #[inline]
    fn answer(&mut self, token: Token, result: i32, more: bool) {
        self.done.push(Completion { token, result, more, nonempty: false, buffer: None });
    }

    /// Where a descriptor is known, and whether it is new: then how it is will be reported.
    #[inline]
    fn watched(&mut self, fd: Fd, mode: WatchMode) -> Result<(Place, bool), i32> {
        if let Some(place) = self.watches.find(fd) {
            return Ok((place, false));
        }
        let place = self.watches.add(fd);
        match self.calls.watch(fd, mode, self.watches.key(place)) {
            Ok(()) => Ok((place, true)),
            Err(error) => {
                self.watches.remove(fd);
                // A limit that others may leave again.
                Err(if error == errno::ENOSPC { errno::ENOMEM } else { error })
            }
        }
    }

    /// To tell of it costs no system call, so a quiet one is like any other.
    #[inline]
    fn send(&mut self, fd: Fd, lease: Lease, followed: bool, token: Token) {
        let sent = self.calls.send(fd, lease, followed);
        self.answer(token, sent.map_or_else(|error| -error, |len| len as i32), false);
    }

    /// Polls a socket of a session.
    fn poll_for(&mut self, fd: Fd, interest: Interest, token: Token) {
        let (place, is_new) = match self.watched(fd, WatchMode::Edges) {
            Ok(found) => found,
            Err(error) => return self.answer(token, -error, false),
        };
        let watch = self.watches.get(place);
        let may_be = match interest {
            Interest::Readable | Interest::Acceptable => {
                watch.read(Reading::Readable, token);
                watch.readable
            }
            Interest::Incoming => {
                debug_assert!(watch.incoming().is_none(), "two of {token:?} are in flight");
                watch.await_incoming(Some(token));
                watch.readable
            }
            Interest::Writable | Interest::WritableEdge => {
                let writing = if interest == Interest::Writable { Writing::Writable } else { Writing::WritableEdge };
                debug_assert!(watch.writing().is_none(), "two of {token:?} are in flight");
                watch.write(Some((token, writing)));
                true
            }
            Interest::Hangup => {
                debug_assert!(watch.hangup().is_none(), "two of {token:?} are in flight");
                watch.await_hangup(Some(token));
                true
            }
        };
        if !is_new && may_be {
            let mask = self.calls.poll(fd, wanted_by(interest));
            self.polled(place, interest, mask);
        }
    }

    /// What poll(2) says of a descriptor that may be ready for what has just been put in flight.
    fn polled(&mut self, place: Place, interest: Interest, mask: i32) {
        let watch = self.watches.get(place);
        match interest {
            Interest::Readable if mask == 0 => watch.readable = false,
            Interest::Readable | Interest::Acceptable => self.read_polled(place, mask),
            // With a low-water mark, there may be something all the same.
            Interest::Incoming => self.came_in(place, mask),
            Interest::Writable | Interest::WritableEdge => self.write_polled(place, mask),
            Interest::Hangup => self.hung_up(place, mask),
        }
    }

    /// A poll for something to read is answered, once.
    fn read_polled(&mut self, place: Place, mask: i32) {
        let watch = self.watches.get(place);
        if let Some(token) = watch.reads() {
            watch.reading = Reading::Nothing;
            self.answer(token, mask, false);
        }
    }

    /// A poll for as much as the low-water mark says is answered, if the mask has something to read.
    fn came_in(&mut self, place: Place, mask: i32) {
        let watch = self.watches.get(place);
        if mask & (READ & !poll::PRI) != 0
            && let Some(token) = watch.incoming()
        {
            watch.await_incoming(None);
            self.answer(token, mask, false);
        }
    }

    /// A poll for room or a connect is answered, if the mask says that it has come about.
    fn write_polled(&mut self, place: Place, mask: i32) {
        let watch = self.watches.get(place);
        let Some((token, writing)) = watch.writing().filter(|_| mask & WRITE != 0) else { return };
        let goes_on = writing == Writing::WritableEdge;
        if !goes_on {
            watch.write(None);
        }
        let result = match writing {
            // Without a failure it has come about.
            Writing::Connect if mask & HUNG_UP == 0 => 0,
            Writing::Connect => -self.calls.connected(watch.fd),
            Writing::Writable | Writing::WritableEdge => mask,
        };
        self.answer(token, result, goes_on);
    }

    /// A poll for the end of the connection is answered, if that has come. It goes on.
    fn hung_up(&mut self, place: Place, mask: i32) {
        if mask & HUNG_UP != 0
            && let Some(token) = self.watches.get(place).hangup()
        {
            self.answer(token, mask, true);
        }
    }

    /// Begins to connect; the answer comes now if it takes no time, and else with an edge.
    fn connect(&mut self, fd: Fd, to: &Address, token: Token) {
        match self.calls.connect(fd, to) {
            Ok(()) => self.answer(token, 0, false),
            Err(errno::EINPROGRESS | errno::EINTR) => match self.watched(fd, WatchMode::Edges) {
                Ok((place, _)) => self.watches.get(place).write(Some((token, Writing::Connect))),
                Err(error) => self.answer(token, -error, false),
            },
            Err(error) => self.answer(token, -error, false),
        }
    }

    /// Accepts, or answers once that a client can be accepted.
    fn accept(&mut self, fd: Fd, reading: Reading, token: Token) {
        match self.watched(fd, WatchMode::Exclusive) {
            Ok((place, _)) => self.watches.get(place).read(reading, token),
            Err(error) => self.answer(token, -error, false),
        }
    }

    /// Accepts what there is, up to [`ACCEPTS_MAX`] connections, each with an answer of its own.
    fn accept_some(&mut self, place: Place) {
        let watch = self.watches.get(place);
        let (fd, Some(token)) = (watch.fd, watch.reads()) else { return };
        for _ in 0..ACCEPTS_MAX {
            match self.calls.sockets().accept(fd) {
                Ok(Fd(client)) => self.answer(token, client, true),
                Err(error) => match error.raw_os_error() {
                    // Another worker was faster, or it has come and gone.
                    Some(errno::EAGAIN | errno::EINTR) => return,
                    error => {
                        self.accepts_no_more(place);
                        return self.answer(token, -error.unwrap_or(errno::EINVAL), false);
                    }
                },
            }
        }
    }

    /// Ends an accept: another worker shall have what comes.
    fn accepts_no_more(&mut self, place: Place) {
        let watch = self.watches.get(place);
        watch.reading = Reading::Nothing;
        let fd = watch.fd;
        self.watches.remove(fd);
        self.calls.unwatch(fd);
    }

    /// Ends what is in flight with that token, which is answered by ECANCELED, or by what has come about meanwhile.
    fn cancel(&mut self, fd: Fd, token: Token) {
        let Some(place) = self.watches.find(fd) else { return };
        let watch = self.watches.get(place);
        if watch.reads() == Some(token) {
            if matches!(watch.reading, Reading::Accept | Reading::Acceptable) {
                self.accepts_no_more(place);
            } else {
                watch.reading = Reading::Nothing;
            }
        } else if let Some((writes, writing)) = watch.writing()
            && writes == token
        {
            // A connect that has ended is answered by its result, although it was not looked at yet.
            let mask = if writing == Writing::Connect { self.calls.poll(fd, poll::OUT) } else { 0 };
            if mask & WRITE != 0 {
                return self.write_polled(place, mask);
            }
            self.watches.get(place).write(None);
        } else if watch.incoming() == Some(token) {
            watch.await_incoming(None);
        } else if watch.hangup() == Some(token) {
            watch.await_hangup(None);
        } else {
            // It was answered already.
            return;
        }
        self.answer(token, -errno::ECANCELED, false);
    }

    /// Something was reported.
    #[inline]
    fn happened(&mut self, report: Readiness) {
        let mask = report.mask;
        match report.key {
            BELL => self.answer(Token::plain(Operation::Wake, 0), 1, false),
            POST => {
                let mut letters = Vec::new();
                self.calls.collect(&mut letters);
                for (token, result) in letters {
                    self.answer(token, result, false);
                }
            }
            key => {
                let Some(place) = self.watches.of_key(key) else { return };
                let watch = self.watches.get(place);
                watch.readable |= mask & READ != 0;
                watch.ends |= mask & ENDS != 0;
                let (reading, is_more) = (watch.reading, watch.has_more());
                match reading {
                    Reading::Recv if mask & READ != 0 => self.receive(place),
                    Reading::Accept => return self.accept_some(place),
                    Reading::Acceptable => {
                        let token = watch.reads();
                        self.accepts_no_more(place);
                        return token.into_iter().for_each(|token| self.answer(token, mask, false));
                    }
                    Reading::Readable if mask & READ != 0 => self.read_polled(place, mask),
                    Reading::Recv | Reading::Readable | Reading::Nothing => {}
                }
                if is_more {
                    self.came_in(place, mask);
                    self.write_polled(place, mask);
                    self.hung_up(place, mask);
                }
            }
        }
    }
}

impl<C: Calls> Kernel for Epoll<C> {
    type Buffers = C::Buffers;
    type Pipes = C::Pipes;
    type Sockets = C::Sockets;

    #[inline]
    fn push(&mut self, token: Token, op: Op<'_>) {
        match op {
            Op::Recv { fd, credit, fresh } => self.recv(fd, credit, fresh, token),
            Op::Send { fd, lease, followed, .. } => self.send(fd, lease, followed, token),
            Op::Poll { fd, interest: Interest::Acceptable } => self.accept(fd, Reading::Acceptable, token),
            Op::Poll { fd, interest } => self.poll_for(fd, interest, token),
            Op::Connect { fd, to } => self.connect(fd, to, token),
            Op::Accept { fd } => self.accept(fd, Reading::Accept, token),
            Op::Close { fd } => self.close_now(fd),
            Op::Cancel { fd, token } => self.cancel(fd, token),
            Op::Message { port, result, there } => {
                if let Err(error) = self.calls.post(port, result, there) {
                    self.answer(token, -error, false);
                }
            }
        }
    }

    fn close_now(&mut self, fd: Fd) {
        self.watches.remove(fd);
        self.calls.close(fd);
    }

    #[inline]
    fn has_queued(&mut self) -> bool {
        false
    }

    fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let is_idle = self.done.is_empty();
        if is_idle || self.unseen >= UNSEEN_MAX {
            self.unseen = 0;
            let mut reports = std::mem::take(&mut self.reports);
            let waited = self.calls.wait(if is_idle { wait } else { Wait::No }, &mut reports);
            reports.drain(..).for_each(|report| self.happened(report));
            self.reports = reports;
            waited?;
        } else {
            self.unseen += 1;
        }
        self.take_answers(into);
        Ok(())
    }

    #[inline]
    fn now(&self) -> Moment {
        self.calls.now()
    }

    fn port(&self) -> Fd {
        self.calls.port()
    }

    /// An edge of the bell is reported for each ring, so it is watched once.
    fn await_bell(&mut self, bell: &dyn Bell) {
        if !self.hears_bell {
            self.hears_bell = true;
            // Without it this worker would miss every table.
            let heard = self.calls.watch(bell.fd(), WatchMode::Arrivals, BELL);
            self.failed = heard.err().map(io::Error::from_raw_os_error);
        }
    }

    fn has_credit(&self) -> bool {
        true
    }

    fn misses_resets(&self) -> bool {
        false
    }

    #[inline]
    fn buffers(&mut self) -> &mut C::Buffers {
        self.calls.buffers()
    }

    #[inline]
    fn pipes(&mut self) -> &mut C::Pipes {
        self.calls.pipes()
    }

    #[inline]
    fn sockets(&self) -> &C::Sockets {
        self.calls.sockets()
    }

    fn send_wrapped(&mut self, fd: Fd, wrapped: Wrapped<'_>) -> Result<usize, i32> {
        self.calls.send_wrapped(fd, wrapped)
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        self.calls.unload(pipe, left)
    }
}

/// The events of poll(2) that an interest asks for.
fn wanted_by(interest: Interest) -> i32 {
    match interest {
        Interest::Readable => poll::IN | poll::RDHUP | poll::PRI,
        Interest::Incoming | Interest::Acceptable => poll::IN | poll::RDHUP,
        Interest::Writable | Interest::WritableEdge => poll::OUT,
        Interest::Hangup => 0,
    }
}

#[cfg(test)]
mod tests;
