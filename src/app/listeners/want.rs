//! What is wanted of each address, and which of those that are bound stays.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::base::address::{Address, BindAddress};
use crate::config::model::Config;
use crate::kernel::Options;
use crate::sys::listener;
use crate::worker::options_of;

/// An address as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    /// The listener that it belongs to.
    pub listener: Arc<str>,
    /// As it is written: port 0 is a port of the kernel's choice.
    pub place: BindAddress,
    /// Connections that may wait to be accepted, as given to listen(2); net.core.somaxconn caps it.
    pub backlog: u32,
    /// Permission bits of the file of a unix socket; of no meaning for TCP.
    pub unix_mode: u32,
    /// Bind it even if no interface of this host has the address yet (IP_FREEBIND).
    pub freebind: bool,
    /// Socket options that accepted connections inherit.
    pub options: Options,
}

impl Want {
    /// A socket that listens there.
    pub fn listen(&self, place: &BindAddress) -> io::Result<Arc<OwnedFd>> {
        listener::listen(place, self.backlog, self.unix_mode, self.freebind, &self.options).map(Arc::new)
    }

    /// Beside sockets of another ringway. A connection that came to this one would be lost if this ringway did not
    /// start, so it does not listen before [`listener::adjust`].
    pub fn bind(&self, place: &BindAddress) -> io::Result<Arc<OwnedFd>> {
        listener::bind(place, self.unix_mode, self.freebind, &self.options).map(Arc::new)
    }
}

/// Which worker accepts from which socket: each worker from one at least, and each socket by one at least.
pub(super) fn deal(sockets: usize, workers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..sockets.max(workers)).map(move |turn| (turn % workers, turn % sockets))
}

/// Every address of a configuration, in its order.
pub(super) fn wanted(config: &Config) -> Vec<Want> {
    let mut all = Vec::new();
    for listener in &config.listeners {
        let limits = config.pools.iter().find(|pool| pool.name == listener.pool).map(|pool| pool.limits);
        let options = limits.as_ref().map(options_of).unwrap_or_default();
        all.extend(listener.places().map(|place| Want {
            listener: listener.name.clone(),
            place,
            backlog: listener.backlog,
            unix_mode: listener.unix_mode,
            freebind: listener.freebind,
            options,
        }));
    }
    all
}

/// For each address that is wanted the one that is bound already, if there is one. The listener may have another name
/// now; a port that the kernel chose belongs to its listener, as no other listener can mean it.
pub(super) fn keep(bound: &[&Want], wanted: &[Want]) -> Vec<Option<usize>> {
    let mut kept = vec![None; wanted.len()];
    let mut is_free = vec![true; bound.len()];
    for by_name in [true, false] {
        for (want, kept) in wanted.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
            let any_port = matches!(want.place.address, Address::Tcp(address) if address.port() == 0);
            let is_it = |&index: &usize| {
                let named = bound[index].listener == want.listener;
                is_free[index] && bound[index].place == want.place && (named || !(by_name || any_port))
            };
            *kept = (0..bound.len()).find(is_it);
            if let Some(index) = *kept {
                is_free[index] = false;
            }
        }
    }
    kept
}

/// Whether a socket at one place is in the way of another one at the other. The kernel asks the same
/// (`inet_csk_bind_conflict`): a socket that is limited to no interface is in the way of each.
pub(super) fn overlaps(one: &BindAddress, other: &BindAddress) -> bool {
    match (&one.address, &other.address) {
        (Address::Tcp(tcp), Address::Tcp(of_other)) if one.shares_interface(other) => {
            let (one, other) = (tcp, of_other);
            let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (is_any || one.ip() == other.ip())
        }
        _ => false,
    }
}

/// Whether a socket at `held` stands in the way of one at `wanted`, both families seen together: `[::]` takes IPv4 too,
/// unless it was told otherwise.
pub(super) fn takes_clients_of(held: &BindAddress, wanted: &BindAddress) -> bool {
    match (&held.address, &wanted.address) {
        (Address::Tcp(one), Address::Tcp(other)) if one.port() == other.port() && held.shares_interface(wanted) => {
            overlaps(held, wanted) || (one.is_ipv6() && one.ip().is_unspecified() && other.is_ipv4())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn want((listener, port): (u8, u16)) -> Want {
        Want {
            listener: format!("l{listener}").into(),
            place: BindAddress::everywhere(Address::Tcp(([127, 0, 0, 1], port).into())),
            backlog: 1,
            unix_mode: 0,
            freebind: false,
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
        let tcp = |text: &str| BindAddress::everywhere(Address::Tcp(text.parse().unwrap()));
        assert!(overlaps(&tcp("0.0.0.0:80"), &tcp("127.0.0.1:80")));
        assert!(overlaps(&tcp("127.0.0.1:80"), &tcp("0.0.0.0:80")));
        assert!(!overlaps(&tcp("127.0.0.1:80"), &tcp("127.0.0.2:80")));
        assert!(!overlaps(&tcp("0.0.0.0:80"), &tcp("[::1]:80")));
        assert!(!overlaps(&tcp("0.0.0.0:80"), &tcp("127.0.0.1:81")));
        let on = |name: &str| BindAddress { interface: Some(name.into()), ..tcp("0.0.0.0:80") };
        assert!(overlaps(&on("eth0"), &tcp("127.0.0.1:80")) && overlaps(&tcp("0.0.0.0:80"), &on("eth0")));
        assert!(overlaps(&on("eth0"), &on("eth0")) && !overlaps(&on("eth0"), &on("eth1")));
        assert!(takes_clients_of(&tcp("[::]:80"), &on("eth0")) && !takes_clients_of(&on("eth1"), &on("eth0")));
    }
}
