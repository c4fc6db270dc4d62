//! What the control group of this process, and those around it, let it have.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::sys::system;

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
    /// The limits of every group that this process is in, for both versions of control groups: the least of all counts.
    /// What cannot be read is no limit.
    pub fn of_this_process() -> Group {
        let text = |file: &str| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        Group::read(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
    }

    /// One worker a CPU, but no more than there is time for: they would be stopped in the middle of their work.
    pub fn workers_for(&self, cpus: usize) -> usize {
        self.cpus.map_or(cpus, |quota| quota.min(cpus)).max(1)
    }

    /// `mounts` is what `/proc/self/mountinfo` holds. `membership` is what `/proc/self/cgroup` holds: lines of
    /// `number:controllers:path`, and version 2 has no controllers.
    fn read(mounts: &str, membership: &str) -> Group {
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let mut group = Group::default();
        for line in membership.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let folders = mounts.iter().filter(|mount| mount.has(controllers)).flat_map(|mount| mount.up(path));
            folders.for_each(|folder| group.limit_by(&folder));
        }
        group
    }

    /// Lowers the limits to those that the files of this group name (cgroup v2: `memory.max`, `cpu.max`; v1:
    /// `memory.limit_in_bytes`, `cpu.cfs_quota_us` and `cpu.cfs_period_us`).
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

/// A hierarchy of groups, or a part of it, and where it is mounted.
struct Mount<'a> {
    /// The outermost group that is seen: in a container that is often its own.
    root: PathBuf,
    /// Where it is mounted, as this process sees it.
    folder: PathBuf,
    /// Version 1: its controllers are among them. Version 2: empty.
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// A line of mountinfo (proc_pid_mountinfo(5)); `None` if it is about something else.
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (place, kind) = line.split_once(" - ")?;
        let (mut place, mut kind) = (place.split(' ').skip(3), kind.split(' '));
        let (root, folder) = (unescaped(place.next()?), unescaped(place.next()?));
        let options = match kind.next()? {
            "cgroup2" => "",
            "cgroup" => kind.nth(1)?,
            _ => return None,
        };
        Some(Mount { root, folder, options })
    }

    /// Whether these controllers, as a line of membership names them, are those of this hierarchy.
    fn has(&self, controllers: &str) -> bool {
        controllers.split(',').all(|controller| self.options.split(',').any(|option| option == controller))
    }

    /// The folder of a group and those of all groups around it, as far as they are seen; none if this is another part
    /// of the hierarchy.
    fn up(&self, group: &str) -> Vec<PathBuf> {
        let group = Path::new(group);
        let folder = match group.strip_prefix(&self.root) {
            Ok(below) if !leads_out(below) => self.folder.join(below),
            // By names alone it cannot be told where the one lies in the other. What is mounted is what there is.
            _ if leads_out(group) || leads_out(&self.root) => self.folder.clone(),
            _ => return Vec::new(),
        };
        folder.ancestors().take_while(|folder| folder.starts_with(&self.folder)).map(Path::to_path_buf).collect()
    }
}

/// Whether a path is outside of what a namespace of control groups shows.
fn leads_out(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// A path of mountinfo, in which white space and backslashes are written as numbers.
fn unescaped(path: &str) -> PathBuf {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    escapes.iter().fold(path.to_owned(), |path, (escape, plain)| path.replace(escape, plain)).into()
}

/// Bytes of memory that the machine has: as `/proc` says, where a container may see its own, or else the kernel.
pub(super) fn memory_of_machine() -> Option<u64> {
    let known = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_total(&known).or_else(system::memory_bytes)
}

/// Bytes of `MemTotal`, which `/proc/meminfo` gives in KiB.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The lower of two limits, of which `None` is no limit.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a folder, in which a hierarchy is mounted for each `(root, place, type, options)`.
    fn group(files: &[(&str, &str)], mounts: &[[&str; 4]], membership: &str) -> Group {
        let top = tempfile::Builder::new().prefix("a b").tempdir().unwrap();
        for (path, text) in files {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut lines = "22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n".to_owned();
        for [root, place, kind, options] in mounts {
            let place = top.path().join(place).to_str().unwrap().replace(' ', r"\040");
            lines += &format!("32 31 0:29 {root} {place} rw,relatime shared:9 master:2 - {kind} cgroup rw,{options}\n");
        }
        Group::read(&lines, membership)
    }

    fn cpus(files: &[(&str, &str)], mounts: &[[&str; 4]], membership: &str) -> Option<usize> {
        group(files, mounts, membership).cpus
    }

    const VERSION_2: [&str; 4] = ["/", "", "cgroup2", "nsdelegate"];
    const CPU: [&str; 4] = ["/", "cpu,cpuacct", "cgroup", "cpu,cpuacct"];
    const MEMORY: [&str; 4] = ["/", "memory", "cgroup", "memory"];

    #[test]
    fn the_tightest_of_all_groups_around_counts() {
        let files = [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "50331648\n"),
            ("memory.max", "100000000\n"),
            ("a/b/cpu.max", "150000 100000\n"),
            ("a/cpu.max", "max 100000\n"),
            ("other/cpu.max", "100000 100000\n"),
        ];
        let found = group(&files, &[VERSION_2], "0::/a/b\n");
        assert_eq!(found, Group { memory: Some(50_331_648), cpus: Some(2) });
        assert_eq!([1, 2, 64].map(|cpus| found.workers_for(cpus)), [1, 2, 2]);
        assert_eq!(Group::default().workers_for(64), 64);
        for (inner, middle, outer, expected) in [
            ("800000 100000", "300000 100000", "max 100000", Some(3)),
            ("200000 100000", "300000 100000", "max 100000", Some(2)),
            ("max 100000", "max 100000", "50000 100000", Some(1)),
            ("max 100000", "max 100000", "max 100000", None),
        ] {
            let files = [("a/b/c/cpu.max", inner), ("a/b/cpu.max", middle), ("a/cpu.max", outer)];
            assert_eq!(cpus(&files, &[VERSION_2], "0::/a/b/c\n"), expected, "{inner}, {middle}, {outer}");
        }
    }

    #[test]
    fn a_fraction_of_a_cpu_counts_as_a_whole_one() {
        for (quota, expected) in [
            ("1000 100000", 1),
            ("100000 100000", 1),
            ("100001 100000", 2),
            ("250000 100000", 3),
            ("50000 25000", 2),
            ("6400000 100000", 64),
        ] {
            assert_eq!(cpus(&[("cpu.max", quota)], &[VERSION_2], "0::/\n"), Some(expected), "{quota}");
        }
    }

    /// With a namespace of its own its path is `/`. Without one it is that of the host.
    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let files = [("memory.max", "50331648\n"), ("cpu.max", "20000 100000\n")];
        let expected = Group { memory: Some(50_331_648), cpus: Some(1) };
        let of = |root, path| group(&files, &[[root, "", "cgroup2", ""]], &format!("0::{path}\n"));
        for (root, path) in [("/", "/"), ("/docker/0123", "/docker/0123"), ("/", "/../.."), ("/..", "/")] {
            assert_eq!(of(root, path), expected, "{root} {path}");
        }
        assert_eq!(of("/docker/4567", "/docker/0123"), Group::default(), "of another container");
    }

    /// As a service manager makes them.
    #[test]
    fn groups_inside_a_container_count_too() {
        let files = [("cpu.max", "800000 100000"), ("system.slice/r.service/cpu.max", "300000 100000")];
        let path = "0::/docker/0123/system.slice/r.service\n";
        assert_eq!(cpus(&files, &[["/docker/0123", "", "cgroup2", ""]], path), Some(3));
        let files = [("cpu,cpuacct/in/cpu.cfs_quota_us", "200000"), ("cpu,cpuacct/in/cpu.cfs_period_us", "100000")];
        let mount = ["/docker/0123", "cpu,cpuacct", "cgroup", "cpu,cpuacct"];
        assert_eq!(cpus(&files, &[mount], "3:cpu,cpuacct:/docker/0123/in\n"), Some(2));
    }

    #[test]
    fn version_1_is_read_too() {
        let files = [
            ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.limit_in_bytes", "268435456\n"),
            ("cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n"),
            ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        let membership = "9:name=systemd:/\n4:memory:/x\n3:cpuacct,cpu:/x/y\n0::/\n";
        let found = group(&files, &[CPU, MEMORY], membership);
        assert_eq!(found, Group { memory: Some(268_435_456), cpus: Some(3) });
        assert_eq!(cpus(&files, &[CPU, MEMORY], "3:cpu,cpuacct:/\n"), None);
        // The group of one hierarchy says nothing about another.
        assert_eq!(group(&files, &[CPU, MEMORY], "4:memory:/\n3:cpu,cpuacct:/\n").memory, Some(268_435_456));
        assert_eq!(cpus(&files, &[CPU, MEMORY], "9:name=systemd:/x/y\n3:cpu,cpuacct:/\n"), None);
    }

    /// Version 2 beside version 1 has the controllers that version 1 leaves to it.
    #[test]
    fn both_versions_side_by_side_count() {
        let files = [
            ("cpu,cpuacct/s/cpu.cfs_quota_us", "400000"),
            ("cpu,cpuacct/s/cpu.cfs_period_us", "100000"),
            ("unified/s/cgroup.procs", "1"),
            ("unified/s/memory.max", "50331648"),
        ];
        let unified = ["/", "unified", "cgroup2", "nsdelegate"];
        let found = group(&files, &[CPU, unified], "3:cpu,cpuacct:/s\n1:name=systemd:/s\n0::/s\n");
        assert_eq!(found, Group { memory: Some(50_331_648), cpus: Some(4) });
    }

    /// systemd has backslashes in the names of units.
    #[test]
    fn a_mounted_group_is_found_whatever_it_is_called() {
        let mount = [r"/x\134x2dy\040z", "", "cgroup2", ""];
        let files = [("in/cpu.max", "200000 100000"), ("cpu.max", "max 100000")];
        assert_eq!(cpus(&files, &[mount], "0::/x\\x2dy z/in\n"), Some(2));
    }

    #[test]
    fn without_groups_there_is_no_limit() {
        assert_eq!(group(&[], &[VERSION_2], "0::/a\n"), Group::default());
        assert_eq!(group(&[("a/cpu.max", "100000 100000")], &[], "0::/a\n"), Group::default());
        assert_eq!(group(&[], &[VERSION_2, CPU], ""), Group::default());
        for broken in ["", "max", "0 0", "100000", "x 100000", "100000 0"] {
            assert_eq!(cpus(&[("cpu.max", broken)], &[VERSION_2], "0::/\n"), None, "{broken:?}");
        }
    }

    /// A unit with `ProcSubset=pid` sees no `/proc/meminfo`.
    #[test]
    fn the_memory_of_the_machine_is_known_with_and_without_proc() {
        let told = memory_of_machine().unwrap();
        assert!(told > 1 << 26, "{told}");
        assert_eq!(memory_total("MemTotal:    1000 kB\n"), Some(1_024_000));
        assert_eq!(memory_total(""), None);
        assert!(system::memory_bytes().unwrap() > 1 << 26);
    }
}
