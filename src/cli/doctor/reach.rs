//! Whether backends can be connected to, many of them at the same time.
//!
//! It only connects and closes: whether a server is healthy is for checks to say, which need its protocol and an
//! account.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::time::Clock;

/// How long a backend has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many connections are tried at the same time.
const AT_ONCE: usize = 64;

/// Connects to each address and closes the connection. Returns how long that took, or why it failed, in the order of
/// `targets`.
pub(super) fn try_all(targets: &[Address]) -> Vec<Result<Duration, String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some((number, target)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, targets.get(at)?)))
        {
            found.push((number, connect(target)));
        }
        found
    };
    let mut all: Vec<(usize, Result<Duration, String>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..targets.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Connects to one address.
fn connect(target: &Address) -> Result<Duration, String> {
    let clock = Clock::new();
    let begun = clock.now();
    let result = match target {
        Address::Tcp(address) => TcpStream::connect_timeout(&dialled(*address), PATIENCE).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
    };
    result.map_err(|error| said(&error))?;
    Ok(Duration::from_nanos(clock.now().since_ns(begun)))
}

/// The address that the kernel connects to: an IPv4 address in IPv6 form becomes IPv4.
fn dialled(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Why an attempt failed, in words.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it refuses: nothing listens there".to_string(),
        io::ErrorKind::TimedOut => format!("no answer within {} s: it is off, or a firewall drops", PATIENCE.as_secs()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no route to it".to_string(),
        io::ErrorKind::NotFound => "there is no such socket".to_string(),
        io::ErrorKind::PermissionDenied => "this user is not allowed to connect to it".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_own_answer_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = Address::Tcp(listener.local_addr().unwrap());
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // More than are tried at the same time, and no more than the kernel keeps for a listener that does not accept.
        let mut targets = vec![Address::Tcp(gone), Address::Unix(folder.path().join("x"))];
        targets.extend(std::iter::repeat_n(good, 100));
        let found = try_all(&targets);
        assert_eq!(found.len(), 102);
        assert!(found[0].as_ref().is_err_and(|why| why.contains("refuses")), "{found:?}");
        assert!(found[1].as_ref().is_err_and(|why| why.contains("no such socket")), "{found:?}");
        assert!(found[2..].iter().all(Result::is_ok), "{found:?}");
    }
}
