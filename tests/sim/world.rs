//! One schedule: workers, their clients and backends, control, and the order in which they move.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use ringway::base::address::Address;
use ringway::base::session::SessionId;
use ringway::base::time::Moment;
use ringway::snapshot::table::Phase;
use ringway::wire::{postgresql, proxy};
use ringway::worker::{Worker, WorkerSpec};

use crate::control::Control;
use crate::corner::{Corner, Corners};
use crate::dice::{Dice, Odds};
use crate::epoll::SimDriver;
use crate::faults::{MS, SECOND};
use crate::host::{Host, Shared};
use crate::order::Served;
use crate::peer::Finale;
use crate::sock::Sock;

/// One worker, as far as it is seen from outside.
pub struct Seat {
    /// `None` once it is done.
    pub worker: Option<Worker<SimDriver>>,
    /// It does its next turn then, if nothing completes before.
    pub wakes_at: Moment,
    /// It may hold completions that it has not looked at.
    pub is_busy: bool,
    /// The number of its turn, from its start to its end.
    pub amid: Option<u64>,
    /// Turns in a row in which nothing came about.
    pub idle_turns: u32,
    pub seen_progress: u64,
}

/// A client that has not connected yet.
struct Guest {
    sock: usize,
    at: Moment,
}

pub struct World {
    pub host: Shared,
    pub control: Control,
    pub seats: Vec<Seat>,
    guests: Vec<Guest>,
    steps: u64,
    stage: Stage,
    /// Steps after which control ends it all, whatever goes on.
    patience: u64,
    /// Times in a row that only time went on.
    sleeps: u32,
    stopped_at: Moment,
    /// Sessions that have ended.
    pub records: u64,
    /// Clients that wait although they were accepted.
    pub early: Cell<u64>,
    pub served: Vec<Served>,
    /// Sessions that there were.
    pub ids: HashSet<SessionId>,
    /// Since when there are backends to connect to, and nothing is done about it.
    pub hindered_since: Cell<Option<Moment>>,
    pub has_orders: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Serving,
    Draining,
    Stopping,
}

/// What may happen to one connection, besides its operations.
const DEEDS: u64 = 5;
/// So much later than it wanted to does a worker wake up.
pub const LATE_NS: u64 = 4 * MS;
const SLEEPS_MAX: u32 = 120;

impl World {
    pub fn new(seed: u64, is_epoll: bool, trace: bool) -> World {
        let mut host = Host::new(Dice::new(seed), is_epoll, trace);
        let control = Control::new(&mut host);
        let sockets = control.sockets(&mut host);
        let is_crowd = host.profile.is_crowd();
        let patience = match host.dice.one_in(6) {
            _ if is_crowd => host.dice.between(1_000, 5_000),
            true => host.dice.size(3_000),
            false => 30_000,
        };
        let guests = (0..host.profile.clients).map(|_| throw_guest(&mut host, &control)).collect();
        let host = Rc::new(RefCell::new(host));
        let mut seats = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let spec = WorkerSpec { index, cpu: None, seed, sockets, shared: control.shared.clone() };
            let worker = Some(Worker::new(spec, SimDriver::new(&host, index)));
            seats.push(Seat {
                worker,
                wakes_at: Moment(0),
                is_busy: false,
                amid: None,
                idle_turns: 0,
                seen_progress: 0,
            });
        }
        for seat in &mut seats {
            seat.worker.as_mut().expect("it is new").start();
        }
        let has_orders = host.borrow().profile.orders_left > 0;
        World {
            host,
            control,
            seats,
            guests,
            steps: 0,
            stage: Stage::Serving,
            patience,
            sleeps: 0,
            stopped_at: Moment::NEVER,
            records: 0,
            early: Cell::new(0),
            served: Vec::new(),
            ids: HashSet::new(),
            hindered_since: Cell::new(None),
            has_orders,
        }
    }

    /// Runs to the end of every worker. Panics at the first fault.
    pub fn run(mut self, steps_max: u64) -> Corners {
        while self.seats.iter().any(|seat| seat.worker.is_some()) {
            self.steps += 1;
            assert!(self.steps <= steps_max, "no end after {steps_max} steps");
            if self.step() {
                self.pass();
                if self.steps >= self.patience {
                    self.next_stage();
                }
            } else {
                self.sleep();
            }
            let now = self.host.borrow().now;
            assert!(now <= self.stopped_at.after_ns(3 * SECOND), "it was told to stop, and goes on");
        }
        self.host.borrow_mut().rings.iter_mut().for_each(|ring| ring.pool.return_withheld());
        self.check_end();
        self.host.borrow().corners.clone()
    }

    /// The ring of the first worker breaks: it is given up, and nothing else happens.
    pub fn run_to_a_broken_ring(mut self) {
        while self.knock() {}
        let breaks_after = 1 + self.host.borrow_mut().dice.below(60) as u32;
        self.host.borrow_mut().breaks_after = Some(breaks_after);
        let worker = self.seats[0].worker.take().expect("it is new");
        worker.run();
        assert_eq!(self.control.given_up.load(Ordering::Relaxed), 1, "a worker left without a word");
        let running = self.control.shared.stats.workers[0].worker.running.get();
        assert_eq!(running, 1, "it was not stopped in order");
    }

    /// Lets time pass. No worker sleeps much longer than it wanted to.
    fn pass(&mut self) {
        self.host.borrow_mut().pass();
        self.host.borrow_mut().return_withheld();
        let now = self.host.borrow().now;
        for seat in 0..self.seats.len() {
            if self.seats[seat].wakes_at.after_ns(LATE_NS) <= now {
                self.turn_if_due(seat);
            }
        }
    }

    fn next_stage(&mut self) {
        if self.stage == Stage::Serving {
            self.check_nobody_was_turned_away();
        }
        let at_once = self.host.borrow().profile.is_crowd() || self.host.borrow_mut().dice.one_in(8);
        if self.stage == Stage::Serving && !at_once {
            self.come_at_the_last_moment();
        }
        self.guests.clear();
        let mut host = self.host.borrow_mut();
        let now = host.now;
        (self.stage, self.sleeps) = match self.stage {
            Stage::Serving if !at_once => {
                host.say(format_args!("control: drain"));
                self.control.enter(Phase::Draining { until: now.after_ns(30 * SECOND) });
                self.patience = self.steps + host.dice.size(20_000);
                (Stage::Draining, 0)
            }
            Stage::Serving | Stage::Draining => {
                host.say(format_args!("control: stop, {} sessions", host.sessions.len()));
                host.corners.reach(Corner::Stopped);
                self.control.enter(Phase::Stopping);
                self.stopped_at = now;
                (Stage::Stopping, 0)
            }
            Stage::Stopping => (Stage::Stopping, self.sleeps),
        };
        if self.stage == Stage::Stopping {
            self.patience = u64::MAX;
        }
    }

    /// Those that are to come wait in the backlogs when the listening sockets are closed.
    fn come_at_the_last_moment(&mut self) {
        let now = self.host.borrow().now;
        if self.host.borrow_mut().dice.one_in(2) {
            self.guests.iter_mut().for_each(|guest| guest.at = now);
            while self.knock() {}
        }
    }

    /// Nothing moves before a timer or a peer wakes. If that leads nowhere, control ends it.
    fn sleep(&mut self) {
        let next = {
            let host = self.host.borrow();
            let now = host.now;
            let peers = host.socks.iter().filter(|sock| sock.open).map(|sock| sock.peer.wakes_at(now));
            let guests = self.guests.iter().map(|guest| guest.at);
            let workers = self.seats.iter().filter(|seat| seat.worker.is_some()).map(|seat| seat.wakes_at);
            let withheld = host.rings.iter().map(|ring| ring.withheld_until);
            peers.chain(guests).chain(workers).chain(withheld).min().unwrap_or(Moment::NEVER)
        };
        self.check_rest(next);
        self.check_deadlines(false);
        self.sleeps += 1;
        let is_over = self.host.borrow().sessions.is_empty() && self.guests.is_empty();
        if next == Moment::NEVER || self.sleeps > SLEEPS_MAX || (is_over && self.stage == Stage::Serving) {
            assert!(self.stage != Stage::Stopping, "it was told to stop, and sleeps");
            self.next_stage();
            return;
        }
        let mut host = self.host.borrow_mut();
        host.progress += 1;
        host.now = host.now.max(next);
        host.return_withheld();
    }

    /// Something happens, at random. False if nothing can.
    fn step(&mut self) -> bool {
        for _ in 0..6 {
            if self.act_at_random() {
                return true;
            }
        }
        self.act_at_all()
    }

    fn act_at_random(&mut self) -> bool {
        let kind = self.host.borrow_mut().dice.below(16);
        match kind {
            0..4 => {
                let seat = self.host.borrow_mut().dice.below(self.seats.len() as u64) as usize;
                self.turn_if_due(seat)
            }
            4..9 => {
                let mut host = self.host.borrow_mut();
                let workers = host.profile.workers as u64;
                let worker = host.dice.below(workers) as usize;
                if host.profile.is_epoll {
                    let connecting = host.rings[worker].connecting.len() as u64;
                    let at = if connecting == 0 { return false } else { host.dice.below(connecting) as usize };
                    return host.end_connect(worker, at);
                }
                let armed = host.rings[worker].armed.len() as u64;
                let at = if armed == 0 { return false } else { host.dice.below(armed) as usize };
                host.run(worker, at)
            }
            9..14 => {
                let mut host = self.host.borrow_mut();
                let socks = host.socks.len() as u64;
                let sock = host.dice.below(socks) as usize;
                let deed = host.dice.below(DEEDS);
                host.act_on(sock, deed)
            }
            14 => self.knock(),
            _ => self.order(),
        }
    }

    fn act_at_all(&mut self) -> bool {
        let first = self.host.borrow_mut().dice.below(self.seats.len() as u64) as usize;
        let seats = self.seats.len();
        if (0..seats).any(|offset| self.turn_if_due((first + offset) % seats)) {
            return true;
        }
        if self.host.borrow_mut().act_at_all() {
            return true;
        }
        self.knock() || self.order()
    }

    /// Control does something, while it may.
    fn order(&mut self) -> bool {
        let mut host = self.host.borrow_mut();
        let spurious = host.profile.odds.spurious_wake;
        if host.spurious(Odds(spurious.0)) {
            let seat = host.dice.below(self.seats.len() as u64) as usize;
            self.seats[seat].wakes_at = Moment(0);
            return true;
        }
        let withheld = host.profile.odds.withheld;
        if host.spurious(withheld) {
            let worker = host.dice.below(self.seats.len() as u64) as usize;
            host.withhold(worker);
            return true;
        }
        if self.stage != Stage::Serving || host.profile.orders_left == 0 || !host.dice.one_in(8) {
            return false;
        }
        self.control.sweep();
        host.profile.orders_left -= 1;
        host.progress += 1;
        self.control.act(&mut host);
        true
    }

    fn knock(&mut self) -> bool {
        let mut host = self.host.borrow_mut();
        let now = host.now;
        let Some(at) = self.guests.iter().position(|guest| guest.at <= now) else { return false };
        let sock = self.guests[at].sock;
        if host.knock(sock) {
            host.socks[sock].open = true;
            host.socks[sock].moved_at = now;
            self.guests.swap_remove(at);
        } else {
            // As long as a client comes in vain, it is no wonder that workers look whether there is room.
            host.corners.reach(Corner::BacklogFull);
            host.progress += 1;
            self.guests[at].at = now.after_ns(50 * MS);
        }
        true
    }

    pub fn turn_if_due(&mut self, seat: usize) -> bool {
        let mut host = self.host.borrow_mut();
        let ring = &host.rings[seat];
        let has_work = !ring.done.is_empty() || !ring.queued.is_empty();
        let due = self.seats[seat].wakes_at <= host.now || has_work || host.has_reports(seat);
        drop(host);
        if !due || self.seats[seat].worker.is_none() {
            return false;
        }
        self.turn(seat);
        true
    }
}

impl Host {
    /// Something happens to a connection, or its peer does something.
    pub fn act_on(&mut self, sock: usize, deed: u64) -> bool {
        let now = self.now;
        let silent = deed == 2 && self.dice.chance(self.profile.odds.silent_reset);
        let done = match deed {
            0 => self.socks[sock].peer_writes(now),
            1 => {
                let wants = self.socks[sock].open && self.socks[sock].peer.wants_to_read(now);
                if wants {
                    self.socks[sock].peer.read(now);
                }
                wants
            }
            2 => self.socks[sock].peer_ends(silent, now),
            3 => {
                let len = self.socks[sock].tx.len();
                let max = self.dice.between(1 + len / 8, len);
                self.socks[sock].deliver(max, now)
            }
            _ => self.socks[sock].lose(now),
        };
        if done {
            self.progress += 1;
            if self.trace {
                let deed = ["writes", "reads", "ends", "takes in", "is lost"][deed as usize];
                let it = &self.socks[sock];
                let (rx, tx, ends) = (it.rx.len(), it.tx.len(), (it.fin_arrived, it.dead, it.silent));
                self.say(format_args!("    c{sock} {deed}: sent {} rx {rx} tx {tx} {ends:?}", it.peer.sent));
            }
        }
        done
    }

    /// Anything but a turn of a worker.
    pub fn act_at_all(&mut self) -> bool {
        for worker in 0..self.rings.len() {
            let armed = self.rings[worker].armed.len();
            let first = self.dice.below(armed.max(1) as u64) as usize;
            for offset in 0..armed {
                if self.run(worker, (first + offset) % armed) {
                    return true;
                }
            }
        }
        for worker in 0..self.rings.len() {
            if (0..self.rings[worker].connecting.len()).any(|at| self.end_connect(worker, at)) {
                return true;
            }
        }
        let socks = self.socks.len();
        let first = self.dice.below(socks as u64) as usize;
        (0..socks).any(|offset| (0..DEEDS).any(|deed| self.act_on((first + offset) % socks, deed)))
    }
}

/// The beginning of a TLS connection to that name.
fn hello(name: &[u8]) -> Vec<u8> {
    let len = |add: usize| ((name.len() + add) as u16).to_be_bytes();
    let named = [&[0, 0][..], &len(5), &len(3), &[0], &len(0), name].concat();
    let begin = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat();
    let body = [&begin[..], &(named.len() as u16).to_be_bytes(), &named].concat();
    let message = [&[1, 0, (body.len() >> 8) as u8, body.len() as u8], &body[..]].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// A client that will connect at some moment, to some listener.
fn throw_guest(host: &mut Host, control: &Control) -> Guest {
    let place = host.dice.below(control.config.listeners.len() as u64) as usize;
    let listener = &control.config.listeners[place];
    let id = host.socks.len();
    let bind = listener.binds[0].clone();
    let peer = match bind {
        Address::Unix(_) => Address::Unix(Default::default()),
        Address::Tcp(_) => Address::Tcp(([192, 0, 2, host.dice.between(1, 9) as u8], 40_000 + id as u16).into()),
    };
    let total_max = host.profile.total_max;
    let mut sock = Sock::new(&mut host.dice, id, true, total_max, [peer, bind]);
    (sock.open, sock.listener) = (false, place);
    if listener.proxy.is_some() && !host.dice.one_in(8) {
        let addresses = (([203, 0, 113, 5], 5).into(), ([203, 0, 113, 6], 6).into());
        let version = host.dice.pick(&[proxy::Version::V1, proxy::Version::V2]);
        sock.preamble.extend_from_slice(&proxy::encode(version, Some(addresses)));
    }
    if listener.preread.is_some() && !host.dice.one_in(8) {
        if host.dice.one_in(3) {
            sock.preamble.extend_from_slice(&postgresql::SSL_REQUEST);
        }
        let names: [&[u8]; 2] = [b"a.example", b"b.example"];
        sock.preamble.extend(hello(host.dice.pick(&names)));
    }
    if !host.dice.one_in(4) {
        sock.peer.script.total = sock.peer.script.total.max(sock.preamble.len() as u64);
    }
    // A call that takes a header out stops before an urgent byte in it: such a client is turned away.
    let preamble = sock.preamble.len() as u64;
    sock.peer.script.urgent_at = sock.peer.script.urgent_at.filter(|&at| at >= preamble);
    let (is_crowd, is_swarm) = (host.profile.is_crowd(), host.profile.is_swarm());
    if is_swarm {
        sock.peer.script.finale = Finale::Close;
        sock.peer.script.reset_after = Some((0, 0));
    } else if is_crowd && !host.dice.one_in(4) {
        (sock.peer.script.finale, sock.peer.script.reset_after) = (Finale::Stay, None);
    }
    host.socks.push(sock);
    let together = (is_crowd && !is_swarm) || host.dice.one_in(2);
    let at = if together { host.now } else { host.now.after_ns(host.dice.size(2 * SECOND)) };
    Guest { sock: id, at }
}
