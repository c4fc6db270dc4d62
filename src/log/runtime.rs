//! What control's tasks run on: tokio-uring where the workers use io_uring, and else tokio alone.
//!
//! It stands here because the files of logs are all that is written by control's ring. Above this room nothing knows
//! which of the two it is. With musl it is tokio alone: tokio-uring does not compile there. Workers use io_uring all
//! the same.

#[cfg(not(target_env = "musl"))]
mod ring;

use std::io;

use tokio::task::LocalSet;

use crate::kernel::driver::Driver;

/// Runs tasks of one thread.
pub(crate) enum Runtime {
    /// With a ring, which can only write and close files that are open already.
    #[cfg(not(target_env = "musl"))]
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
            #[cfg(not(target_env = "musl"))]
            Driver::IoUring => ring::runtime().map(Runtime::Ring),
            _ => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(Runtime::Plain(runtime, LocalSet::new()))
            }
        }
    }

    /// Runs a future to its end, with whatever it spawns meanwhile.
    pub(crate) fn block_on<F: Future>(self, future: F) -> F::Output {
        match self {
            #[cfg(not(target_env = "musl"))]
            Runtime::Ring(runtime) => runtime.block_on(future),
            Runtime::Plain(runtime, tasks) => tasks.block_on(&runtime, future),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::wanted;

    /// It would be a way past the filter of system calls.
    #[cfg(not(target_env = "musl"))]
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
            let made = Runtime::new(driver);
            let Some(runtime) = (if driver == Driver::IoUring { wanted(made) } else { made.ok() }) else { continue };
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
