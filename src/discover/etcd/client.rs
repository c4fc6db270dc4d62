//! Requests to one member of etcd, by its JSON API.
//!
//! With a user each request has a token, which etcd gives for the password and which ends: after 5 min without a
//! request, or with the member that gave it, unless etcd signs its tokens. So a request that is refused for its token
//! is made once more with a new one.

use std::cell::RefCell;
use std::time::Duration;

use super::keyspace::{Keyspace, Listing};
use super::wire::{self, EtcdRefusal, KeyPage};
use crate::discover::dns::Resolver;
use crate::discover::http::{self, HttpReply, HttpRequest, HttpTls, Lines};
use crate::discover::settings::{Access, Endpoint};

/// How long a member has to answer. One that has no leader answers after 7 s, with an error; another member answers
/// sooner.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long the rest of an answer may take.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: a page of keys whose values have 8 KiB each.
const BODY_MAX: usize = 8 * 1024 * 1024;
/// The longest line of a watch, in bytes. etcd sends at most 1.5 MiB at a time, of which base64 makes a third more.
const LINE_MAX: usize = 4 * 1024 * 1024;

/// What is needed to ask.
pub struct EtcdClient<'a> {
    /// How etcd is spoken to.
    access: &'a Access,
    /// The part of it that is TLS.
    tls: HttpTls,
    /// For names of endpoints.
    resolver: &'a Resolver,
    /// What is sent to say which user asks; `None` until it is needed.
    token: RefCell<Option<String>>,
}

/// An attempt without a result.
enum AttemptFault {
    /// etcd has answered that it does not do it.
    Refused(EtcdRefusal),
    /// There is no answer of etcd, for this reason.
    Failed(String),
}

impl<'a> EtcdClient<'a> {
    /// Nothing is asked yet.
    pub fn new(access: &'a Access, resolver: &'a Resolver) -> EtcdClient<'a> {
        EtcdClient { access, tls: HttpTls::from(access), resolver, token: RefCell::default() }
    }

    /// Every key with a prefix, at one revision.
    ///
    /// # Errors
    /// The keys cannot be had; with the reason, which names the endpoint.
    pub async fn list(&self, endpoint: &Endpoint, prefix: &[u8]) -> Result<Keyspace, String> {
        let (mut keyspace, end) = (Keyspace::new(prefix), wire::end_of(prefix));
        let mut from = prefix.to_vec();
        loop {
            // The first page decides at which revision all are read.
            let revision = keyspace.next_revision() - 1;
            let page = self.page(endpoint, wire::ask_range(&from, &end, revision)).await?;
            match keyspace.on_page(&from, page).map_err(|why| format!("{endpoint}: {why}"))? {
                Listing::Next(next) => from = next,
                Listing::Done => return Ok(keyspace),
            }
        }
    }

    /// How many keys with a prefix there are, and which one was changed last. Only a member with a leader answers.
    ///
    /// # Errors
    /// It does not answer; with the reason, which names the endpoint.
    pub async fn newest(&self, endpoint: &Endpoint, prefix: &[u8]) -> Result<KeyPage, String> {
        self.page(endpoint, wire::ask_newest(prefix)).await
    }

    /// The lines of a watch of every key with a prefix, from a revision on.
    ///
    /// # Errors
    /// There is no watch; with the reason, which names the endpoint.
    pub async fn watch(&self, endpoint: &Endpoint, prefix: &[u8], revision: u64) -> Result<Lines, String> {
        let reply = self.ask(endpoint, wire::WATCH, wire::ask_watch(prefix, revision)).await?;
        Ok(reply.lines(LINE_MAX))
    }

    /// The answer to a range.
    async fn page(&self, endpoint: &Endpoint, body: Vec<u8>) -> Result<KeyPage, String> {
        let reply = self.ask(endpoint, wire::RANGE, body).await?;
        let body = reply.body(BODY_MAX, BODY_TIME_MAX).await.map_err(|error| error.to_string())?;
        wire::page(&body).map_err(|why| format!("{endpoint}: {why}"))
    }

    /// Makes a request, logged in if there is a user, and once more if its token has ended. The reply is a success.
    async fn ask(&self, endpoint: &Endpoint, path: &str, body: Vec<u8>) -> Result<HttpReply, String> {
        for _ in 0..2 {
            let token = self.token.borrow().clone();
            let token = match (token, &self.access.user) {
                (None, Some(user)) => self.log_in(endpoint, user).await?,
                (token, _) => token.unwrap_or_default(),
            };
            match self.attempt(endpoint, path, body.clone(), &token).await {
                Ok(reply) => return Ok(reply),
                Err(AttemptFault::Refused(why)) if !why.asks_to_log_in() => return Err(format!("{endpoint}: {why}")),
                Err(AttemptFault::Refused(_)) if self.access.user.is_some() => _ = self.token.take(),
                Err(AttemptFault::Refused(why)) => {
                    return Err(format!("{endpoint}: {why}; set `user` and `password_file`"));
                }
                Err(AttemptFault::Failed(why)) => return Err(why),
            }
        }
        Err(format!("{endpoint}: etcd refuses the token that it has just given"))
    }

    /// Makes a request.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        path: &str,
        body: Vec<u8>,
        token: &str,
    ) -> Result<HttpReply, AttemptFault> {
        let mut headers = vec![("content-type", "application/json".to_string())];
        if !token.is_empty() {
            headers.push(("authorization", token.to_string()));
        }
        let request = HttpRequest { method: "POST", path, headers, body };
        let failed = |why: String| AttemptFault::Failed(why);
        let sent = http::send(endpoint, &self.tls, self.resolver, request, ANSWER_MAX).await;
        let reply = sent.map_err(|error| failed(error.to_string()))?;
        let status = reply.status;
        if reply.is_success() {
            return Ok(reply);
        }
        let body = reply.body(BODY_MAX, BODY_TIME_MAX).await.map_err(|error| failed(error.to_string()))?;
        match wire::refusal(&body) {
            Some(refusal) => Err(AttemptFault::Refused(refusal)),
            None => Err(failed(without_api(endpoint, path, status))),
        }
    }

    /// Gets a token; an empty one if etcd knows no users.
    async fn log_in(&self, endpoint: &Endpoint, user: &str) -> Result<String, String> {
        let password = match &self.access.password_file {
            Some(path) => http::secret(path, ANSWER_MAX).await.map_err(|why| format!("`password_file`: {why}"))?,
            None => String::new(),
        };
        let body = wire::ask_token(user, &password);
        let token = match self.attempt(endpoint, wire::LOG_IN, body, "").await {
            Ok(reply) => {
                let body = reply.body(BODY_MAX, BODY_TIME_MAX).await.map_err(|error| error.to_string())?;
                wire::token(&body).map_err(|why| format!("{endpoint}: {why}"))?
            }
            Err(AttemptFault::Refused(refusal)) if refusal.is_without_users() => String::new(),
            Err(AttemptFault::Refused(refusal)) => return Err(format!("{endpoint}: {refusal}")),
            Err(AttemptFault::Failed(why)) => return Err(why),
        };
        self.token.replace(Some(token.clone()));
        Ok(token)
    }
}

/// Says that a server has no such API.
fn without_api(endpoint: &Endpoint, path: &str, status: u16) -> String {
    match status {
        404 | 501 => format!(
            "{endpoint}: there is no {path}: it is no etcd, one older than 3.4, or its gRPC gateway is off \
             (`enable-grpc-gateway`)"
        ),
        _ => format!("{endpoint}: it answers {status}, and not as etcd does"),
    }
}
