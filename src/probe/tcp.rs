//! `tcp`: the kernel of the server accepts a connection.
//!
//! The server itself is not to hear of it: MariaDB and MySQL count connections that say nothing and shut the whole host
//! out at `max_connect_errors`, and others write a line to their log. So the check withholds the last acknowledgement
//! of the handshake and sends a reset in its place: the connection never gets as far as the server's accept(). Source:
//! HAProxy, `tcp_connect_server` with `CONNECT_DELACK_ALWAYS`. A PROXY header has to be read by a server, so with one
//! the connection is a whole one, and so it is over a unix socket.

use super::stream::{Stream, part};
use crate::health::Facts;
use crate::health::ask::Opening;

/// The connection is all there is to know.
pub(super) fn check(stream: Stream, opening: &Opening) -> Facts {
    match stream {
        Stream::Tcp(stream, _) if opening.header.is_none() => {
            let _ = stream.set_zero_linger();
        }
        stream => part(stream),
    }
    Facts::default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use crate::base::address::Address;
    use crate::config::model::CheckKind;
    use crate::config::model::Version;
    use crate::health::ask::{Opening, OpeningHeader};
    use crate::probe::testing::{ask, check, run};
    use crate::probe::{Ask, CheckFailure, Outcome, probe};

    #[test]
    fn a_listener_is_a_success_and_never_accepts_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        run(async {
            for _ in 0..20 {
                let outcome = probe(&ask(target.clone(), CheckKind::Tcp)).await.outcome;
                assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
                assert!(listener.accept().is_err(), "the server hears nothing of it");
            }
        });
        // Longer than the kernel delays an acknowledgement.
        std::thread::sleep(Duration::from_millis(250));
        assert!(listener.accept().is_err(), "nor later");
    }

    #[test]
    fn with_a_header_it_is_a_whole_connection_that_ends_cleanly() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A greeting that the check does not read would turn a careless close into a reset.
            stream.write_all(b"220 hello\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"still here\r\n").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind())
        });
        let header = Some(OpeningHeader { version: Version::V1, is_named: false });
        let ask = Ask { opening: Opening { header, source: None }, ..ask(target, CheckKind::Tcp) };
        run(async {
            let outcome = probe(&ask).await.outcome;
            assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
            assert!(!server.is_finished(), "it does not wait for the goodbye");
            while !server.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(server.join().unwrap(), Ok(b"PROXY UNKNOWN\r\n".to_vec()), "an end of stream, not a reset");
    }

    #[test]
    fn unix_sockets_are_checked_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let missing = check(ask(Address::Unix(path.clone()), CheckKind::Tcp)).outcome;
        assert!(matches!(missing, Outcome::Failure(CheckFailure::Connect(_))), "{missing:?}");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let checked = check(ask(Address::Unix(path), CheckKind::Tcp));
        assert!(matches!(checked.outcome, Outcome::Success(_)));
        assert!(checked.transcript.lines()[0].text.starts_with("connected to unix:"), "{:?}", checked.transcript);
    }

    #[test]
    fn a_port_nobody_listens_on_is_a_failure_with_its_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(listener.local_addr().unwrap());
        drop(listener);
        let checked = check(ask(target, CheckKind::Tcp));
        let Outcome::Failure(failure) = checked.outcome else { panic!("not a failure") };
        assert!(failure.to_string().contains("refused"), "{failure}");
        assert!(checked.transcript.lines()[0].text.contains("refused"), "{:?}", checked.transcript);
    }

    #[test]
    fn no_answer_is_a_failure_after_the_timeout() {
        // A full accept queue drops further SYNs, so connecting there hangs.
        let outcome = run(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let _first = std::net::TcpStream::connect(address).unwrap();
            let timeout = Duration::from_millis(50);
            probe(&Ask { timeout, ..ask(Address::Tcp(address), CheckKind::Tcp) }).await.outcome
        });
        let Outcome::Failure(failure) = outcome else { panic!("not a failure") };
        assert_eq!(failure.to_string(), "no answer within 50 ms while connecting");
    }
}
