//! System calls of the data plane and the process, and the unsafe code that they take. It decides nothing.
//!
//! Descriptors are plain numbers ([`Fd`](crate::kernel::Fd)) owned by the worker's slots. Splice and shutdown are
//! called directly, never through a ring, because the kernel always hands those to a thread of its own
//! (`REQ_F_FORCE_ASYNC` in io_uring/splice.c and io_uring/net.c).

pub mod authorities;
pub mod buffers;
pub mod direct;
pub mod features;
pub mod filter;
pub mod listener;
pub mod pass;
pub mod pipes;
pub mod reading;
pub mod ring;
pub mod route;
pub mod signals;
pub mod socket;
pub mod socket_file;
pub mod stream;
pub mod system;
pub mod watched_file;
