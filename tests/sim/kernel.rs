//! The fake kernel: operations in flight, and in what order and with what result they end.

use std::collections::VecDeque;

use ringway::base::lease::{BUFFER_LEN, Lease, Moved, PipeId};
use ringway::base::side::Side;
use ringway::base::time::Moment;
use ringway::relay::{self, End};
use ringway::session::{ConnectError, Event};

use crate::bytes::Bytes;
use crate::corner::{Corner, Corners};
use crate::dice::{Dice, Odds};
use crate::faults::{Attempt, Profile};
use crate::link::{Got, Kind, Link, Op};
use crate::pools::{Buffers, Half, Pipes};

/// A completion. The order of those of one operation is kept.
#[derive(Debug)]
pub struct Completion {
    pub session: usize,
    pub side: Side,
    pub kind: Kind,
    pub event: Event,
    /// The operation is over.
    pub last: bool,
}

pub struct Kernel {
    pub now: Moment,
    pub dice: Dice,
    pub profile: Profile,
    pub links: Vec<[Link; 2]>,
    pub buffers: Buffers,
    pub pipes: Pipes,
    pub completions: VecDeque<Completion>,
    pub corners: Corners,
    /// Counts bytes that moved, deeds of peers and faults: while it stands still, sessions may not be busy.
    pub progress: u64,
    pub trace: bool,
}

/// The stream that a peer writes.
pub fn stream_of((session, side): Half) -> u32 {
    (session * 2 + side.index()) as u32
}

impl Kernel {
    pub fn new(mut dice: Dice, trace: bool) -> Kernel {
        let profile = Profile::throw(&mut dice);
        Kernel {
            now: Moment(1_000_000_000),
            links: Vec::new(),
            buffers: Buffers::new(profile.buffers),
            pipes: Pipes::new(profile.pipes, profile.pipe_capacity),
            completions: VecDeque::new(),
            corners: Corners::default(),
            progress: 0,
            trace,
            dice,
            profile,
        }
    }

    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>12.3} ms  {what}", self.now.0 as f64 / 1e6 - 1000.0);
        }
    }

    pub fn link(&mut self, (session, side): Half) -> &mut Link {
        &mut self.links[session][side.index()]
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
    fn perhaps_less(&mut self, odds: Odds, len: u64) -> u64 {
        if self.fault(odds) { self.dice.size(len) } else { len }
    }

    /// Submits an operation.
    pub fn submit(&mut self, at: Half, kind: Kind, op: Op) {
        let link = self.link(at);
        assert!(link.closed.is_none(), "{kind:?} on {at:?} after its close");
        assert!(!link.busy[kind as usize], "two of {kind:?} in flight on {at:?}");
        link.busy[kind as usize] = true;
        link.ops[kind as usize] = Some(op);
    }

    /// Asks for the end of one operation. It may have completed, or complete all the same.
    pub fn cancel_one(&mut self, at: Half, kind: Kind) {
        if let Some(op) = &mut self.link(at).ops[kind as usize] {
            op.cancelled = true;
        }
    }

    fn complete(&mut self, at: Half, kind: Kind, event: Event, last: bool) {
        if last {
            self.link(at).ops[kind as usize] = None;
        }
        self.completions.push_back(Completion { session: at.0, side: at.1, kind, event, last });
    }

    /// Lets one operation go on. False if it cannot.
    pub fn run(&mut self, at: Half, kind: Kind) -> bool {
        let Some(op) = self.link(at).ops[kind as usize] else { return false };
        match kind {
            Kind::Recv => self.run_recv(at, op),
            Kind::Send => self.run_send(at, op),
            Kind::Readable => self.run_poll(at, kind, op),
            Kind::Writable => self.run_poll(at, kind, op),
            Kind::Connect => self.run_connect(at, op),
            Kind::Preread => self.run_preread(at, op),
            Kind::Hangup => self.run_hangup(at, op),
        }
    }

    fn run_recv(&mut self, at: Half, op: Op) -> bool {
        let readable = self.link(at).is_readable();
        let end = |end| Event::Relay(relay::Event::Ended { side: at.1, end });
        if op.cancelled && (!readable || self.buffers.free() == 0 || self.dice.one_in(2)) {
            self.complete(at, Kind::Recv, end(End::Cancelled), true);
            return true;
        }
        let multishot = self.profile.recv_credit;
        if self.buffers.free() == 0 && (readable || (multishot && op.fresh)) {
            self.corners.reach(Corner::Starved);
            self.complete(at, Kind::Recv, end(End::Starved), true);
            return true;
        }
        if !readable {
            return false;
        }
        if self.spurious(self.profile.odds.recv_interrupted) {
            self.complete(at, Kind::Recv, end(End::Starved), true);
            return true;
        }
        let max = self.perhaps_less(self.profile.odds.short_recv, BUFFER_LEN as u64);
        if self.spurious(self.profile.odds.no_memory) {
            self.complete(at, Kind::Recv, end(End::Later), true);
            return true;
        }
        match self.link(at).recv(max) {
            Got::Bytes(bytes) => {
                let len = bytes.len() as u32;
                let lease = self.buffers.fill(at, bytes);
                let credit = op.credit.saturating_sub(len);
                let more = multishot && credit > 0 && !op.cancelled && !self.fault(self.profile.odds.recv_ends);
                let lie = self.fault(self.profile.odds.wrong_hint);
                let nonempty = self.link(at).is_readable() != lie;
                self.link(at).ops[Kind::Recv as usize] = Some(Op { credit, fresh: false, ..op });
                let event = relay::Event::Received { side: at.1, lease, more, nonempty };
                if op.cancelled {
                    self.corners.reach(Corner::CancelledReceiveBroughtBytes);
                }
                self.complete(at, Kind::Recv, Event::Relay(event), !more);
            }
            Got::Eof => self.complete(at, Kind::Recv, end(End::Eof), true),
            Got::Error(errno) => self.complete(at, Kind::Recv, end(End::Failed(errno)), true),
            Got::Nothing => unreachable!("it is readable"),
        }
        self.progress += 1;
        true
    }

    /// It never waits for room, but what comes of it may be heard later.
    fn run_send(&mut self, at: Half, op: Op) -> bool {
        let half = (at.0, at.1.peer());
        let moved = if self.spurious(self.profile.odds.send_refused) {
            Moved::WouldBlock
        } else if self.spurious(self.profile.odds.no_memory) {
            Moved::Later
        } else {
            let mut bytes = self.buffers.read(half, op.lease);
            assert!(!bytes.is_empty(), "nothing is sent");
            let max = self.perhaps_less(self.profile.odds.short_send, bytes.len());
            self.link(at).send(&mut bytes, max, stream_of(half))
        };
        if moved == Moved::WouldBlock {
            self.corners.reach(Corner::SendEndedEmpty);
        }
        self.buffers.set_sending(half, op.lease.buffer, false);
        self.progress += 1;
        self.complete(at, Kind::Send, Event::Relay(relay::Event::Sent { side: at.1, moved }), true);
        true
    }

    /// It may say that the connection is no more, and goes on until it is cancelled.
    fn run_hangup(&mut self, at: Half, op: Op) -> bool {
        let (dead, told) = (self.link(at).dead, self.link(at).hangup_told);
        if dead && !told {
            self.link(at).hangup_told = true;
            self.progress += 1;
            let event = Event::Relay(relay::Event::HungUp { side: at.1 });
            self.complete(at, Kind::Hangup, event, false);
            // As the worker does.
            self.cancel_one(at, Kind::Hangup);
            return true;
        }
        if !op.cancelled {
            return false;
        }
        self.complete(at, Kind::Hangup, Event::Relay(relay::Event::HangupPolled { side: at.1 }), true);
        true
    }

    fn run_poll(&mut self, at: Half, kind: Kind, op: Op) -> bool {
        let read = kind == Kind::Readable;
        let ready = if read { self.link(at).is_readable() } else { self.link(at).is_writable() };
        if !ready && !op.cancelled && !self.spurious(self.profile.odds.poll_lies) {
            return false;
        }
        let side = at.1;
        let event = if read { relay::Event::Readable { side } } else { relay::Event::Writable { side } };
        self.complete(at, kind, Event::Relay(event), true);
        true
    }

    /// There is more than the low-water mark, which stands in the credit, or nothing more will come.
    fn run_preread(&mut self, at: Half, op: Op) -> bool {
        let link = self.link(at);
        let ended = link.dead || link.fin_arrived;
        let more = link.rx.len() > u64::from(op.credit);
        if !ended && !more && !op.cancelled && !self.spurious(self.profile.odds.poll_lies) {
            return false;
        }
        self.progress += 1;
        let ended = ended || op.cancelled;
        self.complete(at, Kind::Preread, Event::ClientSpoke { ended }, true);
        true
    }

    fn run_connect(&mut self, at: Half, op: Op) -> bool {
        let cancelled = op.cancelled && self.dice.one_in(2);
        let result = match cancelled {
            true => None,
            false => self.link(at).connected(op.attempt),
        };
        if result.is_none() && !op.cancelled {
            return false;
        }
        if op.cancelled && result == Some(Ok(())) {
            self.corners.reach(Corner::ConnectedAlthoughCancelled);
        }
        self.progress += 1;
        // The backend may refuse just when the connect is cancelled.
        let refused = matches!(op.attempt, Attempt::Silence) && self.dice.one_in(4);
        let error = if refused { ConnectError::Backend } else { ConnectError::Timeout };
        let result = result.unwrap_or(Err(error));
        self.complete(at, Kind::Connect, Event::Connected(result), true);
        true
    }

    /// splice(2) from a half's source into its pipe.
    pub fn fill(&mut self, half: Half, id: PipeId, len: u32) -> Moved {
        let capacity = u64::from(self.pipes.capacity);
        assert!(len > 0, "nothing is spliced");
        if self.fault(self.profile.odds.splice_zero) {
            return Moved::Bytes(0);
        }
        if self.spurious(self.profile.odds.splice_refused) {
            return Moved::WouldBlock;
        }
        if self.spurious(self.profile.odds.no_memory) {
            return Moved::Later;
        }
        let room = (capacity - self.pipes.bytes(half, id).len()).min(u64::from(len));
        let room = if room == 0 { 0 } else { self.perhaps_less(self.profile.odds.short_splice, room) };
        let link = &mut self.links[half.0][half.1.index()];
        let moved = link.splice_in(room, self.pipes.bytes(half, id));
        if moved == Moved::WouldBlock && link.urgent_at == Some(link.taken) {
            self.corners.reach(Corner::UrgentStallsSplice);
        }
        self.progress += u64::from(moved != Moved::WouldBlock);
        moved
    }

    /// splice(2) from a half's pipe to its destination.
    pub fn drain(&mut self, half: Half, id: PipeId, len: u32) -> Moved {
        let held = self.pipes.bytes(half, id).len();
        assert!(held > 0 && u64::from(len) <= held, "an empty pipe is drained");
        if self.spurious(self.profile.odds.splice_refused) {
            return Moved::WouldBlock;
        }
        if self.spurious(self.profile.odds.no_memory) {
            return Moved::Later;
        }
        let max = self.perhaps_less(self.profile.odds.short_splice, u64::from(len));
        let link = &mut self.links[half.0][half.1.peer().index()];
        let moved = link.send(self.pipes.bytes(half, id), max, stream_of(half));
        self.progress += u64::from(moved != Moved::WouldBlock);
        moved
    }

    /// read(2) from a half's pipe into a buffer.
    pub fn unload(&mut self, half: Half, id: PipeId, left: u32) -> Option<Lease> {
        assert_eq!(self.pipes.bytes(half, id).len(), u64::from(left), "a pipe holds something else");
        if self.buffers.free() < (left as usize).div_ceil(BUFFER_LEN) {
            self.corners.reach(Corner::NotUnloaded);
            return None;
        }
        self.corners.reach(Corner::PipeUnloaded);
        let mut bytes = Bytes::default();
        self.pipes.bytes(half, id).move_to(BUFFER_LEN as u64, &mut bytes);
        self.progress += 1;
        Some(self.buffers.fill(half, bytes))
    }

    /// Lends a pipe.
    pub fn lend(&mut self, half: Half) -> Option<(PipeId, u32)> {
        if self.dice.chance(self.profile.odds.no_pipe) {
            return None;
        }
        let pipe = self.pipes.lend(half);
        self.corners.reach(if pipe.is_some() { Corner::Spliced } else { Corner::NoPipe });
        pipe.map(|pipe| (pipe, self.pipes.capacity))
    }

    /// Submits a connect, or answers at once.
    pub fn connect(&mut self, at: Half, attempt: Attempt) -> Option<Result<(), ConnectError>> {
        self.progress += 1;
        if let Attempt::AtOnce(_) = attempt {
            return self.link(at).connected(attempt);
        }
        self.submit(at, Kind::Connect, Op { attempt, ..Op::new() });
        None
    }
}
