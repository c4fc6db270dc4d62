use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use proptest::prelude::*;

use super::*;

const S: u64 = 1_000_000_000;
const HERE: ListenerId = ListenerId(0);

fn sources(buckets: usize) -> Sources {
    Sources::with_buckets(RandomState::new(), buckets)
}

fn connections(most: u32) -> Quota {
    Quota { connections_max: most, rate: RateLimit::default(), prefix_v6: 64 }
}

fn rate(count: u32, unit_ns: u64) -> Quota {
    Quota { connections_max: 0, rate: RateLimit { count, unit_ns }, prefix_v6: 64 }
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from(number).into()
}

#[test]
fn a_source_has_as_many_connections_as_it_may_and_others_are_not_affected() {
    let sources = sources(1 << 10);
    let limits = connections(3);
    let mut permits: Vec<Permit> = (0..3).map(|_| sources.enter(HERE, v4(7), &limits, Moment(0)).unwrap()).collect();
    assert_eq!(sources.enter(HERE, v4(7), &limits, Moment(0)), Err(Refused::SourceLimit));
    assert!(sources.enter(HERE, v4(8), &limits, Moment(0)).is_ok());
    assert!(sources.enter(ListenerId(1), v4(7), &limits, Moment(0)).is_ok(), "another listener counts by itself");
    sources.leave(permits.pop().unwrap());
    assert!(sources.enter(HERE, v4(7), &limits, Moment(0)).is_ok());
    assert_eq!(sources.enter(HERE, v4(7), &limits, Moment(0)), Err(Refused::SourceLimit));
}

#[test]
fn a_bucket_holds_one_units_worth_and_refused_connections_cost_nothing() {
    let sources = sources(1 << 10);
    for (limits, tokens, refill_ns) in [(rate(20, S), 20, S / 20), (rate(600, 60 * S), 600, S / 10)] {
        let source = v4(tokens);
        let may = |at: u64| sources.enter(HERE, source, &limits, Moment(at)).map(|permit| sources.leave(permit));
        assert!((0..tokens).all(|_| may(5).is_ok()), "a burst of {tokens}");
        assert!((0..1000).all(|_| may(5) == Err(Refused::SourceRate)));
        assert_eq!(may(5 + refill_ns - 1), Err(Refused::SourceRate));
        assert_eq!(may(5 + refill_ns), Ok(()), "one token has come");
        assert_eq!(may(5 + refill_ns), Err(Refused::SourceRate));
        let later = 5 + 3600 * S;
        assert_eq!((0..2 * tokens).filter(|_| may(later).is_ok()).count() as u32, tokens, "and never more");
    }
}

#[test]
fn what_one_limit_refuses_the_other_does_not_count() {
    let sources = sources(1 << 10);
    let limits = Quota { connections_max: 1, ..rate(2, S) };
    let permit = sources.enter(HERE, v4(1), &limits, Moment(0)).unwrap();
    (0..10).for_each(|_| assert_eq!(sources.enter(HERE, v4(1), &limits, Moment(0)), Err(Refused::SourceLimit)));
    sources.leave(permit);
    let permit = sources.enter(HERE, v4(1), &limits, Moment(0)).expect("the second token is still there");
    sources.leave(permit);
    assert_eq!(sources.enter(HERE, v4(1), &limits, Moment(0)), Err(Refused::SourceRate));
    assert_eq!(sources.enter(HERE, v4(1), &limits, Moment(0)), Err(Refused::SourceRate), "nor does it count as open");
    assert!(sources.enter(HERE, v4(1), &limits, Moment(S)).is_ok());
}

#[test]
fn ipv6_clients_count_by_their_prefix_and_mapped_ones_by_their_ipv4_address() {
    let sources = sources(1 << 10);
    let limits = connections(1);
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    let enter = |client, limits: &Quota| sources.enter(HERE, client, limits, Moment(0)).is_ok();
    assert!(enter(v6("2001:db8:0:1::1"), &limits) && !enter(v6("2001:db8:0:1:ffff::2"), &limits));
    assert!(enter(v6("2001:db8:0:2::1"), &limits));
    let whole = Quota { prefix_v6: 128, ..limits };
    assert!(enter(v6("2001:db8:0:3::1"), &whole) && enter(v6("2001:db8:0:3::2"), &whole));
    assert!(enter(v4(9), &limits) && !enter(IpAddr::V6(Ipv4Addr::from(9).to_ipv6_mapped()), &limits));
}

/// A million sources come once, each with a token missing for a minute: a source with connections is never lost, the
/// table does not grow, and no client is refused.
#[test]
fn a_flood_of_sources_neither_grows_the_table_nor_shuts_anybody_out() {
    let sources = sources(1 << 7);
    let held = connections(1);
    let mine: Vec<Permit> = (0..200).map(|n| sources.enter(HERE, v4(n), &held, Moment(0)).unwrap()).collect();
    let once = rate(1, 60 * S);
    for n in 0..20_000u32 {
        let client = IpAddr::V6(Ipv6Addr::from(u128::from(n) << 64));
        let permit = sources.enter(HERE, client, &once, Moment(u64::from(n))).expect("room is made");
        sources.leave(permit);
    }
    assert!((0..200).all(|n| sources.enter(HERE, v4(n), &held, Moment(1)) == Err(Refused::SourceLimit)));
    mine.into_iter().for_each(|permit| sources.leave(permit));
    assert!((0..200).all(|n| sources.enter(HERE, v4(n), &held, Moment(1)).is_ok()));
}

#[test]
fn a_quarter_of_the_table_can_hold_connections_without_one_refused() {
    let sources = sources(1 << 8);
    let limits = connections(1);
    let places = (1u32 << 8) * WAYS as u32;
    let refused = (0..places / 2).filter(|&n| sources.enter(HERE, v4(n), &limits, Moment(0)).is_err()).count();
    assert_eq!(refused, 0);
}

/// Sources come and go all the time in a table that is nearly full, so that several workers place a source together.
#[test]
fn limits_are_exact_when_workers_race() {
    let sources = sources(1 << 2);
    let limits = Quota { rate: RateLimit { count: 1 << 30, unit_ns: 60 * S }, ..connections(2) };
    let holders: Vec<AtomicU32> = (0..40).map(|_| AtomicU32::new(0)).collect();
    let entered = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (sources, holders, entered) = (&sources, &holders, &entered);
            scope.spawn(move || {
                for n in 0..60_000u32 {
                    let source = (n / 3 + thread) % 40;
                    if let Ok(permit) = sources.enter(HERE, v4(source), &limits, Moment(u64::from(n))) {
                        let held = holders[source as usize].fetch_add(1, Relaxed) + 1;
                        assert!(held <= 2, "{held} at once");
                        entered.fetch_add(1, Relaxed);
                        holders[source as usize].fetch_sub(1, Relaxed);
                        sources.leave(permit);
                    }
                }
            });
        }
    });
    assert!(entered.into_inner() > 100_000);
    for n in 0..3 {
        assert_eq!((0..9).filter(|_| sources.enter(HERE, v4(n), &limits, Moment(S)).is_ok()).count(), 2);
    }
}

/// Two workers put a source that is new somewhere at the same moment, while others come and go around it.
#[test]
fn a_source_that_comes_twice_at_once_is_one_source() {
    const ROUNDS: u32 = 40_000;
    let (sources, limits) = (sources(1), connections(1));
    let (arrived, admitted) = ([AtomicU32::new(0), AtomicU32::new(0)], AtomicU32::new(0));
    // A thread that is woken comes late, so both spin.
    let meet = |stage: usize, round: u32| {
        arrived[stage].fetch_add(1, SeqCst);
        while arrived[stage].load(SeqCst) < 2 * (round + 1) {
            std::hint::spin_loop();
        }
    };
    let race = |own: u32| {
        for round in 0..ROUNDS {
            meet(0, round);
            // It takes a place and leaves it, so that the two see different places free.
            let passing = sources.enter(HERE, v4(1_000_000 + 2 * round + own), &limits, Moment(0));
            passing.map(|permit| sources.leave(permit)).unwrap();
            let permit = sources.enter(HERE, v4(round), &limits, Moment(0));
            admitted.fetch_add(u32::from(permit.is_ok()), SeqCst);
            meet(1, round);
            let count = admitted.load(SeqCst);
            assert!(count <= round + 1, "both were admitted in round {round}");
            // Each admitted connection counts one per round, so the count tells everything.
            permit.into_iter().for_each(|permit| sources.leave(permit));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| race(0));
        scope.spawn(|| race(1));
    });
    assert_eq!(admitted.into_inner(), ROUNDS, "one of both is admitted");
}

proptest! {
    /// Against a model that forgets nothing.
    #[test]
    fn a_roomy_table_agrees_with_counting(
        steps in prop::collection::vec((0u32..6, 0u64..300_000_000, any::<bool>()), 1..200),
    ) {
        let sources = sources(1 << 10);
        let limits = Quota { connections_max: 3, rate: RateLimit { count: 4, unit_ns: S }, prefix_v6: 64 };
        let mut open: HashMap<u32, Vec<Permit>> = HashMap::new();
        let mut tokens: HashMap<u32, (f64, u64)> = HashMap::new();
        let mut now = 0;
        for (source, after_ns, leaves) in steps {
            now += after_ns / 1000 * 1000;
            let held = open.entry(source).or_default();
            if leaves {
                held.pop().into_iter().for_each(|permit| sources.leave(permit));
                continue;
            }
            let (left, at) = tokens.get(&source).copied().unwrap_or((4.0, now));
            let left = (left + (now - at) as f64 * 4.0 / S as f64).min(4.0);
            let expected = match () {
                () if held.len() >= 3 => Err(Refused::SourceLimit),
                () if left < 1.0 - 1e-6 => Err(Refused::SourceRate),
                () => Ok(()),
            };
            tokens.insert(source, (if expected.is_ok() { left - 1.0 } else { left }, now));
            let entered = sources.enter(HERE, v4(source), &limits, Moment(now));
            prop_assert_eq!(entered.as_ref().map(|_| ()).map_err(|&refused| refused), expected);
            held.extend(entered);
        }
    }
}
