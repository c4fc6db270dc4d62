//! From host names to addresses, with a resolver that never blocks its thread.
//!
//! It behaves as the C library does on the same files ([`conf`]). A lookup goes through four parts:
//!
//! ```text
//! lookup ─> order of nsswitch.conf ─┬─> the hosts file
//!                                   └─> ask ─> search (which server, which name) ─> wire (one question) ─> search …
//! ```
//!
//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/nsswitch.conf` are read again when they have changed ([`files`]). A and
//! AAAA are asked for separately, so that a failure of one keeps what is known of it
//! ([`known`](crate::discover::known)). Both families of an answer always belong to the same name of the search list.
//! Only [`search`] decides, and it is pure; this file does the waiting. `docs/names.md` explains it to users.

mod conf;
mod files;
mod once;
mod search;
pub(crate) mod srv;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::warn;

use crate::base::time::Clock;
use crate::discover::known::{FamilyAnswer, Resolution};
use conf::{Conf, LookupOrder, NameSource, in_hosts};
use files::Files;
pub use files::NAME_FILES;
pub use once::look_up;
use search::{Asked, Reply, Search, SearchEvent, SearchStep};

/// How long an answer of the hosts file holds, unless the file changes.
const HOSTS_TTL: Duration = Duration::from_secs(300);
/// How many lookups run at the same time; each takes two descriptors.
const LOOKUPS_MAX: usize = 256;
/// How many names a reason lists.
const NAMES_SHOWN: usize = 4;
/// How long the server in `RINGWAY_RESOLVER` has to answer, which only tests use.
const TEST_TIMEOUT: Duration = Duration::from_millis(300);

/// Reads one of [`NAME_FILES`].
pub type ReadFile = Box<dyn Fn(&str) -> std::io::Result<Vec<u8>> + Send>;

/// `[dns]`: what a configuration says about lookups.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dns {
    /// The servers that are asked, in this order; empty means those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long each has to answer; `None` means as the system says.
    pub timeout: Option<Duration>,
    /// How often all servers are tried; `None` means as the system says.
    pub attempts: Option<u32>,
}

/// A resolver. Clones share its state and its limits. It belongs to one thread.
#[derive(Clone)]
pub struct Resolver(Rc<ResolverState>);

/// What the clones of a resolver share.
struct ResolverState {
    /// Only this server is asked; for tests.
    server: Option<SocketAddr>,
    /// `[dns]`
    dns: RefCell<Dns>,
    /// The files, and whether they have changed.
    files: RefCell<Files>,
    /// What the files say; `None` until it is needed, and after `[dns]` has changed.
    system: RefCell<Option<Rc<System>>>,
    /// How many lookups there were, for `rotate`.
    turn: Cell<usize>,
    /// How often the files were read.
    edition: Cell<u64>,
    /// Limits how many lookups run, so that many names do not take all descriptors.
    lookups: Semaphore,
    /// For time-outs.
    clock: Clock,
}

/// The configuration of the system as it was read.
#[derive(Debug)]
struct System {
    /// Servers and options.
    conf: Arc<Conf>,
    /// Where names are looked for.
    order: LookupOrder,
    /// The text of the hosts file.
    hosts: String,
}

impl Resolver {
    /// A resolver that follows the system's files and `[dns]`. For tests `RINGWAY_RESOLVER=ip:port` names the only
    /// server to ask. `read_file` reads files that this process cannot open itself any more.
    pub fn new(dns: &Dns, read_file: Option<ReadFile>) -> Resolver {
        let server = std::env::var("RINGWAY_RESOLVER").ok().filter(|text| !text.is_empty());
        let parsed = server.as_ref().and_then(|text| text.parse().ok());
        if let (Some(text), None) = (&server, parsed) {
            warn!("RINGWAY_RESOLVER is {text}, which is no ip:port; it does not count");
        }
        let resolver = Resolver::with(parsed, dns);
        resolver.0.files.borrow_mut().read_by(read_file);
        resolver
    }

    /// The same, with or without the server of the tests.
    fn with(server: Option<SocketAddr>, dns: &Dns) -> Resolver {
        Resolver(Rc::new(ResolverState {
            server,
            dns: RefCell::new(dns.clone()),
            files: RefCell::default(),
            system: RefCell::default(),
            turn: Cell::new(0),
            edition: Cell::new(0),
            lookups: Semaphore::new(LOOKUPS_MAX),
            clock: Clock::new(),
        }))
    }

    /// Follows this `[dns]` from now on.
    pub fn set(&self, dns: &Dns) {
        self.0.dns.replace(dns.clone());
        self.0.system.replace(None);
    }

    /// A number that changes whenever one of the files has changed. It looks at the files.
    pub fn edition(&self) -> u64 {
        self.system();
        self.0.edition.get()
    }

    /// Looks up a name. The time-outs and the length of the search list bound how long that takes.
    ///
    /// The answer is never an error: what went wrong is a part of it, because a failed lookup must not remove known
    /// addresses.
    pub(crate) async fn lookup(&self, host: &str) -> Resolution {
        let _place = self.0.lookups.acquire().await;
        self.0.turn.set(self.0.turn.get().wrapping_add(1));
        let system = self.system();
        let (mut answer, mut looked) = (Resolution::denied(), Vec::new());
        for source in &system.order.sources {
            match source {
                NameSource::Hosts | NameSource::HostsOnly => {
                    let found = in_hosts(&system.hosts, host);
                    if !found.is_empty() {
                        return of_hosts(&found);
                    }
                    looked.push("it is not in /etc/hosts".to_owned());
                }
                NameSource::Dns | NameSource::DnsOnly => {
                    answer = self.ask(&system.conf, host).await;
                    if answer.has_addresses() {
                        return answer;
                    }
                    looked.push(system.looked(host, &answer));
                }
            }
            if matches!(source, NameSource::HostsOnly) || (*source == NameSource::DnsOnly && answer.is_denial()) {
                break;
            }
        }
        if !system.order.others.is_empty() {
            let others = system.order.others.join(" and ");
            looked.push(format!("{others} of /etc/nsswitch.conf can only be asked by programs of the C library"));
        }
        answer.looked = looked.join("; ");
        answer
    }

    /// Runs one [`Search`]: asks what it wants asked and tells it the replies, until it has an answer.
    async fn ask(&self, conf: &Arc<Conf>, host: &str) -> Resolution {
        let clock = &self.0.clock;
        let mut search = Search::new(conf.clone(), host, self.0.turn.get());
        let mut step = search.on(SearchEvent::Begin, clock.now());
        loop {
            let (server, name, mut until) = match step {
                SearchStep::Done(answer) => return answer,
                SearchStep::Ask(server, name, until) => (server, name, until),
                // Nothing is asked, so only time can pass.
                SearchStep::Wait(until) => {
                    tokio::time::sleep(Duration::from_nanos(until.since_ns(clock.now()))).await;
                    step = search.on(SearchEvent::Time, clock.now());
                    continue;
                }
            };
            let v4 = wire::ask(server, &name, Asked::V4, conf.use_vc);
            tokio::pin!(v4);
            let v6 = ask_v6(conf, server, &name);
            tokio::pin!(v6);
            let (mut has_v4, mut has_v6) = (false, false);
            step = loop {
                let event = tokio::select! {
                    reply = &mut v4, if !has_v4 => { has_v4 = true; SearchEvent::Reply(Asked::V4, reply) }
                    reply = &mut v6, if !has_v6 && (has_v4 || !conf.single_request) => {
                        has_v6 = true;
                        SearchEvent::Reply(Asked::V6, reply)
                    }
                    () = tokio::time::sleep(Duration::from_nanos(until.since_ns(clock.now()))) => SearchEvent::Time,
                };
                match search.on(event, clock.now()) {
                    SearchStep::Wait(at) => until = at,
                    other => break other,
                }
            };
        }
    }

    /// What the system's files say, read again if one has changed.
    fn system(&self) -> Rc<System> {
        let mut files = self.0.files.borrow_mut();
        let is_new = files.look();
        let mut system = self.0.system.borrow_mut();
        if let Some(system) = system.as_ref().filter(|_| !is_new) {
            return system.clone();
        }
        let conf = match (self.0.server, &*self.0.dns.borrow()) {
            (Some(server), _) => Conf { servers: vec![server], timeout: TEST_TIMEOUT, attempts: 1, ..Conf::default() },
            (None, dns) => {
                let around = files.surroundings();
                let mut conf = match dns.servers.is_empty() {
                    true => Conf::read(&files.resolv_conf, &around),
                    false => Conf { servers: dns.servers.clone(), ..Conf::default() },
                };
                conf.timeout = dns.timeout.unwrap_or(conf.timeout);
                conf.attempts = dns.attempts.unwrap_or(conf.attempts);
                conf
            }
        };
        let known: Vec<String> = system.as_ref().map(|system| system.conf.left_out.clone()).unwrap_or_default();
        for server in conf.left_out.iter().filter(|server| !known.contains(server)) {
            warn!("a name server of /etc/resolv.conf is left out: {server}");
        }
        files.follow_interfaces(!conf.left_out.is_empty());
        let order = LookupOrder::read(&files.nsswitch);
        let new = Rc::new(System { conf: Arc::new(conf), order, hosts: files.hosts.clone() });
        *system = Some(new.clone());
        if is_new {
            self.0.edition.set(self.0.edition.get() + 1);
        }
        new
    }
}

/// Asks for IPv6 addresses, unless an option says not to.
async fn ask_v6(conf: &Conf, server: SocketAddr, name: &str) -> Reply {
    match conf.no_aaaa {
        true => Reply::NoData,
        false => wire::ask(server, name, Asked::V6, conf.use_vc).await,
    }
}

impl System {
    /// What DNS was asked and what it said, in words.
    fn looked(&self, host: &str, answer: &Resolution) -> String {
        let servers = self.conf.servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
        if let FamilyAnswer::Failed(why) = &answer.v4 {
            return format!("DNS cannot say ({why})");
        }
        let names = self.conf.candidates(host);
        let shown = names.iter().take(NAMES_SHOWN).map(|name| name.trim_end_matches('.')).collect::<Vec<_>>();
        let more = names.len().saturating_sub(NAMES_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("DNS ({servers}) has no address of {}{more}", shown.join(", "))
    }
}

/// An answer of the hosts file.
fn of_hosts(found: &[std::net::IpAddr]) -> Resolution {
    let family = |is_ipv6: bool| {
        let addresses: Vec<_> = found.iter().copied().filter(|ip| ip.is_ipv6() == is_ipv6).collect();
        match addresses.is_empty() {
            true => FamilyAnswer::Absent,
            false => FamilyAnswer::Found { addresses, ttl: HOSTS_TTL },
        }
    };
    Resolution::of(family(false), family(true), None)
}

#[cfg(test)]
mod glibc_tests;
#[cfg(test)]
mod tests;
