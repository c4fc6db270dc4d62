//! The connection to a source: TCP, with TLS in it for `https`.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HEADER_MAX;
use super::error::{HttpFault, rustls_of};
use super::tls::HttpTls;
use crate::discover::dns::Resolver;
use crate::discover::known::{Known, Learned};
use crate::discover::settings::Endpoint;
use crate::tls::cause;

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;
/// Each address has at least this long to accept.
const CONNECT_MIN: Duration = Duration::from_millis(250);

/// How much a server may send until the header of its reply is there. Some of the body can come with it.
#[derive(Clone, Debug)]
pub(super) struct HeaderBudget(Rc<Cell<Option<usize>>>);

impl HeaderBudget {
    /// As much as a header can have, and as much of a body as comes in one read.
    pub(super) fn new() -> HeaderBudget {
        HeaderBudget(Rc::new(Cell::new(Some(2 * HEADER_MAX))))
    }

    /// The header is there: what follows is bounded by the one that reads it.
    pub(super) fn end(&self) {
        self.0.set(None);
    }

    /// So many bytes have come.
    fn take(&self, bytes: usize) -> io::Result<()> {
        let Some(left) = self.0.get() else { return Ok(()) };
        let left = left.checked_sub(bytes).ok_or_else(|| io::Error::other("its header has no end"))?;
        self.0.set(Some(left));
        Ok(())
    }
}

/// A connection.
pub(super) struct SourceStream {
    /// Where the bytes come from.
    inner: Inner,
    /// How many may come.
    budget: HeaderBudget,
}

/// A connection in the clear or not.
enum Inner {
    /// `http`
    Tcp(TcpStream),
    /// `https`
    Tls(Box<TlsStream<TcpStream>>),
}

impl SourceStream {
    /// Looks the host up, connects to the first of its addresses that accepts, and begins TLS if the endpoint has it.
    /// All addresses together have `timeout`.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        tls: &HttpTls,
        resolver: &Resolver,
        budget: &HeaderBudget,
        timeout: Duration,
    ) -> Result<SourceStream, HttpFault> {
        // Files first: a server that is left at its greeting may hold it against us.
        let terms = match endpoint.is_tls {
            true => Some((tls.config(timeout).await?, tls.name(endpoint)?)),
            false => None,
        };
        let tcp = connect_tcp(&addresses(&endpoint.host, resolver).await?, endpoint.port, timeout).await?;
        let inner = match terms {
            None => Inner::Tcp(tcp),
            Some((config, name)) => {
                let connected = TlsConnector::from(config).connect(name, tcp).await;
                Inner::Tls(Box::new(connected.map_err(|error| HttpFault::Tls(of_handshake(&error)))?))
            }
        };
        Ok(SourceStream { inner, budget: budget.clone() })
    }
}

/// Why there is no TLS.
fn of_handshake(error: &io::Error) -> String {
    match rustls_of(error) {
        Some(error) => cause::of_handshake(error),
        None => format!("the connection broke: {error}"),
    }
}

/// The addresses of a host, in the order in which they are tried.
async fn addresses(host: &str, resolver: &Resolver) -> Result<Vec<IpAddr>, HttpFault> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    match Known::default().on(resolver.lookup(host).await) {
        Learned::Addresses { addresses, .. } => Ok(addresses),
        Learned::Denied(why) | Learned::Nothing(why) => Err(HttpFault::Name(why)),
    }
}

/// Connects to the first address that accepts. One that does not answer takes its share of the time only.
async fn connect_tcp(addresses: &[IpAddr], port: u16, timeout: Duration) -> Result<TcpStream, HttpFault> {
    let mut last = HttpFault::Name("it has no address".to_string());
    let all = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let share = (timeout / 2 / all.len().max(1) as u32).max(CONNECT_MIN);
    for ip in all {
        let address = SocketAddr::new(*ip, port);
        let connected = tokio::time::timeout(share, TcpStream::connect(address)).await;
        let error = match connected {
            Ok(Ok(stream)) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer)) if local == peer => {
                    // It would keep the port from the server that is to listen there.
                    let _ = stream.set_zero_linger();
                    io::Error::other("nothing listens there: the connection met itself")
                }
                _ => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
            },
            Ok(Err(error)) => error,
            Err(_) => io::Error::other(format!("no answer within {} ms", share.as_millis())),
        };
        last = HttpFault::Connect { address, error };
    }
    Err(last)
}

impl AsyncRead for SourceStream {
    /// Counts what comes until the header is there.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let SourceStream { inner, budget } = self.get_mut();
        let ready = match inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        match ready {
            Poll::Ready(Ok(())) => Poll::Ready(budget.take(buf.filled().len() - before)),
            ready => ready,
        }
    }
}

impl AsyncWrite for SourceStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
