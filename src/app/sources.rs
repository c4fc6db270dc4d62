//! Whether connections to backends can come from where the configuration wants them to.

use std::net::IpAddr;

use crate::config::model::{Config, LocalAddress};
use crate::control::sockets::SocketsRefused;
use crate::kernel::errno;
use crate::sys::socket;

/// Refuses what can never be. An address that this host does not have may come yet, as one that moves between hosts
/// does: it is warned of.
pub(super) fn check(config: &Config) -> Result<(), SocketsRefused> {
    for pool in &config.pools {
        let key = format!("pools.{}.source", pool.name);
        match &pool.dial.source {
            LocalAddress::Any => {}
            LocalAddress::Client => may_take_any_address(&key)?,
            LocalAddress::Addresses(all) => all.iter().for_each(|&address| warn_unless_ours(&key, address)),
        }
    }
    Ok(())
}

/// Refuses `source = "client"` where the kernel does: it takes IP_TRANSPARENT (ip(7)), and that takes CAP_NET_RAW. A
/// loopback address stands for every other one.
fn may_take_any_address(key: &str) -> Result<(), SocketsRefused> {
    socket::try_source(IpAddr::from([127, 0, 0, 1]), true).map_err(|error| SocketsRefused {
        message: match error.raw_os_error() {
            Some(errno::EPERM) => format!(
                "{key} = \"client\" takes CAP_NET_RAW, which this process does not have: start it as root, or give it \
                 the capability (AmbientCapabilities=CAP_NET_RAW in systemd)"
            ),
            _ => format!("{key} = \"client\" is not possible here: {error}"),
        },
        may_pass: false,
    })
}

/// Warns if a socket cannot be bound to that address now.
fn warn_unless_ours(key: &str, address: IpAddr) {
    if let Err(error) = socket::try_source(address, false) {
        tracing::warn!(%address, %error, "{key}: connections cannot come from there until this host has that address");
    }
}
