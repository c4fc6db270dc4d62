//! A backend of the demo: it echoes, and can be stopped and brought back like a process.
//!
//! It is a thread that accepts, with one more thread per connection. When it stops, clients and ringway see what they
//! would see of a killed server: open connections end, and new ones are refused.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

/// One backend, running or stopped.
pub(super) struct Echo {
    /// Its name in the pool.
    pub(super) name: &'static str,
    /// Where it listens; the same after it has come back.
    pub(super) address: SocketAddr,
    /// Connections that have moved a byte.
    open: Arc<AtomicU64>,
    /// Its thread, while it runs.
    running: Option<Running>,
}

/// A backend that runs.
struct Running {
    /// Tells the thread to end.
    stop: Arc<AtomicBool>,
    /// Accepts connections.
    acceptor: JoinHandle<()>,
}

impl Echo {
    /// Starts a backend on a port that the kernel chooses. Connections on the loopback interface come from 127.0.0.1,
    /// so none of them can take this port (of 127.0.0.2) while the backend is stopped.
    pub(super) fn start(name: &'static str) -> io::Result<Echo> {
        let listener = TcpListener::bind("127.0.0.2:0")?;
        let address = listener.local_addr()?;
        let mut echo = Echo { name, address, open: Arc::default(), running: None };
        echo.serve(listener)?;
        Ok(echo)
    }

    /// Open connections that have moved a byte. Those of health checks have not, and do not count.
    pub(super) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Ends as a killed process does: it listens no more, and every connection is closed immediately.
    pub(super) fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Relaxed);
        // A connection of our own wakes the thread that accepts. If none can be made, the next health check does.
        let _ = TcpStream::connect(self.address);
        let _ = running.acceptor.join();
    }

    /// Listens on the same address again.
    pub(super) fn bring_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        self.serve(listener)
    }

    /// Starts the thread that accepts connections.
    fn serve(&mut self, listener: TcpListener) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, open) = (Arc::clone(&stop), Arc::clone(&self.open));
        let body = move || accept(&listener, &flag, &open);
        let acceptor = thread::Builder::new().name(format!("echo {}", self.name)).spawn(body)?;
        self.running = Some(Running { stop, acceptor });
        Ok(())
    }
}

/// Takes connections until it is told to stop, then cuts those that are open.
fn accept(listener: &TcpListener, stop: &AtomicBool, open: &Arc<AtomicU64>) {
    // Weak, so that a connection that has ended is closed by its own thread immediately.
    let mut connections: Vec<Weak<TcpStream>> = Vec::new();
    for stream in listener.incoming() {
        if stop.load(Relaxed) {
            break;
        }
        let Ok(stream) = stream.map(Arc::new) else { continue };
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&stream));
        let open = Arc::clone(open);
        // Without a thread the connection closes, which its client sees.
        let _ = thread::Builder::new().stack_size(256 << 10).spawn(move || echo(&stream, &open));
    }
    for connection in connections.iter().filter_map(Weak::upgrade) {
        let _ = connection.shutdown(Shutdown::Both); // an error means that it is closed already
    }
}

/// Sends back what comes, until the other end closes.
fn echo(mut stream: &TcpStream, open: &AtomicU64) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 64 << 10];
    let mut counted = false;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if !counted {
            open.fetch_add(1, Relaxed);
            counted = true;
        }
        if stream.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if counted {
        open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_backend_cuts_its_connections_and_comes_back_where_it_was() {
        let mut backend = Echo::start("a").unwrap();
        let mut client = TcpStream::connect(backend.address).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!((&answer, backend.open()), (b"hello", 1));

        backend.stop();
        assert!(client.read(&mut answer).map_or(true, |length| length == 0), "cut");
        assert!(TcpStream::connect(backend.address).is_err(), "nobody listens");

        backend.bring_back().unwrap();
        let mut client = TcpStream::connect(backend.address).unwrap();
        client.write_all(b"again").unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"again");
        backend.stop();
    }
}
