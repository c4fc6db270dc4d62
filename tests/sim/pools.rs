//! A worker's receive buffers and pipes, as its kernel sees them.

use std::collections::{BTreeMap, VecDeque};

use ringway::base::lease::{BUFFER_LEN, Lease, PipeId};
use ringway::base::time::Moment;

use crate::bytes::Bytes;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Spare,
    Posted,
    Leased,
    /// A send reads it that was not answered.
    Sending,
}

struct Buffer {
    state: State,
    bytes: Bytes,
    /// The connection whose bytes the worker knows to be in it.
    owner: Option<usize>,
}

impl Buffer {
    fn new(state: State, bytes: Bytes) -> Buffer {
        Buffer { state, bytes, owner: None }
    }
}

/// The receive buffers. What a released buffer held is gone, as if its memory had become inaccessible.
pub struct Pool {
    buffers: Vec<Buffer>,
    spare: Vec<u16>,
    posted: VecDeque<u16>,
    target: u16,
    /// Filled, and the worker was not told.
    pub untold: u16,
    /// The worker was told that there is none, so it may end sessions that hold some.
    pub has_run_out: bool,
    /// In that turn it was told that they are scarce.
    pub scarce_in: u64,
    /// A session outside the simulation has them.
    withheld: Vec<u16>,
    /// Buffers by the connection whose bytes they hold.
    held: BTreeMap<usize, usize>,
}

impl Pool {
    pub fn new(count: u16, target: u16) -> Pool {
        let buffer = |_| Buffer::new(State::Spare, Bytes::default());
        let buffers = (0..count).map(buffer).collect();
        let (posted, held) = (VecDeque::new(), BTreeMap::new());
        let mut pool = Pool {
            buffers,
            spare: (0..count).collect(),
            posted,
            target,
            untold: 0,
            has_run_out: false,
            scarce_in: 0,
            withheld: Vec::new(),
            held,
        };
        pool.publish();
        pool
    }

    pub fn publish(&mut self) {
        while self.posted.len() + usize::from(self.untold) < usize::from(self.target)
            && let Some(buffer) = self.spare.pop()
        {
            self.buffers[usize::from(buffer)].state = State::Posted;
            self.posted.push_back(buffer);
        }
    }

    /// Buffers that the kernel may fill.
    pub fn posted(&self) -> usize {
        self.posted.len()
    }

    /// As the worker knows it: what was filled since it looked last is not counted off.
    pub fn available(&self) -> u16 {
        self.posted.len() as u16 + self.untold
    }

    pub fn leased(&self) -> usize {
        self.buffers.len() - self.spare.len() - self.posted.len()
    }

    /// Those that the worker was told of, and has not given back.
    pub fn told(&self) -> usize {
        self.leased() - usize::from(self.untold) - self.withheld.len()
    }

    pub fn is_scarce(&self) -> bool {
        self.leased() - usize::from(self.untold) > self.buffers.len() / 2
    }

    pub fn is_exhausted(&self) -> bool {
        self.available() == 0 && self.spare.is_empty()
    }

    pub fn ran_dry(&mut self) {
        self.target = (self.target.max(1) * 2).min(self.buffers.len() as u16);
    }

    /// All that is free is lent outside the simulation for a while.
    pub fn withhold(&mut self) {
        self.withheld.append(&mut self.spare);
        self.withheld.extend(self.posted.drain(..));
    }

    /// That is over.
    pub fn return_withheld(&mut self) {
        for &buffer in &self.withheld {
            self.buffers[usize::from(buffer)].state = State::Spare;
        }
        self.spare.append(&mut self.withheld);
    }

    /// The kernel fills a buffer; one is posted.
    pub fn fill(&mut self, bytes: Bytes) -> Lease {
        let buffer = self.posted.pop_front().expect("a buffer is posted");
        assert!(!bytes.is_empty() && bytes.len() <= BUFFER_LEN as u64);
        let lease = Lease { buffer, start: 0, len: bytes.len() as u16 };
        self.buffers[usize::from(buffer)] = Buffer::new(State::Leased, bytes);
        self.untold += 1;
        lease
    }

    /// Whether so many can be taken without buffers becoming scarce.
    pub fn has_spare(&self, count: usize) -> bool {
        self.leased() + count <= self.buffers.len() / 2 && self.spare.len() >= count
    }

    /// A buffer that the kernel does not fill takes bytes of a pipe.
    pub fn take(&mut self, bytes: Bytes) -> Option<Lease> {
        let buffer = self.spare.pop()?;
        let lease = Lease { buffer, start: 0, len: bytes.len() as u16 };
        self.buffers[usize::from(buffer)] = Buffer::new(State::Leased, bytes);
        Some(lease)
    }

    /// The bytes of a lease.
    pub fn read(&self, lease: Lease) -> Bytes {
        let buffer = &self.buffers[usize::from(lease.buffer)];
        assert!(matches!(buffer.state, State::Leased | State::Sending), "buffer {} is not leased", lease.buffer);
        buffer.bytes.slice(u64::from(lease.start), u64::from(lease.len))
    }

    pub fn append(&mut self, from: Lease, to: Lease) {
        let mut bytes = self.read(from);
        let target = &mut self.buffers[usize::from(to.buffer)];
        assert_eq!(target.state, State::Leased, "an append to buffer {}", to.buffer);
        assert_eq!(target.bytes.len(), to.end() as u64, "an append overwrites bytes, or leaves a hole");
        bytes.move_to(u64::MAX, &mut target.bytes);
        assert!(target.bytes.len() <= BUFFER_LEN as u64, "an append beyond the end of the buffer");
    }

    pub fn release(&mut self, buffer: u16) {
        let it = &mut self.buffers[usize::from(buffer)];
        assert_ne!(it.state, State::Sending, "EFAULT: buffer {buffer} is released while a send of it is in flight");
        assert_eq!(it.state, State::Leased, "buffer {buffer} is released twice");
        let before = std::mem::replace(it, Buffer::new(State::Spare, Bytes::default()));
        if let Some(held) = before.owner.and_then(|owner| self.held.get_mut(&owner)) {
            *held -= 1;
        }
        self.spare.push(buffer);
    }

    /// The worker knows that bytes of that connection are in the buffer.
    pub fn own(&mut self, buffer: u16, sock: usize) {
        if self.buffers[usize::from(buffer)].owner.replace(sock).is_none() {
            *self.held.entry(sock).or_default() += 1;
        }
    }

    /// Buffers that hold bytes of that connection.
    pub fn held_by(&self, sock: usize) -> usize {
        self.held.get(&sock).copied().unwrap_or(0)
    }

    /// A send begins or ends to read the buffer.
    pub fn set_sending(&mut self, buffer: u16, sending: bool) {
        let state = &mut self.buffers[usize::from(buffer)].state;
        let (before, after) = match sending {
            true => (State::Leased, State::Sending),
            false => (State::Sending, State::Leased),
        };
        assert_eq!(*state, before, "a send of buffer {buffer}");
        *state = after;
    }
}

struct Pipe {
    bytes: Bytes,
    is_lent: bool,
    /// The connection that it was filled from.
    source: Option<usize>,
    /// When it was lent, or of some use.
    used_at: Moment,
    /// The source has come to an end, as far as splice can tell.
    is_dry: bool,
    /// Fills in a row that an urgent byte has stopped.
    stalls: u32,
}

/// The pipes.
pub struct Plumbing {
    pipes: Vec<Option<Pipe>>,
    pub capacity: u32,
    max: u16,
}

impl Plumbing {
    pub fn new(max: u16, capacity: u32) -> Plumbing {
        Plumbing { pipes: Vec::new(), capacity, max }
    }

    /// Descriptors that it has.
    pub fn descriptors(&self) -> usize {
        2 * self.pipes.iter().flatten().count()
    }

    pub fn lent(&self) -> usize {
        self.pipes.iter().flatten().filter(|pipe| pipe.is_lent).count()
    }

    pub fn has_spare(&self) -> bool {
        self.pipes.iter().flatten().any(|pipe| !pipe.is_lent)
    }

    pub fn lend(&mut self, now: Moment) -> Option<PipeId> {
        let spare = self.pipes.iter().position(|pipe| pipe.as_ref().is_some_and(|pipe| !pipe.is_lent));
        let vacant = spare.or_else(|| self.pipes.iter().position(Option::is_none));
        let id = match vacant {
            Some(id) => id,
            None if self.pipes.len() < usize::from(self.max) => {
                self.pipes.push(None);
                self.pipes.len() - 1
            }
            None => return None,
        };
        let bytes = Bytes::default();
        self.pipes[id] = Some(Pipe { bytes, is_lent: true, source: None, used_at: now, is_dry: false, stalls: 0 });
        Some(PipeId(id as u16))
    }

    /// Says whose bytes went through it.
    pub fn give_back(&mut self, id: PipeId) -> Option<usize> {
        let pipe = self.pipe(id);
        assert!(pipe.bytes.is_empty(), "{id:?} goes back with bytes in it");
        pipe.is_lent = false;
        pipe.source
    }

    /// The pipe is closed with what is in it.
    pub fn destroy(&mut self, id: PipeId) -> Option<usize> {
        let source = self.pipe(id).source;
        self.pipes[usize::from(id.0)] = None;
        source
    }

    /// It is filled from that connection, or tried to be emptied.
    pub fn used(&mut self, id: PipeId, from: Option<usize>, now: Moment) {
        let pipe = self.pipe(id);
        pipe.source = from.or(pipe.source);
        pipe.used_at = now;
    }

    /// How a fill has ended; says how many in a row an urgent byte has stopped.
    pub fn stalled(&mut self, id: PipeId, stalled: bool, is_dry: bool) -> u32 {
        let pipe = self.pipe(id);
        pipe.is_dry |= is_dry;
        pipe.stalls = if stalled { pipe.stalls + 1 } else { 0 };
        pipe.stalls
    }

    pub fn is_dry(&mut self, id: PipeId) -> bool {
        self.pipe(id).is_dry
    }

    pub fn source(&mut self, id: PipeId) -> Option<usize> {
        self.pipe(id).source
    }

    /// The pipe of that connection: the bytes in it, and since when it is of no use.
    pub fn lent_to(&self, sock: usize) -> Option<(u64, Moment)> {
        let is_its = |pipe: &&Pipe| pipe.is_lent && pipe.source == Some(sock);
        self.pipes.iter().flatten().find(is_its).map(|pipe| (pipe.bytes.len(), pipe.used_at))
    }

    pub fn shrink(&mut self) {
        for place in &mut self.pipes {
            if place.as_ref().is_some_and(|pipe| !pipe.is_lent) {
                *place = None;
            }
        }
    }

    /// The bytes in a pipe, which is lent.
    pub fn bytes(&mut self, id: PipeId) -> &mut Bytes {
        &mut self.pipe(id).bytes
    }

    fn pipe(&mut self, id: PipeId) -> &mut Pipe {
        let pipe = self.pipes[usize::from(id.0)].as_mut().filter(|pipe| pipe.is_lent);
        pipe.unwrap_or_else(|| panic!("{id:?} is used and not lent"))
    }
}
