//! What was set, added and removed at run time, as data that outlives the process: `process.state_file`.
//!
//! Each entry holds what the file said of its backend. Where the file says something else by the time it is read again,
//! the file wins, as at a reload.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::order::{ByHand, Mode, Order};
use super::plan::{Objects, Plan};
use super::{Changes, Fleet};
use crate::base::time::Moment;
use crate::config::added_backend;
use crate::config::model::{Backend, BackendOrigin};

/// The version of the format.
const VERSION: u32 = 1;

/// Everything that is kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Kept {
    /// The version of the format.
    pub version: u32,
    /// The configuration that was put in the place of the file; `None` if the file counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<KeptConfig>,
    /// What was set, added and removed.
    #[serde(default)]
    pub backends: Vec<KeptBackend>,
}

/// A configuration that was put in the place of the file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeptConfig {
    /// The whole text.
    pub text: String,
    /// The operator, as the API knows it.
    pub by: String,
    /// When, in seconds since 1970.
    pub at_s: u64,
}

/// What was done to a backend.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeptBackend {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name of the backend.
    pub name: Arc<str>,
    /// What the file said of it, or its source; `None` if it is in neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<BackendKeys>,
    /// It was added, and is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<BackendKeys>,
    /// It was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Another weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Another limit; 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Another state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Mode>,
    /// The operator that has set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// When its drain ends the sessions that are left, in milliseconds since 1970; `None` if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_until_ms: Option<u64>,
}

/// The keys of a backend, as a configuration has them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BackendKeys {
    /// Its name.
    name: String,
    /// Its address.
    address: String,
    /// Its weight.
    weight: u16,
    /// 0 if it is no backup, else its level.
    backup: u16,
    /// The limit on its sessions; 0 is none.
    connections_max: u32,
    /// The operator has taken it out.
    disabled: bool,
    /// Where it is checked; empty means at its own address.
    check_address: String,
}

impl BackendKeys {
    /// Those of a backend.
    fn of(backend: &Backend) -> BackendKeys {
        BackendKeys {
            name: backend.name.to_string(),
            address: backend.target.to_string(),
            weight: backend.weight,
            backup: backend.backup,
            connections_max: backend.connections_max.map_or(0, NonZeroU32::get),
            disabled: backend.disabled,
            check_address: backend.check_address.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// The backend; `None` if it is none any more, in the eyes of this version.
    fn to_backend(&self, origin: BackendOrigin) -> Option<Backend> {
        // 0 is no level, and is written as `false`.
        let mut keys = serde_json::to_value(self).ok()?;
        if self.backup == 0 {
            keys["backup"] = false.into();
        }
        Some(Backend { origin, ..added_backend(&keys).ok()? })
    }
}

impl Kept {
    /// Nothing is kept.
    pub fn empty() -> Kept {
        Kept { version: VERSION, config: None, backends: Vec::new() }
    }

    /// Whether it was written by a ringway that means the same by it.
    pub fn is_of_this_version(&self) -> bool {
        self.version == VERSION
    }
}

/// From moments of the process to the time of day, and back.
#[derive(Clone, Copy, Debug)]
pub struct TimeOfDay {
    /// A moment,
    pub now: Moment,
    /// and what the time of day was then, in milliseconds since 1970.
    pub now_ms: u64,
}

impl TimeOfDay {
    /// In milliseconds since 1970; `None` of [`Moment::NEVER`].
    fn ms_of(self, at: Moment) -> Option<u64> {
        (at != Moment::NEVER).then(|| self.now_ms + at.since_ns(self.now) / 1_000_000)
    }

    /// The moment; now, if it is over.
    fn moment_of(self, at_ms: Option<u64>) -> Moment {
        at_ms.map_or(Moment::NEVER, |at_ms| self.now.after_ns(at_ms.saturating_sub(self.now_ms) * 1_000_000))
    }
}

impl Fleet {
    /// What is to be kept, after `plan` if one is given.
    pub fn kept(&self, plan: Option<&Plan>, time: TimeOfDay) -> Kept {
        let mut backends = Vec::new();
        for (squad, configured) in self.pools[..self.configured].iter().zip(&self.config.pools) {
            let plan = plan.filter(|plan| plan.pool == configured.name);
            let objects = plan.and_then(|plan| plan.objects.as_ref()).or_else(|| self.objects.get(&configured.name));
            let file = self.file.pools.iter().find(|pool| pool.name == configured.name);
            let known = |name: &str| {
                let of_file = file.and_then(|file| file.backends.iter().find(|backend| *backend.name == *name));
                of_file.or_else(|| configured.backends.iter().find(|backend| *backend.name == *name))
            };
            let entry = |name: &Arc<str>| KeptBackend {
                pool: configured.name.clone(),
                name: name.clone(),
                file: known(name).filter(|known| known.origin != BackendOrigin::Added).map(BackendKeys::of),
                added: None,
                removed: false,
                weight: None,
                connections_max: None,
                state: None,
                by: None,
                drain_until_ms: None,
            };
            let mut of_pool: Vec<KeptBackend> = Vec::new();
            for added in objects.iter().flat_map(|objects| &objects.added) {
                of_pool.push(KeptBackend { added: Some(BackendKeys::of(added)), ..entry(&added.name) });
            }
            for removed in objects.iter().flat_map(|objects| &objects.removed) {
                let file = Some(BackendKeys::of(removed));
                match of_pool.iter_mut().find(|kept| kept.name == removed.name) {
                    Some(kept) => (kept.file, kept.removed) = (file, true),
                    None => of_pool.push(KeptBackend { file, removed: true, ..entry(&removed.name) }),
                }
            }
            let is_planned = |name: &Arc<str>| plan.is_some_and(|plan| plan.by_hand.is_some() && plan.name == *name);
            let unchanged = squad.by_hand.iter().filter(|(name, _)| !is_planned(name));
            let planned = plan.and_then(|plan| Some((&plan.name, plan.by_hand.as_ref()?)));
            for (name, by_hand) in unchanged.chain(planned).filter(|(_, by_hand)| **by_hand != ByHand::default()) {
                let mut kept = of_pool.iter().position(|kept| kept.name == *name).map(|at| of_pool.remove(at));
                let kept = kept.get_or_insert_with(|| entry(name));
                note_by_hand(kept, by_hand, time);
                of_pool.push(kept.clone());
            }
            of_pool.sort_by(|one, other| one.name.cmp(&other.name));
            backends.extend(of_pool);
        }
        Kept { version: VERSION, config: None, backends }
    }

    /// Takes up what was kept, at the start. What the file says otherwise since is left out.
    pub fn restore(&mut self, kept: &Kept, time: TimeOfDay) -> Changes {
        if kept.backends.is_empty() {
            return Changes::default();
        }
        for kept in &kept.backends {
            let Some(index) = self.file.pools.iter().position(|pool| pool.name == kept.pool) else { continue };
            let pool = &self.file.pools[index];
            let now = pool.backends.iter().find(|backend| backend.name == kept.name);
            let before = kept.file.as_ref().and_then(|keys| keys.to_backend(BackendOrigin::File));
            let objects = self.objects.entry(kept.pool.clone()).or_default();
            let added = kept.added.as_ref().and_then(|keys| keys.to_backend(BackendOrigin::Added));
            match (kept.removed, now, added) {
                (true, Some(now), added) if Some(now) == before.as_ref() => {
                    objects.removed.push(now.clone());
                    objects.added.extend(added);
                }
                (_, None, Some(added)) => objects.added.push(added),
                _ => {}
            }
            let by_hand = ByHand {
                weight: kept.weight,
                connections_max: kept.connections_max.map(NonZeroU32::new),
                order: kept.state.map(|mode| {
                    let by = kept.by.clone().unwrap_or_else(|| "?".into());
                    match mode {
                        Mode::Ready => Order::Ready,
                        Mode::Maintenance => Order::Maintenance { by: Some(by) },
                        Mode::Drain => Order::Drain { until: time.moment_of(kept.drain_until_ms), is_over: false, by },
                    }
                }),
            };
            let by_hand = match before.as_ref().zip(now) {
                Some((before, now)) => by_hand.after(before, now),
                None => by_hand,
            };
            if by_hand != ByHand::default() {
                self.pools[index].by_hand.insert(kept.name.clone(), by_hand);
            }
        }
        self.objects.retain(|_, objects: &mut Objects| !objects.is_empty());
        self.go_on_with(self.effective(), |_| true, time.now)
    }
}

/// Notes what was set of a backend.
fn note_by_hand(kept: &mut KeptBackend, by_hand: &ByHand, time: TimeOfDay) {
    kept.weight = by_hand.weight;
    kept.connections_max = by_hand.connections_max.map(|most| most.map_or(0, NonZeroU32::get));
    let Some(order) = &by_hand.order else { return };
    kept.state = Some(order.mode());
    match order {
        Order::Ready => {}
        Order::Maintenance { by } => kept.by.clone_from(by),
        Order::Drain { until, is_over, by } => {
            kept.by = Some(by.clone());
            kept.drain_until_ms = if *is_over { Some(time.now_ms) } else { time.ms_of(*until) };
        }
    }
}
