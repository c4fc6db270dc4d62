//! Backends that are added and removed while ringway runs.
//!
//! They outlive a reload until the file changes that backend: a backend that was added gives way to one of the file
//! that has its name, and one that was removed is back when the file says something else of it.

use std::sync::Arc;
use std::time::Duration;

use super::order::{BackendName, SetError};
use super::plan::{Objects, Plan};
use super::seat::Retired;
use super::{Changes, Fleet, Reason};
use crate::base::time::{Moment, ns};
use crate::config::model::{Backend, BackendOrigin};

impl Fleet {
    /// Plans to add a backend, behind those of the file.
    ///
    /// # Errors
    /// There is no such pool; or another backend has the name or the place, or has had the name and still drains.
    pub(super) fn plan_add(&self, pool: &str, backend: &Backend) -> Result<Plan, SetError> {
        let pools = &self.config.pools[..self.configured];
        let Some(index) = pools.iter().position(|known| *known.name == *pool) else {
            return Err(SetError::NotFound(format!("pool `{pool}`")));
        };
        let (configured, name) = (&pools[index], &backend.name);
        if configured.backends.iter().any(|known| known.name == *name) {
            return Err(SetError::Taken(format!("pool `{pool}` has a backend `{name}` already")));
        }
        let seats = &self.seats[self.pools[index].seats.clone()];
        let drains = |seat: &&super::Seat| seat.configured_name == *name && seat.retired.is_some();
        if seats.iter().any(|seat| drains(&seat)) {
            let remedy = "wait until its sessions have ended, or take another name";
            return Err(SetError::Taken(format!(
                "a backend `{name}` of pool `{pool}` was removed and drains; {remedy}"
            )));
        }
        if let Some(known) = configured.backends.iter().find(|known| known.target == backend.target) {
            let message = format!("{} is backend `{}` of pool `{pool}` already", backend.target, known.name);
            return Err(SetError::Taken(message));
        }
        let mut objects = self.objects.get(pool).cloned().unwrap_or_default();
        let file = self.file.pools.iter().find(|known| *known.name == *pool);
        // What was removed and is added as the file has it is back.
        match file.is_some_and(|file| file.backends.contains(backend)) {
            true => objects.removed.retain(|removed| removed.name != *name),
            false => objects.added.push(Backend { origin: BackendOrigin::Added, ..backend.clone() }),
        }
        let lines = vec![format!("pools.{pool}.backends.{name} added ({})", backend.target)];
        let (pool, name) = (configured.name.clone(), name.clone());
        Ok(Plan { pool, name, by_hand: None, objects: Some(objects), leaves: None, lines })
    }

    /// Plans to remove a backend, at all of its addresses.
    ///
    /// # Errors
    /// There is none of that name; or a source has found it, and would find it again.
    pub(super) fn plan_remove(
        &self,
        target: &BackendName,
        deadline: Option<Duration>,
        by: &Arc<str>,
        now: Moment,
    ) -> Result<Plan, SetError> {
        let (index, backend) = self.find(target)?;
        let configured = &self.config.pools[index];
        let backend = &configured.backends[backend];
        let mut objects = self.objects.get(&configured.name).cloned().unwrap_or_default();
        match backend.origin {
            BackendOrigin::Found(kind) => {
                return Err(SetError::Invalid(format!(
                    "`{}` was found by its source ({kind}), which would find it again: remove it there, or take it out \
                     with `ringway ctl set {}/{} --state maintenance`",
                    backend.name, configured.name, backend.name
                )));
            }
            BackendOrigin::Added => objects.added.retain(|added| added.name != backend.name),
            BackendOrigin::File => objects.removed.push(backend.clone()),
        }
        let deadline_ns = ns(deadline.unwrap_or(configured.drain_timeout));
        let until = if deadline_ns == 0 { Moment::NEVER } else { now.after_ns(deadline_ns) };
        let lines = vec![format!("pools.{}.backends.{} removed ({})", configured.name, backend.name, backend.target)];
        let (pool, name, leaves) = (configured.name.clone(), backend.name.clone(), Some((by.clone(), until)));
        Ok(Plan { pool, name, by_hand: None, objects: Some(objects), leaves, lines })
    }

    /// Has these be what was added to a pool and removed from it.
    pub(super) fn set_objects(
        &mut self,
        pool: &Arc<str>,
        name: &Arc<str>,
        objects: Objects,
        leaves: Option<(Arc<str>, Moment)>,
        now: Moment,
    ) -> Changes {
        let Some(index) = self.config.pools.iter().position(|known| known.name == *pool) else {
            return Changes::default();
        };
        let mut changes = Changes::default();
        if let Some((by, until)) = leaves {
            for place in self.pools[index].seats.clone() {
                let seat = &self.seats[place];
                if seat.configured_name != *name || seat.retired.is_some() || seat.address.is_none() {
                    continue;
                }
                self.retire(place, Reason::TakenAway(by.clone()), now, &mut changes);
                if let Some(Retired { until: known, .. }) = &mut self.seats[place].retired {
                    *known = until;
                }
            }
        }
        // What a name stands for is in order of its seats, so a new backend stands behind those of the file.
        self.objects.insert(pool.clone(), objects);
        changes.absorb(self.go_on_with(self.effective(), |name| *name == **pool, now));
        changes
    }
}
