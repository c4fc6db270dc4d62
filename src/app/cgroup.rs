//! What the control group of this process, and those around it, let it have.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted: version 2 alone, version 2 beside version 1, and each controller of version 1.
const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 writes "no limit" as the greatest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// Bytes of memory, that of the kernel for its sockets included.
    pub memory: Option<u64>,
    /// CPUs that it may use all the time, as a quota; a fraction counts as a whole one.
    pub cpus: Option<usize>,
}

impl Group {
    pub fn of_this_process() -> Group {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Group::read(Path::new(ROOT), &membership)
    }

    /// One worker a CPU, but no more than there is time for: they would be stopped in the middle of their work.
    pub fn workers_for(&self, cpus: usize) -> usize {
        self.cpus.map_or(cpus, |quota| quota.min(cpus))
    }

    /// `membership` is what `/proc/self/cgroup` holds: lines of `number:controllers:path`.
    fn read(root: &Path, membership: &str) -> Group {
        let mut group = Group::default();
        for line in membership.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let mounts = match controllers {
                "" => vec![root.to_path_buf(), root.join("unified")],
                _ => controllers.split(',').map(|one| root.join(one)).chain([root.join(controllers)]).collect(),
            };
            // In a container the path may be that of the host, where the container sees its own group as the root.
            for folder in mounts.iter().flat_map(|mount| up(mount, path)) {
                group.limit_by(&folder);
            }
        }
        group
    }

    fn limit_by(&mut self, folder: &Path) {
        let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        let memory = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
        let both = fs::read_to_string(folder.join("cpu.max")).unwrap_or_default();
        let quota = match both.split_whitespace().collect::<Vec<_>>()[..] {
            [quota, period] => quota.parse().ok().zip(period.parse().ok()),
            // "-1" is no number of this kind, and no limit.
            _ => number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us")),
        };
        let cpus =
            quota.filter(|&(_, period)| period > 0).map(|(quota, period)| quota.div_ceil(period).max(1) as usize);
        self.memory = least(self.memory, memory.filter(|&bytes| bytes < NO_LIMIT));
        self.cpus = least(self.cpus, cpus);
    }
}

/// Bytes of memory that the machine has.
pub(super) fn memory_of_machine() -> Option<u64> {
    let known = fs::read_to_string("/proc/meminfo").ok()?;
    let line = known.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The folder of a group and those of all groups around it.
fn up(mount: &Path, path: &str) -> Vec<PathBuf> {
    let inside = mount.join(path.trim_start_matches('/'));
    inside.ancestors().take_while(|folder| folder.starts_with(mount)).map(Path::to_path_buf).collect()
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)], membership: &str) -> Group {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Group::read(root.path(), membership)
    }

    #[test]
    fn the_tightest_of_all_groups_around_counts() {
        let files = [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "50331648\n"),
            ("memory.max", "100000000\n"),
            ("a/b/cpu.max", "150000 100000\n"),
            ("a/cpu.max", "max 100000\n"),
        ];
        let found = group(&files, "0::/a/b\n");
        assert_eq!(found, Group { memory: Some(50_331_648), cpus: Some(2) });
        assert_eq!([1, 2, 64].map(|cpus| found.workers_for(cpus)), [1, 2, 2]);
        assert_eq!(Group::default().workers_for(64), 64);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let files = [("memory.max", "50331648\n"), ("cpu.max", "20000 100000\n")];
        for path in ["/", "/docker/0123", "/../.."] {
            let found = group(&files, &format!("0::{path}\n"));
            assert_eq!(found, Group { memory: Some(50_331_648), cpus: Some(1) }, "{path}");
        }
    }

    #[test]
    fn version_1_is_read_too() {
        let files = [
            ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.limit_in_bytes", "268435456\n"),
            ("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n"),
            ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        let found = group(&files, "9:name=systemd:/\n4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n");
        assert_eq!(found, Group { memory: Some(268_435_456), cpus: Some(3) });
    }

    #[test]
    fn without_groups_there_is_no_limit() {
        assert_eq!(group(&[], "0::/a\n"), Group::default());
        assert_eq!(group(&[], ""), Group::default());
        assert!(memory_of_machine().is_some_and(|bytes| bytes > 1 << 26));
    }
}
