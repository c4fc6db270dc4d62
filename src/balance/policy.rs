//! What a policy is: its row, with its word in the configuration, what it takes and its constructor; and what a pool
//! says of it beside.

use std::fmt;
use std::sync::Arc;

use super::{Candidate, Ready};

/// A policy with what a pool says of it.
#[derive(Clone, Copy)]
pub struct Policy {
    pub(super) row: &'static Row,
    /// What of the client counts; nothing where the policy does not ask.
    hash_key: HashKey,
    balance_factor: Option<u32>,
}

/// What a policy is.
pub(super) struct Row {
    /// The word for it in the configuration.
    pub(super) word: &'static str,
    /// Keys of a pool that mean something to it and not to every other.
    pub(super) takes: &'static [&'static str],
    /// Whether a client is tied to a backend by its address.
    pub(super) is_tied: bool,
    /// Whether all sessions go to one backend, which is chosen when a table is built.
    pub(super) sends_all_to_one: bool,
    /// Why a client whose hash is given gets its backend, for `ringway explain`.
    pub(super) why: fn(Policy, u64) -> String,
    /// Makes it ready for candidates, with a slow start of so many nanoseconds.
    pub(super) ready: fn(Policy, &[Candidate<'_>], u64) -> Arc<dyn Ready>,
}

/// `hash_key`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum HashKey {
    #[default]
    SourceIp,
    SourceIpPort,
}

impl HashKey {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            HashKey::SourceIp => "source_ip",
            HashKey::SourceIpPort => "source_ip_port",
        }
    }
}

impl Policy {
    /// The policy of that row.
    pub(super) const fn of(row: &'static Row) -> Policy {
        Policy { row, hash_key: HashKey::SourceIp, balance_factor: None }
    }

    /// The word for it in the configuration.
    pub fn name(&self) -> &'static str {
        self.row.word
    }

    /// Whether a key that means something to some policies only means something to this one.
    pub fn takes(&self, key: &str) -> bool {
        self.row.takes.contains(&key)
    }

    /// With what counts of a client, and the bound on the load; both are left out where the policy does not take them.
    pub const fn hashing(self, hash_key: HashKey, balance_factor: Option<u32>) -> Policy {
        match self.row.is_tied {
            true => Policy { hash_key, balance_factor, ..self },
            false => self,
        }
    }

    /// What of the client counts; `None` if its address does not matter.
    pub fn hash_key(&self) -> Option<HashKey> {
        self.row.is_tied.then_some(self.hash_key)
    }

    /// No backend gets more than this many per cent of its share; `None`: however many there are.
    pub fn balance_factor(&self) -> Option<u32> {
        self.balance_factor
    }

    /// Whether all sessions go to one backend, which is chosen when a table is built.
    pub fn sends_all_to_one(&self) -> bool {
        self.row.sends_all_to_one
    }

    /// Why a client whose hash is `key` gets its backend.
    pub fn why(&self, key: u64) -> String {
        (self.row.why)(*self, key)
    }

    pub(super) fn ready(&self, candidates: &[Candidate<'_>], slow_start_ns: u64) -> Arc<dyn Ready> {
        (self.row.ready)(*self, candidates, slow_start_ns)
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Policy) -> bool {
        let all = |policy: &Policy| (policy.row.word, policy.hash_key, policy.balance_factor);
        all(self) == all(other)
    }
}

impl Eq for Policy {}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row.word)?;
        self.hash_key().map_or(Ok(()), |key| write!(f, " by {}", key.name()))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.balance_factor.map_or(Ok(()), |factor| write!(f, " up to {factor} %"))
    }
}
