//! From facts to findings: one line per finding, with the remedy if one is needed. Pure.
//!
//! Each function below judges one fact. A finding is bad only if ringway cannot run; what could be better is a note.

use super::facts::HostFacts;
use crate::base::address::Address;
use crate::config::Config;
use crate::kernel::driver::Driver;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grade {
    /// As it should be.
    Good,
    /// ringway runs, but something could be better.
    Note,
    /// ringway cannot run.
    Bad,
}

/// One finding, which is one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DoctorFinding {
    /// How bad it is.
    pub(super) grade: Grade,
    /// What it is about: the first column.
    pub(super) what: &'static str,
    /// What was found.
    pub(super) detail: String,
    /// What to do; `None` if nothing has to be done or the detail says it.
    pub(super) remedy: Option<String>,
}

impl DoctorFinding {
    /// It is as it should be.
    pub(super) fn good(what: &'static str, detail: impl Into<String>) -> DoctorFinding {
        DoctorFinding { grade: Grade::Good, what, detail: detail.into(), remedy: None }
    }

    /// ringway runs, but something could be better.
    pub(super) fn note(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> DoctorFinding {
        DoctorFinding { grade: Grade::Note, what, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// ringway cannot run.
    pub(super) fn bad(what: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> DoctorFinding {
        DoctorFinding { grade: Grade::Bad, ..DoctorFinding::note(what, detail, remedy) }
    }

    /// A note whose detail contains the remedy.
    pub(super) fn told(what: &'static str, detail: impl Into<String>) -> DoctorFinding {
        DoctorFinding { grade: Grade::Note, ..DoctorFinding::good(what, detail) }
    }

    /// It keeps ringway from running, and the detail contains the remedy.
    pub(super) fn told_bad(what: &'static str, detail: impl Into<String>) -> DoctorFinding {
        DoctorFinding { grade: Grade::Bad, ..DoctorFinding::good(what, detail) }
    }

    /// Whether it is as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.grade == Grade::Good
    }
}

/// All findings about the machine; what is needed most comes first.
pub(super) fn all(facts: &HostFacts, config: Option<&Config>) -> Vec<DoctorFinding> {
    let mut findings = vec![kernel(&facts.kernel)];
    findings.extend(sysctl(facts.uring_disabled, facts.ring.setup.is_ok()));
    findings.push(seccomp(facts.seccomp, facts.ring.setup.is_ok()));
    findings.push(ring(&facts.ring.setup, config.and_then(|config| config.process.io)));
    findings.extend(facts.ring.features.iter().map(|(name, there)| feature(name, *there)));
    findings.push(call_filter(&facts.seccomp_actions));
    findings.push(landlock(facts.landlock));
    findings.extend(facts.memlock.map(|bytes| memlock(bytes, facts.may_lock, facts.cpus)));
    findings.extend(facts.descriptors.map(descriptors));
    findings.extend(facts.ephemeral.map(|range| ephemeral(range, &facts.reserved, config)));
    findings.extend(facts.ephemeral.zip(facts.reuse).map(|(range, reuse)| time_wait(range, reuse)));
    findings.extend(config.and_then(|config| low_ports(facts, config)));
    findings.extend(facts.pipe_bytes.map(|bytes| pipes(bytes, facts.may_have_pipes)));
    findings.extend(facts.somaxconn.map(|most| somaxconn(most, config)));
    findings.extend(congestion(&facts.congestion));
    findings
}

/// Linux 6.1 is needed; 6.17 receives several buffers with one system call.
fn kernel(release: &str) -> DoctorFinding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        (0, 0) => DoctorFinding::note("kernel", "its version cannot be read", "mount /proc"),
        old if old < (5, 4) => {
            DoctorFinding::bad("kernel", format!("{release} is too old"), "Linux 5.4 is the oldest that works")
        }
        old if old < (6, 1) => {
            let detail = format!("{release} works, with epoll; 6.1 is the oldest for io_uring");
            DoctorFinding::note("kernel", detail, "upgrade when it suits you")
        }
        older if older < (6, 17) => {
            let detail = format!("{release} works; 6.17 would receive without a system call per read");
            DoctorFinding::note("kernel", detail, "upgrade when it suits you")
        }
        _ => DoctorFinding::good("kernel", release),
    }
}

/// Whether `kernel.io_uring_disabled` keeps this user from io_uring.
fn sysctl(disabled: Option<u64>, works: bool) -> Option<DoctorFinding> {
    let what = "io_uring_disabled";
    Some(match (disabled?, works) {
        (0, _) => DoctorFinding::good(what, "0: every user can use io_uring"),
        (level, true) => DoctorFinding::good(what, format!("{level}: this user can use io_uring nevertheless")),
        (1, false) => DoctorFinding::note(
            what,
            "1: only one group can use io_uring",
            "put ringway's group into kernel.io_uring_group",
        ),
        (level, false) => {
            DoctorFinding::note(what, format!("{level}: no user can use io_uring"), "sysctl kernel.io_uring_disabled=0")
        }
    })
}

/// Whether a filter of system calls, such as a container's, keeps this process from io_uring.
fn seccomp(mode: Option<u64>, works: bool) -> DoctorFinding {
    match mode {
        Some(0) => DoctorFinding::good("seccomp", "no filter"),
        _ if works => DoctorFinding::good("seccomp", "a filter that allows io_uring"),
        Some(_) => DoctorFinding::note(
            "seccomp",
            "a filter, as containers have it, and io_uring does not work",
            "for io_uring, allow io_uring_setup, io_uring_enter and io_uring_register in its profile",
        ),
        None => DoctorFinding::note("seccomp", "cannot be read", "mount /proc"),
    }
}

/// Whether the kernel has what ringway's own filter of system calls needs.
fn call_filter(actions: &str) -> DoctorFinding {
    let (what, has) = ("own filter", |action: &str| actions.split_whitespace().any(|known| known == action));
    if has("errno") && has("kill_process") {
        return DoctorFinding::good(what, "ringway forbids itself the system calls that it does not need");
    }
    DoctorFinding::note(what, "this kernel cannot filter system calls", "ringway runs without (CONFIG_SECCOMP_FILTER)")
}

/// Whether the kernel has Landlock, by which ringway gives up files that it does not need.
fn landlock(version: u32) -> DoctorFinding {
    match version {
        0 => DoctorFinding::note(
            "landlock",
            "not there, or not enabled",
            "ringway runs without: see `lsm=` of the kernel",
        ),
        1 | 2 => {
            DoctorFinding::good("landlock", format!("version {version}; 3 (Linux 6.2) also forbids to cut files short"))
        }
        _ => DoctorFinding::good(
            "landlock",
            format!("version {version}: ringway forbids itself the files it does not need"),
        ),
    }
}

/// Whether a ring could be made and used. `asked` is `process.io`.
fn ring(setup: &Result<(), String>, asked: Option<Driver>) -> DoctorFinding {
    match setup {
        Ok(()) => DoctorFinding::good("io_uring", "a ring was made and moved bytes"),
        Err(why) if asked == Some(Driver::IoUring) => {
            DoctorFinding::bad("io_uring", why.clone(), "process.io = \"auto\" would run on epoll")
        }
        Err(why) => DoctorFinding::note("io_uring", why.clone(), "ringway runs on epoll (process.io)"),
    }
}

/// Whether a feature of the kernel is there that makes ringway faster.
fn feature(name: &'static str, there: bool) -> DoctorFinding {
    if there {
        DoctorFinding::good("feature", name)
    } else {
        DoctorFinding::note("feature", format!("no {name}"), "ringway works without it, a little slower")
    }
}

/// How much locked memory the ring and the buffers of a worker may need (measured: a ring of 8192 entries needs about 1
/// MiB).
const MEMLOCK_PER_WORKER: u64 = 2 << 20;

/// Whether the limit of locked memory suffices for one worker per CPU.
fn memlock(bytes: u64, exempt: bool, cpus: u64) -> DoctorFinding {
    let needed = MEMLOCK_PER_WORKER * cpus;
    match bytes {
        _ if exempt => DoctorFinding::good("locked memory", "not limited (CAP_IPC_LOCK)"),
        u64::MAX => DoctorFinding::good("locked memory", "not limited"),
        bytes if bytes >= needed => DoctorFinding::good("locked memory", size(bytes)),
        bytes => {
            let detail =
                format!("{} for all rings of this user; {cpus} workers may need {}", size(bytes), size(needed));
            let remedy = "LimitMEMLOCK=64M in the unit, or `ulimit -l 65536`";
            DoctorFinding::note("locked memory", detail, remedy)
        }
    }
}

/// With fewer descriptors than this a busy service could run out of them. Under systemd the hard limit is 524288.
const DESCRIPTORS_WISHED: u64 = 65_536;

/// How many sessions the limit of descriptors allows.
fn descriptors(hard: u64) -> DoctorFinding {
    let detail = format!("{hard}: about {} sessions, two descriptors each", hard / 2);
    if hard >= DESCRIPTORS_WISHED {
        DoctorFinding::good("descriptors", detail)
    } else {
        DoctorFinding::note("descriptors", detail, "LimitNOFILE=524288 in the unit, or `ulimit -n 524288` as root")
    }
}

/// Whether there are enough ports for connections to backends, and whether one of them is a listener's.
fn ephemeral((first, last): (u16, u16), reserved: &str, config: Option<&Config>) -> DoctorFinding {
    let what = "ephemeral ports";
    let count = u32::from(last.saturating_sub(first)) + 1;
    let detail = format!("{first}-{last} (net.ipv4.ip_local_port_range): {count} connections to each backend address");
    let inside: Vec<String> = tcp_binds(config)
        .filter(|(_, port)| (first..=last).contains(port) && !is_reserved(reserved, *port))
        .map(|(listener, port)| format!("{port} of listener {listener}"))
        .collect();
    if !inside.is_empty() {
        let detail = format!("{detail}; an outgoing connection may take port {} first", inside.join(", "));
        return DoctorFinding::note(what, detail, "sysctl net.ipv4.ip_local_reserved_ports=PORT,…");
    }
    if count < 20_000 {
        return DoctorFinding::note(what, detail, "sysctl net.ipv4.ip_local_port_range=\"10240 60999\"");
    }
    DoctorFinding::good(what, detail)
}

/// Whether ports of ended connections can be used again soon. The end that closes first keeps its port for a minute
/// (TIME_WAIT); towards a backend that is ringway, if the client ended the session first.
fn time_wait((first, last): (u16, u16), reuse: u64) -> DoctorFinding {
    let (what, name) = ("TIME_WAIT", "net.ipv4.tcp_tw_reuse");
    let rate = (u32::from(last.saturating_sub(first)) + 1) / 60;
    let busy =
        format!("a port stays busy for 60 s after a session, so {rate} sessions per second to each backend address");
    match reuse {
        1 => DoctorFinding::good(what, format!("{name}=1: ports are used again after a second")),
        2 => DoctorFinding::note(
            what,
            format!("{name}=2, for loopback only: {busy}"),
            format!("sysctl {name}=1 lifts the limit"),
        ),
        level => {
            DoctorFinding::note(what, format!("{name}={level}: {busy}"), format!("sysctl {name}=1 lifts the limit"))
        }
    }
}

/// The ports of all listeners, except port 0, which the kernel chooses.
fn tcp_binds(config: Option<&Config>) -> impl Iterator<Item = (&str, u16)> {
    config.into_iter().flat_map(|config| &config.listeners).flat_map(|listener| {
        listener.binds.iter().filter_map(|address| match address {
            Address::Tcp(address) if address.port() != 0 => Some((&*listener.name, address.port())),
            _ => None,
        })
    })
}

/// Whether a list such as `8080,9000-9100` contains a port.
fn is_reserved(reserved: &str, port: u16) -> bool {
    reserved.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parsed = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok());
        parsed.is_some_and(|(first, last)| (first..=last).contains(&port))
    })
}

/// Whether this user can bind the ports below 1024 that the configuration has.
fn low_ports(facts: &HostFacts, config: &Config) -> Option<DoctorFinding> {
    if facts.may_bind_low {
        return None;
    }
    let low: Vec<String> = tcp_binds(Some(config))
        .filter(|(_, port)| u64::from(*port) < facts.unprivileged_from)
        .map(|(listener, port)| format!("{port} of listener {listener}"))
        .collect();
    let detail = format!("this user is not allowed to bind port {}", low.join(", "));
    let remedy = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or `setcap cap_net_bind_service+ep` on ringway";
    (!low.is_empty()).then(|| DoctorFinding::bad("low ports", detail, remedy))
}

/// How many streams can splice at the same time within the limit of pipes. Others are copied.
fn pipes(bytes: u64, exempt: bool) -> DoctorFinding {
    /// Bytes of the pipe that a bulk stream gets at the best.
    const PIPE: u64 = 1 << 20;
    match bytes {
        _ if exempt => DoctorFinding::good("pipes", "not limited (CAP_SYS_RESOURCE)"),
        0 => DoctorFinding::good("pipes", "not limited"),
        bytes => {
            let at_once = bytes / PIPE;
            let detail = format!("{} for this user: {at_once} bulk streams can splice together", size(bytes));
            let remedy = "the others copy; sysctl fs.pipe-user-pages-soft=0 lifts the limit";
            if at_once >= 64 {
                DoctorFinding::good("pipes", detail)
            } else {
                DoctorFinding::note("pipes", detail, remedy)
            }
        }
    }
}

/// Whether the kernel allows the backlogs that the configuration has.
fn somaxconn(most: u64, config: Option<&Config>) -> DoctorFinding {
    let wanted = config.into_iter().flat_map(|config| &config.listeners).map(|listener| u64::from(listener.backlog));
    let wanted = wanted.max().unwrap_or(4096);
    if most >= wanted {
        return DoctorFinding::good("somaxconn", most.to_string());
    }
    let detail = format!("{most} caps a backlog of {wanted}: a burst of new connections may be dropped");
    DoctorFinding::note("somaxconn", detail, format!("sysctl net.core.somaxconn={wanted}"))
}

/// Warns of BBR, which costs CPU; other congestion controls get no line.
fn congestion(name: &str) -> Option<DoctorFinding> {
    let detail = "bbr paces every segment, which costs CPU that a proxy within one network need not spend";
    (name == "bbr").then(|| DoctorFinding::note("congestion", detail, "sysctl net.ipv4.tcp_congestion_control=cubic"))
}

/// A number of bytes with a binary unit.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let listen = ["127.0.0.1:40000", "127.0.0.1:80", "127.0.0.1:0"].map(String::from);
        crate::config::quick(&listen, &["127.0.0.1:1".to_string()], None).unwrap()
    }

    #[test]
    fn kernels_below_the_floor_fail_and_others_only_tell() {
        assert_eq!(kernel("5.3.18").grade, Grade::Bad);
        assert_eq!(kernel("5.15.0-91-generic").grade, Grade::Note);
        assert_eq!(kernel("6.0.9").grade, Grade::Note);
        assert_eq!(kernel("6.1.0-13-amd64").grade, Grade::Note);
        assert_eq!(kernel("6.16.1").grade, Grade::Note);
        assert_eq!(kernel("6.17.0").grade, Grade::Good);
        assert_eq!(kernel("7.0").grade, Grade::Good);
    }

    #[test]
    fn what_forbids_io_uring_is_named_only_if_it_does_not_work() {
        assert_eq!(sysctl(Some(2), false).unwrap().grade, Grade::Note, "epoll serves");
        let refused = || Err("why".to_owned());
        assert_eq!(ring(&refused(), None).grade, Grade::Note);
        assert_eq!(ring(&refused(), Some(Driver::Epoll)).grade, Grade::Note);
        assert_eq!(ring(&refused(), Some(Driver::IoUring)).grade, Grade::Bad, "the file asks for it");
        assert_eq!(sysctl(Some(1), true).unwrap().grade, Grade::Good);
        assert_eq!(sysctl(None, false), None, "kernels before 6.6 have no such sysctl");
        assert_eq!(seccomp(Some(2), true).grade, Grade::Good);
        assert_eq!(seccomp(Some(2), false).grade, Grade::Note);
        assert_eq!(call_filter("kill_process trap errno log allow\n").grade, Grade::Good);
        assert_eq!(
            (call_filter("").grade, landlock(0).grade, landlock(7).grade),
            (Grade::Note, Grade::Note, Grade::Good)
        );
    }

    #[test]
    fn a_listener_within_the_ephemeral_range_is_told_unless_it_is_reserved() {
        let finding = ephemeral((32768, 60999), "", Some(&config()));
        assert!(finding.detail.contains("40000 of listener main") && !finding.detail.contains("80 of"), "{finding:?}");
        assert_eq!(ephemeral((32768, 60999), "1,39999-40001", Some(&config())).grade, Grade::Good);
        assert_eq!(ephemeral((32768, 60999), "", None).grade, Grade::Good);
        assert_eq!(ephemeral((40000, 40003), "", None).grade, Grade::Note);
        assert!(finding.detail.contains("net.ipv4.ip_local_port_range"));
    }

    #[test]
    fn ports_that_stay_busy_are_told_with_what_that_limits() {
        assert_eq!(time_wait((32768, 60999), 1).grade, Grade::Good);
        for reuse in [0, 2] {
            let finding = time_wait((32768, 60999), reuse);
            assert!(finding.grade == Grade::Note && finding.detail.contains("470 sessions per second"), "{finding:?}");
            assert_eq!(finding.remedy.as_deref(), Some("sysctl net.ipv4.tcp_tw_reuse=1 lifts the limit"));
        }
    }

    #[test]
    fn small_limits_come_with_a_remedy() {
        assert_eq!(memlock(64 << 10, true, 2).grade, Grade::Good);
        let small = memlock(64 << 10, false, 2);
        assert_eq!((small.grade, small.remedy.is_some()), (Grade::Note, true));
        assert_eq!(memlock(u64::MAX, false, 64).grade, Grade::Good);
        assert_eq!(descriptors(1024).grade, Grade::Note);
        assert_eq!(pipes(64 << 20, false).grade, Grade::Good);
        assert_eq!(pipes(4 << 20, false).grade, Grade::Note);
        assert_eq!(somaxconn(128, None).grade, Grade::Note);
    }
}
