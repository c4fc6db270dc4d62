//! The short run that `cargo test --benches` makes.

use anyhow::{Result, bail};
use clap::Parser;

use crate::args::{Cli, Task};
use crate::record::Record;
use crate::report::Report;
use crate::ring::Ring;
use crate::subject::{self, Subject};
use crate::workload;

/// Every workload once against the tokio-uring baseline, those with TLS against ringway; fails if one gives no figure.
pub fn run_all() -> Result<()> {
    the_table_tells_who_is_faster();
    a_build_is_measured_on_each_driver_that_is_asked_for();
    if let Err(error) = Ring::new() {
        println!("skipped: this kernel gives no io_uring ({error})");
        return Ok(());
    }
    let words = [
        "macro",
        "sweep",
        "--seconds=0.05",
        "--warm-up=0.02",
        "--idle-sessions=100",
        "--beside-sessions=90",
        "--nice=0",
        "--tries=1",
        "--anywhere",
    ];
    let Task::Sweep { options, .. } = Cli::parse_from(words).command else { unreachable!("it says sweep") };
    // The tests are given another program by the same name: see CONTRIBUTING.md.
    let ringway = std::env::var("RINGWAY_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringway").to_string());
    let options = crate::args::Options { rounds: 1, ringway: vec![format!("ringway={ringway}")], ..options };
    let (baseline, ringway) = (Subject::named("tokio16", &[])?, Subject::named("ringway", &options.ringway)?);
    for workload in workload::ALL {
        let subject = if workload.has_tls { &ringway } else { &baseline };
        let records = crate::sweep::sweep(&options, &[workload], std::slice::from_ref(subject))?;
        let Some(Record { fault, .. }) = records.first() else { bail!("{} made no run", workload.name) };
        if !fault.is_empty() {
            bail!("{}: {fault}", workload.name);
        }
    }
    Ok(())
}

/// `--io` adds a subject a driver, behind the build that it is a version of, whatever subjects are asked for.
fn a_build_is_measured_on_each_driver_that_is_asked_for() {
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<String>>();
    let own = words("target/ringway");
    assert_eq!(subject::on_drivers(&own, &[]), own);
    assert_eq!(
        subject::on_drivers(&own, &words("epoll")),
        words("target/ringway epoll=target/ringway,RINGWAY_IO=epoll")
    );
    let two = words("old=/a,X=1 new=/b");
    let all = subject::on_drivers(&two, &words("io_uring epoll"));
    assert_eq!(all[..2], two);
    assert_eq!(all[2..4], words("old-io_uring=/a,X=1,RINGWAY_IO=io_uring old-epoll=/a,X=1,RINGWAY_IO=epoll"));
    assert_eq!(Subject::ringway(&all[3]).environment(), "X=1 RINGWAY_IO=epoll ");
    let peers = words("haproxy haproxy-splice nginx16 nginx64 tokio16 tokio64");
    let with = |first: &str| [words(first), peers.clone()].concat();
    assert_eq!(subject::names(&own, &[], &[]), with("ringway"));
    assert_eq!(subject::names(&own, &words("epoll"), &[]), with("ringway epoll"));
    assert_eq!(subject::names(&own, &words("io_uring epoll"), &[]), with("ringway io_uring epoll"));
    let asked = words("nginx64 ringway epoll");
    assert_eq!(subject::names(&own, &words("epoll"), &asked), words("nginx64 ringway epoll"));
    assert_eq!(subject::names(&two, &words("epoll"), &words("new nginx64")), words("new new-epoll nginx64"));
}

/// On invented runs: the ratio is the median of per-round ratios against the best peer, and the bar is held against it.
fn the_table_tells_who_is_faster() {
    let run =
        |round, subject: &str, figure| Record { round, figure, used: true, ..Record::failed("rr64", subject, "") };
    let figures = [(1, 110.0, 100.0), (2, 55.0, 50.0), (3, 100.0, 100.0)];
    let records = figures.iter().flat_map(|(round, ringway, nginx)| {
        [run(*round, "ringway", *ringway), run(*round, "nginx64", *nginx), run(*round, "haproxy", 40.0)]
    });
    let report = Report { setting: String::new(), records: records.collect() };
    let rr64 = workload::Workload::named("rr64").expect("it is in the list");
    assert_eq!(report.best_peer(&rr64), Some("nginx64"));
    let standing = report.against(&rr64, "ringway", "nginx64").map(|s| (s.ratio, s.range, s.ratio_of_medians));
    assert_eq!(standing, Some((1.1, (1.0, 1.1), 1.0)));
    assert!(report.table().contains("| yes |"), "1.10 is above the bar of 1.05: {}", report.table());
    let line = report.records[0].to_csv();
    assert_eq!(Record::from_csv(&line).map(|record| record.to_csv()), Some(line), "raw.csv is read back as written");
}
