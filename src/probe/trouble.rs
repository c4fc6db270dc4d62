//! What can be in the way of a check, and whose fault it is.
//!
//! Only what the server does is a failure. A server that answers and refuses the account of the check lives. What
//! ringway itself lacks says nothing about the server.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tls;
use crate::health::transcript::cut;
use crate::stats::ConnectError;

/// Longer reasons are cut: they stand in logs, in the API and on the page.
const REASON_MAX: usize = 1000;

/// Why there are no facts.
#[derive(Debug)]
pub(super) enum CheckTrouble {
    /// The server is at fault.
    Failure(CheckFailure),
    /// The server answers, and does not let the account in or does not answer it: it lives.
    Refused(String),
    /// ringway could not find out.
    Unknown(Lack),
}

/// Why a check failed. The server is at fault, or where it is configured to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckFailure {
    /// Not done within the time-out.
    #[error("no answer within {} ms while {doing}{}", .timeout.as_millis(), so_far(.received))]
    Timeout {
        /// For the whole check.
        timeout: Duration,
        /// What it was waiting for.
        doing: &'static str,
        /// What had come of it.
        received: String,
    },
    /// The attempt to connect failed.
    #[error("{0}")]
    Connect(io::Error),
    /// No program listens on a port of this host that the kernel also gives to clients, and it gave it to the check:
    /// a simultaneous open of TCP with itself (RFC 9293, 3.5).
    #[error(
        "no program listens on that port: the check was connected to itself, because the kernel also gives this port \
         to clients (net.ipv4.ip_local_port_range)"
    )]
    MetItself,
    /// This host has no address from which one of that family can be reached.
    #[error("this host has no {family} address to connect from ({error})")]
    NoFamily {
        /// Of the backend.
        family: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
    /// The pool's `source` is no address of this host now.
    #[error("this host does not have the address {source_ip} that `source` names ({error})")]
    NoSource {
        /// The pool's.
        source_ip: std::net::IpAddr,
        /// The kernel's words.
        error: io::Error,
    },
    /// The connection ended too early.
    #[error("the connection broke while {doing}: {error}")]
    Broken {
        /// What it was waiting for.
        doing: &'static str,
        /// What became of the connection.
        error: io::Error,
    },
    /// The answer says that it is not fit, or is none.
    #[error("{0}")]
    Answer(String),
    /// The server is well, and another port of its host that must accept does not.
    #[error("port {port} of `also_ports`: {failure}")]
    AlsoPort {
        /// Which.
        port: u16,
        /// What happened.
        failure: Box<CheckFailure>,
    },
    /// One of these, with what may be the cause.
    #[error("{failure}; {cause}")]
    Likely {
        /// What happened.
        failure: Box<CheckFailure>,
        /// What may be behind it.
        cause: &'static str,
    },
}

/// What ringway would have needed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lack {
    /// Of the machine.
    #[error("out of descriptors, ports or memory: {0}")]
    Resource(io::Error),
    /// A file that the check needs could not be read.
    #[error("cannot read `{key}` {}: {error}; make it readable for the user ringway runs as", .path.display())]
    File {
        /// What names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// This host knows no authority.
    #[error("this host knows no certificate authority ({0}); install ca-certificates, or name a file with `ca_file`")]
    Authorities(String),
    /// The word of an agent: it does not answer, or not as one.
    #[error("its agent: {0}")]
    Agent(String),
    /// A way to speak that both understand, or that ringway may use.
    #[error("{0}")]
    Agreement(String),
}

impl Lack {
    /// A file that could not be read, or this host had no means to.
    pub(super) fn of_file(key: &'static str, path: &Path, error: io::Error) -> Lack {
        match ConnectError::of(&error) {
            ConnectError::Resource => Lack::Resource(error),
            _ => Lack::File { key, path: path.to_path_buf(), error },
        }
    }

    /// No port is left to connect from: then sessions do not get there either.
    pub(crate) fn is_of_ports(&self) -> bool {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable};
        matches!(self, Lack::Resource(error) if matches!(error.kind(), AddrInUse | AddrNotAvailable))
    }
}

impl CheckTrouble {
    /// The connection ended, or could not be used any more.
    pub(super) fn broken(doing: &'static str, error: io::Error) -> CheckTrouble {
        match ConnectError::of(&error) {
            ConnectError::Resource => CheckTrouble::Unknown(Lack::Resource(error)),
            _ if tls::is_refusal(&error) => tls::no_agreement(&error.to_string()),
            _ => CheckTrouble::Failure(CheckFailure::Broken { doing, error }),
        }
    }

    /// An answer that says it is not fit, or that is none.
    pub(super) fn answer(text: impl Into<String>) -> CheckTrouble {
        CheckTrouble::Failure(CheckFailure::Answer(text.into()))
    }

    /// ringway and the server find no way to speak.
    pub(super) fn no_agreement(text: impl Into<String>) -> CheckTrouble {
        CheckTrouble::Unknown(Lack::Agreement(text.into()))
    }
}

impl From<CheckFailure> for CheckTrouble {
    fn from(failure: CheckFailure) -> CheckTrouble {
        CheckTrouble::Failure(failure)
    }
}

/// A reason as it is told outside: bounded.
pub fn reason(text: &impl ToString) -> std::sync::Arc<str> {
    let mut text = text.to_string();
    cut(&mut text, REASON_MAX);
    text.into()
}

/// What the server had sent until then, for a reason that ends with a time-out.
fn so_far(received: &str) -> String {
    if received.is_empty() { String::new() } else { format!("; it had sent {received}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_and_a_lack_of_ports_is_told_from_others() {
        assert!(reason(&"x".repeat(10 << 20)).len() <= REASON_MAX + 3);
        let lack = |code| Lack::Resource(io::Error::from_raw_os_error(code));
        assert!(lack(99).is_of_ports() && lack(98).is_of_ports(), "EADDRNOTAVAIL, EADDRINUSE");
        assert!(!lack(24).is_of_ports() && !Lack::Agreement("x".to_string()).is_of_ports(), "EMFILE");
    }

    #[test]
    fn what_breaks_for_want_of_memory_is_no_failure() {
        let broken = |code| CheckTrouble::broken("reading", io::Error::from_raw_os_error(code));
        assert!(matches!(broken(105), CheckTrouble::Unknown(Lack::Resource(_))), "ENOBUFS");
        assert!(matches!(broken(104), CheckTrouble::Failure(CheckFailure::Broken { .. })), "ECONNRESET");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let alert = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert!(matches!(CheckTrouble::broken("reading", alert), CheckTrouble::Unknown(Lack::Agreement(_))));
    }
}
