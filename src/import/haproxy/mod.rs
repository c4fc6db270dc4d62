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
use super::sheet::{NameStock, PoolSheet, Sheet};
use super::{Files, Unreadable};
use access::NeedsUp;
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
    /// So many servers must be up, as each front has it.
    needs_up: Vec<NeedsUp>,
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
/// A table of another type (`string`, `integer`) counts something else than clients, so it is not found. In one that
/// another proxy names too, the connections to both are counted together, and a listener of ringway counts its own.
fn tables<'a>(proxies: &'a [Proxy<'a>], own: &'a Proxy<'a>) -> impl Fn(&str) -> Result<String, String> + 'a {
    move |name: &str| {
        let stored = |proxy: &Proxy<'_>| {
            let line = proxy.last(&["stick-table"])?;
            let is_by_address =
                line.words.windows(2).any(|pair| pair[0] == "type" && ["ip", "ipv6"].contains(&pair[1].as_str()));
            let at = line.words.iter().position(|word| word == "store")?;
            is_by_address.then(|| line.word(at + 1).to_string())
        };
        let table = if name.is_empty() { Some(own) } else { proxies.iter().find(|proxy| proxy.name() == name) };
        let found = table.and_then(|table| Some((table, stored(table)?)));
        let (table, stored) =
            found.ok_or_else(|| format!("there is no stick-table `{name}` by the client's address"))?;
        match proxies.iter().find(|other| !std::ptr::eq(*other, own) && counts_in(other, table)) {
            Some(other) => Err(format!(
                "`{}` counts in the same stick-table, and here each listener counts its own clients; give each a table",
                other.name()
            )),
            None => Ok(stored),
        }
    }
}

/// Whether rules of a proxy count in a table, or ask it.
fn counts_in(proxy: &Proxy<'_>, table: &Proxy<'_>) -> bool {
    let is_own = std::ptr::eq(proxy, table);
    let ends = [format!("({})", table.name()), format!(",{})", table.name())];
    let names = |line: &&Line| {
        line.words.windows(2).any(|pair| pair[0] == "table" && pair[1] == table.name())
            || line.words.iter().any(|word| ends.iter().any(|end| word.contains(end.as_str())))
            || (is_own && line.words.iter().any(|word| word.starts_with("track-sc")))
    };
    ["tcp-request", "http-request", "acl", "use_backend"].iter().any(|word| proxy.all(word).any(|line| names(&line)))
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
                    self.notes.note(&line.origin, format!("`{}` is left out: {why}", words::open(line)));
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
        for needs in front.needs_up {
            reached.entry(needs.pool.clone()).or_default().needs_up.push(needs);
        }
        for mut listener in front.listeners {
            listener.name = self.names.take(&listener.name);
            self.sheet.listeners.push(listener);
        }
    }

    /// Translates every pool that is reached.
    fn pools(&mut self, mut reached: BTreeMap<String, Reach<'a>>) {
        let proxies = self.proxies;
        let is_used = |proxy: &&Proxy<'_>| proxy.mode() == "tcp" && proxy.last(&["disabled"]).is_none();
        for proxy in proxies.iter().filter(|proxy| proxy.is_back()).filter(is_used) {
            let Some(reach) = reached.remove(proxy.name()) else {
                if !proxy.is_front() {
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
                    if self.falls_back(&mut pool, &reach) && self.needs_up(&mut pool, &reach) {
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
                self.notes.refuse(front.origin(), format!("there is no backend `{name}` in mode tcp that is in use"));
            }
        }
    }

    /// Sets what a pool falls back to; `false` if that is not the same for all of its clients.
    ///
    /// A pool of ringway falls back by itself, for every client. If one listener asks for it and another one does not,
    /// that is two pools with the same servers, which only their user can want.
    fn falls_back(&mut self, pool: &mut PoolSheet, reach: &Reach<'_>) -> bool {
        let same = |one: &Option<Fallback>| one.as_ref().map(|it| (it.to.clone(), it.up_min));
        let first = reach.fallbacks.first().cloned().flatten();
        if let Some(other) = reach.fallbacks.iter().find(|one| same(one) != same(&first)) {
            let origin = other.as_ref().or(first.as_ref()).map(|fallback| fallback.origin.clone());
            if let Some(origin) = origin {
                self.notes.refuse(&origin, leads::FOR_SOME);
            }
            return false;
        }
        if let Some(fallback) = first {
            pool.keys.set("fallback", fallback.to, &fallback.origin);
            if fallback.up_min != 1 {
                pool.keys.set("up_min", fallback.up_min, &fallback.origin);
            }
        }
        true
    }

    /// Sets how many servers must be up for clients to be let in; `false` if that would let more of them in.
    ///
    /// Of several fronts the largest number holds. "Exactly one" is what a pool of primaries asks for: there the check
    /// knows the role, and anywhere else two servers could be up.
    fn needs_up(&mut self, pool: &mut PoolSheet, reach: &Reach<'_>) -> bool {
        let Some(most) = reach.needs_up.iter().max_by_key(|needs| needs.count) else { return true };
        if pool.keys.get("fallback").is_some() {
            self.notes.refuse(&most.origin, "the pool falls back then, and its clients would not be refused");
            return false;
        }
        let asks_primary = pool.check.text("role") == Some("primary");
        for needs in reach.needs_up.iter().filter(|needs| needs.is_exact) {
            if needs.count != 1 || !asks_primary {
                let text = format!(
                    "ringway refuses while fewer than {} of `{}` are up, and not if more are; that is enough only for \
                     one server whose check has `role = \"primary\"`",
                    needs.count, needs.pool
                );
                self.notes.refuse(&needs.origin, text);
                return false;
            }
            let text = format!("ringway refuses while no primary of `{}` is up, not if two are", needs.pool);
            self.notes.note(&needs.origin, text);
        }
        if most.count > 1 {
            pool.keys.set("up_min", most.count, &most.origin);
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
