//! What the tests of all kinds use.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{Ask, Checked, Outcome, probe};
use crate::base::address::Address;
use crate::config::model::CheckKind;
use crate::health::ask::CheckTls;

/// A patient check that asks for nothing more.
pub(super) fn ask(target: Address, kind: CheckKind) -> Ask {
    let opening = crate::health::ask::Opening::default();
    // As the configuration has it without `tls`.
    let tls = match kind {
        CheckKind::Postgresql { .. } | CheckKind::Mysql { .. } => CheckTls::Prefer,
        _ => CheckTls::Off,
    };
    let timeout = Duration::from_secs(5);
    Ask { target, kind, opening, tls, also_ports: Vec::new(), timeout, role: false, lag: false }
}

/// Runs a future as control does: on one thread, with local tasks.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Makes one check.
pub(super) fn check(ask: Ask) -> Checked {
    run(probe(&ask))
}

/// Makes one check of a simulated server, which gets the one connection there is. What it asserts counts.
pub(super) fn against(kind: CheckKind, timeout: Duration, server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
    against_asked(Ask { timeout, ..ask(Address::Unix("".into()), kind) }, server)
}

/// What a check finds at such a server. `ask` is whole but for the target.
pub(super) fn against_asked(ask: Ask, server: impl FnOnce(TcpStream) + Send + 'static) -> Checked {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Address::Tcp(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || server(listener.accept().unwrap().0));
    let checked = run(async {
        let checked = probe(&Ask { target, ..ask }).await;
        // The goodbye needs the runtime.
        while !server.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        checked
    });
    server.join().unwrap();
    checked
}

/// Whether the backend is fit.
pub(super) fn is_success(checked: &Checked) -> bool {
    matches!(checked.outcome, Outcome::Success(_))
}

/// Why it is not.
#[track_caller]
pub(super) fn failure(checked: &Checked) -> String {
    match &checked.outcome {
        Outcome::Failure(failure) => failure.to_string(),
        other => panic!("not a failure: {other:?}"),
    }
}

/// Why nothing was found out.
#[track_caller]
pub(super) fn unknown(checked: &Checked) -> String {
    match &checked.outcome {
        Outcome::Unknown(lack) => lack.to_string(),
        other => panic!("found out: {other:?}"),
    }
}

/// Why a server that lives refuses the check.
#[track_caller]
pub(super) fn refused(checked: &Checked) -> String {
    match &checked.outcome {
        Outcome::Refused(text) => text.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// A MySQL packet with its number.
pub(super) fn mysql_packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&[length[0], length[1], length[2], number], payload].concat()
}

/// The greeting of a MySQL server with these further capabilities.
pub(super) fn mysql_greeting(more: u32, plugin: &[u8]) -> Vec<u8> {
    let capabilities = (0x0008_8201_u32 | more).to_le_bytes(); // 4.1, secure connection, plugins
    let mut payload = b"\x0a8.0.99-fake\0\x07\0\0\0abcdefgh\0".to_vec();
    payload.extend([capabilities[0], capabilities[1], 45, 2, 0, capabilities[2], capabilities[3], 21]);
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0");
    payload.extend(plugin);
    payload.push(0);
    mysql_packet(0, &payload)
}
