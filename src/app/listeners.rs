//! Binding what the configuration names: at the start, and when it changes while ringway runs.
//!
//! An address that stays keeps its very sockets, and with them who waits in their backlogs.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::address::Address;
use crate::base::id::ListenerId;
use crate::config::model::Config;
use crate::control::sockets::{Refused, Sockets};
use crate::kernel::Options;
use crate::kernel::errno;
use crate::snapshot::ids::Ids;
use crate::sys::socket;
use crate::worker::{Errand, ListenSocket, Shared, options_of};

/// After a ringway was killed, the kernel needs a moment to take its ring down, and the ring holds the listeners.
const IN_USE_RETRIES: u32 = 10;
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Every address that is listened on.
pub(super) struct Listeners {
    workers: usize,
    places: Vec<Place>,
    /// Numbers of addresses are never given out twice.
    next: u32,
    /// Bound by who started us, or by the ringway we take over from, and not used yet.
    inherited: Vec<(Address, Arc<OwnedFd>)>,
    /// Where the ringway that we take over from listens: our own sockets share these addresses with it. Empty once it
    /// is relieved.
    taken: Vec<Address>,
    prepared: Option<Prepared>,
    shared: Option<Arc<Shared>>,
}

/// An address.
struct Place {
    number: u32,
    want: Want,
    /// With the port the kernel chose.
    address: Address,
    /// Each once. The workers close them; who only looks at them must not keep them open.
    sockets: Vec<Weak<OwnedFd>>,
}

/// An address as it is configured.
#[derive(Clone, Debug, PartialEq)]
struct Want {
    listener: Arc<str>,
    address: Address,
    backlog: u32,
    unix_mode: u32,
    options: Options,
}

/// What is bound and not yet in use.
struct Prepared {
    /// By the order of the configuration: a place that stays, with what is wanted of it now, or a new one.
    next: Vec<Next>,
}

enum Next {
    Kept(usize, Want),
    New(Place, Vec<Arc<OwnedFd>>),
}

/// Sockets that are there before ours.
pub(super) enum Before {
    /// None, or those that whoever started us has bound.
    Bound(Vec<(Address, OwnedFd)>),
    /// Those of a ringway that goes on to use them until it is relieved: until then nothing about them may change.
    Taken(Vec<(Address, OwnedFd)>),
}

impl Before {
    /// How many sockets that are.
    pub fn len(&self) -> usize {
        let (Before::Bound(sockets) | Before::Taken(sockets)) = self;
        sockets.len()
    }
}

impl Listeners {
    /// Binds all listeners for all workers, or none. Returns what each worker gets. Where a ringway is taken over from,
    /// that is nothing yet: they get it when it is committed.
    pub fn bind(
        config: &Config,
        ids: &Ids,
        workers: usize,
        before: Before,
    ) -> anyhow::Result<(Listeners, Vec<Vec<ListenSocket>>)> {
        let (inherited, is_taken) = match before {
            Before::Bound(sockets) => (sockets, false),
            Before::Taken(sockets) => (sockets, true),
        };
        let mut taken: Vec<Address> = Vec::new();
        if is_taken {
            taken.extend(inherited.iter().map(|(address, _)| address.clone()));
        }
        let inherited = inherited.into_iter().map(|(address, fd)| (address, Arc::new(fd))).collect();
        let mut all =
            Listeners { workers, places: Vec::new(), next: 0, inherited, taken, prepared: None, shared: None };
        for attempt in 0.. {
            match all.prepare(config) {
                Ok(()) => break,
                Err(refused) if refused.may_pass && attempt < IN_USE_RETRIES => std::thread::sleep(IN_USE_PAUSE),
                Err(refused) => anyhow::bail!(refused.message),
            }
        }
        let mut sockets: Vec<Vec<ListenSocket>> = (0..workers).map(|_| Vec::new()).collect();
        if !is_taken {
            for errand in all.settle(&|name| ids.listener(name)) {
                if let (worker, Errand::Open(socket)) = errand {
                    sockets[worker].push(socket);
                }
            }
        }
        Ok((all, sockets))
    }

    /// Addresses that were bound for us and that nothing in the configuration wants. They are closed.
    pub fn close_unused(&mut self) -> Vec<Address> {
        self.inherited.drain(..).map(|(address, _)| address).collect()
    }

    /// One that the ringway before listens on, if that is taken over from and the address is its own.
    pub fn take(&mut self, address: &Address) -> Option<OwnedFd> {
        let index = self.inherited.iter().position(|(other, _)| other == address && self.taken.contains(other))?;
        Arc::into_inner(self.inherited.swap_remove(index).1)
    }

    /// From now on workers are told what changes.
    pub fn tell(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    /// Where each listener accepts, with the ports the kernel chose.
    pub fn addresses(&self) -> Vec<(Arc<str>, Address)> {
        self.places.iter().map(|place| (place.want.listener.clone(), place.address.clone())).collect()
    }

    fn bind_new(&mut self, want: Want) -> Result<Next, Refused> {
        let key = format!("listeners.{}.bind", want.listener);
        // systemd's `ListenStream=PORT` is [::]:PORT, and takes IPv4 as well.
        let holds = |address: &Address| *address != want.address && takes_clients_of(address, &want.address);
        let held = self.inherited.iter().map(|(address, _)| address.clone()).find(holds);
        let refused = |error: io::Error| match &held {
            Some(held) if error.kind() == io::ErrorKind::AddrInUse => Refused {
                may_pass: false,
                message: format!(
                    "{key}: cannot listen on {}: whoever started ringway (a .socket unit of systemd?) has bound \
                     {held} for it, which takes these clients as well: write bind = \"{held}\"",
                    want.address
                ),
            },
            _ => Refused {
                may_pass: error.kind() == io::ErrorKind::AddrInUse,
                message: refusal(&key, &want.address, &error).to_string(),
            },
        };
        // They stay where they are until all is well: what is closed here could be asked for again.
        let inherited = self.inherited.iter().filter(|(address, _)| *address == want.address);
        let mut sockets: Vec<Arc<OwnedFd>> = inherited.map(|(_, fd)| fd.clone()).collect();
        let is_taken = !sockets.is_empty() && self.taken.contains(&want.address);
        // Who has bound it for us did not say that others may bind it too, so all workers share it.
        let shares = matches!(want.address, Address::Unix(_)) || !(sockets.is_empty() || is_taken);
        if sockets.is_empty() {
            // SO_REUSEPORT would let us share the port with another ringway of the same user without a word.
            let known = self.places.iter().map(|place| &place.address).chain(&self.taken);
            let is_ours = known.into_iter().any(|address| overlaps(address, &want.address));
            let unused = if is_ours { Ok(()) } else { socket::ensure_unused(&want.address) };
            sockets.push(unused.and_then(|()| want.listen(&want.address)).map_err(refused)?);
        } else if !is_taken {
            let adjust = |socket: &Arc<OwnedFd>| socket::adjust(socket, want.backlog, &want.options);
            sockets.iter().try_for_each(adjust).map_err(refused)?;
        }
        let address = match &want.address {
            Address::Tcp(_) => socket::local_address(&sockets[0]).map_err(refused)?,
            Address::Unix(_) => want.address.clone(),
        };
        while !shares && sockets.len() < self.workers {
            match if is_taken { want.bind(&address) } else { want.listen(&address) } {
                Ok(socket) => sockets.push(socket),
                // Another user has bound them, or somebody else did and would not share: workers share what there is.
                Err(_) if is_taken => break,
                Err(error) => return Err(refused(error)),
            }
        }
        self.next += 1;
        let place = Place { number: self.next, want, address, sockets: sockets.iter().map(Arc::downgrade).collect() };
        Ok(Next::New(place, sockets))
    }

    /// Makes what is prepared so; what each worker is to do follows.
    fn settle(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>) -> Vec<(usize, Errand)> {
        let Some(Prepared { next }) = self.prepared.take() else { return Vec::new() };
        let mut before: Vec<Option<Place>> = std::mem::take(&mut self.places).into_iter().map(Some).collect();
        let mut errands = Vec::new();
        for next in next {
            match next {
                Next::Kept(index, want) => {
                    let Some(mut place) = before.get_mut(index).and_then(Option::take) else { continue };
                    if place.want.listener != want.listener
                        && let Some(listener) = listener(&want.listener)
                    {
                        let address = place.number;
                        errands.extend((0..self.workers).map(|worker| (worker, Errand::Assign { address, listener })));
                    }
                    place.change(want);
                    self.places.push(place);
                }
                Next::New(place, sockets) => {
                    let Some(listener) = listener(&place.want.listener) else { continue };
                    if self.taken.contains(&place.want.address) {
                        place.adjust();
                        place.set_mode();
                    }
                    let address = place.number;
                    errands.extend(deal(sockets.len(), self.workers).map(|(worker, index)| {
                        let (fd, owner) = (socket::number(&sockets[index]), sockets[index].clone());
                        (worker, Errand::Open(ListenSocket { listener, address, fd, owner }))
                    }));
                    self.places.push(place);
                }
            }
        }
        let places = &self.places;
        self.inherited.retain(|(address, _)| !places.iter().any(|place| place.want.address == *address));
        for place in before.into_iter().flatten() {
            let address = place.number;
            errands.extend((0..self.workers).map(|worker| (worker, Errand::Close { address })));
        }
        errands
    }
}

impl Sockets for Listeners {
    fn prepare(&mut self, config: &Config) -> Result<(), Refused> {
        // What was prepared before, and was not wanted in the end, is closed here.
        self.prepared = None;
        super::sources::check(config)?;
        let wanted = wanted(config);
        let bound: Vec<&Want> = self.places.iter().map(|place| &place.want).collect();
        let kept = keep(&bound, &wanted);
        let next = wanted.into_iter().zip(kept).map(|(want, kept)| match kept {
            Some(index) => Ok(Next::Kept(index, want)),
            None => self.bind_new(want),
        });
        let next = next.collect::<Result<_, Refused>>()?;
        self.prepared = Some(Prepared { next });
        Ok(())
    }

    fn commit(&mut self, listener: &dyn Fn(&str) -> Option<ListenerId>) {
        let errands = self.settle(listener);
        self.taken.clear();
        for address in self.close_unused() {
            tracing::info!(%address, "the ringway before listened there, and nothing of this configuration does");
        }
        let Some(shared) = &self.shared else { return };
        errands.into_iter().for_each(|(worker, errand)| shared.send(worker, errand));
    }

    fn lend(&self) -> Vec<Arc<OwnedFd>> {
        self.places.iter().flat_map(|place| place.sockets.iter().filter_map(Weak::upgrade)).collect()
    }
}

impl Want {
    fn listen(&self, address: &Address) -> io::Result<Arc<OwnedFd>> {
        socket::listen(address, self.backlog, self.unix_mode, &self.options).map(Arc::new)
    }

    /// Beside sockets of another ringway. A connection that came to this one would be lost if this ringway did not
    /// start, so it does not listen before [`Place::adjust`].
    fn bind(&self, address: &Address) -> io::Result<Arc<OwnedFd>> {
        socket::bind(address, self.unix_mode, &self.options).map(Arc::new)
    }
}

impl Place {
    /// What can be changed of a socket that listens is changed.
    fn change(&mut self, want: Want) {
        let before = std::mem::replace(&mut self.want, want);
        if (before.backlog, before.options) != (self.want.backlog, self.want.options) {
            self.adjust();
        }
        if before.unix_mode != self.want.unix_mode {
            self.set_mode();
        }
    }

    fn adjust(&self) {
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            if let Err(error) = socket::adjust(&socket, self.want.backlog, &self.want.options) {
                tracing::warn!(address = %self.address, %error, "a listening socket keeps its backlog and options");
            }
        }
    }

    fn set_mode(&self) {
        let Address::Unix(path) = &self.address else { return };
        if let Err(error) = socket::set_mode(path, self.want.unix_mode) {
            tracing::warn!(address = %self.address, %error, "a listening socket keeps its permissions");
        }
    }
}

/// Which worker accepts from which socket: each worker from one at least, and each socket by one at least.
fn deal(sockets: usize, workers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..sockets.max(workers)).map(move |turn| (turn % workers, turn % sockets))
}

/// Every address of a configuration, in its order.
fn wanted(config: &Config) -> Vec<Want> {
    let mut all = Vec::new();
    for listener in &config.listeners {
        let limits = config.pools.iter().find(|pool| pool.name == listener.pool).map(|pool| pool.limits);
        let options = limits.as_ref().map(options_of).unwrap_or_default();
        all.extend(listener.binds.iter().map(|address| Want {
            listener: listener.name.clone(),
            address: address.clone(),
            backlog: listener.backlog,
            unix_mode: listener.unix_mode,
            options,
        }));
    }
    all
}

/// For each address that is wanted the one that is bound already, if there is one. The listener may have another name
/// now; a port that the kernel chose belongs to its listener, as nobody else can mean it.
fn keep(bound: &[&Want], wanted: &[Want]) -> Vec<Option<usize>> {
    let mut kept = vec![None; wanted.len()];
    let mut is_free = vec![true; bound.len()];
    for by_name in [true, false] {
        for (want, kept) in wanted.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
            let any_port = matches!(want.address, Address::Tcp(address) if address.port() == 0);
            let is_it = |&index: &usize| {
                let named = bound[index].listener == want.listener;
                is_free[index] && bound[index].address == want.address && (named || !(by_name || any_port))
            };
            *kept = (0..bound.len()).find(is_it);
            if let Some(index) = *kept {
                is_free[index] = false;
            }
        }
    }
    kept
}

/// Whether a socket on one address is in the way of another one on the other.
fn overlaps(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (is_any || one.ip() == other.ip())
        }
        _ => false,
    }
}

/// Whether a socket at `held` stands in the way of one at `wanted`, both families seen together: [::] takes IPv4 too,
/// unless it was told otherwise.
fn takes_clients_of(held: &Address, wanted: &Address) -> bool {
    match (held, wanted) {
        (Address::Tcp(one), Address::Tcp(other)) if one.port() == other.port() => {
            overlaps(held, wanted) || (one.is_ipv6() && one.ip().is_unspecified() && other.is_ipv4())
        }
        _ => false,
    }
}

/// One line: what, why, and what to do.
pub(super) fn refusal(key: &str, address: &Address, error: &io::Error) -> anyhow::Error {
    let why = match (error.raw_os_error(), address) {
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) if is_ephemeral(tcp.port()) => format!(
            "in use; it lies in net.ipv4.ip_local_port_range, so an outgoing connection may have it: choose another \
             port or reserve this one with `sysctl net.ipv4.ip_local_reserved_ports={}`",
            tcp.port()
        ),
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) => {
            format!("in use by another program (`ss -ltnp 'sport = {}'` shows which)", tcp.port())
        }
        (None, Address::Unix(_)) if error.kind() == io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another path".to_owned()
        }
        (Some(errno::EADDRNOTAVAIL | errno::EAFNOSUPPORT), Address::Tcp(tcp)) if tcp.is_ipv6() && !has_ipv6() => {
            "this host has no IPv6 (it is off in the kernel, or `sysctl net.ipv6.conf.all.disable_ipv6` is 1): write \
             an IPv4 address"
                .into()
        }
        (Some(errno::EADDRNOTAVAIL), _) => {
            "no interface of this host has that address (`ip address` shows them); where it is a virtual address that \
             moves here later, `sysctl net.ipv4.ip_nonlocal_bind=1` (or net.ipv6.ip_nonlocal_bind) lets ringway listen \
             on it before"
                .into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Tcp(_)) => {
            "not allowed: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd) or root".into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Unix(_)) => {
            "not allowed: the directory must be writable for ringway's user".into()
        }
        (Some(errno::ENOENT), Address::Unix(_)) => "its directory does not exist".into(),
        (Some(errno::EMFILE), _) => "too many open descriptors: raise the hard limit (`ulimit -Hn`)".into(),
        _ => error.to_string(),
    };
    anyhow::anyhow!("{key}: cannot listen on {address}: {why}")
}

/// Whether an interface has an IPv6 address.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

fn is_ephemeral(port: u16) -> bool {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    bounds.next().is_some_and(|low| low <= port) && bounds.next().is_some_and(|high| port <= high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn want((listener, port): (u8, u16)) -> Want {
        Want {
            listener: format!("l{listener}").into(),
            address: Address::Tcp(([127, 0, 0, 1], port).into()),
            backlog: 1,
            unix_mode: 0,
            options: Options::default(),
        }
    }

    proptest! {
        #[test]
        fn an_address_that_stays_keeps_its_sockets_and_each_is_kept_once(
            bound in prop::collection::vec((0..3u8, 0..5u16), 0..6),
            wanted in prop::collection::vec((0..3u8, 0..5u16), 0..6),
        ) {
            // As `resolve` makes sure: no address twice, but for port 0.
            let once = |list: Vec<(u8, u16)>| {
                let mut seen = std::collections::BTreeSet::new();
                list.into_iter().filter(|(_, port)| *port == 0 || seen.insert(*port)).collect::<Vec<_>>()
            };
            let (bound, wanted) = (once(bound), once(wanted));
            let have: Vec<Want> = bound.iter().copied().map(want).collect();
            let want: Vec<Want> = wanted.iter().copied().map(want).collect();
            let kept = keep(&have.iter().collect::<Vec<_>>(), &want);
            let mut used: Vec<usize> = kept.iter().copied().flatten().collect();
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used.len(), kept.iter().flatten().count(), "each once");
            for (index, (listener, port)) in wanted.iter().enumerate() {
                let is_there = bound.iter().any(|(_, other)| other == port);
                match kept[index] {
                    Some(place) => {
                        prop_assert_eq!(bound[place].1, *port);
                        prop_assert!(*port != 0 || bound[place].0 == *listener);
                    }
                    None if *port != 0 => prop_assert!(!is_there),
                    None => {
                        let count = |list: &[(u8, u16)]| list.iter().filter(|other| **other == (*listener, 0)).count();
                        prop_assert!(count(&wanted) > count(&bound));
                    }
                }
            }
        }
    }

    #[test]
    fn no_worker_is_idle_and_no_socket_forgotten() {
        for (sockets, workers) in (1..6).flat_map(|sockets| (1..6).map(move |workers| (sockets, workers))) {
            let dealt: Vec<(usize, usize)> = deal(sockets, workers).collect();
            assert!((0..workers).all(|worker| dealt.iter().any(|&(of, _)| of == worker)), "{sockets} {workers}");
            assert!((0..sockets).all(|socket| dealt.iter().any(|&(_, one)| one == socket)), "{sockets} {workers}");
        }
    }

    #[test]
    fn any_address_is_in_the_way_of_every_one_of_its_family() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert!(overlaps(&tcp("0.0.0.0:80"), &tcp("127.0.0.1:80")));
        assert!(overlaps(&tcp("127.0.0.1:80"), &tcp("0.0.0.0:80")));
        assert!(!overlaps(&tcp("127.0.0.1:80"), &tcp("127.0.0.2:80")));
        assert!(!overlaps(&tcp("0.0.0.0:80"), &tcp("[::1]:80")));
        assert!(!overlaps(&tcp("0.0.0.0:80"), &tcp("127.0.0.1:81")));
    }
}
