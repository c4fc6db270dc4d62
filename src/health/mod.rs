//! Whether a backend is fit for traffic: what checks and real sessions say, turned into a state. Pure; the checks
//! themselves are made in `probe`.
//!
//! ```text
//! result ─> subscriber (role, lag) ─> monitor (rise, fall) ─> verdict ─> fleet::judge ─> State
//! failed connects ─> ejection ────────────────────────────────────────────┘
//! claims of databases ─> primary ─────────────────────────────────────────┘
//! ```
//!
//! `schedule` says when to check next, `ask` what to ask, `finding` what a check found, `transcript`
//! how it went, which is the one part that has a clock.
#![forbid(unsafe_code)]

pub mod agent;
pub mod ask;
pub mod ejection;
pub mod finding;
pub mod monitor;
pub mod primary;
pub mod schedule;
pub mod subscriber;
pub mod transcript;

use std::fmt;

/// What a backend may be used for (`docs/concepts.md`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Takes new sessions.
    Up,
    /// Fit, but not of the role that its pool wants: takes none, and that is no fault.
    Standby,
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
    pub const ALL: [State; 6] =
        [State::Up, State::Standby, State::Down, State::Ejected, State::Draining, State::Maintenance];

    /// The word for it in logs, metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Standby => "standby",
            State::Down => "down",
            State::Ejected => "ejected",
            State::Draining => "draining",
            State::Maintenance => "maintenance",
        }
    }

    /// Whether a backend of that state and weight takes new sessions.
    pub fn takes_sessions(self, weight: u16) -> bool {
        self == State::Up && weight > 0
    }
}

/// What a database says of itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
}

/// What a check that succeeded found out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// `None` if it was not asked for.
    pub role: Option<Role>,
    /// Of several that say they are the primary, the one with the greatest term became it last: PostgreSQL's timeline.
    /// 0 where there is no such number.
    pub term: u64,
    /// How far a replica lags behind; `None` if it was not asked for, does not know, or is no replica.
    pub lag_ns: Option<u64>,
    /// A replica that has lost its primary: the stalest to read from, and certainly no primary.
    pub is_cut_off: bool,
    /// It says that it is about to stop: it finishes what it has, and wants nothing new.
    pub is_leaving: bool,
}

impl Role {
    /// The word for it in the configuration and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
