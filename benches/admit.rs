//! What it costs to know whether a client may connect: rules with 100,000 networks (the bar: below 200 ns a look), and
//! the limits of a source among a million others.

use std::hash::RandomState;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::admit::networks::{Network, Networks};
use ringway::admit::sources::{Quota, RateLimit};
use ringway::admit::{Rules, Sources};
use ringway::base::address::Address;
use ringway::base::hash;
use ringway::base::id::ListenerId;
use ringway::base::time::Moment;

const NETWORKS: u64 = 100_000;
const CLIENTS: usize = 1 << 16;

fn bits(number: u64) -> u128 {
    let half = |seed| u128::from(hash::stable(&number.to_le_bytes(), seed));
    half(1) << 64 | half(2)
}

/// Networks of every size that is used, at random.
fn networks(is_v6: bool) -> Vec<Network> {
    let network = |number| {
        let (bits, len) = (bits(number), hash::stable(&u64::to_le_bytes(number), 3));
        let text = match is_v6 {
            true => {
                ipnet::Ipv6Net::new(Ipv6Addr::from(bits), 20 + (len % 109) as u8).expect("a length").trunc().to_string()
            }
            false => ipnet::Ipv4Net::new(Ipv4Addr::from(bits as u32), 12 + (len % 21) as u8)
                .expect("a length")
                .trunc()
                .to_string(),
        };
        text.parse().expect("a network")
    };
    (0..NETWORKS).map(network).collect()
}

/// Half of them from a network of the list.
fn clients(list: &[Network]) -> Vec<Address> {
    let client = |number: usize| {
        let ip = match list[(number * 7919) % list.len()] {
            Network::Ip(network) if number.is_multiple_of(2) => network.addr(),
            Network::Ip(network) if network.addr().is_ipv6() => {
                IpAddr::V6(Ipv6Addr::from(bits(number as u64 + NETWORKS)))
            }
            _ => IpAddr::V4(Ipv4Addr::from(bits(number as u64 + NETWORKS) as u32)),
        };
        Address::Tcp((ip, 40_000).into())
    };
    (0..CLIENTS).map(client).collect()
}

fn rules(criterion: &mut Criterion) {
    for (name, is_v6) in [("rules/100,000 IPv4 networks", false), ("rules/100,000 IPv6 networks", true)] {
        let list = networks(is_v6);
        let clients = clients(&list);
        let rules = Rules { allow: Some(Networks::new(list)), deny: Networks::default() };
        let mut next = 0;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                next = (next + 1) % CLIENTS;
                black_box(rules.admit(Some(&clients[next])))
            })
        });
    }
}

fn sources(criterion: &mut Criterion) {
    let sources = Sources::new(RandomState::new());
    let rate = RateLimit { count: u32::MAX, unit_ns: 60_000_000_000 };
    let limits = Quota { connections_max: 1000, rate, prefix_v6: 64 };
    let ip = |number: u32| IpAddr::V4(Ipv4Addr::from(number));
    for number in 0..1_000_000 {
        let permit = sources.enter(ListenerId(0), ip(number), &limits, Moment(0));
        sources.leave(permit.expect("it is the first"));
    }
    let mut next = 0u32;
    criterion.bench_function("sources/enter and leave, a million sources", |bencher| {
        bencher.iter(|| {
            next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let permit = sources.enter(ListenerId(0), ip(next % 1_000_000), &limits, Moment(1));
            permit.map(|permit| sources.leave(permit)).is_ok()
        })
    });
}

criterion_group!(benches, rules, sources);
criterion_main!(benches);
