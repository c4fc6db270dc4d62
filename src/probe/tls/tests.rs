use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::base::address::Address;
use crate::base::time::Clock;
use crate::config::model::{CheckKind, CheckTls, HttpAsk, Login, Pattern, Step, Trust};
use crate::probe::testing::{against_asked, ask, failure, is_success, mysql_greeting, unknown};
use crate::probe::{Checked, probe};

/// An authority that signs, with its certificate in a file.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server shows: its certificate and the key of it.
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names, changed before it is signed.
    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// A server that speaks TLS from the first byte; `serve` gets its connection after the handshake.
fn over_tls(
    (certificate, key): Shown,
    serve: impl FnOnce(&mut StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
) -> impl FnOnce(TcpStream) + Send + 'static {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    move |stream| {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return;
            }
        }
        serve(&mut stream);
    }
}

/// What the client sends until its close_notify; a connection that ends without one is an error.
fn to_the_end(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an end with close_notify");
    all
}

fn require(trust: Trust, server_name: &str) -> CheckTls {
    CheckTls::Require { trust, server_name: server_name.to_string(), identity: None }
}

/// What a check of that kind finds at a server.
fn check(kind: CheckKind, tls: CheckTls, server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
    let timeout = Duration::from_secs(5);
    against_asked(crate::probe::Ask { tls, timeout, ..ask(Address::Unix("".into()), kind) }, server)
}

#[test]
fn an_http_check_asks_inside_of_tls_and_ends_it_with_close_notify() {
    let authority = Authority::new();
    let (told, seen) = mpsc::channel();
    let server = over_tls(authority.sign(&["db.example"], |_| {}), move |stream| {
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        told.send((request, stream.conn.server_name().map(str::to_string), protocol)).unwrap();
        to_the_end(stream);
    });
    let tls = require(Trust::File(authority.file()), "db.example.");
    let checked = check(CheckKind::Http(HttpAsk::default()), tls, server);
    assert!(is_success(&checked), "{checked:?}");
    let expected = (*b"GET ", Some("db.example".to_string()), Some(b"http/1.1".to_vec()));
    assert_eq!(seen.try_recv(), Ok(expected));
    let shown = format!("{:?}", checked.transcript.lines());
    assert!(shown.contains("TLS 1.3 begun; it is db.example"), "{shown}");
}

#[test]
fn a_tcp_check_is_the_handshake_and_no_more() {
    let authority = Authority::new();
    let server = over_tls(authority.sign(&["db.example"], |_| {}), |stream| {
        assert_eq!(to_the_end(stream), b"");
    });
    let checked = check(CheckKind::Tcp, require(Trust::File(authority.file()), "db.example"), server);
    assert!(is_success(&checked), "{checked:?}");
    let checked = check(CheckKind::Tcp, require(Trust::Unverified, ""), |mut stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    });
    let said = failure(&checked);
    assert!(said.starts_with("TLS cannot be begun: ") && said.contains("it may speak no TLS at this port"), "{said}");
}

#[test]
fn redis_and_send_expect_speak_inside_of_it() {
    let authority = Authority::new();
    let redis = over_tls(authority.sign(&["db.example"], |_| {}), |stream| {
        let mut question = [0; 14];
        stream.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"*1\r\n$4\r\nPING\r\n");
        stream.write_all(b"+PONG\r\n").unwrap();
        assert_eq!(to_the_end(stream), b"");
    });
    let tls = || require(Trust::File(authority.file()), "db.example");
    let checked = check(CheckKind::Redis { login: None }, tls(), redis);
    assert!(is_success(&checked), "{checked:?}");
    let steps = vec![Step { send: Vec::new(), expect: Some(Pattern::new("^220 ").unwrap()) }];
    let mail = over_tls(authority.sign(&["db.example"], |_| {}), |stream| {
        stream.write_all(b"220 mail\r\n").unwrap();
        assert_eq!(to_the_end(stream), b"");
    });
    let checked = check(CheckKind::SendExpect { steps }, tls(), mail);
    assert!(is_success(&checked), "{checked:?}");
}

/// What a handshake with that certificate comes to.
fn verified(shown: Shown, trust: Trust, server_name: &str) -> Checked {
    check(CheckKind::Tcp, require(trust, server_name), over_tls(shown, |stream| _ = stream.read(&mut [0; 1])))
}

#[test]
fn a_certificate_that_proves_nothing_is_a_failure_that_says_why() {
    let (authority, other) = (Authority::new(), Authority::new());
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2900, 1, 1);
    let of_authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cases: [(Shown, &str); 5] = [
        (
            authority.sign(&["a.example", "b.example"], |_| {}),
            "its certificate is not for db.example but for a.example, b.example; set \
             `server_name` to one of its names",
        ),
        (other.sign(&["db.example"], |_| {}), "no authority that is believed has signed its certificate; name"),
        (authority.sign(&["db.example"], past), "its certificate expired "),
        (authority.sign(&["db.example"], future), "its certificate is valid only in "),
        (authority.sign(&["db.example"], of_authority), "its certificate is one of an authority, which proves no"),
    ];
    for ((certificate, key), says) in cases {
        let again = (certificate.clone(), key.clone_key());
        let said = failure(&verified((certificate, key), Trust::File(authority.file()), "db.example"));
        assert!(said.starts_with(says), "{said}");
        let checked = verified(again, Trust::Unverified, "db.example");
        assert!(is_success(&checked), "without verification: {checked:?}");
    }
    // A host without authorities finds nothing out, and does not connect.
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        let checked = verified(authority.sign(&["db.example"], |_| {}), Trust::System, "db.example");
        assert!(failure(&checked).starts_with("no authority"), "{checked:?}");
    }
}

#[test]
fn an_address_is_verified_by_its_own_name_and_not_sent() {
    let authority = Authority::new();
    let server = over_tls(authority.sign(&["127.0.0.1"], |_| {}), |stream| {
        assert_eq!(stream.conn.server_name(), None);
        to_the_end(stream);
    });
    let checked = check(CheckKind::Tcp, require(Trust::File(authority.file()), "127.0.0.1"), server);
    assert!(is_success(&checked), "{checked:?}");
    let checked = verified(authority.sign(&["localhost"], |_| {}), Trust::File(authority.file()), "127.0.0.1");
    assert!(failure(&checked).starts_with("its certificate is not for 127.0.0.1 but for "), "{checked:?}");
}

/// Makes a check again and again, as its file may be known for a second, until the outcome is that. A check that finds
/// nothing out does not connect, so the server serves as often as it is asked, until the test ends.
fn until(authority: &Authority, file: &Path, is_it: impl Fn(&Checked) -> bool) -> Checked {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Address::Tcp(listener.local_addr().unwrap());
    let (certificate, key) = authority.sign(&["db.example"], |_| {});
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            over_tls((certificate.clone(), key.clone_key()), |stream| _ = stream.read(&mut [0; 1]))(stream);
        }
    });
    let clock = Clock::new();
    let begun = clock.now();
    loop {
        let tls = require(Trust::File(file.into()), "db.example");
        let asked = crate::probe::Ask { tls, ..ask(target.clone(), CheckKind::Tcp) };
        let checked = crate::probe::testing::check(asked);
        if is_it(&checked) || clock.now().since_ns(begun) > 20_000_000_000 {
            return checked;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_of_authorities_is_read_again_and_one_that_cannot_be_used_finds_nothing_out() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let is_unknown = |checked: &Checked| matches!(checked.outcome, crate::probe::Outcome::Unknown(_));
    let said = unknown(&until(&authority, &file, is_unknown));
    assert!(said.starts_with("cannot read `ca_file` ") && said.contains("No such file"), "{said}");
    for (content, says) in [
        ("nothing\n", "it has no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "its certificate number 1 cannot be used"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = unknown(&until(&authority, &file, is_unknown));
        assert!(said.contains(says), "{said}");
    }
    std::fs::copy(other.file(), &file).unwrap();
    let checked = until(&authority, &file, |checked| !is_unknown(checked));
    assert!(failure(&checked).starts_with("no authority"), "{checked:?}");
    let both = [std::fs::read_to_string(other.file()).unwrap(), std::fs::read_to_string(authority.file()).unwrap()];
    std::fs::write(&file, both.concat()).unwrap();
    let checked = until(&authority, &file, is_success);
    assert!(is_success(&checked), "{checked:?}");
}

#[test]
fn a_database_without_tls_is_not_fit_where_it_is_required() {
    let says = "it offers no TLS, which `check.tls` = \"require\" asks for";
    for login in [None, Some(Login { user: "u".to_string(), password_file: None })] {
        let postgresql = CheckKind::Postgresql { login: login.clone(), database: "d".to_string() };
        let checked = check(postgresql, require(Trust::Unverified, ""), |mut stream| {
            stream.read_exact(&mut [0; 8]).unwrap();
            stream.write_all(b"N").unwrap();
        });
        assert!(failure(&checked).starts_with(says), "{checked:?}");
        let mysql = CheckKind::Mysql { login, galera: None };
        let checked = check(mysql, require(Trust::Unverified, ""), |mut stream| {
            stream.write_all(&mysql_greeting(0, b"mysql_native_password")).unwrap();
            let _ = stream.read(&mut [0; 64]);
        });
        assert!(failure(&checked).starts_with(says), "{checked:?}");
    }
}

#[test]
fn a_database_without_a_common_tls_is_asked_nothing_in_the_clear_where_it_is_required() {
    const HANDSHAKE_FAILURE: &[u8] = b"\x15\x03\x03\0\x02\x02\x28";
    const CLIENT_SSL: u32 = 0x800;
    for login in [None, Some(Login { user: "u".to_string(), password_file: None })] {
        let postgresql = CheckKind::Postgresql { login: login.clone(), database: "d".to_string() };
        let checked = check(postgresql, require(Trust::Unverified, ""), |mut stream| {
            stream.read_exact(&mut [0; 8]).unwrap();
            stream.write_all(&[b"S", HANDSHAKE_FAILURE].concat()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(unknown(&checked).starts_with("TLS cannot be agreed on"), "{checked:?}");
        let mysql = CheckKind::Mysql { login, galera: None };
        let checked = check(mysql, require(Trust::Unverified, ""), |mut stream| {
            stream.write_all(&mysql_greeting(CLIENT_SSL, b"mysql_native_password")).unwrap();
            // The SSLRequest: a header of four bytes, and 32.
            stream.read_exact(&mut [0; 36]).unwrap();
            stream.write_all(HANDSHAKE_FAILURE).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(unknown(&checked).starts_with("TLS cannot be agreed on"), "{checked:?}");
    }
}

/// PostgreSQL that asks for the password itself, inside of TLS.
fn asks_for_the_password(shown: Shown) -> impl FnOnce(TcpStream) + Send + 'static {
    move |mut stream| {
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"S").unwrap();
        over_tls(shown, |stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\x03");
            let mut answer = [0; 64];
            if stream.read(&mut answer).is_ok_and(|length| length > 0 && answer.starts_with(b"p")) {
                let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
                let _ = stream.read(&mut [0; 64]);
            }
        })(stream);
    }
}

#[test]
fn only_a_server_that_has_proved_its_name_hears_the_password() {
    let authority = Authority::new();
    let file = authority.folder.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    let login = Some(Login { user: "u".to_string(), password_file: Some(file) });
    let kind = || CheckKind::Postgresql { login: login.clone(), database: "d".to_string() };
    let shown = || authority.sign(&["db.example"], |_| {});
    let tls = require(Trust::File(authority.file()), "db.example");
    let checked = check(kind(), tls, asks_for_the_password(shown()));
    assert!(is_success(&checked), "{checked:?}");
    for tls in [require(Trust::Unverified, "db.example"), CheckTls::Prefer] {
        let checked = check(kind(), tls, asks_for_the_password(shown()));
        assert!(!is_success(&checked), "{checked:?}");
    }
}

#[test]
fn each_of_the_other_ports_must_accept() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let asked = |also_ports| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Address::Tcp(server.local_addr().unwrap());
        let ask = crate::probe::Ask { also_ports, ..ask(target, CheckKind::Tcp) };
        crate::probe::testing::run(async { probe(&ask).await })
    };
    assert!(is_success(&asked(vec![port])));
    let said = failure(&asked(vec![port, closed]));
    assert!(said.starts_with(&format!("port {closed} of `also_ports`: ")) && said.contains("refused"), "{said}");
}

#[test]
fn a_server_that_wants_a_certificate_of_the_check_is_not_held_to_have_failed() {
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    let file = std::fs::read(authority.file()).unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&file).map(Result::unwrap));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let (certificate, key) = authority.sign(&["db.example"], |_| {});
    let config = config.with_client_cert_verifier(verifier.unwrap()).with_single_cert(vec![certificate], key).unwrap();
    let server = move |stream: TcpStream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let _ = stream.read(&mut [0; 1]);
        let _ = stream.flush();
    };
    let tls = require(Trust::File(authority.file()), "db.example");
    let said = unknown(&check(CheckKind::Http(HttpAsk::default()), tls, server));
    assert!(said.contains("checks have no certificate"), "{said}");
}

#[test]
fn a_certificate_without_a_name_is_told_so() {
    let authority = Authority::new();
    let checked = verified(authority.sign(&[], |_| {}), Trust::File(authority.file()), "db.example");
    assert!(failure(&checked).starts_with("its certificate has no subjectAltName"), "{checked:?}");
}
