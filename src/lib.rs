//! ringway: a Layer 4 TCP load balancer on io_uring.
//!
//! The interesting logic is a pure value that is told what happened and says what to do; one thin shell a core does it.
//!
//! ```text
//! file ─> config ─> control ─> snapshot::Table ─> worker ─> session ─> relay     down: what to do
//! control <─ stats cells, one writer each <─ worker                              up: only numbers
//! ```
//!
//! A module names only floors below its own:
//!
//! | floor | modules | |
//! |---|---|---|
//! | 7 | [`app`], [`cli`] | the only place where worker and control meet |
//! | 6 | [`worker`], [`control`] | the threads |
//! | 5 | [`admission`] | pure |
//! | 4 | [`snapshot`] | the one published pointer |
//! | 3 | [`session`], [`config`] | pure |
//! | 3 | [`uring`] | a worker's kernel, by io_uring |
//! | 2 | [`admit`], [`balance`], [`health`], [`relay`], [`stats`], [`roster`] | pure |
//! | 2 | [`sys`] | system calls |
//! | 1 | [`wire`]; [`kernel`] | pure; what a worker needs of its kernel |
//! | 0 | [`base`] | names nothing of ours |
//!
//! `ARCHITECTURE.md` follows a byte through it. A program that embeds ringway starts at [`config::load`] and
//! [`app::Server::start`]; it is a binary first, and this interface may change with any version.
#![warn(missing_docs)]

pub mod admission;
pub mod admit;
pub mod app;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod kernel;
pub mod relay;
pub mod roster;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod sys;
pub mod uring;
pub mod wire;
pub mod worker;
