//! A session as its kernel can see it: which connections it has, what is in flight, and how far it has come. What a
//! session may do, and by when, follows from this alone.

use ringway::base::side::Side;
use ringway::base::time::Moment;
use ringway::kernel::token::{Operation, Token};
use ringway::kernel::{Completion, errno, poll};

use crate::host::Host;
use crate::ring::side_of;
use crate::sock::Sock;

/// A session by its worker, its place, and the tenant of the place.
pub type Key = (usize, u32, u32);

/// Operations that a session has; those of workers have higher numbers.
const OPERATIONS: usize = Operation::HangupBackend as usize + 1;
/// Cancels of one end: one for each operation that may be in flight at the same time.
const CANCELS_MAX: u32 = 8;

fn is_hangup(operation: Operation) -> bool {
    matches!(operation, Operation::HangupClient | Operation::HangupBackend)
}

/// What became of an operation of a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Flight {
    #[default]
    Never,
    Begun,
    Cancelled,
    /// The worker heard of its end in that turn of its.
    Told(u64),
}

/// Operations were cancelled, and no new one was started since: most likely the session ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub at: Moment,
    /// How long nothing had happened.
    pub quiet_ns: u64,
    pub half_closed: bool,
    pub first_error: Option<Side>,
    /// One of its halves had a pipe.
    pub spliced: bool,
    /// By half: the worker knew of bytes that were not handed over. A send may be about to do so.
    pub held: [bool; 2],
    pub sends: bool,
    /// By side: when its peer's kernel took something in.
    pub moved_at: [Moment; 2],
    cancels: u32,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Its client must say something first.
    Prereading,
    /// A connect to a backend is in flight, or its greeting is.
    Connecting,
    /// It waits for a backend, or for something that a connect takes.
    Seeking,
    Relaying,
    /// One side has failed, and the other one is to get what came before that.
    Flushing(Moment),
    Ending,
}

/// The two connections of a session, and what was seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair {
    pub socks: [Option<usize>; 2],
    /// When it was first seen.
    pub known_at: Moment,
    /// Something was received from the client for the first time then: it is asked nothing more.
    pub opened_at: Option<Moment>,
    /// No connect is in flight since then.
    pub seeking_since: Moment,
    /// Something was received from the backend for the first time then: both are connected.
    pub connected_at: Option<Moment>,
    /// The last byte.
    pub active_at: Moment,
    /// A FIN was passed on, or a side failed.
    pub half_closed_at: Option<Moment>,
    pub first_error: Option<Side>,
    pub flushing_since: Option<Moment>,
    pub kept_alive: bool,
    /// By side: since when its connection is broken without a sign of it.
    pub unnoticed_since: [Option<Moment>; 2],
    pub ending: Option<Ending>,
    /// The connect that was last in flight was cancelled.
    pub connect_cancelled: bool,
    /// How many connects were cancelled.
    pub connects_cancelled: u32,
    /// Connections to backends that the kernel has found to be lost, before they had answered a greeting.
    pub greetings_lost: u32,
    /// The first failure was told by the answer to a send, when nothing else was in flight: the session may have ended.
    pub failed_last: bool,
    /// Connects that found no port.
    pub ports_refused: u32,
    /// When it ended, another session of its worker had been without a backend for this time.
    pub others_seek_ns: u64,
    /// A pipe went back, and no operation was started since.
    gave_pipe_back: bool,
    /// By side: a poll has just said that the connection is no more, and goes on. The worker ends it by itself.
    hung_up: [bool; 2],
    /// Cancels that were pushed.
    cancels: u32,
    /// When the worker was told something last.
    told_at: Moment,
    flights: [Flight; OPERATIONS],
}

impl Pair {
    /// The last time that anything happened which keeps it alive.
    pub fn quiet_since(&self) -> Moment {
        let entered = self.connected_at.unwrap_or_default();
        self.active_at.max(self.half_closed_at.unwrap_or_default()).max(entered)
    }

    /// What was cancelled last is told at the very end. If nothing was told then, nothing was in flight.
    pub fn forget_old_cancels(&mut self, parted_at: Moment) {
        self.ending = self.ending.filter(|ending| self.told_at.max(ending.at) == parted_at);
    }

    /// Whether that is in flight, cancelled or not.
    pub fn has_in_flight(&self, operation: Operation) -> bool {
        matches!(self.flights[operation as usize], Flight::Begun | Flight::Cancelled)
    }

    /// Whether that is in flight, and not cancelled.
    pub fn is_begun(&self, operation: Operation) -> bool {
        self.flights[operation as usize] == Flight::Begun
    }

    /// Whether anything is in flight that was cancelled.
    pub fn has_cancelled(&self) -> bool {
        self.flights.contains(&Flight::Cancelled)
    }

    /// Whether anything is in flight that was not cancelled; what is sent is over immediately.
    pub fn has_armed(&self) -> bool {
        let sends = [Operation::SendClient as usize, Operation::SendBackend as usize];
        (0..).zip(&self.flights).any(|(number, &flight)| flight == Flight::Begun && !sends.contains(&number))
    }

    /// Whether its end would show nowhere: all that is in flight is a send, which is not cancelled, or a connect that
    /// was given up before.
    pub fn may_end_unseen(&self) -> bool {
        let sends = Side::BOTH.into_iter().any(|side| self.has_in_flight(Operation::send(side)));
        let gives_up = self.connect_cancelled && self.has_in_flight(Operation::Connect);
        !self.has_armed() && (sends || gives_up)
    }

    /// Whether a send was on its way to the kernel or back.
    fn sends(&self, turn: u64) -> bool {
        let sends = [Operation::SendClient, Operation::SendBackend];
        sends.iter().any(|&operation| {
            let told = self.flights[operation as usize] == Flight::Told(turn);
            told || self.has_in_flight(operation)
        })
    }

    pub fn stage(&self) -> Stage {
        let connects = self.has_in_flight(Operation::Connect) || self.has_in_flight(Operation::Greet);
        match (self.connected_at, self.opened_at) {
            _ if self.ending.is_some() && !self.has_armed() => Stage::Ending,
            (Some(_), _) => self.flushing_since.map_or(Stage::Relaying, Stage::Flushing),
            (None, Some(_)) if connects => Stage::Connecting,
            (None, Some(_)) => Stage::Seeking,
            (None, None) => Stage::Prereading,
        }
    }

    fn pushed(&mut self, operation: Operation, now: Moment) {
        self.flights[operation as usize] = Flight::Begun;
        (self.ending, self.gave_pipe_back) = (None, false);
        match operation {
            Operation::RecvClient if self.opened_at.is_none() => {
                (self.opened_at, self.seeking_since) = (Some(now), now);
            }
            Operation::RecvBackend if self.connected_at.is_none() => self.connected_at = Some(now),
            // A backend on this host is greeted immediately.
            Operation::Connect | Operation::Greet => self.connect_cancelled = false,
            _ => {}
        }
    }

    /// Only what is in flight can be cancelled, or what ended just now and the worker has not looked at. A greeting
    /// follows its connect, and both are cancelled as one.
    fn cancelled(&mut self, operation: Operation, turn: u64, may_be_refused: bool) {
        let is_there = |operation: Operation| match self.flights[operation as usize] {
            Flight::Begun | Flight::Cancelled => true,
            Flight::Told(at) => at == turn,
            Flight::Never => false,
        };
        let greets = matches!(operation, Operation::Connect | Operation::Greet);
        let is_one =
            is_there(operation) || (greets && [Operation::Connect, Operation::Greet].into_iter().any(is_there));
        // A receive that has met the end of its connection reports it only when it is woken.
        let is_woken = may_be_refused && matches!(operation, Operation::RecvClient | Operation::RecvBackend);
        assert!(is_one || is_woken, "{operation:?} is cancelled, and is not in flight");
        if self.flights[operation as usize] == Flight::Begun {
            self.flights[operation as usize] = Flight::Cancelled;
        }
        self.connect_cancelled |= operation == Operation::Connect;
        self.connects_cancelled += u32::from(operation == Operation::Connect);
    }

    fn told(&mut self, done: &Completion, turn: u64, now: Moment) {
        let operation = done.token.operation;
        self.told_at = now;
        if is_hangup(operation) && poll::says_hung_up(done.result) {
            self.hung_up[usize::from(operation == Operation::HangupBackend)] = done.more;
        }
        // What ends has cancelled all that could tell it anything but how a send went.
        let sends = matches!(operation, Operation::SendClient | Operation::SendBackend);
        if self.flights[operation as usize] == Flight::Begun && !sends {
            self.ending = None;
        }
        if done.more {
            return;
        }
        self.flights[operation as usize] = Flight::Told(turn);
        if matches!(operation, Operation::Connect | Operation::Greet) {
            self.seeking_since = now;
            self.ports_refused += u32::from(done.result == -errno::EADDRNOTAVAIL);
        }
    }
}

impl Host {
    /// That session uses this connection.
    pub fn pair(&mut self, key: Key, side: Side, sock: usize) {
        let now = self.now;
        let pair = self.sessions.entry(key).or_insert(Pair { known_at: now, active_at: now, ..Pair::default() });
        let before = pair.socks[side.index()].replace(sock);
        let (other, is_connected) = (pair.socks[side.peer().index()], pair.connected_at.is_some());
        if before == Some(sock) {
            return;
        }
        if let Some(before) = before {
            assert!(side == Side::Backend, "{key:?} has another client");
            assert!(!is_connected, "{key:?} has another backend after a connection was made");
            let is_closed = self.socks[before].closed.is_some() || self.closes(key.0, before);
            assert!(is_closed, "{key:?} has two backends");
        }
        assert_eq!(self.socks[sock].is_client, side == Side::Client, "{key:?} takes one side for the other");
        self.say(format_args!("      {key:?} {side:?} is c{sock}"));
        self.socks[sock].session = Some(key);
        if let Some(other) = other {
            self.socks[sock].partner = Some(other);
            self.socks[other].partner = Some(sock);
        }
    }

    /// The session of a connection, while it lives.
    fn pair_of(&mut self, sock: usize) -> Option<&mut Pair> {
        let key = self.socks[sock].session?;
        self.sessions.get_mut(&key).filter(|pair| pair.socks.contains(&Some(sock)))
    }

    pub fn note_push(&mut self, worker: usize, token: Token) {
        let now = self.now;
        if let Some(pair) = self.sessions.get_mut(&(worker, token.index, token.generation)) {
            pair.pushed(token.operation, now);
        }
    }

    /// An operation is cancelled. It must be one that is there: the kernel walks over many others to find none.
    pub fn note_cancel(&mut self, worker: usize, which: Token) {
        let (now, turn) = (self.now, self.rings[worker].turns);
        if side_of(which.operation).is_none() {
            return;
        }
        let key = (worker, which.index, which.generation);
        let Some(pair) = self.sessions.get(&key) else { panic!("{which:?} is cancelled after the end") };
        let sock = side_of(which.operation).and_then(|side| pair.socks[side.index()]);
        let is_dead = sock.is_some_and(|sock| self.socks[sock].dead);
        let moved_at = pair.socks.map(|sock| sock.map_or(now, |sock| self.socks[sock].moved_at));
        let (spliced, held) = (self.has_pipe(worker, pair), self.held_by(pair));
        let Some(pair) = self.sessions.get_mut(&key) else { return };
        // A receive may be refused where memory is scarce, before its cancel, which was asked for already, is made.
        let may_be_refused = is_dead || self.rings[worker].pool.scarce_in == self.turn;
        let own = usize::from(which.operation == Operation::HangupBackend);
        let is_own = is_hangup(which.operation) && std::mem::take(&mut pair.hung_up[own]);
        pair.cancelled(which.operation, turn, may_be_refused);
        pair.cancels += 1;
        assert!(pair.cancels <= 2_000, "{which:?} is cancelled again and again");
        if is_own {
            return;
        }
        let cancels = 1 + pair.ending.filter(|ending| ending.at == now).map_or(0, |ending| ending.cancels);
        assert!(cancels <= CANCELS_MAX, "{cancels} operations are cancelled at one end");
        let spliced = spliced || pair.gave_pipe_back;
        // The first one says how it was.
        let begin = pair.ending.filter(|ending| ending.at == now);
        let (half_closed, quiet_ns) = (pair.half_closed_at.is_some(), now.since_ns(pair.quiet_since()));
        let sends = pair.sends(turn);
        let first_error = pair.first_error;
        let new = Ending { at: now, quiet_ns, half_closed, first_error, spliced, held, sends, moved_at, cancels };
        pair.ending = Some(Ending { cancels, ..begin.unwrap_or(new) });
        if begin.is_none() {
            self.note_rivals(key);
        }
        if which.operation == Operation::RecvClient {
            self.rings[worker].cut.push(key);
        }
    }

    /// A session ends: notes for how long others have been there that have no backend.
    fn note_rivals(&mut self, key: Key) {
        let now = self.now;
        let seeks = |pair: &Pair| {
            let connects = pair.has_in_flight(Operation::Connect) || pair.has_in_flight(Operation::Greet);
            let is_open = pair.socks[Side::Client.index()].is_some_and(|sock| self.socks[sock].parting.is_none());
            // One that has found a descriptor in this very turn may have come to it after it was decided.
            let backend = pair.socks[Side::Backend.index()].map(|sock| &self.socks[sock]);
            let begins_now = backend.is_some_and(|sock| sock.began_at == now);
            is_open && (begins_now || (pair.connected_at.is_none() && !connects))
        };
        let others = self.sessions.range((key.0, 0, 0)..(key.0 + 1, 0, 0)).filter(|&(&other, _)| other != key);
        let since = others.filter(|(_, pair)| seeks(pair)).filter_map(|(_, pair)| pair.opened_at).min();
        let others_seek_ns = since.map_or(0, |since| now.since_ns(since));
        if let Some(pair) = self.sessions.get_mut(&key) {
            pair.others_seek_ns = others_seek_ns;
        }
    }

    /// The worker gives its client up. If nothing was in flight, that is the first that is seen of the end.
    pub fn note_parting(&mut self, sock: usize) {
        let now = self.now;
        let Some(key) = self.socks[sock].session.filter(|_| self.socks[sock].is_client) else { return };
        let is_new = |pair: &Pair| pair.ending.is_none_or(|ending| pair.told_at.max(ending.at) != now);
        if self.sessions.get(&key).is_some_and(is_new) {
            self.note_rivals(key);
        }
    }

    /// The worker hears of an operation on that connection.
    pub fn note_told(&mut self, worker: usize, done: &Completion, sock: usize) {
        use Operation::{RecvBackend, RecvClient, SendBackend, SendClient};
        let (now, turn, token) = (self.now, self.rings[worker].turns, done.token);
        let key = (worker, token.index, token.generation);
        if side_of(token.operation).is_some()
            && let Some(pair) = self.sessions.get_mut(&key)
        {
            pair.told(done, turn, now);
            let is_lost = self.socks[sock].dead && self.socks[sock].peer.vanished_at.is_some();
            pair.greetings_lost += u32::from(token.operation == Operation::Greet && is_lost);
        }
        let starves = matches!(-done.result, errno::ENOBUFS | errno::EINTR);
        if starves && matches!(token.operation, RecvClient | RecvBackend) {
            self.rings[worker].starved.push((key, sock));
        }
        if done.result > 0 && matches!(token.operation, RecvClient | RecvBackend | SendClient | SendBackend) {
            self.note_bytes(sock);
            if matches!(token.operation, RecvClient | RecvBackend) {
                self.socks[sock].heard += done.result as u64;
            }
        }
    }

    /// Bytes have moved through that connection.
    pub fn note_bytes(&mut self, sock: usize) {
        let now = self.now;
        if let Some(pair) = self.pair_of(sock) {
            pair.active_at = now;
        }
    }

    /// A FIN is passed on to that connection.
    pub fn note_fin(&mut self, sock: usize) {
        let now = self.now;
        if let Some(pair) = self.pair_of(sock) {
            pair.half_closed_at.get_or_insert(now);
        }
    }

    /// The worker is told that this connection has failed.
    pub fn note_failure(&mut self, sock: usize) {
        let (now, turn) = (self.now, self.turn);
        if self.socks[sock].error_told {
            return;
        }
        self.socks[sock].tell_error(turn, now);
        let side = if self.socks[sock].is_client { Side::Client } else { Side::Backend };
        if let Some(pair) = self.pair_of(sock) {
            pair.first_error.get_or_insert(side);
            pair.half_closed_at.get_or_insert(now);
        }
    }

    /// The connection has failed, by the answer to a send.
    pub fn note_failed_send(&mut self, sock: usize) {
        if let Some(pair) = self.pair_of(sock) {
            pair.failed_last |= pair.first_error.is_none() && !pair.has_armed();
        }
        self.note_failure(sock);
    }

    /// A pipe that was for bytes of that connection is used no more.
    pub fn note_pipe_back(&mut self, sock: Option<usize>) {
        if let Some(pair) = sock.and_then(|sock| self.pair_of(sock)) {
            pair.gave_pipe_back = true;
        }
    }

    /// The worker asks how much of what was sent there is not acknowledged.
    pub fn note_flush(&mut self, sock: usize) {
        let now = self.now;
        if let Some(pair) = self.pair_of(sock) {
            pair.flushing_since.get_or_insert(now);
        }
    }

    pub fn note_keep_alive(&mut self, sock: usize) {
        if let Some(pair) = self.pair_of(sock) {
            pair.kept_alive = true;
        }
    }

    /// By half, whether the worker knows of bytes that were not handed over.
    fn held_by(&self, pair: &Pair) -> [bool; 2] {
        let [Some(client), Some(backend)] = pair.socks else { return [false; 2] };
        let holds = |from: &Sock, to: &Sock| !to.error_told && from.heard - from.skipped > to.accepted;
        let (client, backend) = (&self.socks[client], &self.socks[backend]);
        [holds(client, backend), holds(backend, client)]
    }

    /// Whether bytes of one of the two go through a pipe.
    pub fn has_pipe(&self, worker: usize, pair: &Pair) -> bool {
        pair.socks.iter().flatten().any(|&sock| self.rings[worker].pipes.lent_to(sock).is_some())
    }
}
