//! Floor 1: the data plane's system calls, and all of its unsafe code.
//!
//! Everything here is a thin, typed wrapper: it decides nothing. Rules that hold throughout:
//!
//! - Memory that the kernel may write to or read from belongs to [`buffers::Buffers`] or [`pipes::Pipes`], which live
//!   as long as the ring and are dropped after it.
//! - Descriptors are plain numbers ([`Fd`]) owned by the worker's slots; closing one is an operation like any other.
//! - Nothing here may start a kernel worker thread: splice and shutdown are called directly, never through the ring,
//!   because the kernel always hands those to one (`REQ_F_FORCE_ASYNC` in io_uring/splice.c and io_uring/net.c).

pub mod buffers;
pub mod errno;
pub mod features;
pub mod filter;
pub mod op;
pub mod pass;
pub mod pipes;
pub mod probe;
pub mod ring;
pub mod socket;
pub mod system;
pub mod token;

/// An open descriptor, by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fd(pub i32);
