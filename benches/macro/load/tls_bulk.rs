//! Streams as fast as they go, in one direction: the client's end speaks TLS, the backend's end does not.
//!
//! A client that sends seals what stands in its buffer again and again, so it copies nothing; one that receives opens
//! every record, which proves its bytes.

use std::net::Shutdown;
use std::os::fd::AsRawFd;

use super::bulk::Toward;
use super::{Fault, Load, Pair, gave, parts, token};
use crate::ring::{Event, Ring, Span};
use crate::tls::{APPLICATION_DATA, Opened, PLAIN_MAX, Records, Session, record_len};

const SENT: u32 = 0x40;
const RECEIVED: u32 = 0x41;
const PARTED: u32 = 0x42;

/// Records of a write.
const RECORDS: usize = 16;
/// Bytes that a write carries.
const CHUNK: usize = RECORDS * PLAIN_MAX;
/// Bytes of a client's buffer.
const SPACE: usize = RECORDS * record_len(PLAIN_MAX);

/// Bulk flows of clients that speak TLS.
pub struct TlsBulk {
    flows: Vec<Flow>,
    toward: Toward,
    source: Span,
    sink: Span,
    received: u64,
    stopping: bool,
}

struct Flow {
    pair: Pair,
    records: Records,
    /// Records of the client.
    space: Span,
    /// Bytes in it that are not a whole record.
    filled: usize,
    sent: u64,
    received: u64,
    /// True exactly when the client was told of the end of the stream.
    was_closed: bool,
    ended: bool,
}

impl TlsBulk {
    /// A flow a session, all in one direction, in writes of 256 KiB.
    pub fn new(sessions: Vec<Session>, toward: Toward) -> TlsBulk {
        let flow = |Session { pair, records }| Flow {
            pair,
            records,
            space: Span::leak(SPACE),
            filled: 0,
            sent: 0,
            received: 0,
            was_closed: false,
            ended: false,
        };
        let flows = sessions.into_iter().map(flow).collect();
        // MSG_TRUNC makes TCP drop the bytes, so the sink's pages are never touched.
        let (source, sink) = (Span::leak(CHUNK), Span::leak(4 << 20));
        TlsBulk { flows, toward, source, sink, received: 0, stopping: false }
    }

    fn send(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        let flow = &mut self.flows[index];
        if self.toward == Toward::Client {
            ring.send(token(SENT, index), flow.pair.backend.as_raw_fd(), self.source, false, false);
            return Ok(());
        }
        for record in flow.space.bytes_mut().chunks_exact_mut(record_len(PLAIN_MAX)) {
            flow.records.seal(APPLICATION_DATA, record)?;
        }
        ring.send(token(SENT, index), flow.pair.client.as_raw_fd(), flow.space, true, false);
        Ok(())
    }

    fn on_sent(&mut self, ring: &mut Ring, index: usize, count: usize) -> Result<(), Fault> {
        let flow = &mut self.flows[index];
        if self.toward == Toward::Backend && count != SPACE {
            return Err(format!("TLS flow {index} sent {count} of {SPACE} bytes"));
        }
        flow.sent += if self.toward == Toward::Backend { CHUNK } else { count } as u64;
        match (self.stopping, self.toward) {
            (false, _) => self.send(ring, index),
            (true, Toward::Client) => flow.pair.backend.shutdown(Shutdown::Write).map_err(|e| format!("shutdown: {e}")),
            (true, Toward::Backend) => {
                let last = flow.records.close_notify()?;
                flow.space.write(0, &last);
                ring.send(
                    token(PARTED, index),
                    flow.pair.client.as_raw_fd(),
                    flow.space.part(0, last.len()),
                    true,
                    false,
                );
                Ok(())
            }
        }
    }

    fn receive(&self, ring: &mut Ring, index: usize) {
        let (flow, token) = (&self.flows[index], token(RECEIVED, index));
        match self.toward {
            Toward::Backend => ring.receive(token, flow.pair.backend.as_raw_fd(), self.sink, libc::MSG_TRUNC),
            Toward::Client => {
                let room = flow.space.part(flow.filled, SPACE - flow.filled);
                ring.receive(token, flow.pair.client.as_raw_fd(), room, 0);
            }
        }
    }

    fn on_received(&mut self, ring: &mut Ring, index: usize, count: usize) -> Result<(), Fault> {
        if count == 0 && !self.stopping {
            return Err(format!("TLS flow {index} ended early"));
        }
        let flow = &mut self.flows[index];
        flow.ended = count == 0;
        let plain = if self.toward == Toward::Backend { count } else { flow.open(count)? };
        flow.received += plain as u64;
        self.received += plain as u64;
        if count > 0 {
            self.receive(ring, index);
        }
        Ok(())
    }
}

impl Flow {
    /// Opens the records that `count` more bytes have made whole: how many bytes they carried.
    fn open(&mut self, count: usize) -> Result<usize, Fault> {
        let (end, mut at, mut plain) = (self.filled + count, 0, 0);
        let mut filled = self.space.part(0, end);
        while let Some((opened, len)) = self.records.open(&mut filled.bytes_mut()[at..])? {
            at += len;
            match opened {
                Opened::Data(carried) => plain += carried.len(),
                Opened::CloseNotify => self.was_closed = true,
                Opened::Ticket => return Err("a ticket came late".into()),
            }
        }
        filled.bytes_mut().copy_within(at.., 0);
        self.filled = end - at;
        Ok(plain)
    }
}

impl Load for TlsBulk {
    fn start(&mut self, ring: &mut Ring, _now_ns: u64) {
        for index in 0..self.flows.len() {
            self.receive(ring, index);
            // A flow that cannot seal shows as one that has ended early.
            let _ = self.send(ring, index);
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, _now_ns: u64) -> Result<(), Fault> {
        match parts(event.token) {
            (SENT, index) => self.on_sent(ring, index, gave(event, "TLS bulk send")?),
            (RECEIVED, index) => self.on_received(ring, index, gave(event, "TLS bulk receive")?),
            (_, index) => {
                gave(event, "close_notify")?;
                self.flows[index].pair.client.shutdown(Shutdown::Write).map_err(|error| format!("shutdown: {error}"))
            }
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
        if let Some(flow) = self.flows.iter().find(|flow| flow.sent != flow.received) {
            return Err(format!("{} bytes were sent and {} arrived", flow.sent, flow.received));
        }
        match self.toward == Toward::Client && !self.flows.iter().all(|flow| flow.was_closed) {
            true => Err("a stream ended without close_notify".into()),
            false => Ok(()),
        }
    }
}
