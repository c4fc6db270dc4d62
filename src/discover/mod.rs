//! Where backends are found: one file per source, which says what it found and for how long that holds.
//!
//! Today there is one source, host names ([`dns`]). A source decides nothing about backends: `control::names` passes
//! what it has learned to [`Fleet::on_resolved`](crate::fleet::Fleet::on_resolved), which makes a backend of each
//! address, keeps those that are missing for a while, and never takes away the last one because a server has failed.
//!
//! To add a source:
//! 1. `src/discover/NAME.rs` asks and answers with [`known::Learned`], or with a type of its own if it finds more than
//!    addresses (weights, ports).
//! 2. `src/control/names.rs` starts a task per thing that is looked up, and passes on what it has learned.
//! 3. `src/fleet/members.rs` takes in what was found, `src/fleet/names.rs` what was not.
//! 4. `src/config/address.rs` and `src/config/model/target.rs` (`Target`) say how a configuration names it.
#![forbid(unsafe_code)]

pub mod dns;
pub mod follow;
pub mod known;
