//! `mysql`: logs in; `read_only` tells the role, and what a replica says of itself its lag.
//!
//! Without an account there is no way to ask that leaves no trace. Leaving after the greeting counts against
//! `max_connect_errors`, and when that is reached the server refuses the whole host, sessions of clients with it. So
//! the check tries to log in as a user that does not exist: that is refused, but never counted. MariaDB writes a
//! warning of it to its log unless `log_warnings` is below 2, MySQL only if `log_error_verbosity` is 3.

mod login;
mod wire;

use std::time::Duration;

use super::stream::{Stream, Way, part};
use super::{CheckTrouble, Credentials, Transcript, Wanted};
use crate::base::time::ns;
use crate::config::model::Role;
use crate::health::Facts;
use crate::health::ask::Galera;
use crate::health::transcript::printable;
use wire::{Row, Wire};

/// Answers of the same statement in MySQL from 8.0.22 and MariaDB from 10.5, and in those before.
const REPLICA_STATUS: [&str; 2] = ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"];
/// The column with the lag in seconds, in answers of the one and of the other.
const LAG_COLUMNS: [&str; 2] = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
/// Whatever of these a server has. Aurora's readers are told by the last one.
const READ_ONLY: &str =
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only')";
/// What a node says of its place in a Galera cluster (Galera documentation, "Status Variables").
const CLUSTER: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN \
    ('wsrep_local_state', 'wsrep_local_state_comment', 'wsrep_ready')";
/// `wsrep_local_state` of a node that is up to date.
const SYNCED: &str = "4";
/// The same of one that brings another up to date.
const DONOR: &str = "2";
/// ER_PARSE_ERROR: the server does not know the statement, so the older one is tried.
const SYNTAX_ERROR: u16 = 1064;

/// Without an account.
pub(super) async fn ask(stream: Stream, way: &Way<'_>, transcript: &mut Transcript) -> Result<Facts, CheckTrouble> {
    let wire = login::as_nobody(Wire::new(stream, transcript), way).await?;
    part(wire.stream);
    Ok(Facts::default())
}

/// With one.
pub(super) async fn check(
    stream: Stream,
    way: &Way<'_>,
    account: &Credentials,
    (wanted, galera): (Wanted, Option<Galera>),
    transcript: &mut Transcript,
) -> Result<Facts, CheckTrouble> {
    let mut wire = login::log_in(Wire::new(stream, transcript), way, account).await?;
    let fit = match galera {
        Some(galera) => in_cluster(&mut wire, galera).await,
        None => Ok(()),
    };
    let facts = match fit {
        Ok(()) => facts(&mut wire, wanted).await,
        Err(trouble) => Err(trouble),
    };
    // Whatever was found, it ends as it should: with QUIT.
    if quit(&mut wire).await.is_ok() {
        part(wire.stream);
    }
    facts
}

/// Asks what is wanted. The lag is asked only of a replica.
async fn facts(wire: &mut Wire<'_>, wanted: Wanted) -> Result<Facts, CheckTrouble> {
    let mut facts = Facts::default();
    if wanted.role || wanted.lag {
        facts.role = Some(role(wire).await?);
    }
    if wanted.lag && facts.role == Some(Role::Replica) {
        facts.lag_ns = lag_ns(wire).await?;
    }
    Ok(facts)
}

/// Whether a node of a Galera cluster is fit: it takes part, and is up to date.
///
/// # Errors
/// It is not, it is no node of one, or it refuses the question.
async fn in_cluster(wire: &mut Wire<'_>, galera: Galera) -> Result<(), CheckTrouble> {
    let rows = wire.query(CLUSTER).await?.map_err(|error| error.refusal("it does not tell `wsrep_local_state`"))?;
    let value = |wanted: &str| settings(&rows).find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let Some(state) = value("wsrep_local_state") else {
        return Err(CheckTrouble::answer("it is no node of a Galera cluster: it has no `wsrep_local_state`"));
    };
    let comment = printable(value("wsrep_local_state_comment").unwrap_or("of no name").as_bytes());
    let shown = format!("its wsrep_local_state is {} ({comment})", printable(state.as_bytes()));
    let takes_donors = galera == Galera::SyncedOrDonor;
    if !(state == SYNCED || (state == DONOR && takes_donors)) {
        let hint = if state == DONOR { "; galera = \"donor\" would take it" } else { "" };
        return Err(CheckTrouble::answer(format!("{shown}{hint}")));
    }
    // A node that has lost sight of most others answers no query that reads a table.
    if value("wsrep_ready").is_some_and(|ready| ready == "OFF") {
        return Err(CheckTrouble::answer(format!(
            "{shown}, but wsrep_ready is OFF: it is not with most of its cluster"
        )));
    }
    wire.transcript.note(shown);
    Ok(())
}

/// The names and values that `SHOW ... STATUS` and `SHOW ... VARIABLES` answer.
fn settings(rows: &[Row]) -> impl Iterator<Item = (&str, &str)> {
    rows.iter().filter_map(|row| match row.as_slice() {
        [(_, Some(name)), (_, Some(value))] => Some((name.as_str(), value.as_str())),
        _ => None,
    })
}

/// A server is a replica if any of its read-only settings is on.
///
/// # Errors
/// It does not tell `read_only`, or refuses the question.
async fn role(wire: &mut Wire<'_>) -> Result<Role, CheckTrouble> {
    let rows = wire.query(READ_ONLY).await?.map_err(|error| error.refusal("it does not tell `read_only`"))?;
    if !settings(&rows).any(|(name, _)| name == "read_only") {
        return Err(CheckTrouble::answer("it does not tell `read_only`".to_string()));
    }
    // MariaDB has more than one way of being on.
    let on = settings(&rows).find(|(_, value)| !["OFF", "0"].contains(value));
    match on {
        Some((name, value)) => wire.transcript.note(format!("it is a replica: {name} = {value}")),
        None => wire.transcript.note("it is the primary: read_only = OFF"),
    }
    Ok(if on.is_some() { Role::Replica } else { Role::Primary })
}

/// Of the source it follows, or the one of several that it is furthest behind; `None` if it does not know of one, or
/// does not tell: then the role counts all the same.
async fn lag_ns(wire: &mut Wire<'_>) -> Result<Option<u64>, CheckTrouble> {
    let rows = match wire.query(REPLICA_STATUS[0]).await? {
        Err(error) if error.code == SYNTAX_ERROR => wire.query(REPLICA_STATUS[1]).await?,
        answer => answer,
    };
    let rows = match rows.map_err(|error| error.refusal("it does not tell its lag")) {
        Ok(rows) => rows,
        Err(CheckTrouble::Refused(text)) => {
            wire.transcript.remark(text);
            return Ok(None);
        }
        Err(trouble) => return Err(trouble),
    };
    let lag = |row: &Row| {
        let (_, lag) = row.iter().find(|(name, _)| LAG_COLUMNS.contains(&&**name))?;
        lag.as_ref()?.parse::<u64>().ok()
    };
    let all: Option<Vec<u64>> = rows.iter().map(lag).collect();
    let worst = all.as_ref().and_then(|all| all.iter().max().copied());
    wire.transcript.note(match (worst, rows.is_empty()) {
        (Some(seconds), _) => format!("it is {seconds} s behind"),
        (None, true) => "it follows no primary: its lag is unknown".to_string(),
        (None, false) => "replication does not run: its lag is unknown".to_string(),
    });
    Ok(worst.map(|seconds| ns(Duration::from_secs(seconds))))
}

/// COM_QUIT, so that the server does not count a connection that broke off.
async fn quit(wire: &mut Wire<'_>) -> Result<(), CheckTrouble> {
    wire.restart();
    wire.write(&[0x01]).await
}

#[cfg(test)]
mod tests;
