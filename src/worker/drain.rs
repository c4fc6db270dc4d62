//! Sessions of a backend that drains, or of a process that drains, under `drain_idle`: those that are silent for that
//! time end before the deadline of the drain.
//!
//! A session decides for itself when it has been silent for long enough; this module only tells it that a drain has
//! started or ended (`Event::Drains`). Without `drain_idle` a session does not listen to that, and is skipped.

use super::Worker;
use super::slots::{Slot, SlotKey};
use crate::base::termination::Who;
use crate::health::State;
use crate::kernel::Kernel;
use crate::session::Event;
use crate::snapshot::table::{BackendEntry, Phase};
use crate::stats::record::EndReason;

/// Whether this backend drains or was removed.
fn drains(backend: &BackendEntry) -> bool {
    backend.retired || backend.state == State::Draining
}

impl<K: Kernel> Worker<K> {
    /// Compares the newest table with what was known, and queues the sessions for which a drain has started or ended.
    /// `was` is the phase of the process before this table.
    pub(super) fn note_drains(&mut self, was: Phase) {
        let backends = &self.known.reader.table().backends;
        let now: Vec<bool> = backends.iter().map(|backend| backend.as_ref().is_some_and(drains)).collect();
        let before = std::mem::replace(&mut self.known.drained, now);
        let (now, phase) = (&self.known.drained, self.known.phase);
        let all = was != phase && matches!(phase, Phase::Draining { .. });
        let at = |list: &[bool], index: usize| list.get(index).copied().unwrap_or(false);
        if !all && (0..now.len().max(before.len())).all(|index| at(now, index) == at(&before, index)) {
            return;
        }
        let is_concerned = |slot: &Slot| {
            let changed = |index: usize| at(now, index) != at(&before, index);
            slot.session.heeds_drains() && (all || slot.backend.is_some_and(|id| changed(id.index())))
        };
        self.agenda.to_drain.extend(self.slots.keys_where(is_concerned));
    }

    /// Queues a session that has just connected, if its backend drains: it came too late for `note_drains`.
    pub(super) fn note_drain_of(&mut self, key: SlotKey) {
        if self.drained_by(key).is_some() {
            self.agenda.to_drain.push_back(key);
        }
    }

    /// Tells up to `most` of the queued sessions. Thousands that end in one turn would keep all others waiting.
    #[inline]
    pub(super) fn drain_some(&mut self, most: usize) {
        for _ in 0..most {
            let Some(key) = self.agenda.to_drain.pop_front() else { return };
            let who = self.drained_by(key);
            let Some(slot) = self.slots.get_mut(key).filter(|slot| !slot.session.is_ending()) else { continue };
            if let (Some(_), Some(draft)) = (who, &mut slot.draft) {
                draft.ends_for(EndReason::DrainIdle);
            }
            self.tell(key, Event::Drains(who));
        }
    }

    /// What ends this session when it falls silent: the process, its backend, or nothing (`None`).
    pub(super) fn drained_by(&self, key: SlotKey) -> Option<Who> {
        let slot = self.slots.get(key).filter(|slot| slot.session.heeds_drains())?;
        if matches!(self.known.phase, Phase::Draining { .. }) {
            return Some(Who::Killed);
        }
        self.known.reader.table().backend(slot.backend?).is_some_and(drains).then_some(Who::Down)
    }
}
