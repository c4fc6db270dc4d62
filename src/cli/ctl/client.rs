//! The client of the API: requests over the admin socket, one connection per request.
//!
//! `ringway ctl` and `ringway top` use it. It knows HTTP and how refusals look, but not what an answer means. A request
//! blocks the calling thread, at most for [`PATIENCE`].

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::cli::failure::Failure;

/// How long an answer is awaited. A ringway that needs longer is stuck: each request is answered within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The API of a running ringway, at one socket.
pub(in crate::cli) struct ApiClient<'a> {
    /// The path of the admin socket.
    socket: &'a Path,
    /// Runs one request at a time.
    runtime: Runtime,
}

/// An answer, whether it was yes or no.
pub(in crate::cli) struct ApiReply {
    /// The HTTP status.
    status: StatusCode,
    /// The body as it came.
    pub(in crate::cli) body: Bytes,
}

impl<'a> ApiClient<'a> {
    /// A client for this socket. It does not connect yet.
    pub(in crate::cli) fn new(socket: &'a Path) -> Result<ApiClient<'a>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(ApiClient { socket, runtime })
    }

    /// Sends one request and waits for the answer.
    ///
    /// # Errors
    /// The socket cannot be reached, or the answer takes too long. A refusal is an answer and no error.
    pub(in crate::cli) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<ApiReply, Failure> {
        self.send(method, path, body.map(Value::to_string).unwrap_or_default())
    }

    /// The same with a body that is any text.
    pub(in crate::cli) fn send(&self, method: Method, path: &str, body: String) -> Result<ApiReply, Failure> {
        let exchange = async { timeout(PATIENCE, exchange(self.socket, method, path, body)).await };
        let answered = self.runtime.block_on(exchange).unwrap_or_else(|_| {
            Err(anyhow::anyhow!("it did not answer within {} s; look at its log", PATIENCE.as_secs()))
        });
        Ok(answered.with_context(|| format!("cannot ask the ringway at {}", self.socket.display()))?)
    }

    /// Asks for something and reads it.
    pub(in crate::cli) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None)?.read()
    }
}

impl ApiReply {
    /// The body, if the request was carried out.
    ///
    /// # Errors
    /// Ringway's own messages; the kind of failure follows from the status.
    pub(in crate::cli) fn accept(self) -> Result<Bytes, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let mut lines = messages(&self.body);
        if lines.is_empty() {
            lines.push(format!("it answered {}", self.status));
        }
        Err(match self.status {
            StatusCode::UNPROCESSABLE_ENTITY => Failure::Refused(lines),
            StatusCode::BAD_REQUEST => Failure::Usage(lines.join("; ")),
            _ => Failure::RunTime(anyhow::anyhow!(lines.join("; "))),
        })
    }

    /// The body as a value of `T`.
    ///
    /// # Errors
    /// As [`ApiReply::accept`], or the body is of another version of the API.
    pub(in crate::cli) fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let body = self.accept()?;
        let parsed = serde_json::from_slice(&body);
        Ok(parsed.context("it speaks another version of the API; use the `ringway` that is running there")?)
    }
}

/// The messages of a refusal, one per line, in the form of `ringway check`.
fn messages(body: &[u8]) -> Vec<String> {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = parsed["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |error: &Value| {
        let message = error["message"].as_str()?;
        Some(match (error["file"].as_str(), error["line"].as_u64(), error["column"].as_u64()) {
            (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: {message}"),
            _ => message.to_string(),
        })
    };
    errors.iter().filter_map(line).collect()
}

/// One request and its answer, over a new connection.
async fn exchange(socket: &Path, method: Method, path: &str, body: String) -> anyhow::Result<ApiReply> {
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // An error of the connection shows in the request.
    let connection = tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", "ringway").body(Full::<Bytes>::from(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(ApiReply { status, body })
}

/// Why the socket cannot be connected to, and what to do.
fn unreachable(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!(
            "there is no such socket: is ringway running, and does its configuration have `admin.socket`? --socket or \
             RINGWAY_SOCKET name another path"
        ),
        io::ErrorKind::ConnectionRefused => {
            anyhow::anyhow!("nothing listens there any more: ringway has ended; start it, and look at its log")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("not allowed: run this as the user of ringway, or as root, or change `admin.socket_mode`")
        }
        _ => error.into(),
    }
}

/// A part of a path or of a query, percent-encoded (RFC 3986, section 2.1).
pub(in crate::cli) fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_has_no_meaning_of_its_own() {
        assert_eq!(escaped("db-1._~"), "db-1._~");
        assert_eq!(escaped("unix:/run/ü?&=#%+ "), "unix%3A%2Frun%2F%C3%BC%3F%26%3D%23%25%2B%20");
    }

    #[test]
    fn errors_stand_where_they_were_made() {
        let body = br#"{"errors":[{"message":"a","file":"f","line":2,"column":3},{"message":"b"}]}"#;
        assert_eq!(messages(body), ["f:2:3: a", "b"]);
        assert!(messages(b"").is_empty() && messages(b"{}").is_empty() && messages(b"[1]").is_empty());
    }
}
