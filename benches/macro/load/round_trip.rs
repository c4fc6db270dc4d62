//! Request and answer of one size over long sessions; each session has one request on its way.
//!
//! A request carries its session and number at both ends, the backend returns the very bytes, the client compares:
//! a proxy that mixes, loses or repeats bytes has no figure. Clients can speak TLS: a message is one record then.

use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use super::{Fault, Load, Pair, gave, parts, token};
use crate::ring::{Event, Ring, Span, receive_entry};
use crate::tls::{APPLICATION_DATA, HEADER, Opened, Records, Session, record_len};

const RECEIVED: u32 = 0x20;
const SENT: u32 = 0x21;

/// Messages up to this size are received multishot, into provided buffers of this size, and copied out of them.
const SMALL: usize = 128;
/// Compare the whole answer every so often, else only its ends.
const COMPARE_ALL_EVERY: u64 = 64;
/// IORING_RECVSEND_POLL_FIRST: do not try to receive before the socket has something.
const POLL_FIRST: u16 = 1;

/// Sessions in a closed loop, as fast as they go.
pub struct RoundTrips {
    ends: Vec<End>,
    size: usize,
    done: u64,
    outstanding: usize,
    stopping: bool,
}

/// One end of a session: the client of session `i` stands at `2 i`, its backend at `2 i + 1`.
struct End {
    socket: TcpStream,
    descriptor: RawFd,
    input: Span,
    output: Span,
    filled: usize,
    number: u64,
    tls: Option<Box<Tls>>,
}

/// What a client has that speaks TLS.
struct Tls {
    records: Records,
    /// The record that is sent.
    sealed: Span,
    /// The record that comes.
    received: Span,
}

impl RoundTrips {
    /// Sessions that send `size` bytes, wait for as many, and send again.
    pub fn new(ring: &mut Ring, pairs: Vec<Pair>, size: usize) -> Result<RoundTrips, Fault> {
        let sessions = pairs.len();
        if size <= SMALL {
            let buffers = (sessions * 4).next_power_of_two().clamp(64, 16384) as u16;
            ring.provide_buffers(buffers, SMALL).map_err(|error| format!("buffers: {error}"))?;
        }
        let spans = Span::leak(sessions * 3 * size);
        let mut ends = Vec::with_capacity(sessions * 2);
        for (index, pair) in pairs.into_iter().enumerate() {
            let span = |which: usize| spans.part((index * 3 + which) * size, size);
            span(1).write(0, &(0..size).map(|at| (at + index) as u8).collect::<Vec<_>>());
            ends.push(End::new(pair.client, span(0), span(1)));
            ends.push(End::new(pair.backend, span(2), span(2)));
        }
        Ok(RoundTrips { ends, size, done: 0, outstanding: 0, stopping: false })
    }

    /// The same, with clients that speak TLS.
    pub fn over_tls(ring: &mut Ring, sessions: Vec<Session>, size: usize) -> Result<RoundTrips, Fault> {
        let (pairs, records): (Vec<Pair>, Vec<Records>) =
            sessions.into_iter().map(|session| (session.pair, session.records)).unzip();
        let mut trips = RoundTrips::new(ring, pairs, size)?;
        for (client, records) in trips.ends.iter_mut().step_by(2).zip(records) {
            let span = || Span::leak(record_len(size));
            client.tls = Some(Box::new(Tls { records, sealed: span(), received: span() }));
        }
        Ok(trips)
    }

    fn receive(&self, ring: &mut Ring, index: usize) {
        let end = &self.ends[index];
        if self.size <= SMALL {
            ring.receive_multishot(token(RECEIVED, index), end.descriptor);
        } else {
            let entry = receive_entry(end.descriptor, end.input, libc::MSG_WAITALL, POLL_FIRST);
            ring.push(entry, token(RECEIVED, index));
        }
    }

    fn request(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        let size = self.size;
        let end = &mut self.ends[index];
        end.number += 1;
        let tag = ((index as u64) << 48 | end.number).to_le_bytes();
        end.output.write(0, &tag);
        end.output.write(size - 8, &tag);
        self.outstanding += 1;
        let message = match end.tls.as_deref_mut() {
            Some(tls) => tls.seal(end.output)?,
            None => end.output,
        };
        ring.send(token(SENT, index), end.descriptor, message, true, true);
        Ok(())
    }

    fn on_received(&mut self, ring: &mut Ring, event: Event, index: usize) -> Result<(), Fault> {
        if event.result == -libc::ENOBUFS {
            self.receive(ring, index);
            return Ok(());
        }
        let count = gave(event, "receive")?;
        if count == 0 {
            return Err(format!("session {} was closed", index / 2));
        }
        let end = &mut self.ends[index];
        let (into, wanted) = match &end.tls {
            Some(tls) => (tls.received, record_len(self.size)),
            None => (end.input, self.size),
        };
        if let Some(buffer) = event.buffer() {
            if end.filled + count > wanted {
                return Err(format!("session {} got more than was sent", index / 2));
            }
            into.write(end.filled, ring.filled(buffer, count).bytes());
            ring.release(buffer);
        }
        end.filled += count;
        let whole = end.filled == wanted;
        if !event.more() && (whole || self.size <= SMALL) {
            self.receive(ring, index);
        } else if !event.more() {
            return Err(format!("session {} got {count} of {} bytes", index / 2, self.size));
        }
        if whole { self.on_message(ring, index) } else { Ok(()) }
    }

    fn on_message(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        let end = &mut self.ends[index];
        end.filled = 0;
        if index % 2 == 1 {
            ring.send(token(SENT, index), end.descriptor, end.output, true, true);
            return Ok(());
        }
        if let Some(tls) = end.tls.as_deref_mut() {
            tls.open(end.input)?;
        }
        compare(end.output.bytes(), end.input.bytes(), end.number)
            .map_err(|fault| format!("session {}: {fault}", index / 2))?;
        self.done += 1;
        self.outstanding -= 1;
        if self.stopping { Ok(()) } else { self.request(ring, index) }
    }
}

impl End {
    fn new(socket: TcpStream, input: Span, output: Span) -> End {
        let descriptor = socket.as_raw_fd();
        End { socket, descriptor, input, output, filled: 0, number: 0, tls: None }
    }
}

impl Tls {
    /// The record that carries a message.
    fn seal(&mut self, message: Span) -> Result<Span, Fault> {
        self.sealed.write(HEADER, message.bytes());
        self.records.seal(APPLICATION_DATA, self.sealed.bytes_mut())?;
        Ok(self.sealed)
    }

    /// Writes what the record that has come carries to `message`.
    fn open(&mut self, message: Span) -> Result<(), Fault> {
        let record = self.received.bytes_mut();
        match self.records.open(record)? {
            Some((Opened::Data(carried), len)) if len == record.len() => message.write(0, &record[carried]),
            other => return Err(format!("an answer is not one record: {other:?}")),
        }
        Ok(())
    }
}

fn compare(sent: &[u8], got: &[u8], number: u64) -> Result<(), Fault> {
    let size = sent.len();
    let same = if number.is_multiple_of(COMPARE_ALL_EVERY) || size <= SMALL {
        sent == got
    } else {
        sent[..8] == got[..8] && sent[size - 8..] == got[size - 8..]
    };
    if same { Ok(()) } else { Err("the answer is not what was sent".into()) }
}

impl Load for RoundTrips {
    fn start(&mut self, ring: &mut Ring, _now_ns: u64) {
        for index in 0..self.ends.len() {
            self.receive(ring, index);
        }
        for index in (0..self.ends.len()).step_by(2) {
            // A session that cannot seal shows as one that is never answered.
            let _ = self.request(ring, index);
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, _now_ns: u64) -> Result<(), Fault> {
        match parts(event.token) {
            (RECEIVED, index) => self.on_received(ring, event, index),
            // Only failures of a send complete.
            _ => gave(event, "send").map(|_| ()),
        }
    }

    fn work(&self) -> u64 {
        self.done
    }

    fn stop(&mut self, _ring: &mut Ring) {
        self.stopping = true;
    }

    fn finished(&self) -> bool {
        self.outstanding == 0
    }

    fn verdict(&self) -> Result<(), Fault> {
        let broken = self.ends.iter().find_map(|end| end.socket.take_error().ok().flatten());
        broken.map_or(Ok(()), |error| Err(format!("a session ended with {error}")))
    }
}
