//! Backends in SRV records (RFC 2782): each target with its port, its weight, and its priority as a level of backups.
//!
//! The hosts of targets are looked up like those of the configuration. Priorities are ranks: targets of the lowest one
//! are no backups, those of the next one are of level 1, and so on. A target that is missing from the answers stays for
//! `obsolete_hold`, all of them for `denied_hold` when the name is denied; a server that cannot say changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::dns::Resolver;
use super::dns::srv::{SrvAnswer, SrvRecord};
use super::found::{Answer, BACKUP_MAX, FOUND_MAX, Found, FoundHost, News, WEIGHT_MAX};
use super::known::{Learned, Pace};
use super::settings::SrvSource;
use crate::base::host;
use crate::base::time::{Clock, Moment, ns};

/// How often the files are looked at that say how names are looked up: a change has the records asked for again.
const FILES_PAUSE: Duration = Duration::from_secs(2);

/// Follows the records for ever.
pub async fn follow(settings: &SrvSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    let (mut known, mut pace, clock) = (KnownTargets::default(), Pace::new(), Clock::new());
    loop {
        let edition = resolver.edition();
        let answer = resolver.lookup_srv(&settings.name).await;
        let learned = match &answer {
            SrvAnswer::Found(_, ttl) => Learned::Addresses { addresses: Vec::new(), ttl: *ttl, doubt: None },
            SrvAnswer::Denied(why) => Learned::Denied(why.clone()),
            SrvAnswer::Failed(why) => Learned::Nothing(why.clone()),
        };
        tell(known.on(answer, settings, clock.now()));
        let due = clock.now().after_ns(ns(pace.pause(&learned, fastrand::u64(..))));
        while clock.now() < due && resolver.edition() == edition {
            let next = due.min(known.deadline());
            let pause = Duration::from_nanos(next.since_ns(clock.now())).min(FILES_PAUSE);
            // A moment more, so that what is due then is.
            sleep(pause + Duration::from_millis(1)).await;
            if let Some(news) = known.on_time(clock.now()) {
                tell(news);
            }
        }
    }
}

/// A target as the answers had it last.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Target {
    /// Its priority.
    priority: u16,
    /// Its weight.
    weight: u16,
    /// When it is given up; [`Moment::NEVER`] while the answers have it.
    until: Moment,
}

/// Every target that is in use. Pure.
#[derive(Clone, Debug, Default)]
struct KnownTargets {
    /// By host and port.
    targets: BTreeMap<(String, u16), Target>,
    /// What a person should know of the last answer.
    remarks: Vec<String>,
}

impl KnownTargets {
    /// Takes an answer, and says what follows.
    fn on(&mut self, answer: SrvAnswer, settings: &SrvSource, now: Moment) -> News {
        let (records, hold, denial) = match answer {
            SrvAnswer::Found(records, _) => (records, settings.obsolete_hold, None),
            SrvAnswer::Denied(why) => (Vec::new(), settings.denied_hold, Some(why)),
            SrvAnswer::Failed(why) => return News::Failed(why),
        };
        self.remarks = denial.into_iter().collect();
        let until = now.after_ns(ns(hold));
        self.targets.values_mut().for_each(|target| target.until = target.until.min(until));
        for record in records {
            self.take(record);
        }
        self.targets.retain(|_, target| target.until > now);
        self.answer()
    }

    /// Gives up what is due; `None` if nothing is.
    fn on_time(&mut self, now: Moment) -> Option<News> {
        let before = self.targets.len();
        self.targets.retain(|_, target| target.until > now);
        (self.targets.len() < before).then(|| self.answer())
    }

    /// When [`KnownTargets::on_time`] has something to do.
    fn deadline(&self) -> Moment {
        self.targets.values().map(|target| target.until).min().unwrap_or(Moment::NEVER)
    }

    /// Takes a record that the answer has.
    fn take(&mut self, SrvRecord { priority, weight, port, target }: SrvRecord) {
        let name = host::without_dot(&target).to_ascii_lowercase();
        if name.is_empty() {
            self.remarks.push("its target is \".\": there is no such service (RFC 2782)".to_owned());
        } else if port == 0 || !host::is_name(name.as_bytes()) {
            self.remarks.push(format!("{name}:{port} is no place to connect to, and does not count"));
        } else if self.targets.len() >= FOUND_MAX {
            self.remarks.push(format!("there are more than {FOUND_MAX} targets; the others do not count"));
        } else {
            self.targets.insert((name, port), Target { priority, weight, until: Moment::NEVER });
        }
        self.remarks.dedup();
    }

    /// What there is now.
    fn answer(&self) -> News {
        let mut greatest: BTreeMap<u16, u16> = BTreeMap::new();
        for Target { priority, weight, .. } in self.targets.values() {
            let most = greatest.entry(*priority).or_default();
            *most = (*most).max(*weight);
        }
        let found = self.targets.iter().map(|((name, port), target)| {
            let rank = greatest.range(..target.priority).count();
            Found {
                weight: share(target.weight, greatest[&target.priority]),
                backup: u16::try_from(rank).unwrap_or(BACKUP_MAX).min(BACKUP_MAX),
                // The dot says that the name is complete, as targets are.
                ..Found::at(FoundHost::Name(Arc::from(format!("{name}."))), *port)
            }
        });
        let found = found.map(|found| Found { name: Some(found.address().replace(".:", ":").into()), ..found });
        News::Answer(Answer { found: found.collect(), trouble: None, remarks: self.remarks.clone() })
    }
}

/// A weight of ours for one of a record, whose priority has `most`. Where all are 0 they are equal; beside others a
/// weight of 0 is a very small chance.
fn share(weight: u16, most: u16) -> u16 {
    let scaled = match most {
        0..=WEIGHT_MAX => u32::from(weight),
        most => u32::from(weight) * u32::from(WEIGHT_MAX) / u32::from(most),
    };
    u16::try_from(scaled).unwrap_or(WEIGHT_MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn settings() -> SrvSource {
        let (obsolete_hold, denied_hold) = (Duration::from_secs(30), Duration::from_secs(300));
        SrvSource { name: "_db._tcp.x".into(), obsolete_hold, denied_hold }
    }

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.into() }
    }

    fn found(records: &[SrvRecord]) -> SrvAnswer {
        SrvAnswer::Found(records.to_vec(), Duration::from_secs(60))
    }

    fn shown(news: News) -> Vec<String> {
        let News::Answer(answer) = news else { panic!("{news:?}") };
        let show = |it: &Found| format!("{} weight {} backup {}", it.name(), it.weight, it.backup);
        answer.found.iter().map(show).collect()
    }

    #[test]
    fn priorities_are_levels_and_weights_are_shares() {
        let mut known = KnownTargets::default();
        let records = [
            record(10, 0, 1, "a.x."),
            record(10, 65_535, 1, "b.x."),
            record(20, 0, 2, "C.x."),
            record(20, 0, 3, "C.x."),
            record(90, 7, 1, "d.x."),
        ];
        assert_eq!(
            shown(known.on(found(&records), &settings(), Moment(0))),
            [
                "a.x:1 weight 1 backup 0",
                "b.x:1 weight 256 backup 0",
                "c.x:2 weight 1 backup 1",
                "c.x:3 weight 1 backup 1",
                "d.x:1 weight 7 backup 2",
            ]
        );
    }

    #[test]
    fn what_is_missing_stays_for_its_hold_and_what_comes_back_for_good() {
        let (mut known, settings) = (KnownTargets::default(), settings());
        let (a, b) = (record(1, 1, 1, "a."), record(2, 1, 1, "b."));
        known.on(found(&[a.clone(), b.clone()]), &settings, Moment(0));
        let both = ["a:1 weight 1 backup 0", "b:1 weight 1 backup 1"];
        assert_eq!(shown(known.on(found(std::slice::from_ref(&b)), &settings, Moment(S))), both);
        assert_eq!(
            shown(known.on(found(std::slice::from_ref(&b)), &settings, Moment(20 * S))),
            both,
            "it does not begin anew"
        );
        assert_eq!((known.deadline(), known.on_time(Moment(31 * S - 1))), (Moment(31 * S), None));
        assert_eq!(shown(known.on_time(Moment(31 * S)).unwrap()), ["b:1 weight 1 backup 0"]);
        let denied = || SrvAnswer::Denied("no".into());
        assert_eq!(shown(known.on(denied(), &settings, Moment(40 * S))), ["b:1 weight 1 backup 0"]);
        assert_eq!(known.deadline(), Moment(340 * S));
        known.on(found(&[b]), &settings, Moment(50 * S));
        assert_eq!(known.deadline(), Moment::NEVER, "it is back");
        known.on(denied(), &settings, Moment(60 * S));
        let failed = known.on(SrvAnswer::Failed("SERVFAIL".into()), &settings, Moment(70 * S));
        assert_eq!((failed, known.deadline()), (News::Failed("SERVFAIL".into()), Moment(360 * S)));
        assert_eq!(shown(known.on_time(Moment(360 * S)).unwrap()), [""; 0]);
    }

    #[test]
    fn what_is_no_place_to_connect_to_is_left_out_and_told() {
        let mut known = KnownTargets::default();
        let records = [record(1, 1, 0, "a."), record(1, 1, 1, "."), record(1, 1, 1, "b."), record(1, 1, 1, "x y.")];
        let News::Answer(answer) = known.on(found(&records), &settings(), Moment(0)) else { panic!() };
        assert_eq!((answer.found.len(), answer.remarks.len(), answer.trouble), (1, 3, None));
    }

    proptest! {
        #[test]
        fn shares_keep_their_order_and_none_is_shut_out(weights in prop::collection::vec(0..=u16::MAX, 1..20)) {
            let most = weights.iter().copied().max().unwrap_or(0);
            let shares: Vec<u16> = weights.iter().map(|weight| share(*weight, most)).collect();
            let all = || weights.iter().zip(&shares);
            for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
                prop_assert!((1..=WEIGHT_MAX).contains(one.1));
                prop_assert!(one.0 < other.0 || one.1 >= other.1);
            }
        }
    }
}
