//! What control is told of the sessions of this worker, and which of them it ends. In slices: a worker with ten
//! thousand sessions serves them on between two looks at some of them.

use std::collections::VecDeque;

use super::admission::client_of;
use super::slots::Slot;
use super::turn::Worker;
use crate::base::side::Side;
use crate::base::termination::Who;
use crate::base::time::Moment;
use crate::roster::{Answer, Record, Request, SessionId, Stage, What};
use crate::stats::record::Reason;

/// Places that are looked at in one turn; some 100 µs where each client is asked for.
const PLACES_A_TURN: u32 = 256;
/// Sessions that are ended in one turn: each takes a handful of system calls.
const KILLS_A_TURN: u64 = 32;

/// Questions that were not answered yet, oldest first.
#[derive(Default)]
pub(super) struct Surveys(VecDeque<Survey>);

/// One of them, and how far it has come.
struct Survey {
    request: Request,
    /// The places to look at: from the next one to the last.
    next: u32,
    end: u32,
    answer: Answer,
}

impl Surveys {
    /// Whether there is something to do without waiting for an event.
    #[inline]
    pub fn are_under_way(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Worker {
    /// Begins with what this worker was asked.
    pub(super) fn take_requests(&mut self) {
        while let Some(request) = self.shared.next_request(self.index) {
            let (next, end) = match request.filter.id {
                Some(id) => (id.place(), id.place().saturating_add(1)),
                None => (0, self.slots.places()),
            };
            self.surveys.0.push_back(Survey { request, next, end, answer: Answer::default() });
        }
    }

    /// One slice. To be called once a turn.
    #[inline]
    pub(super) fn survey(&mut self) {
        if self.surveys.are_under_way() {
            self.survey_some();
        }
    }

    #[cold]
    fn survey_some(&mut self) {
        let Some(mut survey) = self.surveys.0.pop_front() else { return };
        let stop = survey.next.saturating_add(PLACES_A_TURN).min(survey.end);
        let may_have_killed = survey.answer.matching + KILLS_A_TURN;
        while survey.next < stop {
            self.look_at_place(&mut survey);
            survey.next += 1;
            if survey.request.what == What::Kill && survey.answer.matching == may_have_killed {
                break;
            }
        }
        if survey.next < survey.end {
            self.surveys.0.push_front(survey);
        } else {
            (survey.request.reply)(survey.answer);
        }
    }

    fn look_at_place(&mut self, survey: &mut Survey) {
        let (filter, answer) = (&survey.request.filter, &mut survey.answer);
        let Some(key) = self.slots.tenant(survey.next) else { return };
        let Some(slot) = self.slots.get(key) else { return };
        let client = || client_of(slot);
        let id = SessionId::new(self.index, key.index, key.generation);
        if filter.id.is_some_and(|wanted| wanted != id) || !filter.matches(slot.backend, client) {
            return;
        }
        match survey.request.what {
            What::List { limit } => {
                answer.matching += 1;
                if answer.records.len() < limit {
                    answer.records.push(record(id, slot, self.now));
                }
            }
            What::Kill if slot.session.is_ending() => {}
            What::Kill => {
                answer.matching += 1;
                self.end_for(key, Who::Killed, Reason::Operator);
            }
        }
    }
}

fn record(id: SessionId, slot: &Slot, now: Moment) -> Record {
    let session = &slot.session;
    let stage = match slot.fd(Side::Backend) {
        _ if session.is_prereading() => Stage::Preread,
        _ if session.is_waiting() => Stage::Queued,
        _ if session.is_relaying() => Stage::Open,
        _ if session.is_ending() => Stage::Closing,
        None => Stage::Connecting,
        Some(_) if session.is_connecting() => Stage::Connecting,
        // The last bytes before a reset.
        Some(_) => Stage::Closing,
    };
    Record {
        id,
        client: client_of(slot),
        listener: slot.listener,
        pool: slot.pool,
        backend: slot.backend,
        stage,
        age_ns: now.since_ns(slot.accepted_at),
        idle_ns: now.since_ns(session.active_at()),
        bytes: [slot.bytes[Side::Backend.index()], slot.bytes[Side::Client.index()]],
    }
}
