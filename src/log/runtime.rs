//! What control's tasks run on: tokio-uring where the workers use io_uring, and else tokio alone.
//!
//! It stands here because the files of logs are all that is written by control's ring. Above this room nothing knows
//! which of the two it is.

use std::io;

use tokio::task::LocalSet;
use tracing::debug;

use crate::kernel::driver::Driver;
use crate::sys::ring;

/// Entries of control's ring: as many writes of logs as may wait.
const RING_ENTRIES: u32 = 64;
/// What it may do: IORING_OP_ASYNC_CANCEL, CLOSE and WRITE.
const RING_OPERATIONS: &[u8] = &[14, 19, 23];

/// Runs tasks of one thread.
pub(crate) enum Runtime {
    /// With a ring, which can only write and close files that are open already.
    Ring(tokio_uring::Runtime),
    /// Without one; the set is needed for tasks that stay on the thread.
    Plain(tokio::runtime::Runtime, LocalSet),
}

impl Runtime {
    /// For workers that run on that.
    ///
    /// # Errors
    /// No descriptor, no memory or no ring is left.
    pub(crate) fn new(driver: Driver) -> io::Result<Runtime> {
        match driver {
            Driver::IoUring => ring_runtime().map(Runtime::Ring),
            Driver::Epoll => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(Runtime::Plain(runtime, LocalSet::new()))
            }
        }
    }

    /// Runs a future to its end, with whatever it spawns meanwhile.
    pub(crate) fn block_on<F: Future>(self, future: F) -> F::Output {
        match self {
            Runtime::Ring(runtime) => runtime.block_on(future),
            Runtime::Plain(runtime, tasks) => tasks.block_on(&runtime, future),
        }
    }
}

/// With a ring that writes and closes the files of logs and can do nothing else, where the kernel can restrict one: a
/// control that was taken over must find no way past the filter of system calls.
fn ring_runtime() -> io::Result<tokio_uring::Runtime> {
    let mut disabled = tokio_uring::uring_builder();
    disabled.setup_r_disabled();
    let before = ring::all(RING_ENTRIES);
    let made = tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&disabled));
    if let Ok(runtime) = made {
        // Where another control is made at the same time (in tests), each opens what is there: both want the same.
        let new = ring::all(RING_ENTRIES);
        let opened = new.difference(&before).filter(|&&fd| ring::enable(fd, RING_OPERATIONS).is_ok()).count();
        if opened > 0 {
            return Ok(runtime);
        }
    }
    debug!("control's ring is not restricted: this kernel cannot");
    tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It would be a way past the filter of system calls.
    #[test]
    fn the_ring_of_control_writes_files_and_opens_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let there = std::fs::File::create(&path).unwrap();
        Runtime::new(Driver::IoUring).unwrap().block_on(async {
            let file = tokio_uring::fs::File::from_std(there);
            assert_eq!(file.write_at(b"line".to_vec(), 0).submit().await.0.unwrap(), 4);
            file.close().await.unwrap();
            let opened = tokio_uring::fs::File::open(&path).await;
            assert_eq!(opened.err().and_then(|error| error.raw_os_error()), Some(crate::kernel::errno::EACCES));
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"line");
    }

    #[test]
    fn tasks_run_on_both_without_one_knowing_which() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            let Ok(runtime) = Runtime::new(driver) else { continue };
            let found = runtime.block_on(async {
                let task = tokio::task::spawn_local(async {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    7
                });
                task.await.unwrap()
            });
            assert_eq!(found, 7, "{driver:?}");
        }
    }
}
