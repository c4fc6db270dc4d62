//! The figures of one run, and the line of `raw.csv` that they make.

use crate::cost::Reading;
use crate::load::Latencies;

/// One run of one workload against one subject.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Which round, from 1.
    pub round: usize,
    /// Name of the workload.
    pub workload: String,
    /// Name of the subject.
    pub subject: String,
    /// Which try, from 1: runs that others disturbed are repeated.
    pub attempt: usize,
    /// The figure of the workload: work per CPU second, p99 in microseconds, or bytes per session.
    pub figure: f64,
    /// Work per second of time.
    pub rate: f64,
    /// CPU seconds per second: the proxy, ksoftirqd beside it, the generator, all other processes.
    pub proxy_share: f64,
    /// See `proxy_share`.
    pub softirq_share: f64,
    /// See `proxy_share`.
    pub load_share: f64,
    /// See `proxy_share`.
    pub others_share: f64,
    /// Seconds per second that the proxy was ready to run and did not.
    pub waited_share: f64,
    /// What the proxy added to a round trip in microseconds, where it is measured: the median.
    pub p50_us: f64,
    /// The same, 99th percentile.
    pub p99_us: f64,
    /// 99th percentile with the generator's own delays in it.
    pub whole_p99_us: f64,
    /// Kernel workers that the proxy's ring had at the end.
    pub ring_workers: usize,
    /// True exactly when the summary uses this run: the least disturbed of its tries.
    pub used: bool,
    /// Why there is no figure; empty if there is one.
    pub fault: String,
}

/// The first line of `raw.csv`.
pub const HEADER: &str = "round,workload,subject,attempt,figure,rate,proxy_share,softirq_share,load_share,\
                          others_share,waited_share,p50_us,p99_us,whole_p99_us,ring_workers,used,fault";

impl Record {
    /// A run that gave no figure.
    pub fn failed(workload: &str, subject: &str, fault: &str) -> Record {
        let fault = fault.replace([',', '\n', '"'], " ").trim().to_string();
        Record { workload: workload.into(), subject: subject.into(), fault, ..Record::default() }
    }

    /// Takes the costs of a window over.
    pub fn set_costs(&mut self, from: &Reading, to: &Reading) {
        let span = (to.at_ns - from.at_ns).max(1) as f64;
        let share = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64 / span;
        self.proxy_share = share(to.proxy_ns, from.proxy_ns);
        self.softirq_share = share(to.softirq_ns, from.softirq_ns);
        self.load_share = share(to.load_ns, from.load_ns);
        self.waited_share = share(to.waited_ns, from.waited_ns);
        self.others_share = to.others_share(from);
        self.ring_workers = to.ring_workers;
    }

    /// Sets the percentiles.
    pub fn set_latencies(&mut self, latencies: Latencies) {
        self.p50_us = percentile_us(&latencies.proxy_ns, 0.50);
        self.p99_us = percentile_us(&latencies.proxy_ns, 0.99);
        self.whole_p99_us = percentile_us(&latencies.whole_ns, 0.99);
    }

    /// The line of `raw.csv`.
    pub fn to_csv(&self) -> String {
        let Record { round, workload, subject, attempt, figure, rate, used, fault, ring_workers, .. } = self;
        format!(
            "{round},{workload},{subject},{attempt},{figure:.1},{rate:.1},{:.4},{:.4},{:.4},\
             {:.4},{:.4},{:.1},{:.1},{:.1},{ring_workers},{used},{fault}",
            self.proxy_share,
            self.softirq_share,
            self.load_share,
            self.others_share,
            self.waited_share,
            self.p50_us,
            self.p99_us,
            self.whole_p99_us,
        )
    }

    /// The inverse of [`Record::to_csv`].
    pub fn from_csv(line: &str) -> Option<Record> {
        let words: Vec<&str> = line.trim_end().splitn(17, ',').collect();
        let number = |at: usize| words.get(at)?.parse::<f64>().ok();
        let count = |at: usize| words.get(at)?.parse::<usize>().ok();
        Some(Record {
            round: count(0)?,
            workload: words[1].into(),
            subject: words[2].into(),
            attempt: count(3)?,
            figure: number(4)?,
            rate: number(5)?,
            proxy_share: number(6)?,
            softirq_share: number(7)?,
            load_share: number(8)?,
            others_share: number(9)?,
            waited_share: number(10)?,
            p50_us: number(11)?,
            p99_us: number(12)?,
            whole_p99_us: number(13)?,
            ring_workers: count(14)?,
            used: words.get(15)?.parse().ok()?,
            fault: (*words.get(16)?).into(),
        })
    }
}

fn percentile_us(values_ns: &[u64], share: f64) -> f64 {
    let mut sorted = values_ns.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() as f64 * share) as usize).map_or(0.0, |ns| *ns as f64 / 1e3)
}
