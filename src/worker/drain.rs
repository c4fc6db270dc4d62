//! Sessions of a backend that drains, or of a process that does: those that are silent end before their deadline.

use super::Worker;
use super::slots::{Slot, SlotKey};
use crate::base::termination::Who;
use crate::health::State;
use crate::kernel::Kernel;
use crate::session::Event;
use crate::snapshot::table::{BackendEntry, Phase};
use crate::stats::record::EndReason;

/// Whether sessions of that backend are to end soon.
fn drains(backend: &BackendEntry) -> bool {
    backend.retired || backend.state == State::Draining
}

impl<K: Kernel> Worker<K> {
    /// Has the sessions looked at that the last table has begun to drain, or drains no more.
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

    /// A session that has just got its backend may have come too late to be noted.
    pub(super) fn note_drain_of(&mut self, key: SlotKey) {
        if self.drained_by(key).is_some() {
            self.agenda.to_drain.push_back(key);
        }
    }

    /// Tells some of those: thousands that end at once would keep all others waiting.
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

    fn drained_by(&self, key: SlotKey) -> Option<Who> {
        let slot = self.slots.get(key).filter(|slot| slot.session.heeds_drains())?;
        let backend = self.known.reader.table().backend(slot.backend?);
        match self.known.phase {
            Phase::Draining { .. } => Some(Who::Killed),
            _ => backend.is_some_and(drains).then_some(Who::Down),
        }
    }
}
