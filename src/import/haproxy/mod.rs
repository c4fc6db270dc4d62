//! Reads `haproxy.cfg`. What is in `mode tcp` is translated; section by section, because a section is what can be left
//! out without changing what the others do.
//!
//! ```text
//! lex::lines ─> section::{sections, proxies} ─> front::front ─> listeners, and how pools are reached
//!                                                   │
//!                                               pool::pool ─> pools: only those that are reached
//! ```
//!
//! A proxy with a line that cannot be said is left out as a whole. What fails in a pool is found when its listeners are
//! already written; `proof` takes those away again.
//!
//! Where one section is not enough to know what holds, both are asked: an idle time-out is the smaller one of the
//! client's side (`frontend`) and of the server's (`backend`); rules of a `backend` move to the listener that leads
//! there, if that leads nowhere else; `nbsrv` of a `frontend` becomes a fallback of the pool, if every way there has
//! the same.

mod access;
mod acl;
mod bind;
mod check;
mod conversation;
mod front;
mod global;
mod http;
mod http_check;
mod leads;
mod lex;
mod pool;
mod section;
mod server;
mod tls;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::note::{Fate, Notes, Origin};
use super::sheet::{NameStock, Sheet};
use super::{Files, Unreadable};
use leads::Fallback;
use lex::Line;
use section::{Proxy, Section};

/// The work on one file.
pub struct Job<'a> {
    /// Its sections.
    sections: &'a [Section],
    /// The lines of `global`.
    globals: Vec<&'a Line>,
    /// Its proxies.
    proxies: &'a [Proxy<'a>],
    /// Those with servers, by name.
    backs: HashMap<&'a str, &'a Proxy<'a>>,
    /// Where other files are found.
    files: &'a dyn Files,
    /// What is written.
    sheet: Sheet,
    /// What is said.
    notes: Notes,
    /// Names of listeners.
    names: NameStock,
    /// `log` of `global`.
    log_targets: Vec<Line>,
    /// The folder of certificates.
    ca_base: Option<String>,
    /// The `resolvers` that servers name.
    resolvers: Vec<(String, Origin)>,
}

/// How clients get to a pool.
#[derive(Default)]
struct Reach<'a> {
    /// The fronts.
    fronts: Vec<&'a Proxy<'a>>,
    /// The longest TCP_USER_TIMEOUT of them.
    user_timeout: u64,
    /// What stands in for it: `None` where it is reached without a condition.
    fallbacks: Vec<Option<Fallback>>,
    /// So many servers must be up.
    needs_up: Option<(u64, Origin)>,
}

/// Translates a file.
///
/// # Errors
/// It cannot be read.
pub fn translate(text: &str, name: &str, files: &dyn Files) -> Result<(Sheet, Notes), Unreadable> {
    let sections = section::sections(lex::lines(text, name, files)?, name)?;
    let proxies = section::proxies(&sections)?;
    let backs = proxies.iter().filter(|proxy| proxy.is_back()).map(|proxy| (proxy.name(), proxy)).collect();
    let mut job = Job {
        sections: &sections,
        globals: sections.iter().filter(|one| one.kind == "global").flat_map(|one| &one.lines).collect(),
        proxies: &proxies,
        backs,
        files,
        sheet: Sheet::default(),
        notes: Notes::default(),
        names: NameStock::default(),
        log_targets: Vec::new(),
        ca_base: None,
        resolvers: Vec::new(),
    };
    for origin in section::doubles(&proxies) {
        job.notes.refuse(origin, "another section has this name");
    }
    for section in &sections {
        match section.kind.as_str() {
            "global" => global::global(&mut job, section),
            "defaults" | "listen" | "frontend" | "backend" => job.say_idle(section),
            _ => global::other(&mut job, section),
        }
    }
    let reached = job.fronts();
    job.pools(reached);
    global::dns(&mut job);
    global::access_log(&mut job);
    Ok((job.sheet, job.notes))
}

/// Finds what the `stick-table` of a proxy stores, by the name of the proxy; an empty name is `own`. Only tables by the
/// client's address count.
///
/// A table of another type (`string`, `integer`) counts something else than clients, so it is not found.
fn tables<'a>(proxies: &'a [Proxy<'a>], own: &'a Proxy<'a>) -> impl Fn(&str) -> Option<String> + 'a {
    move |name: &str| {
        let proxy = if name.is_empty() { own } else { proxies.iter().find(|proxy| proxy.name() == name)? };
        let line = proxy.last(&["stick-table"])?;
        let is_by_address =
            line.words.windows(2).any(|pair| pair[0] == "type" && ["ip", "ipv6"].contains(&pair[1].as_str()));
        let at = line.words.iter().position(|word| word == "store")?;
        is_by_address.then(|| line.word(at + 1).to_string())
    }
}

impl<'a> Job<'a> {
    /// The path of a file of certificates.
    fn certificate(&self, path: &str) -> String {
        match &self.ca_base {
            Some(base) if !path.starts_with(['/', '@']) => format!("{}/{path}", base.trim_end_matches('/')),
            _ if path == "@system-ca" => String::new(),
            _ => path.to_string(),
        }
    }

    /// Names the lines of a section that need nothing here.
    fn say_idle(&mut self, section: &Section) {
        for line in &section.lines {
            if let Fate::Idle(why) = words::fate(line) {
                // Statistics of a page are spoken of where the page is.
                let is_page =
                    ["stats", "monitor", "http-request"].contains(&line.word(0)) && section.kind != "defaults";
                if !is_page || !section.lines.iter().any(|line| line.is(&["mode", "http"])) {
                    self.notes.note(&line.origin, format!("`{}` is left out: {why}", line.rest(0)));
                }
            }
        }
    }

    /// Says which lines of a proxy cannot be carried over; `true` if there is any. Then the proxy is left out.
    fn is_refused(&mut self, proxy: &Proxy<'_>) -> bool {
        let mut is_refused = false;
        for line in &proxy.lines {
            if let Fate::Refused(why) = words::fate(line) {
                self.notes.refuse(&line.origin, format!("`{}`: {why}", line.rest(0)));
                is_refused = true;
            }
        }
        is_refused
    }

    /// Translates everything that clients connect to.
    fn fronts(&mut self) -> BTreeMap<String, Reach<'a>> {
        let mut reached: BTreeMap<String, Reach<'a>> = BTreeMap::new();
        let proxies = self.proxies;
        for proxy in proxies {
            if proxy.last(&["disabled"]).is_some() {
                self.notes.note(proxy.origin(), "left out: it is disabled");
                continue;
            }
            if proxy.mode() != "tcp" {
                if proxy.mode() == "http" && (proxy.is_front() || self.is_reached_by_tcp(proxy)) {
                    http::judge(self, proxy);
                } else if proxy.mode() != "http" {
                    self.notes.refuse(proxy.origin(), format!("ringway has no mode {}", proxy.mode()));
                }
                continue;
            }
            if !proxy.is_front() || self.is_refused(proxy) {
                continue;
            }
            self.only_page(proxy);
            match front::front(self, proxy) {
                Ok(front) => self.take(proxy, front, &mut reached),
                Err(_) if is_page_alone(proxy) => {}
                Err((origin, text)) => self.notes.refuse(&origin, text),
            }
        }
        reached
    }

    /// Whether a backend in `mode http` is meant by a front in `mode tcp`.
    fn is_reached_by_tcp(&self, back: &Proxy<'_>) -> bool {
        let leads = |line: &&Line| line.word(1) == back.name();
        self.proxies
            .iter()
            .filter(|proxy| proxy.is_front() && proxy.mode() == "tcp")
            .any(|proxy| proxy.own("default_backend").chain(proxy.own("use_backend")).any(|line| leads(&line)))
    }

    /// Notes a health page of a front in `mode tcp`.
    fn only_page(&mut self, proxy: &Proxy<'_>) {
        if let Some(line) = proxy.last(&["monitor-uri"]) {
            self.notes.note(&line.origin, "left out: `admin.probes` answers /live and /ready, and nothing else");
        }
    }

    /// Keeps the listeners of a front, and how its pools are reached.
    ///
    /// Fallbacks are kept beside the way to a pool: a way without a condition counts as one without a fallback.
    fn take(&mut self, proxy: &'a Proxy<'a>, front: front::Front, reached: &mut BTreeMap<String, Reach<'a>>) {
        let pools: HashSet<String> =
            front.listeners.iter().flat_map(|listener| listener.pools()).map(str::to_string).collect();
        let mut all: HashSet<String> = pools.clone();
        all.extend(front.fallbacks.iter().map(|fallback| fallback.to.clone()));
        for name in all {
            let reach = reached.entry(name.clone()).or_default();
            reach.fronts.push(proxy);
            reach.user_timeout = reach.user_timeout.max(front.user_timeout);
            let fallback = front.fallbacks.iter().find(|fallback| fallback.pool == name);
            if fallback.is_some() || pools.contains(&name) {
                reach.fallbacks.push(fallback.cloned());
            }
        }
        for (pool, count, origin) in front.needs_up {
            let reach = reached.entry(pool).or_default();
            reach.needs_up = Some((count, origin));
        }
        for mut listener in front.listeners {
            listener.name = self.names.take(&listener.name);
            self.sheet.listeners.push(listener);
        }
    }

    /// Translates every pool that is reached.
    fn pools(&mut self, mut reached: BTreeMap<String, Reach<'a>>) {
        let proxies = self.proxies;
        for proxy in proxies.iter().filter(|proxy| proxy.is_back() && proxy.mode() == "tcp") {
            let Some(reach) = reached.remove(proxy.name()) else {
                if !proxy.is_front() && proxy.last(&["disabled"]).is_none() {
                    let text = format!("left out: nothing that is carried over leads to `{}`", proxy.name());
                    self.notes.note(proxy.origin(), text);
                }
                continue;
            };
            if self.is_refused(proxy) {
                continue;
            }
            match pool::pool(self, proxy, &reach.fronts, reach.user_timeout) {
                Ok(mut pool) => {
                    if self.falls_back(&mut pool.keys, &reach) {
                        self.sheet.pools.push(pool);
                    }
                }
                Err(faults) => {
                    for (origin, text) in faults {
                        self.notes.refuse(&origin, text);
                    }
                }
            }
        }
        // Clients get to these, and there is no pool for them.
        for (name, reach) in reached {
            if let Some(front) = reach.fronts.first() {
                self.notes.refuse(front.origin(), format!("there is no backend `{name}` in mode tcp"));
            }
        }
    }

    /// Sets what a pool falls back to; `false` if that is not the same for all of its clients.
    ///
    /// A pool of ringway falls back by itself, for every client. If one listener asks for it and another one does not,
    /// that is two pools with the same servers, which only their user can want.
    fn falls_back(&mut self, keys: &mut super::sheet::KeyTable, reach: &Reach<'_>) -> bool {
        let same = |one: &Option<Fallback>| one.as_ref().map(|it| (it.to.clone(), it.up_min));
        let first = reach.fallbacks.first().cloned().flatten();
        if let Some(other) = reach.fallbacks.iter().find(|one| same(one) != same(&first)) {
            let origin = other.as_ref().or(first.as_ref()).map(|fallback| fallback.origin.clone());
            if let Some(origin) = origin {
                self.notes.refuse(&origin, "the pool falls back for some of its clients only; make two pools of it");
            }
            return false;
        }
        if let Some(fallback) = first {
            keys.set("fallback", fallback.to, &fallback.origin);
            if fallback.up_min != 1 {
                keys.set("up_min", fallback.up_min, &fallback.origin);
            }
        }
        if let Some((count, origin)) = reach.needs_up.as_ref().filter(|(count, _)| *count > 1) {
            keys.set("up_min", *count, origin);
        }
        true
    }
}

/// Whether a front only answers a health check.
///
/// Such a front is spoken of where its page is; that it leads nowhere is no fault of it.
fn is_page_alone(proxy: &Proxy<'_>) -> bool {
    proxy.last(&["monitor-uri"]).is_some()
        && proxy.own("default_backend").next().is_none()
        && !front::has_servers(proxy)
}
