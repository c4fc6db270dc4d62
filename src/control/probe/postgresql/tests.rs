use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::SSL_REQUEST;
use crate::base::address::Address;
use crate::config::model::{CheckKind, Login, Role};
use crate::control::probe::testing::{against_asked, ask, failure, is_success};
use crate::control::probe::{Ask, Checked, Outcome};
use crate::health::Facts;

/// Says that the login is done, and that it is ready.
const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes())
}

/// A result with one row; `None` is NULL.
fn row(values: &[Option<&str>]) -> Vec<u8> {
    let count = (values.len() as u16).to_be_bytes();
    let field = b"c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\0\0\0\0\0\0";
    let fields = [&count[..], &field.repeat(values.len())].concat();
    let value = |value: &Option<&str>| match value {
        Some(text) => [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat(),
        None => vec![0xff; 4],
    };
    let data = [&count[..], &values.iter().map(value).collect::<Vec<_>>().concat()].concat();
    [message(b'T', &fields), message(b'D', &data), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

fn read_startup(stream: &mut TcpStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8_lossy(&body).into_owned()
}

fn read_message(stream: &mut TcpStream) -> (u8, String) {
    let mut kind = [0];
    stream.read_exact(&mut kind).unwrap();
    (kind[0], read_startup(stream))
}

fn say_no_tls(stream: &mut TcpStream) {
    let mut request = [0; 8];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(request, SSL_REQUEST);
    stream.write_all(b"N").unwrap();
}

/// `login` is the password.
fn check(login: Option<&str>, wanted: (bool, bool), server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, login.unwrap_or_default()).unwrap();
    let password_file = login.filter(|password| !password.is_empty()).map(|_| file);
    let login = login.map(|_| Login { user: "check".to_string(), password_file });
    let ask = ask(Address::Unix("".into()), CheckKind::Postgresql { login, database: "d".to_string() });
    let timeout = Duration::from_millis(300);
    against_asked(Ask { timeout, role: wanted.0, lag: wanted.1, ..ask }, server)
}

/// Lets the check in, answers its query, and expects it to end as it should.
fn database(mut stream: TcpStream, answer: Option<Vec<u8>>) {
    say_no_tls(&mut stream);
    let startup = read_startup(&mut stream);
    assert!(startup.contains("user\0check\0") && startup.contains("database\0d\0"), "{startup:?}");
    assert!(startup.contains("application_name\0ringway\0"), "{startup:?}");
    stream.write_all(READY).unwrap();
    if let Some(answer) = answer {
        let (kind, query) = read_message(&mut stream);
        assert!(kind == b'Q' && query.contains("pg_is_in_recovery"), "{query}");
        stream.write_all(&answer).unwrap();
    }
    assert_eq!(read_message(&mut stream).0, b'X', "Terminate");
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
}

fn facts(checked: &Checked) -> Facts {
    match checked.outcome {
        Outcome::Success(facts) => facts,
        ref other => panic!("not a success: {other:?}"),
    }
}

fn asked(lag: bool, values: &'static [Option<&str>]) -> Checked {
    check(Some(""), (true, lag), move |stream| database(stream, Some(row(values))))
}

#[test]
fn without_an_account_only_tls_is_asked_for() {
    let checked = check(None, (false, false), |mut stream| {
        say_no_tls(&mut stream);
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "a clean end");
    });
    assert!(is_success(&checked), "{checked:?}");
    let other = check(None, (false, false), |mut stream| stream.write_all(b"220 mail\r\n").unwrap());
    assert!(failure(&other).starts_with("it does not speak the PostgreSQL protocol"), "{}", failure(&other));
    let broken = check(None, (false, false), |mut stream| {
        let _ = stream.read(&mut [0; 8]);
        stream.write_all(b"Snow is no TLS record").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(failure(&broken).starts_with("TLS cannot be begun"), "{}", failure(&broken));
}

#[test]
fn logging_in_is_success_and_ends_in_terminate() {
    assert!(is_success(&check(Some(""), (false, false), |stream| database(stream, None))));
}

#[test]
fn role_timeline_and_lag_are_what_the_server_says() {
    let primary = facts(&asked(false, &[Some("f"), Some("0000001F")]));
    assert_eq!((primary.role, primary.term, primary.lag_ns), (Some(Role::Primary), 31, None));
    let replica = facts(&asked(true, &[Some("t"), None, Some("1500")]));
    assert_eq!((replica.role, replica.lag_ns), (Some(Role::Replica), Some(1_500_000_000)));
    let early = facts(&asked(true, &[Some("t"), None, Some("-20")]));
    assert_eq!(early.lag_ns, Some(0), "clocks differ");
    let unknown = asked(true, &[Some("t"), None, None]);
    assert_eq!((facts(&unknown).role, facts(&unknown).lag_ns), (Some(Role::Replica), None));
    assert!(format!("{unknown:?}").contains("its lag is unknown"), "{unknown:?}");
    assert!(failure(&asked(true, &[None, None, None])).contains("pg_is_in_recovery() is None"));
}

#[test]
fn a_server_that_lets_nobody_in_is_a_failure_with_its_text() {
    for (code, text, hint) in [
        ("57P03", "the database system is starting up", ""),
        ("57P01", "terminating connection due to administrator command", ""),
        ("53300", "sorry, too many clients already", "max_connections"),
        ("28P01", "password authentication failed for user \"check\"", "check `user`"),
        ("28000", "no pg_hba.conf entry for host", "pg_hba.conf"),
        ("3D000", "database \"d\" does not exist", "check `database`"),
    ] {
        let checked = check(Some("geheim"), (true, false), move |mut stream| {
            say_no_tls(&mut stream);
            read_startup(&mut stream);
            stream.write_all(&error(code, text)).unwrap();
        });
        let shown = failure(&checked);
        assert!(shown.starts_with(&format!("{text} (SQLSTATE {code})")) && shown.contains(hint), "{shown}");
        assert!(!format!("{checked:?}").contains("geheim"), "{checked:?}");
    }
}

#[test]
fn a_server_that_wants_a_password_nobody_has_says_so() {
    let checked = check(Some(""), (false, false), |mut stream| {
        say_no_tls(&mut stream);
        read_startup(&mut stream);
        stream.write_all(&message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])).unwrap(); // MD5
    });
    assert!(failure(&checked).contains("set `password_file`"), "{}", failure(&checked));
}

#[test]
fn a_query_that_fails_is_a_failure_and_ends_in_terminate() {
    let checked = check(Some(""), (true, false), |stream| {
        let answer = [error("42501", "permission denied"), message(b'Z', b"I")].concat();
        database(stream, Some(answer));
    });
    assert_eq!(failure(&checked), "permission denied (SQLSTATE 42501)");
}

#[test]
fn a_server_that_hangs_or_closes_is_a_failure_that_says_where() {
    let until_closed = |mut stream: TcpStream| while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {};
    let silent = check(None, (false, false), until_closed);
    assert_eq!(failure(&silent), "no answer within 300 ms while waiting for the answer to SSLRequest");
    let at_login = check(Some(""), (false, false), move |mut stream| {
        say_no_tls(&mut stream);
        until_closed(stream);
    });
    assert_eq!(failure(&at_login), "no answer within 300 ms while logging in");
    let at_query = check(Some(""), (true, false), move |mut stream| {
        say_no_tls(&mut stream);
        read_startup(&mut stream);
        stream.write_all(READY).unwrap();
        until_closed(stream);
    });
    assert_eq!(failure(&at_query), "no answer within 300 ms while waiting for the answer to a query");
    let closed = check(Some(""), (false, false), |mut stream| {
        say_no_tls(&mut stream);
        read_startup(&mut stream);
    });
    assert!(failure(&closed).contains("connection closed"), "{}", failure(&closed));
}
