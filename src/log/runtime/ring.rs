//! A runtime of tokio-uring.

use std::io;

use tracing::debug;

use crate::sys::ring;

/// Entries of control's ring: as many writes of logs as may wait.
const RING_ENTRIES: u32 = 64;
/// What it may do: IORING_OP_ASYNC_CANCEL, CLOSE and WRITE.
const RING_OPERATIONS: &[u8] = &[14, 19, 23];

/// With a ring that writes and closes the files of logs and can do nothing else, where the kernel can restrict one: a
/// control that was taken over must find no way past the filter of system calls.
pub(super) fn runtime() -> io::Result<tokio_uring::Runtime> {
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
