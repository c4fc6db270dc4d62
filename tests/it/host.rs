//! What the host gives a ringway: CPUs to stay on, and more descriptors than there is memory for.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::process::Process;
use crate::harness::ringway::limit_descriptors;
use crate::harness::{Backend, Ringway, wait_until};

/// The CPUs that a thread, or a process, may run on.
fn cpus(status: &str) -> Vec<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    list.split(',').flat_map(range).collect()
}

/// A ringway with so many workers that may run on these CPUs only, and that is ready.
fn start_on(mask: &[usize], workers: usize, pin: bool) -> (Process, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ringway.toml");
    let plan = Ringway::before(["127.0.0.1:9"]).workers(workers);
    let mut command = plan.command(&file);
    let unpinned = "pin_workers = false\n";
    let text = plan.to_toml();
    assert!(text.contains(unpinned), "{text}");
    std::fs::write(&file, text.replace(unpinned, &format!("pin_workers = {pin}\n"))).unwrap();
    // SAFETY: an all-zero set is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in mask {
        // SAFETY: the CPU was in the mask of this process, which is no greater than a set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    let stay = move || {
        // SAFETY: the kernel reads one set.
        match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: sched_setaffinity may be called between fork and exec.
    unsafe { command.pre_exec(stay) };
    let process = Process::start(&mut command);
    wait_until("it is ready", || process.output().contains(" message=ready "));
    (process, folder)
}

/// The CPUs of each of its workers; what it says of them must be so.
fn placed(process: &Process, workers: usize, mask: &[usize]) -> Vec<Vec<usize>> {
    let worker = |index: usize| {
        let thread = process.thread(&format!("ringway-{index}"));
        cpus(&std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", process.id())).unwrap())
    };
    let placed: Vec<Vec<usize>> = (0..workers).map(worker).collect();
    let pinned = placed.iter().all(|cpus| cpus.len() == 1) && placed.concat() == mask;
    let said = format!(" workers={workers} pinned={pinned} ");
    assert!(process.output().contains(&said), "{said:?} and {placed:?}: {}", process.output());
    placed
}

/// Two CPUs of those that this test may run on; `None` where there is one.
fn two_cpus() -> Option<[usize; 2]> {
    let all = cpus(&own_status());
    let two = all.get(..2).and_then(|two| two.try_into().ok());
    if two.is_none() {
        println!("skipped: there is one CPU");
    }
    two
}

#[test]
fn two_ringways_with_one_worker_each_do_not_sit_on_one_cpu() {
    let Some(mask) = two_cpus() else { return };
    let both = [(); 2].map(|()| start_on(&mask, 1, true));
    for (ringway, _) in &both {
        assert_eq!(placed(ringway, 1, &mask), [mask], "the kernel can place it on either");
    }
}

#[test]
fn workers_stay_on_their_cpus_exactly_if_there_is_one_for_each() {
    let Some(mask) = two_cpus() else { return };
    let whole = mask.to_vec();
    let each: Vec<Vec<usize>> = mask.iter().map(|&cpu| vec![cpu]).collect();
    for (pin, mask, workers, expected) in [
        (true, &mask[..], 2, each.clone()),
        (true, &mask[1..], 1, vec![vec![mask[1]]]),
        (true, &mask[..], 3, vec![whole.clone(); 3]),
        (false, &mask[..], 2, vec![whole.clone(); 2]),
    ] {
        let (ringway, _folder) = start_on(mask, workers, pin);
        assert_eq!(placed(&ringway, workers, mask), expected, "pin_workers = {pin}, {workers} workers on {mask:?}");
    }
}

/// Places in its table of descriptors.
fn table_size(ringway: &Ringway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ringway.process().id())).unwrap();
    status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap().trim().parse().unwrap()
}

/// Container engines set a limit of a thousand million. Here it is as much as this kernel allows, or this test has.
#[test]
fn a_huge_descriptor_limit_takes_no_memory_and_promises_no_places_without_any() {
    let known: u64 = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let most = if may_have_descriptors(known) { known } else { own_limit() };
    if most < 1 << 14 {
        println!("skipped: {most} descriptors are no huge limit");
        return;
    }
    let backend = Backend::named("hi");
    let small = Ringway::before([backend.address()]).descriptors(most).process("connections_max = 1000").start();
    small.connect().expect(b"hi");
    let size = table_size(&small);
    assert!((2000..=8192).contains(&size), "a table of {size} for 1000 sessions");
    assert_eq!(small.metrics().count("connections_max", &[]), 1000);

    let auto = Ringway::before([backend.address()]).descriptors(most).start();
    auto.connect().expect(b"hi");
    let known = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = known.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap().trim();
    let memory = total.strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
    let places = auto.metrics().count("connections_max", &[]);
    assert!(places > 1000 && places <= memory / 8192 && places < most / 2, "{places} with {memory} bytes");
    let size = table_size(&auto);
    assert!((2 * places.min(1 << 19)..=1 << 20).contains(&size), "a table of {size} for {places} sessions");
}

/// Whether this test may start a process with such a limit.
fn may_have_descriptors(limit: u64) -> bool {
    let mut command = Command::new("/bin/true");
    limit_descriptors(&mut command, limit);
    command.status().is_ok()
}

/// How many descriptors processes that this test starts can have in any case.
fn own_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_max
}

fn own_status() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap()
}
