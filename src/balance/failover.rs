//! The first one that is up, until it is not.
//!
//! Idea: all sessions go to one backend. Which one is decided when the table is built (`snapshot::build`): the chosen
//! one of the table before, for as long as it is usable, else the first in the order of the file. So a recovered
//! earlier backend does not take sessions back, and every worker has the same answer. Here the chosen one stands first.
//! While it is full, clients wait: its place is not another's. Only a session that could not connect to it goes on to
//! the next.
//!
//! Cost a pick: one load, one atomic write. Source: HAProxy's `balance sticky`.

use std::sync::Arc;

use super::bounds::Bounds;
use super::policy::{Policy, Row};
use super::{Ask, Candidate, Counts, Pick, Ready};
use crate::base::id::PoolId;

/// The policy, for a pool that says nothing more of it.
pub const POLICY: Policy = Policy::of(&Row {
    word: "failover",
    takes: &[],
    is_tied: false,
    sends_all_to_one: true,
    why: |_, _| "the first in the order of the file; it stays chosen until it goes".to_string(),
    ready: |_, candidates, _| Arc::new(Failover::new(candidates)),
});

/// The chosen one, then the others in the order of the file.
#[derive(Debug)]
pub struct Failover {
    bounds: Bounds,
}

impl Failover {
    /// `candidates` with the chosen one first.
    pub fn new(candidates: &[Candidate<'_>]) -> Failover {
        Failover { bounds: Bounds::new(candidates, 0) }
    }
}

impl Ready for Failover {
    fn pick(&self, _: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        match self.bounds.ids.iter().position(|id| !ask.tried.contains(id)) {
            None => Pick::Nobody,
            Some(place) if self.bounds.take(place, counts) => Pick::Backend(self.bounds.ids[place]),
            Some(_) => Pick::Full,
        }
    }
}
