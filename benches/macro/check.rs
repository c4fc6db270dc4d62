//! Before a run: is the proxy there, and does it carry bytes unchanged both ways?

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use rustls::StreamOwned;
use rustls::client::ClientConnection;
use socket2::SockRef;

use crate::load::{Fault, PATIENCE};
use crate::subject::Running;
use crate::sys;
use crate::tls::{self, Certificate};

/// Enough to bring a proxy that switches to splice(2) there and through it.
const TOTAL: usize = 3 << 20;
const CHUNK: usize = 64 << 10;

/// Waits until the proxy answers, then sends keyed bytes to the backend and back, with the end of the stream. With a
/// certificate the client speaks TLS and verifies it.
pub fn carries_bytes(
    running: &mut Running,
    proxy: SocketAddr,
    backend: &TcpListener,
    certificate: Option<&Certificate>,
) -> Result<(), Fault> {
    let client = connect_when_ready(running, proxy)?;
    let client = match certificate {
        Some(certificate) => Client::Tls(Box::new(tls::shake_hands(client, &certificate.client()?)?), false),
        None => Client::Tcp(client),
    };
    SockRef::from(backend).set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let (server, _) =
        backend.accept().map_err(|error| format!("the proxy does not connect to the backend: {error}"))?;
    relay_keyed(client, server)
}

fn connect_when_ready(running: &mut Running, proxy: SocketAddr) -> Result<TcpStream, Fault> {
    let give_up_ns = sys::now_ns() + PATIENCE.as_nanos() as u64;
    loop {
        match TcpStream::connect_timeout(&proxy, PATIENCE) {
            Ok(client) => return Ok(client),
            Err(error) if sys::now_ns() > give_up_ns => return Err(format!("the proxy does not listen: {error}")),
            Err(_) if running.ended() => return Err("the proxy ended as soon as it was started".into()),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

/// The client's end.
enum Client {
    Tcp(TcpStream),
    /// Its stream, and whether it has said close_notify.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, bool),
}

impl Client {
    fn socket(&self) -> &TcpStream {
        match self {
            Client::Tcp(socket) => socket,
            Client::Tls(stream, _) => &stream.sock,
        }
    }

    /// Ends its stream, in TLS with close_notify.
    fn end(&mut self) -> io::Result<()> {
        if let Client::Tls(stream, has_ended) = self {
            *has_ended = true;
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Client {
    /// In TLS an end of the stream without close_notify is a failure, unless the client has ended its own before: nginx
    /// does not answer that.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Client::Tcp(socket) => socket.read(into),
            Client::Tls(stream, has_ended) => match stream.read(into) {
                Err(error) if *has_ended && error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Client::Tcp(socket) => socket.write(bytes),
            Client::Tls(stream, _) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Client::Tcp(socket) => socket.flush(),
            Client::Tls(stream, _) => stream.flush(),
        }
    }
}

fn relay_keyed(mut client: Client, mut server: TcpStream) -> Result<(), Fault> {
    client.socket().set_nonblocking(true).map_err(text)?;
    server.set_nonblocking(true).map_err(text)?;
    let (mut up, mut down) = (Keyed::new(7), Keyed::new(11));
    let give_up_ns = sys::now_ns() + PATIENCE.as_nanos() as u64;
    // nginx ends a session as a whole when one side ends, so no side ends before all bytes are there.
    while !(up.ended && down.ended) {
        up.turn(&mut client, &mut server)?;
        down.turn(&mut server, &mut client)?;
        if up.received == TOTAL && down.received == TOTAL && !up.closed {
            client.end().map_err(text)?;
            up.closed = true;
        }
        if up.ended && !down.closed {
            // The proxy may have closed this side already, as nginx does.
            let _ = server.shutdown(Shutdown::Write);
            down.closed = true;
        }
        if sys::now_ns() > give_up_ns {
            return Err(format!("only {} and {} of {TOTAL} bytes came through", up.received, down.received));
        }
    }
    Ok(())
}

/// One direction of the check.
struct Keyed {
    key: u64,
    sent: usize,
    received: usize,
    /// True exactly when the sender has shut its side down.
    closed: bool,
    /// True exactly when the receiver has seen the end of the stream.
    ended: bool,
}

impl Keyed {
    fn new(key: u64) -> Keyed {
        Keyed { key, sent: 0, received: 0, closed: false, ended: false }
    }

    fn turn(&mut self, from: &mut impl Write, to: &mut impl Read) -> Result<(), Fault> {
        if self.sent < TOTAL {
            let chunk = self.expected(self.sent, CHUNK.min(TOTAL - self.sent));
            self.sent += unless_blocked(from.write(&chunk))?.unwrap_or(0);
        }
        unless_blocked(from.flush())?;
        let mut got = [0; CHUNK];
        let Some(count) = unless_blocked(to.read(&mut got))? else { return Ok(()) };
        if got[..count] != self.expected(self.received, count) {
            return Err(format!("the bytes after {} are not what was sent", self.received));
        }
        self.received += count;
        self.ended |= count == 0;
        if self.ended && self.received != TOTAL {
            return Err(format!("the stream ended after {} of {TOTAL} bytes", self.received));
        }
        Ok(())
    }

    fn expected(&self, from: usize, count: usize) -> Vec<u8> {
        let byte = |at: usize| ((at as u64 / 8).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ self.key) >> (at % 8 * 8)) as u8;
        (from..from + count).map(byte).collect()
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> Result<Option<T>, Fault> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(text(error)),
    }
}

fn text(error: io::Error) -> Fault {
    format!("first bytes: {error}")
}
