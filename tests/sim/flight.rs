//! Operations in flight: when they go on, and with what result they end.

use ringway::base::lease::BUFFER_LEN;
use ringway::kernel::{Completion, Interest, errno, poll};

use crate::corner::Corner;
use crate::dice::Odds;
use crate::host::{Host, Thing};
use crate::ring::{Deed, completion};
use crate::sock::Got;

impl Host {
    fn complete(&mut self, worker: usize, at: usize, done: Completion) -> bool {
        let op = self.rings[worker].armed[at];
        let id = match self.thing(op.fd) {
            Thing::Sock(sock) => Some(sock),
            Thing::Door(door) => {
                self.doors[door].in_flight -= u32::from(!done.more);
                None
            }
            Thing::Port(_) | Thing::Bell(_) => None,
        };
        if !done.more {
            self.rings[worker].armed.remove(at);
        }
        if op.cancelled && done.result != -errno::ECANCELED {
            self.corners.reach(Corner::CancelCameLate);
        }
        self.say(format_args!("    w{worker} {:?}: {}", done.token, done.result));
        self.rings[worker].done.push_back((done, id));
        true
    }

    /// Lets one operation go on. False if it cannot.
    pub fn run(&mut self, worker: usize, at: usize) -> bool {
        let op = self.rings[worker].armed[at];
        let ended = completion(op.token, -errno::ECANCELED, false);
        match op.deed {
            Deed::Recv { credit, fresh } => self.run_recv(worker, at, credit, fresh),
            Deed::Poll(Interest::Acceptable) => self.run_knocked(worker, at),
            Deed::Poll(interest @ (Interest::WritableEdge | Interest::Hangup)) => self.run_edge(worker, at, interest),
            Deed::Poll(interest) => self.run_poll(worker, at, interest),
            Deed::Accept => self.run_accept(worker, at),
            Deed::Connect { .. } => {
                let outcome = if op.cancelled && self.dice.one_in(2) { None } else { op.outcome };
                match outcome {
                    None if op.cancelled => self.complete(worker, at, ended),
                    None => false,
                    Some(errno) => {
                        self.progress += 1;
                        self.sock(op.fd).open |= errno == 0;
                        if errno == 0 && op.cancelled {
                            self.corners.reach(Corner::ConnectedAlthoughCancelled);
                        }
                        self.complete(worker, at, completion(op.token, -errno, false))
                    }
                }
            }
            Deed::Bell if !self.rings[worker].bell.has_rung() => false,
            Deed::Bell => self.complete(worker, at, completion(op.token, poll::IN, false)),
            Deed::Send { .. } | Deed::Close | Deed::Cancel(_) | Deed::Message { .. } => unreachable!("never in flight"),
        }
    }

    fn run_recv(&mut self, worker: usize, at: usize, credit: u32, fresh: bool) -> bool {
        let op = self.rings[worker].armed[at];
        let (odds, multishot) = (self.profile.odds, self.profile.recv_credit);
        let posted = self.rings[worker].pool.posted();
        let sock = self.sock(op.fd);
        let waits = !sock.unix && !sock.fin_arrived && !sock.dead && sock.rx.len() < sock.low_water;
        let readable = sock.is_readable() && !waits && !op.deaf;
        let end = |errno: i32| completion(op.token, -errno, false);
        if op.cancelled && (!readable || posted == 0 || self.dice.one_in(2)) {
            return self.complete(worker, at, end(errno::ECANCELED));
        }
        if posted == 0 && (readable || (multishot && !fresh && !op.deaf)) {
            self.corners.reach(Corner::Starved);
            return self.complete(worker, at, end(errno::ENOBUFS));
        }
        if !readable {
            // It has tried, and waits to be woken.
            self.rings[worker].armed[at].deed = Deed::Recv { credit, fresh: true };
            return false;
        }
        if self.spurious(odds.interrupted) {
            return self.complete(worker, at, end(errno::EINTR));
        }
        if self.spurious(odds.no_memory) {
            return self.complete(worker, at, end(errno::ENOMEM));
        }
        self.progress += 1;
        let max = self.perhaps_less(odds.short_recv, BUFFER_LEN as u64);
        match self.sock(op.fd).recv(max) {
            Got::Bytes(bytes) => {
                let len = bytes.len() as u32;
                let lease = self.rings[worker].pool.fill(bytes);
                let left = credit.saturating_sub(len);
                let more = multishot && left > 0 && !op.cancelled && !self.fault(odds.recv_ends);
                let hides = self.fault(odds.wrong_hint);
                let sock = self.sock(op.fd);
                let deaf = more && sock.silent && sock.rx.is_empty();
                let nonempty = sock.is_readable() && !hides && !deaf;
                if deaf {
                    self.corners.reach(Corner::SilentReset);
                }
                let armed = &mut self.rings[worker].armed[at];
                (armed.deed, armed.deaf) = (Deed::Recv { credit: left, fresh: true }, deaf);
                let result = len as i32;
                let done = Completion { token: op.token, result, more, nonempty, buffer: Some(lease.buffer) };
                self.complete(worker, at, done)
            }
            Got::Eof => self.complete(worker, at, end(0)),
            Got::Error(errno) => self.complete(worker, at, end(errno)),
            Got::Nothing => unreachable!("it is readable"),
        }
    }

    fn run_poll(&mut self, worker: usize, at: usize, interest: Interest) -> bool {
        let op = self.rings[worker].armed[at];
        let mut mask = self.sock(op.fd).polled(interest);
        // What is cancelled may have been woken up just before.
        let odds = Odds(self.profile.odds.poll_lies.0 * if op.cancelled { 10 } else { 1 });
        if mask == 0 && self.spurious(odds) {
            mask = if interest == Interest::Writable { poll::OUT } else { poll::IN };
        }
        if op.cancelled && (mask == 0 || self.dice.one_in(2)) {
            return self.complete(worker, at, completion(op.token, -errno::ECANCELED, false));
        }
        if interest == Interest::Writable && mask & poll::RDHUP != 0 && mask & poll::OUT == 0 {
            self.corners.reach(Corner::ReadyByFinAlone);
        }
        mask != 0 && self.complete(worker, at, completion(op.token, mask, false))
    }

    /// It says once how it is, and then what has happened, until it is cancelled.
    fn run_edge(&mut self, worker: usize, at: usize, interest: Interest) -> bool {
        let op = self.rings[worker].armed[at];
        let sock = self.sock(op.fd);
        let (changes, rooms) = (sock.changes, sock.rooms);
        let mask = sock.polled(interest);
        let news =
            op.seen.is_none_or(|seen| changes > seen.0 || (interest == Interest::WritableEdge && rooms > seen.1));
        if op.cancelled && (!news || mask == 0 || self.dice.one_in(2)) {
            return self.complete(worker, at, completion(op.token, -errno::ECANCELED, false));
        }
        if !news {
            return false;
        }
        self.rings[worker].armed[at].seen = Some((changes, rooms));
        if mask == 0 {
            return false;
        }
        if op.seen.is_some() {
            self.corners.reach(Corner::EdgeTold);
        }
        let more = !self.spurious(self.profile.odds.interrupted);
        self.complete(worker, at, completion(op.token, mask, more))
    }

    fn run_knocked(&mut self, worker: usize, at: usize) -> bool {
        let op = self.rings[worker].armed[at];
        let Thing::Door(door) = self.thing(op.fd) else { panic!("{op:?} is no listening socket") };
        let somebody = !self.doors[door].backlog.is_empty();
        if op.cancelled && (!somebody || self.dice.one_in(2)) {
            return self.complete(worker, at, completion(op.token, -errno::ECANCELED, false));
        }
        if somebody {
            self.corners.reach(Corner::AcceptedOneByOne);
        }
        somebody && self.complete(worker, at, completion(op.token, poll::IN, false))
    }

    fn run_accept(&mut self, worker: usize, at: usize) -> bool {
        let op = self.rings[worker].armed[at];
        let Thing::Door(door) = self.thing(op.fd) else { panic!("{op:?} is no listening socket") };
        if op.cancelled && (self.doors[door].backlog.is_empty() || self.dice.one_in(2)) {
            return self.complete(worker, at, completion(op.token, -errno::ECANCELED, false));
        }
        match self.accept(door) {
            Ok(fd) => {
                let more = !op.cancelled && !self.fault(self.profile.odds.recv_ends);
                self.complete(worker, at, completion(op.token, fd, more))
            }
            Err(errno::EAGAIN) => false,
            Err(errno) => self.complete(worker, at, completion(op.token, -errno, false)),
        }
    }
}
