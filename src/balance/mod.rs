//! Which backend takes a session: one policy per file, over counts that all workers share. What a policy is called,
//! what it takes and how it is made stand in the row in its file; [`POLICIES`] is the table of them.
//!
//! A [`Picker`] is immutable and part of a table; what changes with traffic stands in [`Counts`]. Both together make
//! `round_robin`, `least_conn` and every limit exact over all workers, and `consistent_hash` needs no shared state at
//! all unless its load is bounded. Which clients wait for a place, and in which order, is in [`queue`].
#![forbid(unsafe_code)]

mod bounds;
pub mod consistent_hash;
pub mod counts;
pub mod failover;
#[cfg(debug_assertions)]
mod invariants;
pub mod least_conn;
pub mod line;
pub mod policy;
pub mod queue;
pub mod random;
pub mod round_robin;
pub mod split;
pub mod sticky;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
pub use counts::Counts;
pub use policy::{HashKey, Policy};

/// Every policy, the default first.
pub const POLICIES: &[Policy] =
    &[round_robin::POLICY, least_conn::POLICY, consistent_hash::POLICY, random::POLICY, failover::POLICY];

/// The words for them.
pub const WORDS: [&str; POLICIES.len()] = {
    let mut words = [""; POLICIES.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = POLICIES[at].row.word;
        at += 1;
    }
    words
};

impl Policy {
    /// The policy of that name, one of [`WORDS`]; for any other word the default.
    pub fn named(word: &str) -> Policy {
        POLICIES.iter().find(|policy| policy.row.word == word).copied().unwrap_or(round_robin::POLICY)
    }

    /// Every key that means something to some policies only, with the words for these.
    pub fn keys() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        let mut keys: Vec<&str> = POLICIES.iter().flat_map(|policy| policy.row.takes).copied().collect();
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(*key));
        let takers = |key| POLICIES.iter().filter(move |policy| policy.takes(key)).map(Policy::name).collect();
        keys.into_iter().map(move |key| (key, takers(key)))
    }
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
    /// 0 if it is no backup. Else its level: it is used only where none of a lower level is.
    pub backup: u16,
    /// Sessions that it takes concurrently; `None` is no limit.
    pub connections_max: Option<NonZeroU32>,
    /// When its slow start began, if it is in one.
    pub ramp_from: Option<Moment>,
}

impl<'a> Candidate<'a> {
    /// One without a limit that is no backup.
    pub fn new(id: BackendId, name: &'a str, weight: u16) -> Candidate<'a> {
        Candidate { id, name, weight, backup: 0, connections_max: None, ramp_from: None }
    }
}

/// The client that asks for a backend, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// What `consistent_hash` goes by.
    pub key: u64,
    /// A random number, for `random`.
    pub random: u64,
    /// For slow starts.
    pub now: Moment,
    /// Backends that this session could not connect to before.
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

/// A policy made ready for some backends.
trait Ready: fmt::Debug + Send + Sync {
    /// Picks a backend that was not tried and counts the session on it.
    fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick;
}

/// A policy made ready for the backends that are usable now. A clone shares what was computed.
#[derive(Clone, Debug)]
pub struct Picker {
    main: Arc<dyn Ready>,
    /// Of the backups, level by level.
    spares: Box<[Arc<dyn Ready>]>,
    origin: Arc<Origin>,
}

/// What a picker was made of.
#[derive(Debug)]
struct Origin {
    policy: Policy,
    slow_start_ns: u64,
    /// Each with its name.
    candidates: Box<[(Box<str>, Candidate<'static>)]>,
    /// Those that can be picked, by their slots: the level of each, and how many sessions it can have.
    by_id: Box<[(BackendId, u16, u32)]>,
}

impl Picker {
    /// Makes `policy` ready for `candidates`, in file order; where it sends all to one, with the chosen one before the
    /// others of its kind. None at all is fine: then every pick is [`Pick::Nobody`].
    pub fn new(policy: Policy, candidates: &[Candidate<'_>], slow_start_ns: u64) -> Picker {
        let mut levels: BTreeMap<u16, Vec<Candidate<'_>>> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.weight > 0) {
            levels.entry(candidate.backup).or_default().push(*candidate);
        }
        let ready = |candidates: &[Candidate<'_>]| policy.ready(candidates, slow_start_ns);
        let main = ready(&levels.remove(&0).unwrap_or_default());
        let owned = |candidate: &Candidate<'_>| (Box::from(candidate.name), Candidate { name: "", ..*candidate });
        let most = |candidate: &Candidate<'_>| candidate.connections_max.map_or(u32::MAX, NonZeroU32::get);
        let usable = candidates.iter().filter(|candidate| candidate.weight > 0);
        let mut by_id: Vec<_> = usable.map(|one| (one.id, one.backup, most(one))).collect();
        by_id.sort_unstable();
        let candidates = candidates.iter().map(owned).collect();
        let origin = Arc::new(Origin { policy, slow_start_ns, candidates, by_id: by_id.into() });
        Picker { main, spares: levels.values().map(|level| ready(level)).collect(), origin }
    }

    /// Whether [`Picker::new`] would make the same one.
    pub fn is_of(&self, policy: Policy, candidates: &[Candidate<'_>], slow_start_ns: u64) -> bool {
        let origin = &*self.origin;
        let same = |(name, before): &(Box<str>, Candidate<'static>), now: &Candidate<'_>| {
            **name == *now.name && *before == Candidate { name: "", ..*now }
        };
        (origin.policy, origin.slow_start_ns, origin.candidates.len()) == (policy, slow_start_ns, candidates.len())
            && origin.candidates.iter().zip(candidates).all(|(before, now)| same(before, now))
    }

    /// Backends that can be picked, in the order that the table gave them.
    pub fn candidates(&self) -> impl Iterator<Item = BackendId> {
        self.origin.candidates.iter().map(|(_, candidate)| candidate.id)
    }

    /// Picks a backend that was not tried and counts the session on it. A backup comes only when every one of a lower
    /// level was tried or is not usable; while those are merely full, the client waits for them.
    #[inline]
    pub fn pick(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        match self.main.pick(pool, counts, ask) {
            Pick::Nobody => self.pick_spare(pool, counts, ask),
            picked => picked,
        }
    }

    /// Counts a session on this backend, whatever the policy says, if it can be picked and has room. A backup only if
    /// `with_backups`, or if none of a lower level can be picked.
    pub fn take(&self, id: BackendId, with_backups: bool, counts: &Counts) -> bool {
        let by_id = &self.origin.by_id;
        let Ok(place) = by_id.binary_search_by_key(&id, |(id, ..)| *id) else { return false };
        let (_, level, most) = by_id[place];
        let is_served = with_backups || by_id.iter().all(|(_, other, _)| *other >= level);
        is_served && counts.try_open(id, most)
    }

    /// Goes through the levels of backups.
    fn pick_spare(&self, pool: PoolId, counts: &Counts, ask: Ask<'_>) -> Pick {
        let mut picks = self.spares.iter().map(|level| level.pick(pool, counts, ask));
        picks.find(|pick| *pick != Pick::Nobody).unwrap_or(Pick::Nobody)
    }
}

/// The turn of a session. It has one, however many attempts it makes: otherwise, of two backends, every session would
/// meet the dead one first.
#[inline]
fn turn(pool: PoolId, counts: &Counts, ask: Ask<'_>) -> u64 {
    if ask.tried.is_empty() { counts.turn(pool) } else { counts.next_turn(pool) }
}

/// Whether a walk over `candidates` would find all of them in `tried`, so that it need not begin.
fn exhausted(candidates: &[BackendId], tried: &[BackendId]) -> bool {
    tried.len() >= candidates.len() && candidates.iter().all(|candidate| tried.contains(candidate))
}

/// The greatest number that divides every weight: a round, or an urn, written in it is as short as can be.
fn weight_unit(candidates: &[Candidate<'_>]) -> u16 {
    greatest_divisor(candidates.iter().map(|candidate| candidate.weight))
}

/// The greatest number that divides all of these; 1 if there are none but zeros.
fn greatest_divisor(numbers: impl Iterator<Item = u16>) -> u16 {
    fn gcd(a: u16, b: u16) -> u16 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    numbers.fold(0, gcd).max(1)
}

#[cfg(test)]
mod tests;
