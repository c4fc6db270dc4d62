//! What systemd is told, if it asks: ready, reloading, stopping, and that we are alive.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;
use tracing::warn;

use super::tasks::Control;
use crate::snapshot::cell::Cell;

/// This process serves in place of the one that systemd has started.
pub(super) fn main_process() {
    tell(&[NotifyState::MainPid(std::process::id())]);
}

/// That process serves in place of this one. Whatever systemd is told from now on, it is told by that one.
pub(super) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Everything accepts, or accepts again after a reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] says that it is over, also if it was refused.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd of a reload"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says twice within each `WatchdogSec=` that control and every worker go on; who hangs is restarted. A worker goes on
/// if it has seen the table that was the current one the time before.
pub(super) async fn keep_alive(control: Rc<Control>, cell: Arc<Cell>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut before = 0;
    while !control.is_relieved.get() {
        if control.seen_generation() >= before {
            tell(&[NotifyState::Watchdog]);
        } else {
            warn!("a worker hangs: systemd's watchdog is not answered, so that systemd starts ringway again");
        }
        before = cell.generation();
        sleep((limit / 2).max(Duration::from_millis(1))).await;
    }
}

/// The socket is a datagram socket of the service manager: what it does not take is lost, and nothing waits for it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd cannot be told of this");
    }
}
