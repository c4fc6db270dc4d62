//! The connection of a check, TCP or unix.
//!
//! It connects from the pool's source address, sends the PROXY header if the check has one, and counts every byte that
//! comes ([`Budget`]). A connect that fails because this host has no port, no memory or no
//! address of the family is a lack of ringway's own, not a failure of the server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::budget::Budget;
use super::terms::Terms;
use super::{CheckFailure, CheckTrouble, Lack, Transcript};
use crate::base::address::Address;
use crate::health::ask::{Opening, OpeningHeader};
use crate::stats::ConnectError;
use crate::sys::socket;
use crate::wire::proxy;

/// How long a backend may take to close after us before we leave anyway.
pub(super) const LINGER: Duration = Duration::from_millis(200);

/// A connection to a backend, and how much may come over it.
#[derive(Debug)]
pub(super) enum Stream {
    /// Over TCP.
    Tcp(TcpStream, Rc<Budget>),
    /// Over a unix socket.
    Unix(UnixStream, Rc<Budget>),
    /// One of the two above, with TLS in it; its budget is that of the stream inside.
    Tls {
        /// The connection.
        stream: Box<TlsStream<Stream>>,
        /// The server has proved its name.
        is_verified: bool,
    },
}

/// The way to a backend.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// The backend.
    pub target: &'a Address,
    /// The source address, and the PROXY header that comes first.
    pub opening: &'a Opening,
    /// Nothing is said: the server need not even learn of the connection.
    pub is_bare: bool,
    /// How much the check may take in.
    pub budget: &'a Rc<Budget>,
    /// How it speaks TLS; `None` if it does not.
    pub terms: Option<&'a Terms>,
}

impl Way<'_> {
    /// Connects, and says what must come first.
    pub(super) async fn connect(&self, transcript: &mut Transcript) -> Result<Stream, CheckTrouble> {
        transcript.doing_now("connecting");
        let mut stream = match self.target {
            Address::Tcp(address) => Stream::Tcp(self.connect_tcp(*address).await?, Rc::clone(self.budget)),
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(of_connect)?;
                Stream::Unix(stream, Rc::clone(self.budget))
            }
        };
        transcript.note(format!("connected to {}", self.target));
        if let Some(OpeningHeader { version, is_named }) = self.opening.header {
            let ends = stream.ends().filter(|_| is_named);
            let sent = stream.write_all(&proxy::encode(version, ends)).await;
            sent.map_err(|error| CheckTrouble::broken("sending the PROXY header", error))?;
            transcript.note("sent a PROXY header".to_string());
        }
        Ok(stream)
    }

    /// Connects to another port of the same host, and parts from it: that it accepts is all that is asked.
    pub(super) async fn knock(&self, port: u16, transcript: &mut Transcript) -> Result<(), CheckTrouble> {
        let Address::Tcp(mut target) = *self.target else { return Ok(()) };
        target.set_port(port);
        transcript.doing_now("connecting to a port of `also_ports`");
        let bare =
            Way { is_bare: true, terms: None, opening: &Opening { header: None, ..self.opening.clone() }, ..*self };
        match bare.connect_tcp(target).await {
            Ok(stream) => {
                transcript.note(format!("port {port} accepts"));
                let _ = stream.set_zero_linger();
                Ok(())
            }
            Err(CheckTrouble::Failure(failure)) => {
                Err(CheckFailure::AlsoPort { port, failure: Box::new(failure) }.into())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Connects from the configured source.
    ///
    /// # Errors
    /// Told apart: what the server refuses, what this host lacks (ports, descriptors), a family that it has no address
    /// of, and a connection that met itself.
    async fn connect_tcp(&self, target: SocketAddr) -> Result<TcpStream, CheckTrouble> {
        let family = if target.is_ipv6() { "IPv6" } else { "IPv4" };
        let socket = if target.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
        let socket = socket.map_err(|error| of_family(error, family))?;
        if self.is_bare && self.opening.header.is_none() {
            // Best effort: where it fails, the server sees a connection that ends immediately.
            let _ = socket::withhold_ack(&socket);
        }
        if let Some(source_ip) = self.opening.source {
            socket.bind(SocketAddr::new(source_ip, 0)).map_err(|error| match error.kind() {
                io::ErrorKind::AddrNotAvailable => CheckFailure::NoSource { source_ip, error }.into(),
                _ => of_connect(error),
            })?;
        }
        let has_source = self.opening.source.is_some();
        let stream = socket.connect(target).await.map_err(|error| match error.kind() {
            // The same error for two things: no address of that family here, or no port left.
            io::ErrorKind::AddrNotAvailable if !has_source && has_port_left(target) => {
                CheckFailure::NoFamily { family, error }.into()
            }
            _ => of_family(error, family),
        })?;
        match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(peer)) if local == peer => {
                // It would keep the port from the server that is to listen there.
                let _ = stream.set_zero_linger();
                Err(CheckFailure::MetItself.into())
            }
            _ => Ok(stream),
        }
    }
}

impl Stream {
    /// Whether the password itself may be said: no third party reads along, and no other server can answer.
    pub(super) fn is_proved(&self) -> bool {
        matches!(self, Stream::Unix(..) | Stream::Tls { is_verified: true, .. })
    }

    /// Our address and the peer's, over TCP.
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Stream::Tcp(stream, _) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            _ => None,
        }
    }
}

/// What a connect that failed means.
fn of_connect(error: io::Error) -> CheckTrouble {
    match ConnectError::of(&error) {
        ConnectError::Resource => CheckTrouble::Unknown(Lack::Resource(error)),
        _ => CheckFailure::Connect(error).into(),
    }
}

/// The same, where the kernel may not know the family at all (EAFNOSUPPORT, errno.h).
fn of_family(error: io::Error, family: &'static str) -> CheckTrouble {
    const NO_FAMILY: i32 = 97;
    match error.raw_os_error() {
        Some(NO_FAMILY) => CheckFailure::NoFamily { family, error }.into(),
        _ => of_connect(error),
    }
}

/// Whether a socket could still get a port to connect from.
fn has_port_left(target: SocketAddr) -> bool {
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = if target.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let bound = socket.and_then(|socket| socket.bind(any));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Says goodbye in a task of its own, and waits a little for the answer. A close with unread bytes (the greeting of
/// many servers) would send a reset, which they log as a client that broke off.
pub(super) fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let farewell = async move {
        let mut scratch = [0; 1024];
        if stream.shutdown().await.is_ok() {
            while matches!(stream.read(&mut scratch).await, Ok(length) if length > 0) {}
        }
    };
    // A server that has not closed by then gets our close as it comes.
    tokio::task::spawn_local(tokio::time::timeout(LINGER, farewell));
}

impl AsyncRead for Stream {
    /// Counts what comes, and ends the check if it is too much.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let (ready, budget) = match self.get_mut() {
            Stream::Tcp(stream, budget) => (Pin::new(stream).poll_read(cx, buf), budget),
            Stream::Unix(stream, budget) => (Pin::new(stream).poll_read(cx, buf), budget),
            // What is inside was counted as it came.
            Stream::Tls { stream, .. } => return Pin::new(stream).poll_read(cx, buf),
        };
        match ready {
            Poll::Ready(Ok(())) => Poll::Ready(budget.take(&buf.filled()[before..])),
            ready => ready,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream, _) => Pin::new(stream).poll_flush(cx),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
