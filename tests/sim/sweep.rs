//! Runs schedules, one after the other or many in parallel, and prints how to run one again that fails.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::corner::{Corner, Corners};
use crate::world::World;

/// Schedules of a sweep.
const SEEDS: u64 = 10_000;
/// What happens on a ring alone.
const OF_RINGS: &[Corner] = &[
    Corner::SentQuietly,
    Corner::QuietSendFailed,
    Corner::CancelCameLate,
    Corner::BytesCrossCancel,
    Corner::CancelFoundNothing,
    Corner::SilentReset,
    Corner::ReadyByFinAlone,
    Corner::EdgeTold,
    Corner::OpsNotTaken,
];
/// Steps of a schedule; the longest that were seen have a tenth.
const STEPS: u64 = 200_000;

thread_local! {
    /// What this thread panics of is told by the sweep.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Other tests may fail at the same time, and what they say must be heard.
fn tell_panics_but_those_of_a_sweep() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            tell(panic);
        }
    }));
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Runs a schedule; says how to run it again if it fails.
fn run(seed: u64, is_epoll: bool, trace: bool) -> Result<Corners, String> {
    let steps_max = setting("RINGWAY_SIM_STEPS").unwrap_or(STEPS);
    catch_unwind(AssertUnwindSafe(|| World::new(seed, is_epoll, trace).run(steps_max))).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        let which = if is_epoll { "no_schedule_on_epoll" } else { "no_schedule_breaks" };
        let replay = format!("RINGWAY_SIM_TRACE=1 cargo test --test sim {which} -- --nocapture");
        format!("seed {seed}: {why}\nreplay: RINGWAY_SIM_SEED={seed} {replay}")
    })
}

/// Runs these seeds on all CPUs, or on `RINGWAY_SIM_THREADS`; the lowest seed that fails is reported.
fn sweep(seeds: Range<u64>, is_epoll: bool) -> Result<Corners, String> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let work = || {
        QUIET.set(true);
        let mut corners = Corners::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.load(Ordering::Relaxed) < seed {
                return corners;
            }
            match run(seed, is_epoll, false) {
                Ok(reached) => corners.add(&reached),
                Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let threads = setting("RINGWAY_SIM_THREADS").unwrap_or_else(cpus);
    let mut corners = Corners::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            corners.add(&worker.join().expect("a sweep catches its panics"));
        }
    });
    match failed.into_inner() {
        u64::MAX => Ok(corners),
        seed => {
            QUIET.set(true);
            let why = run(seed, is_epoll, false).err().unwrap_or(format!("seed {seed} failed once, and then not"));
            QUIET.set(false);
            Err(why)
        }
    }
}

/// The schedule that the environment asks for, or a sweep. One of `seeds_thorough` or more reaches every corner.
pub fn no_schedule_breaks_an_invariant(is_epoll: bool, seeds_thorough: u64) {
    if let Some(seed) = setting("RINGWAY_SIM_SEED") {
        let trace = setting("RINGWAY_SIM_TRACE").is_some_and(|value| value > 0);
        if let Err(why) = run(seed, is_epoll, trace) {
            panic!("{why}");
        }
        return;
    }
    tell_panics_but_those_of_a_sweep();
    let seeds = setting("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS);
    let from = setting("RINGWAY_SIM_FROM").unwrap_or(0);
    let corners = sweep(from..from + seeds, is_epoll).unwrap_or_else(|why| panic!("{why}"));
    println!("{seeds} schedules: {corners}");
    let mut missed = corners.missed();
    missed.retain(|corner| !is_epoll || !OF_RINGS.contains(corner));
    assert!(missed.is_empty() || seeds < seeds_thorough, "the sweep is too kind: it never reached {missed:?}");
}
