//! Sessions that have a backend but no descriptor to connect to it, because the process has reached its limit
//! (`EMFILE`).
//!
//! They wait for a session to end and free one. But each of them holds a descriptor already, its client's. If none
//! becomes free for long, half of them are ended and give their descriptors to the other half; without that, none of
//! them would ever be served.
//!
//! Each tries again every few milliseconds, and thousands may wait. So a session keeps its own ticket, and no step here
//! looks at all of them: to fail again, to be served and to end cost O(log n).

use std::collections::BTreeMap;

use super::Worker;
use super::slots::{SlotKey, WantTicket};
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::Kernel;
use crate::stats::record::EndReason;

/// How long a descriptor that was given up counts as "on its way". After that it was taken, by a waiting session or by
/// something else.
const OWED_NS: u64 = 100_000_000;

/// The sessions that wait for a descriptor, and how many descriptors are on their way to them.
#[derive(Default)]
pub(super) struct Wanting {
    /// Exactly the sessions that have a ticket.
    waiting: BTreeMap<WantTicket, SlotKey>,
    /// Number of the last ticket.
    issued: u64,
    /// How many sessions were told to give up their descriptor that no waiting session has taken yet.
    owed: usize,
    /// When the last one was told.
    owed_at: Moment,
}

impl Wanting {
    /// Notes that there is no descriptor for this session. If it has a ticket already, it keeps its place.
    fn push(&mut self, key: SlotKey, ticket: &mut Option<WantTicket>) {
        if ticket.is_none() {
            self.issued += 1;
            let new = *ticket.insert(WantTicket(self.issued));
            self.waiting.insert(new, key);
        }
    }

    /// Notes that this session has a descriptor now.
    fn serve(&mut self, ticket: &mut Option<WantTicket>) {
        if self.leave(ticket) {
            self.keep();
        }
    }

    /// A session that was told to give up its descriptor is not ended after all, because it has got one meanwhile.
    pub(super) fn keep(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// This session does not wait any more. True if it did.
    fn leave(&mut self, ticket: &mut Option<WantTicket>) -> bool {
        ticket.take().is_some_and(|ticket| self.waiting.remove(&ticket).is_some())
    }

    /// The session that has waited longest.
    fn oldest(&self) -> Option<SlotKey> {
        self.waiting.first_key_value().map(|(_, key)| *key)
    }

    /// Takes out the session that must give up its descriptor: the youngest. `None` if so many are on their way that
    /// the others will be served. A session that waits alone is never ended: it is served as soon as any session ends.
    fn pop_youngest(&mut self, now: Moment) -> Option<SlotKey> {
        if now.since_ns(self.owed_at) > OWED_NS {
            self.owed = 0;
        }
        if self.waiting.len() < self.owed + 2 {
            return None;
        }
        (self.owed, self.owed_at) = (self.owed + 1, now);
        self.waiting.pop_last().map(|(_, key)| key)
    }

    /// Whether no session waits.
    #[inline]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many sessions wait.
    #[cfg(debug_assertions)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl<K: Kernel> Worker<K> {
    /// Notes that a session wants a descriptor and there is none. Until there are some, no client is accepted. If the
    /// oldest waiting session is late, the youngest is ended.
    pub(super) fn wants_descriptor(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.get_mut(key) {
            self.agenda.wanting.push(key, &mut slot.detour_mut().ticket);
        }
        if self.known.phase.accepts() {
            self.pause(super::accept::EXHAUSTED_RETRY_NS);
        }
        let oldest = self.agenda.wanting.oldest().and_then(|oldest| self.slots.get(oldest));
        if oldest.is_some_and(|slot| slot.session.is_late_to_connect(self.turn.now))
            && let Some(youngest) = self.agenda.wanting.pop_youngest(self.turn.now)
        {
            if let Some(slot) = self.slots.get_mut(youngest) {
                slot.detour_mut().ticket = None;
            }
            self.end_later(youngest);
        }
    }

    /// Notes that a session has got its descriptor.
    #[inline]
    pub(super) fn has_descriptor(&mut self, key: SlotKey) {
        if !self.agenda.wanting.is_empty()
            && let Some(slot) = self.slots.get_mut(key)
            && slot.detour().ticket.is_some()
        {
            self.agenda.wanting.serve(&mut slot.detour_mut().ticket);
        }
    }

    /// Takes a session off the list, unless a descriptor is still all that its next attempt waits for.
    #[inline]
    pub(super) fn may_leave_wanting(&mut self, key: SlotKey) {
        if !self.agenda.wanting.is_empty()
            && let Some(slot) = self.slots.get_mut(key)
            && slot.detour().ticket.is_some()
            && !slot.wants_descriptor()
        {
            self.agenda.wanting.leave(&mut slot.detour_mut().ticket);
        }
    }

    /// Takes a session that is over off the list.
    #[inline]
    pub(super) fn forget_wanting(&mut self, mut ticket: Option<WantTicket>) {
        self.agenda.wanting.leave(&mut ticket);
    }

    /// Ends a session in the next turns and not now, because it may be the very session whose event is being handled.
    fn end_later(&mut self, key: SlotKey) {
        let end = super::ToEnd { key, who: Who::Resource, reason: EndReason::Descriptors, backend: None };
        self.agenda.to_end.push_front(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This many sessions that wait, and their tickets.
    fn waiting(count: u32) -> (Wanting, Vec<Option<WantTicket>>) {
        let (mut wanting, mut tickets) = (Wanting::default(), vec![None; count as usize]);
        for index in 0..count {
            wanting.push(key(index), &mut tickets[index as usize]);
        }
        (wanting, tickets)
    }

    fn key(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    #[test]
    fn half_of_those_that_wait_give_way_and_one_alone_never_does() {
        let (mut wanting, mut tickets, now) = (Wanting::default(), [None; 30], Moment(OWED_NS * 9));
        let mut gave_way = Vec::new();
        for index in 0..30 {
            wanting.push(key(index), &mut tickets[index as usize]);
            gave_way.extend(wanting.pop_youngest(now));
        }
        assert_eq!((wanting.waiting.len(), gave_way.len()), (15, 15), "a descriptor for each that is left");
        assert!(!gave_way.contains(&key(0)), "the one that has waited for longest is served");
        for index in (0..30u32).filter(|index| !gave_way.contains(&key(*index))) {
            wanting.serve(&mut tickets[index as usize]);
        }
        assert_eq!((wanting.waiting.len(), wanting.owed), (0, 0));
        wanting.push(key(40), &mut None);
        assert_eq!(wanting.pop_youngest(now), None);
    }

    #[test]
    fn what_something_else_has_taken_is_not_waited_for() {
        let ((mut wanting, _), now) = (waiting(3), Moment(OWED_NS * 9));
        assert_eq!(wanting.pop_youngest(now), Some(key(2)));
        assert_eq!(wanting.pop_youngest(now.after_ns(OWED_NS)), None, "one of the two will have it");
        assert_eq!(wanting.pop_youngest(now.after_ns(OWED_NS + 1)), Some(key(1)));
    }

    /// With a look at all of the others this would take hours.
    #[test]
    fn who_fails_again_keeps_its_place_however_many_wait() {
        const MANY: u32 = 200_000;
        let (mut wanting, mut tickets) = waiting(MANY);
        for _ in 0..3 {
            for index in 0..MANY {
                wanting.push(key(index), &mut tickets[index as usize]);
            }
        }
        assert_eq!((wanting.waiting.len(), wanting.oldest()), (MANY as usize, Some(key(0))));
        for index in (0..MANY).rev() {
            assert_eq!(wanting.waiting.last_key_value().map(|(_, key)| *key), Some(key(index)));
            assert!(wanting.leave(&mut tickets[index as usize]));
        }
    }

    /// A descriptor that was given up is owed until one of those that wait has taken it.
    #[test]
    fn who_needs_none_any_more_takes_none_from_the_others() {
        let ((mut wanting, mut tickets), now) = (waiting(4), Moment(OWED_NS * 9));
        assert_eq!(wanting.pop_youngest(now), Some(key(3)));
        assert!(wanting.leave(&mut tickets[0]) && !wanting.leave(&mut tickets[0]), "once");
        wanting.serve(&mut tickets[0]);
        wanting.serve(&mut None);
        assert_eq!((wanting.owed, wanting.oldest()), (1, Some(key(1))), "none of those that waited has had it");
        assert_eq!(wanting.pop_youngest(now), None, "one of the two will have it");
        wanting.serve(&mut tickets[1]);
        assert_eq!((wanting.owed, wanting.oldest()), (0, Some(key(2))));
    }
}
