//! What the machine says about itself, read from `/proc`, and one ring that is really made.
//!
//! Only facts are gathered here. What they mean for ringway is decided in `findings`, which is pure and is tested with
//! facts of other machines. A fact that cannot be read is `None` or empty and never an error: containers hide parts of
//! `/proc`.

use std::fs;
use std::num::NonZeroUsize;

use crate::sys::system;
use crate::uring::probe;

/// Bits of `CapEff` in `/proc/self/status` (linux/capability.h).
const CAP_NET_BIND_SERVICE: u32 = 10;
/// Lifts the limit of locked memory.
const CAP_IPC_LOCK: u32 = 14;
/// Lifts the limit of pipes, among many other things.
const CAP_SYS_ADMIN: u32 = 21;
/// Lifts the limit of pipes.
const CAP_SYS_RESOURCE: u32 = 24;

/// The facts as they were found; `None` for what could not be read.
pub(super) struct HostFacts {
    /// The release of the kernel, such as `6.18.44-amd64`.
    pub(super) kernel: String,
    /// What happened when a ring was made and used.
    pub(super) ring: probe::Report,
    /// `kernel.io_uring_disabled`: 0 allowed, 1 for a group, 2 forbidden.
    pub(super) uring_disabled: Option<u64>,
    /// `Seccomp:` of the process: 0 none, 2 a filter.
    pub(super) seccomp: Option<u64>,
    /// What a filter of system calls can do (`kernel.seccomp.actions_avail`); empty if the kernel has no filters.
    pub(super) seccomp_actions: String,
    /// The version of Landlock; 0 if there is none.
    pub(super) landlock: u32,
    /// How many bytes this user can lock in memory; `u64::MAX` is unlimited.
    pub(super) memlock: Option<u64>,
    /// The hard limit of descriptors; ringway raises its own limit to it.
    pub(super) descriptors: Option<u64>,
    /// The first and last port of connections to backends (`net.ipv4.ip_local_port_range`).
    pub(super) ephemeral: Option<(u16, u16)>,
    /// Ports in that range that are kept free (`net.ipv4.ip_local_reserved_ports`).
    pub(super) reserved: String,
    /// `net.ipv4.tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub(super) reuse: Option<u64>,
    /// The first port that needs no privilege (`net.ipv4.ip_unprivileged_port_start`).
    pub(super) unprivileged_from: u64,
    /// How large the pipes of a user without privileges can be together before new ones get small; 0 is no limit.
    pub(super) pipe_bytes: Option<u64>,
    /// The longest backlog (`net.core.somaxconn`).
    pub(super) somaxconn: Option<u64>,
    /// The congestion control of TCP (`net.ipv4.tcp_congestion_control`).
    pub(super) congestion: String,
    /// On how many CPUs ringway can run.
    pub(super) cpus: u64,
    /// This user can bind ports below `unprivileged_from`.
    pub(super) may_bind_low: bool,
    /// The limit of locked memory does not count for this user.
    pub(super) may_lock: bool,
    /// The limit of pipes does not count for this user.
    pub(super) may_have_pipes: bool,
}

impl HostFacts {
    /// Reads all of it.
    pub(super) fn gather() -> HostFacts {
        let status = read("/proc/self/status");
        let limits = read("/proc/self/limits");
        let capabilities = field(&status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let may = |bit: u32| capabilities & (1 << bit) != 0;
        HostFacts {
            kernel: read("/proc/sys/kernel/osrelease"),
            ring: probe::report(),
            uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            seccomp: field(&status, "Seccomp:").and_then(|mode| mode.parse().ok()),
            seccomp_actions: read("/proc/sys/kernel/seccomp/actions_avail"),
            landlock: system::landlock_version(),
            memlock: limit(&limits, "Max locked memory").map(|(soft, _)| soft),
            descriptors: limit(&limits, "Max open files").map(|(_, hard)| hard),
            ephemeral: ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
            reserved: read("/proc/sys/net/ipv4/ip_local_reserved_ports"),
            reuse: number("/proc/sys/net/ipv4/tcp_tw_reuse"),
            unprivileged_from: number("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024),
            pipe_bytes: number("/proc/sys/fs/pipe-user-pages-soft").map(|pages| pages * system::page_bytes() as u64),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            cpus: std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64,
            may_bind_low: may(CAP_NET_BIND_SERVICE),
            may_lock: may(CAP_IPC_LOCK),
            may_have_pipes: may(CAP_SYS_RESOURCE) || may(CAP_SYS_ADMIN),
        }
    }
}

/// The text of a file in `/proc`; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// A file in `/proc` that holds one number.
fn number(path: &str) -> Option<u64> {
    read(path).parse().ok()
}

/// The value behind a name in `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The soft and the hard limit of a row in `/proc/self/limits`.
fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some((next()?, next()?))
}

/// A range of ports, as `/proc` writes it: two numbers.
fn ports(range: &str) -> Option<(u16, u16)> {
    let mut numbers = range.split_whitespace().map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         8388608              unlimited            bytes     \n";
        assert_eq!(limit(text, "Max open files"), Some((1024, 524288)));
        assert_eq!(limit(text, "Max locked memory"), Some((8388608, u64::MAX)));
        assert_eq!(limit(text, "Max nothing"), None);
    }

    #[test]
    fn status_and_ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(field("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n", "Seccomp:"), Some("2"));
        assert_eq!(ports("32768\t60999"), Some((32768, 60999)));
        assert_eq!(ports(""), None);
    }
}
