//! How many sessions the descriptors are enough for.

use crate::config::model::Config;
use crate::uring::system;

/// Descriptors of the process itself: standard streams, control's runtime, the admin server's clients.
const OWN: u64 = 64;
/// Ring and wake-up of each worker, with some to spare.
const PER_WORKER: u64 = 8;
/// Pipes of a worker, at the most; each takes two descriptors.
const PIPES_MAX: u64 = 256;
/// Connections of a worker that may wait although they were accepted, at the most.
const EARLY_MAX: u64 = 64;

/// What follows from the descriptor limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// The limit itself.
    pub descriptors: u64,
    /// Sessions of the process; each takes two descriptors.
    pub connections_max: u64,
    /// Connections of each worker that may wait although they were accepted; each takes a descriptor.
    pub early_max: usize,
    /// Pipes of each worker.
    pub pipes_max: u16,
}

impl Limits {
    /// Raises the soft limit to the hard one first. So many listening sockets are there already.
    pub fn of(config: &Config, workers: usize, before: usize) -> anyhow::Result<Limits> {
        let sockets: usize = config.listeners.iter().map(|listener| listener.binds.len()).sum();
        let checks: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
        let own = OWN + workers as u64 * (PER_WORKER + sockets as u64) + checks as u64 + before as u64;
        share(system::raise_descriptor_limit(), own, workers as u64, config.process.connections_max)
    }
}

/// Divides `descriptors` between sessions and pipes after `own` are taken off.
fn share(descriptors: u64, own: u64, workers: u64, wanted: Option<u64>) -> anyhow::Result<Limits> {
    let free = descriptors.saturating_sub(own);
    let pipes_max = (free / 16 / workers.max(1)).min(PIPES_MAX);
    let early_max = (free / 32 / workers.max(1)).min(EARLY_MAX);
    let possible = (free - (2 * pipes_max + early_max) * workers) / 2;
    let connections_max = wanted.unwrap_or(possible);
    // Pipes can be done without, and near the limit nobody is accepted early; sessions take what they take.
    let needed = own + 2 * connections_max;
    if needed > descriptors || connections_max == 0 {
        let needed = needed.max(own + 2);
        anyhow::bail!(
            "the descriptor limit of {descriptors} is too low for process.connections_max = {connections_max}: raise \
             the hard limit to {needed} or more (`ulimit -Hn`, LimitNOFILE= in systemd), or lower connections_max"
        );
    }
    let left = (descriptors - needed) / workers.max(1);
    let early_max = early_max.min(left);
    let pipes_max = pipes_max.min((left - early_max) / 2);
    Ok(Limits { descriptors, connections_max, early_max: early_max as usize, pipes_max: pipes_max as u16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_pipes_fit_into_the_limit() {
        for descriptors in [80, 200, 1024, 20_000, 1_000_000] {
            for workers in [1, 2, 64] {
                let own = 64 + 4;
                let limits = share(descriptors, own, workers, None).unwrap();
                let of_worker = 2 * u64::from(limits.pipes_max) + limits.early_max as u64;
                let used = own + 2 * limits.connections_max + of_worker * workers;
                assert!(used <= descriptors && descriptors - used <= 16 * workers.max(2), "{used} of {descriptors}");
            }
        }
        assert!(share(20_000, 70, 2, None).unwrap().connections_max > 9_000);
    }

    #[test]
    fn more_sessions_than_descriptors_are_refused_with_the_remedy() {
        let error = share(1024, 70, 2, Some(1000)).unwrap_err().to_string();
        assert!(error.contains("LimitNOFILE") && error.contains("2070"), "{error}");
        assert!(share(60, 70, 2, None).is_err());
        assert_eq!(share(1024, 70, 2, Some(477)).unwrap().pipes_max, 0);
    }
}
