//! Files that a source needs, read again for each request.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::base::text::without_line_end;
use crate::sys::reading::{self, Readings};

/// Longer files are something else: those of all authorities together have some 200 KiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longer ones are no token and no password. Those of a Kubernetes account have one or two KiB.
const SECRET_MAX: usize = 64 * 1024;

thread_local! {
    /// What is being read. Control is one thread.
    static READING: Readings<Vec<u8>> = Readings::default();
}

/// What is in a file, read by another thread.
///
/// # Errors
/// `PATH: why`, also where the file hangs or is longer than [`FILE_BYTES_MAX`].
pub async fn file(path: &Path, timeout: Duration) -> Result<Vec<u8>, String> {
    let bad = |error: io::Error| format!("{}: {error}", path.display());
    let reading = READING.with(|all| all.begin(path, read)).map_err(bad)?;
    reading.done(reading::patience(timeout)).await.map_err(bad)
}

/// A token or a password: what is in a file without its final line break.
///
/// # Errors
/// `PATH: why`. It cannot be read, is empty, or is no text.
pub async fn secret(path: &Path, timeout: Duration) -> Result<String, String> {
    let bytes = file(path, timeout).await?;
    let bad = |why: &str| format!("{}: {why}", path.display());
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("it is no text"))?;
    let line = without_line_end(text);
    match line.len() {
        0 => Err(bad("it is empty")),
        1..=SECRET_MAX => Ok(line.to_string()),
        _ => Err(bad("it is longer than any token or password")),
    }
}

/// What is in a file. Blocks.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    reading::bounded(path, FILE_BYTES_MAX)
}
