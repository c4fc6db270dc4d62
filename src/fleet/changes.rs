//! What follows from an event, as data for the log and for the workers.

use std::sync::Arc;

use super::Standing;
use crate::base::id::{BackendId, PoolId};
use crate::health::State;

/// What followed from an event.
#[derive(Debug, Default)]
pub struct Changes {
    /// Each is worth a line in the log.
    pub transitions: Vec<Transition>,
    /// So are these.
    pub notices: Vec<Notice>,
    /// What was changed on demand, in words.
    pub lines: Vec<String>,
    /// Workers are to be told.
    pub table: bool,
}

impl Changes {
    /// Adds what followed from another event, in its order.
    pub(super) fn absorb(&mut self, more: Changes) {
        self.transitions.extend(more.transitions);
        self.notices.extend(more.notices);
        self.lines.extend(more.lines);
        self.table |= more.table;
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Whose.
    pub id: BackendId,
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name of the backend.
    pub backend: Arc<str>,
    /// From what.
    pub from: State,
    /// To what, and why.
    pub to: Standing,
    /// How long the state before lasted.
    pub lasted_ns: u64,
}

/// Something else that a person must know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Two backends say that they are the primary.
    Rivals {
        /// Name of the pool.
        pool: Arc<str>,
        /// Both.
        backends: [Arc<str>; 2],
        /// Which one is used, if any.
        used: Option<Arc<str>>,
    },
    /// The least stale replicas of a pool serve, as none is fresh enough; or they no longer do.
    Stale {
        /// Its slot.
        id: PoolId,
        /// Name of the pool.
        pool: Arc<str>,
        /// It begins.
        begins: bool,
    },
    /// A backend takes sessions again, and those of the backups are cut.
    MainUp {
        /// Name of the pool.
        pool: Arc<str>,
        /// Name of the backend.
        backend: Arc<str>,
    },
    /// A name has more addresses than are used.
    TooMany {
        /// Name of the pool.
        pool: Arc<str>,
        /// Name of the backend.
        backend: Arc<str>,
        /// How many are not used.
        left_out: usize,
    },
}
