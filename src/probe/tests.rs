//! What holds for every kind: nothing that comes from a network is a panic, and whatever is no answer is a failure.

use std::io::{Read, Write};
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{against_asked, ask, mysql_greeting, mysql_packet};
use super::*;
use crate::base::address::Address;
use crate::config::model::{HttpAsk, Login, Pattern, Step};

/// Kinds that want an answer, with whatever they can ask.
fn kinds(folder: &tempfile::TempDir) -> Vec<CheckKind> {
    let file = folder.path().join("password");
    std::fs::write(&file, "geheim\n").unwrap();
    let login = || Some(Login { user: "u".to_string(), password_file: Some(file.clone()) });
    vec![
        CheckKind::SendExpect {
            steps: vec![Step { send: b"x".to_vec(), expect: Some(Pattern::new("^what nobody says$").unwrap()) }],
        },
        CheckKind::Http(HttpAsk { status: vec![(299, 299)], ..HttpAsk::default() }),
        CheckKind::Postgresql { login: login(), database: "d".to_string() },
        CheckKind::Mysql { login: login(), galera: None },
        CheckKind::Mysql { login: None, galera: None },
        CheckKind::Redis { login: login() },
    ]
}

/// Beginnings that let a check go on to what comes next.
fn beginning(kind: &CheckKind) -> Vec<u8> {
    match kind {
        CheckKind::Postgresql { .. } => b"N".to_vec(),
        CheckKind::Mysql { .. } => mysql_greeting(0, b"mysql_native_password"),
        CheckKind::Redis { .. } => b"+OK\r\n".to_vec(),
        CheckKind::Http(_) => b"HTTP/1.1 ".to_vec(),
        _ => Vec::new(),
    }
}

fn answered(kind: &CheckKind, answer: Vec<u8>) -> Checked {
    let ask = ask(Address::Unix("".into()), kind.clone());
    against_asked(Ask { timeout: Duration::from_secs(2), role: true, lag: true, ..ask }, move |mut stream| {
        let _ = stream.write_all(&answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        while stream.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {}
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_answer_makes_a_check_panic_or_believe(
        answer in proptest::collection::vec(any::<u8>(), 0..200), likely in any::<bool>()
    ) {
        let folder = tempfile::tempdir().unwrap();
        for kind in kinds(&folder) {
            let mut bytes = if likely { beginning(&kind) } else { Vec::new() };
            bytes.extend(&answer);
            let checked = answered(&kind, bytes);
            prop_assert!(!matches!(checked.outcome, Outcome::Success(_)), "{:?}: {:?}", kind, checked);
            let shown = checked.transcript.lines().iter().map(|line| line.text.clone()).collect::<String>();
            prop_assert!(!shown.contains("geheim") && !shown.contains('\n'), "{}", shown);
        }
    }

    #[test]
    fn no_packet_that_looks_like_one_makes_mysql_panic_or_believe(
        packets in proptest::collection::vec(
            (prop_oneof![Just(0xfe_u8), Just(0x01), Just(0xff), any::<u8>()], "\\PC{0,24}"), 0..6
        )
    ) {
        let folder = tempfile::tempdir().unwrap();
        let kind = kinds(&folder).remove(3);
        let mut bytes = beginning(&kind);
        for (number, (first, rest)) in packets.iter().enumerate() {
            let payload = [&[*first], rest.as_bytes()].concat();
            bytes.extend(mysql_packet(number as u8 + 2, &payload));
        }
        let checked = answered(&kind, bytes);
        prop_assert!(!matches!(checked.outcome, Outcome::Success(_)), "{:?}", checked);
    }
}

#[test]
fn a_login_whose_password_cannot_be_read_connects_to_nobody() {
    let login = Login { user: "u".to_string(), password_file: Some("/nonexistent/password".into()) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Address::Tcp(listener.local_addr().unwrap());
    let checked = testing::check(ask(target, CheckKind::Mysql { login: Some(login), galera: None }));
    let text = testing::unknown(&checked);
    assert!(text.starts_with("cannot read `password_file` /nonexistent/password: No such file"), "{text}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a server that is left at its greeting may hold it against us");
}
