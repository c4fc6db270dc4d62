//! How handshakes of TLS share a turn of their worker with sessions that have bytes to move.

use super::Worker;
use super::slots::SlotKey;
use crate::base::side::Side;
use crate::kernel::Kernel;
use crate::session::Event;

/// How long handshakes may take within a turn; one under way is not interrupted. The others wait for the next turns, in
/// order, so that sessions with bytes to move do not wait for them.
const HANDSHAKES_A_TURN_NS: u64 = 1_000_000;

impl<K: Kernel> Worker<K> {
    /// Whether a handshake has to wait for a turn that has time for it.
    pub(super) fn waits_for_turn(&mut self, key: SlotKey, side: Side) -> bool {
        let has_time = self.turn.handshakes_ns < HANDSHAKES_A_TURN_NS;
        if !has_time {
            self.queue_handshake(key, side);
        }
        !has_time
    }

    /// Puts a handshake off; it has its turn before those that come later.
    fn queue_handshake(&mut self, key: SlotKey, side: Side) {
        if let Some(is_queued) = self.slots.get_mut(key).and_then(|slot| slot.handshake_waits(side))
            && !std::mem::replace(is_queued, true)
        {
            self.agenda.handshakes.push_back((key, side));
        }
    }

    /// Goes on with the handshakes that were put off, as far as this turn has time for them.
    pub(super) fn go_on_with_handshakes(&mut self) {
        while self.turn.handshakes_ns < HANDSHAKES_A_TURN_NS
            && let Some((key, side)) = self.agenda.handshakes.pop_front()
        {
            // It may have ended meanwhile, or was given up.
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let is_prereading = slot.session.is_prereading();
            let Some(true) = slot.handshake_waits(side).map(std::mem::take) else { continue };
            let event = match side {
                Side::Client => is_prereading.then_some(Event::Timer),
                Side::Backend => self.go_on_dialing(key),
            };
            if let Some(event) = event {
                self.tell(key, event);
            }
        }
    }
}
