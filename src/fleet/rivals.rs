//! Two backends that say they are the primary, and when that is worth an error.
//!
//! In a fail-over the old primary has claimed the role in its last check, and the new one claims it in its first: that
//! is no contradiction, but two answers from two moments. Nor does it say anything what a backend said before its
//! checks began to fail. Two contradict each other once each of them has said it again in a check that began after the
//! other one was heard to say it, and neither has been silent since. Which one is used does not wait for that: the
//! guard decides immediately (`health::primary`).

use std::collections::BTreeSet;

use super::seat::{Primacy, Seat};
use super::set::between_checks_ns;
use super::{Changes, Fleet, Notice};
use crate::base::id::BackendId;
use crate::base::time::Moment;
use crate::config::model::Check;
use crate::health::primary::Claim;

/// Those that were named. One is no longer once it says otherwise or its checks have failed.
pub type Named = BTreeSet<BackendId>;

impl Fleet {
    /// Names two that contradict each other, if one of both was not named yet. To be called whenever the guard was told
    /// of a seat.
    pub(super) fn name_rivals(&mut self, place: usize, now: Moment, changes: &mut Changes) {
        let seat = &self.seats[place];
        let (id, index) = (seat.id, seat.pool);
        if matches!(seat.claim(), Claim::None | Claim::Unreachable(_)) {
            self.pools[index].rivals.remove(&id);
            return;
        }
        let (pool, squad) = (&self.config.pools[index], &self.pools[index]);
        let Some(check) = &pool.check else { return };
        let Some(primacy) = says_so(seat, check, now) else { return };
        let is_same = |one: BackendId, other: BackendId| one == other || self.is_same_server(one, other);
        let is_named = |id: BackendId| squad.rivals.iter().any(|named| is_same(*named, id));
        let contradicts = |rival: &&Seat| {
            let is_again = |one: Primacy, other: Primacy| one.begun >= other.since;
            let theirs = says_so(rival, check, now).filter(|_| !is_same(id, rival.id));
            theirs.is_some_and(|theirs| is_again(primacy, theirs) && is_again(theirs, primacy))
        };
        let mut rivals = self.seats[squad.seats.clone()].iter().filter(contradicts);
        let Some(rival) = rivals.find(|rival| !is_named(id) || !is_named(rival.id)) else { return };
        let is_newer = rival.primacy.is_none_or(|theirs| primacy.since > theirs.since);
        let (new, old) = if is_newer { (seat, rival) } else { (rival, seat) };
        let primary = squad.guard.as_ref().and_then(|guard| guard.primary());
        changes.notices.push(Notice::Rivals {
            pool: pool.name.clone(),
            backends: [new.name.clone(), old.name.clone()],
            used: primary.map(|primary| self.name_of(primary)),
        });
        let both = [id, rival.id];
        self.pools[index].rivals.extend(both);
    }
}

/// What it says now: nothing if its checks fail, or if the last answer is from the time before another check was due.
fn says_so(seat: &Seat, check: &Check, now: Moment) -> Option<Primacy> {
    let is_primary = matches!(seat.claim(), Claim::Primary(_));
    seat.primacy.filter(|primacy| is_primary && now.since_ns(primacy.heard) <= between_checks_ns(check))
}
