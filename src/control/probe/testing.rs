//! What the tests of all kinds use.

use std::time::Duration;

use super::{Ask, Checked, probe};
use crate::base::address::Address;
use crate::config::model::CheckKind;

/// A patient check that asks for nothing more.
pub(super) fn ask(target: Address, kind: CheckKind) -> Ask {
    Ask { target, kind, timeout: Duration::from_secs(5), role: false, lag: false }
}

/// Runs a future as control does: on one thread, with local tasks.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Makes one check.
pub(super) fn check(ask: Ask) -> Checked {
    run(probe(&ask))
}
