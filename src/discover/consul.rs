//! A service of Consul or of Nomad, followed by blocking queries.
//!
//! A query names the index that the last reply came with, and the server answers when something has changed, or after
//! `wait`. So a change is known immediately, and a service that does not change costs a request per minute:
//!
//! ```text
//! ask(index) ── reply ──> Query::on ──> News, and how long to wait before the next one
//!            ── error ──> Query::on ──> News::Failed, the index starts anew, a pause that grows
//! ```
//!
//! [`query`] decides all of it and is pure; [`entries`] reads what a reply says. A reply is not taken as it comes: one
//! of a cluster without a leader may be old, and one that an ACL has made empty is no empty service.
//!
//! Sources: the pages "Blocking Queries", "Health" and "Consistency Modes" of Consul's HTTP API, and the pages
//! "Services" and "HTTP API" of Nomad's.

mod entries;
mod query;

use std::time::Duration;

use tokio::time::sleep;

use super::dns::Resolver;
use super::found::News;
use super::http::{HttpError, HttpReply, HttpRequest, HttpTls, secret, send};
use super::settings::ConsulSource;
use crate::base::time::Clock;
use entries::Dialect;
use query::{Query, QueryEvent, ReplyFacts};

/// The longest reply, in bytes. 10,000 instances with their checks have some 20 MB.
const BODY_MAX: usize = 64 << 20;
/// How long the body can take once it comes.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a file can take.
const FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// Follows a service of Consul, and tells what instances it has, for as long as it is polled.
pub async fn follow(settings: &ConsulSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    follow_as(Dialect::Consul, settings, resolver, tell).await;
}

/// The same of Nomad, which knows nothing of checks and weights.
pub async fn follow_nomad(settings: &ConsulSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    follow_as(Dialect::Nomad, settings, resolver, tell).await;
}

/// Asks again and again.
async fn follow_as(dialect: Dialect, settings: &ConsulSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    let (clock, tls) = (Clock::new(), HttpTls::from(&settings.access));
    let mut query = Query::new(dialect, settings);
    loop {
        let begun = clock.now();
        let event = match ask(dialect, settings, &tls, resolver, &query).await {
            Ok((facts, body)) => {
                let took = Duration::from_nanos(clock.now().since_ns(begun));
                QueryEvent::Reply { facts, body, took }
            }
            Err(event) => event,
        };
        let (news, pause) = query.on(event, fastrand::u64(..));
        tell(news);
        sleep(pause).await;
    }
}

/// Asks once. The error is what the query is told instead of a reply.
async fn ask(
    dialect: Dialect,
    settings: &ConsulSource,
    tls: &HttpTls,
    resolver: &Resolver,
    query: &Query<'_>,
) -> Result<(ReplyFacts, Vec<u8>), QueryEvent> {
    let failed = |why: String| QueryEvent::Failed { why, retry_after: None };
    let mut headers = Vec::new();
    if let Some(path) = &settings.access.token_file {
        let token = secret(path, FILE_TIMEOUT).await.map_err(|why| failed(format!("`token_file`: {why}")))?;
        headers.push((dialect.token_header(), token));
    }
    let (path, timeout) = query.next(fastrand::u64(..));
    let request = HttpRequest { headers, ..HttpRequest::get(&path) };
    let told = |error: HttpError| failed(error.to_string());
    let reply = send(&settings.endpoint, tls, resolver, request, timeout).await.map_err(told)?;
    if !reply.is_success() {
        let retry_after = reply.retry_after();
        return Err(QueryEvent::Failed { why: reply.refusal(FILE_TIMEOUT).await.to_string(), retry_after });
    }
    let facts = facts(dialect, &reply);
    let body = reply.body(BODY_MAX, BODY_TIMEOUT).await.map_err(told)?;
    Ok((facts, body))
}

/// What the header of a reply says.
fn facts(dialect: Dialect, reply: &HttpReply) -> ReplyFacts {
    let header = |name: &str| reply.header(&format!("{}{name}", dialect.header_prefix()));
    ReplyFacts {
        index: header("index").and_then(|text| text.parse().ok()).unwrap_or(0),
        has_leader: header("knownleader") != Some("false"),
        last_contact: Duration::from_millis(header("lastcontact").and_then(|text| text.parse().ok()).unwrap_or(0)),
        is_filtered: header("results-filtered-by-acls") == Some("true"),
    }
}

#[cfg(test)]
mod tests;
