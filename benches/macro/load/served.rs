//! The backend of short connections: takes one request of 64 B, returns it, and closes after the other end.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;

use super::{Fault, gave, parts, token};
use crate::ring::{Event, Ring, Span, receive_entry, send_entry};

const ACCEPTED: u32 = 0x50;
const SERVED: u32 = 0x51;
const STEP: u32 = 0x52;
const CLOSED: u32 = 0x53;

/// Bytes of a request and of its answer.
pub const SIZE: usize = 64;

/// All connections of the backend.
pub struct Served {
    listener: TcpListener,
    connections: Vec<(RawFd, Span)>,
    free: Vec<usize>,
}

impl Served {
    /// Connections that come to this listener.
    pub fn new(listener: &TcpListener) -> Result<Served, Fault> {
        let listener = listener.try_clone().map_err(|error| format!("listener: {error}"))?;
        Ok(Served { listener, connections: Vec::new(), free: Vec::new() })
    }

    /// Begins to accept.
    pub fn accept(&self, ring: &mut Ring) {
        ring.push(opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).build(), token(ACCEPTED, 0));
    }

    /// True exactly when the end of every stream was seen.
    pub fn all_ended(&self) -> bool {
        self.free.len() == self.connections.len()
    }

    /// One operation completed.
    pub fn on(&mut self, ring: &mut Ring, event: Event) -> Result<(), Fault> {
        match parts(event.token) {
            (ACCEPTED, _) => self.on_accepted(ring, event)?,
            (SERVED, index) => {
                close(ring, self.connections[index].0);
                self.free.push(index);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_accepted(&mut self, ring: &mut Ring, event: Event) -> Result<(), Fault> {
        let socket = gave(event, "accept")? as RawFd;
        if !event.more() {
            self.accept(ring);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push((-1, Span::leak(SIZE)));
            self.connections.len() - 1
        });
        self.connections[index].0 = socket;
        let span = self.connections[index].1;
        let chain = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        ring.push(receive_entry(socket, span, libc::MSG_WAITALL, 0).flags(chain), token(STEP, index));
        ring.push(send_entry(socket, span).flags(chain), token(STEP, index));
        // Waits for the end of the stream: the proxy has to pass the client's FIN on.
        ring.push(receive_entry(socket, span.part(0, 1), 0, 0), token(SERVED, index));
        Ok(())
    }
}

/// Closes a socket without an answer.
pub fn close(ring: &mut Ring, socket: RawFd) {
    ring.push(opcode::Close::new(Fd(socket)).build().flags(Flags::SKIP_SUCCESS), token(CLOSED, 0));
}
