//! From names to addresses, with a resolver that never blocks.
//!
//! `/etc/hosts` counts before DNS, the search list of `/etc/resolv.conf` as usual; both files are read anew when they
//! have changed. A and AAAA are asked for apart, so that what one of them fails to say is kept from before, and the
//! two never come from different names of the search list.

mod known;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tracing::{info, warn};

use known::{Answer, Family};
pub(super) use known::{Known, Learned, Pace};

/// One question, over all servers and attempts.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For the other family, once one has answered.
const GRACE: Duration = Duration::from_millis(500);
/// What the system is configured by.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks a resolver. Clones share what was read.
#[derive(Clone)]
pub(super) struct Resolver {
    /// Only this server, for tests.
    server: Option<SocketAddr>,
    read: Rc<RefCell<Option<Read>>>,
}

/// The system's configuration, and what shows whether it has changed.
struct Read {
    stamp: Stamp,
    system: Rc<System>,
}

/// What a file's change shows by.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The configuration of the system as it was read.
struct System {
    dns: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

impl Resolver {
    /// As the system is configured. For tests `RINGWAY_RESOLVER=ip:port` names the one server to ask.
    pub(super) fn new() -> Resolver {
        let server = std::env::var("RINGWAY_RESOLVER").ok().filter(|text| !text.is_empty());
        let parsed = server.as_ref().and_then(|text| text.parse().ok());
        if let (Some(text), None) = (&server, parsed) {
            warn!("RINGWAY_RESOLVER is {text}, which is no ip:port; it does not count");
        }
        Resolver { server: parsed, read: Rc::default() }
    }

    /// Looks a name up. Ends within some [`TIMEOUT`] for each entry of the search list.
    pub(super) async fn lookup(&self, host: &str) -> Answer {
        let Ok(name) = Name::from_ascii(host) else { return Answer::failed("it is no valid host name") };
        let system = match self.system() {
            Ok(system) => system,
            Err(error) => return Answer::failed(&format!("the resolver cannot be made: {error}")),
        };
        system.lookup(name).await
    }

    /// The system's configuration, read anew if a file has changed.
    fn system(&self) -> Result<Rc<System>, NetError> {
        let stamp = FILES.map(|file| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        if let Some(read) = self.read.borrow().as_ref().filter(|read| read.stamp == stamp) {
            return Ok(read.system.clone());
        }
        if let Some(read) = self.read.borrow_mut().as_mut()
            && let Some(file) = FILES.iter().find(|file| is_forbidden(file))
        {
            warn!("{file} was replaced, and this process may not read the new one: it uses what the old one said");
            read.stamp = stamp;
            return Ok(read.system.clone());
        }
        let system = Rc::new(System::read(self.server)?);
        *self.read.borrow_mut() = Some(Read { stamp, system: system.clone() });
        Ok(system)
    }
}

/// Another file in its place than the one that the process was let read when it started.
fn is_forbidden(file: &str) -> bool {
    std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

impl System {
    fn read(server: Option<SocketAddr>) -> Result<System, NetError> {
        let (config, options) = match server {
            Some(server) => {
                let mut options = ResolverOpts::default();
                (options.timeout, options.attempts) = (Duration::from_millis(300), 1);
                (only(server), options)
            }
            None => read_system_conf().unwrap_or_else(|error| {
                let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
                warn!(%error, "cannot use /etc/resolv.conf: names are looked up at {server}");
                (only(server), ResolverOpts::default())
            }),
        };
        let hosts = Hosts::from_system().unwrap_or_else(|error| {
            info!(%error, "no hosts file");
            Hosts::default()
        });
        System::of(config, options, hosts)
    }

    fn of(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<System, NetError> {
        // Whoever asks here wants to know what is so now, and has waited for it.
        options.cache_size = 0;
        let search = match (config.search(), config.domain()) {
            ([], Some(domain)) => vec![domain.clone()],
            (search, _) => search.to_vec(),
        };
        let ndots = options.ndots;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(System { dns: builder.build()?, hosts, search, ndots })
    }

    fn in_hosts(&self, name: &Name) -> Option<Answer> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let (v4, v6) = (of(RecordType::A), of(RecordType::AAAA));
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let family = |found: Option<_>| found.map_or(Family::Absent, |lookup| found_in(&lookup));
        Some(Answer { v4: family(v4), v6: family(v6) })
    }

    /// Looks into the hosts file, and then asks for one name of the search list after the other.
    async fn lookup(&self, name: Name) -> Answer {
        if let Some(answer) = self.in_hosts(&name) {
            return answer;
        }
        let mut last = Answer::failed("there is no name to ask for");
        for candidate in self.candidates(name) {
            last = self.ask(candidate).await;
            // A name that cannot be looked up now may exist, and what the next one stands for is another server.
            if !last.is_denial() {
                break;
            }
        }
        last
    }

    /// The names to try, one after the other.
    fn candidates(&self, name: Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name];
        }
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut as_it_is = name.clone();
        as_it_is.set_fqdn(true);
        let (first, last) = match usize::from(name.num_labels()) > self.ndots {
            true => (Some(as_it_is), None),
            false => (None, Some(as_it_is)),
        };
        first.into_iter().chain(searched).chain(last).collect()
    }

    /// Asks for both families at once; the slower one is not waited for long.
    async fn ask(&self, name: Name) -> Answer {
        let v4 = self.family(name.clone(), RecordType::A);
        let v6 = self.family(name, RecordType::AAAA);
        tokio::pin!(v4, v6);
        tokio::select! {
            v4 = &mut v4 => { let v6 = limited(&v4, v6).await; Answer { v4, v6 } }
            v6 = &mut v6 => { let v4 = limited(&v6, v4).await; Answer { v4, v6 } }
        }
    }

    async fn family(&self, name: Name, kind: RecordType) -> Family {
        self.dns.clear_cache();
        match tokio::time::timeout(TIMEOUT, self.dns.lookup(name, kind)).await {
            Ok(Ok(lookup)) => found_in(&lookup),
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Family::Absent,
            Ok(Err(error)) => Family::Failed(error.to_string()),
            Err(_) => Family::Failed(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

/// The other family has little time once the first one has brought addresses.
async fn limited(first: &Family, second: impl Future<Output = Family>) -> Family {
    if !matches!(first, Family::Found { .. }) {
        return second.await;
    }
    let late = |_| Family::Failed("the other kind of address was answered long before".to_owned());
    tokio::time::timeout(GRACE, second).await.unwrap_or_else(late)
}

fn found_in(lookup: &hickory_resolver::lookup::Lookup) -> Family {
    let answers = lookup.answers();
    let addresses: Vec<IpAddr> = answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    if addresses.is_empty() {
        return Family::Absent;
    }
    let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
    Family::Found { addresses, ttl: Duration::from_secs(ttl.into()) }
}

/// Asks that server and no other.
fn only(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections.to_vec())])
}

#[cfg(test)]
mod tests;
