//! What is known of a name, and when to ask again. Pure.

use std::net::IpAddr;
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
pub(in crate::control) enum Family {
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
pub(in crate::control) struct Answer {
    pub v4: Family,
    pub v6: Family,
}

/// What is known after an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) enum Learned {
    /// These addresses; `doubt` is why some of them may be old.
    Addresses {
        /// Both families.
        addresses: Vec<IpAddr>,
        /// How long that holds.
        ttl: Duration,
        /// `None` if both families answered.
        doubt: Option<String>,
    },
    /// Nothing new, for this reason: what was known before stays.
    Nothing(String),
}

/// The last good addresses of a name.
#[derive(Clone, Debug, Default)]
pub(in crate::control) struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Answer {
    /// Neither family could be asked for.
    pub(in crate::control) fn failed(why: &str) -> Answer {
        Answer { v4: Family::Failed(why.to_owned()), v6: Family::Failed(why.to_owned()) }
    }

    /// Whether it says that the name has no addresses.
    pub(in crate::control) fn is_denial(&self) -> bool {
        self.v4 == Family::Absent && self.v6 == Family::Absent
    }

    /// Whether there is any address in it.
    fn has_addresses(&self) -> bool {
        [&self.v4, &self.v6].iter().any(|family| matches!(family, Family::Found { .. }))
    }
}

impl Known {
    /// Takes an answer. One without addresses changes nothing: a server that has lost its data must not take the
    /// backends away. A family that failed stays as it was.
    pub(in crate::control) fn on(&mut self, answer: Answer) -> Learned {
        let (mut ttl, mut doubt) = (TTL_MAX, None);
        let found = answer.has_addresses();
        for (family, known) in [(answer.v4, &mut self.v4), (answer.v6, &mut self.v6)] {
            match family {
                Family::Found { addresses, ttl: its } => (*known, ttl) = (addresses, ttl.min(its)),
                Family::Absent if found => known.clear(),
                Family::Absent => {}
                Family::Failed(why) => _ = doubt.get_or_insert(why),
            }
        }
        if !found {
            return Learned::Nothing(doubt.unwrap_or_else(|| "it has no address in DNS".to_owned()));
        }
        Learned::Addresses { addresses: [&self.v4[..], &self.v6[..]].concat(), ttl: ttl.max(TTL_MIN), doubt }
    }
}

/// When to ask again.
#[derive(Clone, Debug)]
pub(in crate::control) struct Pace {
    retry: Duration,
}

impl Pace {
    pub(in crate::control) fn new() -> Pace {
        Pace { retry: RETRY_MIN }
    }

    /// The pause after what was learned, give or take a tenth, so that many names do not stay in step; never below a
    /// second. `chance` is a random number.
    pub(in crate::control) fn pause(&mut self, learned: &Learned, chance: u64) -> Duration {
        let base = match learned {
            Learned::Addresses { ttl, doubt: None, .. } => {
                self.retry = RETRY_MIN;
                *ttl
            }
            Learned::Addresses { ttl, .. } => self.again().min(*ttl),
            Learned::Nothing(_) => self.again(),
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

    fn found(last: &[u8], ttl: u64) -> Family {
        let addresses = last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        Family::Found { addresses, ttl: Duration::from_secs(ttl) }
    }

    fn six(last: u16) -> Family {
        Family::Found { addresses: vec![IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])], ttl: 60 * S }
    }

    fn failed() -> Family {
        Family::Failed("refused".into())
    }

    fn addresses(known: &mut Known, v4: Family, v6: Family) -> Option<Vec<String>> {
        match known.on(Answer { v4, v6 }) {
            Learned::Addresses { addresses, .. } => Some(addresses.iter().map(IpAddr::to_string).collect()),
            Learned::Nothing(_) => None,
        }
    }

    #[test]
    fn what_is_not_said_is_kept_and_what_is_denied_is_not() {
        let mut known = Known::default();
        assert_eq!(addresses(&mut known, failed(), Family::Absent), None);
        assert_eq!(addresses(&mut known, found(&[1], 60), six(1)).unwrap(), ["10.0.0.1", "fd00::1"]);
        assert_eq!(addresses(&mut known, found(&[2], 60), failed()).unwrap(), ["10.0.0.2", "fd00::1"]);
        for nothing in [Family::Absent, failed()] {
            assert_eq!(addresses(&mut known, Family::Absent, nothing.clone()), None);
            assert_eq!(addresses(&mut known, nothing, Family::Absent), None);
        }
        assert_eq!(addresses(&mut known, failed(), six(2)).unwrap(), ["10.0.0.2", "fd00::2"], "all was kept");
        assert_eq!(addresses(&mut known, found(&[2], 60), Family::Absent).unwrap(), ["10.0.0.2"]);
    }

    #[test]
    fn the_shorter_time_to_live_counts_within_its_bounds() {
        let ttl = |v4, v6| match Known::default().on(Answer { v4, v6 }) {
            Learned::Addresses { ttl, .. } => ttl,
            Learned::Nothing(why) => panic!("{why}"),
        };
        assert_eq!(ttl(found(&[1], 20), six(1)), 20 * S);
        assert_eq!(ttl(found(&[1], 0), Family::Absent), S);
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
