//! Which backend takes a session: one policy a file, over counts that all workers share.
//!
//! A [`Picker`] is immutable and part of a table; what changes with traffic stands in [`Counts`]. Both together make
//! `round_robin`, `least_conn` and every limit exact over all workers, and `consistent_hash` needs no shared state at
//! all unless its load is bounded. Which clients wait for a place, and in which order, is in [`queue`].
#![forbid(unsafe_code)]

mod bounds;
pub mod consistent_hash;
pub mod counts;
pub mod failover;
pub mod least_conn;
pub mod line;
pub mod queue;
pub mod random;
pub mod round_robin;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
pub use counts::Counts;

/// Which policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest open sessions by weight.
    LeastConn,
    /// Maglev.
    ConsistentHash {
        /// No backend above this many per cent of its share.
        balance_factor: Option<u32>,
    },
    /// The less loaded of two random ones.
    Random,
    /// The first candidate, until it goes.
    Failover,
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
    /// Used only where no other is.
    pub backup: bool,
    /// Sessions it takes at once.
    pub connections_max: Option<NonZeroU32>,
    /// When its slow start began, if it is in one.
    pub ramp_from: Option<Moment>,
}

impl<'a> Candidate<'a> {
    /// One without a limit that is no backup.
    pub fn new(id: BackendId, name: &'a str, weight: u16) -> Candidate<'a> {
        Candidate { id, name, weight, backup: false, connections_max: None, ramp_from: None }
    }
}

/// Who asks for a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What `consistent_hash` goes by.
    pub key: u64,
    /// A random number, for `random`.
    pub random: u64,
    /// For slow starts.
    pub now: Moment,
    /// Who could not be connected to before.
    pub tried: &'a [BackendId],
}

/// The answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pick {
    /// This one; the session is counted there, so one [`Counts::closed`] is owed.
    Backend(BackendId),
    /// Some could be used, but each has as many sessions as it may have.
    Full,
    /// There is none, or all were tried.
    Nobody,
}

/// A policy made ready for the backends that are usable now. A clone shares what was computed.
#[derive(Clone, Debug)]
pub struct Picker {
    main: Policy,
    /// Of the backups.
    spare: Option<Policy>,
    origin: Arc<Origin>,
}

/// What a picker was made of.
#[derive(Debug)]
struct Origin {
    kind: Kind,
    slow_start_ns: u64,
    /// Each with its name.
    candidates: Box<[(Box<str>, Candidate<'static>)]>,
}

#[derive(Clone, Debug)]
enum Policy {
    RoundRobin(Arc<round_robin::RoundRobin>),
    LeastConn(Arc<least_conn::LeastConn>),
    ConsistentHash(Arc<consistent_hash::ConsistentHash>),
    Random(Arc<random::Random>),
    Failover(Arc<failover::Failover>),
}

impl Picker {
    /// Makes `kind` ready for `candidates`, in file order, for [`Kind::Failover`] with the chosen one before the others
    /// of its kind. None at all is fine: then every pick is [`Pick::Nobody`].
    pub fn new(kind: Kind, candidates: &[Candidate<'_>], slow_start_ns: u64) -> Picker {
        let usable = candidates.iter().copied().filter(|candidate| candidate.weight > 0);
        let (spare, main): (Vec<_>, Vec<_>) = usable.partition(|candidate| candidate.backup);
        let policy = |candidates: &[Candidate<'_>]| Policy::new(kind, candidates, slow_start_ns);
        let owned = |candidate: &Candidate<'_>| (Box::from(candidate.name), Candidate { name: "", ..*candidate });
        let candidates = candidates.iter().map(owned).collect();
        let origin = Arc::new(Origin { kind, slow_start_ns, candidates });
        Picker { main: policy(&main), spare: (!spare.is_empty()).then(|| policy(&spare)), origin }
    }

    /// Whether [`Picker::new`] would make the same one.
    pub fn is_of(&self, kind: Kind, candidates: &[Candidate<'_>], slow_start_ns: u64) -> bool {
        let origin = &*self.origin;
        let same = |(name, before): &(Box<str>, Candidate<'static>), now: &Candidate<'_>| {
            **name == *now.name && *before == Candidate { name: "", ..*now }
        };
        (origin.kind, origin.slow_start_ns, origin.candidates.len()) == (kind, slow_start_ns, candidates.len())
            && origin.candidates.iter().zip(candidates).all(|(before, now)| same(before, now))
    }

    /// Who may be picked, in the order it was made with.
    pub fn candidates(&self) -> impl Iterator<Item = BackendId> {
        self.origin.candidates.iter().map(|(_, candidate)| candidate.id)
    }

    /// Picks a backend that was not tried and counts the session on it. A backup comes only when every other was tried
    /// or is not usable; while others are merely full, the client waits for them.
    #[inline]
    pub fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        match (self.main.pick(pool, counts, ask), &self.spare) {
            (Pick::Nobody, Some(spare)) => spare.pick(pool, counts, ask),
            (picked, _) => picked,
        }
    }
}

impl Policy {
    fn new(kind: Kind, candidates: &[Candidate<'_>], slow_start_ns: u64) -> Policy {
        match kind {
            Kind::RoundRobin => Policy::RoundRobin(Arc::new(round_robin::RoundRobin::new(candidates, slow_start_ns))),
            Kind::LeastConn => Policy::LeastConn(Arc::new(least_conn::LeastConn::new(candidates, slow_start_ns))),
            Kind::ConsistentHash { balance_factor } => {
                let policy = consistent_hash::ConsistentHash::new(candidates, balance_factor, slow_start_ns);
                Policy::ConsistentHash(Arc::new(policy))
            }
            Kind::Random => Policy::Random(Arc::new(random::Random::new(candidates, slow_start_ns))),
            Kind::Failover => Policy::Failover(Arc::new(failover::Failover::new(candidates))),
        }
    }

    #[inline]
    fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        // A session has one turn, however many attempts it makes: otherwise, of two backends, every session would meet
        // the dead one first.
        let turn = || if ask.tried.is_empty() { counts.turn(pool) } else { counts.next_turn(pool) };
        match self {
            Policy::RoundRobin(policy) => {
                let mut further = 0;
                let turns = || match (ask.tried.is_empty(), further) {
                    (true, _) => counts.turn(pool),
                    (false, passed) => {
                        further += 1;
                        counts.next_turn(pool) + passed
                    }
                };
                policy.pick(turns, counts, ask)
            }
            Policy::LeastConn(policy) => policy.pick(turn(), counts, ask),
            Policy::ConsistentHash(policy) => policy.pick(counts, ask),
            Policy::Random(policy) => policy.pick(counts, ask),
            Policy::Failover(policy) => policy.pick(counts, ask),
        }
    }
}

/// Whether a walk over `candidates` would find all of them in `tried`, so that it need not begin.
fn exhausted(candidates: &[BackendId], tried: &[BackendId]) -> bool {
    tried.len() >= candidates.len() && candidates.iter().all(|candidate| tried.contains(candidate))
}

/// The greatest number that divides every weight: a round, or an urn, written in it is as short as can be.
fn weight_unit(candidates: &[Candidate<'_>]) -> u16 {
    fn gcd(a: u16, b: u16) -> u16 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    candidates.iter().fold(0, |unit, candidate| gcd(unit, candidate.weight)).max(1)
}

#[cfg(test)]
mod tests;
