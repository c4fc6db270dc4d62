//! What a run cost: CPU time of the proxy's processes, what others took meanwhile, and user memory.

use std::fs;

use crate::sys;

/// Counters at one moment; two of them make a cost.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// CPU time of the proxy's processes.
    pub proxy_ns: u64,
    /// CPU time of ksoftirqd on the proxy's CPU: network work that the kernel put off.
    pub softirq_ns: u64,
    /// CPU time of this process.
    pub load_ns: u64,
    /// How long threads of the proxy were runnable but did not run.
    pub waited_ns: u64,
    /// CPU time that all processes got on the two CPUs, and time the hypervisor took; in ticks of 10 ms.
    busy_ns: u64,
    /// Kernel worker threads that the proxy's ring has made.
    pub ring_workers: usize,
}

/// The proxy's processes and the two CPUs.
pub struct Meter {
    root: u32,
    softirq: Option<u32>,
    cpus: [usize; 2],
}

impl Meter {
    /// Watches process `root` and all that it forked.
    pub fn new(root: u32, proxy_cpu: usize, load_cpu: usize) -> Meter {
        Meter { root, softirq: softirq_thread(proxy_cpu), cpus: [proxy_cpu, load_cpu] }
    }

    /// The counters now.
    pub fn read(&self) -> Reading {
        let family = family(self.root);
        Reading {
            at_ns: sys::now_ns(),
            proxy_ns: family.iter().filter_map(|pid| sys::cpu_ns_of(*pid)).sum(),
            softirq_ns: self.softirq.and_then(|pid| schedule(&format!("/proc/{pid}/schedstat"))).map_or(0, |s| s.0),
            load_ns: sys::own_cpu_ns(),
            waited_ns: threads(&family).filter_map(|path| schedule(&format!("{path}/schedstat"))).map(|s| s.1).sum(),
            busy_ns: busy_ns(self.cpus),
            ring_workers: threads(&family).filter(|path| name(path).starts_with("iou-wrk")).count(),
        }
    }

    /// Anonymous and shared memory of all processes, shared pages divided among them, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let sum = |text: String| -> u64 {
            let lines = text.lines().filter(|l| l.starts_with("Pss_Anon:") || l.starts_with("Pss_Shmem:"));
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        let rollups = family(self.root).into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")));
        rollups.flatten().map(|text| sum(text) * 1024).sum()
    }
}

/// The processes below `root`, with it.
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        for path in threads(&[pid]) {
            let children = fs::read_to_string(format!("{path}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// The /proc folders of the threads of these processes.
fn threads(family: &[u32]) -> impl Iterator<Item = String> {
    let folders: Vec<_> = family.iter().map(|pid| fs::read_dir(format!("/proc/{pid}/task"))).collect();
    folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path().to_string_lossy().into_owned())
}

fn name(path: &str) -> String {
    fs::read_to_string(format!("{path}/comm")).unwrap_or_default()
}

/// Nanoseconds run and nanoseconds waited.
fn schedule(path: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn softirq_thread(cpu: usize) -> Option<u32> {
    let wanted = format!("ksoftirqd/{cpu}");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| name(&format!("/proc/{pid}")).trim() == wanted)
}

fn busy_ns(cpus: [usize; 2]) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let busy = |cpu: usize| -> u64 {
        let label = format!("cpu{cpu} ");
        let line = text.lines().find(|line| line.starts_with(&label)).unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user nice system (idle iowait) irq softirq steal; guest time is part of user.
        [0, 1, 2, 5, 6, 7].iter().filter_map(|column| ticks.get(*column)).sum()
    };
    let second = if cpus[0] == cpus[1] { 0 } else { busy(cpus[1]) };
    (busy(cpus[0]) + second) * 10_000_000
}

impl Reading {
    /// What others took of the two CPUs between `earlier` and `self`, as a share of one CPU.
    pub fn others_share(&self, earlier: &Reading) -> f64 {
        let ours = (self.proxy_ns - earlier.proxy_ns)
            + (self.softirq_ns - earlier.softirq_ns)
            + (self.load_ns - earlier.load_ns);
        let busy = self.busy_ns - earlier.busy_ns;
        busy.saturating_sub(ours) as f64 / (self.at_ns - earlier.at_ns).max(1) as f64
    }
}
