//! What this worker tells control of its sessions, and which sessions it ends for control. It does so in slices, one
//! per turn, so that a list of 100,000 sessions delays no byte: see [`roster::survey`](crate::roster::survey).

use super::Worker;
use super::admission::client_of;
use super::slots::Slot;
use crate::base::address::Address;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::{Kernel, Sockets};
use crate::roster::survey::{Slice, Surveyed};
use crate::roster::{RosterRecord, SessionId, Stage};
use crate::stats::record::EndReason;

impl<K: Kernel> Worker<K> {
    /// Begins with the requests in this worker's mailbox.
    pub(super) fn take_requests(&mut self) {
        while let Some(request) = self.shared.next_request(self.index) {
            self.surveys.begin(request, self.slots.places());
        }
    }

    /// Works on one slice. Called once per turn.
    #[inline]
    pub(super) fn survey(&mut self) {
        if self.surveys.are_under_way() {
            self.survey_some();
        }
    }

    /// Asks a slice for one place after another, until it is full or the sessions are all done.
    #[cold]
    fn survey_some(&mut self) {
        #[cfg(debug_assertions)]
        self.turn.watch.moved();
        let Some(mut slice) = self.surveys.begin_slice() else { return };
        while let Some(place) = slice.next_place() {
            self.look_at_place(&mut slice, place);
        }
        self.surveys.end_slice(slice);
    }

    /// Looks at the session at one place: lists it, counts it, ends it, or passes it by, as the request says.
    fn look_at_place(&mut self, slice: &mut Slice, place: u32) {
        let Some(key) = self.slots.tenant(place) else { return };
        let Some(slot) = self.slots.get(key) else { return };
        let id = SessionId::new(self.index, key.index, key.generation);
        let client = || client_of(slot, self.kernel.sockets());
        match slice.found(id, slot.backend, slot.session.is_ending(), client) {
            Surveyed::Listed => slice.list(record(id, slot, self.kernel.sockets(), self.turn.now)),
            Surveyed::Killed => self.end_for(key, Who::Killed, EndReason::Operator),
            Surveyed::Passed | Surveyed::Counted => {}
        }
    }
}

/// What the API shows of one session.
fn record(id: SessionId, slot: &Slot, sockets: &impl Sockets, now: Moment) -> RosterRecord {
    let session = &slot.session;
    let stage = match slot.fd(Side::Backend) {
        _ if session.is_prereading() => Stage::Preread,
        _ if session.is_waiting() => Stage::Queued,
        _ if session.is_relaying() => Stage::Open,
        _ if session.is_ending() => Stage::Closing,
        None => Stage::Connecting,
        Some(_) if session.is_connecting() => Stage::Connecting,
        // It delivers the last bytes before a reset.
        Some(_) => Stage::Closing,
    };
    let is_connected = matches!(stage, Stage::Open | Stage::Closing);
    let own = slot.fd(Side::Backend).filter(|_| is_connected).and_then(|fd| sockets.own_address(fd));
    RosterRecord {
        id,
        client: client_of(slot, sockets),
        listener: slot.listener,
        pool: slot.pool,
        backend: slot.backend,
        backend_local: own.and_then(Address::tcp),
        stage,
        age_ns: now.since_ns(slot.accepted_at),
        idle_ns: now.since_ns(session.active_at()),
        bytes: [slot.bytes[Side::Backend.index()], slot.bytes[Side::Client.index()]],
    }
}
