use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::base::address::Address;
use crate::config::model::{CheckKind, Login, Role};
use crate::health::Facts;
use crate::probe::testing::{against_asked, ask, failure, is_success, refused};
use crate::probe::{Ask, Checked, Outcome};

const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:3\r\n";

/// What a server says to each command in turn; it must see no other commands than these, and then a clean end.
fn check(login: Option<&str>, wanted: (bool, bool), turns: &'static [(&str, &str)]) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let login = login.map(|user| Login { user: user.to_string(), password_file: Some(file) });
    let kind = CheckKind::Redis { login };
    let timeout = Duration::from_millis(300);
    let ask = Ask { timeout, role: wanted.0, lag: wanted.1, ..ask(Address::Unix("".into()), kind) };
    against_asked(ask, move |mut stream| serve(&mut stream, turns))
}

fn serve(stream: &mut TcpStream, turns: &[(&str, &str)]) {
    for (command, answer) in turns {
        let words: Vec<&str> = command.split(' ').collect();
        let packed: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        let expected = format!("*{}\r\n{packed}", words.len());
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), expected);
        stream.write_all(answer.as_bytes()).unwrap();
    }
    let more = stream.read(&mut [0; 64]).unwrap();
    assert_eq!(more, 0, "a clean end, and nothing more is asked");
}

fn facts(checked: &Checked) -> Facts {
    match checked.outcome {
        Outcome::Success(facts) => facts,
        ref other => panic!("not a success: {other:?}"),
    }
}

#[test]
fn a_pong_is_success() {
    assert!(is_success(&check(None, (false, false), &[("PING", "+PONG\r\n")])));
}

#[test]
fn the_account_is_sent_and_never_shown() {
    let checked = check(Some("u"), (false, false), &[("AUTH u geheim", "+OK\r\n"), ("PING", "+PONG\r\n")]);
    assert!(is_success(&checked) && !format!("{checked:?}").contains("geheim"), "{checked:?}");
    let checked = check(Some(""), (false, false), &[("AUTH geheim", "+OK\r\n"), ("PING", "+PONG\r\n")]);
    assert!(is_success(&checked), "{checked:?}");
    let checked = check(Some(""), (false, false), &[("AUTH geheim", "-WRONGPASS invalid pair\r\n")]);
    assert_eq!(refused(&checked), "AUTH was answered WRONGPASS invalid pair; check `user` and `password_file`");
    assert!(!format!("{checked:?}").contains("geheim"), "{checked:?}");
}

#[test]
fn errors_are_failures_with_their_text_and_what_concerns_the_account_proves_life() {
    let failed = |answer: &'static [(&str, &str)]| failure(&check(None, (false, false), answer));
    let noauth = refused(&check(None, (false, false), &[("PING", "-NOAUTH Authentication required.\r\n")]));
    assert!(noauth.contains("NOAUTH") && noauth.contains("set `password_file`"), "{noauth}");
    let turns: &[_] = &[("PING", "+PONG\r\n"), ("ROLE", "-NOPERM this user has no permissions\r\n")];
    assert!(refused(&check(None, (true, false), turns)).contains("NOPERM"));
    let turns: &[_] = &[("AUTH geheim", "-ERR Client sent AUTH, but no password is set\r\n")];
    assert!(refused(&check(Some(""), (false, false), turns)).contains("no password is set"));
    let turns: &[_] = &[("AUTH geheim", "-ERR max number of clients reached\r\n")];
    assert!(failure(&check(Some(""), (false, false), turns)).contains("max number of clients"));
    let loading = failed(&[("PING", "-LOADING Redis is loading the dataset in memory\r\n")]);
    assert_eq!(loading, "PING was answered LOADING Redis is loading the dataset in memory");
    assert!(failed(&[("PING", "-MASTERDOWN Link with MASTER is down\r\n")]).contains("MASTERDOWN"));
    assert!(failed(&[("PING", "+OK\r\n")]).starts_with("PING was answered"));
    assert!(failed(&[("PING", "HTTP/1.1 400 Bad Request\r\n")]).contains("does not speak the Redis protocol"));
}

#[test]
fn the_role_is_asked_only_where_it_counts() {
    let primary: &[_] = &[("PING", "+PONG\r\n"), ("ROLE", "*3\r\n$6\r\nmaster\r\n:100\r\n*0\r\n")];
    assert_eq!(facts(&check(None, (true, false), primary)).role, Some(Role::Primary));
    let replica: &[_] = &[("PING", "+PONG\r\n"), ("ROLE", REPLICA)];
    let found = facts(&check(None, (true, false), replica));
    assert_eq!((found.role, found.lag_ns), (Some(Role::Replica), None));
}

#[test]
fn a_replica_that_does_not_hear_its_primary_is_cut_off() {
    for (link, is_cut_off) in [
        ("$7\r\nconnect\r\n", true),
        ("$10\r\nconnecting\r\n", true),
        ("$4\r\nsync\r\n", true),
        ("$9\r\nconnected\r\n", false),
    ] {
        let answer = REPLICA.replace("$9\r\nconnected\r\n", link).leak();
        let turns: &'static [(&str, &str)] = vec![("PING", "+PONG\r\n"), ("ROLE", &*answer)].leak();
        let facts = facts(&check(None, (true, false), turns));
        assert_eq!((facts.role, facts.is_cut_off), (Some(Role::Replica), is_cut_off), "{link:?}");
    }
}

#[test]
fn a_sentinel_is_neither_primary_nor_replica() {
    let sentinel: &[_] = &[("PING", "+PONG\r\n"), ("ROLE", "*2\r\n$8\r\nsentinel\r\n*0\r\n")];
    assert!(failure(&check(None, (true, false), sentinel)).contains("neither primary nor replica"));
}

#[test]
fn the_lag_is_the_time_since_the_primary_was_heard() {
    let asked = |info: &str| {
        let info = format!("${}\r\n{info}\r\n", info.len()).leak();
        let turns: &'static [(&str, &str)] =
            vec![("PING", "+PONG\r\n"), ("ROLE", REPLICA), ("INFO replication", &*info)].leak();
        check(None, (true, true), turns)
    };
    let found = asked("role:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:7\r\n");
    assert_eq!(facts(&found).lag_ns, Some(7_000_000_000));
    for info in [
        "role:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:-1\r\n",
        "role:slave\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:0\r\n",
        "role:slave\r\n",
    ] {
        assert_eq!(facts(&asked(info)).lag_ns, None, "{info}");
    }
}

#[test]
fn a_server_that_hangs_or_closes_is_a_failure_that_says_where() {
    let timeout = Duration::from_millis(100);
    let ask = || Ask { timeout, ..ask(Address::Unix("".into()), CheckKind::Redis { login: None }) };
    let silent = against_asked(ask(), |mut stream| {
        stream.write_all(b"+PON").unwrap();
        while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    });
    assert_eq!(failure(&silent), "no answer within 100 ms while waiting for the answer to PING");
    let closed = against_asked(ask(), |mut stream| {
        let _ = stream.read(&mut [0; 64]);
        stream.write_all(b"$10\r\nhal").unwrap();
    });
    assert!(failure(&closed).contains("while waiting for the answer to PING"), "{}", failure(&closed));
}
