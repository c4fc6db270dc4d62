//! Floor 4: one pinned thread, one ring, and everything its sessions need.
//!
//! A worker decides nothing about a session: it tells the session what the kernel said and carries out what the
//! session answers ([`execute`]). What it does decide is the order of things: completions first, then one bulk half,
//! then timers ([`turn`]).

mod accept;
mod admission;
mod connect;
mod dispatch;
mod early;
mod execute;
mod greet;
mod hand_over;
mod limit;
mod pause;
mod pick;
mod queue;
mod record;
mod roster;
mod shared;
mod silence;
mod slots;
mod turn;

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub use accept::{Errand, ListenSocket, options_of};
pub use shared::{GiveUp, Parts, Shared};

use crate::uring::buffers::Buffers;
use crate::uring::ring::Ring;
use crate::uring::system;

/// What a worker starts with.
pub struct Spec {
    /// Its number.
    pub index: usize,
    /// The CPU to stay on.
    pub cpu: Option<usize>,
    /// Its listening sockets.
    pub sockets: Vec<ListenSocket>,
    /// What all workers share.
    pub shared: Arc<Shared>,
}

/// Starts a worker and returns when it accepts, or cannot.
pub fn spawn(spec: Spec) -> io::Result<JoinHandle<()>> {
    let (started, start) = mpsc::channel();
    let thread =
        std::thread::Builder::new().name(format!("ringway-{}", spec.index)).spawn(move || run(spec, &started))?;
    match start.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("a worker stopped while it was starting")),
    }
}

fn run(spec: Spec, started: &mpsc::Sender<io::Result<()>>) {
    // A CPU that was taken away meanwhile costs speed, not service.
    if let Some(cpu) = spec.cpu {
        let _ = system::pin(cpu);
    }
    let ring = Ring::new().and_then(|ring| {
        let buffers = Buffers::new(&ring)?;
        ring.enable()?;
        Ok((ring, buffers))
    });
    let (ring, buffers) = match ring {
        Ok(both) => both,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut worker = turn::Worker::new(spec, ring, buffers);
    worker.start();
    let _ = started.send(Ok(()));
    worker.run();
}
