//! What a table of 1000 backends costs to build. The bar: below 50 ms, whatever the policy.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringway::balance::{Policy, consistent_hash, least_conn, round_robin};
use ringway::base::address::Address;
use ringway::base::time::Moment;
use ringway::config::model::{Backend, Config, Target};
use ringway::config::quick;
use ringway::fleet::{Fleet, WatchId};
use ringway::health::Facts;
use ringway::health::finding::Finding;
use ringway::snapshot::table::Phase;
use std::hint::black_box;
use std::sync::Arc;

const BACKENDS: u16 = 1000;

fn config(balance: Policy, weight: impl Fn(u16) -> u16) -> Arc<Config> {
    let listen = ["127.0.0.1:1".to_string()];
    let mut config = quick(&listen, &["10.0.0.1:1".to_string()], None).expect("it is right");
    let example = config.pools[0].backends[0].clone();
    let backend = |index: u16| Backend {
        name: format!("backend-{index}").into(),
        target: Target::Address(Address::Tcp(([10, 0, (index >> 8) as u8, index as u8], 5432).into())),
        weight: weight(index),
        ..example.clone()
    };
    config.pools[0].backends = (0..BACKENDS).map(backend).collect();
    config.pools[0].balance = balance;
    Arc::new(config)
}

fn builds(criterion: &mut Criterion) {
    let unlike = |index: u16| 1 + index % 256;
    for (name, balance, weighted) in [
        ("build/round_robin", round_robin::POLICY, false),
        ("build/round_robin_weighted", round_robin::POLICY, true),
        ("build/least_conn", least_conn::POLICY, false),
        ("build/consistent_hash", consistent_hash::POLICY, false),
        ("build/consistent_hash_weighted", consistent_hash::POLICY, true),
    ] {
        let config = config(balance, |index| if weighted { unlike(index) } else { 1 });
        let mut fleet = Fleet::new(config, Moment(0));
        criterion.bench_function(name, |bencher| {
            bencher.iter_batched(|| (), |()| fleet.table(None, black_box(Phase::Serving)), BatchSize::PerIteration)
        });
        let before = fleet.table(None, Phase::Serving);
        criterion.bench_function(&format!("{name}/nothing_changed"), |bencher| {
            bencher.iter(|| fleet.table(Some(&before), black_box(Phase::Serving)))
        });
    }
}

/// What a check result costs that changes nothing: 1000 backends checked every two seconds are 500 of them a second.
fn checks(criterion: &mut Criterion) {
    let mut fleet = Fleet::new(config(round_robin::POLICY, |_| 1), Moment(0));
    let watches: Vec<WatchId> = fleet.watches().map(|(id, _)| id).collect();
    assert_eq!(watches.len(), usize::from(BACKENDS));
    let (found, mut turn) = (Finding::Success(Facts::default()), 0);
    criterion.bench_function("fleet/check_of_1000", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let watch = watches[turn % watches.len()];
            fleet.on_check(watch, Moment(0), black_box(&found), Moment(1));
            fleet.pause_ns(watch, turn as u64)
        })
    });
    let failed: Vec<Finding> =
        [None, Some(Facts::default())].map(|facts| facts.map_or(Finding::Failure("x".into()), Finding::Success)).into();
    criterion.bench_function("fleet/change_of_1000", |bencher| {
        bencher.iter(|| {
            turn += 1;
            fleet.on_check(watches[0], Moment(0), black_box(&failed[turn / 3 % 2]), Moment(turn as u64))
        })
    });
}

criterion_group!(benches, builds, checks);
criterion_main!(benches);
