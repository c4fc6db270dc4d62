//! `http`: asks for a page, and looks at the status, and at the body where `expect` says what must be in it.
//!
//! It is one request over HTTP/1.1 (RFC 9112) with `Connection: close`. Redirects are not followed. A status in
//! `drain_status` means that the server is about to stop.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::budget::{BYTES_MAX, Budget};
use super::stream::{LINGER, Stream};
use super::{CheckTrouble, Transcript, tls};
use crate::base::address::Address;
use crate::health::Facts;
use crate::health::ask::HttpAsk;
use crate::health::transcript::printable;

/// Of the header of an answer, and of all that comes before it.
const HEADER_MAX: usize = 64 * 1024;

/// Of the body, in which a text is looked for.
const BODY_MAX: usize = 64 * 1024;

/// Sends one request and looks at the answer: its status, and its body if `expect` asks for something in it. The
/// connection is parted from in a task of its own.
///
/// # Errors
/// No answer came, or one that `status` or `expect` does not take.
pub(super) async fn check(
    stream: Stream,
    target: &Address,
    page: &HttpAsk,
    budget: &Budget,
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    let HttpAsk { method, path, status, drain_status, .. } = page;
    // Until the answer is there: a server may send as many provisional ones (1xx) before it as it likes.
    budget.limit_to(HEADER_MAX);
    let mut client = hyper::client::conn::http1::Builder::new();
    let handshake = client.max_buf_size(HEADER_MAX).handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| no_http(&error))?;
    // Ends when it is dropped, and so with a check that takes too long.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move { drop(connection.await) });
    transcript.doing_now("waiting for the HTTP answer");
    let mut response = sender.send_request(request(target, page)?).await.map_err(|error| no_http(&error))?;
    budget.limit_to(BYTES_MAX);
    let code = response.status();
    transcript.note(format!("{method} {path}: {:?} {code}", response.version()));
    let is_in = |ranges: &[(u16, u16)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&code.as_u16()));
    let result = if is_in(drain_status) {
        transcript.note("it is about to stop, by `drain_status`");
        Ok(Facts { is_leaving: true, ..Facts::default() })
    } else if !is_in(status) {
        let takes = ranges(status);
        Err(CheckTrouble::answer(format!("{method} {path} was answered {code}; `status` takes {takes}")))
    } else if let Some(pattern) = &page.expect {
        transcript.doing_now("reading the body of the HTTP answer");
        let body = beginning(&mut response).await?;
        match pattern.is_match(&body) {
            true => Ok(Facts::default()),
            false => Err(CheckTrouble::answer(format!(
                "{method} {path} was answered {code}, but `expect` is not in its body, which begins {}",
                quoted(&body)
            ))),
        }
    } else {
        Ok(Facts::default())
    };
    part(response, tasks);
    result
}

/// The beginning of a body, for messages.
fn quoted(body: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    format!("\"{}\"", printable(&body[..body.len().min(SHOWN_MAX)]))
}

/// The first [`BODY_MAX`] bytes of the body, or all of it if it is shorter.
async fn beginning(response: &mut Response<Incoming>) -> Result<Vec<u8>, CheckTrouble> {
    let mut body = Vec::new();
    while body.len() < BODY_MAX {
        let Some(frame) = response.frame().await else { break };
        let frame = frame.map_err(|error| no_http(&error))?;
        if let Some(bytes) = frame.data_ref() {
            body.extend_from_slice(&bytes[..bytes.len().min(BODY_MAX - body.len())]);
        }
    }
    Ok(body)
}

/// The request: HTTP/1.1 with `Connection: close`. Without `host`, the address of the backend is its host.
fn request(target: &Address, page: &HttpAsk) -> Result<Request<Empty<Bytes>>, CheckTrouble> {
    let host = match target {
        _ if !page.host.is_empty() => page.host.clone(),
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_string(),
    };
    let mut request = Request::builder()
        .method(page.method.as_str())
        .uri(page.path.as_str())
        .header(header::HOST, host)
        .header(header::CONNECTION, "close");
    for (name, value) in &page.headers {
        request = request.header(name, value);
    }
    let mut request = request
        .body(Empty::new())
        .map_err(|error| CheckTrouble::no_agreement(format!("the page cannot be asked for: {error}")))?;
    // Those of the configuration win.
    for (name, value) in [(header::USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION"))), (header::ACCEPT, "*/*")]
    {
        request.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    Ok(request)
}

/// Takes what is left of the answer, for a little while, so that the server ends in peace.
fn part(response: Response<Incoming>, tasks: JoinSet<()>) {
    let farewell = async move {
        // Read only so that the server need not see a reset, and forgotten as it comes.
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        let mut tasks = tasks;
        tasks.join_next().await;
    };
    tokio::task::spawn_local(async { drop(tokio::time::timeout(LINGER, farewell).await) });
}

/// An answer that could not be read, with the cause that hyper keeps behind its error.
fn no_http(error: &hyper::Error) -> CheckTrouble {
    // The cause says more: which part could not be read, or what became of the connection.
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    if tls::is_refusal(error) {
        return tls::no_agreement(&printable(cause.trim_start_matches(": ").as_bytes()));
    }
    CheckTrouble::answer(printable(format!("no HTTP answer came: {error}{cause}").as_bytes()))
}

/// Ranges of codes as the configuration writes them: `200, 300-399`.
fn ranges(status: &[(u16, u16)]) -> String {
    let range = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    status.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::config::model::{CheckKind, Pattern};
    use crate::probe::Checked;
    use crate::probe::testing::{against, ask, failure, is_success, run};
    use crate::probe::{Outcome, probe};

    fn kind() -> CheckKind {
        CheckKind::Http(HttpAsk {
            path: "/health?a=1".to_string(),
            status: vec![(200, 200), (300, 399)],
            drain_status: vec![(503, 503)],
            ..HttpAsk::default()
        })
    }

    fn check(server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
        against(kind(), Duration::from_millis(300), server)
    }

    fn request(stream: &mut impl Read) -> String {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            request.push(byte[0]);
        }
        String::from_utf8(request).unwrap()
    }

    fn answers(answer: &'static str) -> Checked {
        check(move |mut stream| {
            request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            // A client that leaves bytes unread would reset this.
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "a clean end");
        })
    }

    #[test]
    fn the_request_is_what_the_contract_says() {
        let checked = check(|mut stream| {
            let local = stream.local_addr().unwrap();
            let request = request(&mut stream).to_lowercase();
            assert!(request.starts_with("get /health?a=1 http/1.1\r\n"), "{request}");
            for line in [format!("host: {local}"), "connection: close".to_string(), "user-agent: ringway/".to_string()]
            {
                assert!(request.contains(&format!("\r\n{line}")), "{line}: {request}");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        assert!(is_success(&checked), "{checked:?}");
    }

    #[test]
    fn statuses_in_the_list_are_success_and_all_others_failures() {
        assert!(is_success(&answers("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall well, and the body goes on")));
        assert!(is_success(&answers("HTTP/1.0 302 Found\r\nlocation: /x\r\n\r\n")));
        let checked = answers("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nsick");
        let expected = "GET /health?a=1 was answered 502 Bad Gateway; `status` takes 200, 300-399";
        assert_eq!(failure(&checked), expected);
        assert!(!is_success(&answers("HTTP/1.1 204 No Content\r\n\r\n")));
    }

    #[test]
    fn what_is_configured_of_the_request_is_sent_and_wins() {
        let headers = [("X-Token", "s3cret"), ("user-agent", "probe"), ("X-Twice", "1"), ("x-twice", "2")];
        let kind = CheckKind::Http(HttpAsk {
            method: "OPTIONS".to_string(),
            host: "www.example.com".to_string(),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).into(),
            ..HttpAsk::default()
        });
        let checked = against(kind, Duration::from_millis(300), |mut stream| {
            let request = request(&mut stream).to_lowercase();
            assert!(request.starts_with("options / http/1.1\r\n"), "{request}");
            for line in ["host: www.example.com", "x-token: s3cret", "user-agent: probe", "x-twice: 1", "x-twice: 2"] {
                assert_eq!(request.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {request}");
            }
            assert_eq!(request.matches("host:").count(), 1, "{request}");
            assert_eq!(request.matches("user-agent:").count(), 1, "{request}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        assert!(is_success(&checked), "{checked:?}");
        assert!(!format!("{:?}", checked.transcript).contains("s3cret"), "a header may be a secret");
    }

    /// What the server answers to a check that looks for `^Galera.* synced`.
    fn in_body(answer: Vec<u8>) -> Checked {
        let expect = Some(Pattern::new("(?s)^Galera.* synced").unwrap());
        let kind = CheckKind::Http(HttpAsk { expect, ..HttpAsk::default() });
        against(kind, Duration::from_millis(500), move |mut stream| {
            request(&mut stream);
            let _ = stream.write_all(&answer); // a check that knows enough reads no further
        })
    }

    #[test]
    fn a_text_is_looked_for_in_the_body_alone() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\nGalera Cluster is synced.",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nGalera\n is synced",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nGalera\r\n7\r\n synced\r\n0\r\n\r\n",
        ] {
            let checked = in_body(answer.into());
            assert!(is_success(&checked), "{answer}: {checked:?}");
        }
        let checked = in_body(b"HTTP/1.1 200 OK\r\nx: Galera synced\r\ncontent-length: 9\r\n\r\nnot ready".into());
        let says = "GET / was answered 200 OK, but `expect` is not in its body, which begins \"not ready\"";
        assert_eq!(failure(&checked), says);
        let checked = in_body(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 13\r\n\r\nGalera synced".into());
        assert!(failure(&checked).contains("was answered 503"), "{checked:?}");
        let cut = in_body(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nGalera is synced".into());
        assert!(failure(&cut).starts_with("no HTTP answer came: "), "half of a body is none: {cut:?}");
    }

    #[test]
    fn of_a_long_body_the_first_64_kib_are_looked_at() {
        let with = |before: usize| {
            let body = format!("Galera{} synced", "x".repeat(before));
            in_body(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
        };
        let inside = BODY_MAX - "Galera synced".len();
        assert!(is_success(&with(inside)));
        let checked = with(inside + 1);
        assert!(failure(&checked).contains("`expect` is not in its body"), "{checked:?}");
    }

    #[test]
    fn a_server_that_is_about_to_stop_says_so() {
        for (answer, is_leaving) in [("503 Service Unavailable", true), ("200 OK", false)] {
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").leak();
            let checked = answers(answer);
            let Outcome::Success(facts) = checked.outcome else { panic!("not a success: {answer}: {checked:?}") };
            assert_eq!(facts.is_leaving, is_leaving, "{answer}");
        }
    }

    #[test]
    fn a_flood_of_provisional_answers_has_an_end() {
        let checked = check(|mut stream| {
            request(&mut stream);
            let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
            let mut sent = 0;
            while stream.write_all(flood.as_bytes()).is_ok() {
                sent += flood.len();
                assert!(sent < 64 << 20, "it reads on and on");
            }
        });
        assert!(failure(&checked).contains("it sent more than 64 KiB"), "{checked:?}");
    }

    #[test]
    fn a_bad_request_names_what_may_be_missing() {
        let checked = answers("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        let shown = failure(&checked);
        assert!(shown.contains("it may expect a PROXY header") && shown.contains("or expect TLS"), "{shown}");
        let checked = check(|mut stream| {
            request(&mut stream);
            stream.write_all(b"\x15\x03\x01\0\x02\x02\x46").unwrap();
        });
        assert!(
            failure(&checked).ends_with("; it seems to expect TLS: `check.tls = \"require\"` speaks it"),
            "{checked:?}"
        );
    }

    #[test]
    fn what_is_no_http_is_a_failure_with_its_reason() {
        for garbage in ["220 mail\r\n\r\n", "\0\x01\x02\x03garbage", "HTTP/9.9 200 OK\r\n\r\n", ""] {
            let checked = check(move |mut stream| {
                request(&mut stream);
                let _ = stream.write_all(garbage.as_bytes());
            });
            assert!(failure(&checked).starts_with("no HTTP answer came: "), "{garbage:?}: {checked:?}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_or_half_is_a_failure_after_the_timeout() {
        for half in ["", "HTTP/1.1 200"] {
            let checked = check(move |mut stream| {
                request(&mut stream);
                stream.write_all(half.as_bytes()).unwrap();
                while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
            });
            assert_eq!(failure(&checked), "no answer within 300 ms while waiting for the HTTP answer", "{half}");
        }
    }

    #[test]
    fn a_header_without_end_has_an_end() {
        let checked = check(|mut stream| {
            request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        assert!(failure(&checked).starts_with("no HTTP answer came: "), "{checked:?}");
    }

    #[test]
    fn a_body_without_end_keeps_nobody() {
        let checked = check(|mut stream| {
            request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        assert!(is_success(&checked), "{checked:?}");
    }

    #[test]
    fn unix_sockets_are_asked_as_localhost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&mut stream).to_lowercase();
            assert!(request.contains("\r\nhost: localhost\r\n"), "{request}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let outcome = run(async { probe(&ask(Address::Unix(path), kind())).await.outcome });
        assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
        server.join().unwrap();
    }
}
