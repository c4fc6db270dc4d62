//! Handing a connection over: it goes to another worker that clearly has less to do.
//!
//! The descriptor travels as the result of a message to the other worker's ring (`Op::Message`, on io_uring MSG_RING).
//! The connection is counted at the receiver before the message is sent (`Shared::send_to`), so many workers that look
//! at the same numbers do not all choose the same receiver. If the message cannot be delivered, it comes back with
//! everything that is needed to serve the connection here (`undelivered`).

use super::Worker;
use crate::base::id::ListenerId;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Fd, Kernel, Op};
use crate::snapshot::table::Phase;

impl<K: Kernel> Worker<K> {
    /// Gives a connection that has its place to a worker, most often this one.
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

    /// Chooses between two random other workers ("power of two choices", Mitzenmacher 2001), and returns the less
    /// loaded one if this worker has clearly more to do. The kernel spreads connections evenly only on average, so a
    /// few long ones could all land on one worker. The connection is counted there already.
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

    /// Takes a connection that another worker has handed over. It is counted here already, and has its place.
    pub(super) fn taken_over(&mut self, listener: u32, fd: i32) {
        match self.known.phase {
            Phase::Serving | Phase::Leaving { .. } | Phase::Draining { .. } => self.begin(Fd(fd), ListenerId(listener)),
            Phase::Stopping => {
                self.give_back(ListenerId(listener));
                self.turn_away(Fd(fd));
            }
        }
    }

    /// A message could not be delivered, because the other worker is gone or its ring is full: serves the connection
    /// here.
    pub(super) fn hand_over_failed(&mut self, token: Token) {
        let (fd, listener, worker) = returned(token);
        self.shared.not_sent(worker);
        self.shared.add_load(self.index);
        self.taken_over(listener.0, fd.0);
    }
}

/// A worker to hand a connection to.
struct Other {
    /// Its number.
    worker: usize,
    /// Where its ring takes messages.
    port: Fd,
}

/// Bits of a token for the listener of a connection that comes back; the rest of the generation is for the worker.
/// Connections of listeners beyond are not handed over.
const LISTENER_BITS: u32 = 14;

/// The token that comes back if the other worker could not be told. It says which connection it was, of which listener,
/// and meant for which worker.
fn undelivered(fd: Fd, listener: ListenerId, worker: usize) -> Token {
    let generation = (worker as u32) << LISTENER_BITS | listener.0;
    Token { operation: Operation::HandOverFailed, generation, index: fd.0 as u32 }
}

/// Reads what [`undelivered`] has written into a token.
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
