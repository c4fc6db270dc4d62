//! One health check: asks a server whether it is fit for traffic, and ends the conversation as a polite client does.
//!
//! Each kind has a file. It is given a connection, asks, and says what it learned; the time-out over the whole of it,
//! the transcript and the difference between a backend that fails and a ringway that lacks something are here.

mod stream;
mod tcp;
mod transcript;

use std::io;
use std::time::Duration;

use crate::base::address::Address;
use crate::config::model::CheckKind;
use crate::health::Facts;
use crate::stats::ConnectError;

pub(super) use transcript::Transcript;

/// What to check.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the kinds that ask for a role come next")]
pub(super) struct Ask {
    /// Where to connect.
    pub target: Address,
    /// What to ask there.
    pub kind: CheckKind,
    /// For the whole check; zero is none but the kernel's.
    pub timeout: Duration,
    /// Whether the role of a database is wanted.
    pub role: bool,
    /// Whether the lag of a replica is wanted.
    pub lag: bool,
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
    #[error("no answer within {} ms while {doing}", .timeout.as_millis())]
    Timeout {
        /// For the whole check.
        timeout: Duration,
        /// What it was waiting for.
        doing: &'static str,
    },
    /// The attempt to connect failed.
    #[error("{0}")]
    Connect(io::Error),
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
            Err(_) => Err(Failure::Timeout { timeout: ask.timeout, doing: transcript.doing() }.into()),
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
    let stream = stream::connect(&ask.target, transcript).await?;
    match &ask.kind {
        CheckKind::Tcp => Ok(tcp::check(stream)),
        // The configuration refuses the others, so far.
        _ => Ok(tcp::check(stream)),
    }
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
