//! A backend that echoes, and that can be stopped and brought back like a process.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

/// One backend, which may be running or not.
pub(super) struct Echo {
    pub(super) name: &'static str,
    /// Stays the same when it comes back.
    pub(super) address: SocketAddr,
    open: Arc<AtomicU64>,
    running: Option<Running>,
}

struct Running {
    stop: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Echo {
    /// Starts one on a port of the kernel's choice. The address is not the one that connections on the loopback
    /// interface come from, so none of them can take the port while this backend is stopped.
    pub(super) fn start(name: &'static str) -> io::Result<Echo> {
        let listener = TcpListener::bind("127.0.0.2:0")?;
        let address = listener.local_addr()?;
        let mut echo = Echo { name, address, open: Arc::default(), running: None };
        echo.serve(listener)?;
        Ok(echo)
    }

    /// Connections that have moved a byte, which those of health checks do not.
    pub(super) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Ends as a killed process does: nobody listens any more, and every connection is closed at once.
    pub(super) fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Relaxed);
        // A connection of our own wakes the acceptor; if there is none to be had, the next check of ringway does.
        let _ = TcpStream::connect(self.address);
        let _ = running.acceptor.join();
    }

    /// Listens on the same address again.
    pub(super) fn bring_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        self.serve(listener)
    }

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
    // Weak, so that a connection that ended is closed by its own thread at once.
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
        let _ = connection.shutdown(Shutdown::Both); // one that is closed already needs none
    }
}

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
