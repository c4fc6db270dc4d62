//! The worker's buffers and pipes, and who holds each.

use std::collections::VecDeque;

use ringway::base::lease::{BUFFER_LEN, Lease, PipeId};
use ringway::base::side::Side;

use crate::bytes::Bytes;

/// Which half of which session.
pub type Half = (usize, Side);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Holder {
    half: Half,
    /// A send in the ring reads it.
    sending: bool,
}

#[derive(Default)]
struct Buffer {
    bytes: Bytes,
    holder: Option<Holder>,
}

/// The receive buffers. What a released buffer held is gone, as if the page had become inaccessible.
pub struct Buffers {
    buffers: Vec<Buffer>,
    free: VecDeque<u16>,
}

impl Buffers {
    pub fn new(count: u16) -> Buffers {
        Buffers { buffers: (0..count).map(|_| Buffer::default()).collect(), free: (0..count).collect() }
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    pub fn all(&self) -> usize {
        self.buffers.len()
    }

    /// The kernel fills a buffer. It must not be empty-handed: see `free`.
    pub fn fill(&mut self, half: Half, bytes: Bytes) -> Lease {
        let buffer = self.free.pop_front().expect("a buffer is free");
        assert!(!bytes.is_empty() && bytes.len() <= BUFFER_LEN as u64);
        let lease = Lease { buffer, start: 0, len: bytes.len() as u16 };
        self.buffers[buffer as usize] = Buffer { bytes, holder: Some(Holder { half, sending: false }) };
        lease
    }

    /// The bytes of a lease. Panics if the buffer is not held by that half.
    pub fn read(&self, half: Half, lease: Lease) -> Bytes {
        self.ensure_held(half, lease.buffer, "reads");
        self.buffers[lease.buffer as usize].bytes.slice(u64::from(lease.start), u64::from(lease.len))
    }

    pub fn append(&mut self, half: Half, from: Lease, to: Lease) {
        let mut bytes = self.read(half, from);
        self.ensure_held(half, to.buffer, "appends to");
        let target = &mut self.buffers[to.buffer as usize];
        assert_eq!(target.bytes.len(), to.end() as u64, "an append overwrites bytes, or leaves a hole");
        bytes.move_to(u64::MAX, &mut target.bytes);
        assert!(target.bytes.len() <= BUFFER_LEN as u64, "an append beyond the end of the buffer");
    }

    pub fn release(&mut self, session: usize, buffer: u16) {
        let holder = self.buffers[buffer as usize].holder;
        let holder = holder.unwrap_or_else(|| panic!("contract 2: buffer {buffer} is released twice"));
        assert_eq!(holder.half.0, session, "contract 2: buffer {buffer} of another session is released");
        assert!(!holder.sending, "EFAULT: buffer {buffer} is released while a send of it is in flight");
        self.buffers[buffer as usize] = Buffer::default();
        self.free.push_back(buffer);
    }

    /// A send in the ring begins or ends to read the buffer.
    pub fn set_sending(&mut self, half: Half, buffer: u16, sending: bool) {
        self.ensure_held(half, buffer, "sends");
        if let Some(holder) = &mut self.buffers[buffer as usize].holder {
            holder.sending = sending;
        }
    }

    /// Buffers that the half holds.
    pub fn held_by(&self, half: Half) -> usize {
        self.buffers.iter().filter(|buffer| buffer.holder.is_some_and(|holder| holder.half == half)).count()
    }

    pub fn is_held_by(&self, half: Half, buffer: u16) -> bool {
        self.buffers[buffer as usize].holder.is_some_and(|holder| holder.half == half)
    }

    fn ensure_held(&self, half: Half, buffer: u16, what: &str) {
        let holder = self.buffers[buffer as usize].holder.map(|holder| holder.half);
        assert_eq!(holder, Some(half), "{half:?} {what} buffer {buffer} which it does not hold");
    }
}

struct Pipe {
    bytes: Bytes,
    lent_to: Option<Half>,
}

/// The pipes.
pub struct Pipes {
    pipes: Vec<Pipe>,
    pub capacity: u32,
}

impl Pipes {
    pub fn new(count: u16, capacity: u32) -> Pipes {
        Pipes { pipes: (0..count).map(|_| Pipe { bytes: Bytes::default(), lent_to: None }).collect(), capacity }
    }

    pub fn lend(&mut self, half: Half) -> Option<PipeId> {
        assert!(self.lent_to(half).is_none(), "{half:?} borrows a second pipe");
        let id = self.pipes.iter().position(|pipe| pipe.lent_to.is_none())?;
        self.pipes[id].lent_to = Some(half);
        Some(PipeId(id as u16))
    }

    /// Takes an empty pipe back.
    pub fn give_back(&mut self, session: usize, id: PipeId) {
        assert!(self.pipes[id.0 as usize].bytes.is_empty(), "contract 2: {id:?} goes back with bytes in it");
        self.destroy(session, id);
    }

    /// Closes a pipe, with what is in it.
    pub fn destroy(&mut self, session: usize, id: PipeId) {
        let pipe = &mut self.pipes[id.0 as usize];
        let lent_to = pipe.lent_to.take().unwrap_or_else(|| panic!("contract 2: {id:?} goes back twice"));
        assert_eq!(lent_to.0, session, "contract 2: {id:?} of another session goes back");
        pipe.bytes.clear();
    }

    /// The bytes in a pipe. Panics if it is not lent to that half.
    pub fn bytes(&mut self, half: Half, id: PipeId) -> &mut Bytes {
        let pipe = &mut self.pipes[id.0 as usize];
        assert_eq!(pipe.lent_to, Some(half), "{half:?} uses {id:?} which it does not have");
        &mut pipe.bytes
    }

    /// The pipe of a half, and the bytes in it.
    pub fn lent_to(&self, half: Half) -> Option<u64> {
        self.pipes.iter().find(|pipe| pipe.lent_to == Some(half)).map(|pipe| pipe.bytes.len())
    }
}
