//! Sets of networks: `10.0.0.0/8`, `2001:db8::/32`, and clients of unix sockets.
//!
//! They are level-compressed tries (Nilsson and Karlsson, "IP-Address Lookup Using LC-Tries", 1999), one per family:
//! with 100,000 networks a lookup takes about 40 ns (`cargo bench --bench admit`). The list as it was written is kept
//! for messages.
//!
//! It is shared by `allow`, `deny` and `proxy_trusted`. To change a set means to make a new one: a reload publishes it
//! with the next table, and sessions under way are not judged again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use iptrie::map::{LCTrieMap, RTrieMap};

use crate::base::address::Address;

/// One entry of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// Addresses.
    Ip(IpNet),
    /// All clients of unix sockets.
    Unix,
}

/// Why a text is not a network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotANetwork {
    /// It has not the form of one.
    #[error("write an address, a network as in \"10.0.0.0/8\" or \"2001:db8::/32\", or \"unix:\"")]
    Form,
    /// An address inside a network with its length, such as `10.0.0.1/8`: it is unclear which of both is meant.
    #[error("that network begins at {0}; write \"{0}\", or the address alone")]
    HostBits(IpNet),
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// Reads a network or an address.
    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        if text == "unix:" {
            return Ok(Network::Unix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Network::Ip(address.into()));
        }
        let network: IpNet = text.parse().map_err(|_| NotANetwork::Form)?;
        match network.trunc() == network {
            true => Ok(Network::Ip(network)),
            false => Err(NotANetwork::HostBits(network.trunc())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Ip(network) if network.prefix_len() == network.max_prefix_len() => write!(f, "{}", network.addr()),
            Network::Ip(network) => write!(f, "{network}"),
            Network::Unix => f.write_str("unix:"),
        }
    }
}

/// A set of networks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Networks(Option<Arc<Set>>);

/// The two tries, and the list.
struct Set {
    /// As they were written.
    list: Vec<Network>,
    /// By network: true if it is in the set. The root, which each trie has, is false unless it is in the list.
    v4: LCTrieMap<Ipv4Net, bool>,
    /// The same for IPv6.
    v6: LCTrieMap<Ipv6Net, bool>,
    /// Whether clients of unix sockets are in the set.
    unix: bool,
}

impl Networks {
    /// The union of these networks.
    pub fn new(list: Vec<Network>) -> Networks {
        if list.is_empty() {
            return Networks::default();
        }
        let (mut v4, mut v6) = (RTrieMap::with_root(false), RTrieMap::with_root(false));
        for network in &list {
            match network {
                Network::Ip(IpNet::V4(network)) => drop(v4.insert(*network, true)),
                Network::Ip(IpNet::V6(network)) => drop(v6.insert(*network, true)),
                Network::Unix => {}
            }
        }
        let unix = list.contains(&Network::Unix);
        Networks(Some(Arc::new(Set { v4: v4.compress(), v6: v6.compress(), unix, list })))
    }

    /// Whether no client is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The networks as they were written.
    pub fn list(&self) -> &[Network] {
        self.0.as_ref().map(|set| &set.list[..]).unwrap_or_default()
    }

    /// Whether this client is in the set. An IPv4 address in IPv6 form counts as the IPv4 address.
    pub fn contains(&self, client: &Address) -> bool {
        let Some(set) = &self.0 else { return false };
        match client {
            Address::Unix(_) => set.unix,
            Address::Tcp(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => *set.v4.lookup::<Ipv4Addr>(&address).1,
                IpAddr::V6(address) => *set.v6.lookup::<Ipv6Addr>(&address).1,
            },
        }
    }
}

impl PartialEq for Networks {
    fn eq(&self, other: &Networks) -> bool {
        self.list() == other.list()
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// As the file writes it; a long list is shown by its beginning and its length.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let list = self.list();
        let shown: Vec<String> = list.iter().take(SHOWN).map(Network::to_string).collect();
        let more = list.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        write!(f, "[{}{more}]", shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_read_as_they_are_written_and_nothing_else_is() {
        for text in ["10.0.0.0/8", "10.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0", "::/0", "unix:"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "unix:/run/x", "localhost", "10.0.0.0/-1", "10.0.0.1:80"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork::Form), "{text}");
        }
        let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert_eq!(error, NotANetwork::HostBits("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn a_long_list_is_shown_by_its_beginning() {
        let all = |count: u8| Networks::new((0..count).map(|n| format!("10.0.0.{n}").parse().unwrap()).collect());
        assert_eq!(all(2).to_string(), "[10.0.0.0, 10.0.0.1]");
        assert!(all(20).to_string().ends_with("10.0.0.7, and 12 more]"));
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few bits differ, so that networks lie in each other.
        let v4 = (0u32..1 << 12).prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits << 20 | bits)));
        let v6 = (0u128..1 << 12).prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits << 116 | bits)));
        prop_oneof![v4, v6]
    }

    fn network() -> impl Strategy<Value = IpNet> {
        (address(), 0u8..=128).prop_map(|(address, len)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, len % (most + 1)).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            list in prop::collection::vec(network(), 0..40), clients in prop::collection::vec(address(), 1..40),
        ) {
            let set = Networks::new(list.iter().copied().map(Network::Ip).collect());
            let own = list.iter().map(|network| network.addr());
            for client in clients.into_iter().chain(own) {
                let expected = list.iter().any(|network| network.contains(&client.to_canonical()));
                let tcp = Address::Tcp((client, 1).into());
                prop_assert_eq!(set.contains(&tcp), expected, "{} in {:?}", client, list);
            }
        }
    }

    #[test]
    fn an_ipv4_client_is_the_same_in_ipv6_form() {
        let set = Networks::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(set.contains(&Address::Tcp("[::ffff:10.1.2.3]:4".parse().unwrap())));
        assert!(!set.contains(&Address::Unix("/x".into())));
    }
}
