//! What is counted and said of TLS with clients and backends.

use std::fmt;

use super::{Counter, Histogram};
use crate::base::side::Side;

/// Handshakes that are over, of one listener or pool by one worker.
#[derive(Debug, Default)]
pub struct HandshakeCells {
    /// Those that succeeded: TLS 1.2 and 1.3, a new session and one that was resumed.
    done: [[Counter; 2]; 2],
    /// Those that failed.
    failed: Counter,
    /// From the accept to the end, of those that succeeded.
    pub took_ns: Histogram,
}

impl HandshakeCells {
    /// The cell of a handshake: whether it agreed on TLS 1.3, and whether it resumed a session; `None` if it failed.
    pub fn of(&self, agreed: Option<(bool, bool)>) -> &Counter {
        match agreed {
            Some((is_tls13, is_resumed)) => &self.done[usize::from(is_tls13)][usize::from(is_resumed)],
            None => &self.failed,
        }
    }
}

/// The labels `result`, `version` and `resumed` of a cell, and what it is the cell of.
pub type HandshakeLabels = ([&'static str; 3], Option<(bool, bool)>);

/// Those of each cell.
pub const HANDSHAKES: [HandshakeLabels; 5] = [
    (["success", "1.2", "false"], Some((false, false))),
    (["success", "1.2", "true"], Some((false, true))),
    (["success", "1.3", "false"], Some((true, false))),
    (["success", "1.3", "true"], Some((true, true))),
    (["failure", "", "false"], None),
];

/// What was agreed on in a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TlsFacts {
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
    /// The cipher suite by its name as in the register of IANA.
    pub cipher: &'static str,
    /// Whether an earlier session goes on.
    pub is_resumed: bool,
}

/// Why TLS failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsEndReason {
    /// There was no agreement: why.
    Handshake(Box<str>),
    /// That side gave up, with this alert.
    Alerted(Side, Box<str>),
    /// That side broke the rules, and was told this.
    Broken(Side, Box<str>),
}

impl fmt::Display for TlsEndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsEndReason::Handshake(cause) => f.write_str(cause),
            TlsEndReason::Alerted(side, alert) => write!(f, "the {} sent the alert {alert}", peer(*side)),
            TlsEndReason::Broken(side, alert) => write!(f, "the {} broke the rules of TLS: {alert}", peer(*side)),
        }
    }
}

/// The word for a side.
fn peer(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Backend => "backend",
    }
}
