//! Floor 0: what everything else is made of. It names nothing of ours.
//!
//! Ids and addresses, time and the timing wheel, hashes, text that is fit for a terminal, and the small enums that
//! several floors share (sides, terminations, refusals). Nothing here has a policy.

pub mod address;
pub mod hash;
pub mod host;
pub mod id;
pub mod lease;
#[cfg(debug_assertions)]
pub mod pace;
pub mod refused;
pub mod session;
pub mod side;
pub mod slots;
pub mod termination;
pub mod text;
pub mod time;
pub mod wheel;
