//! Sessions for whose backend there is no descriptor. They wait for those of sessions that end. But each of them holds
//! one already, its client's: if none comes free for long, half of them give theirs to the other half, else nobody
//! would ever be served.
//!
//! Each tries again every few milliseconds, and thousands may wait: so a session knows its own ticket, and nobody looks
//! at the others when it fails once more, is served or ends.

use std::collections::BTreeMap;

use super::Worker;
use super::slots::{SlotKey, WantTicket};
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::Kernel;
use crate::stats::record::EndReason;

/// What was given up is taken by then, or was taken by something else.
const OWED_NS: u64 = 100_000_000;

/// The sessions that wait for a descriptor, and those that were given up for them.
#[derive(Default)]
pub(super) struct Wanting {
    /// Exactly the sessions that have a ticket.
    waiting: BTreeMap<WantTicket, SlotKey>,
    issued: u64,
    /// Descriptors that were given up and that nobody of those has taken yet.
    owed: usize,
    owed_at: Moment,
}

impl Wanting {
    /// There is none for this session either. One that has a ticket keeps its place.
    fn push(&mut self, key: SlotKey, ticket: &mut Option<WantTicket>) {
        if ticket.is_none() {
            self.issued += 1;
            let new = *ticket.insert(WantTicket(self.issued));
            self.waiting.insert(new, key);
        }
    }

    /// This session has one now.
    fn serve(&mut self, ticket: &mut Option<WantTicket>) {
        if self.leave(ticket) {
            self.keep();
        }
    }

    /// One that was to give up its own does not: it has got another one meanwhile.
    pub(super) fn keep(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// This session needs none any more; whether it did.
    fn leave(&mut self, ticket: &mut Option<WantTicket>) -> bool {
        ticket.take().is_some_and(|ticket| self.waiting.remove(&ticket).is_some())
    }

    /// Who has waited for longest.
    fn oldest(&self) -> Option<SlotKey> {
        self.waiting.first_key_value().map(|(_, key)| *key)
    }

    /// Who is to give up its own, and its ticket. One that waits alone is served as soon as any session ends.
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

    #[inline]
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many have a ticket.
    #[cfg(debug_assertions)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl<K: Kernel> Worker<K> {
    /// A session wants a descriptor, and there is none. Until there are some, nobody is accepted.
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

    /// It was not in vain.
    #[inline]
    pub(super) fn has_descriptor(&mut self, key: SlotKey) {
        if !self.agenda.wanting.is_empty()
            && let Some(slot) = self.slots.get_mut(key)
            && slot.detour().ticket.is_some()
        {
            self.agenda.wanting.serve(&mut slot.detour_mut().ticket);
        }
    }

    /// Unless a descriptor is what its next attempt waits for, it does not stand in anybody's way.
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

    /// A session is over that had this ticket.
    #[inline]
    pub(super) fn forget_wanting(&mut self, mut ticket: Option<WantTicket>) {
        self.agenda.wanting.leave(&mut ticket);
    }

    /// Not now: it may be the very session whose event is looked at.
    fn end_later(&mut self, key: SlotKey) {
        let end = super::ToEnd { key, who: Who::Resource, reason: EndReason::Descriptors, backend: None };
        self.agenda.to_end.push_front(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many sessions, and their tickets.
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
