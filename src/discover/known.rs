//! What is known of a name, and when to ask again. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Answers hold at least so long...
const TTL_MIN: Duration = Duration::from_secs(1);
/// ...and at most so long.
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a failure; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What was found out about the addresses of one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum FamilyAnswer {
    /// At least one.
    Found {
        /// In no order.
        addresses: Vec<IpAddr>,
        /// How long that holds.
        ttl: Duration,
    },
    /// The servers know the answer: there are none.
    Absent,
    /// They do not say.
    Failed(String),
}

/// What was found out about a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resolution {
    pub v4: FamilyAnswer,
    pub v6: FamilyAnswer,
    /// The name that has the addresses: of the search list, or `None` for the hosts file.
    pub from: Option<Arc<str>>,
    /// Names that come before it and could not be looked up, and why.
    pub failed: Vec<(Arc<str>, String)>,
    /// Without addresses: where they were looked for.
    pub looked: String,
}

/// What is known after an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Learned {
    /// These addresses; `doubt` is why some of them may be old.
    Addresses {
        /// Both families.
        addresses: Vec<IpAddr>,
        /// How long that holds.
        ttl: Duration,
        /// `None` if both families answered.
        doubt: Option<String>,
    },
    /// The name has no addresses; that is what was asked, and who said so.
    Denied(String),
    /// Nothing new, for this reason: what was known before stays.
    Nothing(String),
}

/// The last good addresses of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// The name that they are of.
    from: Option<Arc<str>>,
}

impl Resolution {
    /// These families of that name.
    pub(crate) fn of(v4: FamilyAnswer, v6: FamilyAnswer, from: Option<Arc<str>>) -> Resolution {
        Resolution { v4, v6, from, failed: Vec::new(), looked: String::new() }
    }

    /// Neither family could be asked for.
    pub(crate) fn failed(why: &str) -> Resolution {
        Resolution::of(FamilyAnswer::Failed(why.to_owned()), FamilyAnswer::Failed(why.to_owned()), None)
    }

    /// There is no address.
    pub(crate) fn denied() -> Resolution {
        Resolution::of(FamilyAnswer::Absent, FamilyAnswer::Absent, None)
    }

    /// Whether it says that the name has no addresses.
    pub(crate) fn is_denial(&self) -> bool {
        self.v4 == FamilyAnswer::Absent && self.v6 == FamilyAnswer::Absent
    }

    /// Whether there is any address in it.
    pub(crate) fn has_addresses(&self) -> bool {
        [&self.v4, &self.v6].iter().any(|family| matches!(family, FamilyAnswer::Found { .. }))
    }
}

impl Known {
    /// Takes an answer. One without addresses changes nothing here: a server that has lost its data must not take the
    /// backends away. A family that failed stays as it was, and so does everything if the name that it is of could not
    /// be looked up: what a later name of the search list stands for is another server.
    pub(crate) fn on(&mut self, answer: Resolution) -> Learned {
        let said = |(name, why): &(Arc<str>, String)| format!("{}: {why}", name.trim_end_matches('.'));
        if !answer.has_addresses() {
            let looked = answer.looked.clone();
            return if answer.is_denial() { Learned::Denied(looked) } else { Learned::Nothing(looked) };
        }
        let is_known = !self.v4.is_empty() || !self.v6.is_empty();
        let ours = answer.failed.iter().find(|(name, _)| is_known && self.from.as_ref() == Some(name));
        if let Some(failed) = ours {
            return Learned::Nothing(said(failed));
        }
        if answer.from != self.from {
            *self = Known { from: answer.from, ..Known::default() };
        }
        let (mut ttl, mut doubt) = (TTL_MAX, answer.failed.first().map(said));
        for (family, known) in [(answer.v4, &mut self.v4), (answer.v6, &mut self.v6)] {
            match family {
                FamilyAnswer::Found { addresses, ttl: its } => (*known, ttl) = (addresses, ttl.min(its)),
                FamilyAnswer::Absent => known.clear(),
                FamilyAnswer::Failed(why) => _ = doubt.get_or_insert(why),
            }
        }
        Learned::Addresses { addresses: [&self.v4[..], &self.v6[..]].concat(), ttl: ttl.max(TTL_MIN), doubt }
    }
}

/// When to ask again.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    retry: Duration,
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace { retry: RETRY_MIN }
    }

    /// The pause after what was learned, give or take a tenth, so that many names do not stay in step; never below a
    /// second. `chance` is a random number.
    pub(crate) fn pause(&mut self, learned: &Learned, chance: u64) -> Duration {
        let base = match learned {
            Learned::Addresses { ttl, doubt: None, .. } => {
                self.retry = RETRY_MIN;
                *ttl
            }
            Learned::Addresses { ttl, .. } => self.again().min(*ttl),
            Learned::Denied(_) | Learned::Nothing(_) => self.again(),
        };
        let base = base.clamp(TTL_MIN, TTL_MAX);
        let spread_us = base.as_micros() as u64 / 5;
        let shift = Duration::from_micros(chance % (spread_us + 1));
        (base - base / 10 + shift).clamp(TTL_MIN, TTL_MAX)
    }

    fn again(&mut self) -> Duration {
        let pause = self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn found(last: &[u8], ttl: u64) -> FamilyAnswer {
        let addresses = last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        FamilyAnswer::Found { addresses, ttl: Duration::from_secs(ttl) }
    }

    fn six(last: u16) -> FamilyAnswer {
        FamilyAnswer::Found { addresses: vec![IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])], ttl: 60 * S }
    }

    fn failed() -> FamilyAnswer {
        FamilyAnswer::Failed("refused".into())
    }

    fn addresses(known: &mut Known, v4: FamilyAnswer, v6: FamilyAnswer) -> Option<Vec<String>> {
        match known.on(Resolution::of(v4, v6, None)) {
            Learned::Addresses { addresses, .. } => Some(addresses.iter().map(IpAddr::to_string).collect()),
            Learned::Denied(_) | Learned::Nothing(_) => None,
        }
    }

    #[test]
    fn what_is_not_said_is_kept_and_what_is_denied_is_not() {
        let mut known = Known::default();
        assert_eq!(addresses(&mut known, failed(), FamilyAnswer::Absent), None);
        assert_eq!(addresses(&mut known, found(&[1], 60), six(1)).unwrap(), ["10.0.0.1", "fd00::1"]);
        assert_eq!(addresses(&mut known, found(&[2], 60), failed()).unwrap(), ["10.0.0.2", "fd00::1"]);
        for nothing in [FamilyAnswer::Absent, failed()] {
            assert_eq!(addresses(&mut known, FamilyAnswer::Absent, nothing.clone()), None);
            assert_eq!(addresses(&mut known, nothing, FamilyAnswer::Absent), None);
        }
        assert_eq!(addresses(&mut known, failed(), six(2)).unwrap(), ["10.0.0.2", "fd00::2"], "all was kept");
        assert_eq!(addresses(&mut known, found(&[2], 60), FamilyAnswer::Absent).unwrap(), ["10.0.0.2"]);
    }

    #[test]
    fn what_a_later_name_stands_for_does_not_replace_what_is_known_of_an_earlier_one() {
        let mut known = Known::default();
        let mut of = |v4, v6, from: &str, failed: &[&str]| {
            let failed = failed.iter().map(|name| (Arc::from(*name), "SERVFAIL".to_owned())).collect();
            match known.on(Resolution { failed, ..Resolution::of(v4, v6, Some(from.into())) }) {
                Learned::Addresses { addresses, doubt, .. } => {
                    (addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "), doubt)
                }
                Learned::Nothing(why) => (String::new(), Some(why)),
                Learned::Denied(_) => panic!("none was denied"),
            }
        };
        let doubt = |name: &str| Some(format!("{name}: SERVFAIL"));
        assert_eq!(of(found(&[1], 60), six(1), "db.b.", &["db.a."]), ("10.0.0.1 fd00::1".into(), doubt("db.a")));
        assert_eq!(of(found(&[2], 60), failed(), "db.a.", &[]).0, "10.0.0.2", "no address of another name stays");
        assert_eq!(of(found(&[1], 60), six(1), "db.b.", &["db.a."]), (String::new(), doubt("db.a")));
        assert_eq!(of(found(&[3], 60), FamilyAnswer::Absent, "db.b.", &[]).0, "10.0.0.3", "the earlier one was denied");
        assert_eq!(of(found(&[4], 60), FamilyAnswer::Absent, "db.b.", &["db.a."]).0, "10.0.0.4", "it is of that name");
    }

    #[test]
    fn the_shorter_time_to_live_counts_within_its_bounds() {
        let ttl = |v4, v6| match Known::default().on(Resolution::of(v4, v6, None)) {
            Learned::Addresses { ttl, .. } => ttl,
            other => panic!("{other:?}"),
        };
        assert_eq!(ttl(found(&[1], 20), six(1)), 20 * S);
        assert_eq!(ttl(found(&[1], 0), FamilyAnswer::Absent), S);
        assert_eq!(ttl(found(&[1], 86_400), failed()), 300 * S);
    }

    proptest! {
        #[test]
        fn pauses_follow_the_answer(ttl in 0..100_000u64, chance: u64, failures in 0..12u32) {
            let mut pace = Pace::new();
            let near = |pause: Duration, base: Duration| {
                pause >= S.max(base - base / 10) && pause <= (base + base / 10).min(300 * S)
            };
            for failure in 0..failures {
                let pause = pace.pause(&Learned::Nothing(String::new()), chance);
                prop_assert!(near(pause, S * 2u32.pow(failure).min(30)), "{} failures: {:?}", failure, pause);
            }
            let addresses = |doubt| Learned::Addresses { addresses: vec![], ttl: Duration::from_secs(ttl), doubt };
            let held = Duration::from_secs(ttl.clamp(1, 300));
            let retry = S * 2u32.pow(failures.min(10)).min(30);
            let pause = pace.pause(&addresses(Some("x".into())), chance);
            prop_assert!(near(pause, held.min(retry)), "{:?}", pause);
            prop_assert!(near(pace.pause(&addresses(None), chance), held));
            prop_assert!(near(pace.pause(&Learned::Nothing(String::new()), chance), S), "it begins anew");
        }
    }
}
