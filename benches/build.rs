//! What a table of 1000 backends costs to build. The bar: below 50 ms, whatever the policy.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringway::base::address::Address;
use ringway::base::time::Moment;
use ringway::config::model::*;
use ringway::fleet::{Finding, Fleet, WatchId};
use ringway::health::Facts;
use ringway::snapshot::table::Phase;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const BACKENDS: u16 = 1000;

fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits {
        connect_timeout: second,
        connect_attempts: 3,
        idle_timeout: second,
        half_close_timeout: second,
        lifetime_max: second,
        drain_idle: second,
        keepalive: second,
        user_timeout: second,
        receive_buffer: 0,
        unsent_max: 0,
    }
}

fn config(balance: Balance, weight: impl Fn(u16) -> u16) -> Arc<Config> {
    let second = Duration::from_secs(1);
    let backend = |index| Backend {
        name: format!("backend-{index}").into(),
        target: Target::Address(Address::Tcp(([10, 0, (index >> 8) as u8, index as u8], 5432).into())),
        backup: false,
        connections_max: None,
        weight: weight(index),
        disabled: false,
    };
    let check = Check {
        kind: CheckKind::Tcp,
        role: None,
        lag_max: Duration::ZERO,
        interval: second,
        fast_interval: second,
        down_interval: second,
        timeout: second,
        rise: 2,
        fall: 3,
        initial_up: true,
        port: None,
        lag_strict: false,
        header: CheckHeader::Auto,
    };
    let pool = Pool {
        name: "p".into(),
        balance,
        limits: limits(),
        queue: Queue { max: 1024, timeout: Duration::from_secs(5) },
        close_on_backend_down: true,
        drain_timeout: Duration::from_secs(30),
        use_all_when_down: false,
        slow_start: Duration::ZERO,
        address_family: AddressFamily::Any,
        hold: Hold { obsolete: Duration::from_secs(30), denied: Duration::from_secs(300) },
        dial: Dial::default(),
        ejection: None,
        check: Some(check),
        backends: (0..BACKENDS).map(backend).collect(),
    };
    let process = Process {
        workers: None,
        pin_workers: true,
        connections_max: None,
        shutdown_delay: second,
        shutdown_grace: second,
        busy_poll: Duration::ZERO,
        receive_buffers_max: 0,
        user: None,
        group: None,
    };
    Arc::new(Config {
        process,
        log: Log { level: LogLevel::Info, json: false, output: Output::Stderr },
        access_log: None,
        admin: Admin { socket: None, socket_mode: 0o600, listen: None, hosts: Vec::new() },
        dns: Dns::default(),
        listeners: Vec::new(),
        pools: vec![pool],
    })
}

fn builds(criterion: &mut Criterion) {
    let unlike = |index: u16| 1 + index % 256;
    for (name, balance, weighted) in [
        ("build/round_robin", Balance::RoundRobin, false),
        ("build/round_robin_weighted", Balance::RoundRobin, true),
        ("build/least_conn", Balance::LeastConn, false),
        ("build/consistent_hash", Balance::ConsistentHash { key: HashKey::SourceIp, balance_factor: None }, false),
        (
            "build/consistent_hash_weighted",
            Balance::ConsistentHash { key: HashKey::SourceIp, balance_factor: None },
            true,
        ),
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
    let mut fleet = Fleet::new(config(Balance::RoundRobin, |_| 1), Moment(0));
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
