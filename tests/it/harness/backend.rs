//! What stands behind ringway.

use std::net::Shutdown;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Socket, Type};

use super::address::{own_ip, sockaddr};
use super::bytes::{CHUNK, Key};
use super::{PATIENCE, Peer};

/// A listening socket whose connections the test takes by hand.
pub struct Listener {
    address: String,
    socket: Socket,
}

impl Listener {
    pub fn new() -> Listener {
        Listener::at(&format!("{}:7200", own_ip()))
    }

    pub fn at(address: &str) -> Listener {
        Listener::with_backlog(address, 1024)
    }

    pub fn unix(path: &Path) -> Listener {
        Listener::at(&format!("unix:{}", path.display()))
    }

    /// So many, and one, may wait to be accepted.
    pub fn unix_with_backlog(path: &Path, backlog: i32) -> Listener {
        Listener::with_backlog(&format!("unix:{}", path.display()), backlog)
    }

    fn with_backlog(address: &str, backlog: i32) -> Listener {
        let at = sockaddr(address);
        let socket = Socket::new(at.domain(), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&at).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.listen(backlog).unwrap();
        // With the port that the kernel may have chosen.
        let bound = socket.local_addr().unwrap().as_socket();
        Listener { address: bound.map_or(address.to_string(), |bound| bound.to_string()), socket }
    }

    /// What the configuration calls it.
    pub fn address(&self) -> &str {
        &self.address
    }

    #[track_caller]
    pub fn accept(&self) -> Peer {
        self.accept_within(PATIENCE).unwrap_or_else(|| panic!("nobody connected to {}", self.address))
    }

    pub fn accept_within(&self, limit: Duration) -> Option<Peer> {
        self.socket.set_read_timeout(Some(limit)).unwrap(); // accept keeps to it, too
        self.socket.accept().ok().map(|(socket, _)| Peer::from(socket))
    }
}

/// A listener whose backlog is full: a connection is neither accepted nor refused.
pub struct BlackHole {
    pub listener: Listener,
    filling: Option<Peer>,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let listener = Listener::with_backlog(&format!("{}:7200", own_ip()), 0);
        let filling = Some(Peer::connect(listener.address()));
        BlackHole { listener, filling }
    }

    /// Takes what filled the backlog: a client that knocks again is let in.
    pub fn open(&mut self) {
        drop(self.listener.accept());
        self.filling = None;
    }
}

/// A backend that serves by itself, with a thread for each connection. Whatever goes wrong in one of them fails the
/// test when the backend is dropped.
pub struct Backend {
    address: String,
    socket: Arc<Socket>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    open: AtomicUsize,
    connections: Mutex<Vec<(usize, Peer)>>,
    failures: Mutex<Vec<String>>,
}

impl Backend {
    /// `serve` gets each connection and its number, from 0.
    pub fn new(serve: impl Fn(Peer, usize) + Send + Sync + 'static) -> Backend {
        Backend::at(&format!("{}:7300", own_ip()), serve)
    }

    pub fn at(address: &str, serve: impl Fn(Peer, usize) + Send + Sync + 'static) -> Backend {
        let Listener { address, socket } = Listener::at(address);
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let (socket, shared) = (socket.clone(), shared.clone());
            std::thread::spawn(move || accept(&socket, &shared, Arc::new(serve)))
        };
        Backend { address, socket, shared, acceptor: Some(acceptor) }
    }

    /// Sends back whatever comes.
    pub fn echo() -> Backend {
        Backend::new(|peer, _| echo(peer))
    }

    /// Says its name to each client, and then sends back whatever comes.
    pub fn named(name: &'static str) -> Backend {
        Backend::new(greet(name))
    }

    pub fn named_at(address: &str, name: &'static str) -> Backend {
        Backend::at(address, greet(name))
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections being served.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Stops listening and resets every connection, as a killed process does. Its threads find errors, which is what
    /// was asked for, so they do not count.
    pub fn kill(mut self) {
        self.stop();
        self.shared.failures.lock().unwrap().clear();
        self.acceptor = None;
    }

    fn stop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both); // the accept that waits returns
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // A reader sees an end, closes, and that is a reset. A writer must be told more.
        self.shared.connections.lock().unwrap().iter().for_each(|(_, peer)| peer.abort(Shutdown::Read));
        if super::wait_for(Duration::from_millis(100), || self.open() == 0).is_none() {
            self.shared.connections.lock().unwrap().iter().for_each(|(_, peer)| peer.abort(Shutdown::Both));
        }
        super::wait_for(PATIENCE, || self.open() == 0);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.acceptor.is_none() {
            return;
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        self.stop();
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("the backend at {}: {}", self.address, failures.join("; "));
        }
    }
}

fn accept<F: Fn(Peer, usize) + Send + Sync + 'static>(socket: &Socket, shared: &Arc<Shared>, serve: Arc<F>) {
    while let Ok((connection, _)) = socket.accept() {
        let peer = Peer::from(connection);
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        shared.open.fetch_add(1, Ordering::Relaxed);
        shared.connections.lock().unwrap().push((number, peer.again()));
        let (shared, serve) = (shared.clone(), serve.clone());
        std::thread::spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(peer, number)));
            if let Err(cause) = result {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| text.to_string()));
                shared.failures.lock().unwrap().push(text.unwrap_or_default());
            }
            // The other handle would keep the connection open.
            shared.connections.lock().unwrap().retain(|(other, _)| *other != number);
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Sends back whatever comes, until the end, which it returns.
pub fn echo(mut peer: Peer) {
    while let Ok(bytes) = peer.read_some(CHUNK) {
        if bytes.is_empty() || peer.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn greet(name: &'static str) -> impl Fn(Peer, usize) + Send + Sync + 'static {
    move |mut peer, _| {
        if peer.write_all(name.as_bytes()).is_ok() {
            echo(peer);
        }
    }
}

/// Sends `len` bytes of the stream to the client with that number, then a FIN.
pub fn source(len: u64) -> impl Fn(Peer, usize) + Send + Sync + 'static {
    move |mut peer, number| {
        peer.send_keyed(Key::to_client(number as u64), 0, len);
        peer.finish();
        while matches!(peer.read_some(CHUNK), Ok(bytes) if !bytes.is_empty()) {}
    }
}
