//! Sockets that the service manager has bound before it started ringway: socket activation (sd_listen_fds(3)).

use std::os::fd::OwnedFd;

use crate::base::address::BindAddress;
use crate::kernel::Fd;
use crate::sys::{listener, system};

/// Every listening socket that was handed to this process, with its place.
///
/// # Errors
/// `LISTEN_FDS` says something that is not so.
pub(super) fn sockets() -> anyhow::Result<Vec<(BindAddress, OwnedFd)>> {
    let numbers = sd_notify::listen_fds().map_err(|error| anyhow::anyhow!("LISTEN_FDS in the environment: {error}"))?;
    let mut sockets = Vec::new();
    for number in numbers {
        let fd = system::adopt(Fd(number))
            .map_err(|error| anyhow::anyhow!("LISTEN_FDS in the environment names descriptor {number}: {error}"))?;
        anyhow::ensure!(
            listener::is_listener(&fd),
            "LISTEN_FDS in the environment names descriptor {number}, which is no listening stream socket: use \
             ListenStream= and Accept=no in the .socket unit"
        );
        sockets.push((listener::place_of(&fd)?, fd));
    }
    Ok(sockets)
}

/// Warns of those that no listener of the configuration uses.
pub(super) fn report_unused(places: &[BindAddress]) {
    for place in places {
        tracing::warn!(address = %place, "the service manager has bound this address for ringway, and no listener has \
                       it as its `bind`: clients that connect there get no answer; add it to a `bind`, or remove it \
                       from the .socket unit");
    }
}
