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
use super::follow::FILES_PAUSE;
use super::found::{Answer, BACKUP_MAX, FOUND_MAX, Found, FoundHost, News};
use super::gather::scaled;
use super::known::{Learned, Pace};
use super::settings::SrvSource;
use crate::base::host;
use crate::base::time::{Clock, Moment, ns};

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
            // A change of the files has the records asked for again. A moment more, so that what is due then is.
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
        let place = (name.clone(), port);
        if name.is_empty() {
            self.remarks.push("its target is \".\": there is no such service (RFC 2782)".to_owned());
        } else if port == 0 || !host::is_name(name.as_bytes()) {
            self.remarks.push(format!("{name}:{port} is no place to connect to, and does not count"));
        } else if self.targets.len() >= FOUND_MAX && !self.targets.contains_key(&place) {
            self.remarks.push(format!("there are more than {FOUND_MAX} targets; the others do not count"));
        } else {
            self.targets.insert(place, Target { priority, weight, until: Moment::NEVER });
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
    scaled(weight.into(), most.into()).max(1)
}

#[cfg(test)]
mod tests;
