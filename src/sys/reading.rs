//! Files that checks and sources of backends need, read anew so that they can be changed without a word to ringway.
//!
//! A file may hang: a FIFO without a writer, a network drive that is gone. The thread that reads it hangs with it, so
//! there is one for each file and no more. What wants the file meanwhile waits for that thread, or gives up.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// A file that is not read by then hangs.
const TIMEOUT_MAX: Duration = Duration::from_secs(1);

/// What reading a file gave, once it is known.
type Found<T> = Option<Result<T, Arc<io::Error>>>;

/// The files of one kind that are being read, by their path.
pub(crate) struct Readings<T>(RefCell<HashMap<PathBuf, watch::Receiver<Found<T>>>>);

/// A reading that was started.
pub(crate) struct Reading<T>(watch::Receiver<Found<T>>);

impl<T> Default for Readings<T> {
    fn default() -> Readings<T> {
        Readings(RefCell::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Readings<T> {
    /// The one reading of that file: the one under way, or one that begins now, in which `read` makes of the file what
    /// is wanted.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn begin(&self, path: &Path, read: fn(&Path) -> io::Result<T>) -> io::Result<Reading<T>> {
        let mut all = self.0.borrow_mut();
        if let Some(reading) = all.get(path).filter(|one| is_under_way(one)) {
            return Ok(Reading(reading.clone()));
        }
        let (told, reading) = watch::channel(None);
        let there = path.to_path_buf();
        // A thread of its own: the runtime would wait for one of its own when it ends.
        std::thread::Builder::new().name("ringway-file".to_string()).spawn(move || {
            let found = read(&there).map_err(Arc::new);
            told.send_replace(Some(found));
        })?;
        all.retain(|_, one| is_under_way(one));
        all.insert(path.to_path_buf(), reading.clone());
        Ok(Reading(reading))
    }
}

impl<T: Clone> Reading<T> {
    /// Waits for what is read, but no longer than that.
    ///
    /// # Errors
    /// It could not be read, or hangs.
    pub(crate) async fn done(mut self, timeout: Duration) -> io::Result<T> {
        let found = match tokio::time::timeout(timeout, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone(),
            Ok(Err(_)) => None,
            Err(_) => {
                let error = format!("it was not read within {} ms, so it hangs", timeout.as_millis());
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        found.unwrap_or_else(|| Err(Arc::new(io::Error::other("its reader has ended")))).map_err(|error| copy(&error))
    }
}

/// How long something with that time-out waits for a file; zero is no time-out.
pub(crate) fn patience(timeout: Duration) -> Duration {
    if timeout.is_zero() { TIMEOUT_MAX } else { timeout.min(TIMEOUT_MAX) }
}

/// What is in a file that has no more than `most` bytes. Blocks.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it has more than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

/// What `stat` says of a file: when it was changed, how long it is, and which one it is. Another content shows there,
/// whether it was written in place, renamed over the file, or put behind a link.
pub(crate) type FileMark = (i64, i64, u64, u64);

/// The mark of a file.
pub(crate) fn mark_of(found: &Metadata) -> FileMark {
    (found.mtime(), found.mtime_nsec(), found.len(), found.ino())
}

/// Whether its thread is still reading: nothing was told yet, and the thread is there.
fn is_under_way<T>(reading: &watch::Receiver<Found<T>>) -> bool {
    reading.borrow().is_none() && reading.has_changed().is_ok()
}

/// The same error for each check that waited.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
