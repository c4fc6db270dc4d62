//! What `/etc/resolv.conf` and `/etc/nsswitch.conf` say, read as glibc reads them. Pure.
//!
//! A host that the C library finds must be found here, in the same order. So the odd rules are kept too: a keyword
//! begins its line, the last `search` or `domain` counts, and at most three name servers are used. Sources:
//! resolv.conf(5), nsswitch.conf(5), and glibc's `resolv/res_init.c` where these say nothing; `glibc_tests.rs` compares
//! with the C library.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// How many name servers are used (MAXNS).
const SERVERS_MAX: usize = 3;
/// How many domains are searched. glibc has had no limit since 2.26; this one bounds the time of a lookup.
const SEARCH_MAX: usize = 32;
/// The largest `ndots`, `timeout` and `attempts` (RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY).
const NDOTS_MAX: u32 = 15;
const TIMEOUT_MAX_S: u32 = 30;
const ATTEMPTS_MAX: u32 = 5;
/// The port of name servers.
const PORT: u16 = 53;

/// How names are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conf {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// Domains that are appended to a name, in this order.
    pub search: Vec<String>,
    /// A name with at least this many dots is first asked for as it is.
    pub ndots: usize,
    /// How long the first server has to answer; see [`Conf::patience`].
    pub timeout: Duration,
    /// How often all servers are tried.
    pub attempts: u32,
    /// Whether each lookup begins with another server.
    pub rotate: bool,
    /// Whether TCP is used from the beginning.
    pub use_vc: bool,
    /// Whether a name without a dot is asked for only with a domain of the list.
    pub no_tld_query: bool,
    /// Whether the second family is asked for only when the first one was answered.
    pub single_request: bool,
    /// Whether IPv6 addresses are not asked for.
    pub no_aaaa: bool,
    /// Name servers in the file that cannot be used, and why.
    pub left_out: Vec<String>,
}

/// What else influences lookups, besides the files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Surroundings {
    /// The name of this host. If the file names no domain, what follows its first dot is searched.
    pub hostname: String,
    /// `LOCALDOMAIN`: the search list, whatever the file says.
    pub local_domain: Option<String>,
    /// `RES_OPTIONS`: further options.
    pub options: Option<String>,
    /// `/proc/net/if_inet6`: the interfaces, which link-local name servers need.
    pub interfaces: String,
}

impl Default for Conf {
    fn default() -> Conf {
        Conf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_vc: false,
            no_tld_query: false,
            single_request: false,
            no_aaaa: false,
            left_out: Vec::new(),
        }
    }
}

impl Conf {
    /// Reads the text of a `resolv.conf`. What it does not say has glibc's default.
    pub(crate) fn read(text: &str, around: &Surroundings) -> Conf {
        let mut conf = Conf::default();
        let mut search = None;
        let mut count = 0;
        for line in text.lines() {
            let Some((keyword, rest)) = line.split_once([' ', '\t']) else { continue };
            match keyword {
                "nameserver" => {
                    let text = rest.trim_start_matches([' ', '\t']);
                    let text = text.split([';', '#', ' ', '\t', '\r']).next().unwrap_or_default();
                    count += usize::from(!text.is_empty());
                    if text.is_empty() || count > SERVERS_MAX {
                        continue;
                    }
                    match server(text, &around.interfaces) {
                        Ok(server) => conf.servers.push(server),
                        Err(why) => conf.left_out.push(format!("{text}: {why}")),
                    }
                }
                "domain" => search = words(rest).next().map(|domain| vec![domain.to_owned()]).or(search),
                "search" => search = Some(words(rest).map(str::to_owned).collect()),
                "options" => conf.options(rest),
                _ => {}
            }
        }
        if conf.servers.is_empty() && conf.left_out.is_empty() {
            conf.servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        let of_host = || around.hostname.split_once('.').map(|(_, domain)| vec![domain.to_owned()]);
        let wanted = around.local_domain.as_deref().map(|domains| words(domains).map(str::to_owned).collect());
        conf.search = wanted.or(search).or_else(of_host).unwrap_or_default();
        conf.search.retain(|domain| !domain.is_empty());
        conf.search.truncate(SEARCH_MAX);
        conf.options(around.options.as_deref().unwrap_or_default());
        conf
    }

    /// Reads options with a number, as in `ndots:2`.
    fn options(&mut self, text: &str) {
        for word in words(text) {
            let number = |name: &str, most: u32| {
                let digits = word.strip_prefix(name)?;
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                // What is not a number counts as 0 there.
                Some(digits[..end].parse::<u64>().unwrap_or(0).min(most.into()) as u32)
            };
            if let Some(ndots) = number("ndots:", NDOTS_MAX) {
                self.ndots = ndots as usize;
            } else if let Some(seconds) = number("timeout:", TIMEOUT_MAX_S) {
                self.timeout = Duration::from_secs(seconds.max(1).into());
            } else if let Some(attempts) = number("attempts:", ATTEMPTS_MAX) {
                self.attempts = attempts.max(1);
            } else {
                self.switch(word);
            }
        }
    }

    /// Reads an option without a number.
    fn switch(&mut self, word: &str) {
        match word {
            "rotate" => self.rotate = true,
            "use-vc" => self.use_vc = true,
            "no-tld-query" => self.no_tld_query = true,
            "single-request" | "single-request-reopen" => self.single_request = true,
            "no-aaaa" => self.no_aaaa = true,
            _ => {}
        }
    }

    /// How long the server at this place has to answer. As in glibc, `timeout` is doubled from place to place and
    /// divided by the number of servers, except for the first one.
    pub(crate) fn patience(&self, place: usize) -> Duration {
        let all = (self.timeout.as_millis() as u64) << place.min(SERVERS_MAX);
        let count = if place > 0 { self.servers.len().max(1) as u64 } else { 1 };
        // Only whole seconds, if the timeout is in whole seconds.
        let ms = if self.timeout.subsec_millis() == 0 { all / 1000 / count * 1000 } else { all / count };
        let least = Duration::from_secs(1).min(self.timeout);
        Duration::from_millis(ms).max(least)
    }

    /// The names to ask for, one after the other (glibc's `res_search`).
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        let is_complete = name.ends_with('.');
        let as_it_is = if is_complete { name.to_owned() } else { format!("{name}.") };
        if is_complete {
            return vec![as_it_is];
        }
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let searched = self.search.iter().map(|domain| {
            let domain = domain.strip_prefix('.').unwrap_or(domain).trim_end_matches('.');
            if domain.is_empty() { as_it_is.clone() } else { format!("{name}.{domain}.") }
        });
        let mut all: Vec<String> = Vec::new();
        if dots >= self.ndots {
            all.push(as_it_is.clone());
        }
        all.extend(searched);
        if dots > 0 || self.search.is_empty() || !self.no_tld_query {
            all.push(as_it_is);
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|name| seen.insert(name.clone()));
        all
    }
}

/// The words of a line.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\r']).filter(|word| !word.is_empty())
}

/// The address behind `nameserver`.
fn server(text: &str, interfaces: &str) -> Result<SocketAddr, String> {
    let Some((address, zone)) = text.split_once('%') else {
        let ip: IpAddr = text.parse().map_err(|_| "is no IP address".to_owned())?;
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return Err("a link-local address needs its interface, as in fe80::1%eth0".to_owned());
        }
        return Ok(SocketAddr::new(ip, PORT));
    };
    let ip: Ipv6Addr = address.parse().map_err(|_| "is no IPv6 address with an interface".to_owned())?;
    let scope = if ip.is_unicast_link_local() { scope(zone, interfaces) } else { Some(0) };
    let scope = scope.ok_or_else(|| format!("this host has no interface `{zone}` that speaks IPv6"))?;
    Ok(SocketAddr::V6(SocketAddrV6::new(ip, PORT, 0, scope)))
}

/// The number of an interface, given by name or number. A line of `interfaces` is `fe800000000000000000000000000001 02
/// 40 20 80 eth0`.
fn scope(zone: &str, interfaces: &str) -> Option<u32> {
    let by_name = interfaces.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let number = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
        (fields.next_back()? == zone).then_some(number)
    });
    by_name.or_else(|| zone.parse().ok().filter(|number| *number > 0))
}

/// Where names are looked for, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LookupOrder {
    /// The sources that ringway has.
    pub sources: Vec<NameSource>,
    /// Sources that only programs of the C library can ask.
    pub others: Vec<String>,
}

/// A source of names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NameSource {
    /// `/etc/hosts`
    Hosts,
    /// `/etc/hosts`, and nothing after it if the name is not in it.
    HostsOnly,
    /// Name servers.
    Dns,
    /// Name servers, and nothing after them if they deny the name.
    DnsOnly,
}

impl Default for LookupOrder {
    fn default() -> LookupOrder {
        LookupOrder { sources: vec![NameSource::Hosts, NameSource::Dns], others: Vec::new() }
    }
}

impl LookupOrder {
    /// Reads the line `hosts:` of an `nsswitch.conf`. `resolve` (systemd-resolved) is replaced by the name servers,
    /// which ask it.
    pub(crate) fn read(text: &str) -> LookupOrder {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
        let Some(line) = line.map(|line| line.split('#').next().unwrap_or_default()) else {
            return LookupOrder::default();
        };
        let line = line.replace('[', " [").replace(']', "] ");
        let mut order = LookupOrder { sources: Vec::new(), others: Vec::new() };
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let mut action = String::new();
            while words.peek().is_some_and(|next| next.starts_with('[') || is_open(&action)) {
                action += words.next().unwrap_or_default();
                action.push(' ');
            }
            let action = action.to_ascii_lowercase();
            let denies = action.contains("notfound=return") && !action.contains("!notfound=return");
            let is_last = denies || action.contains("!unavail=return");
            match word {
                "files" => order.sources.push(if is_last { NameSource::HostsOnly } else { NameSource::Hosts }),
                "dns" | "resolve" if order.has_dns() => {}
                "dns" => order.sources.push(if is_last { NameSource::DnsOnly } else { NameSource::Dns }),
                // If systemd-resolved does not run, the name servers may still know what it would.
                "resolve" => order.sources.push(NameSource::Dns),
                other => order.others.push(other.to_owned()),
            }
        }
        order
    }

    /// Whether name servers are among the sources.
    fn has_dns(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, NameSource::Dns | NameSource::DnsOnly))
    }
}

/// Whether an action in brackets is not closed yet.
fn is_open(action: &str) -> bool {
    action.contains('[') && !action.contains(']')
}

/// The addresses of a name in the text of an `/etc/hosts`, in the order of its lines.
pub(crate) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut fields = line.split_ascii_whitespace();
        let Some(address) = fields.next() else { continue };
        if fields.any(|field| field.eq_ignore_ascii_case(name))
            && let Ok(ip) = address.parse::<IpAddr>()
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests;
