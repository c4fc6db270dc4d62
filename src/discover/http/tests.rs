use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::testing::{Stub, StubRequest, Wire, begin_chunks, chunk, reply, run};
use super::*;
use crate::discover::dns::Dns;
use crate::discover::settings::Access;
use crate::tls::server::PemFile;

const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

/// Asks that endpoint for `/x`.
async fn ask(endpoint: &Endpoint, tls: &HttpTls, timeout: Duration) -> Result<HttpReply, HttpError> {
    send(endpoint, tls, &Resolver::new(&Dns::default(), None), HttpRequest::get("/x"), timeout).await
}

/// The body of the reply of such a server, or why there is none.
fn body_of(serve: impl Fn(&StubRequest, &mut dyn Wire) + Send + Sync + 'static) -> Result<String, String> {
    let stub = Stub::start(serve);
    run(async {
        let reply = ask(&stub.endpoint(), &HttpTls::default(), SHORT).await.map_err(|error| error.to_string())?;
        let body = reply.body(100, SHORT).await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(body).unwrap())
    })
}

/// What such a server does is told after its address.
#[track_caller]
fn why(found: Result<String, String>) -> String {
    let text = found.unwrap_err();
    text.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once(": ")).expect(&text).1.to_string()
}

#[test]
fn a_request_says_what_was_asked_and_the_reply_is_whole() {
    let (told, asked) = std::sync::mpsc::channel();
    let stub = Stub::start(move |request, to| {
        told.send(request.clone()).unwrap();
        reply(to, "201 Created", &["X-Index: 7"], "hello");
    });
    run(async {
        let resolver = Resolver::new(&Dns::default(), None);
        let headers = vec![("x-token", "s3cret".to_string())];
        let path = format!("/a/{}?b=1", escaped("ü /~?#%"));
        let request = HttpRequest { method: "POST", path: &path, headers, body: b"{}".to_vec() };
        let reply = send(&stub.endpoint(), &HttpTls::default(), &resolver, request, SOON).await.unwrap();
        assert_eq!((reply.status, reply.is_success(), reply.header("x-index")), (201, true, Some("7")));
        assert_eq!(reply.header("x-other"), None);
        assert_eq!(reply.body(5, SOON).await.unwrap(), b"hello");
    });
    let request = asked.recv().unwrap();
    assert_eq!((&*request.method, &*request.path), ("POST", "/a/%C3%BC%20%2F~%3F%23%25?b=1"));
    assert_eq!(request.header("host"), Some(&*stub.address().to_string()));
    assert_eq!((request.header("x-token"), request.header("connection")), (Some("s3cret"), Some("close")));
    assert_eq!((&*request.body, request.query("b"), request.query("c")), (&b"{}"[..], Some("1"), None));
}

#[test]
fn a_name_is_looked_up_and_an_error_names_the_server() {
    let stub = Stub::start(|_, to| reply(to, "200 OK", &[], ""));
    let endpoint = Endpoint { host: "localhost".into(), ..stub.endpoint() };
    run(async {
        assert_eq!(ask(&endpoint, &HttpTls::default(), SOON).await.map(|reply| reply.status).unwrap(), 200);
        let endpoint = Endpoint { host: "-.invalid".into(), ..endpoint.clone() };
        let error = ask(&endpoint, &HttpTls::default(), SOON).await.err().unwrap().to_string();
        assert!(error.starts_with("http://-.invalid:") && error.contains("cannot be looked up"), "{error}");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = Endpoint { is_tls: false, host: "127.0.0.1".into(), port: closed.port() };
        let error = ask(&endpoint, &HttpTls::default(), SOON).await.err().unwrap().to_string();
        assert!(error.contains("cannot connect to 127.0.0.1:"), "{error}");
    });
}

#[test]
fn what_is_no_http_or_breaks_off_is_an_error_that_says_so() {
    for (text, says) in [
        ("220 mail\r\n\r\n", "what it sends is no HTTP"),
        ("", "the connection broke"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "the connection broke"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "the connection broke"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "the connection broke"),
    ] {
        let why = why(body_of(move |_, to| drop(to.write_all(text.as_bytes()))));
        assert!(why.starts_with(says), "{text:?}: {why}");
    }
}

#[test]
fn a_body_a_header_and_a_flood_before_it_have_a_longest_length() {
    let long = body_of(|_, to| reply(to, "200 OK", &[], &"x".repeat(101)));
    assert_eq!(why(long), "its answer has more than 100 bytes");
    let flood = |text: &'static str| {
        move |_: &StubRequest, to: &mut dyn Wire| {
            let mut sent = 0;
            while to.write_all(text.repeat(100).as_bytes()).is_ok() {
                sent += text.len() * 100;
                assert!(sent < 64 << 20, "it reads on and on");
            }
        }
    };
    let endless = why(body_of(flood("HTTP/1.1 100 Continue\r\n\r\n")));
    assert!(endless.contains("its header has no end"), "{endless}");
    let endless = why(body_of(flood("HTTP/1.1 200 OK\r\nx: y")));
    assert!(endless.starts_with("what it sends is no HTTP") || endless.contains("no end"), "{endless}");
}

#[test]
fn a_server_that_says_nothing_or_half_is_an_error_after_the_timeout() {
    for (text, says) in [
        ("", "an answer did not come within 300 ms"),
        ("HTTP/1.1 200 OK\r\nx", "an answer did not come within 300 ms"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "the rest of an answer did not come within 300 ms"),
    ] {
        let hung = body_of(move |_, to| {
            to.write_all(text.as_bytes()).unwrap();
            let _ = to.read(&mut [0]);
        });
        assert_eq!(why(hung), says);
    }
}

#[test]
fn lines_come_one_by_one_and_a_cut_one_is_an_error() {
    let stub = Stub::start(|_, to| {
        begin_chunks(to);
        for part in ["one\ntw", "o\n", "thr"] {
            chunk(to, part).unwrap();
        }
        // Until the client has taken what there is.
        let _ = to.read(&mut [0]);
    });
    run(async {
        let mut lines = ask(&stub.endpoint(), &HttpTls::default(), SOON).await.unwrap().lines(10);
        assert_eq!(lines.next(SOON).await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(lines.next(SOON).await.unwrap().as_deref(), Some(&b"two"[..]));
        let late = lines.next(SHORT).await.unwrap_err().to_string();
        assert!(late.ends_with("the next line did not come within 300 ms"), "{late}");
    });
    let ends = |text: &'static str| {
        let stub = Stub::start(move |_, to| reply(to, "200 OK", &[], text));
        run(async {
            let mut lines = ask(&stub.endpoint(), &HttpTls::default(), SOON).await.unwrap().lines(10);
            assert_eq!(lines.next(SOON).await.unwrap().as_deref(), Some(&b"one"[..]));
            lines.next(SOON).await.map_err(|error| error.to_string())
        })
    };
    assert_eq!(ends("one\n"), Ok(None));
    assert!(ends("one\ntw").unwrap_err().ends_with("its answer ended in the middle of a line"));
    assert!(ends("one\ntwo four six").unwrap_err().ends_with("a line of its answer has more than 10 bytes"));
}

#[test]
fn a_refusal_shows_what_the_server_says_and_no_more() {
    let refusal = |body: String| {
        let stub = Stub::start(move |_, to| reply(to, "403 Forbidden", &[], &body));
        run(async { ask(&stub.endpoint(), &HttpTls::default(), SOON).await.unwrap().refusal(SOON).await.to_string() })
    };
    assert!(refusal("no\x1b[2J way\n".to_string()).ends_with(": it answers 403: \"no\\u{1b}[2J way\""));
    assert!(refusal(String::new()).ends_with(": it answers 403"));
    assert!(refusal("x".repeat(1 << 20)).len() < 300);
}

#[test]
fn a_request_that_no_http_can_carry_is_not_sent() {
    let stub = Stub::start(|_, _| panic!("nothing is to come"));
    run(async {
        let resolver = Resolver::new(&Dns::default(), None);
        let headers = vec![("x-token", "s3cret\nx: y".to_string())];
        let request = HttpRequest { headers, ..HttpRequest::get("/") };
        let refused = send(&stub.endpoint(), &HttpTls::default(), &resolver, request, SOON).await;
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("the header x-token") && !error.contains("s3cret"), "{error}");
    });
}

/// An authority in a folder of its own, with a certificate for `localhost` that it has signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let made = Authority { folder, issuer: Issuer::new(params, key) };
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(["client".to_string()]).unwrap().signed_by(&key, &made.issuer).unwrap();
        std::fs::write(made.path("cert.pem"), signed.pem()).unwrap();
        std::fs::write(made.path("key.pem"), key.serialize_pem()).unwrap();
        made
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A server with a certificate for that name, which asks its clients for one of this authority or not.
    fn server(&self, name: &str, asks: bool) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new([name.to_string()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        let ca = PemFile { path: String::new(), bytes: std::fs::read(self.path("ca.pem")).unwrap() };
        roots.roots.extend(crate::tls::server::authorities_in(&ca).unwrap().roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = if asks { builder.with_client_cert_verifier(verifier) } else { builder.with_no_client_auth() };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![signed.der().clone()], key).unwrap()
    }
}

/// Asks such a server under the name `localhost`; the status, or why there is none.
fn over_tls(server: ServerConfig, access: &Access) -> Result<u16, String> {
    let stub = Stub::start_tls(server, |_, to| reply(to, "200 OK", &[], "over TLS"));
    let endpoint = Endpoint { host: "localhost".into(), ..stub.endpoint() };
    run(async {
        let reply = ask(&endpoint, &HttpTls::from(access), SOON).await.map_err(|error| error.to_string())?;
        let status = reply.status;
        reply.body(100, SOON).await.map_err(|error| error.to_string())?;
        Ok(status)
    })
}

#[test]
fn a_server_proves_its_name_to_the_authorities_that_are_given() {
    let authority = Authority::new();
    let access = |ca: &Path| Access { ca_file: Some(ca.to_path_buf()), ..Access::default() };
    let (ours, other) = (access(&authority.path("ca.pem")), Authority::new());
    assert_eq!(over_tls(authority.server("localhost", false), &ours), Ok(200));
    let error = over_tls(authority.server("other.example", false), &ours).unwrap_err();
    assert!(error.contains("not for localhost but for other.example"), "{error}");
    let error = over_tls(authority.server("localhost", false), &access(&other.path("ca.pem"))).unwrap_err();
    assert!(error.contains("no authority that is believed"), "{error}");
    let error = over_tls(authority.server("localhost", false), &Access::default()).unwrap_err();
    assert!(error.contains("no authority") || error.contains("authorities of this host"), "{error}");
    for (name, text, says) in [("gone.pem", None, "No such file"), ("bad.pem", Some("x"), "holds no certificate")] {
        let path = authority.path(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = over_tls(authority.server("localhost", false), &access(&path)).unwrap_err();
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let authority = Authority::new();
    let without = Access { ca_file: Some(authority.path("ca.pem")), ..Access::default() };
    let with =
        Access { cert: Some(authority.path("cert.pem")), key: Some(authority.path("key.pem")), ..without.clone() };
    assert_eq!(over_tls(authority.server("localhost", true), &with), Ok(200));
    let error = over_tls(authority.server("localhost", true), &without).unwrap_err();
    assert!(error.contains("asks for a certificate"), "{error}");
    let gone = Access { key: Some(authority.path("gone.pem")), ..with };
    let error = over_tls(authority.server("localhost", true), &gone).unwrap_err();
    assert!(error.contains("`key`") && error.contains("gone.pem"), "{error}");
}

#[test]
fn a_secret_is_the_text_of_a_file_without_its_final_line_break() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        run(secret(&path, SOON))
    };
    for (bytes, text) in [(&b"abc"[..], "abc"), (b"abc\n", "abc"), (b"abc\r\n", "abc"), (b" a \n\n", " a \n")] {
        assert_eq!(read(bytes).as_deref(), Ok(text));
    }
    for (bytes, says) in [(&b"\n"[..], "it is empty"), (b"\xff", "it is no text"), (&[b'x'; 70_000], "longer")] {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(says) && error.starts_with(path.to_str().unwrap()), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(run(secret(&path, SOON)).unwrap_err().contains("No such file"));
}
