//! Macro benchmark: ringway beside its peers, in work per CPU second of the proxy. `scripts/bench.sh` runs it,
//! `docs/performance.md` says how it measures and why. Without a subcommand (`cargo test --benches`) it makes one short
//! run of every workload against the tokio-uring baseline, or ringway where TLS ends, so that it never rots.

mod args;
mod check;
mod cost;
mod load;
mod plot;
mod record;
mod relay;
mod report;
mod ring;
mod run;
mod smoke;
mod stamped;
mod subject;
mod sweep;
mod sys;
mod tls;
mod workload;

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Parser;

use args::{Cli, Options, Task};
use run::Plan;
use subject::Subject;
use workload::Workload;

fn main() -> Result<()> {
    let subcommand = std::env::args().nth(1).filter(|word| !word.starts_with("--") || word == "--help");
    if subcommand.is_none() {
        return smoke::run_all();
    }
    match Cli::parse().command {
        Task::Sweep { mut options, workloads, subjects, io, out } => {
            let subjects = subject::names(&options.ringway, &io, &subjects);
            options.ringway = subject::on_drivers(&options.ringway, &io);
            sweep(&options, &workloads, &subjects, out)
        }
        Task::One { options, workload, subject, number } => one(&options, &workload, &subject, number),
        Task::Relay { listen, backend, buffer_size } => Ok(relay::serve(listen, backend, buffer_size)?),
        Task::Report { folder } => conclude(&report::read(&folder)?, Some(&folder)),
    }
}

fn sweep(options: &Options, workloads: &[String], subjects: &[String], out: Option<std::path::PathBuf>) -> Result<()> {
    let workloads = match workloads {
        [] => workload::ALL.to_vec(),
        names => names.iter().map(|name| workload_named(name)).collect::<Result<_>>()?,
    };
    let named = |name: &String| Subject::named(name, &options.ringway);
    let subjects: Vec<Subject> = subjects.iter().map(named).collect::<Result<_>>()?;
    for subject in &subjects {
        subject.program()?;
    }
    let setting = report::setting(options, &subjects);
    let records = sweep::sweep(options, &workloads, &subjects)?;
    let report = report::Report { setting, records };
    println!();
    conclude(&report, out.as_deref())
}

/// Prints the table of a report, and writes its result folder if there is one.
fn conclude(report: &report::Report, folder: Option<&Path>) -> Result<()> {
    println!("{}", report.table());
    let Some(folder) = folder else { return Ok(()) };
    report.write(folder, &plot::svg(report)).with_context(|| format!("write {}", folder.display()))
}

fn one(options: &Options, workload: &str, subject: &str, number: u16) -> Result<()> {
    sys::die_with_parent();
    let plan = plan(options, workload_named(workload)?, Subject::named(subject, &options.ringway)?, number);
    println!("{}", run::run(&plan).to_csv());
    Ok(())
}

fn plan(options: &Options, workload: Workload, subject: Subject, number: u16) -> Plan {
    Plan {
        workload,
        subject,
        number,
        warm_up: options.warm_up,
        seconds: options.seconds,
        idle_sessions: options.idle_sessions,
        beside_sessions: options.beside_sessions,
        proxy_cpu: options.proxy_cpu,
        load_cpu: options.load_cpu,
        congestion_control: options.congestion_control.clone(),
        anywhere: options.anywhere,
        nice: options.nice,
    }
}

fn workload_named(name: &str) -> Result<Workload> {
    match Workload::named(name) {
        Some(workload) => Ok(workload),
        None => bail!("no workload is called {name}: {}", workload::ALL.map(|workload| workload.name).join(" ")),
    }
}
