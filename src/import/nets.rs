//! Lists of clients. HAProxy and nginx take the first rule that fits; ringway has a list of those that can connect and
//! one of those that cannot, which wins. The one becomes the other by taking out of each network what an earlier rule
//! has decided.
//!
//! An example. `accept 10.1.0.0/16`, `reject 10.0.0.0/8` lets 10.1.2.3 in and nothing else of 10/8. As `deny = [10/8]`
//! this would refuse 10.1.2.3, since `deny` wins; so 10/8 is halved until 10.1/16 is cut out of it, which leaves eight
//! networks. Where no earlier rule overlaps, the networks stay as they were written.

use std::net::IpAddr;
use std::str::FromStr;

/// More networks than this are not taken apart: that work grows with the square of their number.
const COMPARED_MAX: usize = 4_000;
/// More networks than this are not written into a configuration.
const WRITTEN_MAX: usize = 200_000;

/// Clients by their address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Net {
    /// The address, of IPv4 in the highest bits.
    bits: u128,
    /// How many bits of it count.
    len: u8,
    /// IPv6.
    is_v6: bool,
}

impl Net {
    /// Every client of one family.
    fn every(is_v6: bool) -> Net {
        Net { bits: 0, len: 0, is_v6 }
    }

    /// Reads an address with or without a prefix or a mask. Bits behind the prefix are cut off, as HAProxy and nginx
    /// do.
    pub fn new(text: &str) -> Option<Net> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip = IpAddr::from_str(ip).ok()?;
        let (bits, max) = match ip {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
            IpAddr::V6(ip) => (u128::from(ip), 128),
        };
        let len = match prefix {
            None => max,
            Some(prefix) => match prefix.parse::<u8>() {
                Ok(len) => Some(len).filter(|len| *len <= max)?,
                Err(_) => mask(prefix)?,
            },
        };
        Some(Net { bits: bits & ones(len), len, is_v6: max == 128 })
    }

    /// Whether every client of the other one is in it.
    fn covers(self, other: Net) -> bool {
        self.is_v6 == other.is_v6 && self.len <= other.len && other.bits & ones(self.len) == self.bits
    }

    /// Whether a client can be in both.
    fn meets(self, other: Net) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The two halves of it.
    fn halves(self) -> [Net; 2] {
        let len = self.len + 1;
        [Net { len, ..self }, Net { bits: self.bits | (1 << (128 - u32::from(len))), len, ..self }]
    }

    /// As ringway writes it.
    pub fn shown(self) -> String {
        let (ip, max) = match self.is_v6 {
            true => (IpAddr::from(self.bits.to_be_bytes()), 128),
            false => (IpAddr::from(((self.bits >> 96) as u32).to_be_bytes()), 32),
        };
        if self.len == max { ip.to_string() } else { format!("{ip}/{}", self.len) }
    }
}

/// So many ones, then zeros.
fn ones(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// The length of a mask such as `255.0.0.0`.
fn mask(text: &str) -> Option<u8> {
    let IpAddr::V4(mask) = IpAddr::from_str(text).ok()? else { return None };
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then_some(bits.leading_ones() as u8)
}

/// Which clients a rule is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clients {
    /// Their networks.
    pub nets: Vec<Net>,
    /// Clients of unix sockets.
    pub unix: bool,
    /// The file that holds exactly these, if they come from one.
    pub file: Option<String>,
}

impl Clients {
    /// Every client.
    pub fn every() -> Clients {
        Clients { nets: vec![Net::every(false), Net::every(true)], unix: true, file: None }
    }

    /// Both together.
    pub fn and(mut self, other: Clients) -> Clients {
        let is_empty = self == Clients::default();
        self.file = if is_empty { other.file.clone() } else { None };
        self.nets.extend(other.nets);
        self.unix |= other.unix;
        self
    }

    /// As ringway writes them.
    pub fn shown(&self) -> Vec<String> {
        let nets = self.nets.iter().map(|net| net.shown());
        let mut all: Vec<String> = nets.chain(self.unix.then(|| "unix:".to_string())).collect();
        let mut seen = std::collections::HashSet::new();
        all.retain(|one| seen.insert(one.clone()));
        all
    }

    /// These without those.
    fn without(&self, others: &Clients) -> Clients {
        let mut left = self.nets.clone();
        for other in &others.nets {
            left = left.into_iter().flat_map(|net| cut(net, *other)).collect();
        }
        Clients { nets: left, unix: self.unix && !others.unix, file: None }
    }

    /// Whether a client can be in both.
    fn meets(&self, other: &Clients) -> bool {
        (self.unix && other.unix) || self.nets.iter().any(|one| other.nets.iter().any(|two| one.meets(*two)))
    }
}

/// What is left of a network without another one.
///
/// At most one network per bit: 32 or 128. So a list grows by no more than that for each rule that cuts into it.
fn cut(net: Net, other: Net) -> Vec<Net> {
    if !net.meets(other) {
        return vec![net];
    }
    let (mut left, mut rest) = (Vec::new(), net);
    // Half of it at a time, until the other one is all that is left.
    while rest.len < other.len {
        let [low, high] = rest.halves();
        let (with, without) = if low.covers(other) { (low, high) } else { (high, low) };
        left.push(without);
        rest = with;
    }
    left
}

/// The lists of ringway that say the same as rules of which the first one that fits counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLists {
    /// The only clients that can connect; `None` is every client.
    pub allow: Option<Clients>,
    /// Clients that cannot.
    pub deny: Clients,
}

/// Why rules have no lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoLists {
    /// Too many networks in rules that overlap.
    #[error("so many networks whose order counts cannot be taken apart; write them as `allow` and `deny` yourself")]
    TooMany,
    /// No client is left.
    #[error("no client can connect by these rules")]
    NoClient,
}

/// From rules in order (does it let in, which clients) to lists. Clients that no rule fits are let in.
///
/// Three forms come out. If clients that no rule fits are let in: a `deny` list. If they are not: `allow` as it stands
/// and `deny` as it stands, where `deny` is only about clients that no earlier rule lets in; else one `allow` list of
/// what is left.
///
/// # Errors
/// The rules have no lists.
pub fn lists(rules: &[(bool, Clients)]) -> Result<AccessLists, NoLists> {
    let is_every = |clients: &Clients| [false, true].iter().all(|is_v6| clients.nets.contains(&Net::every(*is_v6)));
    // What comes behind a rule for every client is never reached.
    let end = rules.iter().position(|(_, clients)| is_every(clients));
    let default = end.is_none_or(|end| rules[end].0);
    let rules = &rules[..end.unwrap_or(rules.len())];
    let (accepts, rejects) = (rules.iter().any(|rule| rule.0), rules.iter().any(|rule| !rule.0));
    let count: usize = rules.iter().map(|(_, clients)| clients.nets.len()).sum();
    if count > WRITTEN_MAX || (accepts && rejects && count > COMPARED_MAX) {
        return Err(NoLists::TooMany);
    }
    let gathered = |wanted: bool| gather(rules, wanted);
    let lists = match default {
        true => AccessLists { allow: None, deny: gathered(false) },
        // `deny` wins, so it can stand as it is where no earlier rule lets any of these clients in.
        false if !accepted_before_rejected(rules) => {
            let plain = |wanted: bool| {
                let of = rules.iter().filter(|rule| rule.0 == wanted).map(|rule| rule.1.clone());
                of.fold(Clients::default(), Clients::and)
            };
            AccessLists { allow: Some(plain(true)), deny: plain(false) }
        }
        false => AccessLists { allow: Some(gathered(true)), deny: Clients::default() },
    };
    match &lists.allow {
        Some(allow) if allow.nets.is_empty() && !allow.unix && allow.file.is_none() => Err(NoLists::NoClient),
        _ => Ok(lists),
    }
}

/// Whether a rule lets clients in that a later one would not.
fn accepted_before_rejected(rules: &[(bool, Clients)]) -> bool {
    let rejects = rules.iter().enumerate().filter(|(_, rule)| !rule.0);
    rejects.into_iter().any(|(at, (_, rejected))| rules[..at].iter().any(|rule| rule.0 && rule.1.meets(rejected)))
}

/// The clients that rules of one kind decide about: without those of earlier rules of the other kind.
fn gather(rules: &[(bool, Clients)], wanted: bool) -> Clients {
    let (mut decided, mut all) = (Clients::default(), Clients::default());
    for (is_accept, clients) in rules {
        if *is_accept == wanted {
            let left = if clients.meets(&decided) { clients.without(&decided) } else { clients.clone() };
            all = all.and(left);
        } else {
            decided = decided.and(clients.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(list: &[&str]) -> Clients {
        Clients { nets: list.iter().map(|text| Net::new(text).unwrap()).collect(), unix: false, file: None }
    }

    fn shown(rules: &[(bool, Clients)]) -> (Option<Vec<String>>, Vec<String>) {
        let lists = lists(rules).unwrap();
        (lists.allow.map(|allow| allow.shown()), lists.deny.shown())
    }

    #[test]
    fn networks_are_read_as_they_are_meant() {
        let read = |text: &str| Net::new(text).map(Net::shown);
        assert_eq!(read("127.0.0.1/8").as_deref(), Some("127.0.0.0/8"), "ringway refuses bits behind the prefix");
        assert_eq!(read("10.0.0.0/255.255.0.0").as_deref(), Some("10.0.0.0/16"));
        assert_eq!(read("2001:db8::1/32").as_deref(), Some("2001:db8::/32"));
        assert_eq!(read("0.0.0.0/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(read("10.0.0.1").as_deref(), Some("10.0.0.1"));
        for text in ["", "x", "10.0.0.1/33", "10.0.0.0/255.0.255.0", "::1/129", "10.0.0.1/"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let every = Clients::every();
        assert_eq!(
            shown(&[(true, clients(&["10.0.0.0/8"])), (false, every.clone())]),
            (Some(vec!["10.0.0.0/8".into()]), vec![])
        );
        assert_eq!(shown(&[(false, clients(&["10.9.0.0/16"]))]), (None, vec!["10.9.0.0/16".into()]));
        // deny, then allow around it: the lists say it as it stands.
        let rules = [(false, clients(&["10.1.0.0/16"])), (true, clients(&["10.0.0.0/8"])), (false, every)];
        assert_eq!(shown(&rules), (Some(vec!["10.0.0.0/8".into()]), vec!["10.1.0.0/16".into()]));
        // allow inside of a later deny: the deny is taken apart.
        let (allow, deny) = shown(&[(true, clients(&["10.0.0.0/10"])), (false, clients(&["10.0.0.0/8"]))]);
        assert_eq!((allow, deny), (None, vec!["10.128.0.0/9".into(), "10.64.0.0/10".into()]));
    }

    /// Against the definition, on a few addresses of every kind.
    #[test]
    fn lists_decide_as_the_rules_do() {
        let pool = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "0.0.0.0/1", "192.0.2.0/24", "10.128.0.0/9"];
        let probes = ["10.1.1.1", "10.1.2.2", "10.200.0.1", "10.2.0.1", "192.0.2.7", "200.0.0.1", "1.1.1.1"];
        let inside = |all: &Clients, ip: &str| all.nets.iter().any(|net| net.covers(Net::new(ip).unwrap()));
        for seed in 0..6usize.pow(3) * 16 {
            let rule = |at: usize| {
                let net = pool[seed / 6usize.pow(at as u32) % 6];
                ((seed / 216) >> at & 1 == 1, clients(&[net]))
            };
            let mut rules = vec![rule(0), rule(1), rule(2)];
            if seed / 216 >= 8 {
                rules.push((false, Clients::every()));
            }
            let Ok(lists) = lists(&rules) else {
                assert!(rules.len() == 4 && rules.iter().all(|rule| !rule.0) || rules.len() == 4);
                continue;
            };
            for ip in probes {
                let expected = rules.iter().find(|rule| inside(&rule.1, ip)).is_none_or(|rule| rule.0);
                let is_let_in = lists.allow.as_ref().is_none_or(|allow| inside(allow, ip)) && !inside(&lists.deny, ip);
                assert_eq!(is_let_in, expected, "{ip} by {rules:?}: {lists:?}");
            }
        }
    }
}
