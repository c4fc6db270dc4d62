//! Pipes: what goes from socket to pipe to socket without being copied.

use ringway::base::lease::{Moved, PipeId};
use ringway::base::side::Side;
use ringway::kernel::token::Operation;
use ringway::kernel::{self, Fd, Sockets as _, errno};

use crate::corner::Corner;
use crate::host::{Host, Shared};
use crate::kernel::Sockets;
use crate::sock::moved;

/// Bytes that one half moves per turn, at the most.
const TURN_MAX: u64 = 4 << 20;
/// Fills in a row that an urgent byte may stop: once to find nothing, once more because the poll says that there is
/// something.
const STALLS_MAX: u32 = 2;

/// The pipes of one worker.
pub struct Pipes(pub Shared, pub usize);

impl kernel::Pipes for Pipes {
    fn borrow(&mut self) -> Option<(PipeId, u32)> {
        let mut host = self.0.borrow_mut();
        let odds = host.profile.odds.no_pipe;
        let full = host.descriptors() + 2 > host.profile.fd_max && !host.rings[self.1].pipes.has_spare();
        let now = host.now;
        let pipe = if full || host.dice.chance(odds) { None } else { host.rings[self.1].pipes.lend(now) };
        host.corners.reach(if pipe.is_some() { Corner::Spliced } else { Corner::NoPipe });
        pipe.map(|pipe| (pipe, host.profile.pipe_capacity))
    }

    fn give_back(&mut self, id: PipeId) {
        let mut host = self.0.borrow_mut();
        let source = host.rings[self.1].pipes.give_back(id);
        host.note_pipe_back(source);
    }

    fn destroy(&mut self, id: PipeId) {
        let mut host = self.0.borrow_mut();
        let source = host.rings[self.1].pipes.destroy(id);
        host.note_pipe_back(source);
    }

    fn lent(&self) -> usize {
        self.0.borrow().rings[self.1].pipes.lent()
    }

    fn shrink(&mut self) {
        self.0.borrow_mut().rings[self.1].pipes.shrink();
    }

    fn fill(&mut self, id: PipeId, from: Fd, len: u32) -> Moved {
        let result = self.try_fill(id, from, len);
        let moved = self.told(from, result);
        self.0.borrow_mut().end_fill(self.1, id, moved);
        moved
    }

    /// As `sys::pipes`: what takes less than it was offered is asked whether it is there still.
    fn drain(&mut self, id: PipeId, to: Fd, len: u32) -> Moved {
        let result = self.try_drain(id, to, len);
        let is_closed = Sockets(self.0.clone()).is_closed(to);
        match result {
            Ok(bytes) if bytes < u64::from(len) && is_closed => self.told(to, Err(errno::ECONNRESET)),
            result => self.told(to, result),
        }
    }
}

impl Pipes {
    fn try_fill(&mut self, pipe: PipeId, from: Fd, len: u32) -> Result<u64, i32> {
        let mut host = self.0.borrow_mut();
        let (odds, now) = (host.profile.odds, host.now);
        assert!(len > 0, "nothing is spliced");
        let id = host.sock(from).id;
        host.begin_fill(self.1, pipe, id);
        if host.fault(odds.splice_zero) {
            return Ok(0);
        }
        if host.spurious(odds.send_refused) {
            return Err(errno::EAGAIN);
        }
        if host.spurious(odds.no_memory) {
            return Err(host.dice.pick(&[errno::ENOMEM, errno::EINTR, errno::EBUSY, errno::EPERM]));
        }
        let capacity = u64::from(host.rings[self.1].pipes.capacity);
        let room = (capacity - host.rings[self.1].pipes.bytes(pipe).len()).min(u64::from(len));
        let room = if room == 0 { 0 } else { host.perhaps_less(odds.short_splice, room) };
        let stalls = host.socks[id].urgent_at == Some(host.socks[id].taken);
        let result = {
            let host = &mut *host;
            host.socks[id].splice_in(room, host.rings[self.1].pipes.bytes(pipe))
        };
        if result == Err(errno::EAGAIN) && stalls {
            host.corners.reach(Corner::UrgentStallsSplice);
        }
        if let Ok(bytes @ 1..) = result {
            host.filled(id, bytes);
        }
        // The peer does not stand still meanwhile.
        if result.is_ok() && host.dice.one_in(2) {
            host.socks[id].peer_writes(now);
        }
        result
    }

    fn try_drain(&mut self, pipe: PipeId, to: Fd, len: u32) -> Result<u64, i32> {
        let mut host = self.0.borrow_mut();
        let (odds, now) = (host.profile.odds, host.now);
        let id = host.sock(to).id;
        host.begin_drain(self.1, pipe, id, len);
        if host.spurious(odds.send_refused) {
            return Err(errno::EAGAIN);
        }
        if host.spurious(odds.no_memory) {
            return Err(host.dice.pick(&[errno::ENOMEM, errno::EINTR, errno::ENOBUFS]));
        }
        let max = host.perhaps_less(odds.short_splice, u64::from(len));
        let skipped = host.skipped_of_partner(id);
        let result = {
            let host = &mut *host;
            host.socks[id].send(host.rings[self.1].pipes.bytes(pipe), max, skipped)
        };
        if result.is_ok() {
            host.progress += 1;
            host.note_bytes(id);
            if host.dice.one_in(2) && !host.socks[id].peer.gone {
                host.socks[id].deliver(u64::MAX, now);
            }
        }
        result
    }

    /// As `sys::pipes` tells the worker.
    fn told(&self, fd: Fd, result: Result<u64, i32>) -> Moved {
        let moved = match result {
            Ok(bytes) => moved(bytes),
            Err(errno) => Sockets(self.0.clone()).refusal(errno, fd),
        };
        if let Moved::Failed(_) = moved {
            let mut host = self.0.borrow_mut();
            let id = host.sock(fd).id;
            host.note_failure(id);
        }
        moved
    }
}

impl Host {
    /// Bytes of that connection go into a pipe: after all that was received before.
    fn begin_fill(&mut self, worker: usize, pipe: PipeId, id: usize) {
        let now = self.now;
        self.called();
        let pipes = &mut self.rings[worker].pipes;
        pipes.used(pipe, Some(id), now);
        let held = pipes.bytes(pipe).len();
        assert!(!pipes.is_dry(pipe), "splice is asked again after its end");
        let sock = &self.socks[id];
        let side = if sock.is_client { Side::Client } else { Side::Backend };
        let pair = sock.session.and_then(|key| self.sessions.get(&key)).expect("a session splices");
        assert!(!pair.has_in_flight(Operation::recv(side)), "splice beside a receive of c{id}");
        let to = &self.socks[sock.partner.expect("it relays")];
        assert_eq!(held + sock.undelivered(to), 0, "splice overtakes what came from c{id} before");
    }

    fn filled(&mut self, id: usize, bytes: u64) {
        let turn = self.turn;
        self.progress += 1;
        self.note_bytes(id);
        self.socks[id].heard += bytes;
        let spliced = &mut self.socks[id].spliced;
        *spliced = (turn, bytes + if spliced.0 == turn { spliced.1 } else { 0 });
        assert!(spliced.1 <= TURN_MAX, "c{id} takes more than its turn");
        if spliced.1 == TURN_MAX {
            self.corners.reach(Corner::TurnUsedUp);
        }
    }

    /// Splice tells neither a FIN from nothing nor urgent data from nothing: to go on asking is to wait for ever.
    fn end_fill(&mut self, worker: usize, pipe: PipeId, moved: Moved) {
        let id = self.rings[worker].pipes.source(pipe).expect("it was filled");
        let stalled = moved == Moved::WouldBlock && self.socks[id].urgent_at == Some(self.socks[id].taken);
        let is_dry = matches!(moved, Moved::Bytes(0) | Moved::Later | Moved::Failed(_));
        let stalls = self.rings[worker].pipes.stalled(pipe, stalled, is_dry);
        assert!(stalls <= STALLS_MAX, "an urgent byte of c{id} stalls splice");
    }

    fn begin_drain(&mut self, worker: usize, pipe: PipeId, id: usize, len: u32) {
        let now = self.now;
        self.called();
        let pipes = &mut self.rings[worker].pipes;
        pipes.used(pipe, None, now);
        let held = pipes.bytes(pipe).len();
        assert!(held > 0 && u64::from(len) <= held, "an empty pipe is drained");
        let sock = &self.socks[id];
        let side = if sock.is_client { Side::Client } else { Side::Backend };
        let pair = sock.session.and_then(|key| self.sessions.get(&key)).expect("a session splices");
        assert!(!pair.has_in_flight(Operation::send(side)), "splice beside a send to c{id}");
    }
}
