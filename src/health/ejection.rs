//! Passive ejection: failed connects and hang-ups that real sessions meet take a backend out for a while.
//!
//! The window slides: what counts is whether the last `failures` failed connects (or the last `hangups` sessions that
//! the backend ended within a second without sending a byte) lie within `window`, not whether some counter was reset in
//! between. Each further ejection lasts twice as long, up to five minutes; a backend that has been back for as long as
//! its last ejection lasted starts again with the first duration. Source: Envoy's outlier detection; its guard on how
//! many backends can go together is [`Limit`].

use std::collections::VecDeque;

use crate::base::time::Moment;

/// No ejection lasts longer, unless the first one is configured to.
const DURATION_MAX_NS: u64 = 300_000_000_000;

/// What is configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EjectionRules {
    /// How many failed connects eject; 0 means that they never do.
    pub failures: u32,
    /// How many sessions that the backend ended within a second without a byte eject; 0 means that they never do.
    pub hangups: u32,
    /// How far back they count.
    pub window_ns: u64,
    /// How long the first ejection lasts.
    pub duration_ns: u64,
}

/// What a real session can meet at a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// A connect failed.
    Connect,
    /// It accepted, and ended the session within a second without sending a byte.
    HangUp,
}

impl Trouble {
    /// Both.
    pub const ALL: [Trouble; 2] = [Trouble::Connect, Trouble::HangUp];
}

/// What failed connects and hang-ups of one backend add up to.
#[derive(Clone, Debug)]
pub struct Ejector {
    /// What is configured.
    rules: EjectionRules,
    /// By kind of trouble: when it happened last, oldest first; never more entries than the rule counts.
    troubled_at: [VecDeque<Moment>; 2],
    /// Present exactly while the backend is ejected.
    ejected: Option<Span>,
    /// The ejection before, if it is over.
    last: Option<Span>,
}

/// An ejection.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// When it began.
    begun: Moment,
    /// When it ends; once it is over, when it ended.
    end: Moment,
    /// How long it was meant to last.
    duration_ns: u64,
    /// Checks cannot tell whether its cause is gone.
    is_unseen_by_checks: bool,
}

impl Ejector {
    /// Nothing has failed yet.
    pub fn new(rules: EjectionRules) -> Ejector {
        Ejector { rules, troubled_at: Default::default(), ejected: None, last: None }
    }

    /// Uses other rules from now on. An ejection that is under way keeps its duration.
    pub fn change(&mut self, rules: EjectionRules) {
        self.rules = rules;
        for trouble in Trouble::ALL {
            let most = self.most(trouble);
            let at = &mut self.troubled_at[trouble as usize];
            at.drain(..at.len().saturating_sub(most));
        }
    }

    /// How many of this kind eject.
    fn most(&self, trouble: Trouble) -> usize {
        match trouble {
            Trouble::Connect => self.rules.failures as usize,
            Trouble::HangUp => self.rules.hangups as usize,
        }
    }

    /// Counts trouble. True if there is enough of it to eject the backend.
    pub fn met(&mut self, trouble: Trouble, count: u64, now: Moment) -> bool {
        let most = self.most(trouble);
        let at = &mut self.troubled_at[trouble as usize];
        for _ in 0..count.min(most as u64) {
            if at.len() == most {
                at.pop_front();
            }
            at.push_back(now);
        }
        let first = at.front().filter(|_| at.len() == most);
        first.is_some_and(|first| now.since_ns(*first) <= self.rules.window_ns)
    }

    /// Ejects the backend. Returns how long that will last.
    pub fn eject(&mut self, trouble: Trouble, now: Moment) -> u64 {
        let EjectionRules { duration_ns, .. } = self.rules;
        let most_ns = DURATION_MAX_NS.max(duration_ns);
        let again = self.last.filter(|last| now.since_ns(last.end) < last.duration_ns);
        let duration_ns = again.map_or(duration_ns, |last| last.duration_ns.saturating_mul(2).min(most_ns));
        let is_unseen_by_checks = trouble == Trouble::HangUp;
        self.ejected = Some(Span { begun: now, end: now.after_ns(duration_ns), duration_ns, is_unseen_by_checks });
        self.forget();
        duration_ns
    }

    /// Forgets all trouble so far.
    fn forget(&mut self) {
        self.troubled_at.iter_mut().for_each(VecDeque::clear);
    }

    /// Ends the ejection, if there is one, and forgets all trouble so far. True if there was one.
    pub fn restore(&mut self, now: Moment) -> bool {
        self.forget();
        let Some(span) = self.ejected.take() else { return false };
        self.last = Some(Span { end: now.min(span.end), ..span });
        true
    }

    /// A check has succeeded. If it was started after the ejection and can tell whether the cause is gone, it ends the
    /// ejection. True if it did.
    pub fn checked(&mut self, begun: Moment, now: Moment) -> bool {
        self.ejected.is_some_and(|span| begun > span.begun && !span.is_unseen_by_checks) && self.restore(now)
    }

    /// Ends the ejection if its time is over. True if it did.
    pub fn on_time(&mut self, now: Moment) -> bool {
        self.ejected.is_some_and(|span| now >= span.end) && self.restore(now)
    }

    /// When the ejection ends; `None` exactly while there is none.
    pub fn until(&self) -> Option<Moment> {
        self.ejected.map(|span| span.end)
    }
}

/// How many backends of a pool can be ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Of its backends that are no backups, in per cent.
    pub percent_max: u32,
    /// How many those are.
    pub backends: usize,
    /// How many of them are ejected.
    pub ejected: usize,
    /// Backends that take sessions now, backups counted, with the one in question.
    pub usable: usize,
}

impl Limit {
    /// Whether one more can be ejected: never the last usable one, and of those that are no backups at least one.
    pub fn allows(&self, is_backup: bool) -> bool {
        let most = (self.backends * self.percent_max as usize / 100).max(1);
        self.usable > 1 && (is_backup || self.ejected < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;
    const RULES: EjectionRules = EjectionRules { failures: 3, hangups: 5, window_ns: 10 * S, duration_ns: 10 * S };

    fn at(s: u64) -> Moment {
        Moment(s * S)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Against a list of every failure there ever was.
        #[test]
        fn it_is_ejected_exactly_when_so_many_lie_within_the_window(
            failures in 1..6u32, window_s in 1..20u64, steps in prop::collection::vec((0..8u64, 1..4u64), 1..40)
        ) {
            let rules = EjectionRules { failures, hangups: failures, window_ns: window_s * S, duration_ns: S };
            let mut ejector = Ejector::new(rules);
            let (mut now, mut all) = (at(100), Vec::new());
            for (pause_s, count) in steps {
                now = now.after_ns(pause_s * S);
                all.extend((0..count).map(|_| now));
                let within = all.iter().filter(|failed| now.since_ns(**failed) <= window_s * S).count();
                for trouble in Trouble::ALL {
                    prop_assert_eq!(ejector.met(trouble, count, now), within >= failures as usize, "{:?}", all);
                    prop_assert!(ejector.troubled_at[trouble as usize].len() <= failures as usize);
                }
            }
        }

        /// No sequence makes an ejection shorter than the first or longer than the longest, and each ends in time.
        #[test]
        fn durations_double_while_it_does_not_stay_well(gaps_s in prop::collection::vec(0..700u64, 1..30)) {
            let mut ejector = Ejector::new(RULES);
            let (mut now, mut expected_ns, mut last_end) = (at(100), 0, None::<Moment>);
            for gap_s in gaps_s {
                let stayed_well = last_end.is_none_or(|end| now.since_ns(end) >= expected_ns);
                expected_ns = if stayed_well { 10 * S } else { (expected_ns * 2).min(300 * S) };
                prop_assert_eq!(ejector.eject(Trouble::Connect, now), expected_ns);
                prop_assert!(!ejector.on_time(Moment(now.0 + expected_ns - 1)));
                now = now.after_ns(expected_ns);
                prop_assert_eq!(ejector.until(), Some(now));
                prop_assert!(ejector.on_time(now) && ejector.until().is_none());
                last_end = Some(now);
                now = now.after_ns(gap_s * S);
            }
        }
    }

    #[test]
    fn a_good_check_ends_it_only_if_it_began_afterwards() {
        let mut ejector = Ejector::new(RULES);
        assert!(!ejector.checked(at(1), at(2)), "nothing to end");
        ejector.eject(Trouble::Connect, at(5));
        assert!(!ejector.checked(at(4), at(6)), "it may have seen the backend before it failed");
        assert!(!ejector.checked(at(5), at(6)));
        assert!(ejector.checked(at(6), at(7)));
        assert_eq!(ejector.until(), None);
        assert!(!ejector.met(Trouble::Connect, 2, at(8)), "what failed before it came back does not count again");
        assert_eq!(
            ejector.eject(Trouble::Connect, at(9)),
            20 * S,
            "ended early, and not well for as long as it should have lasted"
        );
    }

    /// A backend may answer its checks and hang up on all other clients.
    #[test]
    fn a_good_check_does_not_end_an_ejection_for_hang_ups() {
        let mut ejector = Ejector::new(RULES);
        assert!(!ejector.met(Trouble::HangUp, 4, at(5)) && !ejector.met(Trouble::Connect, 2, at(5)), "each by itself");
        assert!(ejector.met(Trouble::HangUp, 1, at(5)));
        ejector.eject(Trouble::HangUp, at(5));
        assert!(!ejector.checked(at(6), at(7)));
        assert!(!ejector.on_time(at(14)) && ejector.on_time(at(15)));
    }

    #[test]
    fn what_is_turned_off_ejects_nobody() {
        let mut ejector = Ejector::new(EjectionRules { failures: 0, hangups: 0, ..RULES });
        assert!(Trouble::ALL.into_iter().all(|trouble| !ejector.met(trouble, 1000, at(1))));
    }

    #[test]
    fn a_first_duration_above_the_longest_is_kept() {
        let mut ejector = Ejector::new(EjectionRules { duration_ns: 600 * S, ..RULES });
        assert_eq!(ejector.eject(Trouble::Connect, at(1)), 600 * S);
        ejector.on_time(at(601));
        assert_eq!(ejector.eject(Trouble::Connect, at(602)), 600 * S);
    }

    #[test]
    fn one_may_always_go_and_the_last_usable_one_never() {
        let allows =
            |percent_max, backends, ejected, usable| Limit { percent_max, backends, ejected, usable }.allows(false);
        assert!(allows(0, 2, 0, 2), "at least one");
        assert!(!allows(0, 2, 1, 2));
        assert!(allows(50, 4, 1, 3) && !allows(50, 4, 2, 2), "half of four");
        assert!(allows(50, 5, 1, 4) && !allows(50, 5, 2, 3), "rounded down");
        assert!(!allows(100, 3, 2, 1), "the last usable one stays");
        assert!(allows(100, 1, 0, 2), "a backup is left");
        let full = Limit { percent_max: 50, backends: 4, ejected: 2, usable: 3 };
        assert!(full.allows(true), "backups have no share in it");
    }
}
