//! What a ringway has from the one before, which it takes over from.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;

use crate::base::address::BindAddress;
use crate::sys::listener;
use crate::take_over::{self, Predecessor, Taken};

/// Its listening sockets by their places, and the ringway itself, which goes on until it is relieved.
pub(super) fn from(admin_socket: &Path) -> anyhow::Result<(Vec<(BindAddress, OwnedFd)>, Predecessor)> {
    let Taken { sockets, predecessor } = take_over::take(admin_socket)?;
    let with_place = |fd: OwnedFd| Ok((listener::place_of(&fd)?, fd));
    let sockets: std::io::Result<_> = sockets.into_iter().map(with_place).collect();
    Ok((sockets.context("the ringway before has sent something that is no listening socket")?, predecessor))
}
