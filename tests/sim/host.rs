//! The simulated host: descriptors, connections, listening sockets, backends, time and chance. The workers of a
//! schedule share it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway::base::address::Address;
use ringway::base::id::ListenerId;
use ringway::base::time::Moment;
use ringway::kernel::{Fd, errno};

use crate::corner::{Corner, Corners};
use crate::dice::{Dice, Odds};
use crate::faults::{MS, Profile};
use crate::pair::{Key, Pair};
use crate::ring::{Deed, Op, Ring};
use crate::sock::Sock;

/// What one turn asks of the kernel, at the most.
const CALLS_MAX: u32 = 50_000;

pub type Shared = Rc<RefCell<Host>>;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thing {
    Sock(usize),
    Door(usize),
    Port(usize),
    Bell(usize),
}

/// A listening socket.
pub struct Door {
    pub fd: i32,
    /// See `ListenSocket::address`.
    pub address: u32,
    pub listener: ListenerId,
    pub bind: Address,
    pub backlog: VecDeque<usize>,
    pub backlog_max: usize,
    /// Set once no worker has it any more.
    pub let_go: Arc<AtomicBool>,
    pub closed: bool,
    pub in_flight: u32,
    /// Since when a client waits here that could be served.
    pub stuck_since: Option<Moment>,
}

/// What becomes of attempts to connect to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    Fine,
    Refuses,
    /// No answer; of a unix socket, a full backlog.
    Silent,
}

/// Where a backend is.
pub struct Site {
    pub address: Address,
    pub mood: Mood,
    /// It answers a request for TLS.
    pub knows_tls: bool,
}

pub struct Host {
    pub now: Moment,
    pub dice: Dice,
    pub profile: Profile,
    pub corners: Corners,
    pub trace: bool,
    /// After so many more enters, no ring can be entered any more.
    pub breaks_after: Option<u32>,
    /// Number of the turn, over all workers, and what the kernel was asked to do in it.
    pub turn: u64,
    turns: u64,
    calls: u32,
    /// Connects that were refused immediately in it.
    pub refused: usize,
    /// When a session last tried to connect to a backend.
    pub tried_at: Moment,
    /// Counts bytes that moved, deeds of peers and faults: while it stands still, workers may not be busy.
    pub progress: u64,
    pub fds: BTreeMap<i32, Thing>,
    pub socks: Vec<Sock>,
    pub doors: Vec<Door>,
    pub sites: Vec<Site>,
    pub rings: Vec<Ring>,
    pub sessions: BTreeMap<Key, Pair>,
}

impl Host {
    pub fn new(mut dice: Dice, is_epoll: bool, trace: bool) -> Host {
        let mut profile = Profile::throw(&mut dice);
        profile.is_epoll = is_epoll;
        profile.recv_credit |= is_epoll;
        let mut host = Host {
            now: Moment(1_000_000_000),
            rings: (0..profile.workers).map(|_| Ring::new(&profile)).collect(),
            corners: Corners::default(),
            trace,
            breaks_after: None,
            turn: 0,
            turns: 0,
            calls: 0,
            refused: 0,
            tried_at: Moment(0),
            progress: 0,
            fds: BTreeMap::new(),
            socks: Vec::new(),
            doors: Vec::new(),
            sites: Vec::new(),
            sessions: BTreeMap::new(),
            dice,
            profile,
        };
        for worker in 0..host.profile.workers {
            host.rings[worker].port = host.new_fd(Thing::Port(worker));
            host.rings[worker].bell_fd = host.new_fd(Thing::Bell(worker));
        }
        host.say(format_args!("{:?}", host.profile));
        host
    }

    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>12.3} ms  {what}", self.now.0 as f64 / 1e6 - 1000.0);
        }
    }

    /// A turn begins.
    pub fn begin_turn(&mut self) {
        self.turns += 1;
        self.turn = self.turns;
        (self.calls, self.refused) = (0, 0);
    }

    /// The kernel is asked to do something. Panics if one turn asks for so much that it would never end.
    pub fn called(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "a turn does not end");
    }

    /// Whether this fault happens now.
    pub fn fault(&mut self, odds: Odds) -> bool {
        let happens = self.dice.chance(odds);
        self.progress += u64::from(happens);
        happens
    }

    /// Whether this fault happens now, out of nowhere.
    pub fn spurious(&mut self, odds: Odds) -> bool {
        let happens = self.profile.spurious_left > 0 && self.fault(odds);
        self.profile.spurious_left -= u32::from(happens);
        happens
    }

    /// At most `len`, less if that fault happens.
    pub fn perhaps_less(&mut self, odds: Odds, len: u64) -> u64 {
        if self.fault(odds) { self.dice.size(len) } else { len }
    }

    /// The lowest number that is free, as ever.
    pub fn new_fd(&mut self, thing: Thing) -> i32 {
        let mut fd = 3;
        for &taken in self.fds.keys() {
            if taken != fd {
                break;
            }
            fd += 1;
        }
        self.fds.insert(fd, thing);
        fd
    }

    /// Descriptors of the process.
    pub fn descriptors(&self) -> usize {
        self.fds.len() + self.rings.iter().map(|ring| ring.pipes.descriptors()).sum::<usize>()
    }

    /// A descriptor for that, or EMFILE.
    pub fn try_fd(&mut self, thing: Thing) -> Result<i32, i32> {
        if self.descriptors() >= self.profile.fd_max {
            return Err(errno::EMFILE);
        }
        Ok(self.new_fd(thing))
    }

    /// The connection of a descriptor.
    pub fn sock(&mut self, fd: Fd) -> &mut Sock {
        match self.fds.get(&fd.0) {
            Some(&Thing::Sock(sock)) => &mut self.socks[sock],
            other => panic!("EBADF: {fd:?} is used as a connection, and is {other:?}"),
        }
    }

    pub fn thing(&self, fd: Fd) -> Thing {
        *self.fds.get(&fd.0).unwrap_or_else(|| panic!("EBADF: {fd:?} is used and not open"))
    }

    pub fn close(&mut self, fd: Fd) {
        let now = self.now;
        let sock = self.sock(fd);
        sock.close(now);
        let (id, closed) = (sock.id, sock.closed);
        self.fds.remove(&fd.0);
        for ring in &mut self.rings {
            ring.watched.remove(&fd.0);
            ring.connecting.retain(|(connecting, _)| *connecting != fd);
        }
        self.progress += 1;
        self.say(format_args!("      close {fd:?} of c{id}, reset {closed:?}"));
        self.check_close(id);
    }

    /// Whether that worker is about to close that connection.
    pub fn closes(&self, worker: usize, sock: usize) -> bool {
        let closes = |op: &Op| matches!(op.deed, Deed::Close) && self.fds.get(&op.fd.0) == Some(&Thing::Sock(sock));
        self.rings[worker].queued.iter().any(closes)
    }

    /// Bytes of its peer that `sock`'s partner is to get no more, because ringway has taken them itself.
    pub fn skipped_of_partner(&self, sock: usize) -> u64 {
        self.socks[sock].partner.map_or(0, |partner| self.socks[partner].skipped)
    }

    /// Listening sockets that no worker has any more are closed, and clients that wait there are reset.
    pub fn close_doors(&mut self) {
        for door in self.doors.iter_mut().filter(|door| !door.closed && door.let_go.load(Ordering::Relaxed)) {
            assert_eq!(door.in_flight, 0, "a listening socket is closed with an accept in flight");
            let is_watched = self.rings.iter().any(|ring| ring.watched.contains_key(&door.fd));
            assert!(!is_watched, "a listening socket is closed that is watched: it may live on elsewhere");
            door.closed = true;
            self.fds.remove(&door.fd);
            for sock in std::mem::take(&mut door.backlog) {
                let sock = &mut self.socks[sock];
                sock.closed = Some(true);
                sock.peer.reset_arrived = true;
            }
        }
    }

    /// A client connects: into the backlog of one of the sockets at its address. False if it cannot now.
    pub fn knock(&mut self, sock: usize) -> bool {
        let bind = &self.socks[sock].own_address;
        let open: Vec<usize> =
            (0..self.doors.len()).filter(|&door| !self.doors[door].closed && self.doors[door].bind == *bind).collect();
        if open.is_empty() {
            let refused = &mut self.socks[sock];
            refused.closed = Some(true);
            refused.peer.reset_arrived = true;
            return true;
        }
        let door = if self.profile.lopsided { open[0] } else { self.dice.pick(&open) };
        // The kernel takes one more than it was told.
        if self.doors[door].backlog.len() > self.doors[door].backlog_max {
            return false;
        }
        self.say(format_args!("    c{sock} knocks at door {door}"));
        self.doors[door].backlog.push_back(sock);
        self.progress += 1;
        true
    }

    /// Takes a connection out of a backlog.
    pub fn accept(&mut self, door: usize) -> Result<i32, i32> {
        let odds = self.profile.odds.no_socket;
        if self.doors[door].backlog.is_empty() {
            return Err(errno::EAGAIN);
        }
        if self.spurious(odds) {
            self.corners.reach(Corner::AcceptFailed);
            let errnos =
                [errno::ECONNABORTED, errno::EINTR, errno::EMFILE, errno::ENFILE, errno::ENOMEM, errno::ENOBUFS];
            return Err(self.dice.pick(&errnos));
        }
        let sock = self.doors[door].backlog[0];
        let fd = self.try_fd(Thing::Sock(sock))?;
        self.doors[door].backlog.pop_front();
        self.progress += 1;
        self.say(format_args!("      c{sock} is accepted as {fd}"));
        Ok(fd)
    }

    /// Which backend is at that address.
    pub fn site(&self, address: &Address) -> usize {
        self.sites.iter().position(|site| site.address == *address).expect("a backend is at each address")
    }

    /// Lets time pass.
    pub fn pass(&mut self) {
        // A worker that spins does so until time has passed.
        let least_ns = if self.profile.busy_poll_ns > 0 { 4_000 } else { 0 };
        let step_ns = self.profile.step_ns.max(least_ns);
        self.now = self.now.after_ns(self.dice.below(step_ns + 1));
    }

    /// Whether a client has waited for such a long time that it cannot be a pause any more.
    pub fn is_overdue(since: Moment, next: Moment) -> bool {
        next > since.after_ns(3_000 * MS)
    }
}
