//! What another configuration would do to backends, before it does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use crate::base::id::BackendId;
use crate::config::model::{Config, Target};

/// A backend that would drain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaver {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Where it is.
    pub address: String,
    /// Its slot, for its sessions.
    pub id: BackendId,
    /// How long its sessions could go on; zero means without end.
    pub drain_timeout: Duration,
}

impl Fleet {
    /// The backends that would drain with this configuration of the file, each at each of its addresses.
    pub fn foresee(&self, file: &Config) -> Vec<Leaver> {
        let next = self.effective_of(file);
        let pools: HashMap<&str, Duration> = next.pools.iter().map(|pool| (&*pool.name, pool.drain_timeout)).collect();
        let all = next.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
        let stays: HashMap<(&str, &str), &Target> =
            all.map(|(pool, backend)| ((&*pool.name, &*backend.name), &backend.target)).collect();
        let live = self.seats.iter().filter(|seat| seat.retired.is_none());
        let mut leavers = Vec::new();
        for seat in live {
            let pool = &self.config.pools[seat.pool];
            let (Some(backend), Some(address)) = (pool.backends.get(seat.backend), &seat.address) else { continue };
            if stays.get(&(&*pool.name, &*backend.name)) != Some(&&backend.target) {
                leavers.push(Leaver {
                    pool: pool.name.clone(),
                    backend: seat.name.clone(),
                    address: address.to_string(),
                    id: seat.id,
                    drain_timeout: pools.get(&*pool.name).copied().unwrap_or(pool.drain_timeout),
                });
            }
        }
        leavers
    }

    /// The slots of the addresses of a backend.
    pub fn slots_of(&self, pool: &str, backend: &str) -> Vec<BackendId> {
        let Some(index) = self.config.pools.iter().position(|known| *known.name == *pool) else { return Vec::new() };
        let seats = self.seats[self.pools[index].seats.clone()].iter();
        let live = seats.filter(|seat| *seat.configured_name == *backend && seat.retired.is_none());
        live.map(|seat| seat.id).collect()
    }
}
