//! Sessions and relays against a fake kernel, in schedules that a seed decides. `README.md` says what is modelled.
//!
//! ```text
//! cargo test --test sim                                             10,000 schedules
//! RINGWAY_SIM_SEEDS=100000 cargo test --test sim                    more
//! RINGWAY_SIM_SEED=4711 RINGWAY_SIM_TRACE=1 cargo test --test sim -- --nocapture      one, step by step
//! ```

#[macro_use]
mod corners;

mod bytes;
mod check;
mod corner;
mod dice;
mod faults;
mod kernel;
mod link;
mod peer;
mod pools;
mod preread;
mod shell;
mod sweep;
mod world;

/// A sweep of so many schedules reaches every corner.
const SEEDS_THOROUGH: u64 = 5_000;

#[test]
fn no_schedule_breaks_an_invariant() {
    sweep::no_schedule_breaks_an_invariant(SEEDS_THOROUGH);
}
