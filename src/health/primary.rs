//! One primary and never two: who of those that say they are the primary is used.
//!
//! After a fail-over two servers may both say it, the new one and the one that has not noticed. The term tells them
//! apart (PostgreSQL's timeline grows with each promotion), so the greatest wins at once, also over one that is used
//! now. With equal terms the one in use stays for as long as it claims and is up. A lower term never wins while it is
//! known that another backend of the pool had a greater one, also if that one is unreachable: what the stale one takes
//! would be lost, so the pool rather has no primary. One that cannot be asked for a while, for a reason of ringway's
//! own, stays what it was until another one of its term says that it is the primary.

use std::collections::BTreeMap;

use crate::base::id::BackendId;

/// What is known of one backend of the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It says that it is the primary of that term, and its checks say that it is up.
    Primary(u64),
    /// That is the last it said, and it cannot be asked now, for a reason that is not its own.
    Presumed(u64),
    /// That is the last it said, and now its checks fail.
    Unreachable(u64),
    /// It says that it is none, or has said nothing yet.
    None,
}

/// Which backend of a pool is the primary. None is at first.
#[derive(Clone, Debug, Default)]
pub struct PrimaryGuard {
    claims: BTreeMap<BackendId, Claim>,
    /// Exactly one that claims and is up, of the greatest term that is known; `None` if there is no such backend.
    primary: Option<BackendId>,
}

impl PrimaryGuard {
    /// Takes what is known of a backend; one that is no longer there has [`Claim::None`]. Whether the primary
    /// has changed.
    pub fn on(&mut self, id: BackendId, claim: Claim) -> bool {
        match claim {
            Claim::None => self.claims.remove(&id),
            claim => self.claims.insert(id, claim),
        };
        let old = self.primary;
        self.primary = self.elect();
        self.primary != old
    }

    fn elect(&self) -> Option<BackendId> {
        let term = self.greatest()?.1;
        let wins = |claim: Claim| {
            let has_it = |id: &BackendId| self.claims.get(id) == Some(&claim);
            self.primary.filter(has_it).or_else(|| self.claims.keys().copied().find(has_it))
        };
        // What one says now weighs more than what another one said once.
        wins(Claim::Primary(term)).or_else(|| wins(Claim::Presumed(term)))
    }

    /// Who has the greatest term that is known, and which it is.
    pub fn greatest(&self) -> Option<(BackendId, u64)> {
        let term = |claim: &Claim| match claim {
            Claim::Primary(term) | Claim::Presumed(term) | Claim::Unreachable(term) => Some(*term),
            Claim::None => None,
        };
        let all = self.claims.iter().filter_map(|(id, claim)| Some((*id, term(claim)?)));
        // Of equal ones the one in use.
        all.max_by_key(|(id, term)| (*term, Some(*id) == self.primary))
    }

    /// The one backend to use.
    pub fn primary(&self) -> Option<BackendId> {
        self.primary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: BackendId = BackendId(0);
    const B: BackendId = BackendId(1);

    fn claim() -> impl Strategy<Value = Claim> {
        prop_oneof![
            (0..3u64).prop_map(Claim::Primary),
            (0..3u64).prop_map(Claim::Presumed),
            (0..3u64).prop_map(Claim::Unreachable),
            Just(Claim::None),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Against the words of the contract, over every kind of history.
        #[test]
        fn the_greatest_term_wins_and_the_incumbent_stays(steps in prop::collection::vec((0..4u32, claim()), 0..40)) {
            let mut guard = PrimaryGuard::default();
            let mut known = [Claim::None; 4];
            for (id, claim) in steps {
                let before = guard.primary();
                known[id as usize] = claim;
                let has_changed = guard.on(BackendId(id), claim);
                prop_assert_eq!(has_changed, guard.primary() != before);
                let term = known.iter().filter_map(|claim| match claim {
                    Claim::Primary(term) | Claim::Presumed(term) | Claim::Unreachable(term) => Some(*term),
                    Claim::None => None,
                }).max();
                let says_so = term.is_some_and(|term| known.contains(&Claim::Primary(term)));
                let best = |term| if says_so { Claim::Primary(term) } else { Claim::Presumed(term) };
                let eligible = |id: BackendId| term.is_some_and(|term| known[id.index()] == best(term));
                match guard.primary() {
                    Some(primary) => prop_assert!(eligible(primary), "{:?} of {:?}", primary, known),
                    None => prop_assert!((0..4).all(|id| !eligible(BackendId(id))), "{:?}", known),
                }
                if let Some(before) = before.filter(|before| eligible(*before)) {
                    prop_assert_eq!(guard.primary(), Some(before), "the incumbent stays");
                }
            }
        }
    }

    #[test]
    fn a_promoted_backend_takes_over_from_one_that_has_not_noticed() {
        let mut guard = PrimaryGuard::default();
        assert!(guard.on(A, Claim::Primary(1)) && guard.on(B, Claim::Primary(2)));
        assert_eq!(guard.primary(), Some(B));
        assert!(!guard.on(B, Claim::Primary(2)) && !guard.on(A, Claim::None) && !guard.on(A, Claim::Primary(2)));
        assert_eq!(guard.primary(), Some(B), "it stays");
    }

    #[test]
    fn a_stale_primary_is_not_used_while_the_newer_one_is_unreachable() {
        let mut guard = PrimaryGuard::default();
        guard.on(A, Claim::Primary(1));
        guard.on(B, Claim::Primary(2));
        assert!(guard.on(B, Claim::Unreachable(2)));
        assert_eq!((guard.primary(), guard.greatest()), (None, Some((B, 2))));
        guard.on(A, Claim::Primary(3));
        assert_eq!(guard.primary(), Some(A), "promoted anew");
    }

    #[test]
    fn where_there_are_no_terms_another_one_follows_when_the_first_is_gone() {
        let mut guard = PrimaryGuard::default();
        guard.on(A, Claim::Primary(0));
        guard.on(B, Claim::Primary(0));
        assert_eq!(guard.primary(), Some(A));
        guard.on(A, Claim::Unreachable(0));
        assert_eq!(guard.primary(), Some(B));
        guard.on(A, Claim::Primary(0));
        assert_eq!(guard.primary(), Some(B));
        guard.on(B, Claim::None);
        assert_eq!(guard.primary(), Some(A));
    }
}
