//! How the rest of the process asks control for what a signal asks for.

use tokio::sync::mpsc;

/// Asks for shutdown. Clones ask the same control.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::UnboundedSender<()>);

/// The end that [`ControlSpec`](super::ControlSpec) takes.
#[derive(Debug)]
pub struct Stop(mpsc::UnboundedReceiver<()>);

/// A pair that belongs together. Dropping every [`Stopper`] asks for nothing.
pub fn stop_channel() -> (Stopper, Stop) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// As SIGTERM: the first time drains, the second time resets what is left. From any thread; never waits.
    pub fn ask(&self) {
        // Fails exactly when control has returned, and then nothing is left to stop.
        let _ = self.0.send(());
    }
}

impl Stop {
    /// Waits until somebody asks; for ever once nobody can.
    pub(super) async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
