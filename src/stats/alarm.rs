//! How workers tell control that there is something to look at, so that control does not have to poll.
//!
//! Control calls [`Alarm::arm`], looks at the counters, and waits for [`Alarm::rung`]. A worker counts first and then
//! calls [`Alarm::ring`]; while control is busy, that costs the worker one load and a fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use tokio::sync::Notify;

/// Rings once, until control has heard it. Clones ring for the same listener.
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<AlarmState>);

/// What the clones of an alarm share.
#[derive(Debug, Default)]
struct AlarmState {
    /// Control waits for it. While it does not, a ring costs one load.
    is_armed: AtomicBool,
    /// Wakes control.
    notify: Notify,
}

impl Alarm {
    /// An alarm that nothing waits for yet.
    pub fn new() -> Alarm {
        Alarm::default()
    }

    /// Rings. Control, when it has heard this, sees everything that the caller counted before. It can be called on any
    /// thread and never waits.
    pub fn ring(&self) {
        // Either this sees that control waits, or control sees what was counted: each writes, then reads.
        fence(Ordering::SeqCst);
        if self.0.is_armed.load(Ordering::Relaxed) && self.0.is_armed.swap(false, Ordering::AcqRel) {
            self.0.notify.notify_one();
        }
    }

    /// From now on it can be heard. To be called before looking at the counters.
    pub fn arm(&self) {
        self.0.is_armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Waits until it has rung since it was armed.
    pub async fn rung(&self) {
        self.0.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn nothing_that_is_counted_goes_unheard() {
        let (alarm, counted) = (Alarm::new(), Arc::new(AtomicU64::new(0)));
        const EACH: u64 = 20_000;
        let worker = || {
            let (alarm, counted) = (alarm.clone(), counted.clone());
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    counted.fetch_add(1, Ordering::Relaxed);
                    alarm.ring();
                }
            })
        };
        let workers = [worker(), worker()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hear = async {
            loop {
                alarm.arm();
                if counted.load(Ordering::Relaxed) == 2 * EACH {
                    return;
                }
                alarm.rung().await;
            }
        };
        let all = runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(20), hear).await });
        assert!(all.is_ok(), "{} of {}", counted.load(Ordering::Relaxed), 2 * EACH);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn it_rings_only_while_somebody_listens() {
        let alarm = Alarm::new();
        alarm.ring();
        alarm.arm();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let is_rung =
            || runtime.block_on(async { tokio::time::timeout(std::time::Duration::ZERO, alarm.rung()).await });
        assert!(is_rung().is_err());
        alarm.ring();
        assert!(is_rung().is_ok());
    }
}
