//! Rounds of all workloads against all subjects, interleaved, each run in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::args::Options;
use crate::record::Record;
use crate::subject::Subject;
use crate::workload::{Measure, Workload};

/// Above this share of a CPU taken by others, a run is made again.
const OTHERS_MAX: f64 = 0.10;
/// Above this share of the time in which the proxy was ready to run and something else ran, it is made again too.
const WAITED_MAX: f64 = 0.03;

/// Makes all runs; the records come in the order in which they were made.
pub fn sweep(options: &Options, workloads: &[Workload], subjects: &[Subject]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut number = fastrand::u16(256..32768);
    for round in 1..=options.rounds {
        for workload in workloads {
            let takes_part = |subject: &&Subject| !workload.has_tls || subject.ends_tls();
            let mut order: Vec<&Subject> = subjects.iter().filter(takes_part).collect();
            fastrand::shuffle(&mut order);
            for subject in order {
                let tries = best_of_tries(options, round, workload, subject, &mut number)?;
                records.extend(tries);
            }
        }
    }
    Ok(records)
}

/// Runs until a try is undisturbed or the cap is reached; the least disturbed one is used, whatever its result.
fn best_of_tries(
    options: &Options,
    round: usize,
    workload: &Workload,
    subject: &Subject,
    number: &mut u16,
) -> Result<Vec<Record>> {
    let mut tries: Vec<Record> = Vec::new();
    for attempt in 1..=options.tries {
        *number = number.wrapping_add(1);
        let mut record = one(options, workload, subject, *number)?;
        (record.round, record.attempt) = (round, attempt);
        say(workload, &record);
        let quiet = record.others_share <= OTHERS_MAX && record.waited_share <= WAITED_MAX;
        let quiet = quiet && record.fault.is_empty();
        tries.push(record);
        if quiet || workload.measure == Measure::Memory && tries.iter().any(|t| t.fault.is_empty()) {
            break;
        }
    }
    let rank = |record: &Record| (!record.fault.is_empty(), record.others_share + record.waited_share);
    let best = (0..tries.len()).min_by(|a, b| rank(&tries[*a]).partial_cmp(&rank(&tries[*b])).unwrap_or(a.cmp(b)));
    if let Some(best) = best {
        tries[best].used = tries[best].fault.is_empty();
    }
    Ok(tries)
}

/// One run in a process of its own.
fn one(options: &Options, workload: &Workload, subject: &Subject, number: u16) -> Result<Record> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("one").args(["--workload", workload.name, "--subject", &subject.name]);
    command.args(["--number", &number.to_string()]).args(options.as_arguments());
    // Two sweeps on one machine take turns instead of sharing the CPUs; the lock ends with the file.
    let turn = File::create(std::env::temp_dir().join("ringway-bench.lock")).context("lock of the machine")?;
    turn.lock().context("lock of the machine")?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start a run")?;
    let output = child.stdout.take().context("output of a run")?;
    let last = BufReader::new(output).lines().map_while(Result::ok).last().unwrap_or_default();
    let status = child.wait()?;
    let lost = || Record::failed(workload.name, &subject.name, &format!("the run itself failed: {status}"));
    Ok(Record::from_csv(&last).unwrap_or_else(lost))
}

fn say(workload: &Workload, record: &Record) {
    if !record.fault.is_empty() {
        eprintln!("{:>2} {:13} {:15} FAILED: {}", record.round, workload.name, record.subject, record.fault);
        return;
    }
    eprintln!(
        "{:>2} {:13} {:15} {:>9} {:>11}   cpu {:>3.0} %  load {:>3.0} %  others {:>3.0} %  waited {:>3.0} %{}{}",
        record.round,
        workload.name,
        record.subject,
        crate::report::figure(workload, record.figure),
        if workload.measure == Measure::Memory { String::new() } else { rate(workload, record.rate) },
        record.proxy_share * 100.0,
        record.load_share * 100.0,
        record.others_share * 100.0,
        record.waited_share * 100.0,
        if workload.measure == Measure::Latency {
            format!("  p50 {:.0} us  whole p99 {:.0} us", record.p50_us, record.whole_p99_us)
        } else {
            String::new()
        },
        if record.ring_workers > 0 { format!("  iou-wrk {}", record.ring_workers) } else { String::new() },
    );
}

/// Work per second of time; for the latencies, of the bulk beside them.
fn rate(workload: &Workload, per_second: f64) -> String {
    match workload.measure {
        Measure::Operations => format!("{:.1} k/s", per_second / 1e3),
        _ => format!("{:.2} GB/s", per_second / 1e9),
    }
}
