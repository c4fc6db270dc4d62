//! What is known of a name, and when to ask again. Pure.
//!
//! A [`Resolution`] is one answer with its failures; [`Known`] holds the last good addresses; [`Learned`] says what
//! changes. The rule behind all of it: a server that cannot say anything, or has lost its data, must not take backends
//! away.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The shortest time that an answer holds, whatever its time to live.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time that an answer holds, whatever its time to live.
const TTL_MAX: Duration = Duration::from_secs(300);
/// The pause after a failure: this at first, then doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The answer about one family of addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum FamilyAnswer {
    /// There are addresses.
    Found {
        /// At least one, in no order.
        addresses: Vec<IpAddr>,
        /// How long the answer holds.
        ttl: Duration,
    },
    /// The servers know the name, and it has no address of this family.
    Absent,
    /// The servers do not say, for this reason.
    Failed(String),
}

/// The answer about a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resolution {
    /// About IPv4.
    pub v4: FamilyAnswer,
    /// About IPv6.
    pub v6: FamilyAnswer,
    /// The name that has the addresses, which may come from the search list; `None` if the hosts file has them.
    pub from: Option<Arc<str>>,
    /// Names before it in the search list that could not be looked up, and why.
    pub failed: Vec<(Arc<str>, String)>,
    /// If there are no addresses: where they were looked for, in words.
    pub looked: String,
}

/// What is known after an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Learned {
    /// The name has these addresses.
    Addresses {
        /// Both families.
        addresses: Vec<IpAddr>,
        /// How long they hold.
        ttl: Duration,
        /// Why some of them may be old; `None` if both families answered.
        doubt: Option<String>,
    },
    /// The name has no addresses. The text says what was asked, and by which servers.
    Denied(String),
    /// Nothing new, for this reason. What was known before stays.
    Nothing(String),
}

/// The last good addresses of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Its IPv4 addresses.
    v4: Vec<IpAddr>,
    /// Its IPv6 addresses.
    v6: Vec<IpAddr>,
    /// The name that has them (see [`Resolution::from`]).
    from: Option<Arc<str>>,
}

impl Resolution {
    /// An answer about both families of a name.
    pub(crate) fn of(v4: FamilyAnswer, v6: FamilyAnswer, from: Option<Arc<str>>) -> Resolution {
        Resolution { v4, v6, from, failed: Vec::new(), looked: String::new() }
    }

    /// An answer that says nothing about either family, for this reason.
    pub(crate) fn failed(why: &str) -> Resolution {
        Resolution::of(FamilyAnswer::Failed(why.to_owned()), FamilyAnswer::Failed(why.to_owned()), None)
    }

    /// An answer that there is no address.
    pub(crate) fn denied() -> Resolution {
        Resolution::of(FamilyAnswer::Absent, FamilyAnswer::Absent, None)
    }

    /// Whether it says that the name has no addresses.
    pub(crate) fn is_denial(&self) -> bool {
        self.v4 == FamilyAnswer::Absent && self.v6 == FamilyAnswer::Absent
    }

    /// Whether it has any address.
    pub(crate) fn has_addresses(&self) -> bool {
        [&self.v4, &self.v6].iter().any(|family| matches!(family, FamilyAnswer::Found { .. }))
    }
}

impl Known {
    /// Takes an answer. An answer without addresses changes nothing here. A family that failed keeps its addresses.
    /// Nothing changes either if the known addresses belong to a name that could not be looked up this time, because a
    /// later name of the search list stands for another server.
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

/// Decides when to ask again.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// The next pause after a failure.
    retry: Duration,
}

impl Pace {
    /// At the beginning, with the shortest pause.
    pub(crate) fn new() -> Pace {
        Pace { retry: RETRY_MIN }
    }

    /// The pause after what was learned, plus or minus a tenth, so that many names do not stay in step; at least a
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

    /// The pause after a failure; the next one is twice as long.
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
