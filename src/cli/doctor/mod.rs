//! `ringway doctor`: what of this machine ringway can use, and what to do about the rest.
//!
//! `facts` reads, `findings` judges; with a configuration, `file` also looks at what that names (`held`: which program
//! has an address, `certificates`: what a listener with TLS reads, `reach`: whether backends answer).

mod certificates;
mod facts;
mod file;
mod findings;
mod held;
mod reach;

use std::path::Path;

use super::check;
use super::failure::Failure;
use super::paint::{Paint, Tone};
use facts::HostFacts;
use findings::{DoctorFinding, Grade};

/// The command: one line per finding. It fails if something keeps ringway from running.
pub(super) fn doctor(config: Option<&Path>) -> Result<(), Failure> {
    let config = config.map(check::load).transpose()?;
    let mut findings = findings::all(&HostFacts::gather(), config.as_ref());
    findings.extend(config.iter().flat_map(file::all));
    let paint = Paint::of_stdout();
    let lines: String = findings.iter().map(|finding| line(finding, paint)).collect();
    super::print(lines.as_bytes())?;
    if findings.iter().any(|finding| finding.grade == Grade::Bad) {
        return Err(anyhow::anyhow!("what is marked FAIL keeps ringway from running; each line says what to do").into());
    }
    Ok(())
}

/// A finding as its line.
fn line(finding: &DoctorFinding, paint: Paint) -> String {
    let grade = match finding.grade {
        Grade::Good => paint.tone(Tone::Good, "ok  "),
        Grade::Note => paint.tone(Tone::Warn, "note"),
        Grade::Bad => paint.tone(Tone::Bad, "FAIL"),
    };
    let remedy = finding.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    format!("{grade}  {:<20} {}{remedy}\n", finding.what, finding.detail)
}
