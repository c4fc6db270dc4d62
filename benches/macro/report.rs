//! The result folder: `raw.csv` (every run), `summary.csv` (medians), `README.md` (setting and table), `plot.svg`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::Options;
use crate::record::{HEADER, Record};
use crate::subject::{PEERS, Subject};
use crate::workload::{self, Measure, Workload};

/// What a sweep found, and where.
pub struct Report {
    /// Machine, versions and command line, as Markdown.
    pub setting: String,
    /// Every run.
    pub records: Vec<Record>,
}

/// How one ringway stands against the best peer on one line.
pub struct Standing<'a> {
    /// The best peer by its median.
    pub peer: &'a str,
    /// Median over the rounds of ringway / peer.
    pub ratio: f64,
    /// The least and the greatest of these ratios.
    pub range: (f64, f64),
    /// Ratio of the two medians.
    pub ratio_of_medians: f64,
}

/// A figure with its unit, short.
pub fn figure(workload: &Workload, value: f64) -> String {
    match workload.measure {
        Measure::Bytes => format!("{:.2} GB", value / 1e9),
        Measure::Operations => format!("{:.1} k", value / 1e3),
        Measure::Latency => format!("{value:.0} us"),
        Measure::Memory => format!("{value:.0} B"),
        Measure::Share => format!("{value:.2} %"),
    }
}

/// The middle value; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

impl Report {
    /// The workloads that were run, in the order of the table.
    pub fn workloads(&self) -> Vec<Workload> {
        let run = |w: &Workload| self.records.iter().any(|record| record.workload == w.name);
        workload::ALL.into_iter().filter(run).collect()
    }

    /// The subjects that were run: builds of ringway first, then the peers, then the baselines.
    pub fn subjects(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for record in &self.records {
            if !names.contains(&record.subject.as_str()) {
                names.push(&record.subject);
            }
        }
        names.sort_by_key(|name| rank(name));
        names
    }

    /// The builds of ringway among them.
    pub fn ringways(&self) -> Vec<&str> {
        self.subjects().into_iter().filter(|name| rank(name).0 == 0).collect()
    }

    /// Round → figure of the runs that count.
    pub fn rounds(&self, workload: &Workload, subject: &str) -> BTreeMap<usize, f64> {
        let counts = |r: &&Record| r.used && r.workload == workload.name && r.subject == subject;
        self.records.iter().filter(counts).map(|record| (record.round, record.figure)).collect()
    }

    /// The median of a line and column, if there is any figure.
    pub fn median(&self, workload: &Workload, subject: &str) -> Option<f64> {
        let rounds = self.rounds(workload, subject);
        (!rounds.is_empty()).then(|| median(rounds.into_values().collect()))
    }

    /// The best of the four peers on this line.
    pub fn best_peer(&self, workload: &Workload) -> Option<&'static str> {
        let figures = PEERS.iter().filter_map(|peer| Some((*peer, self.median(workload, peer)?)));
        let better = |a: &(&str, f64), b: &(&str, f64)| a.1.total_cmp(&b.1);
        let best = if workload.less_is_better() { figures.min_by(better) } else { figures.max_by(better) };
        best.map(|(peer, _)| peer)
    }

    /// How `subject` stands against `peer`.
    pub fn against<'a>(&self, workload: &Workload, subject: &str, peer: &'a str) -> Option<Standing<'a>> {
        let (own, other) = (self.rounds(workload, subject), self.rounds(workload, peer));
        let ratios: Vec<f64> = own.iter().filter_map(|(round, value)| Some(value / other.get(round)?)).collect();
        let range = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(*r), high.max(*r)));
        let ratio_of_medians = self.median(workload, subject)? / self.median(workload, peer)?;
        (!ratios.is_empty()).then(|| Standing { peer, ratio: median(ratios), range, ratio_of_medians })
    }

    /// The table: a line a workload, a column a subject, then how each ringway stands.
    pub fn table(&self) -> String {
        let (subjects, ringways) = (self.subjects(), self.ringways());
        let mut text = String::from("| workload |");
        subjects.iter().for_each(|name| write_to(&mut text, format_args!(" {name} |")));
        ringways.iter().for_each(|name| write_to(&mut text, format_args!(" {name} / best peer | bar | holds |")));
        text.push_str("\n|---|");
        text.push_str(&"--:|".repeat(subjects.len()));
        text.push_str(&"---|---|---|".repeat(ringways.len()));
        for workload in self.workloads() {
            write_to(&mut text, format_args!("\n| {} |", workload.title));
            for name in &subjects {
                let cell = self.median(&workload, name).map_or("–".into(), |value| figure(&workload, value));
                write_to(&mut text, format_args!(" {cell} |"));
            }
            ringways.iter().for_each(|name| text.push_str(&self.standing_cells(&workload, name)));
        }
        text.push('\n');
        text
    }

    fn standing_cells(&self, workload: &Workload, ringway: &str) -> String {
        if workload.is_bar_a_figure() {
            let Some(value) = self.median(workload, ringway) else { return " – | – | – |".into() };
            let [found, bar, aim] = [value, workload.bar, workload.aim].map(|value| figure(workload, value));
            return format!(" {found} | ≤ {bar} (aim {aim}) | {} |", yes(value <= workload.bar));
        }
        let peer = self.best_peer(workload);
        let Some(standing) = peer.and_then(|peer| self.against(workload, ringway, peer)) else {
            return " – | – | – |".into();
        };
        let Standing { peer, ratio, range, ratio_of_medians } = standing;
        let (sign, mut holds) = match workload.less_is_better() {
            true => ("≤", ratio <= workload.bar),
            false => ("≥", ratio >= workload.bar),
        };
        let mut bar = format!("{sign} {:.2} (aim {:.2})", workload.bar, workload.aim);
        if workload.measure == Measure::Bytes && !workload.has_tls {
            let default = |peer| self.against(workload, ringway, peer).map_or(f64::MAX, |standing| standing.ratio);
            let over_defaults = default("haproxy").min(default("nginx16"));
            if over_defaults < f64::MAX {
                bar.push_str(&format!(", ≥ 2.5 × defaults ({over_defaults:.2})"));
                holds &= over_defaults >= 2.5;
            }
        }
        let (low, high) = range;
        format!(
            " **{ratio:.2}** [{low:.2}–{high:.2}], medians {ratio_of_medians:.2} ({peer}) | {bar} | {} |",
            yes(holds)
        )
    }

    /// Writes the result folder, with `chart` as its picture (SVG).
    pub fn write(&self, folder: &Path, chart: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let raw: Vec<String> = self.records.iter().map(Record::to_csv).collect();
        fs::write(folder.join("raw.csv"), format!("{HEADER}\n{}\n", raw.join("\n")))?;
        fs::write(folder.join("summary.csv"), self.summary_csv())?;
        fs::write(folder.join("setting.md"), &self.setting)?;
        fs::write(folder.join("plot.svg"), chart)?;
        fs::write(folder.join("README.md"), self.readme())?;
        Ok(())
    }

    fn readme(&self) -> String {
        let kept = self.records.iter().filter(|record| record.used);
        let disturbed = kept.clone().filter(|record| record.others_share > 0.10).count();
        format!(
            "# Macro benchmark\n\n{}\nMedian over the rounds of work per CPU second of the proxy (CPU time of all its \
             processes and threads and of ksoftirqd on its CPU); p99 and memory: less is better. Ratios are medians of \
             per-round ratios [least–greatest]. {disturbed} of {} runs that count had more than 10 % of a CPU taken by \
             others. `docs/performance.md` explains the method.\n\n{}\n![ratios](plot.svg)\n",
            self.setting,
            kept.count(),
            self.table(),
        )
    }

    fn summary_csv(&self) -> String {
        let mut text = String::from("workload,subject,rounds,median,ratio_to_best_peer,best_peer\n");
        for workload in self.workloads() {
            let peer = self.best_peer(&workload);
            for subject in self.subjects() {
                let Some(value) = self.median(&workload, subject) else { continue };
                let rounds = self.rounds(&workload, subject).len();
                let ratio = peer.and_then(|peer| self.against(&workload, subject, peer)).map_or(0.0, |s| s.ratio);
                let (name, peer) = (workload.name, peer.unwrap_or_default());
                write_to(&mut text, format_args!("{name},{subject},{rounds},{value:.1},{ratio:.3},{peer}\n"));
            }
        }
        text
    }
}

/// Reads what a sweep has left in its folder, so that its summary can be made again.
pub fn read(folder: &Path) -> Result<Report> {
    let raw = fs::read_to_string(folder.join("raw.csv")).context("read raw.csv")?;
    let setting = fs::read_to_string(folder.join("setting.md")).context("read setting.md")?;
    Ok(Report { setting, records: raw.lines().skip(1).filter_map(Record::from_csv).collect() })
}

/// Machine, versions and command line.
pub fn setting(options: &Options, subjects: &[Subject]) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| write_to(&mut text, format_args!("- {what}: {}\n", value.trim()));
    line("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    line("kernel", said("uname", &["-r"]));
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|m| m.1.to_string()));
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    line("CPU", format!("{} ({cpus} virtual CPUs)", model.unwrap_or_default().trim()));
    line("congestion control", format!("{} in a network namespace of each run's own", options.congestion_control));
    let Options { rounds, seconds, warm_up, nice, proxy_cpu, load_cpu, .. } = options;
    line("runs", format!("{rounds} rounds, warm-up {warm_up} s, window {seconds} s, nice {nice}"));
    line("CPUs", format!("proxy {proxy_cpu}, load generator and backends {load_cpu}"));
    line("HAProxy", said("/usr/sbin/haproxy", &["-v"]).lines().next().unwrap_or_default().to_string());
    line("nginx", said("/usr/sbin/nginx", &["-v"]));
    for subject in subjects.iter().filter(|subject| subject.is_ringway()) {
        let program = subject.program().map(|path| said(&path.to_string_lossy(), &["--version"]));
        line(&subject.name, format!("{} {}", program.unwrap_or_default().trim(), subject.environment()));
    }
    line("commit", said("git", &["describe", "--always", "--dirty"]));
    text
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or("not known".into(), |output| {
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_string()
    })
}

fn rank(name: &str) -> (usize, String) {
    const OTHERS: [&str; 6] = ["haproxy", "haproxy-splice", "nginx16", "nginx64", "tokio16", "tokio64"];
    let at = OTHERS.iter().position(|other| *other == name).map_or(0, |at| at + 1);
    (at, name.to_string())
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}
