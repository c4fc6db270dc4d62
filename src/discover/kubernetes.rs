//! A service of Kubernetes, followed by its EndpointSlices: listed, then watched.
//!
//! ```text
//! account (in the cluster, or a kubeconfig) ─┐
//! Reflector::ask ── list or watch ── http ───┴── page, line ──> Reflector::on ──> Slices ──> News
//! ```
//!
//! [`reflector`] decides what to ask next, and [`slices`] which backends the slices mean; both are pure. Account,
//! token and certificates are read anew for each request. A watch lasts a minute at most, so a token that was replaced
//! is used within 75 s.
//!
//! The types and the watch are ringway's own. The crates kube and k8s-openapi would bring 49 further crates for one
//! kind of object that is only read, and a second HTTP client. Measured with a program that lists and watches
//! EndpointSlices, built as ringway is: 8.6 MB and 1,533 s with them (kube 5.0); 4.9 MB and 406 s with hyper,
//! serde-saphyr and the rest of what stands here, on the same two busy CPUs.
//!
//! Sources: the pages "Kubernetes API Concepts" (lists in pages, watches, bookmarks, 410 Gone) and "EndpointSlice" of
//! the API reference, the reflector of client-go, and kube-proxy's rule for endpoints that are about to end (KEP-1669).

mod account;
mod kubeconfig;
mod reflector;
mod slices;

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dns::Resolver;
use super::found::News;
use super::http::{HttpReply, HttpRequest, send};
use super::settings::KubernetesSource;
use crate::base::time::{Clock, Moment, ns};
use account::ApiAccount;
pub use account::files;
use reflector::{Reflector, ReflectorAsk, ReflectorEvent, ReflectorNext};

/// The longest page of a list, in bytes. One of 100 full slices has some 6 MB.
const PAGE_MAX: usize = 64 << 20;
/// The longest line of a watch, in bytes. One slice of 1,000 endpoints has some 600 kB.
const LINE_MAX: usize = 8 << 20;
/// How long a server has to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a page can take once it comes.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a refusal is waited for.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// A watch ends no later than this after the server was to end it.
const WATCH_SLACK: Duration = Duration::from_secs(10);
/// A watch that has been open for this time without a line works.
const QUIET: Duration = Duration::from_secs(2);
/// Changes come in bursts. They are told when no other has come for this long,
const BURST_PAUSE: Duration = Duration::from_millis(50);
/// and no later than this after the first one.
const BURST_MOST: Duration = Duration::from_millis(500);

/// Follows a service, and tells what endpoints it has, for as long as it is polled.
pub async fn follow(settings: &KubernetesSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    let mut source = Follower {
        settings,
        resolver,
        tell,
        clock: Clock::new(),
        reflector: Reflector::new(&settings.service, &settings.port),
    };
    loop {
        let pause = source.once().await;
        sleep(pause).await;
    }
}

/// A service that is followed.
struct Follower<'a> {
    /// Which one.
    settings: &'a KubernetesSource,
    /// For the name of the server.
    resolver: &'a Resolver,
    /// Is told everything.
    tell: &'a dyn Fn(News),
    /// For how long a watch has lasted.
    clock: Clock,
    /// Decides.
    reflector: Reflector,
}

impl Follower<'_> {
    /// One request to its end; how long to wait before the next one.
    async fn once(&mut self) -> Duration {
        let account = match ApiAccount::read(self.settings).await {
            Ok(account) => account,
            Err(why) => return self.on_last(ReflectorEvent::Failed(why)),
        };
        let begun = self.clock.now();
        let ask = self.reflector.ask(&account.namespace, fastrand::u64(..));
        let (path, lasts) = match &ask {
            ReflectorAsk::List { path } => (path, None),
            ReflectorAsk::Watch { path, lasts } => (path, Some(*lasts)),
        };
        let path = format!("{}{path}", account.base_path);
        let headers = account.token.iter().map(|token| ("authorization", format!("Bearer {token}"))).collect();
        let request = HttpRequest { headers, ..HttpRequest::get(&path) };
        let reply = match send(&account.endpoint, &account.tls, self.resolver, request, ANSWER_TIMEOUT).await {
            Ok(reply) => reply,
            Err(error) => return self.on_last(ReflectorEvent::Failed(error.to_string())),
        };
        if !reply.is_success() {
            let (status, retry_after) = (reply.status, reply.retry_after());
            let why = reply.refusal(REFUSAL_TIMEOUT).await.to_string();
            return self.on_last(ReflectorEvent::Refused { status, why, retry_after });
        }
        match lasts {
            Some(lasts) => self.watch(reply, begun, lasts).await,
            None => {
                let page = reply.body(PAGE_MAX, PAGE_TIMEOUT).await;
                self.on_last(page.map_or_else(|error| ReflectorEvent::Failed(error.to_string()), ReflectorEvent::Page))
            }
        }
    }

    /// Reads the lines of a watch that was asked for at `begun`.
    async fn watch(&mut self, reply: HttpReply, begun: Moment, lasts: Duration) -> Duration {
        let mut lines = reply.lines(LINE_MAX);
        let end = begun.after_ns(ns(lasts + WATCH_SLACK));
        let (mut quiet_at, mut tell_at) = (Some(begun.after_ns(ns(QUIET))), None);
        loop {
            let now = self.clock.now();
            if now >= end {
                return self.on_last(ReflectorEvent::WatchEnded(self.lasted(begun)));
            }
            if tell_at.is_some_and(|at| now >= at) {
                self.flush();
                tell_at = None;
            }
            let (left, until) = (end.since_ns(now), [quiet_at, tell_at].into_iter().flatten().min());
            let wait_ns = until.map_or(left, |until| left.min(until.since_ns(now)));
            let wait_ns = if self.reflector.is_dirty() { wait_ns.min(ns(BURST_PAUSE)) } else { wait_ns };
            let next = timeout(Duration::from_nanos(wait_ns), lines.next(Duration::from_nanos(left))).await;
            let event = match next {
                Ok(Ok(Some(line))) => ReflectorEvent::Line(line),
                Ok(Err(error)) if error.is_too_long() => ReflectorEvent::WatchFault(error.to_string()),
                Ok(Ok(None) | Err(_)) => {
                    return self.on_last(ReflectorEvent::WatchEnded(self.lasted(begun)));
                }
                Err(_) => {
                    self.flush();
                    tell_at = None;
                    if quiet_at.is_none_or(|at| at > self.clock.now()) {
                        continue;
                    }
                    quiet_at = None;
                    ReflectorEvent::Quiet
                }
            };
            if let ReflectorNext::Ask(pause) = self.on(event) {
                return pause;
            }
            if self.reflector.is_dirty() && tell_at.is_none() {
                tell_at = Some(self.clock.now().after_ns(ns(BURST_MOST)));
            }
        }
    }

    /// Tells what has changed, if something has.
    fn flush(&mut self) {
        if let Some(news) = self.reflector.flush() {
            (self.tell)(news);
        }
    }

    /// How long ago that was.
    fn lasted(&self, begun: Moment) -> Duration {
        Duration::from_nanos(self.clock.now().since_ns(begun))
    }

    /// Has an event decided, and tells what follows.
    fn on(&mut self, event: ReflectorEvent) -> ReflectorNext {
        let (news, next) = self.reflector.on(event, fastrand::u64(..));
        if let Some(news) = news {
            (self.tell)(news);
        }
        next
    }

    /// The same of an event that ends a request.
    fn on_last(&mut self, event: ReflectorEvent) -> Duration {
        match self.on(event) {
            ReflectorNext::Ask(pause) => pause,
            ReflectorNext::Read => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
