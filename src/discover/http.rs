//! The client of HTTP/1.1 (RFC 9112) of all sources that speak it: one request per connection, over TCP or TLS.
//!
//! ```text
//! send(endpoint, tls, request) ─> HttpReply { status, headers } ─┬─> body(): all of it, up to a number of bytes
//!                                                                └─> lines(): one after the other, for a watch
//! ```
//!
//! A request is rare (a source asks again when something has changed, or after a pause), so each has a connection of
//! its own. What may have changed since is looked at anew then: addresses of the name, authorities, the own
//! certificate. No connection goes stale between two requests.
//!
//! Everything has a limit, whatever a server sends: the header ([`HEADER_MAX`] bytes), a body or a line (as the caller
//! says), and the time for each of them. Redirects are not followed: no source of backends needs them, and a token
//! must not go elsewhere. To drop a reply, or the future that waits for it, ends its connection.

mod error;
mod files;
mod lines;
mod stream;
mod tls;

use std::future::Future;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

pub use error::HttpError;
use error::HttpFault;
pub use files::{FILE_BYTES_MAX, file, secret};
pub use lines::Lines;
use stream::{HeaderBudget, SourceStream};
pub use tls::{HttpTls, Pem, TrustedBy};

use super::dns::Resolver;
use super::settings::Endpoint;

/// The longest header of a reply, in bytes, and of all provisional replies (1xx) before it.
pub const HEADER_MAX: usize = 64 * 1024;
/// The longest part of the body of a refusal that is shown.
const REFUSAL_MAX: usize = 4096;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path and the query, which begin with `/`. [`escaped`] makes a part of it of any text.
    pub path: &'a str,
    /// Beside `Host`, `Connection`, `User-Agent`, `Accept` and what frames the body. No error shows their values.
    pub headers: Vec<(&'static str, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
}

impl<'a> HttpRequest<'a> {
    /// `GET path`
    pub fn get(path: &'a str) -> HttpRequest<'a> {
        HttpRequest { method: "GET", path, ..HttpRequest::default() }
    }
}

/// A reply whose header is there. Its body comes as it is read.
pub struct HttpReply {
    /// `200`, …
    pub status: u16,
    /// All of its header.
    headers: HeaderMap,
    /// What follows.
    body: Incoming,
    /// For messages.
    at: String,
    /// The task that moves bytes; it ends with this.
    tasks: JoinSet<()>,
}

/// Connects, sends a request and waits for the header of the reply, all within `timeout`.
///
/// It must run on a thread with tasks of its own (`LocalSet`), as control does.
///
/// # Errors
/// No header has come, for a reason that is one line. Any status is a reply.
pub async fn send(
    endpoint: &Endpoint,
    tls: &HttpTls,
    resolver: &Resolver,
    request: HttpRequest<'_>,
    timeout: Duration,
) -> Result<HttpReply, HttpError> {
    let at = endpoint.to_string();
    let sent = async {
        let budget = HeaderBudget::new();
        let stream = SourceStream::connect(endpoint, tls, resolver, &budget, timeout).await?;
        let request = whole(endpoint, &request)?;
        let mut client = hyper::client::conn::http1::Builder::new();
        let handshake = client.max_buf_size(HEADER_MAX).handshake::<_, Full<Bytes>>(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| HttpFault::of_hyper(&error))?;
        let mut tasks = JoinSet::new();
        tasks.spawn_local(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(|error| HttpFault::of_hyper(&error))?;
        budget.end();
        Ok((response, tasks))
    };
    match within(timeout, "an answer", sent).await {
        Ok((response, tasks)) => {
            let (parts, body) = response.into_parts();
            Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, body, at, tasks })
        }
        Err(why) => Err(HttpError::new(at, why)),
    }
}

impl HttpReply {
    /// Whether the status is one of success (2xx).
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server wants to be left alone (`Retry-After` in seconds, RFC 9110, section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.parse().ok().map(Duration::from_secs)
    }

    /// All of the body, which must come within `timeout`.
    ///
    /// # Errors
    /// It is longer than `bytes_max`, or does not come.
    pub async fn body(mut self, bytes_max: usize, timeout: Duration) -> Result<Vec<u8>, HttpError> {
        let read = async {
            let mut all = Vec::new();
            while let Some(frame) = self.body.frame().await {
                let frame = frame.map_err(|error| HttpFault::of_hyper(&error))?;
                let Some(bytes) = frame.data_ref() else { continue };
                if all.len() + bytes.len() > bytes_max {
                    return Err(HttpFault::TooLong { what: "its answer", bytes_max });
                }
                all.extend_from_slice(bytes);
            }
            Ok(all)
        };
        within(timeout, "the rest of an answer", read).await.map_err(|why| HttpError::new(self.at, why))
    }

    /// The body line by line, for as long as the server goes on. No line may be longer than `line_max` bytes.
    pub fn lines(self, line_max: usize) -> Lines {
        Lines::new(self.body, self.at, self.tasks, line_max)
    }

    /// The error that says that this status is none of success, with the beginning of what the server says of it.
    pub async fn refusal(self, timeout: Duration) -> HttpError {
        let (status, at) = (self.status, self.at.clone());
        let mut lines = self.lines(REFUSAL_MAX);
        let said = lines.beginning(REFUSAL_MAX, timeout).await;
        HttpError::new(at, HttpFault::Refused { status, said: error::shown(&said) })
    }
}

/// A text as a part of a path or of a query: all but letters, digits, `-`, `.`, `_` and `~` are escaped (RFC 3986,
/// section 2.3).
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ if byte.is_ascii_alphanumeric() => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Runs a future, but no longer than that.
async fn within<T>(
    timeout: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, HttpFault>>,
) -> Result<T, HttpFault> {
    let late = || HttpFault::Late { what, ms: timeout.as_millis() };
    tokio::time::timeout(timeout, future).await.unwrap_or_else(|_| Err(late()))
}

/// The request with what belongs to each.
fn whole(endpoint: &Endpoint, request: &HttpRequest<'_>) -> Result<Request<Full<Bytes>>, HttpFault> {
    let mut made = Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(header::HOST, endpoint.authority())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(request.body.clone())))
        .map_err(|error| HttpFault::Unaskable(format!("{}: {error}", request.path)))?;
    for (name, value) in &request.headers {
        let unfit =
            || HttpFault::Unaskable(format!("the value of the header {name} has characters that no header can have"));
        let mut value = HeaderValue::from_str(value).map_err(|_| unfit())?;
        value.set_sensitive(true);
        made.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(made)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
