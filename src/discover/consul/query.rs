//! What is asked next, what a reply means, and how long to wait between two requests. Pure.

use std::time::Duration;

use super::entries::Dialect;
use crate::discover::backoff::Backoff;
use crate::discover::found::{Answer, News};
use crate::discover::http::escaped;
use crate::discover::settings::ConsulSource;

/// How long a server holds a query back while nothing changes: between three quarters of this and all of it, so that
/// many that were asked together do not answer together.
const WAIT_S: u64 = 60;
/// How much later than asked a reply can come: Consul adds up to a sixteenth of `wait`, and the way takes time too.
const WAIT_SLACK: Duration = Duration::from_secs(15);
/// How long a server has to answer a query that it does not hold back.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests begin no closer together than this, even if the service changes all the time.
const PACE: Duration = Duration::from_secs(1);
/// The longest pause after a reply that came immediately and said nothing new.
const IDLE_MOST: Duration = Duration::from_secs(5);
/// The longest pause after a failure.
const FAILED_MOST: Duration = Duration::from_secs(10);
/// The longest pause that a server can ask for.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(60);
/// What a server has not heard of its leader for this long may be old.
const LAST_CONTACT_MOST: Duration = Duration::from_secs(10);

/// What the header of a reply says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ReplyFacts {
    /// What the next query names; 0 if there is none.
    pub index: u64,
    /// Whether the server knows a leader of its cluster.
    pub has_leader: bool,
    /// How long the server has not heard of its leader.
    pub last_contact: Duration,
    /// Whether the ACL of the token has removed something.
    pub is_filtered: bool,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum QueryEvent {
    /// A reply of success.
    Reply {
        /// Its header.
        facts: ReplyFacts,
        /// Its body.
        body: Vec<u8>,
        /// How long it took from the beginning of the request.
        took: Duration,
    },
    /// No reply, or a refusal.
    Failed {
        /// In one line, with the server.
        why: String,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// A service that is followed.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// Which server it is.
    dialect: Dialect,
    /// What is asked for.
    settings: &'a ConsulSource,
    /// What the next query names; 0 asks for what there is now.
    index: u64,
    /// What was told last; `None` until there was an answer.
    last: Option<Answer>,
    /// Pauses after failures.
    failed: Backoff,
    /// Pauses after replies that came immediately and said nothing new.
    idle: Backoff,
}

impl<'a> Query<'a> {
    /// Nothing was asked yet.
    pub(super) fn new(dialect: Dialect, settings: &'a ConsulSource) -> Query<'a> {
        let (failed, idle) = (Backoff::new(FAILED_MOST), Backoff::new(IDLE_MOST));
        Query { dialect, settings, index: 0, last: None, failed, idle }
    }

    /// The path to ask for, and how long the answer can take.
    pub(super) fn next(&self, chance: u64) -> (String, Duration) {
        let ConsulSource { service, tag, passing, .. } = self.settings;
        let mut path = match self.dialect {
            Dialect::Consul => format!("/v1/health/service/{}?", escaped(service)),
            Dialect::Nomad => format!("/v1/service/{}?", escaped(service)),
        };
        if self.dialect == Dialect::Consul {
            if *passing {
                path.push_str("passing=1&");
            }
            if !tag.is_empty() {
                path.push_str(&format!("tag={}&", escaped(tag)));
            }
        }
        if self.index == 0 {
            path.pop();
            return (path, TIMEOUT);
        }
        let wait_s = WAIT_S - chance % (WAIT_S / 4 + 1);
        path.push_str(&format!("index={}&wait={wait_s}s", self.index));
        (path, Duration::from_secs(wait_s) + WAIT_SLACK)
    }

    /// What became of the request: what to tell, and how long to wait before the next one. `chance` is a random number.
    pub(super) fn on(&mut self, event: QueryEvent, chance: u64) -> (News, Duration) {
        let (facts, body, took) = match event {
            QueryEvent::Failed { why, retry_after } => return self.fail(why, retry_after, chance),
            QueryEvent::Reply { facts, body, took } => (facts, body, took),
        };
        let endpoint = &self.settings.endpoint;
        let mut answer = match self.dialect.read(&body, self.settings) {
            Ok(answer) => answer,
            Err(why) => return self.fail(format!("{endpoint}: {why}"), None, chance),
        };
        if let Some(why) = self.is_old(&facts) {
            if self.last.is_some() || answer.found.is_empty() {
                return self.fail(why, None, chance);
            }
            // It is better than none, and the next one is told whatever it says.
            answer.trouble = Some(why);
            self.index = 0;
            return (News::Answer(answer), self.failed.pause(chance));
        }
        if facts.is_filtered {
            let why = format!("{endpoint}: it hides something from this token; allow it service:read and node:read");
            if answer.found.is_empty() {
                return self.fail(why, None, chance);
            }
            answer.trouble = Some(why);
        }
        self.take(answer, facts.index, took, chance)
    }

    /// Takes in an answer that counts.
    fn take(&mut self, answer: Answer, index: u64, took: Duration, chance: u64) -> (News, Duration) {
        self.failed.reset();
        // The server was restored, or lost its state: what it says now may be older than what it said.
        self.index = if index < self.index { 0 } else { index };
        let is_new = self.last.as_ref() != Some(&answer);
        let mut pause = PACE.saturating_sub(took);
        if is_new || pause.is_zero() {
            self.idle.reset();
        } else {
            pause = pause.max(self.idle.pause(chance));
        }
        // A trouble is told for as long as it lasts.
        if !is_new && answer.trouble.is_none() {
            return (News::Confirmed, pause);
        }
        self.last = Some(answer.clone());
        (News::Answer(answer), pause)
    }

    /// Why a reply may say what was true a while ago; `None` if it says what is true now.
    fn is_old(&self, facts: &ReplyFacts) -> Option<String> {
        let (name, endpoint) = (self.dialect.name(), &self.settings.endpoint);
        if !facts.has_leader {
            return Some(format!("{endpoint}: {name} has no leader, so its answer may be old"));
        }
        let ago_s = facts.last_contact.as_secs();
        let is_old = facts.last_contact >= LAST_CONTACT_MOST;
        is_old.then(|| format!("{endpoint}: {name} heard of its leader {ago_s} s ago, so its answer may be old"))
    }

    /// The request was of no use: the next one asks for what there is then.
    fn fail(&mut self, why: String, retry_after: Option<Duration>, chance: u64) -> (News, Duration) {
        self.index = 0;
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
        (News::Failed(why), self.failed.pause(chance).max(asked))
    }
}
