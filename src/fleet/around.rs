//! Backends that are ringway itself: a connection to one would go around until no descriptor is left.
//!
//! What a file alone says is refused before it is used (`config::loops`). What a name stands for, and which addresses
//! this host has, is known only here. Both change: names move, and an address may come to this host and leave it while
//! ringway runs, as keepalived has them do. So the kernel is asked again after a while; not more often, because
//! thousands of backends may have the port of a listener, and all of them are looked at when one name moves.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Changes, Fleet};
use crate::base::time::Moment;
use crate::config::loops::{Binds, pools_of, ports_of};
use crate::config::model::{Chains, Config, Listener, Target};

/// Whether an address is one of this host's.
pub type IsOwn = fn(IpAddr) -> bool;

/// For how long answers of the kernel count.
const REMEMBERED_NS: u64 = 10_000_000_000;

/// Which addresses of backends are this host's.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    /// Asks the kernel.
    ask: IsOwn,
    /// What was said of the addresses that the last look asked for, and of no others.
    pub(super) said: HashMap<IpAddr, bool>,
    /// When the first of it was.
    since: Moment,
}

impl OwnAddresses {
    /// Nothing asked yet.
    pub(super) fn by(ask: IsOwn) -> OwnAddresses {
        OwnAddresses { ask, said: HashMap::new(), since: Moment::default() }
    }

    /// When what is known is too old; [`Moment::NEVER`] if nothing was asked for.
    pub(super) fn until(&self) -> Moment {
        if self.said.is_empty() { Moment::NEVER } else { self.since.after_ns(REMEMBERED_NS) }
    }

    /// To be called before a look: what is too old is forgotten.
    fn begin(&mut self, now: Moment) {
        if now >= self.until() {
            self.said.clear();
        }
        if self.said.is_empty() {
            self.since = now;
        }
    }
}

/// A look at all backends: what was known before, and what of it was wanted.
struct OwnLook<'o> {
    /// What is known from earlier looks.
    own: &'o OwnAddresses,
    /// What this look has asked for: it replaces what was known.
    wanted: RefCell<HashMap<IpAddr, bool>>,
}

impl OwnLook<'_> {
    /// What is known of an address, or else what the kernel says; asked once per look.
    fn is_own(&self, ip: IpAddr) -> bool {
        let said = || self.own.said.get(&ip).copied().unwrap_or_else(|| (self.own.ask)(ip));
        *self.wanted.borrow_mut().entry(ip).or_insert_with(said)
    }
}

impl Fleet {
    /// From now on it is known which addresses are this host's.
    pub fn tell_own_by(&mut self, is_own: IsOwn, now: Moment) -> Changes {
        self.own = OwnAddresses::by(is_own);
        let mut changes = Changes::default();
        self.look_around(now, &mut changes);
        #[cfg(debug_assertions)]
        self.check_invariants();
        changes
    }

    /// Finds the backends that lead back to their own pool.
    pub(super) fn look_around(&mut self, now: Moment, changes: &mut Changes) {
        let config = self.config.clone();
        self.own.begin(now);
        let look = OwnLook { own: &self.own, wanted: RefCell::default() };
        let leading_back = self.leading_back(&config, &look);
        self.own.said = look.wanted.into_inner();
        for (place, back) in leading_back.into_iter().enumerate() {
            if self.seats[place].leads_back != back {
                self.seats[place].leads_back = back;
                changes.table = true;
                self.settle(place, now, changes);
            }
        }
    }

    /// For each seat the listener by which it comes back to its own pool, whatever clients say: a listener with several
    /// pools may lead them elsewhere, and is only warned of. A pool that another one falls back to is reached once that
    /// one is down, and then it is too late to find out.
    fn leading_back(&self, config: &Config, look: &OwnLook<'_>) -> Vec<Option<Arc<str>>> {
        let binds = Binds::of(&config.listeners);
        let chains = Chains::of(config);
        let ports = self.ports_to_pools(config, &chains);
        let behind = |seat: &super::Seat| listeners_behind(seat, &binds, &ports[seat.pool], look);
        let behind: Vec<Vec<usize>> = self.seats.iter().map(behind).collect();
        let of_listener = |listener: &Listener| only_pools(config, &chains, listener);
        let pools_of: Vec<Vec<usize>> = config.listeners.iter().map(of_listener).collect();
        let comes_back = |pool: usize, first: usize| {
            let (mut seen, mut next) = (HashSet::from([first]), VecDeque::from([first]));
            while let Some(listener) = next.pop_front() {
                if pools_of[listener].contains(&pool) {
                    return true;
                }
                for found in &pools_of[listener] {
                    let places = self.pools[*found].seats.clone();
                    next.extend(behind[places].iter().flatten().filter(|listener| seen.insert(**listener)));
                }
            }
            false
        };
        let back = |(seat, behind): (&super::Seat, &Vec<usize>)| {
            let by = behind.iter().find(|&&listener| comes_back(seat.pool, listener))?;
            Some(config.listeners[*by].name.clone())
        };
        self.seats.iter().zip(&behind).map(back).collect()
    }
}

impl Fleet {
    /// By pool: the ports of the listeners that lead to it. Only if a backend is at the port of the client.
    fn ports_to_pools(&self, config: &Config, chains: &Chains<'_>) -> Vec<Vec<u16>> {
        let mut ports = vec![Vec::new(); self.pools.len()];
        if self.seats.iter().all(|seat| seat.settings.port_shift.is_none()) {
            return ports;
        }
        for listener in &config.listeners {
            let reached: HashSet<&str> =
                listener.pools().flat_map(|name| chains.from(name)).map(|pool| &*pool.name).collect();
            let its = config.pools.iter().zip(&mut ports).filter(|(pool, _)| reached.contains(&*pool.name));
            its.for_each(|(_, ports)| ports.extend(ports_of(listener)));
        }
        ports
    }
}

/// Indices of the listeners that a connection to this seat reaches; none of a seat that is retired or has no address.
fn listeners_behind(seat: &super::Seat, binds: &Binds<'_>, ports: &[u16], look: &OwnLook<'_>) -> Vec<usize> {
    let Some(address) = seat.address.clone().filter(|_| seat.retired.is_none()) else { return Vec::new() };
    let (place, is_own) = (Target::Address(address), |ip| look.is_own(ip));
    let found = match seat.settings.port_shift {
        Some(shift) => binds.behind_ports(&Target::AtClientPort { place: place.into(), shift }, ports, &is_own),
        None => binds.behind(&place, &is_own),
    };
    found.into_iter().map(|(listener, _)| listener).collect()
}

/// The pool of every client of a listener, and those that it falls back to; nothing if clients can get several pools
/// at one time.
fn only_pools(config: &Config, chains: &Chains<'_>, listener: &Listener) -> Vec<usize> {
    let [name] = pools_of(listener)[..] else { return Vec::new() };
    let place = |name: &str| config.pools.iter().position(|pool| &*pool.name == name);
    chains.from(name).into_iter().filter_map(|pool| place(&pool.name)).collect()
}
