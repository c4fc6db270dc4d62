//! Connections that another worker has clearly less to do than this one for.

use super::Worker;
use crate::base::id::ListenerId;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Fd, Kernel, Op};
use crate::snapshot::table::Phase;

impl<K: Kernel> Worker<K> {
    /// Gives a connection that there is room for to a worker.
    pub(super) fn place(&mut self, fd: Fd, listener: ListenerId) {
        let Some(other) = self.less_loaded(listener) else {
            self.shared.add_load(self.index);
            self.begin(fd, listener);
            return;
        };
        self.stats().worker.handed_over.add(1);
        let there = Token::plain(Operation::HandOver, listener.0);
        let op = Op::Message { port: other.port, result: fd.0, there };
        self.kernel.push(undelivered(fd, listener, other.worker), op);
    }

    /// The less loaded of two other workers, if this one has clearly more to do. The kernel spreads connections evenly
    /// only on average; a few long ones could all land on one worker. The connection is counted there already.
    fn less_loaded(&mut self, listener: ListenerId) -> Option<Other> {
        let workers = self.shared.workers();
        if workers < 2 || listener.0 >> LISTENER_BITS != 0 {
            return None;
        }
        let own = self.shared.load(self.index) + 1;
        let (first, second) = (self.another(workers), self.another(workers));
        let worker = if self.shared.load(second) < self.shared.load(first) { second } else { first };
        let load = self.shared.load(worker);
        if own <= load + 2 + load / 16 {
            return None;
        }
        Some(Other { worker, port: self.shared.send_to(worker)? })
    }

    /// A random worker that is not this one.
    fn another(&mut self, workers: usize) -> usize {
        let pick = self.turn.random.usize(..workers - 1);
        if pick >= self.index { pick + 1 } else { pick }
    }

    /// Another worker hands a connection over; it is counted here already, and has its place.
    pub(super) fn taken_over(&mut self, listener: u32, fd: i32) {
        match self.known.phase {
            Phase::Serving | Phase::Leaving { .. } | Phase::Draining { .. } => self.begin(Fd(fd), ListenerId(listener)),
            Phase::Stopping => {
                self.give_back(ListenerId(listener));
                self.turn_away(Fd(fd));
            }
        }
    }

    /// The other worker is gone, or its ring is full: serve it here.
    pub(super) fn hand_over_failed(&mut self, token: Token) {
        let (fd, listener, worker) = returned(token);
        self.shared.not_sent(worker);
        self.shared.add_load(self.index);
        self.taken_over(listener.0, fd.0);
    }
}

/// A worker to hand a connection to.
struct Other {
    worker: usize,
    port: Fd,
}

/// Bits of a token for the listener of a connection that comes back; the rest of the generation is for the worker.
/// Connections of listeners beyond are not handed over.
const LISTENER_BITS: u32 = 14;

/// Says where a connection comes from, if the other worker could not be told of it: all that is needed to serve it
/// here after all.
fn undelivered(fd: Fd, listener: ListenerId, worker: usize) -> Token {
    let generation = (worker as u32) << LISTENER_BITS | listener.0;
    Token { operation: Operation::HandOverFailed, generation, index: fd.0 as u32 }
}

/// The inverse of [`undelivered`].
fn returned(token: Token) -> (Fd, ListenerId, usize) {
    let listener = ListenerId(token.generation & ((1 << LISTENER_BITS) - 1));
    (Fd(token.index as i32), listener, (token.generation >> LISTENER_BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_comes_back_is_known() {
        let token = undelivered(Fd(19_999), ListenerId(16_383), 1023);
        let token = Token::unpack(token.pack()).unwrap();
        assert_eq!(returned(token), (Fd(19_999), ListenerId(16_383), 1023));
    }
}
