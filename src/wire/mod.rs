//! The formats at the very beginning of a connection, read from the bytes that are there so far. Pure.
//!
//! Every parser here is given all bytes since the first one, and later all of them again with more: the caller looks at
//! the queue of the socket and takes nothing out. "More are needed" and "this is wrong" are told as early as possible,
//! one call costs no more than a walk over the bytes, and no input makes a parser panic (each has a fuzz target).
//! `admission` calls them.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod first_bytes;
pub mod postgresql;
pub mod proxy;
