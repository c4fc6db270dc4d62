//! One health check: asks a server whether it is fit for traffic, and ends the conversation as a polite client does.
//!
//! Each kind has a file. It is given a connection, asks, and says what it learned; the time-out over the whole of it,
//! the transcript and the difference between a backend that fails and a ringway that lacks something are here.

mod http;
mod mysql;
mod password;
mod postgresql;
mod redis;
mod send_expect;
mod stream;
mod tcp;
mod tls;
mod transcript;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::address::Address;
use crate::config::model::{CheckKind, Version};
use crate::health::Facts;
use crate::stats::ConnectError;

use password::Account;
pub(super) use transcript::{Line, Transcript};

/// What to check.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Where to connect.
    pub target: Address,
    /// What to ask there.
    pub kind: CheckKind,
    /// What the connection begins with, and where it comes from.
    pub opening: Opening,
    /// For the whole check; zero is none but the kernel's.
    pub timeout: Duration,
    /// Whether the role of a database is wanted.
    pub role: bool,
    /// Whether the lag of a replica is wanted.
    pub lag: bool,
}

/// How a check connects.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Opening {
    /// A PROXY header goes first, which says nothing of anybody.
    pub header: Option<Version>,
    /// From there; `None` is the kernel's choice.
    pub source: Option<IpAddr>,
}

/// A check that was made.
#[derive(Debug)]
pub(super) struct Checked {
    /// What it found.
    pub outcome: Outcome,
    /// How it went.
    pub transcript: Transcript,
}

/// What a check found.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is fit, and this is what it says of itself.
    Success(Facts),
    /// It is not.
    Failure(Failure),
    /// ringway could not try, for want of descriptors, ports or memory: says nothing about the backend.
    Inconclusive(io::Error),
}

/// Why a check failed. The backend is at fault, or its configuration here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
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
    /// The password could not be read.
    #[error("cannot read `password_file` {}: {error}; make it readable for the user ringway runs as", .path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl Failure {
    fn broken(doing: &'static str, error: io::Error) -> Failure {
        Failure::Broken { doing, error }
    }
}

fn so_far(received: &str) -> String {
    if received.is_empty() { String::new() } else { format!("; it had sent {received}") }
}

/// What of a database is asked beyond whether it lives.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    role: bool,
    lag: bool,
}

/// Why there are no facts.
#[derive(Debug)]
enum Trouble {
    Failure(Failure),
    Inconclusive(io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failure(failure)
    }
}

/// Makes one check. Returns as soon as the result is known; the goodbye goes on in a task of its own, so this runs
/// only inside a `LocalSet`.
pub(super) async fn probe(ask: &Ask) -> Checked {
    let mut transcript = Transcript::begin();
    let check = check(ask, &mut transcript);
    let result = match ask.timeout.is_zero() {
        true => check.await,
        false => match tokio::time::timeout(ask.timeout, check).await {
            Ok(result) => result,
            Err(_) => {
                let (doing, received) = (transcript.doing(), transcript.so_far().to_string());
                Err(Failure::Timeout { timeout: ask.timeout, doing, received }.into())
            }
        },
    };
    let outcome = match result {
        Ok(facts) => Outcome::Success(facts),
        Err(Trouble::Failure(failure)) => {
            transcript.note(format!("failed: {failure}"));
            Outcome::Failure(failure)
        }
        Err(Trouble::Inconclusive(error)) => Outcome::Inconclusive(error),
    };
    Checked { outcome, transcript }
}

async fn check(ask: &Ask, transcript: &mut Transcript) -> Result<Facts, Trouble> {
    transcript.doing_now("reading the password");
    let account = match ask.kind.login() {
        Some(login) => Some(password::account(login).await?),
        None => None,
    };
    let stream = stream::connect(&ask.target, &ask.opening, transcript).await?;
    let (target, account) = (&ask.target, account.as_ref());
    let wanted = Wanted { role: ask.role, lag: ask.lag };
    let result = match (&ask.kind, account) {
        (CheckKind::Tcp, _) => Ok(tcp::check(stream)),
        (CheckKind::SendExpect { send, expect }, _) => {
            send_expect::check(stream, send, expect.as_ref(), transcript).await
        }
        (CheckKind::Http { path, status }, _) => http::check(stream, target, path, status, transcript).await,
        (CheckKind::Postgresql { database, .. }, Some(account)) => {
            postgresql::check(stream, target, account, database, wanted, transcript).await
        }
        (CheckKind::Postgresql { .. }, None) => postgresql::ask(stream, target, transcript).await,
        (CheckKind::Mysql { .. }, Some(account)) => mysql::check(stream, target, account, wanted, transcript).await,
        (CheckKind::Mysql { .. }, None) => mysql::ask(stream, transcript).await,
        (CheckKind::Redis { .. }, account) => redis::check(stream, account, wanted, transcript).await,
    };
    Ok(result?)
}

/// What a connect that failed means.
fn of_connect(error: io::Error) -> Trouble {
    match ConnectError::of(&error) {
        ConnectError::Resource => Trouble::Inconclusive(error),
        _ => Trouble::Failure(Failure::Connect(error)),
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
