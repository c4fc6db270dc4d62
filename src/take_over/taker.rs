//! The new ringway's side: it asks for the sockets, receives them, and in the end tells the old one to drain.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ACCEPTING, DRAINING, LISTENING, PATH, PROTOCOL};
use crate::sys::pass;

/// How long an answer of the old one is awaited. It answers within milliseconds, or it is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the old one can take to say that it drains. The new one serves by then and has nothing to lose.
const RELIEF_MAX: Duration = Duration::from_secs(5);
/// How long the old one can take to tell which clients keep which backend, and how many bytes that can be.
const STICKY_MAX: Duration = Duration::from_secs(3);
/// See above: 262,144 clients of some twenty pools.
const STICKY_BYTES_MAX: u64 = 128 << 20;
/// The longest refusal that is read, in bytes.
const REFUSAL_MAX: usize = 64 * 1024;

/// What was received from the old ringway.
pub struct Taken {
    /// Every socket on which the old one listens.
    pub sockets: Vec<OwnedFd>,
    /// The old one, which serves on until it is told.
    pub predecessor: Predecessor,
}

/// A ringway that is to be relieved. If this is dropped, it serves on as if nothing had happened.
#[derive(Debug)]
pub struct Predecessor(std::os::unix::net::UnixStream);

/// Why nothing was taken over. The old one serves on.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over from {}: {why}", .socket.display())]
pub struct TakeOverError {
    /// The path that was asked.
    socket: PathBuf,
    /// What failed.
    why: Why,
}

/// Each message says what to do, because a take-over is done by a person or a script.
#[derive(Debug, thiserror::Error)]
enum Why {
    /// There is no file of that name.
    #[error("there is no such socket; if no ringway runs, start without --take-over")]
    NotThere,
    /// The file is a leftover.
    #[error("nothing listens there any more; if no ringway runs, start without --take-over")]
    NobodyListens,
    /// The mode of the file forbids it.
    #[error("not allowed: run this as the user of that ringway, or as root, or change its `admin.socket_mode`")]
    NotAllowed,
    /// Another program listens there; what it did.
    #[error("what listens there is no ringway ({0}); name the `admin.socket` of the one that runs")]
    NoRingway(String),
    #[error(
        "it answers {0}: it is no ringway, or one that is too old for this; stop it, and start without --take-over"
    )]
    /// An answer that no ringway gives to this request.
    Unknown(StatusCode),
    /// Its own words.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It does not answer in time.
    #[error("it did not hand its sockets over within {} s; look at its log", PATIENCE.as_secs())]
    Stuck,
    /// It closed the connection half way.
    #[error("it ended before all of its sockets had come; look at its log")]
    Ended,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What has become of the old one.
pub enum Relief {
    /// It has said that it drains; and what it knows of clients that keep their backend.
    Drains(String),
    /// It has not said that it drains, for this reason.
    Silent(io::Error),
}

/// Asks the ringway that serves at this admin socket for its listening sockets. Blocks, on a runtime of its own: it is
/// called before control exists.
///
/// # Errors
/// It is not there, refuses, or is no ringway.
pub fn take(socket: &Path) -> Result<Taken, TakeOverError> {
    let failed = |why: Why| TakeOverError { socket: socket.to_path_buf(), why };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.into()))?;
    let taking = async { timeout(PATIENCE, converse(socket)).await };
    runtime.block_on(taking).unwrap_or(Err(Why::Stuck)).map_err(failed)
}

/// The new one's side of the conversation, up to the sockets.
async fn converse(socket: &Path) -> Result<Taken, Why> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Why::NotThere,
        io::ErrorKind::ConnectionRefused => Why::NobodyListens,
        io::ErrorKind::PermissionDenied => Why::NotAllowed,
        _ => Why::Io(error),
    })?;
    let mut stream = upgrade(stream).await?;
    stream.write_all(LISTENING).await.map_err(|_| Why::Ended)?;
    let sockets = receive(&stream).await?;
    Ok(Taken { sockets, predecessor: Predecessor(stream.into_std()?) })
}

/// Goes from HTTP to the protocol of the take-over.
async fn upgrade(stream: UnixStream) -> Result<UnixStream, Why> {
    let no_ringway = |error: hyper::Error| Why::NoRingway(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_ringway)?;
    // An error of the connection shows in the request.
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder().method(Method::POST).uri(PATH).header(HOST, "ringway");
    let request = request.header(CONNECTION, "upgrade").header(UPGRADE, PROTOCOL).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Why::NoRingway(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(no_ringway)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(no_ringway)?;
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| Why::NoRingway("no unix socket".into()))?;
    if !parts.read_buf.is_empty() {
        return Err(Why::NoRingway("it sent something that the protocol does not have".into()));
    }
    Ok(parts.io.into_inner())
}

/// What a refusal means.
async fn refusal(response: Response<Incoming>) -> Why {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = parsed["errors"][0]["message"].as_str();
    match message {
        Some(message) if status != StatusCode::NOT_FOUND => Why::Refused(message.to_owned()),
        _ => Why::Unknown(status),
    }
}

/// Receives sockets until there are as many as were announced.
async fn receive(stream: &UnixStream) -> Result<Vec<OwnedFd>, Why> {
    let (mut bytes, mut sockets) = (Vec::new(), Vec::new());
    loop {
        if let Some(count) = bytes.first_chunk().map(|count| u32::from_be_bytes(*count) as usize)
            && sockets.len() >= count
        {
            return Ok(sockets);
        }
        stream.readable().await?;
        let mut part = [0; 64];
        match stream.try_io(Interest::READABLE, || pass::receive(stream.as_fd(), &mut part, &mut sockets)) {
            Ok(0) => return Err(Why::Ended),
            Ok(len) => bytes.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Why::Ended),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Predecessor {
    /// Tells it to drain, because this one accepts. Whatever it answers, nothing is lost: the sockets are held here.
    pub async fn relieve(self) -> Relief {
        let told = timeout(RELIEF_MAX, self.tell()).await;
        match told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(sticky) => Relief::Drains(sticky),
            Err(error) => Relief::Silent(error),
        }
    }

    /// Says the last word and waits for the answer, with all that follows it.
    async fn tell(self) -> io::Result<String> {
        let mut stream = UnixStream::from_std(self.0)?;
        stream.write_all(ACCEPTING).await?;
        let mut answer = [0; DRAINING.len()];
        stream.read_exact(&mut answer).await?;
        if answer != DRAINING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // It drains, whatever becomes of the rest.
        let mut rest = Vec::new();
        let read = timeout(STICKY_MAX, stream.take(STICKY_BYTES_MAX).read_to_end(&mut rest)).await;
        if !matches!(read, Ok(Ok(_))) {
            rest.clear();
        }
        Ok(String::from_utf8(rest).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// What is said when the other side answers so.
    fn answered(answer: &'static [u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = take(&path).map(|_| ()).unwrap_err().to_string();
        other.join().unwrap();
        assert!(error.starts_with("cannot take over from /") && !error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn whoever_is_no_ringway_is_told_from_one_that_refuses() {
        assert!(answered(b"220 smtp\r\n").contains("is no ringway"));
        assert!(answered(b"").contains("is no ringway"));
        assert!(
            answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").contains("answers 200 OK: it is no ringway")
        );
        assert!(answered(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").contains("too old for this"));
        let body = b"HTTP/1.1 503 X\r\ncontent-length: 35\r\n\r\n{\"errors\":[{\"message\":\"not now\"}]}\r\n";
        assert!(answered(body).ends_with("it refuses: not now"));
    }

    #[test]
    fn one_that_ends_half_way_has_handed_nothing_over() {
        let switched = b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: ringway-take-over/1\r\n\r\n";
        assert!(answered(switched).contains("it ended before"));
    }

    #[test]
    fn nobody_is_named_as_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let error = |path: &Path| take(path).map(|_| ()).unwrap_err().to_string();
        assert!(error(&path).contains("there is no such socket"));
        drop(UnixListener::bind(&path).unwrap());
        assert!(error(&path).contains("nothing listens there"));
    }
}
