//! Backends that are found: what a source of a pool has said, and how it becomes backends beside those of the file.
//!
//! An answer replaces the one before. One without any backend changes nothing, unless the pool says `empty = "drop"`;
//! nor does a source that cannot be reached. What a source no longer has drains, as a backend does that the file no
//! longer has: to the rest of the fleet both are the same, another configuration.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Changes, Fleet};
use crate::base::address::Address;
use crate::base::time::Moment;
use crate::config::fault_of_name;
use crate::config::model::{Backend, BackendOrigin, Config, Discover, Pool, Target};
use crate::discover::found::{Answer, Found, FoundHost};

/// What the source of a pool has said.
#[derive(Clone, Debug)]
pub(super) struct PoolSource {
    /// As it is configured.
    discover: Discover,
    /// What it has found: its last answer, or one before that if that was empty.
    found: Vec<Found>,
    /// When it was heard last; `None` before it was.
    confirmed: Option<Moment>,
    /// Why it cannot be heard now, or not all of it; `None` if it can.
    trouble: Option<String>,
    /// Its last answer had no backend, and those from before stay.
    keeps_empty: bool,
}

impl PoolSource {
    /// When it was heard last.
    pub(super) fn confirmed(&self) -> Option<Moment> {
        self.confirmed
    }
}

/// The source of a pool, for people.
#[derive(Clone, Debug)]
pub struct SourceView {
    /// The word for its `type`.
    pub kind: &'static str,
    /// What is asked, and where.
    pub place: String,
    /// When it was heard last; `None` before it was.
    pub confirmed: Option<Moment>,
    /// Why it cannot be heard now, or not all of it; `None` if it can.
    pub trouble: Option<String>,
    /// How many backends it has found, those included that stand in the file.
    pub found: usize,
    /// Its last answer had no backend, and those from before stay (`empty = "keep"`).
    pub keeps_empty: bool,
}

impl Fleet {
    /// The sources that are to be asked, with the names of their pools.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<str>, &Discover)> {
        let pools = self.file.pools.iter();
        pools.filter_map(|pool| Some((&pool.name, pool.discover.as_ref()?)))
    }

    /// The source of a pool has answered.
    pub fn on_found(&mut self, pool: &str, answer: Answer, now: Moment) -> Changes {
        let Some(source) = self.sources.get_mut(pool) else { return Changes::default() };
        source.confirmed = Some(now);
        source.trouble = answer.trouble;
        source.keeps_empty = answer.found.is_empty() && !source.found.is_empty() && !source.discover.drops_empty;
        if source.keeps_empty || source.found == answer.found {
            return Changes::default();
        }
        source.found = answer.found;
        self.go_on_with(self.effective(), |name| name == pool, now)
    }

    /// The source of a pool still has what it had.
    pub fn on_confirmed(&mut self, pool: &str, now: Moment) {
        if let Some(source) = self.sources.get_mut(pool) {
            (source.confirmed, source.trouble) = (Some(now), None);
        }
    }

    /// The source of a pool cannot be heard. What it has said stays.
    pub fn on_source_failed(&mut self, pool: &str, why: &str) {
        if let Some(source) = self.sources.get_mut(pool) {
            source.trouble = Some(why.to_owned());
        }
    }

    /// What the source of a pool has said; `None` if it has no source.
    pub fn source_view(&self, pool: &str) -> Option<SourceView> {
        let source = self.sources.get(pool)?;
        Some(SourceView {
            kind: source.discover.source.kind(),
            place: source.discover.source.to_string(),
            confirmed: source.confirmed,
            trouble: source.trouble.clone(),
            found: source.found.len(),
            keeps_empty: source.keeps_empty,
        })
    }

    /// Whether every source has answered, or has shown that it cannot.
    pub(super) fn has_heard_sources(&self) -> bool {
        self.sources.values().all(|source| source.confirmed.is_some() || source.trouble.is_some())
    }

    /// Has a source for each pool of the file that wants one. Another source begins with what the one before has found,
    /// until it answers.
    pub(super) fn follow_sources(&mut self) {
        let mut before = std::mem::take(&mut self.sources);
        for pool in &self.file.pools {
            let Some(discover) = &pool.discover else { continue };
            let source = match before.remove(&pool.name) {
                Some(source) if source.discover.source == discover.source => {
                    PoolSource { discover: discover.clone(), ..source }
                }
                other => PoolSource {
                    discover: discover.clone(),
                    found: other.map(|source| source.found).unwrap_or_default(),
                    confirmed: None,
                    trouble: None,
                    keeps_empty: false,
                },
            };
            self.sources.insert(pool.name.clone(), source);
        }
    }

    /// The configuration of the file with what was found, added and removed.
    pub(super) fn effective(&self) -> Config {
        self.effective_of(&self.file)
    }

    /// The same for another file.
    pub(super) fn effective_of(&self, file: &Config) -> Config {
        let mut config = file.clone();
        for pool in &mut config.pools {
            if let Some(objects) = self.objects.get(&pool.name) {
                objects.clone().after(pool).apply_to(pool);
            }
            if let Some(source) = self.sources.get(&pool.name).filter(|_| pool.discover.is_some()) {
                add_found(pool, source.discover.source.kind(), &source.found);
            }
        }
        config
    }
}

/// Adds what was found to the backends of a pool. What is at the same place as another one is the same backend, and a
/// name that is taken, or that cannot be one, gives way to the address.
fn add_found(pool: &mut Pool, kind: &'static str, found: &[Found]) {
    let mut places: HashSet<Target> = pool.backends.iter().map(|backend| backend.target.clone()).collect();
    let mut names: HashSet<Arc<str>> = pool.backends.iter().map(|backend| backend.name.clone()).collect();
    for found in found {
        let target = target_of(found);
        if !places.insert(target.clone()) {
            continue;
        }
        let is_free = |name: &Arc<str>| fault_of_name(name).is_none() && !names.contains(name);
        let Some(name) = [found.name(), found.address().into()].into_iter().find(is_free) else { continue };
        names.insert(name.clone());
        pool.backends.push(Backend {
            name,
            target,
            backup: found.backup,
            connections_max: None,
            weight: found.weight,
            disabled: false,
            check_address: None,
            origin: BackendOrigin::Found(kind),
            rests: found.rests.clone(),
        });
    }
}

/// Where a backend is that was found.
fn target_of(found: &Found) -> Target {
    match &found.host {
        FoundHost::Ip(ip) => Target::Address(Address::Tcp(SocketAddr::new(ip.to_canonical(), found.port))),
        FoundHost::Name(name) => Target::Host { name: name.clone(), port: found.port },
    }
}
