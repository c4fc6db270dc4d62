//! Connect, shake hands, one request, one answer, close: as clients of TLS without a pool do. The client says
//! close_notify and closes first.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use rustls::client::ClientConnection;
use rustls::{ClientConfig, HandshakeKind};
use socket2::{Domain, SockAddr, Socket, Type};

use super::served::{SIZE, Served, close};
use super::{Fault, Load, gave, parts, token};
use crate::ring::{Event, Ring, Span, receive_entry, send_entry};
use crate::tls;

const RECEIVED: u32 = 0x60;
const STEP: u32 = 0x61;

/// Bytes of a client's flight, and of what it takes in at a time.
const SPACE: usize = 8192;

/// Connections at a time, each replaced by a new one when it has its answer.
pub struct TlsChurn {
    proxy: &'static SockAddr,
    served: Served,
    clients: Vec<Client>,
    resumes: bool,
    done: u64,
    outstanding: usize,
    stopping: bool,
}

struct Client {
    config: Arc<ClientConfig>,
    connection: Option<ClientConnection>,
    socket: RawFd,
    output: Span,
    /// What it says last, while `output` already has the flight of the next connection.
    last: Span,
    input: Span,
    /// Connections that it has started.
    number: u64,
    has_asked: bool,
}

impl TlsChurn {
    /// A client for each of `configs`, which resumes its own sessions if it is to; `listener` is the backend.
    pub fn new(
        proxy: SocketAddr,
        listener: &TcpListener,
        configs: Vec<Arc<ClientConfig>>,
        resumes: bool,
    ) -> Result<TlsChurn, Fault> {
        let client = |config| Client {
            config,
            connection: None,
            socket: -1,
            output: Span::leak(SPACE),
            last: Span::leak(SPACE),
            input: Span::leak(SPACE),
            number: 0,
            has_asked: false,
        };
        Ok(TlsChurn {
            proxy: Box::leak(Box::new(SockAddr::from(proxy))),
            served: Served::new(listener)?,
            clients: configs.into_iter().map(client).collect(),
            resumes,
            done: 0,
            outstanding: 0,
            stopping: false,
        })
    }

    fn connect(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|error| format!("socket: {error}"))?;
        socket.set_tcp_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
        let client = &mut self.clients[index];
        client.socket = socket.into_raw_fd();
        client.number += 1;
        client.has_asked = false;
        client.connection = Some(tls::begin(&client.config)?);
        let connect = opcode::Connect::new(Fd(client.socket), self.proxy.as_ptr().cast(), self.proxy.len()).build();
        let chain = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        ring.push(connect.flags(chain), token(STEP, index));
        self.outstanding += 1;
        client.go_on(ring, index)
    }

    fn on_received(&mut self, ring: &mut Ring, index: usize, count: usize) -> Result<(), Fault> {
        let resumes = self.resumes;
        let client = &mut self.clients[index];
        if !client.take_in(index, count)? {
            return client.go_on(ring, index);
        }
        let was_resumed = client.ensure_kind(resumes)?;
        client.part(ring, index)?;
        // Without a ticket of its own a client cannot resume: its first handshake is not counted then.
        self.done += u64::from(was_resumed == resumes);
        self.outstanding -= 1;
        // A window may be so short that nothing was counted in it.
        if self.stopping && self.done > 0 { Ok(()) } else { self.connect(ring, index) }
    }
}

impl Client {
    fn connection(&mut self) -> Result<&mut ClientConnection, Fault> {
        self.connection.as_mut().ok_or_else(|| "a client has no connection".to_string())
    }

    /// The request: its client and number at both ends.
    fn request(&self, index: usize) -> [u8; SIZE] {
        let mut request = [index as u8; SIZE];
        request[..8].copy_from_slice(&(index as u64).to_le_bytes());
        request[SIZE - 8..].copy_from_slice(&self.number.to_le_bytes());
        request
    }

    /// Writes what rustls has to say into a span: the part of it that is filled.
    fn flight(&mut self, mut output: Span) -> Result<Span, Fault> {
        let mut room = output.bytes_mut();
        let connection = self.connection()?;
        while connection.wants_write() {
            match connection.write_tls(&mut room).map_err(|error| format!("flight: {error}"))? {
                0 => return Err("a flight is too long".into()),
                _ => continue,
            }
        }
        let left = room.len();
        Ok(output.part(0, SPACE - left))
    }

    /// Sends what is to be sent, the request as soon as it can be, and waits for more.
    fn go_on(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        if !self.has_asked && !self.connection()?.is_handshaking() {
            use std::io::Write;
            let request = self.request(index);
            self.connection()?.writer().write_all(&request).map_err(|error| format!("request: {error}"))?;
            self.has_asked = true;
        }
        let flight = self.flight(self.output)?;
        if !flight.bytes().is_empty() {
            let entry = send_entry(self.socket, flight).flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
            ring.push(entry, token(STEP, index));
        }
        ring.push(receive_entry(self.socket, self.input, 0, 0), token(RECEIVED, index));
        Ok(())
    }

    /// Takes in what has come: true if the answer is there.
    fn take_in(&mut self, index: usize, count: usize) -> Result<bool, Fault> {
        use std::io::Read;
        if count == 0 {
            return Err("a connection ended before its answer".into());
        }
        let input = self.input.part(0, count);
        let connection = self.connection()?;
        let mut bytes = input.bytes();
        let mut plain = 0;
        while !bytes.is_empty() {
            connection.read_tls(&mut bytes).map_err(|error| format!("input: {error}"))?;
            let state = connection.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
            plain = state.plaintext_bytes_to_read();
        }
        if plain < SIZE {
            return Ok(false);
        }
        let mut answer = [0; SIZE];
        connection.reader().read_exact(&mut answer).map_err(|error| format!("answer: {error}"))?;
        let is_same = plain == SIZE && answer == self.request(index);
        if is_same { Ok(true) } else { Err("an answer is not what was sent".into()) }
    }

    /// Whether the handshake was a resumption; that it was what it had to be.
    fn ensure_kind(&mut self, resumes: bool) -> Result<bool, Fault> {
        let must_resume = resumes && self.number > 1;
        let wanted = if must_resume { HandshakeKind::Resumed } else { HandshakeKind::Full };
        tls::ensure_kind(self.connection()?, wanted)?;
        Ok(must_resume)
    }

    /// Says close_notify and closes.
    fn part(&mut self, ring: &mut Ring, index: usize) -> Result<(), Fault> {
        self.connection()?.send_close_notify();
        let flight = self.flight(self.last)?;
        let entry = send_entry(self.socket, flight).flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        ring.push(entry, token(STEP, index));
        close(ring, self.socket);
        self.connection = None;
        Ok(())
    }
}

impl Load for TlsChurn {
    fn start(&mut self, ring: &mut Ring, _now_ns: u64) {
        self.served.accept(ring);
        for index in 0..self.clients.len() {
            // A socket that cannot be made shows as a client without an answer when the run ends.
            let _ = self.connect(ring, index);
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, _now_ns: u64) -> Result<(), Fault> {
        match parts(event.token) {
            (RECEIVED, index) => self.on_received(ring, index, gave(event, "receive")?),
            (STEP, _) => gave(event, "connect or flight").map(|_| ()),
            _ => self.served.on(ring, event),
        }
    }

    fn work(&self) -> u64 {
        self.done
    }

    fn stop(&mut self, _ring: &mut Ring) {
        self.stopping = true;
    }

    /// Also the backend has seen the end of every stream: a proxy that does not close has no figure.
    fn finished(&self) -> bool {
        self.outstanding == 0 && self.served.all_ended()
    }

    fn verdict(&self) -> Result<(), Fault> {
        if self.done > 0 { Ok(()) } else { Err("no handshake was counted".into()) }
    }
}
