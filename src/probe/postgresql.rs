//! `postgresql`: logs in and asks for role and lag; without an account it asks only whether TLS is spoken.
//!
//! That question, `SSLRequest`, is the one that PostgreSQL answers without a word in its log: it expects clients that
//! do not like the answer to leave. What follows a yes must be a whole TLS handshake with a close of its own.

mod guard;

use std::fmt::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::stream::{LINGER, Stream, Way, part};
use super::terms::Terms;
use super::tls::{self, Handshake};
use super::{CheckTrouble, Credentials, Transcript, Wanted};
use crate::base::time::ns;
use crate::config::model::Role;
use crate::health::Facts;
use crate::health::transcript::printable;
use guard::Guarded;

/// Length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// In recovery or not; of a primary the timeline, which each promotion raises.
const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN \
        pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END";
/// Milliseconds that a replica lags behind. The time since the last transaction it replayed, but while it hears its
/// primary and has replayed all it got: then 0, since the primary may just be idle. An account that cannot see the
/// status of the receiver sees at least whether one is there, and none is once it is cut off.
const LAG: &str = ", CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL \
    WHEN pg_catalog.pg_last_wal_receive_lsn() <= pg_catalog.pg_last_wal_replay_lsn() AND EXISTS \
        (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status IS NULL OR status = 'streaming') THEN 0 \
    ELSE pg_catalog.ceil(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - \
        pg_catalog.pg_last_xact_replay_timestamp()) * 1000)::pg_catalog.int8 END";

/// Without an account.
pub(super) async fn ask(stream: Stream, way: &Way<'_>, transcript: &mut Transcript) -> Result<Facts, CheckTrouble> {
    let Some(terms) = way.terms else {
        // There is nothing to ask; `config::check` refuses that.
        part(stream);
        return Ok(Facts::default());
    };
    match negotiate(stream, terms, transcript).await? {
        Negotiated::Done(stream) => part(stream),
        // It speaks PostgreSQL and TLS, and that was the question.
        Negotiated::NoCommonTls(why) => transcript.remark(tls::advice(&why)),
    }
    Ok(Facts::default())
}

/// With one.
pub(super) async fn check(
    stream: Stream,
    way: &Way<'_>,
    account: &Credentials,
    database: &str,
    wanted: Wanted,
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    let Some(terms) = way.terms else {
        return log_in_and_ask(stream, account, database, wanted, transcript).await;
    };
    let (stream, without_tls) = match negotiate(stream, terms, transcript).await? {
        Negotiated::Done(stream) => (stream, None),
        Negotiated::NoCommonTls(why) => {
            transcript.note(format!("no TLS that both speak ({why}); again without it"));
            (way.connect(transcript).await?, Some(why))
        }
    };
    let result = log_in_and_ask(stream, account, database, wanted, transcript).await;
    match without_tls {
        None => result,
        Some(why) => tls::found_without(result, &why, transcript),
    }
}

/// Logs in over a stream that is secret already, or need not be, and asks what is wanted.
async fn log_in_and_ask(
    stream: Stream,
    account: &Credentials,
    database: &str,
    wanted: Wanted,
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    let mut config = Config::new();
    // Whether it is TLS has been settled.
    config.user(&account.user).dbname(database).application_name("ringway").ssl_mode(SslMode::Disable);
    if let Some(password) = &account.password {
        config.password(password);
    }
    transcript.doing_now("logging in");
    let (stream, verdict) = Guarded::new(stream, account.password.is_some());
    let trouble = |error: &tokio_postgres::Error| verdict.borrow_mut().take().unwrap_or_else(|| refused(error));
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| trouble(&error))?;
    transcript.note(format!("logged in as {}", printable(account.user.as_bytes())));
    // Ends when it is dropped, and so with a check that takes too long.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move { drop(connection.await) });
    let facts = match wanted.role || wanted.lag {
        true => facts(&client, wanted, &trouble, transcript).await,
        false => Ok(Facts::default()),
    };
    // Terminate is sent when the client is gone.
    drop(client);
    tokio::task::spawn_local(async move { drop(tokio::time::timeout(LINGER, tasks.join_next()).await) });
    facts
}

/// What came of asking for TLS.
enum Negotiated {
    /// A stream, secret if the server has TLS.
    Done(Stream),
    /// It has TLS, none that ringway speaks, and the check may go on without. The connection is of no use any more.
    NoCommonTls(String),
}

/// TLS if the server has it.
async fn negotiate(mut stream: Stream, terms: &Terms, transcript: &mut Transcript) -> Result<Negotiated, CheckTrouble> {
    let doing = transcript.doing_now("waiting for the answer to SSLRequest");
    stream.write_all(&SSL_REQUEST).await.map_err(|error| CheckTrouble::broken(doing, error))?;
    // One byte and no more: what follows belongs to TLS.
    match stream.read_u8().await.map_err(|error| CheckTrouble::broken(doing, error))? {
        b'N' => {
            transcript.note("SSLRequest: no");
            if terms.is_required { Err(tls::is_missing()) } else { Ok(Negotiated::Done(stream)) }
        }
        b'S' => {
            transcript.note("SSLRequest: yes");
            match tls::handshake(stream, terms, transcript).await {
                Ok(secret) => Ok(Negotiated::Done(secret)),
                Err(Handshake::NoCommon(why)) => Ok(Negotiated::NoCommonTls(why)),
                Err(Handshake::Failed(trouble)) => Err(trouble),
            }
        }
        other => {
            let mut answer = vec![other];
            let _ = stream.take(256).read_buf(&mut answer).await;
            let shown = printable(&answer);
            Err(CheckTrouble::answer(format!(
                "it does not speak the PostgreSQL protocol: SSLRequest was answered {shown}"
            )))
        }
    }
}

/// One simple query for all that is wanted, and what its only row says.
async fn facts(
    client: &Client,
    wanted: Wanted,
    trouble: &impl Fn(&tokio_postgres::Error) -> CheckTrouble,
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    transcript.doing_now("waiting for the answer to a query");
    let query = if wanted.lag { [ROLE, LAG].concat() } else { ROLE.to_string() };
    let answer = client.simple_query(&query).await.map_err(|error| trouble(&error))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |at: usize| row.and_then(|row| row.try_get(at).ok().flatten());
    let mut facts = Facts::default();
    match column(0) {
        Some("t") => facts.role = Some(Role::Replica),
        Some("f") => facts.role = Some(Role::Primary),
        other => {
            let other = printable(format!("{other:?}").as_bytes());
            return Err(CheckTrouble::answer(format!("pg_is_in_recovery() is {other}")));
        }
    }
    let timeline = column(1).and_then(|timeline| u64::from_str_radix(timeline, 16).ok());
    facts.term = timeline.unwrap_or(0);
    let mut note = format!("pg_is_in_recovery() is {}", facts.role == Some(Role::Replica));
    if let Some(timeline) = timeline {
        let _ = write!(note, ", timeline {timeline}");
    }
    if wanted.lag && facts.role == Some(Role::Replica) {
        // A clock that runs behind the primary's would make it negative.
        let lag = column(2).and_then(|lag| lag.parse::<i64>().ok()).map(|lag| u64::try_from(lag).unwrap_or(0));
        match lag {
            Some(lag_ms) => {
                let _ = write!(note, ", {lag_ms} ms behind");
            }
            None => {
                note.push_str(", it hears no primary and has replayed nothing since it started: its lag is unknown")
            }
        }
        facts.lag_ns = lag.map(|lag_ms| ns(Duration::from_millis(lag_ms)));
    }
    transcript.note(note);
    Ok(facts)
}

/// What the server said no with, and what to do where that is known. What it has against the account or the question
/// of the check comes from a server that lives; all else is what each client may meet.
fn refused(error: &tokio_postgres::Error) -> CheckTrouble {
    let Some(said) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = printable(format!("{error}{cause}").as_bytes());
        return match () {
            () if cause.contains("password missing") => {
                CheckTrouble::Refused(format!("{text}; the server wants one: set `password_file`"))
            }
            () if tls::is_refusal(error) => CheckTrouble::no_agreement(tls::advice(&text)),
            () if cause.contains("unsupported authentication method") || cause.contains("unsupported SASL") => {
                CheckTrouble::no_agreement(format!("{text}; let its pg_hba.conf ask the account for scram-sha-256"))
            }
            () => CheckTrouble::answer(text),
        };
    };
    let code = said.code().code();
    let hint = match code {
        "28P01" => "; check `user` and `password_file`",
        "28000" => "; allow the account and this machine in its pg_hba.conf",
        "3D000" => "; check `database`",
        "53300" => "; raise max_connections, or keep some for the check (superuser_reserved_connections)",
        _ => "",
    };
    let (message, shown) = (printable(said.message().as_bytes()), printable(code.as_bytes()));
    let text = format!("{message} (SQLSTATE {shown}){hint}");
    // Class 28: authorization; 42: what the account may not, or the server does not know; 3D: no such database.
    match ["28", "42", "3D"].iter().any(|class| code.starts_with(class)) {
        true => CheckTrouble::Refused(text),
        false => CheckTrouble::answer(text),
    }
}

#[cfg(test)]
mod tests;
