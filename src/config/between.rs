//! What can be wrong between keys although each key is right: the same address twice, a key that has no effect beside
//! another one, a pool that does not exist.
//!
//! It looks at what was written ([`Raw`]) rather than at its meaning, because it must know whether a key stands in the
//! file and where. The keys of a check belong together more closely; [`check`](super::check) looks at them. Ways that
//! lead back to their own listener are found in [`loops`].

mod client_port;
mod fallback;
mod pool_tls;
mod split;
mod tls;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use super::check::or;
use super::error::{Places, Problem};
use super::keys::Section;
use super::loops;
use super::model::{Admin, Backend, CheckTls, Config, LocalAddress, Policy, Target, Trust, at_client_port};
use super::raw::{self, Raw, Table};
use super::value::{self, At};
use crate::admit::routes::NamePattern;
use crate::base::address::{Address, BindAddress};
use crate::base::host;

/// What to do if an address is covered by the one for every IPv4 address.
const EVERY_V4: &str = "0.0.0.0 is every IPv4 address of this host: write one of both, or another port";
/// What to do if an address is covered by the one for every IPv6 address.
const EVERY_V6: &str = "[::] is every IPv6 address of this host: write one of both, or another port";

/// Finds every fault between keys and adds it to `faults`. `config` is the meaning of the file, as far as single keys
/// are right.
pub(super) fn between(raw: &Raw, config: &Config, places: &Places<'_>, faults: &mut Vec<At<Problem>>) {
    let mut between = Between { places, faults };
    between.binds(raw, &config.admin);
    between.hosts(raw, &config.admin);
    between.process(raw, config);
    between.pools(raw);
    between.checks(raw, config);
    between.fallbacks(raw, config);
    between.client_ports(raw, config);
    between.loops(raw, config);
}

/// Every place that is listened on, with the place in the file that it came from.
fn binds_of(raw: &Raw, admin: &Admin) -> Vec<(Range<usize>, BindAddress)> {
    let mut all: Vec<(Range<usize>, BindAddress)> = Vec::new();
    for (key, address) in [("listen", admin.listen), ("probes", admin.probes)] {
        all.extend(address.map(|address| (raw.admin.span_of(key), BindAddress::everywhere(Address::Tcp(address)))));
    }
    if let Some(path) = &admin.socket {
        all.push((raw.admin.span_of("socket"), BindAddress::everywhere(Address::Unix(path.clone()))));
    }
    for listener in &raw.listeners {
        let interface = listener.table.text_or_off("interface").map(Arc::from);
        let binds = listener.table.find_binds("bind").into_iter().flatten();
        all.extend(binds.map(|(span, address)| (span.clone(), BindAddress::new(address, interface.as_ref()))));
    }
    all
}

/// The check under way: where offsets are in the file, and what was found.
struct Between<'a, 't> {
    /// From offsets to lines.
    places: &'a Places<'t>,
    /// What was found.
    faults: &'a mut Vec<At<Problem>>,
}

impl Between<'_, '_> {
    /// Refuses to let the API be asked by any name: another page in a browser could then ask it too (DNS rebinding).
    fn hosts(&mut self, raw: &Raw, admin: &Admin) {
        if admin.hosts.iter().any(NamePattern::is_any) {
            let hint =
                "write the names by which you reach it: with any name, other pages in a browser could ask it too";
            let problem =
                Problem::BadValue { key: "hosts".to_string(), found: "\"*\"".to_string(), hint: hint.to_string() };
            self.faults.push((raw.admin.span_of("hosts"), problem));
        }
    }

    /// Refuses the same address twice, also where one of two covers the other (`0.0.0.0`). Port 0 is a new port each
    /// time. On another interface it is another address; a socket that is limited to an interface has its clients, and
    /// one beside it without that limit has the others.
    fn binds(&mut self, raw: &Raw, admin: &Admin) {
        let mut seen: HashMap<BindAddress, usize> = HashMap::new();
        let mut all_addresses: HashMap<_, Vec<(IpAddr, usize)>> = HashMap::new();
        let mut all = binds_of(raw, admin);
        all.sort_by_key(|(span, _)| span.start);
        for (span, bind) in all {
            let any_port = matches!(&bind.address, Address::Tcp(address) if address.port() == 0);
            let line = self.places.line(span.start);
            if let (false, Address::Tcp(tcp)) = (any_port, &bind.address) {
                let beside = all_addresses.entry((tcp.port(), tcp.is_ipv4(), bind.interface.clone())).or_default();
                let covers = |other: &&(IpAddr, usize)| {
                    other.0 != tcp.ip() && (other.0.is_unspecified() || tcp.ip().is_unspecified())
                };
                if let Some((other, line)) = beside.iter().find(covers) {
                    let (every, one) = if other.is_unspecified() { (*other, tcp.ip()) } else { (tcp.ip(), *other) };
                    let what = format!("port {} of {one}", tcp.port());
                    let hint = if every.is_ipv4() { EVERY_V4 } else { EVERY_V6 };
                    self.faults.push((span, Problem::Duplicate { what, line: *line, hint }));
                    continue;
                }
                beside.push((tcp.ip(), line));
            }
            if let (false, Some(line)) = (any_port, seen.insert(bind.clone(), line)) {
                let hint =
                    "every listener, `admin.listen`, `admin.probes` and `admin.socket` need an address of their own";
                self.faults.push((span, Problem::Duplicate { what: format!("`{bind}`"), line, hint }));
            }
        }
    }

    /// Refuses keys of a socket or a log that is not configured.
    fn process(&mut self, raw: &Raw, config: &Config) {
        if config.admin.socket.is_none() && raw.admin.is_asked_for(Section::Admin, "socket_mode") {
            self.needs(&raw.admin, "socket_mode", "`socket`", "leave it out, or add the path of a socket");
        }
        for key in ["format", "skip_empty"] {
            if config.access_log.is_none() && raw.access_log.is_asked_for(Section::AccessLog, key) {
                self.needs(&raw.access_log, key, "`output`", "leave it out, or say where the access log goes");
            }
        }
    }

    /// Checks each listener, route and pool. A fault that follows from one reported before (`has_wrong_…`) is left out.
    fn pools(&mut self, raw: &Raw) {
        if raw.listeners.is_empty() && !raw.has_wrong_listeners {
            self.faults.push((0..0, Problem::NoListener));
        }
        for listener in &raw.listeners {
            for table in listener.routes.iter().chain([&listener.table]) {
                self.leads_somewhere(table, raw);
                self.split(table, raw);
            }
            self.listener(listener);
            self.tls(listener);
        }
        for pool in &raw.pools {
            if let Some(discover) = &pool.discover {
                super::discover::between_keys(discover, &format!("pools.{}.discover", pool.name), self.faults);
            } else if pool.backends.is_empty() && !pool.has_wrong_backends {
                self.faults.push((pool.table.span.clone(), Problem::EmptyPool(pool.name.clone())));
            }
            self.backend_names(pool);
            self.backend_addresses(pool);
            self.primary(pool);
            self.balance(pool);
            self.main_up(pool);
            self.speaks_first(pool);
            self.source(pool);
            self.check_addresses(pool);
            self.pool_tls(pool, raw);
        }
    }

    /// Refuses source addresses of a family that no backend of the pool has.
    fn source(&mut self, pool: &raw::Pool) {
        let LocalAddress::Addresses(all) = pool.table.source("source") else { return };
        let targets = || pool.backends.iter().filter_map(|backend| backend.find_target("address"));
        let has_host = pool.discover.is_some() || targets().any(|target| matches!(target.place(), Target::Host { .. }));
        let is_v6 = |target: &Target| match target.place() {
            Target::Address(Address::Tcp(address)) => Some(address.is_ipv6()),
            _ => None,
        };
        for address in all.iter() {
            if !has_host && !targets().filter_map(is_v6).any(|is_v6| is_v6 == address.is_ipv6()) {
                let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
                let problem = Problem::BadValue {
                    key: "source".to_string(),
                    found: format!("\"{address}\""),
                    hint: format!("the pool has no {family} backend that it could be used for"),
                };
                self.faults.push((pool.table.span_of("source"), problem));
            }
        }
    }

    /// Refuses a listener or route whose pool does not exist.
    fn leads_somewhere(&mut self, table: &Table, raw: &Raw) {
        let Some(pool) = table.find_text("pool") else { return };
        self.names_a_pool(pool, table.span_of("pool"), raw);
    }

    /// Refuses the name of a pool that does not exist.
    fn names_a_pool(&mut self, pool: &str, span: Range<usize>, raw: &Raw) {
        if raw.has_wrong_pools || raw.pools.iter().any(|known| known.name == pool) {
            return;
        }
        let hint = match value::nearest(pool, raw.pools.iter().map(|known| known.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add [pools.{pool}] with [[pools.{pool}.backends]]"),
        };
        self.faults.push((span, Problem::UnknownPool { pool: pool.to_string(), hint }));
    }

    /// Refuses keys that have no effect with this balancing policy.
    fn balance(&mut self, pool: &raw::Pool) {
        let table = &pool.table;
        let policy = Policy::named(table.word("balance"));
        for (key, takers) in Policy::keys() {
            if !policy.takes(key) && table.is_asked_for(Section::Pool, key) {
                self.needs(table, key, &format!("balance = {}", or(&takers)), "leave it out, or change `balance`");
            }
        }
        if policy.sends_all_to_one() && table.is_asked_for(Section::Pool, "slow_start") {
            let hint = format!("{policy} sends all clients to one backend; leave it out");
            self.needs(table, "slow_start", "a `balance` that uses several backends", &hint);
        }
        let factor: u32 = table.number("hash_balance_factor");
        if (1..=100).contains(&factor) {
            let hint = "every backend must be allowed more than its share; write 101 or more, as in 125".to_string();
            let problem = Problem::BadValue { key: "hash_balance_factor".to_string(), found: factor.to_string(), hint };
            self.faults.push((table.span_of("hash_balance_factor"), problem));
        }
    }

    /// Refuses to wait for the client where the check says that the server speaks first.
    fn speaks_first(&mut self, pool: &raw::Pool) {
        if pool.table.word("connect_on") == "first_byte" && pool.check.word("type") == "mysql" {
            let problem = Problem::BadValue {
                key: "connect_on".to_string(),
                found: "\"first_byte\" where the check has type = \"mysql\"".to_string(),
                hint: "a MySQL client waits for the server's greeting, so both would wait; leave it out".to_string(),
            };
            self.faults.push((pool.table.span_of("connect_on"), problem));
        }
    }

    /// Refuses to cut sessions of backups where there are none, or where nothing tells that another backend is well.
    fn main_up(&mut self, pool: &raw::Pool) {
        let table = &pool.table;
        if table.word("on_main_up") != "close" {
            return;
        }
        if pool.check.word("type") == "off" {
            self.needs(table, "on_main_up", "a check", "leave it at \"keep\", or set the `type` of the pool's check");
        }
        let is_backup = |backend: &Table| backend.number::<u16>("backup") > 0;
        if !pool.backends.is_empty() && pool.discover.is_none() && !pool.backends.iter().any(is_backup) {
            self.needs(table, "on_main_up", "a backend with `backup`", "leave it at \"keep\", or name the backups");
        }
    }

    /// Refuses to use every backend when none is up, in a pool that wants the primary: clients could write to a
    /// replica.
    fn primary(&mut self, pool: &raw::Pool) {
        if pool.check.word("role") == "primary" && pool.table.word("when_all_down") == "use_all" {
            let problem = Problem::BadValue {
                key: "when_all_down".to_string(),
                found: "\"use_all\" where the check has role = \"primary\"".to_string(),
                hint: "a backend that is not the primary takes no writes; leave it at \"refuse\"".to_string(),
            };
            self.faults.push((pool.table.span_of("when_all_down"), problem));
        }
    }

    /// Refuses the same server twice in a pool: it would get two shares, two limits, and two votes on which backend is
    /// the primary.
    fn backend_addresses(&mut self, pool: &raw::Pool) {
        let mut seen: HashMap<String, (Option<String>, usize)> = HashMap::new();
        for backend in &pool.backends {
            let Some(target) = backend.find_target("address") else { continue };
            let (name, span) = (backend.name_or_address(), backend.span_of("address"));
            let line = self.places.line(span.start);
            match seen.entry(same_place(target)) {
                Entry::Vacant(place) => _ = place.insert((name, line)),
                // Two backends without a `name` have the same name, which was reported.
                Entry::Occupied(first) if first.get().0 == name => {}
                Entry::Occupied(first) => {
                    let hint = "a pool has each address once; for a greater share raise its `weight`";
                    let (what, line) = (format!("the address `{target}`"), first.get().1);
                    self.faults.push((span, Problem::Duplicate { what, line, hint }));
                }
            }
        }
    }

    /// Refuses an address for checks where nothing is checked.
    fn check_addresses(&mut self, pool: &raw::Pool) {
        for backend in pool.backends.iter().filter(|_| pool.check.word("type") == "off") {
            if backend.is_asked_for(Section::Backend, "check_address") {
                self.needs(backend, "check_address", "a check", "leave it out, or set the `type` of the pool's check");
            }
        }
    }

    /// Refuses what a check over a unix socket cannot do.
    fn checks(&mut self, raw: &Raw, config: &Config) {
        for pool in &config.pools {
            let Some(check) = &pool.check else { continue };
            let Some(table) = raw.pools.iter().find(|raw| *raw.name == *pool.name).map(|raw| &raw.check) else {
                continue;
            };
            let at_socket =
                pool.backends.iter().find(|backend| matches!(backend.target, Target::Address(Address::Unix(_))));
            if let Some(socket) = at_socket.filter(|_| check.agent_port.is_some()) {
                let hint = format!("`{}` is a unix socket, which has none; leave `agent_port` out", socket.name);
                self.needs(table, "agent_port", "a host with ports", &hint);
            }
            let is_socket = |place: Target| matches!(place, Target::Address(Address::Unix(_)));
            let place = |backend: &Backend| check.place(backend.check_address.as_ref(), &backend.target);
            let Some(socket) = pool.backends.iter().find(|backend| is_socket(place(backend))) else { continue };
            let name = &socket.name;
            let is_nameless = matches!(&check.tls, CheckTls::Require { trust, server_name, .. }
                if *trust != Trust::Unverified && server_name.is_empty());
            if is_nameless {
                let hint = format!("the unix socket of `{name}` has no name that its certificate could have");
                self.needs(table, "tls", "`server_name`", &hint);
            }
            if !check.also_ports.is_empty() {
                let hint = format!("`{name}` is a unix socket, which has none; leave `also_ports` out");
                self.needs(table, "also_ports", "a host with ports", &hint);
            }
        }
    }

    /// Refuses the same backend name twice, and names like `a#2`, which ringway gives to further addresses of a host
    /// name.
    fn backend_names(&mut self, pool: &raw::Pool) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for backend in &pool.backends {
            let Some(name) = backend.name_or_address() else { continue };
            let span = backend.span_of(if backend.find_text("name").is_some() { "name" } else { "address" });
            let line = self.places.line(span.start);
            if let Some(line) = seen.insert(name.clone(), line) {
                let hint = "give each backend of a pool a `name` of its own";
                let problem = Problem::Duplicate { what: format!("the backend name `{name}`"), line, hint };
                self.faults.push((span.clone(), problem));
            }
            let numbered = name.rsplit_once('#').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
            let taken = numbered.and_then(|(base, _)| pool.backends.iter().find(|other| is_host_called(other, base)));
            if let Some(other) = taken {
                let (what, line) = (format!("the backend name `{name}`"), self.places.line(other.span.start));
                let hint = "further addresses of a host name are called so; choose another `name`";
                self.faults.push((span, Problem::Duplicate { what, line, hint }));
            }
        }
    }

    /// Refuses keys of a listener that have no effect without another key.
    fn listener(&mut self, raw: &raw::Listener) {
        let table = &raw.table;
        let is_written = |key: &str| table.is_asked_for(Section::Listener, key);
        if table.word("accept_proxy") == "required" {
            if table.networks("proxy_trusted").is_empty() {
                let hint =
                    "name the proxies that send the header, as in [\"10.0.0.0/8\"]: each of them can claim any address";
                self.needs(table, "accept_proxy", "`proxy_trusted`", hint);
            }
        } else {
            for key in ["proxy_trusted", "proxy_timeout"].into_iter().filter(|key| is_written(key)) {
                self.needs(table, key, "accept_proxy = \"required\"", "leave it out, or expect a header");
            }
        }
        let limits = |table: &Table| {
            table.number::<u32>("source_connections_max") > 0 || table.rate("source_rate_max").count > 0
        };
        let is_limited = limits(table) || raw.routes.iter().any(limits);
        for key in ["source_prefix_v6", "source_unlimited"] {
            if is_written(key) && !is_limited {
                let what = "`source_connections_max` or `source_rate_max`";
                self.needs(table, key, what, "leave it out, or add a limit");
            }
        }
        let is_unix = |(_, address): &(_, Address)| matches!(address, Address::Unix(_));
        if is_written("unix_mode") && table.find_binds("bind").is_some_and(|binds| !binds.iter().any(is_unix)) {
            let hint = "leave it out, or add \"unix:/path\" to `bind`";
            self.needs(table, "unix_mode", "a `bind` to a unix socket", hint);
        }
        if table.flag("freebind") && table.find_binds("bind").is_some_and(|binds| binds.iter().all(is_unix)) {
            self.needs(table, "freebind", "a `bind` to an IP address", "leave it out");
        }
        let has_interface = table.text_or_off("interface").is_some();
        if has_interface && table.find_binds("bind").is_some_and(|binds| binds.iter().all(is_unix)) {
            self.needs(table, "interface", "a `bind` to an IP address", "leave it out");
        }
        if raw.routes.is_empty() {
            for key in ["preread_timeout", "unmatched"].into_iter().filter(|key| is_written(key)) {
                self.needs(table, key, "routes", "leave it out, or add [[listeners.NAME.routes]]");
            }
        }
        for route in raw.routes.iter().filter(|route| !route.is_wrong) {
            let protocol = route.word("protocol");
            let is_of_tls = !route.server_names("sni").is_empty() || !route.protocols("alpn").is_empty();
            if !is_of_tls && protocol == "any" {
                self.faults.push((route.span.clone(), Problem::RouteForAll));
            }
            // PostgreSQL asks for TLS first, and then sends a ClientHello too.
            if is_of_tls && !["any", "tls", "postgresql"].contains(&protocol) {
                let hint = format!(
                    "a client of \"{protocol}\" sends no ClientHello; leave out `sni` and `alpn`, or write \"tls\""
                );
                let problem = Problem::BadValue { key: "protocol".to_string(), found: value::quoted(protocol), hint };
                self.faults.push((route.span_of("protocol"), problem));
            }
        }
    }

    /// Refuses ways that certainly lead back to their own listener.
    fn loops(&mut self, raw: &Raw, config: &Config) {
        for found in loops::find(config, &|_| false).into_iter().filter(|found| found.is_certain) {
            let pool = raw.pools.iter().find(|pool| pool.name == found.pool);
            let backends = pool.into_iter().flat_map(|pool| &pool.backends);
            let backend =
                backends.into_iter().find(|backend| backend.name_or_address().as_ref() == Some(&found.backend));
            let span = backend.map_or(0..0, |backend| backend.span_of("address"));
            self.faults.push((span, Problem::Loop(found.way)));
        }
    }

    /// Reports a key that has no effect without `what`.
    fn needs(&mut self, table: &Table, key: &'static str, what: &str, hint: &str) {
        let problem = Problem::Needs { key, what: what.to_string(), hint: hint.to_string() };
        self.faults.push((table.span_of(key), problem));
    }
}

/// A text that is equal for two targets exactly if they mean the same address.
fn same_place(target: &Target) -> String {
    match target {
        Target::Address(Address::Tcp(SocketAddr::V6(address))) if address.scope_id() != 0 => address.to_string(),
        Target::Address(Address::Tcp(address)) => format!("{}:{}", address.ip().to_canonical(), address.port()),
        Target::Address(other) => other.to_string(),
        Target::Host { name, port } => format!("{}:{port}", host::without_dot(name).to_ascii_lowercase()),
        Target::AtClientPort { place, shift } => at_client_port(same_place(place), *shift),
    }
}

/// Whether this backend has a host name as its address and is called `name`.
fn is_host_called(table: &Table, name: &str) -> bool {
    let is_host = matches!(table.find_target("address").map(Target::place), Some(Target::Host { .. }));
    is_host && table.name_or_address().is_some_and(|its| its == name)
}
