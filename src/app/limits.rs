//! How many sessions the descriptors and the memory are enough for.

use super::cgroup;
use crate::config::model::Config;
use crate::sys::system;

/// Descriptors of the process itself: standard streams, control's runtime, the admin server's clients.
const OWN: u64 = 64;
/// Those of checks and listeners with them, unless there are thousands.
const OWN_MAX: u64 = 1024;
/// Descriptors that the table is made for at the start: 8 MiB of it.
const TABLE_MAX: u64 = 1 << 20;
/// Ring and wake-up of each worker, with some to spare.
const PER_WORKER: u64 = 8;
/// Pipes of a worker, at the most; each takes two descriptors.
const PIPES_MAX: u64 = 256;
/// Connections of a worker that may wait although they were accepted, at the most.
const EARLY_MAX: u64 = 64;

/// Memory that ringway and its rings take without a session: of the process, and of each worker.
const OWN_MEMORY: u64 = 24 << 20;
/// The same for each worker: its ring, its first receive buffers, its stack.
const MEMORY_PER_WORKER: u64 = 8 << 20;
/// Memory of a session that does nothing, its two sockets in the kernel included. 6.2 KiB were measured on Linux 6.18;
/// the rest is for the bytes of those that do something.
const MEMORY_PER_SESSION: u64 = 8 << 10;
/// Receive buffers of a worker, at the least and at the most, and what part of the memory those of all may be.
const BUFFERS_MIN: u64 = 4 << 20;
const BUFFERS_MAX: u64 = 512 << 20;
const BUFFERS_PART: u64 = 4;
/// However little memory there is.
const CONNECTIONS_MIN: u64 = 64;

/// What follows from the limits of the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Capacity {
    /// The limit itself.
    pub descriptors: u64,
    /// Sessions of the process; each takes two descriptors.
    pub connections_max: u64,
    /// What does not let it have more.
    pub limited_by: LimitedBy,
    /// Connections of each worker that may wait although they were accepted; each takes a descriptor.
    pub early_max: usize,
    /// Pipes of each worker.
    pub pipes_max: u16,
    /// Bytes of receive buffers of each worker.
    pub buffers_max: u64,
}

/// What the number of sessions follows from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LimitedBy {
    /// `process.connections_max`
    Configuration,
    /// The hard limit on open descriptors (RLIMIT_NOFILE).
    Descriptors,
    /// So many bytes.
    Memory(u64),
}

impl Capacity {
    /// Raises the soft limit to the hard one first. So many listening sockets are there already.
    pub fn of(config: &Config, workers: usize, before: usize, group: &cgroup::Group) -> anyhow::Result<Capacity> {
        let memory = [group.memory, cgroup::memory_of_machine()].into_iter().flatten().min();
        Capacity::within(config, workers, before, (system::raise_descriptor_limit(), memory))
    }

    /// What so many descriptors and so much memory are enough for. The limit of descriptors may be far beyond what
    /// there is memory for: container engines set it to a thousand million.
    fn within(
        config: &Config,
        workers: usize,
        before: usize,
        (descriptors, memory): (u64, Option<u64>),
    ) -> anyhow::Result<Capacity> {
        let sockets: usize = config.listeners.iter().map(|listener| listener.binds.len()).sum();
        let checks: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
        let own = OWN + workers as u64 * (PER_WORKER + sockets as u64) + checks as u64 + before as u64;
        let wanted = config.process.connections_max;
        let limits = share(descriptors, own, workers as u64, wanted)?;
        let limits =
            Capacity { buffers_max: buffers_for(config.process.receive_buffers_max, memory, workers), ..limits };
        match (wanted, memory) {
            (Some(_), _) => Ok(Capacity { limited_by: LimitedBy::Configuration, ..limits }),
            // Fewer than there are descriptors for, so pipes can only be more.
            (None, Some(memory)) if enough_for(memory, workers as u64) < limits.connections_max => {
                let buffers_max = limits.buffers_max;
                let limits = share(descriptors, own, workers as u64, Some(enough_for(memory, workers as u64)))?;
                Ok(Capacity { limited_by: LimitedBy::Memory(memory), buffers_max, ..limits })
            }
            (None, _) => Ok(limits),
        }
    }

    /// Descriptors that can be open together, or so many that a table for more is better made when it is needed: where
    /// the limit is a thousand million, as with some container engines, a table for all would take 8 GiB.
    pub fn descriptors_to_expect(&self, workers: usize) -> u64 {
        let of_workers = (2 * u64::from(self.pipes_max) + self.early_max as u64) * workers as u64;
        let used = self.connections_max.saturating_mul(2).saturating_add(of_workers + OWN_MAX);
        used.min(self.descriptors).min(TABLE_MAX)
    }

    /// Says what follows, and from what.
    pub fn report(&self, config: &Config, workers: usize, cpus: usize) {
        if config.process.workers.is_none() && workers < cpus {
            tracing::info!(
                workers,
                cpus,
                "workers are limited by the CPU quota of the control group; `process.workers` sets another number"
            );
        }
        let Capacity { connections_max, descriptors, .. } = *self;
        match self.limited_by {
            LimitedBy::Configuration => {
                tracing::debug!(connections_max, "client connections are limited as configured")
            }
            LimitedBy::Descriptors => {
                tracing::info!(connections_max, descriptors, "client connections are limited by the descriptor limit");
            }
            LimitedBy::Memory(bytes) => {
                let memory = format!("{} MiB", bytes >> 20);
                tracing::info!(
                    connections_max,
                    memory,
                    "client connections are limited by the memory of this host or of its control group"
                );
            }
        }
    }
}

/// Sessions that so many bytes of memory are enough for, if none of them does much.
fn enough_for(memory: u64, workers: u64) -> u64 {
    let own = OWN_MEMORY + workers * MEMORY_PER_WORKER;
    (memory.saturating_sub(own) / MEMORY_PER_SESSION).max(CONNECTIONS_MIN)
}

/// Bytes of receive buffers of each worker, if so many are `wanted` (0: what is sensible).
fn buffers_for(wanted: u32, memory: Option<u64>, workers: usize) -> u64 {
    let share = memory.map_or(u64::MAX, |memory| memory / BUFFERS_PART / workers.max(1) as u64);
    if wanted > 0 { u64::from(wanted) } else { share.clamp(BUFFERS_MIN, BUFFERS_MAX) }
}

/// Divides `descriptors` between sessions and pipes after `own` are taken off.
fn share(descriptors: u64, own: u64, workers: u64, wanted: Option<u64>) -> anyhow::Result<Capacity> {
    let free = descriptors.saturating_sub(own);
    let pipes_max = (free / 16 / workers.max(1)).min(PIPES_MAX);
    let early_max = (free / 32 / workers.max(1)).min(EARLY_MAX);
    let possible = (free - (2 * pipes_max + early_max) * workers) / 2;
    let connections_max = wanted.unwrap_or(possible);
    // Pipes can be done without, and near the limit no client is accepted early; each session takes its two
    // descriptors.
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
    let (early_max, pipes_max) = (early_max as usize, pipes_max as u16);
    let (limited_by, buffers_max) = (LimitedBy::Descriptors, BUFFERS_MAX);
    Ok(Capacity { descriptors, connections_max, limited_by, early_max, pipes_max, buffers_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[listeners.l]\nbind = \"127.0.0.1:1\"\npool = \"p\"\n\
                    [pools.p]\nbackends = [{ address = \"127.0.0.1:2\" }]";
        crate::config::load(text, "t", &|_: &str| None).unwrap()
    }

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
    fn receive_buffers_take_no_more_than_their_part_of_the_memory() {
        assert_eq!(buffers_for(0, None, 2), 512 << 20);
        assert_eq!(buffers_for(0, Some(64 << 30), 2), 512 << 20);
        assert_eq!(buffers_for(0, Some(1 << 30), 2), 128 << 20);
        assert_eq!(buffers_for(0, Some(48 << 20), 4), 4 << 20);
        assert_eq!(buffers_for(8 << 20, Some(16 << 20), 4), 8 << 20, "who asks for it gets it");
    }

    /// 9,700 clients that did nothing were the end of a ringway that may have 48 MiB.
    #[test]
    fn sessions_fit_into_the_memory() {
        let measured = |sessions: u64| (29 << 20) + sessions * 6200;
        assert!((1000..3000).contains(&enough_for(48 << 20, 1)), "{}", enough_for(48 << 20, 1));
        for memory in [48 << 20, 64 << 20, 1 << 30] {
            assert!(measured(enough_for(memory, 1)) < memory, "{memory}");
        }
        assert_eq!(enough_for(10 << 20, 64), CONNECTIONS_MIN);
        let mut config = config();
        let group = cgroup::Group { memory: Some(40 << 20), cpus: None };
        let limits = Capacity::of(&config, 1, 0, &group).unwrap();
        assert_eq!((limits.connections_max, limits.limited_by), (1024, LimitedBy::Memory(40 << 20)));
        config.process.connections_max = Some(200);
        let limits = Capacity::of(&config, 1, 0, &group).unwrap();
        assert_eq!((limits.connections_max, limits.limited_by), (200, LimitedBy::Configuration));
    }

    /// The limit of descriptors that container engines set, and what there may be at the most.
    #[test]
    fn a_huge_descriptor_limit_gives_no_more_sessions_than_there_is_memory_for() {
        let mut config = config();
        for (memory, workers) in [(48 << 20, 1), (512 << 20, 2), (16 << 30, 8), (256 << 30, 64)] {
            let modest = Capacity::within(&config, workers, 3, (1 << 28, Some(memory))).unwrap();
            for descriptors in [1_000_000_000, (1 << 30) - 8, u64::MAX] {
                let limits = Capacity::within(&config, workers, 3, (descriptors, Some(memory))).unwrap();
                assert_eq!(limits, Capacity { descriptors, ..modest }, "{memory} {descriptors}");
                assert_eq!(limits.limited_by, LimitedBy::Memory(memory));
                assert!(limits.connections_max * MEMORY_PER_SESSION <= memory, "{limits:?}");
                let table = limits.descriptors_to_expect(workers);
                assert!(table <= TABLE_MAX && table * 8 <= memory / 100, "{table} of {memory}");
                let buffers = limits.buffers_max * workers as u64;
                assert!(buffers <= memory / BUFFERS_PART, "{buffers} of {memory}");
            }
        }
        config.process.connections_max = Some(1000);
        let limits = Capacity::within(&config, 2, 0, (1 << 30, Some(1 << 30))).unwrap();
        assert_eq!((limits.connections_max, limits.limited_by), (1000, LimitedBy::Configuration));
        assert!(limits.descriptors_to_expect(2) < 5000);
    }

    #[test]
    fn more_sessions_than_descriptors_are_refused_with_the_remedy() {
        let error = share(1024, 70, 2, Some(1000)).unwrap_err().to_string();
        assert!(error.contains("LimitNOFILE") && error.contains("2070"), "{error}");
        assert!(share(60, 70, 2, None).is_err());
        assert_eq!(share(1024, 70, 2, Some(477)).unwrap().pipes_max, 0);
    }

    #[test]
    fn the_table_of_descriptors_is_as_large_as_can_be_needed() {
        let limits = share(20_000, 100, 2, None).unwrap();
        assert_eq!(limits.descriptors_to_expect(2), 20_000);
        assert!(share(1 << 30, 100, 2, Some(1000)).unwrap().descriptors_to_expect(2) < 8000);
        assert_eq!(share(1 << 30, 100, 2, None).unwrap().descriptors_to_expect(2), TABLE_MAX);
    }
}
