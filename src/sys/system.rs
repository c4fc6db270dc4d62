//! The process and its threads: affinity, limits, wake-ups.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::kernel::{Bell, Fd};

/// Has opening a file fail with ELOOP where it is a symbolic link.
pub const NO_FOLLOW: i32 = libc::O_NOFOLLOW;

/// Whether that is why a file was not opened.
pub fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// As many sets as the greatest kernels have CPUs for (8192): the kernel refuses to tell less than all of them.
type CpuSets = [libc::cpu_set_t; 8];
/// CPUs of one set. `libc::CPU_SETSIZE` does not say it everywhere: with musl it is the number of bytes.
const SET_CPUS: usize = 8 * size_of::<libc::cpu_set_t>();

/// The CPUs that this thread may run on, in their order; none if that cannot be known.
pub fn cpus() -> Vec<usize> {
    // SAFETY: all-zero sets are valid empty sets.
    let mut sets: CpuSets = unsafe { std::mem::zeroed() };
    // SAFETY: `sets` is as large as the size says.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<CpuSets>(), sets.as_mut_ptr()) };
    if result != 0 {
        return Vec::new();
    }
    (0..SET_CPUS * sets.len()).filter(|&cpu| is_in(&sets, cpu)).collect()
}

/// Binds the calling thread to a CPU, which must be one of [`cpus`].
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: all-zero sets are valid empty sets.
    let mut sets: CpuSets = unsafe { std::mem::zeroed() };
    put_in(&mut sets, cpu);
    // SAFETY: `sets` is as large as the size says.
    check(unsafe { libc::sched_setaffinity(0, size_of::<CpuSets>(), sets.as_ptr()) })
}

/// Lowers the priority of the calling thread by so much against the others of this process.
pub fn be_nice(by: i32) {
    // SAFETY: takes a number only. On Linux it is of the thread alone; where it is refused, nothing changes.
    unsafe { libc::nice(by) };
}

fn is_in(sets: &CpuSets, cpu: usize) -> bool {
    // SAFETY: CPU_ISSET reads within a set for numbers below SET_CPUS.
    unsafe { libc::CPU_ISSET(cpu % SET_CPUS, &sets[cpu / SET_CPUS]) }
}

fn put_in(sets: &mut CpuSets, cpu: usize) {
    // SAFETY: the number is below SET_CPUS.
    unsafe { libc::CPU_SET(cpu % SET_CPUS, &mut sets[cpu / SET_CPUS]) };
}

/// Bytes of memory that the machine has.
pub fn memory_bytes() -> Option<u64> {
    // SAFETY: all of it is numbers.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one sysinfo.
    let result = unsafe { libc::sysinfo(&raw mut info) };
    (result == 0).then(|| info.totalram.saturating_mul(u64::from(info.mem_unit)))
}

/// Bytes of a page of memory: 4 KiB, and on machines other than x86-64 also 16 or 64 KiB.
pub fn page_bytes() -> usize {
    // SAFETY: a plain call.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Raises the soft limit of descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let possible = descriptors_possible();
    let hard = limit.rlim_max.min(possible);
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        hard
    } else {
        limit.rlim_cur.min(possible)
    }
}

/// What no process can have more of, whatever its limit is (`fs.nr_open`). A limit beyond it cannot be set.
fn descriptors_possible() -> u64 {
    let known = std::fs::read_to_string("/proc/sys/fs/nr_open");
    known.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX)
}

/// The longest backlog that a socket can have (`net.core.somaxconn`).
pub fn backlog_max() -> u32 {
    let known = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    known.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// Grows the descriptor table to `count` while there is one thread: later, each doubling would wait for an RCU grace
/// period (tens of milliseconds) in the middle of an accept.
pub fn presize_descriptors(count: u64) {
    let highest = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // SAFETY: a plain call; descriptor 2 or none is duplicated.
    let fd = unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, highest) };
    if fd >= 0 {
        super::socket::close(Fd(fd));
    }
}

/// Closes every descriptor behind standard error, for a process that has opened nothing yet.
pub fn close_all_but_standard() {
    // SAFETY: a plain call; nothing of ours has one of these descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Gives this thread, and those that it starts, a network and mounts of their own.
#[cfg(test)]
pub(crate) fn leave_network_and_mounts() -> io::Result<()> {
    // SAFETY: a plain call; it concerns this thread alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })
}

/// Makes a descriptor our own that the program which started ringway has left open for it. To be called once for each.
pub fn adopt(fd: Fd) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; a number that is no descriptor is refused.
    let result = unsafe { libc::fcntl(fd.0, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(result.min(0))?;
    // SAFETY: the descriptor is open, and we were started with it, so nothing of ours owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.0) })
}

/// Which version of Landlock this kernel has; 0 is none, or it is not enabled.
pub fn landlock_version() -> u32 {
    /// LANDLOCK_CREATE_RULESET_VERSION: the call answers with the version and creates nothing.
    const CREATE_RULESET_VERSION: libc::c_long = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel takes no other argument.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, CREATE_RULESET_VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Ignores SIGPIPE: a peer that is gone is told by the error of the call.
pub fn ignore_sigpipe() {
    // SAFETY: no handler runs; ignoring has no requirements.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Threads of this process that the kernel made for operations it could not do without blocking.
pub fn kernel_worker_threads() -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("iou-wrk"))
        .count() as u64
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time of all threads, in seconds.
    pub cpu_s: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many may be open.
    pub descriptors_max: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in seconds since 1970.
    pub started_at_s: f64,
}

/// Of this process now; `None` without /proc.
pub fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // SAFETY: a plain call.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
    let (descriptors, descriptors_max) = (open_descriptors()?, descriptor_limit().0);
    let usage = parse_stat(&stat, ticks_a_second as f64, page_bytes() as u64, now_s - since_boot_s())?;
    Some(Usage { descriptors, descriptors_max, ..usage })
}

/// Of `/proc/PID/stat` (proc_pid_stat(5)). `booted_at_s` is since 1970.
fn parse_stat(stat: &str, ticks_a_second: f64, page_bytes: u64, booted_at_s: f64) -> Option<Usage> {
    // The name may have anything in it, also parentheses.
    let fields: Vec<u64> =
        stat.rsplit_once(") ")?.1.split(' ').skip(1).map(|field| field.parse().unwrap_or(0)).collect();
    // Field 4 is the first of these.
    let field = |number: usize| fields.get(number - 4).copied();
    Some(Usage {
        cpu_s: (field(14)? + field(15)?) as f64 / ticks_a_second,
        threads: field(20)?,
        started_at_s: booted_at_s + field(22)? as f64 / ticks_a_second,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_bytes,
        ..Usage::default()
    })
}

/// Since 6.2 the kernel says how many there are without listing them.
fn open_descriptors() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata("/proc/self/fd").ok()?.size() {
        0 => std::fs::read_dir("/proc/self/fd").ok().map(|list| list.count() as u64),
        count => Some(count),
    }
}

/// Soft and hard limit.
fn descriptor_limit() -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Seconds since the machine was started, the time in which it slept included (CLOCK_BOOTTIME).
fn since_boot_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// An event descriptor: wakes a worker that sleeps in its ring.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// Not signalled yet.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: a plain call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        check(fd.min(0))?;
        // SAFETY: the descriptor was just made and nothing else owns it.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl Bell for EventFd {
    fn ring(&self) {
        let one = 1u64;
        // SAFETY: the kernel reads eight bytes.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: the kernel writes eight bytes.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    fn fd(&self) -> Fd {
        Fd(self.0.as_raw_fd())
    }
}

/// The result of a call that is negative after a failure.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_takes_is_read_whatever_it_is_called() {
        let stat = "7 (a) R (b)) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 6 0 1000 4096000 25 1844 1";
        let usage = parse_stat(stat, 100.0, 4096, 1000.0).unwrap();
        let expected = Usage {
            cpu_s: 3.0,
            resident_bytes: 102_400,
            virtual_bytes: 4_096_000,
            threads: 6,
            started_at_s: 1010.0,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(parse_stat("7 (a) S 1", 100.0, 4096, 0.0), None);
    }

    /// The kernel takes the sets for one row of bits.
    #[test]
    fn a_cpu_has_its_bit_on_the_greatest_machines_as_well() {
        for cpu in [0, 63, 64, 127, 128, 200, 1023, 1024, 8191] {
            // SAFETY: all-zero sets are valid empty sets.
            let mut sets: CpuSets = unsafe { std::mem::zeroed() };
            put_in(&mut sets, cpu);
            assert!(is_in(&sets, cpu));
            // SAFETY: sets are numbers without gaps.
            let bytes: [u8; size_of::<CpuSets>()] = unsafe { std::mem::transmute(sets) };
            assert_eq!(bytes[cpu / 8], 1 << (cpu % 8), "CPU {cpu}");
        }
    }

    #[test]
    fn a_pinned_thread_may_run_on_that_cpu_alone() {
        let all = cpus();
        assert!(!all.is_empty() && all.is_sorted());
        for &cpu in &all {
            let pinned = std::thread::spawn(move || pin(cpu).map(|()| cpus()));
            assert_eq!(pinned.join().unwrap().unwrap(), [cpu]);
        }
        assert_eq!(cpus(), all, "of that thread alone");
    }

    #[test]
    fn this_process_takes_something() {
        let usage = usage().unwrap();
        assert!(usage.threads > 0 && usage.descriptors >= 3 && usage.descriptors <= usage.descriptors_max);
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes > usage.resident_bytes);
        let age_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - usage.started_at_s;
        assert!((-1.0..86_400.0).contains(&age_s), "{age_s} s");
    }
}
