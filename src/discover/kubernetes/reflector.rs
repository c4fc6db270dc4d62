//! Lists, then watches, then lists again where a watch cannot go on: what to ask next, and what each reply means. Pure.
//!
//! ```text
//! list (pages) ── the last page ──> watch from its version ── ends, breaks ──> watch from the last version
//!      ^                                    │
//!      └── 410 Gone, refused, no sense ─────┘
//! ```
//!
//! The version (`resourceVersion`) is a text of the server and means nothing here. A watch that ends is no failure: it
//! does after a minute, and connections break. A watch that is refused or makes no sense is a trouble as long as lists
//! work: then the service is listed again and again.

use std::time::Duration;

use serde::Deserialize;

use super::slices::{Metadata, SentSlice, Slices};
use crate::discover::backoff::Backoff;
use crate::discover::found::{Answer, News};
use crate::discover::gather::shown;
use crate::discover::http::escaped;

/// Slices per page of a list.
const PAGE: usize = 100;
/// Pages of a list; more are no service.
const PAGES_MAX: usize = 1000;
/// How long a server is asked to watch: between three quarters of this and all of it. It is short because a token that
/// was replaced is used for the next request, and because a connection that is dead is noticed no sooner.
const WATCH_S: u64 = 60;
/// The longest pause after a failure.
const FAILED_MOST: Duration = Duration::from_secs(10);
/// The longest pause that a server can ask for.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(60);
/// A watch that ends sooner, without an event, was none.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// The shortest pause after what is no success. A list and its watch are two requests, and servers are to get no more
/// than three per second.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
/// So many watches in a row that were none are a trouble.
const SHORT_WATCHES_MAX: u32 = 3;
/// The longest `continue` or version that is kept, in bytes.
const TOKEN_MAX: usize = 64 * 1024;

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ReflectorAsk {
    /// A page of the list.
    List {
        /// Path and query.
        path: String,
    },
    /// Changes.
    Watch {
        /// Path and query.
        path: String,
        /// How long the server is asked to watch.
        lasts: Duration,
    },
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum ReflectorEvent {
    /// A page of the list, whole.
    Page(Vec<u8>),
    /// A line of a watch.
    Line(Vec<u8>),
    /// A watch is open, and nothing has come for a while.
    Quiet,
    /// A watch has ended, or its connection has broken, this time after it was asked for.
    WatchEnded(Duration),
    /// A watch sends what cannot be one, for this reason.
    WatchFault(String),
    /// A status that is none of success.
    Refused {
        /// `403`, …
        status: u16,
        /// In one line, with the server.
        why: String,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No reply.
    Failed(String),
}

/// What to do then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ReflectorNext {
    /// Read the next line.
    Read,
    /// Ask again after this pause.
    Ask(Duration),
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SlicePage {
    /// `EndpointSliceList`
    kind: Option<String>,
    /// With the version of the list.
    metadata: Metadata,
    /// Go writes an empty list as `null`.
    items: Option<Vec<SentSlice>>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
struct WatchLine<T> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`
    #[serde(rename = "type")]
    kind: String,
    /// A slice, or of an error a Status.
    object: T,
}

/// What an error says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiStatus {
    /// `410`, …
    code: Option<i64>,
    /// For people.
    message: Option<String>,
    /// `Expired`, …
    reason: Option<String>,
}

/// Where the list is; `None` in [`Reflector`] while it is watched.
#[derive(Debug, Default)]
struct Listing {
    /// What has come so far.
    slices: Slices,
    /// What the next page is asked for with; empty for the first one.
    continues: String,
    /// Pages so far.
    pages: usize,
}

/// A service that is followed.
#[derive(Debug)]
pub(super) struct Reflector {
    /// The name of the service.
    service: String,
    /// Which of its ports.
    port: String,
    /// `None` exactly while the last list can be watched from.
    listing: Option<Listing>,
    /// What the service has.
    slices: Slices,
    /// From here on it is watched.
    version: String,
    /// Slices have changed since an answer was made of them.
    is_dirty: bool,
    /// Why watches do not work while lists do.
    watch_trouble: Option<String>,
    /// Watches in a row that ended sooner than any does.
    short_watches: u32,
    /// The last that was told is a failure.
    is_failed: bool,
    /// The last answer that was told.
    last: Option<Answer>,
    /// Pauses after failures.
    failed: Backoff,
}

impl Reflector {
    /// Nothing was asked yet.
    pub(super) fn new(service: &str, port: &str) -> Reflector {
        Reflector {
            service: service.to_string(),
            port: port.to_string(),
            listing: Some(Listing::default()),
            slices: Slices::default(),
            version: String::new(),
            is_dirty: false,
            watch_trouble: None,
            short_watches: 0,
            is_failed: false,
            last: None,
            failed: Backoff::new(FAILED_MOST),
        }
    }

    /// What to ask for in this namespace.
    pub(super) fn ask(&self, namespace: &str, chance: u64) -> ReflectorAsk {
        let selector = escaped(&format!("kubernetes.io/service-name={}", self.service));
        let base = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", escaped(namespace));
        if let Some(Listing { continues, .. }) = &self.listing {
            let more = if continues.is_empty() { String::new() } else { format!("&continue={}", escaped(continues)) };
            return ReflectorAsk::List { path: format!("{base}?labelSelector={selector}&limit={PAGE}{more}") };
        }
        let lasts_s = WATCH_S - chance % (WATCH_S / 4 + 1);
        let version = escaped(&self.version);
        let path = format!(
            "{base}?labelSelector={selector}&watch=1&allowWatchBookmarks=true&resourceVersion={version}\
             &timeoutSeconds={lasts_s}"
        );
        ReflectorAsk::Watch { path, lasts: Duration::from_secs(lasts_s) }
    }

    /// What became of the request: what to tell, and what to do then. `chance` is a random number.
    pub(super) fn on(&mut self, event: ReflectorEvent, chance: u64) -> (Option<News>, ReflectorNext) {
        match event {
            ReflectorEvent::Page(body) => match self.on_page(&body) {
                Ok(true) => (Some(self.told()), ReflectorNext::Ask(Duration::ZERO)),
                Ok(false) => (None, ReflectorNext::Ask(Duration::ZERO)),
                Err(why) => self.fail(why, None, chance),
            },
            ReflectorEvent::Line(line) => self.on_line(&line, chance),
            ReflectorEvent::Quiet => (self.on_good_watch(), ReflectorNext::Read),
            ReflectorEvent::WatchEnded(after) if after < SHORT_WATCH => self.on_short_watch(chance),
            ReflectorEvent::WatchEnded(_) => {
                let _ = self.on_good_watch();
                (Some(self.told()), ReflectorNext::Ask(Duration::ZERO))
            }
            ReflectorEvent::WatchFault(why) => self.on_watch_fault(why, chance),
            ReflectorEvent::Refused { status, why, retry_after } => self.on_refused(status, why, retry_after, chance),
            ReflectorEvent::Failed(why) => self.fail(why, None, chance),
        }
    }

    /// What to tell of the changes that have come; `None` if there are none. To be asked for when no further line comes
    /// for a moment, because changes come in bursts.
    pub(super) fn flush(&mut self) -> Option<News> {
        self.is_dirty.then(|| self.told())
    }

    /// Whether changes have come that were not told.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Takes in a page; whether it was the last one.
    fn on_page(&mut self, body: &[u8]) -> Result<bool, String> {
        let page: SlicePage =
            serde_json::from_slice(body).map_err(|error| format!("its list makes no sense: {error}"))?;
        if page.kind.as_deref() != Some("EndpointSliceList") {
            return Err(format!("its list is of {}", shown(page.kind.as_deref().unwrap_or(""))));
        }
        let mut listing = self.listing.take().unwrap_or_default();
        page.items.into_iter().flatten().try_for_each(|slice| listing.slices.put(slice))?;
        listing.continues = short(page.metadata.continues).unwrap_or_default();
        listing.pages += 1;
        if !listing.continues.is_empty() {
            if listing.pages >= PAGES_MAX {
                return Err(format!("its list has more than {PAGES_MAX} pages"));
            }
            self.listing = Some(listing);
            return Ok(false);
        }
        self.version = short(page.metadata.resource_version).ok_or("its list has no resourceVersion")?;
        self.slices = listing.slices;
        Ok(true)
    }

    /// Takes in a line of a watch.
    fn on_line(&mut self, line: &[u8], chance: u64) -> (Option<News>, ReflectorNext) {
        if line.is_empty() {
            return (None, ReflectorNext::Read);
        }
        let nonsense = |error: serde_json::Error| format!("its watch makes no sense: {error}");
        let kind = serde_json::from_slice::<WatchLine<serde::de::IgnoredAny>>(line).map(|line| line.kind);
        let taken = match kind.as_deref() {
            Err(_) => kind.map(drop).map_err(nonsense),
            Ok("ERROR") => {
                let status = serde_json::from_slice::<WatchLine<ApiStatus>>(line).map(|line| line.object);
                let status = status.unwrap_or_default();
                if status.code == Some(410) || status.reason.as_deref() == Some("Expired") {
                    return (self.flush(), self.list_anew(chance));
                }
                Err(format!("its watch ends with an error: {}", shown(status.message.as_deref().unwrap_or(""))))
            }
            Ok(kind @ ("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK")) => {
                let slice = serde_json::from_slice::<WatchLine<SentSlice>>(line).map(|line| line.object);
                slice.map_err(nonsense).and_then(|slice| self.take(kind, slice))
            }
            // What a later version of the API may have.
            Ok(_) => Ok(()),
        };
        match taken {
            Ok(()) => (self.on_good_watch(), ReflectorNext::Read),
            Err(why) => self.on_watch_fault(why, chance),
        }
    }

    /// Takes in what a watch says of a slice.
    fn take(&mut self, kind: &str, slice: SentSlice) -> Result<(), String> {
        let version = short(slice.metadata.resource_version.clone());
        match kind {
            "BOOKMARK" => {}
            "DELETED" => {
                self.slices.remove(slice.metadata.name.as_deref().unwrap_or(""));
                self.is_dirty = true;
            }
            _ => {
                self.slices.put(slice)?;
                self.is_dirty = true;
            }
        }
        if let Some(version) = version {
            self.version = version;
        }
        Ok(())
    }

    /// A watch works. What is told if it did not before.
    fn on_good_watch(&mut self) -> Option<News> {
        self.failed.reset();
        self.short_watches = 0;
        let was_bad = self.watch_trouble.take().is_some() || self.is_failed;
        // Changes are told when no other comes for a moment, and that is told with them.
        (was_bad && !self.is_dirty).then(|| self.told())
    }

    /// A watch has ended sooner than any does.
    fn on_short_watch(&mut self, chance: u64) -> (Option<News>, ReflectorNext) {
        self.short_watches += 1;
        match self.short_watches > SHORT_WATCHES_MAX {
            true => self.on_watch_fault("its watches end immediately".to_string(), chance),
            false => (self.flush(), ReflectorNext::Ask(self.pause(chance))),
        }
    }

    /// A watch is none. The answer that follows from the next list says why.
    fn on_watch_fault(&mut self, why: String, chance: u64) -> (Option<News>, ReflectorNext) {
        let news = self.flush();
        self.watch_trouble = Some(why);
        (news, self.list_anew(chance))
    }

    /// A request was refused.
    fn on_refused(
        &mut self,
        status: u16,
        why: String,
        retry_after: Option<Duration>,
        chance: u64,
    ) -> (Option<News>, ReflectorNext) {
        // What was asked for has gone: a list that took too long, or the version of a watch.
        let is_anew = self.listing.as_ref().is_some_and(|listing| listing.pages == 0);
        if status == 410 && !is_anew {
            return (self.flush(), self.list_anew(chance));
        }
        // A server that knows no such token, or is busy, says nothing of the watch itself.
        if self.listing.is_some() || matches!(status, 401 | 429) {
            return self.fail(why, retry_after, chance);
        }
        let (news, next) = self.on_watch_fault(why, chance);
        let ReflectorNext::Ask(pause) = next else { return (news, next) };
        (news, ReflectorNext::Ask(pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MOST))))
    }

    /// The watch cannot go on.
    fn list_anew(&mut self, chance: u64) -> ReflectorNext {
        self.listing = Some(Listing::default());
        ReflectorNext::Ask(self.pause(chance))
    }

    /// The pause after what is no success.
    fn pause(&mut self, chance: u64) -> Duration {
        self.failed.pause(chance).max(PAUSE_LEAST)
    }

    /// There is no answer. A list that was not finished starts anew.
    fn fail(&mut self, why: String, retry_after: Option<Duration>, chance: u64) -> (Option<News>, ReflectorNext) {
        if self.listing.is_some() || self.version.is_empty() {
            self.listing = Some(Listing::default());
        }
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
        self.is_failed = true;
        (Some(News::Failed(why)), ReflectorNext::Ask(self.pause(chance).max(asked)))
    }

    /// What to tell of what the slices mean now.
    fn told(&mut self) -> News {
        self.is_dirty = false;
        let answer = self.slices.answer(&self.service, &self.port);
        self.is_failed = answer.is_err();
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(why) => return News::Failed(why),
        };
        answer.trouble = answer.trouble.or_else(|| self.watch_trouble.clone());
        // A trouble is told for as long as it lasts.
        if self.last.as_ref() == Some(&answer) && answer.trouble.is_none() {
            return News::Confirmed;
        }
        self.last = Some(answer.clone());
        News::Answer(answer)
    }
}

/// A text of the server that is kept; one that is longer than any is none.
fn short(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text.len() <= TOKEN_MAX)
}

#[cfg(test)]
mod tests;
