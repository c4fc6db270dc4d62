//! Which addresses of a name are used, and what their numbers are.
//!
//! Each address of a host name is a backend of its own: `a`, `a#2`, `a#3`. An address keeps its number for as long as
//! it is there, so that metrics and sessions stay with the same server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::base::address::Address;
use crate::config::model::Target;

/// Addresses of one backend; what a name has beyond them is left out.
pub const ADDRESSES_MAX: usize = 64;

/// What of an answer is used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chosen {
    /// In order, each once.
    pub addresses: Vec<IpAddr>,
    /// How many were not used because there are too many.
    pub left_out: usize,
}

/// Chooses of what was found; of too many those that are in use before those that are not.
pub fn choose(found: &[IpAddr], in_use: &[IpAddr]) -> Chosen {
    let all: BTreeSet<IpAddr> = found.iter().map(IpAddr::to_canonical).filter(is_fit).collect();
    let (mut addresses, new): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(|ip| in_use.contains(ip));
    addresses.extend(new);
    let left_out = addresses.len().saturating_sub(ADDRESSES_MAX);
    addresses.truncate(ADDRESSES_MAX);
    addresses.sort_unstable();
    Chosen { addresses, left_out }
}

/// Whether what is at that address now is still the backend, as it was configured and as it is. A name that stands for
/// another one, or for what was an address, keeps what it has until it is looked up.
pub fn is_same_target(before: Option<&Target>, now: Option<&Target>, at: Option<&Address>) -> bool {
    match (before.map(Target::place), now.map(Target::place), at) {
        (_, Some(Target::Address(now)), at) => at == Some(now),
        (Some(Target::Host { .. } | Target::Address(_)), Some(Target::Host { port, .. }), Some(Address::Tcp(at))) => {
            at.port() == *port
        }
        (_, Some(Target::Host { .. }), at) => at.is_none(),
        // What `place` returns is no such one.
        (_, None | Some(Target::AtClientPort { .. }), _) => false,
    }
}

/// Whether both are looked up by the same name.
pub fn is_same_name(before: Option<&Target>, now: Option<&Target>) -> bool {
    match (before.map(Target::place), now.map(Target::place)) {
        (Some(Target::Host { name: before, .. }), Some(Target::Host { name: now, .. })) => before == now,
        _ => false,
    }
}

/// Whether a server can be there, and the same one for every host that asks: an IPv6 link-local address needs a zone,
/// which no answer has, and a multicast one means many servers.
fn is_fit(ip: &IpAddr) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || is_link_local || is_broadcast)
}

/// Numbers of the addresses, from 1: one that has a number keeps it, the others take the lowest that are free.
pub fn number(now: &[(usize, IpAddr)], wanted: &[IpAddr]) -> Vec<(usize, IpAddr)> {
    let kept: Vec<(usize, IpAddr)> = now.iter().copied().filter(|(_, ip)| wanted.contains(ip)).collect();
    let mut free = (1..).filter(|number| kept.iter().all(|(taken, _)| taken != number));
    let new = wanted.iter().filter(|ip| kept.iter().all(|(_, known)| known != *ip));
    let mut all: Vec<(usize, IpAddr)> = new.filter_map(|ip| Some((free.next()?, *ip))).collect();
    all.extend(&kept);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn chosen(found: &[&str]) -> Vec<String> {
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        choose(&found, &[]).addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn what_cannot_be_a_server_is_left_out() {
        let unfit = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1", "255.255.255.255", "::ffff:0.0.0.0"];
        assert!(chosen(&unfit).is_empty());
        let fit = ["fd00::1", "127.0.0.1", "::ffff:10.0.0.1", "10.0.0.1", "::1"];
        assert_eq!(chosen(&fit), ["10.0.0.1", "127.0.0.1", "::1", "fd00::1"], "in order, each once");
    }

    #[test]
    fn of_too_many_those_in_use_stay() {
        let found: Vec<IpAddr> = (0..=80).map(ip).collect();
        let first = choose(&found, &[]);
        assert_eq!((first.addresses.len(), first.left_out), (64, 17));
        assert_eq!(first.addresses, found[..64]);
        let second = choose(&found, &[ip(80), ip(90)]);
        assert_eq!((second.addresses.len(), second.left_out), (64, 17));
        assert!(second.addresses.contains(&ip(80)) && !second.addresses.contains(&ip(63)));
    }

    proptest! {
        #[test]
        fn an_address_keeps_its_number_and_a_new_one_takes_the_lowest(
            answers in prop::collection::vec(prop::collection::btree_set(0..10u8, 1..8), 1..20)
        ) {
            let mut now: Vec<(usize, IpAddr)> = Vec::new();
            for answer in answers {
                let wanted: Vec<IpAddr> = answer.into_iter().map(ip).collect();
                let next = number(&now, &wanted);
                let mut addresses: Vec<IpAddr> = next.iter().map(|(_, ip)| *ip).collect();
                addresses.sort_unstable();
                prop_assert_eq!(&addresses, &wanted, "all of them and no other");
                let taken: BTreeSet<usize> = next.iter().map(|(number, _)| *number).collect();
                prop_assert_eq!(taken.len(), next.len(), "each has its own");
                for (number, ip) in now.iter().filter(|(_, ip)| wanted.contains(ip)) {
                    prop_assert!(next.contains(&(*number, *ip)), "{} keeps {}", ip, number);
                }
                let kept: BTreeSet<usize> =
                    now.iter().filter(|(_, ip)| wanted.contains(ip)).map(|(number, _)| *number).collect();
                let new: BTreeSet<usize> = taken.difference(&kept).copied().collect();
                let lowest: BTreeSet<usize> = (1..).filter(|number| !kept.contains(number)).take(new.len()).collect();
                prop_assert_eq!(new, lowest);
                now = next;
            }
        }
    }

    #[test]
    fn at_first_the_order_is_that_of_the_addresses() {
        assert_eq!(number(&[], &[ip(3), ip(7)]), [(1, ip(3)), (2, ip(7))]);
        assert_eq!(number(&[(1, ip(3)), (2, ip(7))], &[ip(1), ip(7)]), [(1, ip(1)), (2, ip(7))]);
    }
}
