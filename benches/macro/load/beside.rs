//! A load beside sessions that do nothing, and sessions that no client reads from.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};

use socket2::SockRef;

use super::{Fault, Latencies, Load, Pair, open_pairs};
use crate::ring::{Event, Ring};

/// Bytes that a stalled client takes in.
const RECEIVE_BUFFER: usize = 4096;
const CHUNK: usize = 64 << 10;

/// Another load, while these sessions are open.
pub struct Beside {
    /// They stay as they are.
    pub sessions: Vec<Pair>,
    /// What is measured.
    pub load: Box<dyn Load>,
}

impl Load for Beside {
    fn start(&mut self, ring: &mut Ring, now_ns: u64) {
        self.load.start(ring, now_ns);
    }

    fn on(&mut self, ring: &mut Ring, event: Event, now_ns: u64) -> Result<(), Fault> {
        self.load.on(ring, event, now_ns)
    }

    fn tick(&mut self, ring: &mut Ring, now_ns: u64) -> Result<u64, Fault> {
        self.load.tick(ring, now_ns)
    }

    fn work(&self) -> u64 {
        self.load.work()
    }

    fn take_latencies(&mut self) -> Latencies {
        self.load.take_latencies()
    }

    fn stop(&mut self, ring: &mut Ring) {
        self.load.stop(ring);
    }

    fn finished(&self) -> bool {
        self.load.finished()
    }

    fn verdict(&self) -> Result<(), Fault> {
        let failed = |pair: &&Pair| !matches!(pair.client.take_error(), Ok(None));
        match self.sessions.iter().filter(failed).count() {
            0 => self.load.verdict(),
            count => Err(format!("{count} of the sessions beside it were reset")),
        }
    }
}

/// Nothing at all is done: what is measured is what the sessions beside it cost.
pub struct Rest;

impl Load for Rest {
    fn start(&mut self, _ring: &mut Ring, _now_ns: u64) {}

    fn on(&mut self, _ring: &mut Ring, _event: Event, _now_ns: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn work(&self) -> u64 {
        0
    }

    fn stop(&mut self, _ring: &mut Ring) {}

    fn finished(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Opens sessions whose backend has sent as much as it could, and whose client reads nothing; of every second one the
/// client has sent its FIN before.
pub fn open_stalled(proxy: SocketAddr, backend: &TcpListener, count: usize) -> Result<Vec<Pair>, Fault> {
    let mut pairs = open_pairs(proxy, backend, count)?;
    for (index, pair) in pairs.iter_mut().enumerate() {
        stall(pair, index % 2 == 0).map_err(|error| format!("stalled session {index}: {error}"))?;
    }
    // The proxy takes in more while the last ones are filled.
    for pair in &mut pairs {
        fill(pair).map_err(|error| format!("a stalled session: {error}"))?;
    }
    Ok(pairs)
}

fn stall(pair: &mut Pair, is_half_closed: bool) -> std::io::Result<()> {
    SockRef::from(&pair.client).set_recv_buffer_size(RECEIVE_BUFFER)?;
    SockRef::from(&pair.backend).set_send_buffer_size(CHUNK)?;
    if is_half_closed {
        pair.client.shutdown(Shutdown::Write)?;
    }
    pair.backend.set_nonblocking(true)?;
    fill(pair)
}

fn fill(pair: &mut Pair) -> std::io::Result<()> {
    // Enough to have the proxy wait for its client, and little enough for thousands of them.
    for _ in 0..3 {
        match pair.backend.write(&[1; CHUNK]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
