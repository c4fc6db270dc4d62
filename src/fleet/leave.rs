//! Slots of backends that are gone. One is given to another backend only when nothing can mean the old one by it: no
//! session, no table that a worker may still look at, no line of the access log that is yet to be written.

use std::collections::HashSet;

use super::Fleet;
use crate::base::id::BackendId;
use crate::base::time::Moment;

/// From then on that nothing refers to a slot: for lists of sessions, checks and records that are under way in control,
/// and hold its number for moments.
const REST_NS: u64 = 60_000_000_000;

/// A slot whose backend has no seat any more.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The first table without it; `None` if none was made yet.
    generation: Option<u64>,
    /// Since when nothing refers to it.
    unused_since: Option<Moment>,
}

impl Fleet {
    /// Finds the slots that have lost their seat. Those of names without an address stay, as the name may have none
    /// again.
    pub(super) fn see_who_leaves(&mut self) {
        let gone = self.ids.backends().filter(|id| !self.places.contains_key(id));
        for id in gone {
            self.leaving.entry(id).or_default();
        }
    }

    /// A table was made, and has only those with a seat.
    pub(super) fn leave_table(&mut self) {
        for leaving in self.leaving.values_mut() {
            leaving.generation.get_or_insert(self.generation);
        }
    }

    /// Whether a slot may become free.
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Frees slots that nothing refers to any more, and says which: what was counted of them is to be forgotten at
    /// once. `seen` is the generation that every worker has seen, `is_unused` whether no session means that backend.
    pub fn free_slots(&mut self, seen: u64, is_unused: impl Fn(BackendId) -> bool, now: Moment) -> Vec<BackendId> {
        let mut free = HashSet::new();
        for (&id, leaving) in &mut self.leaving {
            let is_unseen = leaving.generation.is_some_and(|generation| seen >= generation);
            if !is_unseen || !is_unused(id) {
                leaving.unused_since = None;
            } else if now >= leaving.unused_since.get_or_insert(now).after_ns(REST_NS) {
                free.insert(id);
            }
        }
        if free.is_empty() {
            return Vec::new();
        }
        self.leaving.retain(|id, _| !free.contains(id));
        self.troubles_seen.retain(|id, _| !free.contains(id));
        self.ids.free_backends(&free);
        #[cfg(debug_assertions)]
        self.check_invariants();
        free.into_iter().collect()
    }
}
