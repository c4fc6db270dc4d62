//! Threads that make signatures for workers, once a listener has a key that takes long for one.

use std::sync::Arc;

use crate::snapshot::table::{ListenerEntry, Table};
use crate::worker::Shared;

/// Starts them if the published table has such a listener and they do not run. To be called where no thread but the
/// caller does it, without being pinned, and with no more privileges than workers have.
pub(super) fn start_if_wanted(shared: &Arc<Shared>) {
    if !is_wanted(&shared.cell.reader().pin()) {
        return;
    }
    if let Err(error) = shared.start_signers() {
        tracing::warn!(%error, "no thread for signatures of TLS: workers make them, and their sessions wait for them");
    }
}

/// Whether a listener has a key that takes long for a signature.
fn is_wanted(table: &Table) -> bool {
    let signs_slowly = |entry: &ListenerEntry| entry.admission.as_ref()?.tls.as_ref().map(|tls| tls.signs_slowly());
    table.listeners.iter().flatten().any(|entry| signs_slowly(entry) == Some(true))
}
