//! Whole workers on a simulated kernel, in schedules that a seed decides. `README.md` says what is modelled.
//!
//! ```text
//! cargo test --test sim_worker                                             10,000 schedules
//! RINGWAY_SIM_SEEDS=100000 cargo test --test sim_worker                    more
//! RINGWAY_SIM_SEED=4711 RINGWAY_SIM_TRACE=1 cargo test --test sim_worker -- --nocapture      one, step by step
//! ```

#[path = "../sim/bytes.rs"]
mod bytes;
mod check;
mod control;
mod corner;
#[path = "../sim/dice.rs"]
mod dice;
mod faults;
mod flight;
mod host;
mod kernel;
#[path = "../sim/peer.rs"]
mod peer;
mod pools;
mod ring;
mod sock;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use corner::Corners;
use world::World;

/// Schedules of a sweep.
const SEEDS: u64 = 10_000;
/// A sweep of so many reaches every corner.
const SEEDS_THOROUGH: u64 = 10_000;
/// Steps of a schedule; the longest that were seen have a tenth.
const STEPS: u64 = 200_000;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Runs a schedule; says how to run it again if it fails.
fn run(seed: u64, trace: bool) -> Result<Corners, String> {
    let steps_max = setting("RINGWAY_SIM_STEPS").unwrap_or(STEPS);
    catch_unwind(AssertUnwindSafe(|| World::new(seed, trace).run(steps_max))).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        let replay = "RINGWAY_SIM_TRACE=1 cargo test --test sim_worker -- --nocapture";
        format!("seed {seed}: {why}\nreplay: RINGWAY_SIM_SEED={seed} {replay}")
    })
}

/// Runs seeds from 0 on all CPUs; the lowest seed that fails is reported.
fn sweep(seeds: u64) -> Result<Corners, String> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let work = || {
        let mut corners = Corners::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                return corners;
            }
            match run(seed, false) {
                Ok(reached) => corners.add(&reached),
                Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut corners = Corners::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            corners.add(&worker.join().expect("a sweep catches its panics"));
        }
    });
    match failed.into_inner() {
        u64::MAX => Ok(corners),
        seed => Err(run(seed, false).err().unwrap_or(format!("seed {seed} failed once, and then not"))),
    }
}

#[test]
fn no_schedule_breaks_an_invariant() {
    if let Some(seed) = setting("RINGWAY_SIM_SEED") {
        let trace = setting("RINGWAY_SIM_TRACE").is_some_and(|value| value > 0);
        if let Err(why) = run(seed, trace) {
            panic!("{why}");
        }
        return;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = setting("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS);
    let swept = sweep(seeds);
    drop(std::panic::take_hook());
    let corners = swept.unwrap_or_else(|why| panic!("{why}"));
    println!("{seeds} schedules: {corners}");
    let missed = corners.missed();
    assert!(missed.is_empty() || seeds < SEEDS_THOROUGH, "the sweep is too kind: it never reached {missed:?}");
}

/// What cannot be entered serves nobody: its connections are open still, and whoever runs the worker must know.
#[test]
fn a_ring_that_cannot_be_entered_is_given_up() {
    for seed in 0..300 {
        World::new(seed, false).run_to_a_broken_ring();
    }
}
