//! What is remembered of a session for the access log. Nothing is while there is none.

use super::slots::{Key, Slot};
use super::turn::Worker;
use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::base::session::SessionId;
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;
use crate::health::State;
use crate::session::Event;
use crate::snapshot::table::BackendEntry;
use crate::stats::ConnectError;
use crate::stats::record::{Attempt, Client, Reason, Record};
use crate::uring::{Fd, errno, socket};

/// What the record of a session will say and nothing else knows.
pub(super) struct Draft {
    client: Client,
    backend: Option<BackendId>,
    queue_ns: u64,
    queue_position: u32,
    connecting_ns: u64,
    last_attempt_ns: Option<u64>,
    failed: Vec<Attempt>,
    reason: Option<Reason>,
}

impl Draft {
    fn new(client: Client) -> Draft {
        Draft {
            client,
            backend: None,
            queue_ns: 0,
            queue_position: 0,
            connecting_ns: 0,
            last_attempt_ns: None,
            failed: Vec::new(),
            reason: None,
        }
    }

    /// An attempt is over. `error` is `None` when it succeeded, or when the session gave it up.
    pub(super) fn attempt_ended(&mut self, backend: BackendId, took_ns: u64, error: Option<(ConnectError, i32)>) {
        self.backend = Some(backend);
        self.connecting_ns += took_ns;
        match error {
            None => self.last_attempt_ns = Some(took_ns),
            Some((error, errno)) => {
                self.failed.push(Attempt { backend, error, took_ns });
                self.reason = (error == ConnectError::Resource).then(|| resource(errno));
            }
        }
    }

    /// Whose session it is, by a PROXY header.
    pub(super) fn is_of(&mut self, client: Client) {
        self.client = client;
    }

    /// What ended it.
    pub(super) fn ends_for(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    pub(super) fn waits(&mut self, position: u32) {
        self.queue_position = position;
    }

    pub(super) fn waited(&mut self, queue_ns: u64) {
        self.queue_ns += queue_ns;
    }

    fn reason(&self, termination: Termination) -> Option<Reason> {
        match termination {
            Termination(Who::Resource, When::Queue) => Some(Reason::QueueFull),
            // A descriptor that does not come ends no attempt: there was none.
            Termination(Who::Resource, _) => Some(self.reason.unwrap_or(Reason::Descriptors)),
            Termination(Who::Down | Who::Killed | Who::Rule | Who::Internal, _) => self.reason,
            _ => None,
        }
    }
}

/// Which resource an errno of connect is about.
fn resource(errno: i32) -> Reason {
    match errno {
        errno::EMFILE | errno::ENFILE => Reason::Descriptors,
        errno::ENOBUFS | errno::ENOMEM => Reason::Memory,
        _ => Reason::Ports,
    }
}

/// Why sessions of that backend are to end.
pub(super) fn reason_to_end(backend: &BackendEntry) -> Reason {
    match backend.state {
        _ if backend.retired => Reason::BackendRemoved,
        State::Draining | State::Maintenance => Reason::BackendDrained,
        State::Up | State::Down | State::Ejected => Reason::BackendDown,
    }
}

impl Worker {
    /// Of a new session; `None` while nothing is logged.
    pub(super) fn draft(&self, fd: Fd) -> Option<Box<Draft>> {
        self.shared.journal.as_ref()?;
        // Asked for now: one that is gone has no address any more.
        let client = match socket::peer_address(fd) {
            Some(Address::Tcp(address)) => Client::Tcp(address),
            Some(Address::Unix(_)) => Client::Unix,
            None => Client::Gone,
        };
        Some(Box::new(Draft::new(client)))
    }

    /// Ends a session for a reason that lies outside of it.
    pub(super) fn end_for(&mut self, key: Key, who: Who, reason: Reason) {
        if let Some(slot) = self.slots.get_mut(key).filter(|slot| !slot.session.is_ending())
            && let Some(draft) = &mut slot.draft
        {
            draft.ends_for(reason);
        }
        self.tell(key, Event::End(who));
    }

    /// Leaves the record of a session that is over to control.
    pub(super) fn leave_record(&self, key: Key, slot: &mut Slot) {
        let (Some(journal), Some(draft)) = (&self.shared.journal, slot.draft.take()) else { return };
        let id = SessionId::new(self.index, key.index, key.generation);
        let mentioned: Vec<BackendId> = draft.failed.iter().map(|attempt| attempt.backend).collect();
        if !journal.push(self.index, record(id, *draft, slot, self.now, self.index)) {
            self.stats().worker.access_log_dropped.add(1);
        }
        mentioned.into_iter().for_each(|backend| self.shared.counts.recorded(backend));
    }
}

fn record(id: SessionId, draft: Draft, slot: &Slot, now: Moment, worker: usize) -> Record {
    let termination = slot.session.termination();
    Record {
        session: id,
        listener: slot.listener,
        pool: slot.pool,
        // One whose attempt to connect has not begun or not ended, or the last one that was tried.
        backend: slot.backend.or(draft.backend),
        client: draft.client,
        accepted_at: slot.accepted_at,
        ended_at: now,
        queue_ns: draft.queue_ns,
        queue_position: draft.queue_position,
        connect_ns: draft.last_attempt_ns.map(|_| draft.connecting_ns),
        reason: draft.reason(termination),
        failed: draft.failed,
        last_attempt_ns: draft.last_attempt_ns.unwrap_or_default(),
        bytes_to_backend: slot.bytes[Side::Backend.index()],
        bytes_to_client: slot.bytes[Side::Client.index()],
        termination,
        worker: worker as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft::new(Client::Gone)
    }

    #[test]
    fn attempts_add_up_and_the_last_one_is_whose_session_it_is() {
        let mut draft = draft();
        draft.attempt_ended(BackendId(3), 30, Some((ConnectError::Refused, errno::ECONNREFUSED)));
        draft.attempt_ended(BackendId(4), 50, None);
        assert_eq!((draft.connecting_ns, draft.last_attempt_ns, draft.backend), (80, Some(50), Some(BackendId(4))));
        assert_eq!((draft.failed.len(), draft.failed[0].backend, draft.failed[0].took_ns), (1, BackendId(3), 30));
    }

    #[test]
    fn the_reason_is_that_of_the_end_and_only_where_the_code_asks_for_it() {
        let mut draft = draft();
        let out = Termination(Who::Resource, When::Connect);
        assert_eq!(draft.reason(out), Some(Reason::Descriptors));
        draft.attempt_ended(BackendId(0), 1, Some((ConnectError::Resource, errno::EADDRNOTAVAIL)));
        assert_eq!(draft.reason(out), Some(Reason::Ports));
        assert_eq!(draft.reason(Termination(Who::Resource, When::Queue)), Some(Reason::QueueFull));
        assert_eq!(draft.reason(Termination::NORMAL), None);
        draft.attempt_ended(BackendId(1), 1, Some((ConnectError::Refused, errno::ECONNREFUSED)));
        assert_eq!(draft.reason, None, "what one attempt lacked is no reason of the next one's");
        assert_eq!([errno::EMFILE, errno::ENOMEM].map(resource), [Reason::Descriptors, Reason::Memory]);
    }
}
