//! What holds of the clients that wait after each event, in builds with debug assertions: each stands in one place, and
//! what is known of a kind is what those of it know.
//!
//! A look at every client takes a while, so it is taken the more rarely the more there are.

use super::{Line, Moment, Waiters};

impl<K: Copy> Waiters<K> {
    pub(super) fn check_invariants(&mut self) {
        assert!(self.pools.is_empty() || self.look_at != Moment::NEVER, "clients wait, and no look is to come");
        if self.pace.is_due(|| self.pools.values().map(Line::len).sum()) {
            self.pools.values().for_each(Line::check_invariants);
        }
    }
}

impl<K: Copy> Line<K> {
    fn check_invariants(&self) {
        assert!(!self.is_empty(), "a pool is kept that no client waits for");
        assert!(!self.line.keys().any(|ticket| self.aside.contains_key(ticket)), "a client has two places");
        let of_kinds: usize = self.kinds.values().map(|tickets| tickets.len()).sum();
        assert_eq!(of_kinds, self.aside.len(), "clients of all kinds, and clients aside");
        for (ticket, (_, tried)) in &self.aside {
            assert!(tried.is_sorted() && !tried.is_empty(), "a client aside that has tried nothing, or a kind twice");
            let is_of_it = self.kinds.get(tried).is_some_and(|tickets| tickets.contains(ticket));
            assert!(is_of_it, "a client aside is of another kind");
        }
        assert!(!self.kinds.values().any(|tickets| tickets.is_empty()), "a kind is kept that no client is of");
        assert!(
            self.aside.is_empty() || self.scout_at != Moment::NEVER,
            "clients stand aside, and none is to try again"
        );
    }
}
