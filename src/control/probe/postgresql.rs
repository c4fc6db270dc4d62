//! `postgresql`: logs in and asks for role and lag; without an account it asks only whether TLS is spoken.
//!
//! That question, `SSLRequest`, is the one that PostgreSQL answers without a word in its log: it expects clients that
//! do not like the answer to leave. What follows a yes must be a whole TLS handshake with a close of its own.

use std::fmt::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::stream::{LINGER, Stream, part};
use super::transcript::printable;
use super::{Account, Failure, Transcript, Wanted, tls};
use crate::base::address::Address;
use crate::base::time::ns;
use crate::config::model::Role;
use crate::health::Facts;

/// Length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// In recovery or not; of a primary the timeline, which each promotion raises.
const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN \
        pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END";
/// Milliseconds that a replica lags behind. The time since the last transaction it replayed, but while it hears its
/// primary and has replayed all it got: then 0, since the primary may just be idle. Who may not see the status of the
/// receiver sees at least whether one is there, and none is once it is cut off.
const LAG: &str = ", CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL \
    WHEN pg_catalog.pg_last_wal_receive_lsn() <= pg_catalog.pg_last_wal_replay_lsn() AND EXISTS \
        (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status IS NULL OR status = 'streaming') THEN 0 \
    ELSE pg_catalog.ceil(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - \
        pg_catalog.pg_last_xact_replay_timestamp()) * 1000)::pg_catalog.int8 END";

/// Without an account.
pub(super) async fn ask(stream: Stream, target: &Address, transcript: &mut Transcript) -> Result<Facts, Failure> {
    part(negotiate(stream, target, transcript).await?);
    Ok(Facts::default())
}

/// With one.
pub(super) async fn check(
    stream: Stream,
    target: &Address,
    account: &Account,
    database: &str,
    wanted: Wanted,
    transcript: &mut Transcript,
) -> Result<Facts, Failure> {
    let stream = negotiate(stream, target, transcript).await?;
    let mut config = Config::new();
    // Whether it is TLS has been settled.
    config.user(&account.user).dbname(database).application_name("ringway").ssl_mode(SslMode::Disable);
    if let Some(password) = &account.password {
        config.password(password);
    }
    transcript.doing_now("logging in");
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| refused(&error))?;
    transcript.note(format!("logged in as {}", printable(account.user.as_bytes())));
    // Ends when it is dropped, and so with a check that takes too long.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move { drop(connection.await) });
    let facts = match wanted.role || wanted.lag {
        true => facts(&client, wanted, transcript).await,
        false => Ok(Facts::default()),
    };
    // Terminate is sent when the client is gone.
    drop(client);
    tokio::task::spawn_local(async move { drop(tokio::time::timeout(LINGER, tasks.join_next()).await) });
    facts
}

/// TLS if the server has it.
async fn negotiate(mut stream: Stream, target: &Address, transcript: &mut Transcript) -> Result<Stream, Failure> {
    let doing = transcript.doing_now("waiting for the answer to SSLRequest");
    stream.write_all(&SSL_REQUEST).await.map_err(|error| Failure::broken(doing, error))?;
    // One byte and no more: what follows belongs to TLS.
    match stream.read_u8().await.map_err(|error| Failure::broken(doing, error))? {
        b'N' => {
            transcript.note("SSLRequest: no");
            Ok(stream)
        }
        b'S' => {
            transcript.note("SSLRequest: yes");
            transcript.doing_now("beginning TLS");
            let secret = tls::handshake(stream, target).await;
            let secret = secret.map_err(|error| Failure::Answer(format!("TLS cannot be begun: {error}")))?;
            transcript.note("TLS begun");
            Ok(secret)
        }
        other => {
            let mut answer = vec![other];
            let _ = stream.take(256).read_buf(&mut answer).await;
            let shown = printable(&answer);
            Err(Failure::Answer(format!("it does not speak the PostgreSQL protocol: SSLRequest was answered {shown}")))
        }
    }
}

async fn facts(client: &Client, wanted: Wanted, transcript: &mut Transcript) -> Result<Facts, Failure> {
    transcript.doing_now("waiting for the answer to a query");
    let query = if wanted.lag { [ROLE, LAG].concat() } else { ROLE.to_string() };
    let answer = client.simple_query(&query).await.map_err(|error| refused(&error))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |at: usize| row.and_then(|row| row.try_get(at).ok().flatten());
    let mut facts = Facts::default();
    match column(0) {
        Some("t") => facts.role = Some(Role::Replica),
        Some("f") => facts.role = Some(Role::Primary),
        other => return Err(Failure::Answer(format!("pg_is_in_recovery() is {other:?}"))),
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

/// What the server said no with, and what to do where that is known.
fn refused(error: &tokio_postgres::Error) -> Failure {
    let Some(said) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let hint = if cause.contains("password missing") { "; the server wants one: set `password_file`" } else { "" };
        return Failure::Answer(format!("{}{hint}", printable(format!("{error}{cause}").as_bytes())));
    };
    let hint = match said.code().code() {
        "28P01" => "; check `user` and `password_file`",
        "28000" => "; allow the account and this machine in its pg_hba.conf",
        "3D000" => "; check `database`",
        "53300" => "; raise max_connections, or keep some for the check (superuser_reserved_connections)",
        _ => "",
    };
    let (message, code) = (printable(said.message().as_bytes()), printable(said.code().code().as_bytes()));
    Failure::Answer(format!("{message} (SQLSTATE {code}){hint}"))
}

#[cfg(test)]
mod tests;
