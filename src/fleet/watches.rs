//! What is checked: each distinct target once, however many pools have it.
//!
//! A watch is a target with the question that is asked there; its subscribers are the seats that want the answer. Two
//! pools with the same server and the same check share one watch, so the server gets half as many connections.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::time::ns;
use crate::config::model::{Check, CheckAddress, CheckHeader, CheckKind, Dial, LocalAddress, Target, Version};
use crate::health::ask::{CheckTls, Opening, OpeningHeader};
use crate::health::schedule::Intervals;
use crate::health::transcript::Transcript;

/// Number of a watch; never given out twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WatchId(pub u64);

/// What makes two checks the same. What is made of the result (rise, fall, role, lag) is each subscriber's own.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WatchKey {
    /// Where to connect.
    pub target: Address,
    /// What to ask.
    pub kind: CheckKind,
    /// How to connect.
    pub(crate) opening: Opening,
    /// Whether it speaks TLS; where that is required, with the name that the server must prove.
    pub tls: CheckTls,
    /// More ports of the same host that must accept.
    pub also_ports: Vec<u16>,
    /// Of one check.
    pub timeout: Duration,
    /// Whether the role of a Redis is wanted: a Redis that has no role passes checks that do not ask for one.
    wants_role: bool,
    /// Between checks: steady, while changing, while down.
    intervals: [Duration; 3],
}

impl WatchKey {
    /// For a backend at that address, which is checked at `own` if that says where. `host` is the name that the address
    /// was found by, if it was.
    pub fn new(
        check: &Check,
        dial: &Dial,
        address: &Address,
        own: Option<&CheckAddress>,
        host: Option<&str>,
    ) -> WatchKey {
        let place = check.place(own, &Target::Address(address.clone()));
        let target = place.address().unwrap_or(address).clone();
        let wants_role = matches!(check.kind, CheckKind::Redis { .. }) && check.role.is_some();
        let intervals = [check.interval, check.fast_interval, check.down_interval];
        let is_elsewhere = own.is_some() || check.port.is_some();
        let opening = opening(dial, check, &target, is_elsewhere);
        // At an address of its own there may be another server.
        let host = host.filter(|_| !matches!(own, Some(CheckAddress::At(_))));
        WatchKey {
            tls: tls(&check.tls, &target, host),
            kind: check.kind.clone(),
            opening,
            also_ports: check.also_ports.clone(),
            timeout: check.timeout,
            wants_role,
            intervals,
            target,
        }
    }

    /// For the agent at that address, beside a server that is checked so.
    pub fn of_agent(check: &Check, dial: &Dial, target: Address) -> WatchKey {
        WatchKey {
            kind: CheckKind::Agent,
            opening: Opening { header: None, ..opening(dial, check, &target, true) },
            tls: CheckTls::Off,
            also_ports: Vec::new(),
            timeout: check.timeout,
            wants_role: false,
            intervals: [check.interval; 3],
            target,
        }
    }

    /// Times between checks.
    pub fn intervals(&self) -> Intervals {
        let [steady, fast, down] = self.intervals;
        Intervals { steady_ns: ns(steady), fast_ns: ns(fast), down_ns: ns(down) }
    }
}

/// TLS as the check wants it, with the name of the server: what the configuration says, else the host of the address.
fn tls(wanted: &CheckTls, target: &Address, host: Option<&str>) -> CheckTls {
    let CheckTls::Require { trust, server_name, identity } = wanted else { return wanted.clone() };
    let server_name = match (server_name.is_empty(), target) {
        (false, _) => server_name.clone(),
        (true, Address::Tcp(address)) => host.map_or_else(|| address.ip().to_string(), str::to_string),
        // A socket has no name; the configuration gives one where it counts.
        (true, Address::Unix(_)) => String::new(),
    };
    CheckTls::Require { trust: trust.clone(), server_name, identity: identity.clone() }
}

/// As sessions of the pool connect, as far as a check can, unless the check says otherwise. At a port or an address of
/// its own (`is_elsewhere`) there is another server, which knows nothing of PROXY headers; and of a bare connect no
/// server hears.
fn opening(dial: &Dial, check: &Check, target: &Address, is_elsewhere: bool) -> Opening {
    let is_same_family = |address: &&IpAddr| matches!(target, Address::Tcp(to) if to.is_ipv6() == address.is_ipv6());
    let source = match &dial.source {
        LocalAddress::Addresses(all) => all.iter().find(is_same_family).copied(),
        // No client stands behind a check.
        LocalAddress::Any | LocalAddress::Client => None,
    };
    let of_pool = dial.send_proxy;
    let header = match check.header {
        CheckHeader::Auto => {
            let version = of_pool.filter(|_| !is_elsewhere && !check.is_bare());
            version.map(|version| OpeningHeader { version, is_named: version == Version::V1 })
        }
        CheckHeader::Off => None,
        CheckHeader::Local => Some(OpeningHeader { version: of_pool.unwrap_or(Version::V1), is_named: false }),
        CheckHeader::Named => Some(OpeningHeader { version: of_pool.unwrap_or(Version::V1), is_named: true }),
    };
    Opening { header, source }
}

/// A target that is checked.
#[derive(Debug)]
pub struct Watch {
    /// What is asked where, and how often.
    pub key: WatchKey,
    /// Whose state follows; at least one.
    pub subscribers: Vec<BackendId>,
    /// How the last check went.
    pub(crate) transcript: Option<Transcript>,
}

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    /// By what is checked, and how.
    by_key: HashMap<WatchKey, WatchId>,
    /// Every watch, in the order in which they began.
    all: BTreeMap<WatchId, Watch>,
    /// The id of the next one; ids are never used again.
    next: u64,
}

impl Watches {
    /// Adds a subscriber to the watch of that key, which begins with the first one.
    pub fn join(&mut self, key: WatchKey, subscriber: BackendId) -> WatchId {
        let id = *self.by_key.entry(key.clone()).or_insert_with(|| {
            self.next += 1;
            WatchId(self.next - 1)
        });
        let watch = self.all.entry(id).or_insert_with(|| Watch { key, subscribers: Vec::new(), transcript: None });
        watch.subscribers.push(subscriber);
        id
    }

    /// Takes a subscriber off; the watch ends with the last one.
    pub fn leave(&mut self, id: WatchId, subscriber: BackendId) {
        let Some(watch) = self.all.get_mut(&id) else { return };
        watch.subscribers.retain(|other| *other != subscriber);
        if watch.subscribers.is_empty() {
            self.by_key.remove(&watch.key);
            self.all.remove(&id);
        }
    }

    /// `None` exactly if it has ended.
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(&id)
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.all.get_mut(&id)
    }

    /// In the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = (WatchId, &Watch)> {
        self.all.iter().map(|(id, watch)| (*id, watch))
    }
}
