//! The short run that `cargo test --benches` makes.

use anyhow::{Result, bail};
use clap::Parser;

use crate::args::{Cli, Task};
use crate::record::Record;
use crate::ring::Ring;
use crate::subject::Subject;
use crate::workload;

/// Every workload once against the tokio-uring baseline; fails if one gives no figure.
pub fn run_all() -> Result<()> {
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
        "--nice=0",
        "--tries=1",
        "--anywhere",
    ];
    let Task::Sweep { options, .. } = Cli::parse_from(words).command else { unreachable!("it says sweep") };
    let subject = Subject::named("tokio16", &[])?;
    for workload in workload::ALL {
        let records = crate::sweep::sweep(
            &crate::args::Options { rounds: 1, ..options.clone() },
            &[workload],
            std::slice::from_ref(&subject),
        )?;
        let Some(Record { fault, .. }) = records.first() else { bail!("{} made no run", workload.name) };
        if !fault.is_empty() {
            bail!("{}: {fault}", workload.name);
        }
    }
    Ok(())
}
