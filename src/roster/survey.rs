//! How a worker answers what it was asked: in slices, so that one with ten thousand sessions serves them on between two
//! looks at some of them. Pure: the worker says which session is at a place, and ends those that it is told to end.

#[cfg(debug_assertions)]
mod invariants;

use std::collections::VecDeque;

use super::{Answer, RosterRecord, RosterRequest, SessionId, What};
use crate::base::address::Address;
use crate::base::id::BackendId;

/// Places that are looked at in one slice; some 100 µs where each client is asked for.
const PLACES_A_SLICE: u32 = 256;
/// Sessions that are ended in one slice: what is cancelled must not pile up in the kernel (`worker::renew`).
const KILLS_A_SLICE: u64 = 4;

/// Questions that were not answered yet, oldest first.
#[derive(Default)]
pub struct Surveys(VecDeque<Survey>);

/// One question, and how far it has come.
struct Survey {
    request: RosterRequest,
    /// The places to look at: from the next one to the last.
    next: u32,
    end: u32,
    answer: Answer,
}

/// What is looked at in one turn: part of the oldest question.
pub struct Slice {
    survey: Survey,
    /// Where this slice ends.
    stop: u32,
    /// How many may have been killed when it ends.
    killed_most: u64,
}

/// What is to be done with a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Surveyed {
    /// Nothing: it is not meant.
    Passed,
    /// Nothing more: it is meant and was counted.
    Counted,
    /// Tell [`Slice::list`] of it.
    Listed,
    /// End it.
    Killed,
}

impl Surveys {
    /// Whether there is something to do without waiting for an event.
    #[inline]
    pub fn are_under_way(&self) -> bool {
        !self.0.is_empty()
    }

    /// Begins with a question. Every session is at a place below `places`.
    pub fn begin(&mut self, request: RosterRequest, places: u32) {
        let (next, end) = match request.filter.id {
            Some(id) => (id.place(), id.place().saturating_add(1)),
            None => (0, places),
        };
        self.0.push_back(Survey { request, next, end, answer: Answer::default() });
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// The next slice; it goes back with [`Surveys::end_slice`].
    pub fn begin_slice(&mut self) -> Option<Slice> {
        let survey = self.0.pop_front()?;
        let stop = survey.next.saturating_add(PLACES_A_SLICE).min(survey.end);
        let killed_most = survey.answer.matching + KILLS_A_SLICE;
        Some(Slice { survey, stop, killed_most })
    }

    /// Answers, if that slice was the last one.
    pub fn end_slice(&mut self, slice: Slice) {
        #[cfg(debug_assertions)]
        slice.check_invariants();
        let survey = slice.survey;
        if survey.next < survey.end {
            self.0.push_front(survey);
        } else {
            (survey.request.reply)(survey.answer);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }
}

impl Slice {
    /// The next place to look at; `None` at the end of the slice.
    pub fn next_place(&mut self) -> Option<u32> {
        let survey = &mut self.survey;
        let has_killed_enough = survey.request.what == What::Kill && survey.answer.matching >= self.killed_most;
        if survey.next >= self.stop || has_killed_enough {
            return None;
        }
        survey.next += 1;
        let place = survey.next - 1;
        #[cfg(debug_assertions)]
        self.check_invariants();
        Some(place)
    }

    /// At that place is a session which holds that backend and may be ending already. The client is asked for only if
    /// it matters.
    pub fn found(
        &mut self,
        id: SessionId,
        backend: Option<BackendId>,
        is_ending: bool,
        client: impl FnOnce() -> Option<Address>,
    ) -> Surveyed {
        let (request, answer) = (&self.survey.request, &mut self.survey.answer);
        let is_other = request.filter.id.is_some_and(|wanted| wanted != id);
        let is_killed_already = request.what == What::Kill && is_ending;
        if is_other || is_killed_already || !request.filter.matches(backend, client) {
            return Surveyed::Passed;
        }
        answer.matching += 1;
        match request.what {
            What::Kill => Surveyed::Killed,
            What::List { limit } if answer.records.len() < limit => Surveyed::Listed,
            What::List { .. } => Surveyed::Counted,
        }
    }

    /// Describes the session that was found last.
    pub fn list(&mut self, record: RosterRecord) {
        self.survey.answer.records.push(record);
        #[cfg(debug_assertions)]
        self.check_invariants();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::base::id::{ListenerId, PoolId};
    use crate::roster::{Filter, Stage};

    const PLACES: u32 = 1000;

    /// Answers a question to a worker that has a session at every place, each on the backend `place % 2`: places that
    /// were looked at by slice, and the answer.
    fn asked(what: What, filter: Filter) -> (Vec<usize>, Answer) {
        let (told, answer) = mpsc::channel();
        let reply = Box::new(move |answer| told.send(answer).unwrap());
        let (mut surveys, mut slices, mut ended) = (Surveys::default(), Vec::new(), [false; PLACES as usize]);
        surveys.begin(RosterRequest { filter, what, reply }, PLACES);
        while let Some(mut slice) = surveys.begin_slice() {
            let mut looked = 0;
            while let Some(place) = slice.next_place() {
                looked += 1;
                let (id, backend) = (SessionId::new(3, place, 7), BackendId(place % 2));
                let client = || panic!("nobody asked for the client");
                match slice.found(id, Some(backend), ended[place as usize], client) {
                    Surveyed::Killed => ended[place as usize] = true,
                    Surveyed::Listed => slice.list(record(id)),
                    Surveyed::Passed | Surveyed::Counted => {}
                }
            }
            slices.push(looked);
            surveys.end_slice(slice);
        }
        assert!(!surveys.are_under_way());
        (slices, answer.try_recv().expect("an answer"))
    }

    fn record(id: SessionId) -> RosterRecord {
        RosterRecord {
            id,
            client: None,
            listener: ListenerId(0),
            pool: PoolId(0),
            backend: None,
            backend_local: None,
            stage: Stage::Open,
            age_ns: 0,
            idle_ns: 0,
            bytes: [0; 2],
        }
    }

    #[test]
    fn a_list_sees_every_place_once_in_slices_and_describes_no_more_than_was_asked_for() {
        let (slices, answer) = asked(What::List { limit: 10 }, Filter::default());
        assert_eq!(slices, [256, 256, 256, 232]);
        let places: Vec<u32> = answer.records.iter().map(|record| record.id.place()).collect();
        assert_eq!((answer.matching, places), (u64::from(PLACES), (0..10).collect()));
    }

    #[test]
    fn a_kill_ends_a_few_in_a_slice_and_each_once() {
        let filter = Filter { backends: Some(vec![BackendId(1)]), ..Filter::default() };
        let (slices, answer) = asked(What::Kill, filter);
        assert_eq!(answer.matching, u64::from(PLACES / 2));
        assert!(slices.iter().all(|&looked| looked <= 64) && slices.iter().sum::<usize>() == PLACES as usize);
    }

    #[test]
    fn one_session_is_looked_for_at_its_place_only() {
        let id = |generation| Filter { id: Some(SessionId::new(3, 70, generation)), ..Filter::default() };
        let (slices, answer) = asked(What::Kill, id(7));
        assert_eq!((slices, answer.matching), (vec![1], 1));
        let (_, answer) = asked(What::Kill, id(8));
        assert_eq!(answer.matching, 0, "the place has another tenant");
    }

    #[cfg(debug_assertions)]
    #[test]
    fn an_answer_about_places_that_were_not_looked_at_is_noticed() {
        let noticed = |what: What, spoil: fn(&mut Survey)| {
            let mut surveys = Surveys::default();
            surveys.begin(RosterRequest { filter: Filter::default(), what, reply: Box::new(drop) }, PLACES);
            let mut slice = surveys.begin_slice().unwrap();
            (0..10).for_each(|_| _ = slice.next_place());
            spoil(&mut slice.survey);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| surveys.end_slice(slice))).is_err()
        };
        let list = What::List { limit: 1 };
        assert!(!noticed(list, |_| {}) && !noticed(What::Kill, |survey| survey.answer.matching = 4));
        assert!(noticed(list, |survey| survey.next = PLACES + 1), "beyond the last place");
        assert!(noticed(list, |survey| survey.answer.matching = 11), "more than there can be");
        let described = |survey: &mut Survey| survey.answer.records.push(record(SessionId::new(3, 0, 7)));
        assert!(noticed(list, described), "described, and not counted");
        assert!(noticed(What::Kill, |survey| survey.answer.matching = 5), "too many in one slice");
    }
}
