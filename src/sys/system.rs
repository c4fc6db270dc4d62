//! The process and its threads: affinity, limits, wake-ups.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::kernel::{Bell, Fd};

/// The CPUs this process may run on.
pub fn cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is as large as the size says.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: CPU_ISSET reads within `set` for numbers below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Binds the calling thread to a CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` comes from the affinity mask, so it is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is as large as the size says.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
}

/// Raises the soft limit of descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        raised.rlim_cur
    } else {
        limit.rlim_cur
    }
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

/// Makes a descriptor our own that whoever started us has left open for us. To be called once for each.
pub fn adopt(fd: Fd) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; a number that is no descriptor is refused.
    let result = unsafe { libc::fcntl(fd.0, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(result.min(0))?;
    // SAFETY: the descriptor is open, and we were started with it, so nothing of ours owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.0) })
}

/// Which version of Landlock this kernel has; 0 is none, or it is not enabled.
pub fn landlock_version() -> u32 {
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

/// An event descriptor: wakes a worker that sleeps in its ring.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Not signalled yet.
    pub fn new() -> io::Result<Event> {
        // SAFETY: a plain call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        check(fd.min(0))?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Event(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl Bell for Event {
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

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
