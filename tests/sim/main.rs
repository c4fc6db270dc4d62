//! Whole workers on a simulated kernel, in schedules that a seed decides. `README.md` says what is modelled.
//!
//! ```text
//! cargo test --test sim                                             10,000 schedules for each driver
//! RINGWAY_SIM_SEEDS=100000 cargo test --test sim                    more
//! cargo test --test sim on_epoll                                    those of the driver `epoll`
//! RINGWAY_SIM_SEED=4711 RINGWAY_SIM_TRACE=1 cargo test --test sim -- --nocapture      one, step by step
//! ```

#[macro_use]
mod corners;

mod asleep;
mod bytes;
mod check;
mod control;
mod corner;
mod dice;
mod ending;
mod epoll;
mod faults;
mod flight;
mod host;
mod kernel;
mod leave;
mod limits;
mod mutants;
mod order;
mod pair;
mod peer;
mod pools;
mod ring;
mod sock;
mod splice;
mod sweep;
mod turn;
mod way;
mod world;

use world::World;

/// A sweep of so many schedules reaches every corner.
const SEEDS_THOROUGH: u64 = 10_000;

#[test]
fn no_schedule_breaks_an_invariant() {
    sweep::no_schedule_breaks_an_invariant(false, SEEDS_THOROUGH);
}

#[test]
fn no_schedule_on_epoll_breaks_an_invariant() {
    sweep::no_schedule_breaks_an_invariant(true, SEEDS_THOROUGH);
}

/// A ring that cannot be entered serves no session: its connections are still open, and the process must know.
#[test]
fn a_ring_that_cannot_be_entered_is_given_up() {
    for seed in 0..300 {
        World::new(seed, false, false).run_to_a_broken_ring();
    }
}
