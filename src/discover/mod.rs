//! Where backends are found: one file per source, which says what it found and for how long that holds.
//!
//! Host names of backends that stand in the configuration are looked up by [`dns`]; `control::names` passes what it has
//! learned to [`Fleet::on_resolved`](crate::fleet::Fleet::on_resolved). Everything else is a source of
//! `[pools.NAME.discover]` ([`settings`]), which says what backends there are ([`found`]). A source decides nothing:
//! the fleet makes backends of what it found, and never takes away the last one because a server has failed.
//!
//! To add a source:
//! 1. `src/discover/NAME.rs` asks and tells [`found::News`]; what decides something is pure.
//! 2. `src/discover/settings.rs` has its settings, `src/config/discover.rs` reads them, `src/config/keys.rs` has their
//!    keys.
//! 3. `src/control/discovery.rs` starts it.
//! 4. `docs/discovery.md` explains it to users.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod consul;
pub mod dns;
pub mod file;
pub mod follow;
pub mod found;
pub mod gather;
pub mod http;
pub mod known;
pub mod kubernetes;
pub mod settings;
pub mod srv;
