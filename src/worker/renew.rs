//! What a worker does when control has published a new table.
//!
//! It looks at the table once per turn (`run`), so between two looks it may miss tables and sees only the newest.
//! Therefore everything here compares the newest table with what was known before, and not one table with the next.

use super::record::reason_to_end;
use super::slots::{Slot, SlotKey};
use super::{ToEnd, Worker};
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::kernel::Kernel;
use crate::snapshot::table::{BackendEntry, Phase};
use crate::stats::record::EndReason;

/// How many sessions are ended per turn. Each has three or four operations to cancel, and the kernel handles at most 20
/// answers per enter, the oldest first (IO_LOCAL_TW_DEFAULT_MAX in io_uring, Linux 6.13). With more per turn, their
/// answers pile up before those of all other sessions: with 32 the worst round trip beside a cut of 9,000 sessions took
/// 90 ms.
const ENDED_A_TURN: usize = 4;

impl<K: Kernel> Worker<K> {
    /// Takes over what is new in the table: limits, sessions to end, queues to serve, the phase of the process, drains.
    pub(super) fn look_at_table(&mut self) {
        self.known.reader.let_go();
        let table = self.known.reader.table();
        self.known.generation = table.generation;
        let (ended, leave) = newly_ended(&table.backends, &self.known.ended);
        let (yielded, make_room) = newly_yielded(&table.backends, &self.known.yielded);
        (self.known.ended, self.known.yielded) = (ended, yielded);
        let phase = table.phase;
        self.learn_bounds();
        // A limit may have been raised.
        self.admit_waiting();
        self.end_sessions_of(&leave);
        self.end_sessions_until(&make_room);
        self.waiters.serve_all();
        let was = self.known.phase;
        self.enter_phase(phase);
        self.note_drains(was);
        self.stats().worker.generation.set(self.known.generation);
    }

    /// Ends the sessions of some backends, or lets those that still connect try another one. `backends` is indexed by
    /// backend id. Called once per change: sessions that come to such a backend later notice it themselves
    /// (`connect_ended`).
    fn end_sessions_of(&mut self, backends: &[Option<EndReason>]) {
        if backends.is_empty() {
            return;
        }
        let reason = |slot: &Slot| *backends.get(slot.backend?.index())?;
        for key in self.slots.keys_where(|slot| reason(slot).is_some()) {
            if let Some(reason) = self.slots.get(key).and_then(reason) {
                self.take_from_backend(key, Who::Down, reason);
            }
        }
    }

    /// Ends the sessions that came to some backups until a moment, in the same way. `until` is indexed by backend id.
    fn end_sessions_until(&mut self, until: &[Option<Moment>]) {
        if until.is_empty() {
            return;
        }
        let is_older = |slot: &Slot| {
            let until = slot.backend.and_then(|backend| *until.get(backend.index())?);
            until.is_some_and(|until| slot.connecting_at <= until)
        };
        for key in self.slots.keys_where(is_older) {
            self.take_from_backend(key, Who::Up, EndReason::MainUp);
        }
    }

    /// Ends a session, or lets one that still connects try another backend.
    fn take_from_backend(&mut self, key: SlotKey, who: Who, reason: EndReason) {
        let Some(slot) = self.slots.get(key) else { return };
        if slot.session.is_connecting() {
            // No byte has moved yet, so another backend can serve it.
            if let Some(event) = self.cancel_connect(key) {
                self.tell(key, event);
            }
        } else if slot.detour().hindered_by != 0 {
            self.stop_trying(key);
        } else {
            let backend = slot.backend;
            self.agenda.to_end.push_back(ToEnd { key, who, reason, backend });
        }
    }

    /// Ends some of the sessions in the list. Thousands that end in one turn would keep all others waiting. Returns how
    /// many more sessions can end in this turn.
    #[inline]
    pub(super) fn end_some(&mut self) -> usize {
        for ended in 0..ENDED_A_TURN {
            let Some(to_end) = self.agenda.to_end.pop_front() else { return ENDED_A_TURN - ended };
            #[cfg(debug_assertions)]
            self.turn.watch.moved();
            let Some(slot) = self.slots.get(to_end.key).filter(|slot| !slot.session.is_ending()) else { continue };
            if !to_end.still_stands(slot) {
                if to_end.reason == EndReason::Descriptors {
                    self.agenda.wanting.keep();
                }
                continue;
            }
            if let Some(backend) = to_end.backend {
                self.stats().backends.get(backend.index()).sessions_cut_total.add(1);
            }
            self.end_for(to_end.key, to_end.who, to_end.reason);
        }
        0
    }

    /// Takes over the phase of the process: stops accepting when it drains or leaves, and ends all sessions when it
    /// stops.
    fn enter_phase(&mut self, phase: Phase) {
        self.known.phase = phase;
        if !phase.accepts() {
            self.close_listeners();
        }
        if phase == Phase::Stopping {
            self.turn_away_waiting();
            let left = self.slots.keys_where(|slot| !slot.session.is_ending());
            let end = |key| ToEnd { key, who: Who::Killed, reason: EndReason::Shutdown, backend: None };
            self.agenda.to_end.extend(left.into_iter().map(end));
        }
    }
}

impl ToEnd {
    /// Whether the reason still holds. Only some sessions end per turn, and the others go on meanwhile.
    fn still_stands(&self, slot: &Slot) -> bool {
        match self.reason {
            // If not, it has a descriptor now, and its client may have been told so.
            EndReason::Descriptors => slot.wants_descriptor(),
            // If not, its bytes have moved.
            EndReason::Memory => slot.session.holds_buffers(),
            _ => self.backend.is_none_or(|backend| slot.backend == Some(backend)),
        }
    }
}

/// Compares which backends must have no sessions with what was known (`before`). Returns the new list by backend id,
/// and the reasons to end by backend id, only for those where it is new; empty if it is new for none.
fn newly_ended(backends: &[Option<BackendEntry>], before: &[bool]) -> (Vec<bool>, Vec<Option<EndReason>>) {
    let reason = |backend: &BackendEntry| backend.end_sessions.then(|| reason_to_end(backend));
    let mut reasons: Vec<_> = backends.iter().map(|backend| backend.as_ref().and_then(reason)).collect();
    let ended = reasons.iter().map(Option::is_some).collect();
    for (reason, _) in reasons.iter_mut().zip(before).filter(|(_, was_ended)| **was_ended) {
        *reason = None;
    }
    if reasons.iter().all(Option::is_none) {
        reasons.clear();
    }
    (ended, reasons)
}

/// Compares until when the sessions of backends had to make room with what was known (`before`). Returns the new list
/// by backend id, and the moments that are new; empty if none is.
fn newly_yielded(backends: &[Option<BackendEntry>], before: &[Moment]) -> (Vec<Moment>, Vec<Option<Moment>>) {
    let at = |backend: &Option<BackendEntry>| backend.as_ref().map_or(Moment::default(), |backend| backend.yielded_at);
    let now: Vec<Moment> = backends.iter().map(at).collect();
    let was = |index: usize| before.get(index).copied().unwrap_or_default();
    let new = |(index, at): (usize, &Moment)| Some(*at).filter(|at| *at > was(index));
    let mut moments: Vec<Option<Moment>> = now.iter().enumerate().map(new).collect();
    if moments.iter().all(Option::is_none) {
        moments.clear();
    }
    (now, moments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{BackendId, PoolId};
    use crate::health::State;
    use crate::kernel::{Fd, errno};
    use crate::session::{Session, SessionLimits};

    fn backend(id: u32, end_sessions: bool) -> Option<BackendEntry> {
        Some(BackendEntry {
            id: BackendId(id),
            pool: PoolId(0),
            name: "b".into(),
            address: None,
            host: None,
            port_shift: None,
            origin: "config",
            weight: 1,
            backup: 0,
            connections_max: None,
            state: State::Down,
            end_sessions,
            yielded_at: Moment::default(),
            retired: false,
        })
    }

    /// A backend that is down stays down for many tables; the sessions are searched once, when it goes.
    #[test]
    fn sessions_are_looked_at_when_a_backend_goes_and_not_while_it_is_gone() {
        let table = |down: [bool; 3]| vec![backend(0, down[0]), backend(1, down[1]), None, backend(3, down[2])];
        let ended = |down, before: &[bool]| {
            let (ended, reasons) = newly_ended(&table(down), before);
            (ended, (0..).zip(reasons).filter_map(|(id, reason)| reason.map(|_| id)).collect::<Vec<u32>>())
        };
        let (gone, new) = ended([false, true, true], &[]);
        assert_eq!(new, [1, 3]);
        let (gone, new) = ended([true, true, true], &gone);
        assert_eq!(new, [0]);
        assert!(newly_ended(&table([true, true, true]), &gone).1.is_empty(), "nobody is to be looked for");
        let (gone, new) = ended([true, false, true], &gone);
        assert!(new.is_empty());
        assert_eq!(ended([true, true, true], &gone).1, [1], "it came back, and has gone again");
    }

    #[test]
    fn sessions_make_room_once_for_each_time_that_a_main_backend_came_up() {
        let table = |at: [u64; 2]| -> Vec<Option<BackendEntry>> {
            let entry = |(id, at): (u32, u64)| Some(BackendEntry { yielded_at: Moment(at), ..backend(id, false)? });
            [entry((0, at[0])), None, entry((2, at[1]))].into()
        };
        let (known, new) = newly_yielded(&table([0, 7]), &[]);
        assert_eq!(new, [None, None, Some(Moment(7))]);
        let (known, new) = newly_yielded(&table([0, 7]), &known);
        assert!(new.is_empty(), "nobody is to be looked for");
        assert_eq!(newly_yielded(&table([8, 9]), &known).1, [Some(Moment(8)), None, Some(Moment(9))]);
        assert!(newly_yielded(&table([0, 0]), &known).1.is_empty(), "another backend has its slot");
    }

    /// Four end per turn. The others go on until it is their turn, and their clients may have been greeted meanwhile.
    #[test]
    fn what_has_come_about_since_a_session_was_marked_is_no_reason_to_end_it() {
        let session = Session::new(SessionLimits::default(), 0, Moment(0));
        let mut slot = Slot::new(session, Fd(7), 0, Moment(0));
        let key = SlotKey { index: 0, generation: 0 };
        let marked = |reason, backend| ToEnd { key, who: Who::Resource, reason, backend };
        let gives_way = marked(EndReason::Descriptors, None);
        slot.detour_mut().hindered_by = errno::EMFILE;
        assert!(gives_way.still_stands(&slot));
        slot.take_hindrance();
        assert!(!gives_way.still_stands(&slot), "it has a descriptor");
        assert!(!marked(EndReason::Memory, None).still_stands(&slot), "it holds no buffers any more");
        slot.backend = Some(BackendId(1));
        assert!(marked(EndReason::BackendDown, Some(BackendId(1))).still_stands(&slot));
        assert!(!marked(EndReason::BackendDown, Some(BackendId(0))).still_stands(&slot), "it has gone to another one");
        assert!(marked(EndReason::Shutdown, None).still_stands(&slot));
    }
}
