//! What one pool makes of the checks of a target: rise and fall, and the role and lag that it wants.
//!
//! A role is certain, so it counts immediately: a backend without the wanted role is not fit, whatever its monitor
//! says. Lag moves up and down, so too much of it counts like a failed check; but a backend that only lags still
//! answers, and it can serve if nothing better is left. Several pools may name one target; each has its own subscriber,
//! and the target is checked once.

use super::monitor::{Monitor, Trend};
use super::{Facts, Role, State};

/// What a pool wants of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wants {
    /// The wanted role; `None` means any.
    pub role: Option<Role>,
    /// How far a replica can lag behind; 0 means any lag.
    pub lag_max_ns: u64,
    /// How many successes in a row bring it up.
    pub rise: u32,
    /// How many failures in a row take it down.
    pub fall: u32,
    /// Whether it counts as up before the first result. A pool that wants the primary waits for proof in any case.
    pub initial_up: bool,
}

/// Whether a backend can be used, and if not, why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckVerdict {
    /// It can be used. Before the first result that is what the configuration says.
    Fit,
    /// Nothing is known yet, and that is not enough.
    Unproven,
    /// Its checks fail.
    Failing,
    /// It has another role than the wanted one.
    WrongRole(Role),
    /// Its checks succeed and do not tell its role.
    NoRole,
    /// It is a replica that answers but lags too far behind.
    Stale,
    /// It says that it is about to stop.
    Leaving,
}

/// What one pool makes of the checks of a backend.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// What the pool wants.
    wants: Wants,
    /// Counts checks, of which one with too much lag has failed.
    monitor: Monitor,
    /// The same, but lag does not count.
    answers: Monitor,
    /// What the last successful check found; `None` before the first one.
    facts: Option<Facts>,
}

impl Subscriber {
    /// Nothing checked yet.
    pub fn new(wants: Wants) -> Subscriber {
        let monitor = Monitor::new(wants.rise, wants.fall, wants.initial_up);
        Subscriber { wants, answers: monitor.clone(), monitor, facts: None }
    }

    /// Wants something else from now on. What the checks have shown stays, unless another role is wanted: what is known
    /// may not tell that role, so everything starts again.
    pub fn change(&mut self, wants: Wants) {
        if wants.role != self.wants.role {
            *self = Subscriber::new(wants);
            return;
        }
        self.monitor.change(wants.rise, wants.fall, wants.initial_up);
        self.answers.change(wants.rise, wants.fall, wants.initial_up);
        self.wants = wants;
    }

    /// Takes what a check found, `None` if it failed. True if it counted as a success.
    pub fn on(&mut self, found: Option<Facts>) -> bool {
        if found.is_some() {
            self.facts = found;
        }
        let success = found.is_some_and(|facts| !self.lags(facts));
        self.monitor.on(success);
        self.answers.on(found.is_some());
        success
    }

    /// A check was refused: the server lives, and everything else is as it was known before. True if that counted as a
    /// success.
    pub fn on_refused(&mut self) -> bool {
        let success = self.facts.is_none_or(|facts| !self.lags(facts));
        self.monitor.on(success);
        self.answers.on(true);
        success
    }

    /// How far behind it is, in nanoseconds. A replica that does not know, or has no primary to follow, is the last of
    /// all.
    pub fn staleness_ns(&self) -> u64 {
        let facts = self.facts.unwrap_or_default();
        facts.lag_ns.filter(|_| !facts.is_cut_off).unwrap_or(u64::MAX)
    }

    /// Whether it lags too far behind, does not know how far, or has no primary to follow. A primary never lags.
    fn lags(&self, facts: Facts) -> bool {
        let Wants { role, lag_max_ns, .. } = self.wants;
        if facts.is_cut_off && role == Some(Role::Replica) {
            return true;
        }
        if lag_max_ns == 0 || facts.role == Some(Role::Primary) || (role.is_some() && facts.role != role) {
            return false;
        }
        facts.lag_ns.is_none_or(|lag_ns| lag_ns > lag_max_ns)
    }

    /// Whether the backend can be used, as far as its checks tell.
    pub fn verdict(&self) -> CheckVerdict {
        if self.is_unchecked() {
            let is_enough = self.wants.initial_up && self.wants.role != Some(Role::Primary);
            return if is_enough { CheckVerdict::Fit } else { CheckVerdict::Unproven };
        }
        let role = self.facts.and_then(|facts| facts.role);
        let is_leaving = self.facts.is_some_and(|facts| facts.is_leaving);
        match (self.monitor.state(), self.wants.role, role) {
            (State::Up, None, _) if is_leaving => CheckVerdict::Leaving,
            (State::Up, None, _) => CheckVerdict::Fit,
            (State::Up, Some(wanted), Some(role)) if role == wanted => CheckVerdict::Fit,
            (State::Up, Some(_), Some(role)) => CheckVerdict::WrongRole(role),
            (State::Up, Some(_), None) => CheckVerdict::NoRole,
            (_, Some(Role::Replica), Some(Role::Replica)) if self.answers.state() == State::Up => CheckVerdict::Stale,
            _ => CheckVerdict::Failing,
        }
    }

    /// True exactly before the first result.
    pub fn is_unchecked(&self) -> bool {
        self.monitor.trend() == Trend::Unknown
    }

    /// What the last check that succeeded found.
    pub fn facts(&self) -> Option<Facts> {
        self.facts
    }

    /// What it wants.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// What the time to the next check depends on. `in_use` says that the backend is up, all things considered; one
    /// that waits for its role is checked as often as one that is down.
    pub fn trend(&self, in_use: bool) -> Trend {
        match self.monitor.trend() {
            Trend::Up if !in_use => Trend::Down,
            trend => trend,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTS: Wants = Wants { role: None, lag_max_ns: 0, rise: 2, fall: 3, initial_up: true };

    fn facts(role: Option<Role>, lag_ns: Option<u64>) -> Option<Facts> {
        Some(Facts { role, lag_ns, ..Facts::default() })
    }

    /// Whether it is fit after `results`, by the words of the contract.
    fn model(wants: Wants, results: &[Option<Facts>]) -> bool {
        if results.is_empty() {
            return wants.initial_up && wants.role != Some(Role::Primary);
        }
        let counts = |found: &Option<Facts>| match found {
            Some(Facts { role: Some(Role::Replica), lag_ns, .. }) if wants.role != Some(Role::Primary) => {
                wants.lag_max_ns == 0 || lag_ns.is_some_and(|lag_ns| lag_ns <= wants.lag_max_ns)
            }
            found => found.is_some(),
        };
        let results: Vec<(bool, _)> = results.iter().map(|found| (counts(found), *found)).collect();
        // The first result decides, then as many in a row as configured.
        let mut up = results[0].0;
        for end in 1..=results.len() {
            let last = results[end - 1].0;
            let in_a_row = results[..end].iter().rev().take_while(|(success, _)| *success == last).count();
            if in_a_row >= (if last { wants.rise } else { wants.fall }) as usize {
                up = last;
            }
        }
        let role = results.iter().rev().find_map(|(_, found)| *found).and_then(|facts| facts.role);
        up && (wants.role.is_none() || role == wants.role)
    }

    #[test]
    fn every_sequence_of_results_ends_where_the_contract_says() {
        let alphabet = [
            None,
            facts(Some(Role::Primary), None),
            facts(Some(Role::Replica), Some(5)),
            facts(Some(Role::Replica), Some(11)),
            facts(Some(Role::Replica), None),
        ];
        for role in [None, Some(Role::Primary), Some(Role::Replica)] {
            for (rise, fall) in [(1, 1), (2, 3), (3, 2)] {
                for initial_up in [true, false] {
                    for lag_max_ns in [0, 10] {
                        let wants = Wants { role, lag_max_ns, rise, fall, initial_up };
                        all_sequences(&alphabet, 6, &mut Vec::new(), &mut |results| {
                            let mut subscriber = Subscriber::new(wants);
                            results.iter().for_each(|found| _ = subscriber.on(*found));
                            let fit = subscriber.verdict() == CheckVerdict::Fit;
                            assert_eq!(fit, model(wants, results), "{wants:?}: {results:?}");
                        });
                    }
                }
            }
        }
    }

    fn all_sequences<T: Copy>(alphabet: &[T], length: usize, so_far: &mut Vec<T>, check: &mut impl FnMut(&[T])) {
        check(so_far);
        if so_far.len() < length {
            for &next in alphabet {
                so_far.push(next);
                all_sequences(alphabet, length, so_far, check);
                so_far.pop();
            }
        }
    }

    #[test]
    fn a_role_counts_at_once_and_says_which() {
        let mut subscriber = Subscriber::new(Wants { role: Some(Role::Primary), ..WANTS });
        assert_eq!(subscriber.verdict(), CheckVerdict::Unproven, "whatever `initial` says");
        subscriber.on(facts(Some(Role::Replica), None));
        assert_eq!(subscriber.verdict(), CheckVerdict::WrongRole(Role::Replica));
        subscriber.on(facts(Some(Role::Primary), None));
        assert_eq!(subscriber.verdict(), CheckVerdict::Fit);
        subscriber.on(facts(None, None));
        assert_eq!(subscriber.verdict(), CheckVerdict::NoRole);
    }

    #[test]
    fn what_waits_for_its_role_is_looked_at_as_if_it_were_down() {
        let mut subscriber = Subscriber::new(Wants { role: Some(Role::Primary), ..WANTS });
        assert_eq!(subscriber.trend(false), Trend::Unknown);
        subscriber.on(facts(Some(Role::Replica), None));
        assert_eq!(subscriber.trend(false), Trend::Down);
        assert_eq!(subscriber.trend(true), Trend::Up);
        subscriber.on(None);
        assert_eq!(subscriber.trend(true), Trend::Changing);
    }

    #[test]
    fn a_replica_that_is_cut_off_is_none_to_read_from_and_certainly_no_primary() {
        let cut_off = Some(Facts { role: Some(Role::Replica), is_cut_off: true, ..Facts::default() });
        let wanting = |role| Subscriber::new(Wants { role, initial_up: false, ..WANTS });
        let mut reader = wanting(Some(Role::Replica));
        reader.on(facts(Some(Role::Replica), None));
        for expected in [CheckVerdict::Fit, CheckVerdict::Fit, CheckVerdict::Stale] {
            assert!(!reader.on(cut_off));
            assert_eq!(reader.verdict(), expected, "a failure among others");
        }
        assert_eq!(reader.staleness_ns(), u64::MAX);
        for expected in [CheckVerdict::Stale, CheckVerdict::Stale, CheckVerdict::Failing] {
            assert!(!reader.on(None));
            assert_eq!(reader.verdict(), expected, "one that does not answer is not stale but failing");
        }
        let mut writer = wanting(Some(Role::Primary));
        writer.on(facts(Some(Role::Primary), None));
        writer.on(cut_off);
        assert_eq!(writer.verdict(), CheckVerdict::WrongRole(Role::Replica), "at once");
        let mut anybody = wanting(None);
        assert!(anybody.on(cut_off));
    }

    #[test]
    fn a_refused_check_proves_life_and_changes_nothing_else() {
        let mut reader = Subscriber::new(Wants { role: Some(Role::Replica), lag_max_ns: 10, fall: 1, ..WANTS });
        assert!(reader.on(facts(Some(Role::Replica), Some(5))));
        assert!(reader.on_refused());
        assert_eq!(reader.verdict(), CheckVerdict::Fit, "the last known role stays");
        assert!(!reader.on(facts(Some(Role::Replica), Some(11))) && !reader.on_refused());
        assert_eq!((reader.verdict(), reader.staleness_ns()), (CheckVerdict::Stale, 11));
        let mut anybody = Subscriber::new(Wants { rise: 1, fall: 1, ..WANTS });
        anybody.on(None);
        assert!(anybody.on_refused());
        assert_eq!(anybody.verdict(), CheckVerdict::Fit, "it lives");
        let mut writer = Subscriber::new(Wants { role: Some(Role::Primary), ..WANTS });
        assert!(writer.on_refused());
        assert_eq!(writer.verdict(), CheckVerdict::NoRole);
    }

    #[test]
    fn one_that_is_about_to_stop_is_neither_fit_nor_failing() {
        let mut subscriber = Subscriber::new(WANTS);
        subscriber.on(facts(None, None));
        subscriber.on(Some(Facts { is_leaving: true, ..Facts::default() }));
        assert_eq!(subscriber.verdict(), CheckVerdict::Leaving, "at once");
        subscriber.on(None);
        assert_eq!(subscriber.verdict(), CheckVerdict::Leaving);
        subscriber.on(facts(None, None));
        assert_eq!(subscriber.verdict(), CheckVerdict::Fit, "it has thought better of it");
    }
}
