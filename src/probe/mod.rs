//! One health check: it asks a server whether it is fit for traffic, and ends the conversation as a polite client does.
//!
//! Each kind of check has a file. It is given a connection, asks, and says what it learned. Common to all of them, and
//! here: the time-out over the whole check, the budget of bytes, the transcript, and the difference between a server
//! that fails and a ringway that lacks something.
//!
//! ```text
//! control::tasks ─> probe(Ask) ─> password ─> stream (connect, PROXY header) ─> tcp | http | postgresql | …
//!                                                                                         └> Facts
//! Outcome:  Success(Facts)   fit; what a database says of its role and lag
//!           Refused          it lives, but refuses the check's account: what was known stays
//!           Failure          not fit
//!           Unknown          ringway could not find out: says nothing about the server
//! ```
//!
//! Nothing here keeps state between two checks. How often a target is checked, and how many results it takes to change
//! its state, is decided in `health`; what follows for the backends of a pool, in `fleet`.

mod agent;
mod budget;
mod cause;
mod finding;
mod http;
mod mysql;
mod password;
mod postgresql;
mod redis;
mod send_expect;
mod stream;
mod tcp;
mod terms;
mod tls;
mod trouble;
mod trust;

use std::io;

use crate::health::Facts;
use crate::health::agent::Advice;
use crate::health::ask::{Ask, CheckKind};
use crate::health::transcript::Transcript;

use budget::Budget;
pub(crate) use finding::Said;
use password::Credentials;
use terms::Terms;
pub(crate) use trouble::reason;
use trouble::{CheckFailure, CheckTrouble, Lack};

/// A check that was made.
#[derive(Debug)]
pub(crate) struct Checked {
    /// What it found.
    pub outcome: Outcome,
    /// How it went.
    pub transcript: Transcript,
}

/// What a check found.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is fit, and this is what it says of itself.
    Success(Facts),
    /// It answers, and refuses the account of the check: it lives, and what else is known of it is what was known.
    Refused(String),
    /// It is not fit.
    Failure(CheckFailure),
    /// An agent was asked, and advises this.
    Advice(Advice),
    /// ringway could not find out, for want of something of its own: says nothing about the backend.
    Unknown(Lack),
}

/// What of a database is asked beyond whether it lives.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Whether it is primary or replica.
    role: bool,
    /// How far a replica is behind.
    lag: bool,
}

/// What a conversation gave.
enum Told {
    /// What a server says of itself.
    Facts(Facts),
    /// What an agent says of its server.
    Advice(Advice),
}

/// Makes one check. Returns as soon as the result is known; the goodbye goes on in a task of its own, so this runs
/// only inside a `LocalSet`.
pub(crate) async fn probe(ask: &Ask) -> Checked {
    let mut transcript = Transcript::begin();
    let result = check(ask, &mut transcript).await;
    let outcome = match result {
        Ok(Told::Facts(facts)) => Outcome::Success(facts),
        Ok(Told::Advice(advice)) => Outcome::Advice(advice),
        Err(CheckTrouble::Refused(text)) => {
            transcript.note(format!("it lives, but {text}"));
            Outcome::Refused(text)
        }
        // An agent that is away says nothing about its server.
        Err(CheckTrouble::Failure(failure)) if ask.kind == CheckKind::Agent => {
            transcript.note(format!("not found out: {failure}"));
            Outcome::Unknown(Lack::Agent(failure.to_string()))
        }
        Err(CheckTrouble::Failure(failure)) => {
            transcript.note(format!("failed: {failure}"));
            Outcome::Failure(failure)
        }
        Err(CheckTrouble::Unknown(lack)) => {
            transcript.note(format!("not found out: {lack}"));
            Outcome::Unknown(lack)
        }
    };
    Checked { outcome, transcript }
}

/// The whole check, within its time-out.
async fn check(ask: &Ask, transcript: &mut Transcript) -> Result<Told, CheckTrouble> {
    transcript.doing_now("reading its files");
    // This comes before connecting, and has a time-out of its own: a file that hangs is no fault of the server.
    let account = match ask.kind.login() {
        Some(login) => Some(password::account(login, ask.timeout).await?),
        None => None,
    };
    let terms = terms::of(ask, ask.timeout).await?;
    let budget = Budget::begin();
    let conversation = converse(ask, (account.as_ref(), terms.as_ref()), &budget, transcript);
    let result = match ask.timeout.is_zero() {
        true => conversation.await,
        false => match tokio::time::timeout(ask.timeout, conversation).await {
            Ok(result) => result,
            Err(_) => {
                let (doing, received) = (transcript.doing(), transcript.so_far().to_string());
                Err(CheckFailure::Timeout { timeout: ask.timeout, doing, received }.into())
            }
        },
    };
    match result {
        Err(CheckTrouble::Failure(_)) if budget.is_crowded() => {
            let error = io::Error::other("all checks together are being sent too much");
            Err(CheckTrouble::Unknown(Lack::Resource(error)))
        }
        Err(CheckTrouble::Failure(failure)) => Err(cause::with_the_likely(failure, ask, &budget).into()),
        result => result,
    }
}

/// Connects, and has the kind of the check lead the conversation.
async fn converse(
    ask: &Ask,
    (account, terms): (Option<&Credentials>, Option<&Terms>),
    budget: &std::rc::Rc<Budget>,
    transcript: &mut Transcript,
) -> Result<Told, CheckTrouble> {
    let wanted = Wanted { role: ask.role, lag: ask.lag };
    let is_bare = ask.kind == CheckKind::Tcp && terms.is_none();
    let way = stream::Way { target: &ask.target, opening: &ask.opening, is_bare, budget, terms };
    for port in &ask.also_ports {
        way.knock(*port, transcript).await?;
    }
    let mut stream = way.connect(transcript).await?;
    // Those two ask for TLS in their own protocol.
    let asks_inside = matches!(ask.kind, CheckKind::Postgresql { .. } | CheckKind::Mysql { .. });
    if let Some(terms) = terms.filter(|_| !asks_inside) {
        stream = tls::begin(stream, terms, transcript).await?;
    }
    let facts = match (&ask.kind, account) {
        (CheckKind::Agent, _) => return agent::check(stream, transcript).await.map(Told::Advice),
        (CheckKind::Tcp, _) => Ok(tcp::check(stream, &ask.opening)),
        (CheckKind::SendExpect { steps }, _) => send_expect::check(stream, steps, transcript).await,
        (CheckKind::Http(page), _) => http::check(stream, &ask.target, page, budget, transcript).await,
        (CheckKind::Postgresql { database, .. }, Some(account)) => {
            postgresql::check(stream, &way, account, database, wanted, transcript).await
        }
        (CheckKind::Postgresql { .. }, None) => postgresql::ask(stream, &way, transcript).await,
        (CheckKind::Mysql { galera, .. }, Some(account)) => {
            mysql::check(stream, &way, account, (wanted, *galera), transcript).await
        }
        (CheckKind::Mysql { .. }, None) => mysql::ask(stream, &way, transcript).await,
        (CheckKind::Redis { .. }, account) => redis::check(stream, account, wanted, transcript).await,
    };
    facts.map(Told::Facts)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
