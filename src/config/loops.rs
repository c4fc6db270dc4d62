//! Finds ways that lead back: a listener whose pool has a backend that is the same listener again, directly or over
//! other listeners. A connection would go around until no descriptor is left. Pure.
//!
//! The configuration is a graph: listeners are nodes, and an edge leads from a listener over one of its pools, or one
//! that this falls back to, and a backend to the listener that has the backend's address. A cycle that every client
//! takes on every host is an error; one that depends on the host, or on what the client says, is a warning.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::model::{Backend, Chains, Config, Listener, Target, shifted};
use crate::base::address::Address;
use crate::base::host;

/// A way that leads back to its listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Loop {
    /// The pool by which the way leaves its listener.
    pub(super) pool: String,
    /// The backend by which it leaves the pool.
    pub(super) backend: String,
    /// The whole way as a text: `listener a → pool p → backend b → listener a`.
    pub(super) way: String,
    /// Every connection takes it, on every host and whatever the client says.
    pub(super) is_certain: bool,
}

/// Finds every way that leads back, once per backend that it begins with. Of the listeners on it, the first one in the
/// file begins it. `is_ours` says whether this host has an address (besides those that every host has).
pub(super) fn find(config: &Config, is_ours: &dyn Fn(IpAddr) -> bool) -> Vec<Loop> {
    let graph = Graph::of(config, is_ours);
    let mut found = Vec::new();
    for start in 0..config.listeners.len() {
        if graph.edges[start].is_empty() {
            continue;
        }
        let always = graph.always_leading_to(start);
        for edge in &graph.edges[start] {
            // A way over an earlier listener was found from there.
            let Some(way) = graph.way_back(edge, start).filter(|_| edge.to >= start) else { continue };
            let mut text = format!("listener {}", config.listeners[start].name);
            for edge in &way {
                let host = if edge.why.is_empty() { String::new() } else { format!(" ({})", edge.why) };
                let (way, backend, to) = (edge.way(), edge.backend, &config.listeners[edge.to].name);
                text += &format!(" → {way} → backend {}{host} → listener {to}", backend.name);
            }
            let comes_back = |at: usize| at == start || always.contains(&at);
            let is_certain = edge.is_certain && always.contains(&start) && comes_back(edge.to);
            let (pool, backend) = (edge.pool.to_string(), edge.backend.name.to_string());
            found.push(Loop { pool, backend, way: text, is_certain });
        }
    }
    found
}

/// From a listener, over one of its pools and a backend, to another listener.
struct Edge<'c> {
    /// The pools that fell back before it came to `pool`.
    fallen: Vec<&'c str>,
    /// The pool by which it leaves its listener.
    pool: &'c str,
    /// The backend by which it leaves the pool.
    backend: &'c Backend,
    /// The listener to which it leads.
    to: usize,
    /// It does not depend on the host, and the backend is in use.
    is_certain: bool,
    /// On what it depends; empty if it does not.
    why: &'static str,
}

impl Edge<'_> {
    /// The pools that it takes, as a text.
    fn way(&self) -> String {
        let fallen: String = self.fallen.iter().map(|pool| format!("pool {pool} → fallback ")).collect();
        format!("{fallen}pool {}", self.pool)
    }
}

/// The configuration as a graph. Listeners are known by their places in the file.
struct Graph<'c> {
    /// By listener: where its clients can come to.
    edges: Vec<Vec<Edge<'c>>>,
    /// By listener: the pools that its clients can get.
    pools: Vec<Vec<&'c str>>,
}

impl<'c> Graph<'c> {
    /// Builds the graph.
    fn of(config: &'c Config, is_ours: &dyn Fn(IpAddr) -> bool) -> Graph<'c> {
        let binds = Binds::of(&config.listeners);
        let pools: Vec<Vec<&str>> = config.listeners.iter().map(pools_of).collect();
        let mut of_pool: HashMap<&str, Vec<(&Backend, usize, bool, &'static str)>> = HashMap::new();
        for pool in &config.pools {
            let leads = |backend: &'c Backend| {
                let back = binds.behind(&backend.target, is_ours);
                back.into_iter().map(move |(to, why)| (backend, to, why.is_empty() && is_used(backend), why))
            };
            of_pool.insert(&pool.name, pool.backends.iter().flat_map(leads).collect());
        }
        let chains = Chains::of(config);
        let edges_of = |(from, pools): (usize, &Vec<&'c str>)| {
            let ports = ports_of(&config.listeners[from]);
            let mut edges = Vec::new();
            for chain in pools.iter().map(|pool| chains.from(pool)) {
                for (place, pool) in chain.iter().enumerate() {
                    let fallen: Vec<&'c str> = chain[..place].iter().map(|pool| &*pool.name).collect();
                    for &(backend, to, is_certain, why) in of_pool.get(&*pool.name).into_iter().flatten() {
                        // A fallback is not always used.
                        let is_certain = is_certain && fallen.is_empty();
                        edges.push(Edge { fallen: fallen.clone(), pool: &pool.name, backend, to, is_certain, why });
                    }
                    for backend in &pool.backends {
                        for (to, why) in binds.behind_ports(&backend.target, &ports, is_ours) {
                            let is_certain = why.is_empty() && is_used(backend) && fallen.is_empty();
                            edges.push(Edge { fallen: fallen.clone(), pool: &pool.name, backend, to, is_certain, why });
                        }
                    }
                }
            }
            edges
        };
        Graph { edges: pools.iter().enumerate().map(edges_of).collect(), pools }
    }

    /// The shortest way from an edge to a listener, over later listeners only, so that each cycle is found once
    /// (breadth-first search).
    fn way_back<'g>(&'g self, first: &'g Edge<'c>, goal: usize) -> Option<Vec<&'g Edge<'c>>> {
        let (mut seen, mut ways) = (HashSet::from([first.to]), std::collections::VecDeque::from([vec![first]]));
        while let Some(way) = ways.pop_front() {
            let at = way.last().map_or(goal, |edge| edge.to);
            if at == goal {
                return Some(way);
            }
            for edge in &self.edges[at] {
                if edge.to >= goal && seen.insert(edge.to) {
                    ways.push_back(way.iter().copied().chain([edge]).collect());
                }
            }
        }
        None
    }

    /// The listeners whose clients always come to `goal`: each of their pools has a backend that certainly leads there.
    /// It grows the set until nothing is added.
    fn always_leading_to(&self, goal: usize) -> HashSet<usize> {
        let mut known = HashSet::new();
        loop {
            let leads = |from: &usize| {
                self.pools[*from].iter().all(|pool| {
                    let mut edges = self.edges[*from].iter().filter(|edge| edge.pool == *pool && edge.is_certain);
                    edges.any(|edge| edge.to == goal || known.contains(&edge.to))
                })
            };
            let more: Vec<usize> = (0..self.pools.len()).filter(|from| !known.contains(from) && leads(from)).collect();
            if more.is_empty() {
                return known;
            }
            known.extend(more);
        }
    }
}

/// The pools that clients of a listener can get, each once. With `unmatched = "refuse"` the listener's own pool is not
/// one of them.
pub(crate) fn pools_of(listener: &Listener) -> Vec<&str> {
    let refuses = listener.preread.as_ref().is_some_and(|preread| preread.refuses_unmatched);
    let mut pools: Vec<&str> = match refuses {
        true => listener.route_pools().map(|pool| &**pool).collect(),
        false => listener.pools().map(|pool| &**pool).collect(),
    };
    pools.sort_unstable();
    pools.dedup();
    pools
}

/// Whether a backend gets sessions.
fn is_used(backend: &Backend) -> bool {
    !backend.disabled && backend.weight > 0
}

/// The ports of a listener that are known.
pub(crate) fn ports_of(listener: &Listener) -> Vec<u16> {
    let port = |bind: &Address| match bind {
        Address::Tcp(address) => Some(address.port()).filter(|port| *port > 0),
        Address::Unix(_) => None,
    };
    let mut ports: Vec<u16> = listener.binds.iter().filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Which listener has which address.
pub(crate) struct Binds<'c> {
    /// By address: the listener.
    of: HashMap<&'c Address, Way>,
    /// Listeners on every address of the host, by port and by whether it is IPv4.
    of_all: HashMap<(u16, bool), Way>,
}

/// A listener that an address leads to.
#[derive(Clone, Copy)]
struct Way {
    /// The place of the listener.
    to: usize,
    /// Whether it is limited to an interface other than loopback. This host comes to its own addresses by the interface
    /// that has them (`ip_route_output_key_hash_rcu`), so such a listener cannot be reached at a loopback address.
    is_limited: bool,
}

impl Way {
    /// Where it leads, and on what that depends.
    fn depending_on(self, why: &'static str) -> (usize, &'static str) {
        (self.to, if self.is_limited { OF_THIS_HOST } else { why })
    }
}

/// Why a way depends on the host: the backend's address may be its own.
const OF_THIS_HOST: &str = "an address of this host";
/// Why a way depends on the host: the backend's name may be its own.
const A_NAME_OF_IT: &str = "a name of this host";

impl<'c> Binds<'c> {
    /// For all listeners of a configuration, known by their places.
    pub(crate) fn of(listeners: &'c [Listener]) -> Binds<'c> {
        let (mut of, mut of_all) = (HashMap::new(), HashMap::new());
        let is_limited = |listener: &Listener| listener.interface.as_deref().is_some_and(|name| name != "lo");
        let mut numbered: Vec<(usize, &Listener)> = listeners.iter().enumerate().collect();
        // Of two at the same address the one that is reached by more ways counts.
        numbered.sort_by_key(|(_, listener)| is_limited(listener));
        for (to, listener) in numbered {
            let way = Way { to, is_limited: is_limited(listener) };
            for bind in &listener.binds {
                match bind {
                    Address::Tcp(address) if address.port() == 0 => {}
                    Address::Tcp(address) if address.ip().is_unspecified() => {
                        of_all.entry((address.port(), address.is_ipv4())).or_insert(way);
                    }
                    Address::Tcp(_) => _ = of.entry(bind).or_insert(way),
                    Address::Unix(_) => _ = of.insert(bind, Way { is_limited: false, ..way }),
                }
            }
        }
        Binds { of, of_all }
    }

    /// The same for a backend at the port of the client, if clients connect to one of these ports; each listener once.
    pub(crate) fn behind_ports(
        &self,
        target: &Target,
        ports: &[u16],
        is_ours: &dyn Fn(IpAddr) -> bool,
    ) -> Vec<(usize, &'static str)> {
        let Some(shift) = target.shift() else { return Vec::new() };
        let ports = ports.iter().filter_map(|port| shifted(*port, shift));
        let mut found: Vec<_> = ports.flat_map(|port| self.behind(&target.with_port(port), is_ours)).collect();
        found.sort_unstable();
        found.dedup_by_key(|(listener, _)| *listener);
        found
    }

    /// The listeners that a backend's address reaches, and on what that depends (empty if on nothing).
    pub(crate) fn behind(&self, target: &Target, is_ours: &dyn Fn(IpAddr) -> bool) -> Vec<(usize, &'static str)> {
        let address = match target {
            Target::Address(Address::Tcp(address)) => *address,
            Target::Address(unix) => return self.of.get(unix).map(|way| (way.to, "")).into_iter().collect(),
            Target::Host { name, port } if is_localhost(name) => {
                let both = ["127.0.0.1", "::1"].map(|ip| Target::Address(Address::Tcp(at(ip, *port))));
                let behind = both.iter().flat_map(|target| self.behind(target, is_ours));
                return behind.map(|(to, _)| (to, A_NAME_OF_IT)).collect();
            }
            // Where clients decide the port, the ports of their listener must be known.
            Target::Host { .. } | Target::AtClientPort { .. } => return Vec::new(),
        };
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let is_reached = |way: &&Way| !(way.is_limited && (ip.is_loopback() || ip.is_unspecified()));
        let exactly = self.of.get(&Address::Tcp(SocketAddr::new(ip, port))).or(self.of.get(&Address::Tcp(address)));
        if let Some(way) = exactly.filter(is_reached) {
            return vec![way.depending_on("")];
        }
        let all = self.of_all.get(&(port, ip.is_ipv4())).filter(is_reached);
        // To connect to the unspecified address means to connect to this host.
        let loopback = if ip.is_ipv4() { "127.0.0.1" } else { "::1" };
        match all {
            Some(way) if ip.is_loopback() || ip.is_unspecified() => vec![(way.to, "")],
            Some(way) if is_ours(ip) => vec![(way.to, OF_THIS_HOST)],
            None if ip.is_unspecified() => {
                let exactly = self.of.get(&Address::Tcp(at(loopback, port))).filter(is_reached);
                exactly.map(|way| (way.to, "")).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Whether a host name means this host everywhere.
fn is_localhost(name: &str) -> bool {
    host::without_dot(name).eq_ignore_ascii_case("localhost")
}

/// An address that is written in this file.
fn at(ip: &str, port: u16) -> SocketAddr {
    let ip = ip.parse().expect("an address that was written here");
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    /// What is said of a configuration that is read, or the ways of one that is refused.
    fn ways(text: &str, ours: &[&str]) -> Vec<(String, bool)> {
        match load(text, "f", &|_: &str| None) {
            Ok(config) => {
                let is_ours = |ip: IpAddr| ours.contains(&ip.to_string().as_str());
                find(&config, &is_ours).into_iter().map(|found| (found.way, found.is_certain)).collect()
            }
            Err(errors) => errors.into_iter().map(|error| (error.to_string(), true)).collect(),
        }
    }

    fn one(bind: &str, address: &str) -> String {
        format!(
            "[listeners.l]\nbind = \"{bind}\"\npool = \"p\"\n[pools.p]\nbackends = [{{ address = \"{address}\" }}]\n"
        )
    }

    #[test]
    fn a_backend_that_is_its_own_listener_is_refused() {
        for (bind, address) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("127.0.0.1:7000-7009", "127.0.0.1:7004"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.9.9.9:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("[::]:80", "[::1]:80"),
            ("[::1]:80", "[::]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            let found = ways(&one(bind, address), &[]);
            assert_eq!(found.len(), 1, "{bind} {address}: {found:?}");
            let way = format!("listener l → pool p → backend {address} → listener l");
            assert!(found[0].0.starts_with("f:5:25: ") && found[0].0.contains(&way), "{found:?}");
        }
    }

    #[test]
    fn a_backend_that_is_another_port_family_or_host_is_fine() {
        for (bind, address) in [
            ("0.0.0.0:80", "127.0.0.1:81"),
            ("0.0.0.0:80", "[::1]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.1:0", "127.0.0.1:80"),
            ("0.0.0.0:80", "10.0.0.1:80"),
            ("0.0.0.0:80", "db.example:80"),
            ("unix:/run/x.sock", "unix:/run/y.sock"),
        ] {
            assert_eq!(ways(&one(bind, address), &["10.0.0.7"]), [], "{bind} {address}");
        }
    }

    #[test]
    fn what_depends_on_the_host_or_on_the_operator_is_not_certain() {
        let way = |note: &str, name: &str| format!("listener l → pool p → backend {name} ({note}) → listener l");
        let found = ways(&one("0.0.0.0:80", "10.0.0.1:80"), &["10.0.0.1"]);
        assert_eq!(found, [(way(OF_THIS_HOST, "10.0.0.1:80"), false)]);
        let found = ways(&one("127.0.0.1:80", "localhost:80"), &[]);
        assert_eq!(found, [(way(A_NAME_OF_IT, "localhost:80"), false)]);
        for key in ["disabled = true", "weight = 0"] {
            let text = one("0.0.0.0:80", "127.0.0.1:80").replace(":80\" }", &format!(":80\", {key} }}"));
            let found = ways(&text, &[]);
            assert!(matches!(found.as_slice(), [(_, false)]), "{key}: {found:?}");
        }
    }

    /// The kernel shows a listener on one interface only what comes by it.
    #[test]
    fn a_listener_on_one_interface_is_not_reached_over_loopback() {
        let on = |interface: &str, bind: &str, address: &str| {
            one(bind, address).replace("pool =", &format!("interface = \"{interface}\"\npool ="))
        };
        assert_eq!(ways(&on("eth0", "0.0.0.0:80", "127.0.0.1:80"), &[]), []);
        assert_eq!(ways(&on("eth0", "127.0.0.1:80", "0.0.0.0:80"), &[]), []);
        assert_eq!(ways(&on("lo", "0.0.0.0:80", "127.0.0.1:80"), &[]).len(), 1);
        let way = format!("listener l → pool p → backend 10.0.0.1:80 ({OF_THIS_HOST}) → listener l");
        for bind in ["0.0.0.0:80", "10.0.0.1:80"] {
            let found = ways(&on("eth0", bind, "10.0.0.1:80"), &["10.0.0.1"]);
            assert_eq!(found, [(way.clone(), false)]);
        }
        let both = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n[listeners.m]\nbind = \"0.0.0.0:80\"\n\
                    interface = \"eth0\"\npool = \"q\"\n[pools]\np.backends = [{ address = \"10.0.0.9:80\" }]\n\
                    q.backends = [{ address = \"127.0.0.1:80\" }]\n";
        assert_eq!(ways(both, &[]), [], "it comes to the listener beside it");
    }

    #[test]
    fn a_way_around_over_several_listeners_is_told_once_and_whole() {
        let text = "[listeners.a]\nbind = \"127.0.0.1:1\"\npool = \"b\"\n\
                    [listeners.b]\nbind = \"0.0.0.0:2\"\npool = \"c\"\n\
                    [listeners.c]\nbind = \"127.0.0.1:3\"\npool = \"a\"\n\
                    [listeners.d]\nbind = \"127.0.0.1:4\"\npool = \"b\"\n[pools]\n\
                    a.backends = [{ address = \"10.0.0.1:1\" }, { name = \"y\", address = \"127.0.0.1:1\" }]\n\
                    b.backends = [{ address = \"127.0.0.1:2\" }]\nc.backends = [{ address = \"127.0.0.1:3\" }]\n";
        let found = ways(text, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        let way = "listener a → pool b → backend 127.0.0.1:2 → listener b → pool c → backend 127.0.0.1:3 → \
                   listener c → pool a → backend y → listener a";
        assert!(found[0].0.contains(way) && found[0].0.starts_with("f:15:27: "), "{found:?}");
    }

    /// It goes around only while the first pool is down.
    #[test]
    fn a_way_around_over_a_fallback_is_found_and_not_certain() {
        let text = |last: &str| {
            format!(
                "[listeners.l]\nbind = \"127.0.0.1:1\"\npool = \"p\"\n[pools]\n\
                 p.backends = [{{ address = \"10.0.0.1:1\" }}]\np.fallback = \"q\"\n\
                 q.backends = [{{ address = \"10.0.0.2:1\" }}]\nq.fallback = \"r\"\n\
                 r.backends = [{{ name = \"x\", address = \"{last}\" }}]\n"
            )
        };
        let way = "listener l → pool p → fallback pool q → fallback pool r → backend x → listener l";
        assert_eq!(ways(&text("127.0.0.1:1"), &[]), [(way.to_string(), false)]);
        assert_eq!(ways(&text("127.0.0.1:2"), &[]), []);
    }

    /// A client that names another server may get to another pool.
    #[test]
    fn with_routes_a_way_around_is_certain_only_if_every_route_leads_there() {
        let text = |unmatched: &str, other: &str| {
            format!(
                "[listeners.l]\nbind = \"127.0.0.1:1\"\npool = \"good\"\nunmatched = \"{unmatched}\"\nroutes = [\
                 {{ sni = [\"a.example\"], pool = \"bad\" }}, {{ sni = [\"b.example\"], pool = \"{other}\" }}]\n\
                 [pools]\ngood.backends = [{{ address = \"10.0.0.1:1\" }}]\n\
                 bad.backends = [{{ address = \"127.0.0.1:1\" }}]\n"
            )
        };
        for (unmatched, other, is_certain) in
            [("default", "bad", false), ("refuse", "good", false), ("refuse", "bad", true)]
        {
            let found = ways(&text(unmatched, other), &[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].1, is_certain, "{unmatched} {other}: {found:?}");
        }
    }
}
