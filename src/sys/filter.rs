//! A filter of system calls (seccomp(2)) for the whole process: what a ringway that serves needs, and nothing else.
//!
//! Three filters, because there are three answers. What no proxy ever does on purpose (start a program, trace a
//! process, mount, load code into the kernel...) ends the process: code that asks for it has taken it over. All else
//! that is not on the list fails with EPERM: a library that tries something new must not cost an operator the load
//! balancer. And clone3 does not exist (ENOSYS): its flags are in memory, where no filter sees them, so threads are
//! made by clone.
//!
//! The calls of the data path have no conditions on their arguments, so since Linux 5.11 the kernel answers them from a
//! bitmap and runs no filter at all. What goes through a ring is not seen here: the rings are restricted, those of
//! workers (`uring::ring::Ring::enable`) and that of control (`sys::ring`), and no new one is made.

use std::collections::BTreeMap;

use crate::kernel::driver::Driver;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// fchmodat2(2): one number on every machine, which the `libc` crate has for some of them.
const FCHMODAT2: i64 = 452;
/// The part of socket(2)'s second argument that is no flag.
const SOCKET_KINDS: u64 = 0xf;

/// By the number of a system call, the conditions under which it is meant; none means always.
type FilterRules = BTreeMap<i64, Vec<SeccompRule>>;

/// Why there is no filter: this kernel, or a filter around us, does not take it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl<E: Into<seccompiler::Error>> From<E> for FilterError {
    fn from(error: E) -> FilterError {
        FilterError(error.into().to_string())
    }
}

/// Filters the calls of every thread there is, and of those to come: rings are only for those that run on io_uring.
/// There is no way back.
///
/// # Errors
/// The kernel refuses; then nothing, or only the first filter, is in force.
pub fn install(driver: Driver) -> Result<(), FilterError> {
    for program in programs(driver)? {
        seccompiler::apply_filter_all_threads(&program)?;
    }
    Ok(())
}

/// The three filters, as the kernel runs them.
fn programs(driver: Driver) -> Result<[BpfProgram; 3], FilterError> {
    let of_rings = if driver == Driver::IoUring { OF_RINGS } else { &[] };
    let deadly: FilterRules = DEADLY.iter().map(|&call| (call, Vec::new())).collect();
    let mut allowed: FilterRules =
        ALLOWED.iter().chain(OF_THIS_MACHINE).chain(of_rings).map(|&call| (call, Vec::new())).collect();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
    let pairs = families.into_iter().flat_map(|family| kinds.map(|kind| (family, kind)));
    let socket = |(family, kind): (libc::c_int, libc::c_int)| {
        let family = condition(0, SeccompCmpOp::Eq, family as u64)?;
        // The flags stand beside the kind (socket(2)).
        let kind = condition(1, SeccompCmpOp::MaskedEq(SOCKET_KINDS), kind as u64)?;
        Ok(SeccompRule::new(vec![family, kind])?)
    };
    allowed.insert(libc::SYS_socket, pairs.map(socket).collect::<Result<_, FilterError>>()?);
    // Threads and no processes, and so no namespaces either.
    let is_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    allowed.insert(libc::SYS_clone, vec![when(0, is_thread, libc::CLONE_THREAD as u64)?]);
    // Signals to itself alone: an abort is one.
    allowed.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, std::process::id().into())?]);
    // musl's abort names the thread alone. A thread is no argument that a filter can know, so it may have this signal.
    allowed.insert(libc::SYS_tkill, vec![when(1, SeccompCmpOp::Eq, libc::SIGABRT as u64)?]);
    // No memory becomes code.
    let is_data = when(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
    allowed.insert(libc::SYS_mmap, vec![is_data.clone()]);
    allowed.insert(libc::SYS_mprotect, vec![is_data]);
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let kill = SeccompFilter::new(deadly, SeccompAction::Allow, SeccompAction::KillProcess, machine)?;
    let refuse = SeccompFilter::new(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, machine)?;
    let absent: FilterRules = [(libc::SYS_clone3, Vec::new())].into();
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), machine)?;
    // The last one does not allow the call that installs it.
    Ok([kill.try_into()?, absent.try_into()?, refuse.try_into()?])
}

/// A comparison of the lower 32 bits of an argument.
fn condition(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, FilterError> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?)
}

/// The rule of one such comparison.
fn when(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, FilterError> {
    Ok(SeccompRule::new(vec![condition(argument, is, value)?])?)
}

/// Calls that end the process: each would be a step to more than a proxy needs.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_personality,
];

/// Rings that are there; no new ones are made.
const OF_RINGS: &[i64] = &[libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Calls that are made with any arguments: those of the data path first, then those of threads, files and timers.
const ALLOWED: &[i64] = &[
    // What workers call.
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_ioctl,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_close,
    // Control: sockets, timers, signals.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_socketpair,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Files that it may open, which is Landlock's to say.
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    // `process.state_file` is replaced by a rename, once it is on the disk.
    libc::SYS_fsync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Memory and threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // See the module for how that ends.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_prctl,
    // The process itself, and the time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Older forms of some of them, which newer machines do not have.
#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_MACHINE: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn nothing_deadly_is_allowed_and_a_filter_is_short() {
        assert!(DEADLY.iter().all(|call| !ALLOWED.contains(call) && !OF_THIS_MACHINE.contains(call)));
        for driver in [Driver::IoUring, Driver::Epoll] {
            assert!(programs(driver).unwrap().iter().all(|program| program.len() < 4096));
        }
    }

    fn is_refused(result: libc::c_int) -> bool {
        result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    }

    const CHILD: &str = "RINGWAY_TEST_FILTERED";

    /// Runs as a process of its own, which does not survive it.
    #[test]
    fn in_a_child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        // One that is there before is filtered as well; it ends with the process.
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let before = std::thread::spawn(move || {
            let _ = may_go.recv();
            // SAFETY: a plain call, which is refused before anything is looked at.
            is_refused(unsafe { libc::setuid(12345) })
        });
        install(Driver::Epoll).unwrap();
        drop(go);
        // SAFETY: a plain call; signal 0 is none.
        let of_kill = is_refused(unsafe { libc::kill(1, 0) });
        // SAFETY: a plain call.
        let of_socket = is_refused(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) });
        // SAFETY: a plain call.
        let of_raw = is_refused(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 6) });
        // SAFETY: a plain call; signal 0 is none.
        let of_others = is_refused(unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) } as libc::c_int);
        // SAFETY: a process of its own, which would end immediately.
        let of_process =
            is_refused(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as libc::c_int);
        // SAFETY: no memory is looked at before the call is refused.
        let of_ring = is_refused(unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, 0) } as libc::c_int);
        // SAFETY: as above.
        let of_entering = is_refused(unsafe { libc::syscall(libc::SYS_io_uring_enter, -1, 0, 0, 0) } as libc::c_int);
        let of_rings = of_ring && of_entering;
        let of_calls = [before.join().unwrap(), of_kill, of_socket, of_raw, of_others, of_process, of_rings];
        let code = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, at an address of the kernel's choice.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), 4096, code, flags, -1, 0) };
        let no_code = memory == libc::MAP_FAILED && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        // What it lives by still works: sockets, threads, files.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::spawn(|| std::fs::read("/proc/self/status").unwrap()).join().unwrap();
        eprintln!("refused: {of_calls:?} {no_code}");
        let program = c"/bin/true";
        let none = [std::ptr::null()];
        // SAFETY: both lists end with a null pointer.
        unsafe { libc::execve(program.as_ptr(), none.as_ptr(), none.as_ptr()) };
        eprintln!("still here");
    }

    const ABORTING_CHILD: &str = "RINGWAY_TEST_ABORTED";

    /// Runs as a process of its own, which does not survive it.
    #[test]
    fn in_a_child_that_aborts() {
        let Some(how) = std::env::var_os(ABORTING_CHILD) else { return };
        install(Driver::Epoll).unwrap();
        if how == "musl" {
            // SAFETY: a plain call; signal 0 is none.
            let of_others = is_refused(unsafe { libc::syscall(libc::SYS_tkill, 1, 0) } as libc::c_int);
            eprintln!("refused: {of_others}");
            // SAFETY: a plain call.
            let thread = unsafe { libc::gettid() };
            // SAFETY: a plain call, which is musl's abort.
            unsafe { libc::syscall(libc::SYS_tkill, thread, libc::SIGABRT) };
        }
        std::process::abort();
    }

    /// A panic must not look like a violation of memory.
    #[test]
    fn a_process_that_aborts_ends_by_that_signal_whatever_its_c_library() {
        for how in ["own", "musl"] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let child = child.args(["sys::filter::tests::in_a_child_that_aborts", "--exact", "--nocapture"]);
            let output = child.env(ABORTING_CHILD, how).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{how}: {said}");
            assert!(how == "own" || said.contains("refused: true"), "{said}");
        }
    }

    /// S5.
    #[test]
    fn what_nobody_needs_is_refused_and_a_program_is_never_started() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["sys::filter::tests::in_a_child", "--exact", "--nocapture"]).env(CHILD, "1");
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("refused: [true, true, true, true, true, true, true] true"), "{said}");
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{said}");
    }
}
