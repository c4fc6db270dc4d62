//! A worker's ring: what is queued, what is in flight, and what has ended. What io_uring does is said at
//! `ringway::uring` and `ringway::kernel`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ringway::base::lease::Lease;
use ringway::base::side::Side;
use ringway::base::time::Moment;
use ringway::kernel::token::{Operation, Token};
use ringway::kernel::{Completion, Fd, Interest, errno, poll};

use crate::corner::Corner;
use crate::dice::Odds;
use crate::epoll::{Connecting, Watched};
use crate::faults::{MS, Profile};
use crate::host::{Host, Mood, Thing};
use crate::kernel::BellCount;
use crate::pair::Key;
use crate::pools::{Plumbing, Pool};

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Recv { credit: u32, fresh: bool },
    Send { lease: Lease, quiet: bool, followed: bool },
    Poll(Interest),
    Connect { site: usize },
    Accept,
    Bell,
    Close,
    Cancel(Token),
    Message { port: Fd, result: i32, there: Token },
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub token: Token,
    pub fd: Fd,
    pub deed: Deed,
    pub cancelled: bool,
    /// What an edge has told: how often the state has changed, and how often room has come.
    pub seen: Option<(u64, u64)>,
    /// A receive that nothing wakes any more.
    pub deaf: bool,
    /// What a connect comes to: 0, an errno, or `None` for no answer.
    pub outcome: Option<i32>,
}

pub struct Ring {
    pub port: i32,
    pub bell_fd: i32,
    pub bell: Arc<BellCount>,
    pub queued: VecDeque<Op>,
    pub armed: Vec<Op>,
    /// Completions, with the connection they are about.
    pub done: VecDeque<(Completion, Option<usize>)>,
    quiet: Vec<(Token, Lease, usize)>,
    /// Everything that was pushed and not answered.
    tokens: BTreeSet<u64>,
    /// Entering it submits, and brings nothing: the worker sleeps.
    pub asleep: bool,
    /// The kernel has not taken all that was queued when it was entered last.
    is_short: bool,
    /// Its completions are no longer taken out.
    pub gone: bool,
    pub pool: Pool,
    pub pipes: Plumbing,
    /// Receives that the worker knows to have found no buffer, and has not armed again.
    pub starved: Vec<(Key, usize)>,
    /// Sessions whose receive from the client was cancelled in this turn.
    pub cut: Vec<Key>,
    /// Completions that the worker has and has not heard: what it takes amid a turn, it looks at in its next one.
    taken: Vec<(Completion, Option<usize>)>,
    /// Completions that the worker has heard in its turn.
    pub heard: usize,
    /// How many turns of the worker were started.
    pub turns: u64,
    /// Its free buffers are lent outside the simulation until then.
    pub withheld_until: Moment,
    /// With epoll: on what each operation is in flight, and with which buffer.
    pub in_flight: BTreeMap<u64, (Thing, Option<u16>)>,
    /// With epoll: what is watched, by descriptor; connects that are under way; and messages, and how many there were.
    pub watched: BTreeMap<i32, Watched>,
    pub connecting: Vec<Connecting>,
    pub letters: VecDeque<(Token, i32)>,
    pub posted: u64,
}

impl Ring {
    pub fn new(profile: &Profile) -> Ring {
        Ring {
            port: -1,
            bell_fd: -1,
            bell: Arc::default(),
            queued: VecDeque::new(),
            armed: Vec::new(),
            done: VecDeque::new(),
            quiet: Vec::new(),
            tokens: BTreeSet::new(),
            asleep: false,
            is_short: false,
            gone: false,
            pool: Pool::new(profile.buffers, profile.posted),
            pipes: Plumbing::new(profile.pipes, profile.pipe_capacity),
            starved: Vec::new(),
            cut: Vec::new(),
            taken: Vec::new(),
            heard: 0,
            turns: 0,
            withheld_until: Moment::NEVER,
            in_flight: BTreeMap::new(),
            watched: BTreeMap::new(),
            connecting: Vec::new(),
            letters: VecDeque::new(),
            posted: 0,
        }
    }

    /// Connections that come in messages, or were just accepted.
    pub fn on_their_way(&self, operations: &[Operation]) -> usize {
        let is_one = |completion: &Completion| operations.contains(&completion.token.operation);
        let letters = self.letters.iter().filter(|(token, _)| operations.contains(&token.operation)).count();
        letters + self.done.iter().filter(|(completion, _)| completion.result >= 0 && is_one(completion)).count()
    }

    /// Connections to which something was sent that the worker has not heard of.
    pub fn sent_quietly(&self) -> impl Iterator<Item = usize> {
        self.quiet.iter().map(|&(_, _, id)| id)
    }

    pub fn failed_messages(&self) -> usize {
        self.done.iter().filter(|(completion, _)| completion.token.operation == Operation::HandOverFailed).count()
    }
}

/// Which side of a session an operation is of.
pub fn side_of(operation: Operation) -> Option<Side> {
    use Operation::*;
    match operation {
        RecvClient | SendClient | ReadableClient | WritableClient | Preread | HangupClient => Some(Side::Client),
        RecvBackend | SendBackend | ReadableBackend | WritableBackend | Connect | Greet | HangupBackend => {
            Some(Side::Backend)
        }
        _ => None,
    }
}

/// What is said of an operation that has no buffer.
pub fn completion(token: Token, result: i32, more: bool) -> Completion {
    Completion { token, result, more, nonempty: false, buffer: None }
}

impl Host {
    /// A cancel names what its operation was pushed for, which is open.
    pub fn check_cancel(&self, worker: usize, fd: Fd, which: Token) {
        self.thing(fd);
        let ring = &self.rings[worker];
        let is_it = |op: &&Op| op.token == which && !matches!(op.deed, Deed::Close | Deed::Cancel(_));
        if let Some(op) = ring.queued.iter().chain(&ring.armed).find(is_it) {
            assert_eq!(op.fd, fd, "{which:?} is cancelled on another descriptor");
        }
    }

    pub fn push(&mut self, worker: usize, token: Token, fd: Fd, deed: Deed) {
        self.note(worker, token, fd, deed);
        let op = Op { token, fd, deed, cancelled: false, seen: None, deaf: false, outcome: None };
        self.rings[worker].queued.push_back(op);
    }

    /// An operation begins.
    pub fn note(&mut self, worker: usize, token: Token, fd: Fd, deed: Deed) {
        let answered = !matches!(deed, Deed::Close | Deed::Cancel(_) | Deed::Message { .. });
        let thing = if answered || matches!(deed, Deed::Close) { Some(self.thing(fd)) } else { None };
        if answered {
            let is_new = self.rings[worker].tokens.insert(token.pack());
            assert!(is_new, "two of {token:?} are in flight");
        }
        let key: Key = (worker, token.index, token.generation);
        match (thing, side_of(token.operation)) {
            (Some(Thing::Sock(sock)), Some(side)) => {
                self.socks[sock].in_flight += 1;
                self.pair(key, side, sock);
            }
            (Some(Thing::Door(door)), None) => self.doors[door].in_flight += 1,
            (Some(Thing::Bell(_)), None) => {}
            (Some(Thing::Sock(_)), None) if matches!(deed, Deed::Close) => {}
            (None, _) => {}
            (thing, _) => panic!("{token:?} {deed:?} on {thing:?}"),
        }
        self.called();
        if let Deed::Cancel(which) = deed {
            self.note_cancel(worker, which);
        }
        if answered && side_of(token.operation).is_some() {
            self.note_push(worker, token);
        }
        if let (Deed::Recv { credit, .. }, Some(Thing::Sock(sock))) = (deed, thing) {
            self.rings[worker].starved.retain(|&(_, starved)| starved != sock);
            self.check_recv(worker, sock, credit);
        }
        if let Deed::Send { lease, .. } = deed {
            self.rings[worker].pool.set_sending(lease.buffer, true);
        }
        if self.trace {
            self.say(format_args!("      w{worker} pushes {token:?} {fd:?} {deed:?}"));
        }
        if self.profile.is_epoll
            && answered
            && let Some(thing) = thing
        {
            let buffer = if let Deed::Send { lease, .. } = deed { Some(lease.buffer) } else { None };
            self.rings[worker].in_flight.insert(token.pack(), (thing, buffer));
        }
    }

    /// The kernel takes what is queued, and perhaps not all of it.
    pub fn submit(&mut self, worker: usize) {
        self.rings[worker].pool.publish();
        while !self.rings[worker].queued.is_empty() {
            // Where there was no memory just now, there may be none yet.
            let odds = if self.rings[worker].is_short { Odds(512) } else { self.profile.odds.spurious_wake };
            if self.spurious(odds) {
                self.rings[worker].is_short = true;
                self.corners.reach(Corner::OpsNotTaken);
                return;
            }
            if let Some(op) = self.rings[worker].queued.pop_front() {
                self.take(worker, op);
            }
        }
        self.rings[worker].is_short = false;
    }

    fn take(&mut self, worker: usize, mut op: Op) {
        match op.deed {
            Deed::Close => self.close(op.fd),
            Deed::Cancel(which) => self.cancel(worker, which),
            Deed::Message { port, result, there } => self.message(worker, op.token, (port, result, there)),
            Deed::Send { lease, quiet, followed } => self.send(worker, op, lease, (quiet, followed)),
            Deed::Connect { site } => {
                op.outcome = self.connect_outcome(site);
                self.rings[worker].armed.push(op);
            }
            _ => {
                self.rings[worker].armed.push(op);
                if self.dice.one_in(2) {
                    self.run(worker, self.rings[worker].armed.len() - 1);
                }
            }
        }
    }

    fn cancel(&mut self, worker: usize, which: Token) {
        match self.rings[worker].armed.iter().position(|op| op.token == which) {
            Some(at) => {
                self.rings[worker].armed[at].cancelled = true;
                self.cross(worker, at);
                if self.dice.one_in(2) {
                    self.run(worker, at);
                }
            }
            None => {
                self.corners.reach(Corner::CancelFoundNothing);
                let forget = Token::plain(Operation::Forget, 0);
                self.rings[worker].done.push_back((completion(forget, -errno::ENOENT, false), None));
            }
        }
    }

    /// Bytes may be on their way that are no longer expected.
    fn cross(&mut self, worker: usize, at: usize) {
        let (now, op) = (self.now, self.rings[worker].armed[at]);
        if !matches!(op.deed, Deed::Recv { .. }) || !self.dice.one_in(4) {
            return;
        }
        let sock = self.sock(op.fd);
        sock.peer.write_at = sock.peer.write_at.min(now);
        if sock.peer_writes(now) {
            self.progress += 1;
            self.corners.reach(Corner::BytesCrossCancel);
        }
    }

    fn message(&mut self, worker: usize, failed: Token, (port, result, there): (Fd, i32, Token)) {
        let to = self.fds.get(&port.0).copied();
        let odds = self.profile.odds.no_message;
        let lost = self.fault(odds);
        let hands_over = there.operation == Operation::HandOver;
        match to {
            Some(Thing::Port(other)) if !lost && !self.rings[other].gone => {
                self.corners.reach(if hands_over { Corner::HandedOver } else { Corner::OtherWorkerTold });
                self.rings[other].done.push_back((completion(there, result, false), None));
            }
            _ => {
                if hands_over {
                    self.corners.reach(Corner::HandOverFailed);
                }
                self.rings[worker].done.push_back((completion(failed, -errno::ENOMEM, false), None));
            }
        }
    }

    pub fn connect_outcome(&mut self, site: usize) -> Option<i32> {
        let odds = self.profile.odds;
        if self.spurious(odds.no_memory) {
            return Some(self.dice.pick(&[errno::ENOMEM, errno::ENOBUFS, errno::EADDRNOTAVAIL]));
        }
        if self.fault(odds.connect_fails) {
            let errnos = [errno::ECONNREFUSED, errno::ENETUNREACH, errno::EHOSTUNREACH, errno::ECONNRESET];
            return Some(self.dice.pick(&errnos));
        }
        match self.sites[site].mood {
            Mood::Fine => Some(0),
            Mood::Refuses => Some(errno::ECONNREFUSED),
            Mood::Silent => None,
        }
    }

    /// A session outside the simulation takes every buffer that is free, and gives them back after a while.
    pub fn withhold(&mut self, worker: usize) {
        let for_ns = self.dice.pick(&[120 * MS, 400 * MS]);
        let until = self.now.after_ns(for_ns);
        self.say(format_args!("    w{worker} has no free buffer until {until:?}"));
        self.rings[worker].pool.withhold();
        self.rings[worker].withheld_until = until;
    }

    /// The worker hears of what that session did.
    pub fn return_withheld(&mut self) {
        for ring in self.rings.iter_mut().filter(|ring| ring.withheld_until <= self.now) {
            ring.withheld_until = Moment::NEVER;
            ring.pool.return_withheld();
            ring.done.push_back((completion(Token::plain(Operation::Forget, 0), 0, false), None));
        }
    }

    /// Sends what there is room for, or less.
    pub fn try_send(&mut self, worker: usize, fd: Fd, lease: Lease, followed: bool) -> Result<u64, i32> {
        let odds = self.profile.odds;
        let result = if self.spurious(odds.send_refused) {
            Err(errno::EAGAIN)
        } else if self.spurious(odds.no_memory) {
            Err(self.dice.pick(&[errno::ENOMEM, errno::ENOBUFS]))
        } else if !self.profile.is_epoll && self.spurious(odds.interrupted) {
            Err(errno::EINTR)
        } else {
            let mut bytes = self.rings[worker].pool.read(lease);
            assert!(!bytes.is_empty(), "nothing is sent");
            let max = self.perhaps_less(odds.short_send, bytes.len());
            let id = self.sock(fd).id;
            let skipped = self.skipped_of_partner(id);
            self.socks[id].send(&mut bytes, max, skipped)
        };
        // Where it takes less than all, it is full: the kernel sends what it has.
        let is_held = followed && result == Ok(u64::from(lease.len));
        let now = self.now;
        self.sock(fd).hold_back(is_held.then_some(now));
        self.progress += u64::from(result.is_ok());
        result
    }

    /// It never waits for room.
    fn send(&mut self, worker: usize, op: Op, lease: Lease, (quiet, followed): (bool, bool)) {
        assert!(!(quiet && followed), "a send that is followed must be heard of");
        let result = self.try_send(worker, op.fd, lease, followed);
        let id = self.sock(op.fd).id;
        let corner = match result {
            Ok(len) if quiet && len == u64::from(lease.len) => {
                self.corners.reach(Corner::SentQuietly);
                self.rings[worker].quiet.push((op.token, lease, id));
                return;
            }
            Err(errno::EAGAIN) => Corner::SendBlocked,
            _ if quiet => Corner::QuietSendFailed,
            _ => return self.sent(worker, op, lease, id, result),
        };
        self.corners.reach(corner);
        self.sent(worker, op, lease, id, result);
    }

    fn sent(&mut self, worker: usize, op: Op, lease: Lease, id: usize, result: Result<u64, i32>) {
        // Answered immediately. The buffer is the worker's again when it hears of it.
        let number = result.map_or_else(|errno| -errno, |len| len as i32);
        let mut done = completion(op.token, number, false);
        done.buffer = Some(lease.buffer);
        self.rings[worker].done.push_back((done, Some(id)));
    }

    /// Gives the worker everything that is done.
    pub fn collect(&mut self, worker: usize, into: &mut Vec<Completion>) {
        if self.rings[worker].queued.is_empty() {
            for (token, lease, id) in std::mem::take(&mut self.rings[worker].quiet) {
                let mut done = completion(token, i32::from(lease.len), false);
                done.buffer = Some(lease.buffer);
                self.hand(worker, done, Some(id), into);
            }
        }
        for (done, id) in std::mem::take(&mut self.rings[worker].done) {
            self.hand(worker, done, id, into);
        }
    }

    /// A turn of the worker begins: it looks at all that it was given since its last one did.
    pub fn hear(&mut self, worker: usize) {
        self.rings[worker].turns += 1;
        let taken = std::mem::take(&mut self.rings[worker].taken);
        self.rings[worker].heard = taken.len();
        for (done, id) in taken {
            if let Some(id) = id {
                self.tell_sock(id, done);
                self.note_told(worker, &done, id);
                if let Some(buffer) = done.buffer {
                    self.rings[worker].pool.own(buffer, id);
                }
            }
            if self.trace {
                self.say(format_args!("      w{worker} hears {done:?}"));
            }
        }
    }

    fn hand(&mut self, worker: usize, mut done: Completion, id: Option<usize>, into: &mut Vec<Completion>) {
        use Operation::*;
        let token = done.token;
        let ring = &mut self.rings[worker];
        match token.operation {
            SendClient | SendBackend => {
                let buffer = done.buffer.take().expect("a send has a buffer");
                ring.pool.set_sending(buffer, false);
            }
            RecvClient | RecvBackend if done.buffer.is_some() => ring.pool.untold -= 1,
            _ => {}
        }
        if !done.more {
            ring.tokens.remove(&token.pack());
        }
        if let Some(id) = id {
            self.socks[id].in_flight -= u32::from(!done.more);
        }
        self.rings[worker].taken.push((done, id));
        into.push(done);
    }

    /// Whether a connection has had the worker's FIN, or has it before the worker looks at what it is told now: it was
    /// told of the other side's, and everything before that was handed over.
    fn gets_fin(&self, id: usize) -> bool {
        let to = &self.socks[id];
        let from = to.partner.map(|partner| &self.socks[partner]);
        to.shut || from.is_some_and(|from| from.eof_told && from.heard - from.skipped <= to.accepted)
    }

    /// What the worker knows of a connection from now on.
    fn tell_sock(&mut self, id: usize, done: Completion) {
        use Operation::*;
        let gets_fin = self.gets_fin(id);
        let sock = &mut self.socks[id];
        let is_bad = !matches!(
            -done.result,
            errno::EAGAIN
                | errno::EINTR
                | errno::ENOMEM
                | errno::ENOBUFS
                | errno::ECANCELED
                | errno::EMFILE
                | errno::ENFILE
        );
        let has_failed = match done.token.operation {
            RecvClient | RecvBackend if done.result == 0 => {
                sock.eof_told |= sock.fin_arrived;
                !sock.fin_arrived
            }
            RecvClient | RecvBackend | SendClient | SendBackend => done.result < 0 && is_bad,
            WritableClient | WritableBackend => {
                sock.room_denied = !poll::says_writable(done.result);
                false
            }
            // After our own FIN it says nothing.
            HangupClient | HangupBackend => poll::says_hung_up(done.result) && sock.dead && !gets_fin,
            _ => false,
        };
        match done.token.operation {
            SendClient | SendBackend if has_failed => self.note_failed_send(id),
            _ if has_failed => self.note_failure(id),
            _ => {}
        }
    }
}
