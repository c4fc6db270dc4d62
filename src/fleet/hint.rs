//! A hint that another backend is about to be the primary: its pool is checked often for a while.
//!
//! Patroni writes its leader key before it promotes the new primary. So a source tells of it, and by the time of the
//! promotion checks come so often that clients notice nothing but a pause. The hint changes when roles are asked for
//! and nothing else: which backend is the primary is what the checks say (`health::primary`), and a hint that lies
//! costs a few checks.

use std::sync::Arc;

use super::{Fleet, Seat, WatchId};
use crate::base::time::Moment;
use crate::health::Role;
use crate::health::finding::Finding;

/// Between checks of a pool with a hint. A switchover is to reach clients within 500 ms of the promotion, and this
/// leaves most of that to the check itself; each server has ten logins per second, for as long as a hint holds.
pub const HINT_PAUSE_NS: u64 = 100_000_000;
/// How long a hint holds. Patroni promotes within seconds of writing its key; a promotion that takes longer is found by
/// the usual checks.
pub const HINT_HOLDS_NS: u64 = 15_000_000_000;

/// A hint that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PrimaryHint {
    /// The backend that is about to be the primary, as its source calls it.
    backend: Arc<str>,
    /// When it holds no longer.
    until: Moment,
}

impl Fleet {
    /// A source says that this backend of the pool is about to be the primary. Returns the watches that are to check
    /// immediately; none if the pool has no such backend, or wants no role.
    pub fn on_hint(&mut self, pool: &str, backend: &Arc<str>, now: Moment) -> Vec<WatchId> {
        let Some(index) = self.config.pools.iter().position(|one| *one.name == *pool) else { return Vec::new() };
        let seats = &self.seats[self.pools[index].seats.clone()];
        let is_checked = |seat: &&Seat| seat.retired.is_none() && wants_role(seat);
        if !seats.iter().filter(is_checked).any(|seat| seat.configured_name == *backend) {
            return Vec::new();
        }
        let mut watches: Vec<WatchId> = seats.iter().filter(is_checked).filter_map(|seat| seat.watch).collect();
        watches.sort();
        watches.dedup();
        let until = now.after_ns(HINT_HOLDS_NS);
        self.pools[index].hint = Some(PrimaryHint { backend: backend.clone(), until });
        watches
    }

    /// A seat was checked: a hint ends with the check that finds what it told of, and with its time.
    pub(super) fn heed_hint(&mut self, place: usize, finding: &Finding, now: Moment) {
        let seat = &self.seats[place];
        let Some(hint) = &self.pools[seat.pool].hint else { return };
        let is_primary = match finding {
            Finding::Success(facts) | Finding::Doubtful(facts, _) => facts.role == Some(Role::Primary),
            _ => false,
        };
        if now >= hint.until || (is_primary && seat.configured_name == hint.backend) {
            self.pools[seat.pool].hint = None;
        }
    }

    /// The longest pause between checks of a seat, as far as hints go.
    pub(super) fn hint_pause_ns(&self, seat: &Seat) -> u64 {
        let has_hint = self.pools[seat.pool].hint.is_some() && seat.retired.is_none() && wants_role(seat);
        if has_hint { HINT_PAUSE_NS } else { u64::MAX }
    }
}

/// Whether the pool of a seat looks at roles: otherwise a hint means nothing to it.
fn wants_role(seat: &Seat) -> bool {
    seat.subscriber.as_ref().is_some_and(|subscriber| subscriber.wants().role.is_some())
}
