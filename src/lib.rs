//! ringway: a Layer 4 TCP load balancer on io_uring.
#![warn(missing_docs)]

pub mod app;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod relay;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod uring;
pub mod worker;
