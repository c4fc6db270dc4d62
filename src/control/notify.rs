//! What systemd is told, if it asks: ready, reloading, stopping, and that this process is alive (sd_notify(3)).
//!
//! Each message is a datagram on the socket in NOTIFY_SOCKET. Without that variable nothing is sent.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;
use tracing::warn;

use super::tasks::Control;
use crate::snapshot::cell::Cell;

/// This process now serves instead of the one that systemd has started.
pub(super) fn main_process() {
    tell(&[NotifyState::MainPid(std::process::id())]);
}

/// That process now serves instead of this one. From now on only that one talks to systemd.
pub(super) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Every listener accepts, at the start or after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins. [`ready`] ends it, also if it was refused.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd that a reload begins: the clock cannot be read"),
    }
}

/// The end begins.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd twice within each `WatchdogSec=` that control and every worker are alive; if not, systemd restarts the
/// service. A worker is alive if it has seen the table that was the newest one the time before.
pub(super) async fn keep_alive(control: Rc<Control>, cell: Arc<Cell>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut before = 0;
    while !control.is_relieved.get() {
        if control.stats.seen_generation() >= before {
            tell(&[NotifyState::Watchdog]);
        } else {
            warn!("a worker hangs: systemd's watchdog is not answered, so that systemd starts ringway again");
        }
        before = cell.generation();
        sleep((limit / 2).max(Duration::from_millis(1))).await;
    }
}

/// Sends one datagram to the service manager. If it is not taken, it is lost, and nothing waits for it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify systemd: it may take ringway for one that does not start, or hangs");
    }
}
