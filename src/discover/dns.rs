//! From names to addresses, with a resolver that never blocks.
//!
//! It behaves as the C library does on the same files ([`conf`]), one question at a time: [`search`] decides whom to
//! ask for which name, [`wire`] asks. `/etc/hosts`, `/etc/resolv.conf` and `/etc/nsswitch.conf` are read again when
//! they have changed ([`files`]). A and AAAA are asked for apart, so that what one of them fails to say is kept from
//! before ([`known`](crate::discover::known)), and the two never come from different names of the search list.
//! `docs/names.md` tells users.

mod conf;
mod files;
mod once;
mod search;
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

/// How long what the hosts file says holds, unless it changes.
const HOSTS_TTL: Duration = Duration::from_secs(300);
/// Lookups at the same time; each takes two descriptors.
const LOOKUPS_MAX: usize = 256;
/// Names that a reason lists.
const NAMES_SHOWN: usize = 4;
/// For tests that name the server by `RINGWAY_RESOLVER`.
const TEST_TIMEOUT: Duration = Duration::from_millis(300);

/// Reads one of [`NAME_FILES`].
pub type ReadFile = Box<dyn Fn(&str) -> std::io::Result<Vec<u8>> + Send>;

/// `[dns]`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dns {
    /// The servers that are asked, in this order; empty: as the system is configured.
    pub servers: Vec<SocketAddr>,
    /// How long each has to answer; `None`: as the system is configured.
    pub timeout: Option<Duration>,
    /// How often all of them are gone through; `None`: as the system is configured.
    pub attempts: Option<u32>,
}

/// Asks a resolver. Clones are the same one.
#[derive(Clone)]
pub struct Resolver(Rc<ResolverState>);

struct ResolverState {
    /// Only this server, for tests.
    server: Option<SocketAddr>,
    /// `[dns]`
    dns: RefCell<Dns>,
    files: RefCell<Files>,
    system: RefCell<Option<Rc<System>>>,
    /// Lookups so far.
    turn: Cell<usize>,
    /// How often the files were read.
    edition: Cell<u64>,
    /// So that many names do not take all descriptors.
    lookups: Semaphore,
    clock: Clock,
}

/// The configuration of the system as it was read.
#[derive(Debug)]
struct System {
    conf: Arc<Conf>,
    order: LookupOrder,
    hosts: String,
}

impl Resolver {
    /// As the system is configured, and `[dns]` says. For tests `RINGWAY_RESOLVER=ip:port` names the one server to ask.
    /// `read_file` reads what this process may not open any more.
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

    /// From now on as `[dns]` says.
    pub fn set(&self, dns: &Dns) {
        self.0.dns.replace(dns.clone());
        self.0.system.replace(None);
    }

    /// Another number whenever a file has changed.
    pub fn edition(&self) -> u64 {
        self.system();
        self.0.edition.get()
    }

    /// Looks a name up. How long that takes is bounded by the time-outs and the search list.
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

    /// Drives a [`Search`].
    async fn ask(&self, conf: &Arc<Conf>, host: &str) -> Resolution {
        let clock = &self.0.clock;
        let mut search = Search::new(conf.clone(), host, self.0.turn.get());
        let mut step = search.on(SearchEvent::Begin, clock.now());
        loop {
            let (server, name, mut until) = match step {
                SearchStep::Done(answer) => return answer,
                SearchStep::Ask(server, name, until) => (server, name, until),
                // Nothing is asked, so nothing but time can pass.
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

    /// The system's configuration, read anew if a file has changed.
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

/// The second family, as the options want it.
async fn ask_v6(conf: &Conf, server: SocketAddr, name: &str) -> Reply {
    match conf.no_aaaa {
        true => Reply::NoData,
        false => wire::ask(server, name, Asked::V6, conf.use_vc).await,
    }
}

impl System {
    /// What DNS was asked, and what it said; for a person.
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
