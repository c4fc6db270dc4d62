//! What a check found, in the few kinds that make a difference for a backend.
//!
//! `probe` makes it of the whole outcome of a check; the fleet decides what follows from it.

use std::sync::Arc;

use super::Facts;
use super::agent::Advice;

/// What a check found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It succeeded.
    Success(Facts),
    /// It succeeded, and a person should change this.
    Doubtful(Facts, Arc<str>),
    /// The server lives and refuses the account of the check, for this reason: nothing else is known anew.
    Refused(Arc<str>),
    /// It failed, for this reason.
    Failure(Arc<str>),
    /// It was an agent that was asked, and this is what it advises.
    Advice(Advice),
    /// It could not be made, for this reason: everything stays as it is.
    Unknown(Arc<str>),
}
