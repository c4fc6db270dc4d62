//! What this host has that a configuration names.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::app::account::Account;
use crate::config::model::Config;
use crate::config::{self, warnings};

/// What is worth a warning on this host.
pub(super) fn warnings_of(config: &Config) -> Vec<String> {
    let account = Account::of(&config.process);
    // A user that is not there yet reads nothing yet.
    let cannot_read = |file: &Path| account.as_ref().ok().and_then(|account| account.may_read(file).err());
    let no_account = account.as_ref().err().map(|error| format!("{error:#}"));
    warnings(config, &config::Host { has_address: &has_address, cannot_read: &cannot_read, no_account })
}

/// Whether an address is one of this host's: nobody else's can be bound. Where the kernel is told to bind what is not
/// there (`ip_nonlocal_bind`), nobody can tell.
pub(super) fn has_address(ip: IpAddr) -> bool {
    let is_lax = |family: &str| {
        std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind")).is_ok_and(|text| text.trim() != "0")
    };
    !is_lax(if ip.is_ipv4() { "ipv4" } else { "ipv6" }) && UdpSocket::bind((ip, 0)).is_ok()
}
