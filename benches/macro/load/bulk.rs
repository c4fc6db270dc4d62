//! Streams as fast as they go, in one direction: writes of 256 KiB, a sink that drops what it gets in the kernel.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use super::{Fault, Load, Pair, gave, parts, token};
use crate::ring::{Event, Ring, Span};

/// Token kinds of this module.
const SENT: u32 = 0x10;
const RECEIVED: u32 = 0x11;

/// Where a flow goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Toward {
    /// The client sends.
    Backend,
    /// The backend sends.
    Client,
}

/// Bulk flows.
pub struct Bulk {
    flows: Vec<Flow>,
    source: Span,
    sink: Span,
    received: u64,
    stopping: bool,
}

struct Flow {
    sender: TcpStream,
    receiver: TcpStream,
    sent: u64,
    received: u64,
    ended: bool,
}

impl Bulk {
    /// One flow a pair, each in its own direction, in writes of `chunk` bytes.
    pub fn new(pairs: Vec<(Pair, Toward)>, chunk: usize) -> Bulk {
        let flow = |(pair, toward): (Pair, Toward)| {
            let (sender, receiver) = match toward {
                Toward::Backend => (pair.client, pair.backend),
                Toward::Client => (pair.backend, pair.client),
            };
            Flow { sender, receiver, sent: 0, received: 0, ended: false }
        };
        let source = Span::leak(chunk);
        source.write(0, &(0..chunk).map(|at| at as u8).collect::<Vec<_>>());
        let flows = pairs.into_iter().map(flow).collect();
        // MSG_TRUNC makes TCP drop the bytes, so the sink's pages are never touched.
        Bulk { flows, source, sink: Span::leak(4 << 20), received: 0, stopping: false }
    }

    /// True if a completion with this token kind belongs here.
    pub fn owns(kind: u32) -> bool {
        matches!(kind, SENT | RECEIVED)
    }

    fn send(&self, ring: &mut Ring, index: usize) {
        ring.send(token(SENT, index), self.flows[index].sender.as_raw_fd(), self.source, false, false);
    }

    fn receive(&self, ring: &mut Ring, index: usize) {
        ring.receive(token(RECEIVED, index), self.flows[index].receiver.as_raw_fd(), self.sink, libc::MSG_TRUNC);
    }

    fn on_sent(&mut self, ring: &mut Ring, index: usize, count: usize) -> Result<(), Fault> {
        self.flows[index].sent += count as u64;
        if self.stopping {
            return self.flows[index].sender.shutdown(Shutdown::Write).map_err(|error| format!("shutdown: {error}"));
        }
        self.send(ring, index);
        Ok(())
    }

    fn on_received(&mut self, ring: &mut Ring, index: usize, count: usize) -> Result<(), Fault> {
        if count == 0 && !self.stopping {
            return Err(format!("bulk flow {index} ended early"));
        }
        self.flows[index].received += count as u64;
        self.flows[index].ended = count == 0;
        self.received += count as u64;
        if count > 0 {
            self.receive(ring, index);
        }
        Ok(())
    }
}

impl Load for Bulk {
    fn start(&mut self, ring: &mut Ring, _now_ns: u64) {
        for index in 0..self.flows.len() {
            self.receive(ring, index);
            self.send(ring, index);
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, _now_ns: u64) -> Result<(), Fault> {
        let (kind, index) = parts(event.token);
        match kind {
            SENT => self.on_sent(ring, index, gave(event, "bulk send")?),
            _ => self.on_received(ring, index, gave(event, "bulk receive")?),
        }
    }

    fn work(&self) -> u64 {
        self.received
    }

    fn stop(&mut self, _ring: &mut Ring) {
        self.stopping = true;
    }

    fn finished(&self) -> bool {
        self.flows.iter().all(|flow| flow.ended)
    }

    fn verdict(&self) -> Result<(), Fault> {
        match self.flows.iter().find(|flow| flow.sent != flow.received) {
            Some(flow) => Err(format!("{} bytes were sent and {} arrived", flow.sent, flow.received)),
            None => Ok(()),
        }
    }
}
