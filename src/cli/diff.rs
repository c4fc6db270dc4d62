//! `ringway diff OLD NEW`: the changes that a reload would log, and what follows from them.
//!
//! | exit | |
//! |---|---|
//! | 0 | both mean the same |
//! | 1 | something differs, and was printed |
//! | 2 | one of them is no configuration |
//!
//! A change that a running ringway cannot make is in the list, and once more at its end, as its reload would be
//! refused.

use std::path::Path;

use super::failure::Failure;
use crate::config::diff;

/// The command. Nothing is printed if both mean the same.
pub(super) fn diff(old: &Path, new: &Path) -> Result<(), Failure> {
    let (old, new) = match (super::check::load(old), super::check::load(new)) {
        (Ok(old), Ok(new)) => (old, new),
        // Both are read, so that one run reports every fault.
        (Err(Failure::Configuration(mut faults)), Err(Failure::Configuration(more))) => {
            faults.extend(more);
            return Err(Failure::Configuration(faults));
        }
        (Err(failure), _) | (_, Err(failure)) => return Err(failure),
    };
    let found = diff::diff(&old, &new);
    let restart = found
        .needs_restart
        .iter()
        .map(|line| format!("needs another process, by a restart or with --take-over: {line}"));
    let consequences = diff::consequences(&old, &new);
    let lines: Vec<String> =
        found.changes.iter().cloned().chain(consequences.lines()).chain(restart).map(|line| line + "\n").collect();
    super::print(lines.concat().as_bytes())?;
    if lines.is_empty() { Ok(()) } else { Err(Failure::Answered) }
}
