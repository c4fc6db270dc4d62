//! One health check: connect, and close as a polite client does.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::base::address::Address;
use crate::stats::ConnectError;

/// How long a backend may take to close after us before we leave anyway.
const LINGER: Duration = Duration::from_millis(200);

/// What a check found.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It accepts connections.
    Success(Connected),
    /// It does not.
    Failure(Failure),
    /// ringway could not try, for want of descriptors, ports or memory: says nothing about the backend.
    Inconclusive(io::Error),
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection within the time-out.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The attempt failed.
    #[error("{0}")]
    Connect(io::Error),
}

/// A connection that proved the backend alive.
#[derive(Debug)]
pub(super) enum Connected {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Tries to connect; a `timeout` of zero is none but the kernel's.
pub(super) async fn probe(target: &Address, timeout: Duration) -> Outcome {
    let attempt = async {
        match target {
            Address::Tcp(address) => TcpStream::connect(address).await.map(Connected::Tcp),
            Address::Unix(path) => UnixStream::connect(path).await.map(Connected::Unix),
        }
    };
    let result = match timeout.is_zero() {
        true => attempt.await,
        false => match tokio::time::timeout(timeout, attempt).await {
            Ok(result) => result,
            Err(_) => return Outcome::Failure(Failure::Timeout(timeout)),
        },
    };
    match result {
        Ok(connected) => Outcome::Success(connected),
        Err(error) if ConnectError::of(&error) == ConnectError::Resource => Outcome::Inconclusive(error),
        Err(error) => Outcome::Failure(Failure::Connect(error)),
    }
}

impl Connected {
    /// Says goodbye and waits a little for the answer. A close with unread bytes (the greeting of many servers) would
    /// send a reset, which they log as a client that broke off.
    pub(super) async fn close(self) {
        match self {
            Connected::Tcp(stream) => close(stream).await,
            Connected::Unix(stream) => close(stream).await,
        }
    }
}

async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let farewell = async {
        let mut scratch = [0; 1024];
        if stream.shutdown().await.is_ok() {
            while matches!(stream.read(&mut scratch).await, Ok(length) if length > 0) {}
        }
    };
    // Whoever has not closed by then gets our close as it comes.
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn a_listener_is_a_success_and_sees_a_clean_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A greeting that the check does not read would turn a careless close into a reset.
            stream.write_all(b"220 hello\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            stream.read(&mut [0; 16]).map_err(|error| error.kind())
        });
        block_on(async {
            let Outcome::Success(connected) = probe(&target, TIMEOUT).await else { panic!("not a success") };
            connected.close().await;
        });
        assert_eq!(server.join().unwrap(), Ok(0), "an end of stream, not a reset");
    }

    #[test]
    fn unix_sockets_are_checked_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let missing = block_on(probe(&Address::Unix(path.clone()), TIMEOUT));
        assert!(matches!(missing, Outcome::Failure(Failure::Connect(_))), "{missing:?}");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(block_on(probe(&Address::Unix(path), TIMEOUT)), Outcome::Success(_)));
    }

    #[test]
    fn a_port_nobody_listens_on_is_a_failure_with_its_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let Outcome::Failure(failure) = block_on(probe(&target, TIMEOUT)) else { panic!("not a failure") };
        assert!(failure.to_string().contains("refused"), "{failure}");
    }

    #[test]
    fn no_answer_is_a_failure_after_the_timeout() {
        // A full accept queue drops further SYNs, so connecting there hangs.
        let outcome = block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let _first = std::net::TcpStream::connect(address).unwrap();
            probe(&Address::Tcp(address), Duration::from_millis(50)).await
        });
        assert!(matches!(outcome, Outcome::Failure(Failure::Timeout(_))), "{outcome:?}");
    }
}
