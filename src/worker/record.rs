//! What the access log is told of each session. A [`Draft`] gathers it while the session lives; here it begins, and
//! becomes a record in the journal, which `log` writes.
//!
//! Without an access log there is no journal and no draft, and sessions cost nothing here.

use super::Worker;
use super::slots::{Slot, SlotKey};
use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::session::SessionId;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::health::State;
use crate::kernel::{Fd, Kernel, Sockets, errno};
use crate::session::Event;
use crate::snapshot::table::BackendEntry;
use crate::stats::draft::{Draft, Ended};
use crate::stats::record::{Client, EndReason};

/// The resource of this host that an errno of connect says has run out.
pub(super) fn resource(errno: i32) -> EndReason {
    match errno {
        errno::EMFILE | errno::ENFILE => EndReason::Descriptors,
        errno::ENOBUFS | errno::ENOMEM => EndReason::Memory,
        _ => EndReason::Ports,
    }
}

/// Why the sessions of this backend must end, as the access log says it.
pub(super) fn reason_to_end(backend: &BackendEntry) -> EndReason {
    match backend.state {
        _ if backend.retired => EndReason::BackendRemoved,
        State::Draining | State::Maintenance => EndReason::BackendDrained,
        State::Up | State::Standby | State::Down | State::Ejected => EndReason::BackendDown,
    }
}

impl<K: Kernel> Worker<K> {
    /// The draft of a new session; `None` if there is no access log.
    pub(super) fn draft(&self, fd: Fd) -> Option<Box<Draft>> {
        self.shared.journal.as_ref()?;
        // The address is asked for now, because it can no longer be read when the client has left.
        let client = match self.kernel.sockets().peer_address(fd) {
            Some(Address::Tcp(address)) => Client::Tcp(address),
            Some(Address::Unix(_)) => Client::Unix,
            None => Client::Gone,
        };
        Some(Box::new(Draft::new(client)))
    }

    /// Ends a session for a reason that does not lie in the session itself, and notes the reason for the access log.
    pub(super) fn end_for(&mut self, key: SlotKey, who: Who, reason: EndReason) {
        if let Some(slot) = self.slots.get_mut(key).filter(|slot| !slot.session.is_ending())
            && let Some(draft) = &mut slot.draft
        {
            draft.ends_for(reason);
        }
        self.tell(key, Event::End(who));
    }

    /// Puts the record of a session that is over into the journal. If the journal is full, the record is dropped and
    /// counted (`access_log_dropped`), because a worker never waits for the log.
    pub(super) fn leave_record(&self, key: SlotKey, slot: &mut Slot) {
        let (Some(journal), Some(draft)) = (&self.shared.journal, slot.draft.take()) else { return };
        let mentioned: Vec<BackendId> = draft.failed_backends().collect();
        let record = draft.finish(Ended {
            session: SessionId::new(self.index, key.index, key.generation),
            listener: slot.listener,
            pool: slot.pool,
            backend: slot.backend,
            accepted_at: slot.accepted_at,
            ended_at: self.turn.now,
            bytes_to_backend: slot.bytes[Side::Backend.index()],
            bytes_to_client: slot.bytes[Side::Client.index()],
            termination: slot.session.termination(),
            worker: self.index as u32,
        });
        if !journal.push(self.index, record) {
            self.stats().worker.access_log_dropped.add(1);
        }
        mentioned.into_iter().for_each(|backend| self.shared.counts.recorded(backend));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_memory_and_ports_are_told_apart() {
        let reasons = [errno::EMFILE, errno::ENOMEM, errno::EADDRNOTAVAIL].map(resource);
        assert_eq!(reasons, [EndReason::Descriptors, EndReason::Memory, EndReason::Ports]);
    }
}
