use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::SSL_REQUEST;
use crate::base::address::Address;
use crate::config::model::{CheckKind, Login, Role};
use crate::health::Facts;
use crate::probe::testing::{against_asked, ask, failure, is_success, refused, unknown};
use crate::probe::{Ask, Checked, Outcome};

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
fn a_server_whose_tls_is_another_one_speaks_postgresql_all_the_same() {
    let checked = check(None, (false, false), |mut stream| {
        let _ = stream.read(&mut [0; 8]);
        stream.write_all(b"S\x15\x03\x03\0\x02\x02\x28").unwrap(); // handshake_failure
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(is_success(&checked), "{checked:?}");
    let remark = checked.transcript.remarked().unwrap();
    assert!(remark.starts_with("TLS cannot be agreed on") && remark.contains("ECDHE"), "{remark}");
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
fn a_server_that_lets_nobody_in_fails_and_one_that_refuses_the_account_lives() {
    for (code, text, hint, is_of_account) in [
        ("57P03", "the database system is starting up", "", false),
        ("57P01", "terminating connection due to administrator command", "", false),
        ("53300", "sorry, too many clients already", "max_connections", false),
        ("XX000", "internal error", "", false),
        ("28P01", "password authentication failed for user \"check\"", "check `user`", true),
        ("28000", "no pg_hba.conf entry for host", "pg_hba.conf", true),
        ("3D000", "database \"d\" does not exist", "check `database`", true),
        ("42501", "permission denied for database \"d\"", "", true),
    ] {
        let checked = check(Some("geheim"), (true, false), move |mut stream| {
            say_no_tls(&mut stream);
            read_startup(&mut stream);
            stream.write_all(&error(code, text)).unwrap();
        });
        let shown = if is_of_account { refused(&checked) } else { failure(&checked) };
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
    assert!(refused(&checked).contains("set `password_file`"), "{}", refused(&checked));
}

#[test]
fn a_query_that_fails_ends_in_terminate() {
    let asked = |code: &'static str| {
        check(Some(""), (true, false), move |stream| {
            let answer = [error(code, "no"), message(b'Z', b"I")].concat();
            database(stream, Some(answer));
        })
    };
    assert_eq!(failure(&asked("58030")), "no (SQLSTATE 58030)");
    assert_eq!(refused(&asked("42501")), "no (SQLSTATE 42501)");
}

/// A server that says no to TLS and then goes on as it likes, until it is left.
fn hostile(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Checked {
    check(Some("geheim"), (true, false), move |mut stream| {
        say_no_tls(&mut stream);
        read_startup(&mut stream);
        answer(&mut stream);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.windows(6).any(|window| window == b"geheim"), "{rest:?}");
    })
}

#[test]
fn a_password_is_never_sent_in_the_clear() {
    let checked = hostile(|stream| stream.write_all(&message(b'R', &[0, 0, 0, 3])).unwrap());
    let shown = unknown(&checked);
    assert!(shown.contains("the password in clear text") && shown.contains("scram-sha-256"), "{shown}");
    let gss = hostile(|stream| stream.write_all(&message(b'R', &[0, 0, 0, 7])).unwrap());
    assert!(unknown(&gss).contains("unsupported authentication method"), "{gss:?}");
}

#[test]
fn a_proof_that_costs_too_much_is_not_given() {
    for (iterations, is_done) in [("4294967295", false), ("65537", false), ("64", true)] {
        let checked = hostile(move |stream| {
            stream.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).unwrap();
            let first = read_message(stream).1;
            let nonce = first.split("r=").nth(1).unwrap();
            let text = format!("r={nonce}x,s=c2FsdHNhbHQ=,i={iterations}");
            stream.write_all(&message(b'R', &[&[0, 0, 0, 11], text.as_bytes()].concat())).unwrap();
            if is_done {
                assert!(read_message(stream).1.contains("p="));
                stream.write_all(&error("28P01", "no")).unwrap();
            }
        });
        match is_done {
            true => assert!(refused(&checked).starts_with("no (SQLSTATE 28P01)"), "{checked:?}"),
            false => assert!(unknown(&checked).contains("rounds of SCRAM"), "{checked:?}"),
        }
    }
}

#[test]
fn a_message_that_is_announced_as_huge_is_not_waited_for() {
    let checked = hostile(|stream| stream.write_all(b"E\x7f\xff\xff\xff and so on").unwrap());
    assert!(failure(&checked).contains("a message of 2147483647 bytes"), "{checked:?}");
}

#[test]
fn notices_without_end_have_one() {
    let notice = message(b'N', format!("SNOTICE\0C00000\0M{}\0\0", "x".repeat(1000)).as_bytes());
    let checked = hostile(move |stream| {
        stream.write_all(&message(b'R', &[0; 4])).unwrap();
        while stream.write_all(&notice).is_ok() {}
    });
    assert!(failure(&checked).contains("it sent more than 256 KiB"), "{checked:?}");
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
