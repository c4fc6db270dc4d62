//! Tries what the data plane needs, for real, because a kernel may allow the set-up of a ring and refuse its use.

use std::io;
use std::os::fd::OwnedFd;

use super::buffers::BufferRing;
use super::ring::Ring;
use crate::kernel::token::{Operation, Token};
use crate::kernel::{Buffers as _, Completion, Wait};
use crate::sys::features::{Features, kernel_version};
use crate::sys::{socket, stream};

/// What `ringway doctor` prints.
pub struct Report {
    /// Whether a ring can be made and used; the error says why not and what to do.
    pub setup: Result<(), String>,
    /// Each optional feature and whether it is there.
    pub features: Vec<(&'static str, bool)>,
}

/// Makes a ring, a buffer ring and moves a few bytes.
pub fn report() -> Report {
    match try_out() {
        Ok(features) => {
            let credit = ("credit for multishot receive (6.17)", features.recv_credit);
            Report { setup: Ok(()), features: vec![credit, ("restricted to the operations it needs", true)] }
        }
        Err(error) => Report { setup: Err(explain(&error)), features: Vec::new() },
    }
}

/// The features of this kernel, found by use: a multishot receive with a credit of 4 bytes must end
/// by itself when 8 come (it may overdraw by less than a buffer; kernels before 6.17 refuse it with EINVAL).
pub fn try_out() -> io::Result<Features> {
    let mut ring = Ring::new()?;
    let mut buffers = BufferRing::new(&ring, 0)?;
    ring.enable()?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (ours, theirs) = (OwnedFd::from(ours), OwnedFd::from(theirs));
    // A kernel that cannot even do this is found out below.
    let _ = stream::send(socket::number(&theirs), b"ringway!", 0);
    ring.recv_multi(socket::number(&ours), 4, false, Token::plain(Operation::RecvClient, 0));
    let mut completed: Vec<Completion> = Vec::new();
    for _ in 0..4 {
        ring.enter(Wait::For(50_000_000))?;
        buffers.taken(ring.completions(&mut completed));
        if completed.iter().any(|completion| !completion.more) {
            break;
        }
    }
    for completion in completed.iter().filter_map(|completion| completion.buffer) {
        buffers.release(completion);
    }
    let recv_credit = match completed.first() {
        None => return Err(io::Error::from(io::ErrorKind::TimedOut)),
        Some(first) if first.result == -libc::EINVAL => false,
        Some(first) if first.result < 0 => return Err(io::Error::from_raw_os_error(-first.result)),
        Some(first) => !first.more,
    };
    drop(ring);
    // To see how an older kernel would be served.
    let without = std::env::var("RINGWAY_WITHOUT").unwrap_or_default();
    let withheld = without.split(',').any(|feature| feature == "recv_credit");
    Ok(Features { recv_credit: recv_credit && !withheld })
}

/// Why io_uring cannot be used here, and what to do about it.
pub fn explain(error: &io::Error) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let seccomp = read("/proc/self/status").lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0'));
    let disabled = read("/proc/sys/kernel/io_uring_disabled");
    let (major, minor) = kernel_version();
    let cause = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled.trim() == "2" => {
            "kernel.io_uring_disabled is 2: allow it with `sysctl kernel.io_uring_disabled=0`".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) if disabled.trim() == "1" => {
            "kernel.io_uring_disabled is 1: put ringway's group into kernel.io_uring_group, or set it to 0".to_owned()
        }
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if seccomp => {
            "a seccomp profile forbids it (Docker and containerd do by default): run with a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned()
        }
        Some(libc::ENOSYS) => format!("this kernel ({major}.{minor}) has none: Linux 6.1 or newer is needed"),
        Some(libc::EINVAL) => format!("this kernel ({major}.{minor}) is too old: Linux 6.1 or newer is needed"),
        Some(libc::ENOMEM) if may_lock(&read("/proc/self/status")) => {
            "the kernel has no memory left for a ring (a few MiB a worker): free some, or raise the memory limit of \
             its control group"
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            "not enough locked memory: raise it (`ulimit -l`, LimitMEMLOCK= in systemd) to 64 MiB or more".to_owned()
        }
        _ => error.to_string(),
    };
    format!("io_uring cannot be used: {cause}")
}

/// Whether the limit of locked memory does not concern this process: it has CAP_IPC_LOCK, number 14.
fn may_lock(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> 14 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_lock_memory_is_not_told_to_raise_its_limit() {
        assert!(may_lock("Name:\tringway\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lock("CapEff:\t0000000000000400\n") && !may_lock("CapEff:\tx\n") && !may_lock(""));
    }

    #[test]
    fn a_ring_that_can_be_made_can_be_used() {
        let report = report();
        let made = report.setup.clone().map_err(io::Error::other);
        if crate::uring::wanted(made).is_none() {
            return;
        }
        assert_eq!(report.features.len(), 2);
        if kernel_version() >= (6, 17) {
            assert!(report.features[0].1, "6.17 has the credit");
        }
    }
}
