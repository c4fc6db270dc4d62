//! Whether a backend is fit for traffic: what checks say, turned into a state. Pure; the probes are in `control`.
#![forbid(unsafe_code)]

pub mod monitor;
pub mod schedule;

use std::fmt;

/// What a backend may be used for (INTERFACE section 4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Takes new sessions.
    Up,
    /// Its checks fail: takes none.
    Down,
    /// Real traffic failed to connect: takes none for a while.
    Ejected,
    /// Keeps the sessions it has until a deadline, takes no new ones.
    Draining,
    /// Taken out by the operator: keeps the sessions it has, takes no new ones, is not checked.
    Maintenance,
}

impl State {
    /// Every state, in the order of the metric's label values.
    pub const ALL: [State; 5] = [State::Up, State::Down, State::Ejected, State::Draining, State::Maintenance];

    /// The word for it in logs, metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Ejected => "ejected",
            State::Draining => "draining",
            State::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
