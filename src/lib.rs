//! ringway: a Layer 4 TCP load balancer on io_uring or epoll.
//!
//! The interesting logic is a pure value that is told what happened and says what to do; a thin shell per core does it.
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
//! | 12 | [`cli`] | commands |
//! | 11 | [`app`] | the only place where worker and control meet |
//! | 10 | [`control`] | the loop of the thread that is not a worker |
//! | 9 | [`take_over`] | one process after another |
//! | 8 | [`api`] | what is asked of a running ringway |
//! | 7 | [`worker`], [`log`] | threads |
//! | 6 | [`admission`], [`fleet`] | pure |
//! | 5 | [`snapshot`] | the one published pointer |
//! | 5 | [`probe`] | health checks |
//! | 5 | [`import`] | configurations of other programs: pure |
//! | 4 | [`session`], [`config`] | pure |
//! | 4 | [`uring`], [`epoll`] | a worker's kernel, by io_uring or by epoll |
//! | 3 | [`discover`] | where backends are found |
//! | 2 | [`admit`], [`balance`], [`health`], [`relay`], [`stats`], [`roster`] | pure |
//! | 2 | [`sys`] | system calls |
//! | 2 | [`tls`] | TLS of sessions: pure |
//! | 1 | [`wire`] | pure |
//! | 1 | [`kernel`] | what a worker needs of its kernel |
//! | 0 | [`base`] | names nothing of ours |
//!
//! `ARCHITECTURE.md` follows a byte through it. A program that embeds ringway starts at [`config::load`] and
//! [`app::Server::start`]; it is a binary first, and this interface may change with any version.
#![warn(missing_docs)]

pub mod admission;
pub mod admit;
pub mod api;
pub mod app;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod discover;
pub mod epoll;
pub mod fleet;
pub mod health;
pub mod import;
pub mod kernel;
pub mod log;
pub mod probe;
pub mod relay;
pub mod roster;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod sys;
pub mod take_over;
pub mod tls;
pub mod uring;
pub mod wire;
pub mod worker;
