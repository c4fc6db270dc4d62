//! From what a source says of each backend to an [`Answer`]. Pure.
//!
//! What is no host or no port is left out with a remark; each host with its port is there once, in the order of
//! addresses; and there are no more than [`FOUND_MAX`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::found::{Answer, FOUND_MAX, Found, FoundHost, WEIGHT_MAX};
use crate::base::host::{is_name, is_number, without_dot};
use crate::base::text::printable;

/// How many remarks an answer has; the last one says how many there are beyond.
const REMARKS_MAX: usize = 20;
/// How much of a text of the source a remark shows, in characters.
const SHOWN_MAX: usize = 100;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Gathering {
    /// By host and port.
    found: BTreeMap<(FoundHost, u16), Found>,
    /// What was left out, and why.
    remarks: Vec<String>,
    /// How many remarks there are in all.
    remarks_count: usize,
}

impl Gathering {
    /// Adds a backend. `what` says where that stands in the source, for a remark. Of several with the same host and
    /// port the one that takes new sessions counts, then the one with the greater weight.
    pub fn add(&mut self, what: &str, found: Found) {
        if found.port == 0 {
            return self.remark(format!("{what}: it has no port; it is left out"));
        }
        let better = |old: &Found| (found.rests.is_none(), found.weight) > (old.rests.is_none(), old.weight);
        let key = (found.host.clone(), found.port);
        if self.found.get(&key).is_none_or(better) {
            self.found.insert(key, found);
        }
    }

    /// Says what a person should know.
    pub fn remark(&mut self, text: String) {
        self.remarks_count += 1;
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(text);
        }
    }

    /// The answer. `trouble` is why a part of the source cannot be read.
    pub fn answer(mut self, trouble: Option<String>) -> Answer {
        let beyond = self.found.len().saturating_sub(FOUND_MAX);
        if beyond > 0 {
            self.remark(format!("there are {beyond} backends more than {FOUND_MAX}; they are left out"));
        }
        if self.remarks_count > self.remarks.len() {
            self.remarks.truncate(REMARKS_MAX - 1);
            self.remarks.push(format!("and {} more of the kind", self.remarks_count - self.remarks.len()));
        }
        Answer { found: self.found.into_values().take(FOUND_MAX).collect(), trouble, remarks: self.remarks }
    }
}

/// What a source writes as a host: an address or a name. `None` if no server can be there.
pub fn host(text: &str) -> Option<FoundHost> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let is_of_server = !ip.is_unspecified() && !ip.is_multicast();
        return is_of_server.then_some(FoundHost::Ip(ip));
    }
    let bare = without_dot(text);
    (is_name(bare.as_bytes()) && !is_number(bare)).then(|| FoundHost::Name(text.to_ascii_lowercase().into()))
}

/// What a source writes as a port; 0, which is none, for what is no port.
pub fn port(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(0)
}

/// A weight of a source as that of a backend: as it is if the greatest one is no more than [`WEIGHT_MAX`], else scaled.
/// What is not 0 stays above 0.
pub fn scaled(weight: u64, greatest: u64) -> u16 {
    let most = u64::from(WEIGHT_MAX);
    match weight.min(greatest) {
        0 => 0,
        weight if greatest <= most => weight as u16,
        weight => (u128::from(weight) * u128::from(most) / u128::from(greatest)).max(1) as u16,
    }
}

/// The beginning of a text of the source, for a remark.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", printable(&short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_an_address_of_a_server_or_a_name() {
        let ip = |text: &str| Some(FoundHost::Ip(text.parse().unwrap()));
        assert_eq!(host("10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(host("2001:db8::1"), ip("2001:db8::1"));
        assert_eq!(host("DB-1.Example."), Some(FoundHost::Name("db-1.example.".into())));
        for text in ["", ".", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "10.1", "10.0.0.300", "a b", "fe80::1%1", "a:1"]
        {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_address_twice_is_one_backend_and_what_has_no_port_is_none() {
        let at = |text: &str, port: u16| Found::at(host(text).unwrap(), port);
        let mut all = Gathering::default();
        all.add("b", Found { weight: 7, ..at("10.0.0.2", 1) });
        all.add("a", at("10.0.0.1", 1));
        all.add("c", at("10.0.0.2", 1));
        all.add("d", Found { weight: 9, rests: Some("it rests".into()), ..at("10.0.0.2", 1) });
        all.add("e", at("10.0.0.3", 0));
        all.add("f", at("10.0.0.1", 2));
        let answer = all.answer(None);
        let found: Vec<_> = answer.found.iter().map(|found| (found.address(), found.weight)).collect();
        let expected = [("10.0.0.1:1", 1), ("10.0.0.1:2", 1), ("10.0.0.2:1", 7)];
        assert_eq!(found, expected.map(|(address, weight)| (address.to_string(), weight)));
        assert_eq!(answer.remarks, ["e: it has no port; it is left out"]);
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut all = Gathering::default();
        for number in 0..FOUND_MAX as u32 + 3 {
            all.add("x", Found::at(FoundHost::Ip(std::net::Ipv4Addr::from(0x0a00_0000 + number).into()), 1));
            all.remark(format!("remark {number}"));
        }
        let answer = all.answer(None);
        assert_eq!((answer.found.len(), answer.remarks.len()), (FOUND_MAX, REMARKS_MAX));
        assert_eq!(answer.remarks.last().unwrap(), "and 9985 more of the kind");
    }

    proptest! {
        #[test]
        fn scaled_weights_fit_keep_their_order_and_what_is_above_0(a: u64, b: u64, c: u64) {
            let greatest = a.max(b).max(c);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(scaled(low, greatest) <= scaled(high, greatest) && scaled(high, greatest) <= WEIGHT_MAX);
            prop_assert_eq!(scaled(a, greatest) == 0, a == 0);
        }
    }
}
