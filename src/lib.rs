//! ringway: a Layer 4 TCP load balancer on io_uring.
#![warn(missing_docs)]

pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod uring;
