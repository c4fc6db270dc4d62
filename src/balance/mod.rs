//! Which backend takes a session: one policy a file, over counts that all workers share.
//!
//! A [`Picker`] is immutable and part of a table; what changes with traffic stands in [`Counts`]. Both together make
//! `round_robin` and `least_conn` exact over all workers, and `consistent_hash` needs no shared state at all.
#![forbid(unsafe_code)]

pub mod consistent_hash;
pub mod counts;
pub mod least_conn;
pub mod round_robin;

use std::sync::Arc;

use crate::base::id::{BackendId, PoolId};
pub use counts::Counts;

/// Which policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest open sessions by weight.
    LeastConn,
    /// Maglev.
    ConsistentHash,
}

/// A backend that may be picked: it is usable now and its weight is not 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate<'a> {
    /// What a pick returns.
    pub id: BackendId,
    /// What `consistent_hash` places it by; unique in the pool.
    pub name: &'a str,
    /// Its share, 1 to 256. 0 is never picked.
    pub weight: u16,
}

/// A policy made ready for the backends that are usable now. A clone shares what was computed.
#[derive(Clone, Debug)]
pub struct Picker {
    policy: Policy,
}

#[derive(Clone, Debug)]
enum Policy {
    RoundRobin(Arc<round_robin::RoundRobin>),
    LeastConn(Arc<least_conn::LeastConn>),
    ConsistentHash(Arc<consistent_hash::ConsistentHash>),
}

impl Picker {
    /// Makes `kind` ready for `candidates`, in file order. None at all is fine: then every pick is `None`.
    pub fn new(kind: Kind, candidates: &[Candidate<'_>]) -> Picker {
        let usable: Vec<_> = candidates.iter().copied().filter(|candidate| candidate.weight > 0).collect();
        let policy = match kind {
            Kind::RoundRobin => Policy::RoundRobin(Arc::new(round_robin::RoundRobin::new(&usable))),
            Kind::LeastConn => Policy::LeastConn(Arc::new(least_conn::LeastConn::new(&usable))),
            Kind::ConsistentHash => Policy::ConsistentHash(Arc::new(consistent_hash::ConsistentHash::new(&usable))),
        };
        Picker { policy }
    }

    /// Picks a backend that is not in `tried` and counts the session on it: the caller owes one [`Counts::closed`].
    /// `None` exactly when every candidate was tried. `key` matters to `consistent_hash` alone.
    #[inline]
    pub fn pick(&self, key: u64, pool: PoolId, counts: &Counts, tried: &[BackendId]) -> Option<BackendId> {
        // A session has one turn, however many attempts it makes: otherwise, of two backends, every session would meet
        // the dead one first.
        let turn = || if tried.is_empty() { counts.turn(pool) } else { counts.next_turn(pool) };
        match &self.policy {
            Policy::RoundRobin(policy) => {
                let picked = policy.pick(turn(), tried)?;
                counts.opened(picked);
                Some(picked)
            }
            Policy::LeastConn(policy) => policy.pick(turn(), counts, tried),
            Policy::ConsistentHash(policy) => {
                let picked = policy.pick(key, tried)?;
                counts.opened(picked);
                Some(picked)
            }
        }
    }
}

/// Whether a walk over `candidates` would find all of them in `tried`, so that it need not begin.
fn exhausted(candidates: &[BackendId], tried: &[BackendId]) -> bool {
    tried.len() >= candidates.len() && candidates.iter().all(|candidate| tried.contains(candidate))
}

#[cfg(test)]
mod tests;
