//! How the rest of the process asks control for a shutdown, as a signal does.
//!
//! `app::Server` calls it to stop a server that runs in the same process: the demo does that at its end, and tests do.

use tokio::sync::mpsc;

/// Asks for shutdown. Clones ask the same control.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::UnboundedSender<()>);

/// The end at which control listens; [`ControlSpec`](super::ControlSpec) takes it.
#[derive(Debug)]
pub struct Stop(mpsc::UnboundedReceiver<()>);

/// The two ends. To drop every [`Stopper`] asks for nothing.
pub fn stop_channel() -> (Stopper, Stop) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// The same as SIGTERM: the first call drains, the second one resets what is left. It can be called on any thread
    /// and never waits.
    pub fn ask(&self) {
        // It fails only if control has returned, and then nothing is left to stop.
        let _ = self.0.send(());
    }
}

impl Stop {
    /// Waits until a shutdown is asked for; for ever if every [`Stopper`] is gone.
    pub(super) async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
