//! The warnings for a configuration on this host: what it names and the host does not have.
//!
//! `config` is pure and asks the host through [`config::Host`]; here the questions are answered
//! with the account that will serve.

use std::path::Path;

use crate::app::account::Account;
use crate::config::model::Config;
use crate::config::{self, warnings};
use crate::sys::route;

/// The warnings for this configuration on this host, one line each.
pub(super) fn warnings_of(config: &Config) -> Vec<String> {
    let account = Account::of(&config.process);
    // If the user does not exist yet, it is unknown what it could read.
    let cannot_read = |file: &Path| account.as_ref().ok().and_then(|account| account.may_read(file).err());
    let no_account = account.as_ref().err().map(|error| format!("{error:#}"));
    warnings(config, &config::Host { has_address: &route::is_own, cannot_read: &cannot_read, no_account })
}
