//! Changes of backends as data: what a wish of an operator comes to, before it is made.
//!
//! A plan is made from a wish without changing anything, written to `process.state_file`, and only then carried out. So
//! a change that cannot be kept is not made, and one that was answered is kept.

use std::sync::Arc;

use super::order::ByHand;
use crate::base::time::Moment;
use crate::config::model::{Backend, Pool};

/// A change of backends that can be made. It is data, so that it can be written down before it is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pool.
    pub(super) pool: Arc<str>,
    /// The backend, as it is configured.
    pub(super) name: Arc<str>,
    /// What was set of it then, if the change is of that kind.
    pub(super) by_hand: Option<ByHand>,
    /// What was added to the pool and removed from it then, if the change is of that kind.
    pub(super) objects: Option<Objects>,
    /// If it is removed: by which operator, and when the sessions that are left end.
    pub(super) leaves: Option<(Arc<str>, Moment)>,
    /// What it changes, a line each.
    pub lines: Vec<String>,
}

impl Plan {
    /// The names of the pool and of the backend.
    pub fn names(&self) -> (&str, &str) {
        (&self.pool, &self.name)
    }

    /// Nanoseconds until the sessions of a backend that is removed end; `None` if never.
    pub fn deadline_ns(&self, now: Moment) -> Option<u64> {
        let (_, until) = self.leaves.as_ref()?;
        (*until != Moment::NEVER).then(|| until.since_ns(now))
    }

    /// Says more of what it changes.
    pub fn add_to_line(&mut self, more: &str) {
        if let Some(line) = self.lines.first_mut() {
            line.push_str(": ");
            line.push_str(more);
        }
    }
}

/// What was added to a pool, and removed from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Objects {
    /// In the order in which they were added.
    pub(super) added: Vec<Backend>,
    /// As the file had them.
    pub(super) removed: Vec<Backend>,
}

impl Objects {
    /// Whether nothing was added and nothing removed.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// What of it outlives a change of the file: what the file has not changed.
    pub(super) fn after(mut self, file: &Pool) -> Objects {
        self.removed.retain(|removed| file.backends.contains(removed));
        let has = |all: &[Backend], name: &str| all.iter().any(|backend| *backend.name == *name);
        // One that was removed and added as another one is in both lists.
        let removed = &self.removed;
        self.added.retain(|added| !has(&file.backends, &added.name) || has(removed, &added.name));
        self
    }

    /// Gives a pool of the file its other backends.
    pub(super) fn apply_to(&self, pool: &mut Pool) {
        pool.backends.retain(|backend| !self.removed.contains(backend));
        pool.backends.extend(self.added.iter().cloned());
    }
}
