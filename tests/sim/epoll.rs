//! The driver `ringway::epoll` on the simulated host: what Linux says of descriptors that are watched, and what its
//! calls do. It is as unkind as epoll(7) allows: reports come in any order, some of them later, and each change is
//! reported once.

use std::io;

use ringway::base::address::Address;
use ringway::base::lease::{BUFFER_LEN, Lease, PipeId};
use ringway::base::time::Moment;
use ringway::epoll::Epoll;
use ringway::epoll::calls::{Calls, Readiness, Received, ReceivedTwo, WatchMode};
use ringway::kernel::token::{Operation, Token};
use ringway::kernel::{Bell, Completion, Fd, Kernel, Op, Wait, errno, poll};

use crate::bytes::Bytes;
use crate::corner::Corner;
use crate::host::{Host, Shared, Thing};
use crate::kernel::{Buffers, SimKernel, Sockets, deed_of};
use crate::sock::Got;
use crate::splice::Pipes;

/// What a watched descriptor was reported to be: how often it has changed.
type Seen = (u64, u64, u64);

/// A descriptor that a worker watches.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    key: u64,
    mode: WatchMode,
    seen: Option<Seen>,
}

/// A connect that is under way: of which descriptor, and to what it comes (see `Op::outcome`).
pub type Connecting = (Fd, Option<i32>);

pub struct SimCalls {
    host: Shared,
    worker: usize,
    buffers: Buffers,
    pipes: Pipes,
    sockets: Sockets,
}

impl SimCalls {
    pub fn new(host: &Shared, worker: usize) -> SimCalls {
        SimCalls {
            host: host.clone(),
            worker,
            buffers: Buffers(host.clone(), worker),
            pipes: Pipes(host.clone(), worker),
            sockets: Sockets(host.clone()),
        }
    }
}

impl Calls for SimCalls {
    type Buffers = Buffers;
    type Pipes = Pipes;
    type Sockets = Sockets;

    fn watch(&mut self, fd: Fd, mode: WatchMode, key: u64) -> Result<(), i32> {
        let mut host = self.host.borrow_mut();
        let thing = host.thing(fd);
        let odds = host.profile.odds.no_memory;
        if matches!(thing, Thing::Sock(_) | Thing::Door(_)) && host.spurious(odds) {
            return Err(host.dice.pick(&[errno::ENOMEM, errno::ENOSPC]));
        }
        let old = host.rings[self.worker].watched.insert(fd.0, Watched { key, mode, seen: None });
        assert!(old.is_none(), "EEXIST: {fd:?} is watched already");
        Ok(())
    }

    fn unwatch(&mut self, fd: Fd) {
        let gone = self.host.borrow_mut().rings[self.worker].watched.remove(&fd.0);
        assert!(gone.is_some(), "ENOENT: {fd:?} is not watched");
    }

    fn wait(&mut self, _wait: Wait, into: &mut Vec<Readiness>) -> io::Result<()> {
        let mut host = self.host.borrow_mut();
        host.called();
        let mut fds: Vec<i32> = host.rings[self.worker].watched.keys().copied().collect();
        host.dice.shuffle(&mut fds);
        let is_partial = host.dice.one_in(4);
        for fd in fds {
            let Some(mask) = host.report(self.worker, fd) else { continue };
            if is_partial && !into.is_empty() && host.dice.one_in(2) {
                continue;
            }
            let seen = host.seen(self.worker, fd);
            let watched = host.rings[self.worker].watched.get_mut(&fd).expect("it is watched");
            watched.seen = Some(seen);
            into.push(Readiness { key: watched.key, mask });
            host.say(format_args!("    w{} {fd}: reported {mask:#x}", self.worker));
        }
        Ok(())
    }

    fn poll(&mut self, fd: Fd, events: i32) -> i32 {
        self.host.borrow_mut().mask_of(fd) & (events | poll::HUP | poll::ERR)
    }

    fn recv(&mut self, fd: Fd) -> Received {
        let mut host = self.host.borrow_mut();
        let odds = host.profile.odds;
        host.called();
        host.rings[self.worker].pool.publish();
        if host.rings[self.worker].pool.posted() == 0 {
            host.corners.reach(Corner::Starved);
            return Received::NoBuffer;
        }
        if host.spurious(odds.no_memory) {
            return Received::Failed(errno::ENOMEM);
        }
        match host.sock(fd).recv(BUFFER_LEN as u64) {
            Got::Bytes(bytes) => {
                host.progress += 1;
                let lease = host.rings[self.worker].pool.fill(bytes);
                Received::Bytes { buffer: lease.buffer, len: lease.len }
            }
            Got::Eof => Received::Fin,
            Got::Error(errno) => Received::Failed(errno),
            Got::Nothing => Received::Nothing,
        }
    }

    fn recv_two(&mut self, fd: Fd, in_second: usize) -> ReceivedTwo {
        let mut host = self.host.borrow_mut();
        host.rings[self.worker].pool.publish();
        if host.rings[self.worker].pool.posted() < 2 {
            drop(host);
            return ReceivedTwo { first: self.recv(fd), second: None, room: BUFFER_LEN };
        }
        let (room, odds) = (BUFFER_LEN + in_second, host.profile.odds);
        let alone = |first| ReceivedTwo { first, second: None, room };
        host.called();
        if host.spurious(odds.no_memory) {
            return alone(Received::Failed(errno::ENOMEM));
        }
        match host.sock(fd).recv(room as u64) {
            Got::Bytes(mut bytes) => {
                host.progress += 1;
                let mut first = Bytes::default();
                bytes.move_to(BUFFER_LEN as u64, &mut first);
                let first = host.rings[self.worker].pool.fill(first);
                let received = Received::Bytes { buffer: first.buffer, len: first.len };
                let second = (!bytes.is_empty()).then(|| host.rings[self.worker].pool.fill(bytes));
                ReceivedTwo { first: received, second: second.map(|lease| (lease.buffer, lease.len)), room }
            }
            Got::Eof => alone(Received::Fin),
            Got::Error(errno) => alone(Received::Failed(errno)),
            Got::Nothing => alone(Received::Nothing),
        }
    }

    fn told(&mut self) {}

    fn send(&mut self, fd: Fd, lease: Lease, followed: bool) -> Result<u32, i32> {
        let mut host = self.host.borrow_mut();
        let sent = host.try_send(self.worker, fd, lease, followed);
        if sent == Err(errno::EAGAIN) {
            host.corners.reach(Corner::SendBlocked);
        }
        sent.map(|len| len as u32)
    }

    fn connect(&mut self, fd: Fd, to: &Address) -> Result<(), i32> {
        let mut host = self.host.borrow_mut();
        let site = host.site(to);
        let outcome = host.connect_outcome(site);
        match outcome {
            Some(0) if host.dice.one_in(8) => {
                host.sock(fd).open = true;
                host.progress += 1;
                Ok(())
            }
            Some(refused @ (errno::ENOMEM | errno::ENOBUFS | errno::EADDRNOTAVAIL)) => {
                host.progress += 1;
                Err(refused)
            }
            outcome => {
                host.rings[self.worker].connecting.push((fd, outcome));
                Err(errno::EINPROGRESS)
            }
        }
    }

    fn connected(&mut self, fd: Fd) -> i32 {
        self.host.borrow_mut().sock(fd).connect_error.take().unwrap_or(0)
    }

    fn close(&mut self, fd: Fd) {
        self.host.borrow_mut().close(fd);
    }

    fn post(&mut self, port: Fd, result: i32, there: Token) -> Result<(), i32> {
        let mut host = self.host.borrow_mut();
        let odds = host.profile.odds.no_message;
        let lost = host.fault(odds);
        let hands_over = there.operation == Operation::HandOver;
        match host.thing(port) {
            Thing::Port(other) if !lost && !host.rings[other].gone => {
                host.corners.reach(if hands_over { Corner::HandedOver } else { Corner::OtherWorkerTold });
                host.rings[other].letters.push_back((there, result));
                host.rings[other].posted += 1;
                Ok(())
            }
            _ => {
                if hands_over {
                    host.corners.reach(Corner::HandOverFailed);
                }
                Err(errno::EBADF)
            }
        }
    }

    fn collect(&mut self, into: &mut Vec<(Token, i32)>) {
        into.extend(self.host.borrow_mut().rings[self.worker].letters.drain(..));
    }

    fn port(&self) -> Fd {
        Fd(self.host.borrow().rings[self.worker].port)
    }

    fn now(&self) -> Moment {
        self.host.borrow().now
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn pipes(&mut self) -> &mut Pipes {
        &mut self.pipes
    }

    fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        self.host.borrow_mut().unload(self.worker, pipe, left)
    }
}

impl Host {
    /// The driver on epoll has an answer.
    pub fn answered(&mut self, worker: usize, mut done: Completion) {
        let bits = done.token.pack();
        let found = self.rings[worker].in_flight.get(&bits).copied();
        if !done.more {
            self.rings[worker].in_flight.remove(&bits);
        }
        let id = match found {
            Some((Thing::Sock(sock), _)) => Some(sock),
            Some((Thing::Door(door), _)) => {
                self.doors[door].in_flight -= u32::from(!done.more);
                if !done.more && done.result >= 0 {
                    self.corners.reach(Corner::AcceptedOneByOne);
                }
                None
            }
            _ => None,
        };
        done.buffer = done.buffer.or(found.and_then(|(_, buffer)| buffer));
        self.say(format_args!("    w{worker} {:?}: {}", done.token, done.result));
        self.rings[worker].done.push_back((done, id));
    }

    /// How often a watched descriptor has changed.
    fn seen(&self, worker: usize, fd: i32) -> Seen {
        match self.thing(Fd(fd)) {
            Thing::Sock(sock) => {
                let sock = &self.socks[sock];
                (sock.changes + sock.wakes, sock.rooms, sock.peer.sent)
            }
            Thing::Door(_) => (0, 0, 0),
            Thing::Bell(bell) => (self.rings[bell].bell.rings(), 0, 0),
            Thing::Port(_) => (self.rings[worker].posted, 0, 0),
        }
    }

    /// What a wait would say of that descriptor; `None` is nothing.
    fn report(&mut self, worker: usize, fd: i32) -> Option<i32> {
        self.report_of(worker, fd, self.rings[worker].watched[&fd])
    }

    fn report_of(&mut self, worker: usize, fd: i32, watched: Watched) -> Option<i32> {
        let is_news = watched.mode == WatchMode::Exclusive || watched.seen != Some(self.seen(worker, fd));
        let mask = if is_news { self.mask_of(Fd(fd)) } else { 0 };
        Some(mask).filter(|mask| *mask != 0)
    }

    /// How a descriptor is.
    fn mask_of(&mut self, fd: Fd) -> i32 {
        match self.thing(fd) {
            Thing::Sock(sock) if self.socks[sock].connect_error.is_some() => {
                poll::IN | poll::OUT | poll::RDHUP | poll::HUP | poll::ERR
            }
            // Its SYN is not answered.
            Thing::Sock(sock) if !self.socks[sock].open => 0,
            Thing::Sock(sock) => self.socks[sock].mask(poll::IN | poll::PRI | poll::OUT | poll::RDHUP),
            Thing::Door(door) => {
                if self.doors[door].backlog.is_empty() {
                    0
                } else {
                    poll::IN
                }
            }
            Thing::Bell(bell) => {
                if self.rings[bell].bell.has_rung() {
                    poll::IN
                } else {
                    0
                }
            }
            Thing::Port(port) => {
                if self.rings[port].letters.is_empty() {
                    0
                } else {
                    poll::IN
                }
            }
        }
    }

    /// Whether a worker that sleeps would wake up.
    pub fn has_reports(&mut self, worker: usize) -> bool {
        let watched = std::mem::take(&mut self.rings[worker].watched);
        let is_due = watched.iter().any(|(&fd, &watched)| self.report_of(worker, fd, watched).is_some());
        self.rings[worker].watched = watched;
        is_due
    }

    /// A connect comes to its end. False if it does not.
    pub fn end_connect(&mut self, worker: usize, at: usize) -> bool {
        let Some(&(fd, Some(errno))) = self.rings[worker].connecting.get(at) else { return false };
        self.rings[worker].connecting.remove(at);
        self.progress += 1;
        let sock = self.sock(fd);
        sock.open |= errno == 0;
        sock.connect_error = Some(errno).filter(|errno| *errno != 0);
        sock.changes += 1;
        true
    }
}

/// One worker's kernel, by epoll. What is in flight is known to the host as with a ring.
pub struct SimEpoll {
    driver: Epoll<SimCalls>,
    host: Shared,
    worker: usize,
}

impl SimEpoll {
    fn push(&mut self, token: Token, op: Op<'_>) {
        let is_cancel = matches!(op, Op::Cancel { .. });
        {
            let mut host = self.host.borrow_mut();
            let (fd, deed) = deed_of(&host, &op);
            if let Op::Cancel { fd, token } = op {
                host.check_cancel(self.worker, fd, token);
            }
            host.note(self.worker, token, fd, deed);
        }
        self.driver.push(token, op);
        let mut answers = Vec::new();
        self.driver.take_answers(&mut answers);
        let mut host = self.host.borrow_mut();
        let has_connected = |answer: &Completion| answer.token.operation == Operation::Connect && answer.result == 0;
        if is_cancel && answers.iter().any(has_connected) {
            host.corners.reach(Corner::ConnectedAlthoughCancelled);
        }
        answers.into_iter().for_each(|answer| host.answered(self.worker, answer));
    }

    fn enter(&mut self, into: &mut Vec<Completion>) -> io::Result<()> {
        if self.host.borrow().rings[self.worker].asleep {
            return Ok(());
        }
        let mut answers = Vec::new();
        self.driver.enter(Wait::No, &mut answers)?;
        let mut host = self.host.borrow_mut();
        answers.into_iter().for_each(|answer| host.answered(self.worker, answer));
        host.collect(self.worker, into);
        Ok(())
    }
}

/// One worker's kernel, of either kind.
pub enum SimDriver {
    Ring(SimKernel),
    Epoll(SimEpoll),
}

impl SimDriver {
    pub fn new(host: &Shared, worker: usize) -> SimDriver {
        if !host.borrow().profile.is_epoll {
            return SimDriver::Ring(SimKernel::new(host, worker));
        }
        let driver = Epoll::new(SimCalls::new(host, worker)).expect("a port can be watched");
        SimDriver::Epoll(SimEpoll { driver, host: host.clone(), worker })
    }
}

impl Kernel for SimDriver {
    type Buffers = Buffers;
    type Pipes = Pipes;
    type Sockets = Sockets;

    fn push(&mut self, token: Token, op: Op<'_>) {
        match self {
            SimDriver::Ring(kernel) => kernel.push(token, op),
            SimDriver::Epoll(kernel) => kernel.push(token, op),
        }
    }

    fn close_now(&mut self, fd: Fd) {
        match self {
            SimDriver::Ring(kernel) => kernel.close_now(fd),
            SimDriver::Epoll(kernel) => kernel.driver.close_now(fd),
        }
    }

    fn has_queued(&mut self) -> bool {
        match self {
            SimDriver::Ring(kernel) => kernel.has_queued(),
            SimDriver::Epoll(kernel) => kernel.driver.has_queued(),
        }
    }

    fn enter(&mut self, wait: Wait, into: &mut Vec<Completion>) -> io::Result<()> {
        match self {
            SimDriver::Ring(kernel) => kernel.enter(wait, into),
            SimDriver::Epoll(kernel) => kernel.enter(into),
        }
    }

    fn now(&self) -> Moment {
        match self {
            SimDriver::Ring(kernel) => kernel.now(),
            SimDriver::Epoll(kernel) => kernel.driver.now(),
        }
    }

    fn port(&self) -> Fd {
        match self {
            SimDriver::Ring(kernel) => kernel.port(),
            SimDriver::Epoll(kernel) => kernel.driver.port(),
        }
    }

    fn await_bell(&mut self, bell: &dyn Bell) {
        match self {
            SimDriver::Ring(kernel) => kernel.await_bell(bell),
            SimDriver::Epoll(kernel) => kernel.driver.await_bell(bell),
        }
    }

    fn has_credit(&self) -> bool {
        match self {
            SimDriver::Ring(kernel) => kernel.has_credit(),
            SimDriver::Epoll(kernel) => kernel.driver.has_credit(),
        }
    }

    fn misses_resets(&self) -> bool {
        match self {
            SimDriver::Ring(kernel) => kernel.misses_resets(),
            SimDriver::Epoll(kernel) => kernel.driver.misses_resets(),
        }
    }

    fn buffers(&mut self) -> &mut Buffers {
        match self {
            SimDriver::Ring(kernel) => kernel.buffers(),
            SimDriver::Epoll(kernel) => kernel.driver.buffers(),
        }
    }

    fn pipes(&mut self) -> &mut Pipes {
        match self {
            SimDriver::Ring(kernel) => kernel.pipes(),
            SimDriver::Epoll(kernel) => kernel.driver.pipes(),
        }
    }

    fn sockets(&self) -> &Sockets {
        match self {
            SimDriver::Ring(kernel) => kernel.sockets(),
            SimDriver::Epoll(kernel) => kernel.driver.sockets(),
        }
    }

    fn unload(&mut self, pipe: PipeId, left: u32) -> Option<Lease> {
        match self {
            SimDriver::Ring(kernel) => kernel.unload(pipe, left),
            SimDriver::Epoll(kernel) => kernel.driver.unload(pipe, left),
        }
    }
}
