//! Floor 0: what everything else is made of. Names nothing of ours.

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
