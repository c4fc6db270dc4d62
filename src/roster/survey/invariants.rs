//! What holds of questions after each event, in builds with debug assertions: an answer is about places that were
//! looked at, and says no more than was asked for.

use super::{KILLS_A_SLICE, PLACES_A_SLICE, Slice, Survey, Surveys, What};

impl Surveys {
    /// However many questions there are, a look costs the same.
    pub(super) fn check_invariants(&self) {
        self.0.front().into_iter().chain(self.0.back()).for_each(Survey::check_invariants);
        let is_next = self.0.len() < 2;
        let waits = self.0.back().is_none_or(|last| is_next || last.next == last.first());
        assert!(waits, "a question was begun with before an older one was answered");
    }
}

impl Slice {
    pub(super) fn check_invariants(&self) {
        let survey = &self.survey;
        survey.check_invariants();
        assert!(survey.next <= self.stop && self.stop <= survey.end, "a slice goes beyond its end");
        assert!(self.stop - survey.next <= PLACES_A_SLICE, "a slice is too long");
        let killed = if survey.request.what == What::Kill { survey.answer.matching } else { 0 };
        let (most, before) = (self.killed_most, self.killed_most.checked_sub(KILLS_A_SLICE));
        assert!(killed <= most && before.is_some(), "a slice kills {killed} sessions, {most} at the most");
    }
}

impl Survey {
    /// Where it began.
    fn first(&self) -> u32 {
        self.request.filter.id.map_or(0, |id| id.place())
    }

    fn check_invariants(&self) {
        let (first, answer) = (self.first(), &self.answer);
        assert!(first <= self.next && self.next <= self.end, "{} is not within {first}..{}", self.next, self.end);
        let looked_at = u64::from(self.next - first);
        assert!(answer.matching <= looked_at, "{} are meant, at {looked_at} places", answer.matching);
        let most = match self.request.what {
            What::List { limit } => limit,
            What::Kill => 0,
        };
        let described = answer.records.len();
        assert!(described <= most && described as u64 <= answer.matching, "{described} are described");
    }
}
