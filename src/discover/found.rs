//! What a source of backends says: what it has found, and how well it can be reached.
//!
//! A source decides nothing about backends. It tells [`News`], one after the other, for as long as it runs; control
//! logs what is new of them, and the fleet makes backends of what was found. So a source logs nothing itself, and
//! counts nothing.
//!
//! ```text
//! source ── News ──> control::discovery ─┬─> Fleet: an Answer replaces what this source found before
//!                                        ├─> the log: one line when an outage begins, one when it ends
//!                                        └─> ringway_discovery_up{pool}
//! ```

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The weight of a backend of which its source says none.
pub const WEIGHT: u16 = 1;
/// The greatest weight (`[[pools.NAME.backends]]`).
pub const WEIGHT_MAX: u16 = 256;
/// The greatest level of a backup.
pub const BACKUP_MAX: u16 = 1_000;
/// How many backends one source can have in a pool. What it says beyond that is left out, with a remark.
pub const FOUND_MAX: usize = 10_000;

/// The host of a backend that was found.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FoundHost {
    /// An address.
    Ip(IpAddr),
    /// A name that is looked up like one in the configuration; it is one that [`is_name`](crate::base::host::is_name)
    /// takes, without a final dot unless the source has written one.
    Name(Arc<str>),
}

/// A backend that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its host.
    pub host: FoundHost,
    /// Its port, never 0.
    pub port: u16,
    /// What the source calls it; `None` means that it is called by its address.
    pub name: Option<Arc<str>>,
    /// 0 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// 0 if it is no backup, else its level, up to [`BACKUP_MAX`].
    pub backup: u16,
    /// Why it is to take no new sessions while it keeps those it has, in words (`not ready, says Kubernetes`); `None`
    /// if it takes them.
    pub rests: Option<Arc<str>>,
}

impl Found {
    /// A backend of which nothing but the address is known.
    pub fn at(host: FoundHost, port: u16) -> Found {
        Found { host, port, name: None, weight: WEIGHT, backup: 0, rests: None }
    }

    /// What it is called: by its source, or by its address.
    pub fn name(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|| self.address().into())
    }

    /// Its host and port, as a configuration writes them.
    pub fn address(&self) -> String {
        match &self.host {
            FoundHost::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            FoundHost::Ip(ip) => format!("{ip}:{}", self.port),
            FoundHost::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

/// What a source says next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// Everything that it has now.
    Answer(Answer),
    /// It still says what it said last: nothing has changed, and it was heard just now.
    Confirmed,
    /// It cannot be reached, or its answer makes no sense, for this reason. What it said last stays.
    Failed(String),
    /// The role of the backend of this name is about to change (the leader key of Patroni): its pool is to be checked
    /// now. It is no more than a hint.
    Hint(Arc<str>),
}

/// Everything that a source has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The backends, in an order that depends on nothing but what they are; each host with its port only once.
    pub found: Vec<Found>,
    /// A part of the source cannot be read, for this reason, and counts as it was before (a broken file among others).
    /// `ringway_discovery_up` is 0 then.
    pub trouble: Option<String>,
    /// What a person should know of it, and what does not count: a value that was skipped, for example. Each is logged
    /// when it is new.
    pub remarks: Vec<String>,
}
