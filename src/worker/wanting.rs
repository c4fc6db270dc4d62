//! Sessions for whose backend there is no descriptor. They wait for those of sessions that end. But each of them holds
//! one already, its client's: if none comes free for long, half of them give theirs to the other half, else nobody
//! would ever be served.

use std::collections::VecDeque;

use super::Worker;
use super::slots::Key;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::{Kernel, errno};
use crate::stats::record::Reason;

/// What was given up is taken by then, or was taken by something else.
const OWED_NS: u64 = 100_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Wanting {
    /// Who has waited for longest first. Some may have found one meanwhile, or have ended.
    waiting: VecDeque<Key>,
    /// Descriptors that were given up and that nobody of those has taken yet.
    owed: usize,
    owed_at: Moment,
}

impl Wanting {
    /// There is none for this session either.
    fn push(&mut self, key: Key) {
        if !self.waiting.contains(&key) {
            self.waiting.push_back(key);
        }
    }

    /// This session has one now, or needs none any more.
    fn remove(&mut self, key: Key) {
        if let Some(place) = self.waiting.iter().position(|&other| other == key) {
            self.waiting.remove(place);
            self.owed = self.owed.saturating_sub(1);
        }
    }

    /// Who is to give up its own. One that waits alone is served as soon as any session ends.
    fn pop_youngest(&mut self, now: Moment) -> Option<Key> {
        if now.since_ns(self.owed_at) > OWED_NS {
            self.owed = 0;
        }
        if self.waiting.len() < self.owed + 2 {
            return None;
        }
        (self.owed, self.owed_at) = (self.owed + 1, now);
        self.waiting.pop_back()
    }
}

impl<K: Kernel> Worker<K> {
    /// A session wants a descriptor, and there is none. Until there are some, nobody is accepted.
    pub(super) fn wants_descriptor(&mut self, key: Key) {
        let is_waiting = |key: &Key| {
            let slot = self.slots.get(*key);
            slot.is_some_and(|slot| matches!(slot.detour().hindered_by, errno::EMFILE | errno::ENFILE))
        };
        self.agenda.wanting.waiting.retain(is_waiting);
        self.agenda.wanting.push(key);
        if self.known.phase.accepts() {
            self.pause(super::accept::EXHAUSTED_RETRY_NS);
        }
        let oldest = self.agenda.wanting.waiting.front().and_then(|&oldest| self.slots.get(oldest));
        if oldest.is_some_and(|slot| slot.session.is_late_to_connect(self.turn.now))
            && let Some(youngest) = self.agenda.wanting.pop_youngest(self.turn.now)
        {
            self.end_later(youngest);
        }
    }

    /// It was not in vain.
    #[inline]
    pub(super) fn has_descriptor(&mut self, key: Key) {
        if !self.agenda.wanting.waiting.is_empty() {
            self.agenda.wanting.remove(key);
        }
    }

    /// Not now: it may be the very session whose event is looked at.
    fn end_later(&mut self, key: Key) {
        let end = super::ToEnd { key, who: Who::Resource, reason: Reason::Descriptors, backend: None };
        self.agenda.to_end.push_front(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn half_of_those_that_wait_give_way_and_one_alone_never_does() {
        let (mut wanting, now) = (Wanting::default(), Moment(OWED_NS * 9));
        let mut gave_way = Vec::new();
        for index in 0..30 {
            wanting.push(key(index));
            gave_way.extend(wanting.pop_youngest(now));
        }
        assert_eq!((wanting.waiting.len(), gave_way.len()), (15, 15), "a descriptor for each that is left");
        assert!(!gave_way.contains(&key(0)), "the one that has waited for longest is served");
        for index in (0..30).map(key).filter(|key| !gave_way.contains(key)) {
            wanting.remove(index);
        }
        assert_eq!((wanting.waiting.len(), wanting.owed), (0, 0));
        wanting.push(key(40));
        assert_eq!(wanting.pop_youngest(now), None);
    }

    #[test]
    fn what_something_else_has_taken_is_not_waited_for() {
        let (mut wanting, now) = (Wanting::default(), Moment(OWED_NS * 9));
        (0..3).for_each(|index| wanting.push(key(index)));
        assert_eq!(wanting.pop_youngest(now), Some(key(2)));
        assert_eq!(wanting.pop_youngest(now.after_ns(OWED_NS)), None, "one of the two will have it");
        assert_eq!(wanting.pop_youngest(now.after_ns(OWED_NS + 1)), Some(key(1)));
    }
}
