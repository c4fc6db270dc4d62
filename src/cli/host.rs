//! What this host has that a configuration names.

use std::path::Path;

use crate::app::account::Account;
use crate::config::model::Config;
use crate::config::{self, warnings};
use crate::sys::route;

/// What is worth a warning on this host.
pub(super) fn warnings_of(config: &Config) -> Vec<String> {
    let account = Account::of(&config.process);
    // A user that is not there yet reads nothing yet.
    let cannot_read = |file: &Path| account.as_ref().ok().and_then(|account| account.may_read(file).err());
    let no_account = account.as_ref().err().map(|error| format!("{error:#}"));
    warnings(config, &config::Host { has_address: &route::is_own, cannot_read: &cannot_read, no_account })
}
