//! Connect, one request, one answer, close: as clients without a pool do. The client closes first, with a FIN or a
//! reset.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use socket2::{Domain, SockAddr, Socket, Type};

use super::served::{SIZE, Served, close};
use super::{Fault, Load, gave, parts, token};
use crate::ring::{Event, Ring, Span, receive_entry, send_entry};

const ANSWERED: u32 = 0x30;
const CLIENT_STEP: u32 = 0x31;

/// Connections at a time, each replaced by a new one when it has its answer.
pub struct Churn {
    proxy: &'static SockAddr,
    served: Served,
    clients: Vec<Client>,
    done: u64,
    outstanding: usize,
    stopping: bool,
    resets: bool,
}

struct Client {
    socket: RawFd,
    output: Span,
    input: Span,
    number: u64,
}

impl Churn {
    /// `concurrency` clients of `proxy`, which end with a reset if they are to; `listener` is the backend.
    pub fn new(proxy: SocketAddr, listener: &TcpListener, concurrency: usize, resets: bool) -> Result<Churn, Fault> {
        let spans = Span::leak(concurrency * 2 * SIZE);
        let client = |index: usize| Client {
            socket: -1,
            output: spans.part(index * 2 * SIZE, SIZE),
            input: spans.part((index * 2 + 1) * SIZE, SIZE),
            number: 0,
        };
        Ok(Churn {
            proxy: Box::leak(Box::new(SockAddr::from(proxy))),
            served: Served::new(listener)?,
            clients: (0..concurrency).map(client).collect(),
            done: 0,
            outstanding: 0,
            stopping: false,
            resets,
        })
    }

    fn connect(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        use std::os::fd::IntoRawFd;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|error| format!("socket: {error}"))?;
        if self.resets {
            socket.set_linger(Some(std::time::Duration::ZERO)).map_err(|error| format!("linger: {error}"))?;
        }
        let client = &mut self.clients[index];
        client.socket = socket.into_raw_fd();
        client.number += 1;
        client.output.write(0, &(index as u64).to_le_bytes());
        client.output.write(SIZE - 8, &client.number.to_le_bytes());
        let chain = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        let connect = opcode::Connect::new(Fd(client.socket), self.proxy.as_ptr().cast(), self.proxy.len()).build();
        let answer = receive_entry(client.socket, client.input, libc::MSG_WAITALL, 0);
        ring.push(connect.flags(chain), token(CLIENT_STEP, index));
        ring.push(send_entry(client.socket, client.output).flags(chain), token(CLIENT_STEP, index));
        ring.push(answer, token(ANSWERED, index));
        self.outstanding += 1;
        Ok(())
    }

    fn on_answered(&mut self, ring: &mut Ring, event: Event, index: usize) -> Result<(), Fault> {
        let count = gave(event, "connect, request or answer")?;
        let client = &self.clients[index];
        if count != SIZE || client.input.bytes() != client.output.bytes() {
            return Err(format!("an answer of {count} bytes is not what was sent"));
        }
        close(ring, client.socket);
        self.done += 1;
        self.outstanding -= 1;
        if self.stopping { Ok(()) } else { self.connect(ring, index) }
    }
}

impl Load for Churn {
    fn start(&mut self, ring: &mut Ring, _now_ns: u64) {
        self.served.accept(ring);
        for index in 0..self.clients.len() {
            // A socket that cannot be made shows as a client without an answer when the run ends.
            let _ = self.connect(ring, index);
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, _now_ns: u64) -> Result<(), Fault> {
        match parts(event.token) {
            (ANSWERED, index) => self.on_answered(ring, event, index),
            (CLIENT_STEP, _) => gave(event, "connect or request").map(|_| ()),
            _ => self.served.on(ring, event),
        }
    }

    fn work(&self) -> u64 {
        self.done
    }

    fn stop(&mut self, _ring: &mut Ring) {
        self.stopping = true;
    }

    /// Also the backend has seen the end of every stream: a proxy that does not close has no figure. (The baseline
    /// passes no reset on, so that cannot be asked of resets.)
    fn finished(&self) -> bool {
        self.outstanding == 0 && (self.resets || self.served.all_ended())
    }

    fn verdict(&self) -> Result<(), Fault> {
        if self.done > 0 { Ok(()) } else { Err("no connection was answered".into()) }
    }
}
