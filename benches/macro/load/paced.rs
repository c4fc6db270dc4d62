//! Small round trips at a pace, and what the proxy adds to each: from the send of the client to the arrival in the
//! backend's socket, and back. Sends are plain system calls right after the clock is read, arrivals are the kernel's
//! timestamps, so how busy the generator is with other things does not count.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use super::{Fault, Latencies, Load, Pair, gave, parts, token};
use crate::ring::{Event, Ring};
use crate::stamped::{self, Stamped};
use crate::sys;

const RECEIVED: u32 = 0x40;
const SIZE: usize = 64;

/// When a session is due whose request has no answer yet.
const ON_ITS_WAY: u64 = u64::MAX;

/// Paced sessions.
pub struct Paced {
    sessions: Vec<Session>,
    pace_ns: u64,
    done: u64,
    outstanding: usize,
    latencies: Latencies,
    stopping: bool,
}

struct Session {
    client: End,
    backend: End,
    request: [u8; SIZE],
    number: u64,
    due_ns: u64,
    /// On CLOCK_REALTIME, as are the arrivals.
    requested_ns: u64,
    answered_ns: u64,
    /// What the way to the backend took.
    there_ns: u64,
}

struct End {
    socket: TcpStream,
    receive: Stamped,
}

impl Paced {
    /// Sessions that send 64 B and wait for as many, each at most once in `pace_ns`, starting one after the other.
    pub fn new(pairs: Vec<Pair>, pace_ns: u64) -> Result<Paced, Fault> {
        let count = pairs.len() as u64;
        let sessions = pairs.into_iter().enumerate().map(|(index, pair)| {
            stamped::enable(&pair.client)?;
            stamped::enable(&pair.backend)?;
            Ok(Session {
                client: End { socket: pair.client, receive: Stamped::new(SIZE) },
                backend: End { socket: pair.backend, receive: Stamped::new(SIZE) },
                request: [index as u8; SIZE],
                number: 0,
                due_ns: index as u64 * pace_ns / count,
                requested_ns: 0,
                answered_ns: 0,
                there_ns: 0,
            })
        });
        let sessions = sessions.collect::<std::io::Result<_>>().map_err(|error| format!("timestamps: {error}"))?;
        Ok(Paced { sessions, pace_ns, done: 0, outstanding: 0, latencies: Latencies::default(), stopping: false })
    }

    /// Even ends are clients, odd ones backends.
    fn receive(&mut self, ring: &mut Ring, index: usize) {
        let session = &mut self.sessions[index / 2];
        let end = if index.is_multiple_of(2) { &mut session.client } else { &mut session.backend };
        end.receive.push(ring, token(RECEIVED, index), end.socket.as_raw_fd());
    }

    fn request(&mut self, index: usize) -> Result<(), Fault> {
        let session = &mut self.sessions[index];
        session.number += 1;
        session.due_ns = ON_ITS_WAY;
        session.request[..8].copy_from_slice(&session.number.to_le_bytes());
        session.requested_ns = sys::wall_ns();
        self.outstanding += 1;
        write(&session.client.socket, &session.request)
    }

    fn on_request(&mut self, index: usize) -> Result<(), Fault> {
        let session = &mut self.sessions[index];
        let arrived_ns = session.backend.receive.arrived_ns().unwrap_or_else(sys::wall_ns);
        session.there_ns = arrived_ns.saturating_sub(session.requested_ns);
        session.answered_ns = sys::wall_ns();
        write(&session.backend.socket, session.backend.receive.data.bytes())
    }

    fn on_answer(&mut self, index: usize, now_ns: u64) -> Result<(), Fault> {
        let session = &mut self.sessions[index];
        if session.client.receive.data.bytes() != session.request {
            return Err(format!("paced session {index}: the answer is not what was sent"));
        }
        let wall_ns = sys::wall_ns();
        let arrived_ns = session.client.receive.arrived_ns().unwrap_or(wall_ns);
        let back_ns = arrived_ns.saturating_sub(session.answered_ns);
        let whole_ns = wall_ns.saturating_sub(session.requested_ns);
        self.latencies.proxy_ns.push(session.there_ns + back_ns);
        self.latencies.whole_ns.push(whole_ns);
        session.due_ns = now_ns + self.pace_ns.saturating_sub(whole_ns);
        self.done += 1;
        self.outstanding -= 1;
        Ok(())
    }
}

fn write(mut socket: &TcpStream, bytes: &[u8]) -> Result<(), Fault> {
    socket.write_all(bytes).map_err(|error| format!("paced send: {error}"))
}

impl Load for Paced {
    fn start(&mut self, ring: &mut Ring, now_ns: u64) {
        for index in 0..self.sessions.len() * 2 {
            self.receive(ring, index);
        }
        self.sessions.iter_mut().for_each(|session| session.due_ns += now_ns);
    }

    fn on(&mut self, ring: &mut Ring, event: Event, now_ns: u64) -> Result<(), Fault> {
        let (_, index) = parts(event.token);
        let count = gave(event, "paced receive")?;
        if count != SIZE {
            return Err(format!("paced session {} got {count} bytes at once", index / 2));
        }
        if index.is_multiple_of(2) { self.on_answer(index / 2, now_ns) } else { self.on_request(index / 2) }?;
        self.receive(ring, index);
        Ok(())
    }

    fn tick(&mut self, _ring: &mut Ring, now_ns: u64) -> Result<u64, Fault> {
        let mut wait_ns = 20_000_000;
        if self.stopping {
            return Ok(wait_ns);
        }
        for index in 0..self.sessions.len() {
            let due_ns = self.sessions[index].due_ns;
            if due_ns <= now_ns {
                self.request(index)?;
            } else if due_ns != ON_ITS_WAY {
                wait_ns = wait_ns.min(due_ns - now_ns);
            }
        }
        Ok(wait_ns)
    }

    fn work(&self) -> u64 {
        self.done
    }

    fn take_latencies(&mut self) -> Latencies {
        std::mem::take(&mut self.latencies)
    }

    fn stop(&mut self, _ring: &mut Ring) {
        self.stopping = true;
    }

    fn finished(&self) -> bool {
        self.outstanding == 0
    }

    fn verdict(&self) -> Result<(), Fault> {
        if self.done > 0 { Ok(()) } else { Err("no small request was answered".into()) }
    }
}
