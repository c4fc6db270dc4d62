//! The few system calls that the standard library does not have: clocks of other processes, pinning, namespaces.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

/// CLOCK_MONOTONIC, in nanoseconds. The library's `Clock` is not used, so that this program does not change with it.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// CLOCK_REALTIME, in nanoseconds: the clock of the kernel's receive timestamps.
pub fn wall_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME).unwrap_or(0)
}

/// CPU time of this process, all threads, in nanoseconds.
pub fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// CPU time of process `pid` in nanoseconds: all its threads, also ended ones, so kernel workers of its ring count.
pub fn cpu_ns_of(pid: u32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the result for the length of the call.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if failed == 0 { clock_ns(clock) } else { None }
}

fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut spec = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `spec` is a valid place for a timespec.
    let failed = unsafe { libc::clock_gettime(clock, spec.as_mut_ptr()) };
    // SAFETY: zeroed, hence initialised: every bit pattern is a timespec.
    let spec = unsafe { spec.assume_init() };
    (failed == 0).then_some(spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64)
}

/// Pins the calling thread, and what it starts from then on, to one CPU. A machine without that CPU is no error:
/// the smoke run has to pass there, and the result folder names the CPUs.
pub fn pin_to_cpu(cpu: usize) {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeroes is the empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: CPU_SET writes one bit of `set`; `cpu` is far below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu.min(1023), set) };
    // SAFETY: `set` is initialised and outlives the call.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// Raises the priority of this process and what it starts; without the right to, nothing happens.
/// With autogroups a nice value counts only within a session, so this takes a session of its own and sets that one's.
pub fn set_nice(nice: i32) {
    // SAFETY: takes nothing.
    unsafe { libc::setsid() };
    // SAFETY: takes numbers only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    // Absent where the kernel has no autogroups.
    let _ = fs::write("/proc/self/autogroup", nice.to_string());
}

/// Raises the soft descriptor limit to the hard one.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// The calling process dies with its parent: an interrupted benchmark leaves nothing behind.
pub fn die_with_parent() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Ends a process that this program started.
pub fn kill(pid: u32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// Moves this process into a network namespace of its own with `lo` up and the given congestion control.
/// A namespace a run means no TIME_WAIT and no port-search history of earlier runs.
pub fn enter_own_network(congestion_control: &str) -> io::Result<()> {
    // SAFETY: takes a flag only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    bring_loopback_up()?;
    // These files show the namespace of the process that opens them.
    fs::write("/proc/sys/net/ipv4/tcp_congestion_control", congestion_control)?;
    // The kernel's own defaults, whatever the machine is set to: with receive buffers of 32 MiB now and then a run of
    // 32 flows collapsed to a few per cent of its rate.
    fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456")?;
    fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304")?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
    fs::write("/proc/sys/net/core/somaxconn", "16384")?;
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "262144")
}

fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut request = MaybeUninit::<libc::ifreq>::zeroed();
    // SAFETY: all zeroes is a valid ifreq with an empty name.
    let request = unsafe { request.assume_init_mut() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is.
    let failed = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, request as *mut libc::ifreq) };
    let error = io::Error::last_os_error();
    // SAFETY: `socket` is ours and not used again.
    unsafe { libc::close(socket) };
    if failed == 0 { Ok(()) } else { Err(error) }
}

/// Runs `start` so that the process it starts is the first of a process namespace: when that one ends, the kernel ends
/// all that it forked (nginx has a worker), also if this program was killed.
pub fn in_process_namespace<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = fs::File::open("/proc/self/ns/pid")?;
    // SAFETY: takes a flag only.
    let inside = unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    let started = start();
    if inside {
        use std::os::fd::AsRawFd;
        // SAFETY: `own` is an open namespace descriptor. Going back lets this process create threads again.
        unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWPID) };
    }
    started
}
