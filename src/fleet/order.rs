//! What an operator orders of a backend while ringway runs, as data: the words of the API, and what is kept of them.
//!
//! `ctl drain db/a` becomes a [`Change`], which `set` checks and keeps as [`ByHand`] beside the configuration.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::time::Moment;
use crate::config::model::Backend;

/// A backend by its names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendName {
    /// Name of the pool.
    pub pool: String,
    /// Name of the backend as it is configured: all of its addresses.
    pub backend: String,
}

/// What is to be changed of a backend. All of it, or nothing if a part of it cannot be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// 0 to 256; with 0 it takes no new sessions.
    pub weight: Option<u16>,
    /// What the operator wants of it.
    pub state: Option<Mode>,
    /// Most sessions that it may have; 0 is no limit.
    pub connections_max: Option<u32>,
    /// When a drain ends the sessions that are left; zero: never. Only with [`Mode::Drain`]; without it the pool's
    /// `drain_timeout` counts.
    pub deadline: Option<Duration>,
}

/// What an operator may want of a backend.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Used as its checks say.
    Ready,
    /// Takes no new sessions, and those it has end at a deadline. It is still checked.
    Drain,
    /// Takes no new sessions and keeps those it has. It is not checked.
    Maintenance,
}

impl Mode {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Ready => "ready",
            Mode::Drain => "drain",
            Mode::Maintenance => "maintenance",
        }
    }
}

/// Why a backend was not changed. The request is at fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SetError {
    /// There is no such pool, or it has no such backend.
    #[error("there is no {0}; see `ringway ctl backends`")]
    NotFound(String),
    /// The change cannot be made.
    #[error("{0}")]
    Invalid(String),
}

/// What the configuration or the operator says of a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// 0 to 256.
    pub weight: u16,
    /// 0 if it is no backup, else its level.
    pub backup: u16,
    /// Most sessions that it may have.
    pub connections_max: Option<NonZeroU32>,
    /// Its port is the one that the client connected to, with so much added.
    pub port_shift: Option<i32>,
}

/// What the operator wants of a backend, and which operator that was.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Used as its checks say.
    Ready,
    /// No new sessions, and those that are left end.
    Drain {
        /// When; [`Moment::NEVER`] once they were told to, or if they never are.
        until: Moment,
        /// They were told to.
        is_over: bool,
        /// The operator that wants it, as the API knows it: `uid 1000`.
        by: Arc<str>,
    },
    /// No new sessions, and no checks.
    Maintenance {
        /// The operator that wants it; `None` is the configuration (`disabled`).
        by: Option<Arc<str>>,
    },
}

impl Order {
    /// The bare state, without operator and deadline.
    pub fn mode(&self) -> Mode {
        match self {
            Order::Ready => Mode::Ready,
            Order::Drain { .. } => Mode::Drain,
            Order::Maintenance { .. } => Mode::Maintenance,
        }
    }

    /// When the sessions that are left end.
    pub fn until(&self) -> Option<Moment> {
        match self {
            Order::Drain { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Ends a drain whose time is over; whether it did.
    pub(super) fn on_time(&mut self, now: Moment) -> bool {
        match self {
            Order::Drain { until, is_over, .. } if now >= *until => {
                (*is_over, *until) = (true, Moment::NEVER);
                true
            }
            _ => false,
        }
    }
}

/// What was set of one backend; what is `None` is as configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByHand {
    /// Another weight than the file has.
    pub(super) weight: Option<u16>,
    /// Another limit than the file has; `Some(None)` is no limit.
    pub(super) connections_max: Option<Option<NonZeroU32>>,
    /// Another state than the file has.
    pub(super) order: Option<Order>,
}

impl ByHand {
    /// Names of the keys that were set.
    pub fn keys(&self) -> Vec<&'static str> {
        let all = [
            (self.weight.is_some(), "weight"),
            (self.order.is_some(), "state"),
            (self.connections_max.is_some(), "connections_max"),
        ];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, key)| key).collect()
    }

    /// What of it outlives a change of the file: keys that the file has not changed.
    pub(super) fn after(mut self, before: &Backend, now: &Backend) -> ByHand {
        if before.weight != now.weight {
            self.weight = None;
        }
        if before.connections_max != now.connections_max {
            self.connections_max = None;
        }
        if before.disabled != now.disabled {
            self.order = None;
        }
        self
    }
}

/// What a backend is to be: as it was set, or as it is configured.
pub(super) fn as_told(configured: &Backend, by_hand: Option<&ByHand>) -> (Settings, Order) {
    let by_hand = by_hand.cloned().unwrap_or_default();
    let settings = Settings {
        weight: if configured.rests.is_some() { 0 } else { by_hand.weight.unwrap_or(configured.weight) },
        backup: configured.backup,
        connections_max: by_hand.connections_max.unwrap_or(configured.connections_max),
        port_shift: configured.target.shift(),
    };
    let as_configured = || if configured.disabled { Order::Maintenance { by: None } } else { Order::Ready };
    (settings, by_hand.order.unwrap_or_else(as_configured))
}
