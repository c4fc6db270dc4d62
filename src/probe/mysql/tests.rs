use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::base::address::Address;
use crate::config::model::{CheckKind, Login, Role};
use crate::health::Facts;
use crate::probe::testing::{
    against_asked, ask, failure, is_success, mysql_greeting as greeting, mysql_packet as packet, refused, unknown,
};
use crate::probe::{Ask, Checked, Outcome};

/// Whatever a server sends.
mod properties;

fn error(number: u8, code: u16, text: &str) -> Vec<u8> {
    let code = code.to_le_bytes();
    packet(number, &[&[0xff, code[0], code[1]], format!("#28000{text}").as_bytes()].concat())
}

fn ok(number: u8) -> Vec<u8> {
    packet(number, &[0, 0, 0, 2, 0, 0, 0])
}

/// A result of texts; `None` is NULL.
fn result(columns: &[&str], rows: &[&[Option<&str>]]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let mut number = 0;
    let mut all = Vec::new();
    let mut add = |payload: &[u8]| {
        number += 1;
        all.extend(packet(number, payload));
    };
    add(&[columns.len() as u8]);
    for column in columns {
        let names = ["def", "", "", "", column, column].map(text).concat();
        add(&[&names[..], &[0x0c, 45, 0, 0, 1, 0, 0, 0xfd, 0, 0, 0, 0, 0]].concat());
    }
    add(&[0xfe, 0, 0, 2, 0]);
    for row in rows {
        add(&row.iter().map(|value| value.map_or(vec![0xfb], text)).collect::<Vec<_>>().concat());
    }
    add(&[0xfe, 0, 0, 2, 0]);
    all
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0; usize::from(header[0]) + usize::from(header[1]) * 256];
    stream.read_exact(&mut payload).unwrap();
    payload
}

/// QUIT, and then a clean end.
fn expect_quit(stream: &mut TcpStream) {
    assert_eq!(read(stream), [0x01]);
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
}

/// A check against a server that greets and then goes on so; `login` is its password.
fn check(login: Option<&str>, wanted: (bool, bool), server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, login.unwrap_or_default()).unwrap();
    let login = login.map(|_| Login { user: "check".to_string(), password_file: Some(file) });
    let ask = ask(Address::Unix("".into()), CheckKind::Mysql { login, galera: None });
    let timeout = Duration::from_millis(300);
    against_asked(Ask { timeout, role: wanted.0, lag: wanted.1, ..ask }, server)
}

fn facts(checked: &Checked) -> Facts {
    match checked.outcome {
        Outcome::Success(facts) => facts,
        ref other => panic!("not a success: {other:?}"),
    }
}

/// Lets the check in, and answers each statement that begins with the first text with the second.
fn database(stream: &mut TcpStream, turns: &[(&str, Vec<u8>)]) {
    stream.write_all(&greeting(0, b"mysql_native_password")).unwrap();
    let response = read(stream);
    assert!(response[32..].starts_with(b"check\0\x14"), "the user, and a proof of 20 bytes: {response:?}");
    stream.write_all(&ok(2)).unwrap();
    for (statement, answer) in turns {
        let query = String::from_utf8(read(stream)).unwrap();
        assert!(query[1..].starts_with(statement), "{query}");
        stream.write_all(answer).unwrap();
    }
    expect_quit(stream);
}

fn variables(on: &[(&str, &str)]) -> Vec<u8> {
    let rows: Vec<[Option<&str>; 2]> = on.iter().map(|(name, value)| [Some(*name), Some(*value)]).collect();
    result(&["Variable_name", "Value"], &rows.iter().map(|row| &row[..]).collect::<Vec<_>>())
}

#[test]
fn logging_in_is_success_and_ends_in_quit() {
    let checked = check(Some("geheim"), (false, false), |mut stream| database(&mut stream, &[]));
    assert!(is_success(&checked) && !format!("{checked:?}").contains("geheim"), "{checked:?}");
}

#[test]
fn read_only_in_any_form_is_a_replica() {
    let role = |on: &'static [(&str, &str)]| {
        let checked = check(Some("p"), (true, false), |mut stream| {
            database(&mut stream, &[("SHOW GLOBAL VARIABLES", variables(on))]);
        });
        facts(&checked).role
    };
    assert_eq!(role(&[("read_only", "OFF"), ("innodb_read_only", "OFF")]), Some(Role::Primary));
    assert_eq!(role(&[("read_only", "ON")]), Some(Role::Replica));
    assert_eq!(role(&[("read_only", "NO_LOCK_NO_ADMIN")]), Some(Role::Replica));
    assert_eq!(role(&[("read_only", "OFF"), ("super_read_only", "ON")]), Some(Role::Replica));
    assert_eq!(role(&[("innodb_read_only", "ON"), ("read_only", "0")]), Some(Role::Replica));
    let none = check(Some("p"), (true, false), |mut stream| {
        database(&mut stream, &[("SHOW GLOBAL VARIABLES", variables(&[]))]);
    });
    assert_eq!(failure(&none), "it does not tell `read_only`");
}

#[test]
fn the_lag_is_that_of_the_worst_source_and_null_is_unknown() {
    let asked = |status: Vec<(&'static str, Vec<u8>)>| {
        check(Some("p"), (true, true), move |mut stream| {
            let turns = [vec![("SHOW GLOBAL VARIABLES", variables(&[("read_only", "ON")]))], status].concat();
            database(&mut stream, &turns);
        })
    };
    let status = |lags: &[Option<&str>]| {
        let rows: Vec<[Option<&str>; 2]> = lags.iter().map(|lag| [Some("x"), *lag]).collect();
        result(&["State", "Seconds_Behind_Source"], &rows.iter().map(|row| &row[..]).collect::<Vec<_>>())
    };
    let lag = |lags: &[Option<&str>]| asked(vec![("SHOW REPLICA STATUS", status(lags))]);
    assert_eq!(facts(&lag(&[Some("3")])).lag_ns, Some(3_000_000_000));
    assert_eq!(facts(&lag(&[Some("3"), Some("40"), Some("0")])).lag_ns, Some(40_000_000_000));
    for (unknown, why) in [(lag(&[Some("3"), None]), "replication does not run"), (lag(&[]), "follows no primary")] {
        assert_eq!((facts(&unknown).role, facts(&unknown).lag_ns), (Some(Role::Replica), None));
        assert!(format!("{unknown:?}").contains(why), "{unknown:?}");
    }
    let old = asked(vec![
        ("SHOW REPLICA STATUS", error(1, 1064, "You have an error in your SQL syntax")),
        ("SHOW SLAVE STATUS", result(&["Seconds_Behind_Master"], &[&[Some("5")]])),
    ]);
    assert_eq!(facts(&old).lag_ns, Some(5_000_000_000));
    let denied = asked(vec![("SHOW REPLICA STATUS", error(1, 1227, "Access denied"))]);
    assert_eq!(
        (facts(&denied).role, facts(&denied).lag_ns),
        (Some(Role::Replica), None),
        "the role counts all the same"
    );
    let remark = denied.transcript.remarked().unwrap();
    assert!(remark.contains("GRANT REPLICATION CLIENT"), "{remark}");
}

#[test]
fn a_server_that_greets_with_an_error_is_a_failure_with_its_text() {
    for login in [None, Some("p")] {
        for (code, text, hint) in
            [(1040, "Too many connections", "raise its limit"), (1129, "Host is blocked", "FLUSH HOSTS")]
        {
            // Before the handshake an error has no state.
            let payload = [&[0xff][..], &u16::to_le_bytes(code), text.as_bytes()].concat();
            let checked =
                check(login, (false, false), move |mut stream| stream.write_all(&packet(0, &payload)).unwrap());
            let shown = failure(&checked);
            assert!(shown.starts_with(&format!("the server accepts no connection: {text} (error {code})")), "{shown}");
            assert!(shown.contains(hint), "{shown}");
        }
    }
}

#[test]
fn a_refused_login_says_what_to_look_at() {
    let checked = check(Some("geheim"), (false, false), |mut stream| {
        stream.write_all(&greeting(0, b"mysql_native_password")).unwrap();
        read(&mut stream);
        stream.write_all(&error(2, 1045, "Access denied for user 'check'")).unwrap();
    });
    let expected = "login refused: Access denied for user 'check' (error 1045); check `user` and `password_file`";
    assert_eq!(refused(&checked), expected);
    assert!(!format!("{checked:?}").contains("geheim"));
}

#[test]
fn a_server_that_switches_the_way_to_log_in_is_followed() {
    let checked = check(Some("p"), (false, false), |mut stream| {
        stream.write_all(&greeting(0, b"auth_gssapi_client")).unwrap();
        read(&mut stream);
        stream.write_all(&packet(2, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0")).unwrap();
        assert_eq!(read(&mut stream).len(), 32, "a proof, not the password");
        stream.write_all(&packet(4, b"\x01\x03")).unwrap();
        stream.write_all(&ok(5)).unwrap();
        expect_quit(&mut stream);
    });
    assert!(is_success(&checked), "{checked:?}");
}

#[test]
fn a_password_is_never_sent_in_the_clear() {
    let asked = |request: &'static [&[u8]]| {
        check(Some("geheim"), (false, false), move |mut stream| {
            stream.write_all(&greeting(0, b"mysql_native_password")).unwrap();
            read(&mut stream);
            let mut all = Vec::new();
            for (number, payload) in request.iter().enumerate() {
                all.extend(packet(number as u8 * 2 + 2, payload));
            }
            stream.write_all(&all).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(!rest.windows(6).any(|window| window == b"geheim"), "{rest:?}");
        })
    };
    let clear = asked(&[b"\xfemysql_clear_password\0"]);
    assert!(unknown(&clear).contains("the server wants a login by mysql_clear_password"), "{}", unknown(&clear));
    let full = asked(&[b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0", b"\x01\x04"]);
    assert!(unknown(&full).contains("the server wants the password in the clear"), "{}", unknown(&full));
}

#[test]
fn without_an_account_a_refused_login_is_success() {
    let asked = |answers: Vec<Vec<u8>>| {
        check(None, (false, false), move |mut stream| {
            stream.write_all(&greeting(0x800, b"caching_sha2_password")).unwrap();
            let response = read(&mut stream);
            assert!(response[32..].starts_with(b"ringway\0\0"), "no proof: {response:?}");
            let (last, others) = answers.split_last().unwrap();
            for answer in others {
                stream.write_all(answer).unwrap();
                assert!(read(&mut stream).is_empty());
            }
            stream.write_all(last).unwrap();
            if last[4] == 0 {
                expect_quit(&mut stream);
            } else {
                assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "a clean end");
            }
        })
    };
    assert!(is_success(&asked(vec![error(2, 1045, "Access denied for user 'ringway'")])));
    let switch = packet(2, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    assert!(is_success(&asked(vec![switch, error(4, 1698, "Access denied for user 'ringway'")])));
    assert!(is_success(&asked(vec![error(2, 3159, "Connections using insecure transport are prohibited")])));
    assert!(is_success(&asked(vec![ok(2)])), "somebody may be called so");
    let full = asked(vec![error(2, 1040, "Too many connections")]);
    assert!(failure(&full).contains("Too many connections (error 1040)"), "{}", failure(&full));
}

#[test]
fn a_server_that_hangs_or_closes_is_a_failure_that_says_where() {
    let silent =
        check(None, (false, false), |mut stream| while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {});
    assert_eq!(failure(&silent), "no answer within 300 ms while waiting for the greeting");
    let half = check(Some("p"), (false, false), |mut stream| {
        let greeting = greeting(0, b"mysql_native_password");
        stream.write_all(&greeting[..30]).unwrap();
    });
    assert!(failure(&half).starts_with("the connection broke while waiting for the greeting"), "{}", failure(&half));
    let late = check(Some("p"), (true, false), |mut stream| {
        stream.write_all(&greeting(0, b"mysql_native_password")).unwrap();
        read(&mut stream);
        stream.write_all(&ok(2)).unwrap();
        while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    });
    assert_eq!(failure(&late), "no answer within 300 ms while waiting for the answer to a query");
    let other = check(None, (false, false), |mut stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap());
    assert!(failure(&other).starts_with("it does not speak the MySQL protocol: SSH-"), "{}", failure(&other));
}

/// Names that are as long as packets may be, in as many columns and rows as there may be.
#[test]
fn a_result_that_multiplies_names_by_rows_has_an_end() {
    let checked = check(Some("p"), (true, false), |mut stream| {
        stream.write_all(&greeting(0, b"mysql_native_password")).unwrap();
        read(&mut stream);
        stream.write_all(&ok(2)).unwrap();
        read(&mut stream);
        let mut sent = packet(1, &[0xfc, 0, 1]);
        let name = "n".repeat(60_000);
        let text = |text: &str| match text.len() {
            0..=250 => [&[text.len() as u8], text.as_bytes()].concat(),
            length => [&[0xfc], &(length as u16).to_le_bytes()[..], text.as_bytes()].concat(),
        };
        let column = ["def", "", "", "", &name, ""].map(text).concat();
        for number in 0..256_u16 {
            sent.extend(packet(number as u8, &column));
        }
        let _ = stream.write_all(&sent);
        while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    });
    assert!(failure(&checked).contains("it sent more than 256 KiB"), "{checked:?}");
}
