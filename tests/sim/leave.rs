//! Backends that are removed, and others that take their slots.

use std::collections::HashSet;

use ringway::base::address::Address;
use ringway::base::id::BackendId;
use ringway::snapshot::build::Member;

use crate::control::Control;
use crate::corner::Corner;
use crate::host::{Host, Mood, Site};

/// A slot whose backend is no more; the first table without it.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    id: BackendId,
    generation: u64,
}

impl Control {
    /// A backend is no longer configured, and another one is.
    pub fn replace_backend(&mut self, host: &mut Host) {
        let at = host.dice.below(self.members.len() as u64) as usize;
        if self.members[at].retired {
            return self.publish();
        }
        host.corners.reach(Corner::BackendReplaced);
        let number = host.sites.len() as u16;
        let address = Address::Tcp(([127, 0, 0, 1], 9_500 + number).into());
        host.sites.push(Site { address: address.clone(), mood: Mood::Fine, knows_tls: host.dice.one_in(2) });
        let old = &mut self.members[at];
        old.retired = true;
        old.end_sessions = host.dice.one_in(2);
        let name: std::sync::Arc<str> = format!("n{number}").into();
        let id = self.ids.number_backend(old.pool, &name, Some(&address));
        host.say(format_args!("control: {:?} is removed, and {id:?} is new", old.id));
        let hash_name = name.clone();
        let new =
            Member { id, name, hash_name, address: Some(address), end_sessions: false, retired: false, ..old.clone() };
        if self.freed.remove(&id) {
            host.corners.reach(Corner::SlotUsedAgain);
            self.cut.remove(&id.0);
            self.drained.remove(&id.0);
        }
        self.members.push(new);
        self.publish();
    }

    /// What every worker has seen go, and no session means any more, is gone: its slot is free for another one.
    pub fn sweep(&mut self) {
        let cells = self.shared.stats.workers.iter().filter(|cells| cells.worker.running.get() != 0);
        let seen = cells.map(|cells| cells.worker.generation.get()).min().unwrap_or(0);
        let counts = &self.shared.counts;
        let is_over = |member: &Member| member.retired && counts.connections(member.id) == 0;
        let gone: Vec<BackendId> = self.members.iter().filter(|it| is_over(it)).map(|member| member.id).collect();
        if seen >= self.generation && !gone.is_empty() {
            self.members.retain(|member| !gone.contains(&member.id));
            let generation = self.generation + 1;
            self.leaving.extend(gone.into_iter().map(|id| Leaving { id, generation }));
            self.publish();
            return;
        }
        let is_free = |it: &Leaving| seen >= it.generation && counts.is_unused(it.id);
        let free: HashSet<BackendId> = self.leaving.iter().filter(|it| is_free(it)).map(|it| it.id).collect();
        if free.is_empty() {
            return;
        }
        self.leaving.retain(|it| !free.contains(&it.id));
        self.ids.free_backends(&free);
        free.iter().for_each(|&id| self.shared.stats.forget_backend(id));
        self.freed.extend(free);
    }
}
