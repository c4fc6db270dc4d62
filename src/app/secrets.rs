//! Files that hold secrets, and which users can read them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::model::{CheckKind, Config, Source};

/// Permission bits of everybody else.
const OTHERS_READ: u32 = 0o004;
/// The bit by which they can change it.
const OTHERS_WRITE: u32 = 0o002;

/// Warns of each password file that every user of this host can read, and of a configuration that every user can
/// change.
pub(super) fn warn_of_readable(config: &Config, source: &Source) {
    let checks = config.pools.iter().filter_map(|pool| pool.check.as_ref()).map(|check| &check.kind);
    let logins = checks.filter_map(CheckKind::login);
    let files: BTreeSet<&Path> = logins.filter_map(|login| login.password_file.as_deref()).collect();
    for file in files {
        if others_may(file, OTHERS_READ) {
            let file = file.display();
            tracing::warn!("every user of this host can read {file}, which holds a password: `chmod o-r {file}`");
        }
    }
    let Source::File(file) = source else { return };
    let shown = file.display();
    if others_may(file, OTHERS_WRITE) {
        tracing::warn!(
            "every user of this host can change {shown}, and so where clients are sent: `chmod o-w {shown}`"
        );
    }
}

/// Whether a file can be looked at and grants this to others; a file that is not there grants nothing.
fn others_may(file: &Path, what: u32) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.mode() & what != 0)
}
