//! One primary and never two: which of the backends that claim to be the primary is used.
//!
//! After a fail-over two servers may both claim it, the new one and an old one that has not noticed. The term tells
//! them apart (PostgreSQL's timeline grows with each promotion), so the greatest term wins immediately, also over the
//! backend that is in use. With equal terms the one in use stays as long as it claims and is up.
//!
//! A lower term never wins while it is known that another backend of the pool had a greater one, even if that one is
//! unreachable: writes to the old primary would be lost, so the pool rather has none. A backend that cannot be asked
//! for a while, for a reason of ringway's own, stays what it was until another one of its term claims to be the
//! primary.

use std::collections::BTreeMap;

use crate::base::id::BackendId;

/// What is known of one backend of the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It claims to be the primary of this term, and its checks say that it is up.
    Primary(u64),
    /// That was its last claim, and it cannot be asked now, for a reason that is not its own.
    Presumed(u64),
    /// That was its last claim, and now its checks fail.
    Unreachable(u64),
    /// It says that it is not the primary, or has said nothing yet.
    None,
}

/// Which backend of a pool is the primary; none at first.
#[derive(Clone, Debug, Default)]
pub struct PrimaryGuard {
    /// The last known claim of each backend that has made one.
    claims: BTreeMap<BackendId, Claim>,
    /// A backend that claims and is up, with the greatest term that is known; `None` if there is no such backend.
    primary: Option<BackendId>,
}

impl PrimaryGuard {
    /// Takes what is known of a backend; a removed one has [`Claim::None`]. True if the primary has changed.
    pub fn on(&mut self, id: BackendId, claim: Claim) -> bool {
        match claim {
            Claim::None => self.claims.remove(&id),
            claim => self.claims.insert(id, claim),
        };
        let old = self.primary;
        self.primary = self.elect();
        self.primary != old
    }

    /// The backend to use, by the claims as they are.
    fn elect(&self) -> Option<BackendId> {
        let term = self.greatest()?.1;
        let wins = |claim: Claim| {
            let has_it = |id: &BackendId| self.claims.get(id) == Some(&claim);
            self.primary.filter(has_it).or_else(|| self.claims.keys().copied().find(has_it))
        };
        // What a backend says now counts more than what another one said before.
        wins(Claim::Primary(term)).or_else(|| wins(Claim::Presumed(term)))
    }

    /// The backend with the greatest known term, and the term.
    pub fn greatest(&self) -> Option<(BackendId, u64)> {
        let term = |claim: &Claim| match claim {
            Claim::Primary(term) | Claim::Presumed(term) | Claim::Unreachable(term) => Some(*term),
            Claim::None => None,
        };
        let all = self.claims.iter().filter_map(|(id, claim)| Some((*id, term(claim)?)));
        // Of equal terms, that of the backend in use.
        all.max_by_key(|(id, term)| (*term, Some(*id) == self.primary))
    }

    /// The one backend to use; `None` if there is none.
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
