//! The connection of a check, TCP or unix.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::{Failure, Opening, Transcript, Trouble, of_connect};
use crate::base::address::Address;
use crate::wire::proxy;

/// How long a backend may take to close after us before we leave anyway.
pub(super) const LINGER: Duration = Duration::from_millis(200);

/// A connection to a backend.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
}

/// Connects, and says what must come first.
pub(super) async fn connect(
    target: &Address,
    opening: &Opening,
    transcript: &mut Transcript,
) -> Result<Stream, Trouble> {
    transcript.doing_now("connecting");
    let connected = match target {
        Address::Tcp(address) => connect_from(opening.source, *address).await.map(Stream::Tcp),
        Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
    };
    let mut stream = connected.map_err(of_connect)?;
    transcript.note(format!("connected to {target}"));
    if let Some(version) = opening.header {
        let sent = stream.write_all(&proxy::encode(version, None)).await;
        sent.map_err(|error| Failure::broken("sending the PROXY header", error))?;
        transcript.note("sent a PROXY header".to_string());
    }
    Ok(stream)
}

async fn connect_from(source: Option<IpAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(target).await };
    let socket = if target.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(target).await
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
    // Whoever has not closed by then gets our close as it comes.
    tokio::task::spawn_local(tokio::time::timeout(LINGER, farewell));
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
