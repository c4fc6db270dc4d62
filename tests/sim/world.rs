//! One schedule: sessions, their peers, a kernel, and the order in which they move.

use std::collections::VecDeque;

use ringway::base::side::Side;
use ringway::base::termination::Who;
use ringway::base::time::Moment;
use ringway::base::wheel::Wheel;
use ringway::relay;
use ringway::session::{ConnectError, Effects, Event, Limits, Session};

use crate::corner::Corners;
use crate::dice::{Dice, Odds};
use crate::faults::{Attempt, throw_limits};
use crate::kernel::{Kernel, stream_of};
use crate::link::{KINDS, Kind, Link};
use crate::preread::Preread;

/// A session, and what was seen of it.
pub struct Slot {
    pub session: Session,
    pub limits: Limits,
    pub accepted: bool,
    /// What its client must say first.
    pub preread: Option<Preread>,
    pub accepted_at: Moment,
    pub over: bool,
    /// The session was told that the backend is connected.
    pub connected: bool,
    pub connecting_at: Moment,
    pub connected_at: Moment,
    pub connect_expired: bool,
    pub waits_for_descriptor: bool,
    pub backend_fd: bool,
    /// What the attempts that are left will come to.
    pub attempts: Vec<Attempt>,
    pub picks: u32,
    /// It stands in the queue, and since when it has done so for the first time.
    pub queued: bool,
    pub first_queued_at: Option<Moment>,
    /// Picks that will find no room; [`NO_ROOM`] is all of them.
    pub waits: u32,
    pub queue_full: bool,
    /// It left the queue without a backend.
    pub left_queue: bool,
    /// Sessions counted for a backend because of this one.
    pub counted: i32,
    pub no_backend: bool,
    /// Nobody could say any more who the client was.
    pub client_gone: bool,
    pub last_error: Option<ConnectError>,
    /// Last told that a byte moved, or entered a state.
    pub active_at: Moment,
    /// By side: it was told of a receive that brought no bytes, and of a FIN that was one.
    pub ended: [bool; 2],
    pub eof_told: [bool; 2],
    pub error_told: [bool; 2],
    pub first_error: Option<Side>,
    /// By side: a FIN was sent there, before the close.
    pub finished_to: [bool; 2],
    pub half_closed_at: Option<Moment>,
    /// By side: since when its connection is no more, and the session does not know.
    pub unnoticed_since: [Option<Moment>; 2],
    pub flushing_since: Option<Moment>,
    pub killed_while_flushing: bool,
    /// By half: when its pipe was lent, or something went through.
    pub spliced_at: [Moment; 2],
    /// Its close, which has begun, should be over by then.
    pub close_due: Moment,
    /// By half: its buffers hold what was in a pipe, more than is ever received.
    pub unloaded: [bool; 2],
    /// By half: splice has come to an end, and calls in a row that urgent data has stalled.
    pub splice_dry: [bool; 2],
    pub splice_stalls: [u32; 2],
    /// When its timer came last: which half had bytes undelivered (a send in flight may have delivered them since),
    /// and whether bytes flowed.
    pub open_at_timer: [bool; 2],
    pub flowing_at_timer: bool,
    /// The last event before it began to end was its timer, while bytes could move.
    pub limit_came: bool,
    pub kept_alive: bool,
    /// Why it was ended from outside, if it had not ended before.
    pub ended_by: Option<Who>,
    /// The session is to be ended after so many steps.
    pub kill_at: Option<(u64, Who)>,
}

pub struct World {
    pub kernel: Kernel,
    pub slots: Vec<Slot>,
    pub wheel: Wheel,
    pub effects: Effects,
    pub ready: VecDeque<(usize, Side)>,
    pub starved: VecDeque<(usize, Side)>,
    /// Halves that try something again at a moment.
    pub pauses: Vec<(Moment, (usize, Side))>,
    pub idle_events: u32,
    pub seen_progress: u64,
    /// Bytes that the half whose turn it is may still move.
    pub budget: u32,
    steps: u64,
    /// Times in a row that only a timer went on.
    sleeps: u64,
}

/// See [`Slot::waits`].
pub const NO_ROOM: u32 = u32::MAX;
/// What one side may do in a step, besides its operations.
const DEEDS: usize = 5;
const SIDE_ACTIONS: usize = DEEDS + KINDS.len();
const SESSION_ACTIONS: usize = 2 * SIDE_ACTIONS + 3;
/// More than the looks of a session in its longest limit: they are up to a second apart.
const SLEEPS_MAX: u64 = 4_000;
/// How much likelier a turn of the worker is than anything else.
const TURN_WEIGHT: usize = 8;

impl World {
    pub fn new(seed: u64, trace: bool) -> World {
        let mut kernel = Kernel::new(Dice::new(seed), trace);
        let slots = (0..kernel.profile.sessions).map(|_| throw_slot(&mut kernel)).collect();
        let wheel = Wheel::new(kernel.now);
        let mut world = World {
            kernel,
            slots,
            wheel,
            effects: Effects::default(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            pauses: Vec::new(),
            idle_events: 0,
            seen_progress: 0,
            budget: 0,
            steps: 0,
            sleeps: 0,
        };
        world.kernel.say(format_args!("{:?}", world.kernel.profile));
        world.let_backends_wait_for_requests();
        world
    }

    /// Some backends answer only when they were asked.
    fn let_backends_wait_for_requests(&mut self) {
        for [client, backend] in &mut self.kernel.links {
            if self.kernel.dice.one_in(3) {
                let asked = client.peer.script.total;
                backend.peer.script.write_after = self.kernel.dice.between(0, asked);
            }
        }
    }

    /// Runs to the end of every session. Panics at the first fault.
    pub fn run(mut self, steps_max: u64) -> Corners {
        while !self.slots.iter().all(|slot| slot.over) {
            self.steps += 1;
            assert!(self.steps <= steps_max, "no end after {steps_max} steps");
            if self.step() {
                self.sleeps = 0;
                let step_ns = self.kernel.dice.below(self.kernel.profile.step_ns + 1);
                self.advance(self.kernel.now.after_ns(step_ns));
            } else {
                self.check_rest();
                self.sleep();
            }
        }
        self.check_end();
        self.kernel.corners
    }

    /// Lets time pass; timers are not kept waiting.
    fn advance(&mut self, to: Moment) {
        self.kernel.now = to;
        if self.next_alarm() <= to {
            self.turn();
        }
        self.check_deadlines();
    }

    /// Nothing moves before a timer or a peer wakes. If that leads nowhere, whoever is left is ended from outside.
    fn sleep(&mut self) {
        let now = self.kernel.now;
        let links = self.kernel.links.iter().flatten();
        let peers = links.map(|link| link.peer.wakes_at(now)).min().unwrap_or(Moment::NEVER);
        let next = self.next_alarm().min(peers);
        self.sleeps += 1;
        if next != Moment::NEVER && self.sleeps < SLEEPS_MAX {
            self.kernel.progress += 1;
            self.advance(next.max(now));
            return;
        }
        self.sleeps = 0;
        self.check_nobody_has_a_limit();
        for s in 0..self.slots.len() {
            self.tell(s, Event::End(Who::Killed));
        }
    }

    /// Something happens, at random. False if nothing can.
    fn step(&mut self) -> bool {
        let count = self.slots.len() * SESSION_ACTIONS + TURN_WEIGHT;
        for _ in 0..6 {
            let action = self.kernel.dice.below(count as u64) as usize;
            if self.act(action) {
                return true;
            }
        }
        let first = self.kernel.dice.below(count as u64) as usize;
        (0..count).any(|offset| self.act((first + offset) % count))
    }

    fn act(&mut self, action: usize) -> bool {
        let (s, action) = (action / SESSION_ACTIONS, action % SESSION_ACTIONS);
        if s >= self.slots.len() {
            return self.turn_if_due();
        }
        if !self.slots[s].accepted {
            return action == 0 && self.accept(s);
        }
        match action {
            0 => self.kill(s),
            1 => self.nudge(s),
            2 => self.call(s),
            _ => {
                let action = action - 3;
                let side = Side::BOTH[action / SIDE_ACTIONS];
                self.act_on((s, side), action % SIDE_ACTIONS)
            }
        }
    }

    fn act_on(&mut self, at: (usize, Side), action: usize) -> bool {
        let now = self.kernel.now;
        if let Some(&kind) = KINDS.get(action.wrapping_sub(DEEDS)) {
            let done = self.kernel.run(at, kind);
            if done && self.kernel.trace {
                self.kernel.say(format_args!("    {at:?} {kind:?}: {:?}", self.kernel.completions.back()));
            }
            return done;
        }
        let link = &mut self.kernel.links[at.0][at.1.index()];
        let done = match action {
            0 => link.peer_writes(stream_of(at), now),
            1 => {
                let wants = link.peer.wants_to_read(now);
                if wants {
                    link.peer.read(now);
                }
                wants
            }
            2 => link.peer_ends(now),
            3 => {
                let max = self.kernel.dice.between(1 + link.tx.len() / 8, link.tx.len());
                link.deliver(max, now)
            }
            _ => link.lose(now),
        };
        if done {
            self.kernel.progress += 1;
            if self.kernel.trace {
                let deed = ["writes", "reads", "ends", "takes in", "is lost"][action];
                let link = &self.kernel.links[at.0][at.1.index()];
                let (peer, rx, tx) = (&link.peer, link.rx.len(), link.tx.len());
                let queues = format!("rx {rx} tx {tx} peer's {}", peer.rx.len());
                let ends = (peer.fin_sent, peer.reset_sent, peer.fin_arrived, peer.reset_arrived);
                self.kernel.say(format_args!("    {at:?} {deed}: sent {} {queues} {ends:?}", peer.sent));
            }
        }
        done
    }

    fn accept(&mut self, s: usize) -> bool {
        let now = self.kernel.now;
        let jitter = self.kernel.dice.below(u64::from(u32::MAX)) as u32;
        let slot = &mut self.slots[s];
        slot.accepted = true;
        slot.accepted_at = now;
        slot.active_at = now;
        slot.session = Session::new(slot.limits, jitter, now);
        self.kernel.say(format_args!("s{s} {:?} attempts {:?}", slot.limits, slot.attempts));
        for link in &self.kernel.links[s] {
            self.kernel.say(format_args!("s{s} {:?}", link.peer.script));
        }
        let first = match &mut self.slots[s].preread {
            Some(preread) => {
                preread.begin(now);
                Event::Preread
            }
            None => Event::Accepted,
        };
        self.tell(s, first);
        true
    }

    fn kill(&mut self, s: usize) -> bool {
        let Some((at, who)) = self.slots[s].kill_at.filter(|&(at, _)| self.steps >= at) else { return false };
        debug_assert!(self.steps >= at);
        self.slots[s].kill_at = None;
        self.tell(s, Event::End(who));
        true
    }

    /// There may be a backend now. Calls that find none are few, or nothing would ever come to rest.
    fn call(&mut self, s: usize) -> bool {
        let slot = &self.slots[s];
        let in_vain = slot.waits == NO_ROOM || (slot.attempts.is_empty() && slot.limits.waits_for_primary);
        // It may come late, when the session waits no more.
        let odds = if slot.queued { Odds(30) } else { Odds(2) };
        if slot.over || ((in_vain || !slot.queued) && !self.kernel.spurious(odds)) {
            return false;
        }
        self.kernel.progress += 1;
        self.dispatch_all();
        self.tell(s, Event::Called);
        true
    }

    /// A session may be asked to look at itself at any time.
    fn nudge(&mut self, s: usize) -> bool {
        let wanted = !self.slots[s].over && self.kernel.spurious(self.kernel.profile.odds.spurious_timer);
        if wanted {
            self.dispatch_all();
            self.tell(s, Event::Timer);
        }
        wanted
    }

    fn turn_if_due(&mut self) -> bool {
        let fed = !self.starved.is_empty() && self.kernel.buffers.free() > 0;
        let due = !self.kernel.completions.is_empty() || !self.ready.is_empty() || fed;
        if due || self.next_alarm() <= self.kernel.now {
            self.turn();
            return true;
        }
        false
    }

    /// As `Worker::turn`.
    fn turn(&mut self) {
        self.dispatch_all();
        self.feed_starved();
        if let Some((s, half)) = self.ready.pop_front() {
            let budget = self.kernel.dice.pick(&[100_000, 1 << 20, 4 << 20]);
            self.budget = budget;
            self.tell(s, Event::Relay(relay::Event::Turn { half, budget }));
        }
        while let Some(s) = self.wheel.expire(self.kernel.now) {
            self.tell(s as usize, Event::Timer);
        }
        self.resume_due();
    }

    fn next_alarm(&self) -> Moment {
        self.pauses.iter().map(|&(at, _)| at).fold(self.wheel.next(), Moment::min)
    }

    fn resume_due(&mut self) {
        let now = self.kernel.now;
        let due: Vec<_> = self.pauses.extract_if(.., |&mut (at, _)| at <= now).collect();
        for (_, (s, half)) in due {
            self.kernel.progress += 1;
            self.tell(s, Event::Relay(relay::Event::Resumed { half }));
        }
    }

    fn dispatch_all(&mut self) {
        for _ in 0..self.kernel.completions.len() {
            let Some(done) = self.kernel.completions.pop_front() else { break };
            assert!(!self.slots[done.session].over, "contract 1: {done:?} after the end of its session");
            if done.last {
                self.kernel.link((done.session, done.side)).busy[done.kind as usize] = false;
            }
            self.tell(done.session, done.event);
        }
    }

    /// As `Worker::feed_starved`.
    fn feed_starved(&mut self) {
        for _ in 0..self.kernel.buffers.free() {
            let Some((s, side)) = self.starved.pop_front() else { break };
            self.tell(s, Event::Relay(relay::Event::Fed { side }));
        }
    }

    /// Everything was handed over, and it waits for the side that will be reset.
    pub fn is_flushing(&self, s: usize) -> bool {
        let slot = &self.slots[s];
        slot.connected && !slot.session.is_relaying() && !slot.session.is_ending()
    }

    pub fn is_connecting(&self, s: usize) -> bool {
        let link = &self.kernel.links[s][Side::Backend.index()];
        !self.slots[s].connected && link.busy[Kind::Connect as usize]
    }
}

fn throw_slot(kernel: &mut Kernel) -> Slot {
    let limits = throw_limits(&mut kernel.dice);
    let (now, dice) = (kernel.now, &mut kernel.dice);
    let odds = kernel.profile.odds.kill;
    kernel.links.push([Link::throw(dice, true), Link::throw(dice, false)]);
    let kill = odds.0 > 0 && dice.one_in(3);
    Slot {
        session: Session::new(limits, 0, now),
        limits,
        accepted: false,
        preread: Preread::throw(dice),
        accepted_at: now,
        over: false,
        connected: false,
        connecting_at: now,
        connected_at: now,
        connect_expired: false,
        waits_for_descriptor: false,
        backend_fd: false,
        attempts: (0..dice.pick(&[0, 1, 2, 3, 3, 3, 3, 3])).map(|_| Attempt::throw(dice)).collect(),
        picks: 0,
        queued: false,
        first_queued_at: None,
        waits: if dice.one_in(4) { dice.pick(&[1, 1, 2, 5, NO_ROOM]) } else { 0 },
        queue_full: false,
        left_queue: false,
        counted: 0,
        no_backend: false,
        client_gone: false,
        last_error: None,
        active_at: now,
        ended: [false; 2],
        eof_told: [false; 2],
        error_told: [false; 2],
        first_error: None,
        finished_to: [false; 2],
        half_closed_at: None,
        unnoticed_since: [None; 2],
        flushing_since: None,
        killed_while_flushing: false,
        spliced_at: [now; 2],
        unloaded: [false; 2],
        close_due: now,
        splice_dry: [false; 2],
        splice_stalls: [0; 2],
        open_at_timer: [false; 2],
        flowing_at_timer: false,
        limit_came: false,
        kept_alive: false,
        ended_by: None,
        kill_at: kill.then(|| (dice.size(3000), dice.pick(&[Who::Killed, Who::Down]))),
    }
}
