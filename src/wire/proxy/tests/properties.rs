//! What holds for any header, and for any bytes.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::{SIGNATURE, v2};
use crate::wire::proxy::{ProxyClaim, Version, encode, need, parse, tcp};

fn unicast() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    let mapped = (any::<[u8; 4]>(), any::<u16>())
        .prop_map(|(ip, port)| SocketAddr::from((Ipv4Addr::from(ip).to_ipv6_mapped(), port)));
    prop_oneof![v4, v6, mapped].prop_filter("unicast", |address| tcp_end(*address).is_some())
}

/// The address as it comes out, if a connection can have it.
fn tcp_end(address: SocketAddr) -> Option<SocketAddr> {
    let end = (address.ip(), address.port());
    match tcp(end, end) {
        Ok(ProxyClaim::Tcp { source, .. }) => Some(source),
        _ => None,
    }
}

/// Headers of every kind, right ones and nearly right ones.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let tlvs = prop::collection::vec((0..6u8, prop::collection::vec(any::<u8>(), 0..9)), 0..4).prop_map(|list| {
        list.iter().flat_map(|(kind, value)| [&[*kind, 0, value.len() as u8], &value[..]].concat()).collect::<Vec<u8>>()
    });
    let binary = (0x1f..0x23u8, prop::sample::select(vec![0, 1, 0x11, 0x12, 0x21, 0x31, 0x41]), 0..3usize, tlvs)
        .prop_map(|(command, family, cut, tlvs)| {
            let len = match family {
                0x11 => 12,
                0x21 => 36,
                0x31 => 216,
                _ => 0,
            };
            let rest = [&vec![1; len][..], &tlvs].concat();
            v2(command, family, &rest[..rest.len().saturating_sub(cut / 2)])
        });
    const ADDRESSES: &str = "1.2.3.4 01.2.3.4 ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let words = format!("PROXY TCP4 TCP6 UNKNOWN {ADDRESSES} 0 80 65536 x  \r \r\n");
    let word = prop::sample::select(words.split(' ').map(str::to_string).collect::<Vec<_>>());
    let line =
        prop::collection::vec(word, 0..8).prop_map(|words| format!("PROXY {}\r\n", words.join(" ")).into_bytes());
    let encoded = (unicast(), unicast(), any::<bool>()).prop_map(|(source, destination, text)| {
        encode(if text { Version::V1 } else { Version::V2 }, Some((source, destination))).to_vec()
    });
    prop_oneof![binary, line, encoded]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_encoded_is_parsed(source in unicast(), destination in unicast(), tail in any::<[u8; 5]>()) {
        for version in [Version::V1, Version::V2] {
            let encoded = encode(version, Some((source, destination)));
            let parsed = parse(&[&encoded[..], &tail].concat()).unwrap().unwrap();
            prop_assert_eq!(parsed.len, encoded.len());
            let (source, destination) = (tcp_end(source).unwrap(), tcp_end(destination).unwrap());
            prop_assert_eq!(parsed.claim, ProxyClaim::Tcp { source, destination });
        }
    }

    #[test]
    fn any_split_gives_what_the_whole_gives(
        header in header(), tail in prop::collection::vec(any::<u8>(), 0..20),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let mut bytes = [header, tail].concat();
        if flip.1 < 64 {
            let at = flip.0.index(bytes.len());
            bytes[at] ^= 1 << (flip.1 % 8);
        }
        let whole = parse(&bytes);
        let mut ended = false;
        for end in 0..=bytes.len() {
            let part = parse(&bytes[..end]);
            let needed = need(&bytes[..end]);
            if let Ok(Some(header)) = whole {
                prop_assert!(needed <= header.len, "{} of {} needed", needed, header.len);
            }
            if ended || part != Ok(None) {
                ended = true;
                prop_assert_eq!(part, whole, "after {} of {} bytes", end, bytes.len());
                prop_assert!(needed <= end);
            } else {
                prop_assert!(needed > end, "{} needed of {}", needed, end);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), begin in 0..3usize) {
        let begin = [&b""[..], b"PROXY ", &SIGNATURE][begin];
        let bytes = [begin, &bytes].concat();
        let _ = (parse(&bytes), need(&bytes));
    }
}
