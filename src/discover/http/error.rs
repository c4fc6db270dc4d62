//! Why a server gave no answer, in one line that names it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use crate::base::text::push_printable;
use crate::tls::cause;

/// How much is shown of what a server says, in bytes.
const SHOWN_MAX: usize = 200;

/// A request that got no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {why}")]
pub struct HttpError {
    /// The endpoint.
    at: String,
    /// What is wrong.
    why: HttpFault,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpFault {
    /// The host has no address.
    #[error("its name cannot be looked up: {0}")]
    Name(String),
    /// No connection to this address, which was the last one tried.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Of the server.
        address: SocketAddr,
        /// Of the system.
        error: io::Error,
    },
    /// A file that is needed for it cannot be used; with its path.
    #[error("{0}")]
    File(String),
    /// There is no TLS with it.
    #[error("TLS cannot be begun: {0}")]
    Tls(String),
    /// The request cannot be made, because of this part of it.
    #[error("it cannot be asked: {0}")]
    Unaskable(String),
    /// What came is no HTTP, or the connection ended before its end.
    #[error("{0}")]
    Broken(String),
    /// A body or a line.
    #[error("{what} has more than {bytes_max} bytes")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// What was allowed.
        bytes_max: usize,
    },
    /// It takes too long.
    #[error("{what} did not come within {ms} ms")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        ms: u128,
    },
    /// A status that is none of success.
    #[error("it answers {status}{said}")]
    Refused {
        /// `403`, …
        status: u16,
        /// `: "…"` with the beginning of the body, or nothing.
        said: String,
    },
}

impl HttpError {
    /// Of that endpoint.
    pub(super) fn new(at: String, why: HttpFault) -> HttpError {
        HttpError { at, why }
    }
}

impl HttpError {
    /// Whether the server has sent more than it may, which it does not do because of a network.
    pub fn is_too_long(&self) -> bool {
        matches!(self.why, HttpFault::TooLong { .. })
    }
}

impl HttpFault {
    /// An answer that could not be read, with the cause that hyper keeps behind its error.
    pub(super) fn of_hyper(error: &hyper::Error) -> HttpFault {
        // The cause says more: which part could not be read, or what became of the connection.
        let cause = error.source();
        if let Some(error) = cause.and_then(|cause| rustls_of(cause)) {
            return HttpFault::Tls(cause::of_handshake(error));
        }
        let (parse, broken) = ("what it sends is no HTTP", "the connection broke");
        let text = match (error.is_parse() || error.is_parse_too_large(), cause) {
            (true, _) => format!("{parse}: {error}"),
            (false, Some(cause)) => format!("{broken}: {cause}"),
            (false, None) => format!("{broken}: {error}"),
        };
        HttpFault::Broken(shown_plain(text.as_bytes()))
    }
}

/// The error of rustls within another one.
pub(super) fn rustls_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// `: "…"` with the beginning of what a server says, or nothing if it says nothing.
pub(super) fn shown(said: &[u8]) -> String {
    let text = shown_plain(said.trim_ascii());
    if text.is_empty() { text } else { format!(": \"{text}\"") }
}

/// The beginning of what a server says, fit to be read by a person.
fn shown_plain(said: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(&said[..said.len().min(SHOWN_MAX)]).chars() {
        push_printable(c, &mut out);
    }
    if said.len() > SHOWN_MAX {
        out.push('…');
    }
    out
}
