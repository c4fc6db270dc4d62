//! What stands at the very beginning of a connection, read from the bytes that are there so far.
//!
//! Every parser here is given all bytes seen so far, and again with more of them: the caller peeks at the queue of the
//! socket and takes nothing. "More are needed" and "this is wrong" are told as early as they can be known, one call
//! costs no more than a walk over the bytes, and no input makes it panic.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod postgresql;
pub mod proxy;
