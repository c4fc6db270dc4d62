//! What the proxies are asked to do. Clients and backends of a workload live in one thread on one ring.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::ring::{Event, Ring};
use crate::sys;

pub mod beside;
pub mod bulk;
pub mod churn;
pub mod idle;
pub mod mix;
pub mod paced;
pub mod round_trip;
pub mod served;
pub mod tls_bulk;
pub mod tls_churn;

/// What went wrong with the traffic: the run has no figure then.
pub type Fault = String;

/// How long a proxy may take for anything before a run is given up.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Latencies of round trips in nanoseconds.
#[derive(Debug, Default)]
pub struct Latencies {
    /// What the proxy took: from the send of one end to the arrival in the socket of the other, both ways.
    pub proxy_ns: Vec<u64>,
    /// From the request to the moment the client looked at the answer; the generator's own delays are in it.
    pub whole_ns: Vec<u64>,
}

/// Clients and backends that are told what completed and push what comes next.
pub trait Load {
    /// Pushes the first operations.
    fn start(&mut self, ring: &mut Ring, now_ns: u64);

    /// One operation completed.
    fn on(&mut self, ring: &mut Ring, event: Event, now_ns: u64) -> Result<(), Fault>;

    /// Called once per turn; how long the ring may wait at most, in nanoseconds.
    fn tick(&mut self, _ring: &mut Ring, _now_ns: u64) -> Result<u64, Fault> {
        Ok(20_000_000)
    }

    /// Bytes or operations done so far.
    fn work(&self) -> u64;

    /// Latencies so far, and forgets them.
    fn take_latencies(&mut self) -> Latencies {
        Latencies::default()
    }

    /// From now on nothing new is started.
    fn stop(&mut self, ring: &mut Ring);

    /// True exactly when everything that was started has come to its end.
    fn finished(&self) -> bool;

    /// After the end: is what arrived what was sent?
    fn verdict(&self) -> Result<(), Fault>;
}

/// A token that names what an operation was and for which session.
pub fn token(kind: u32, index: usize) -> u64 {
    u64::from(kind) << 32 | index as u64
}

/// The two halves of a token.
pub fn parts(token: u64) -> (u32, usize) {
    ((token >> 32) as u32, token as u32 as usize)
}

/// The bytes or the descriptor that an operation gave.
pub fn gave(event: Event, what: &str) -> Result<usize, Fault> {
    usize::try_from(event.result)
        .map_err(|_| format!("{what}: {}", io::Error::from_raw_os_error(event.result.unsigned_abs() as i32)))
}

/// Runs `load` until the clock says `until_ns`, or, without that, until it is finished or the patience is over.
pub fn drive(ring: &mut Ring, load: &mut dyn Load, until_ns: Option<u64>) -> Result<(), Fault> {
    let mut events = Vec::with_capacity(32768);
    let give_up_ns = until_ns.unwrap_or_else(|| sys::now_ns() + PATIENCE.as_nanos() as u64);
    loop {
        let now = sys::now_ns();
        if now >= give_up_ns {
            return if until_ns.is_some() { Ok(()) } else { Err("traffic did not come to its end".into()) };
        }
        if until_ns.is_none() && load.finished() {
            return Ok(());
        }
        let wait_ns = load.tick(ring, now)?.min(give_up_ns - now);
        ring.turn(wait_ns, &mut events).map_err(|error| format!("io_uring: {error}"))?;
        let now = sys::now_ns();
        for event in &events {
            load.on(ring, *event, now)?;
        }
    }
}

/// A client connection and the backend connection that the proxy made for it.
pub struct Pair {
    /// The client's end.
    pub client: TcpStream,
    /// The backend's end.
    pub backend: TcpStream,
}

/// Opens `count` sessions through the proxy, one after the other, so that it is known which belongs to which.
pub fn open_pairs(proxy: SocketAddr, backend: &TcpListener, count: usize) -> Result<Vec<Pair>, Fault> {
    (0..count).map(|_| open_pair(proxy, backend)).collect::<io::Result<_>>().map_err(|e| format!("open: {e}"))
}

fn open_pair(proxy: SocketAddr, backend: &TcpListener) -> io::Result<Pair> {
    let client = TcpStream::connect_timeout(&proxy, PATIENCE)?;
    SockRef::from(backend).set_read_timeout(Some(PATIENCE))?;
    let (backend, _) = backend.accept()?;
    client.set_nodelay(true)?;
    backend.set_nodelay(true)?;
    Ok(Pair { client, backend })
}
