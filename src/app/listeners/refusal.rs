//! Why an address cannot be listened on, in words.

use std::io;

use crate::base::address::{Address, BindAddress};
use crate::kernel::errno;

/// One line: what, why, and what to do.
pub(in crate::app) fn refusal(key: &str, place: &BindAddress, error: &io::Error) -> anyhow::Error {
    let why = match (error.raw_os_error(), &place.address) {
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) if is_ephemeral(tcp.port()) => format!(
            "in use; it lies in net.ipv4.ip_local_port_range, so an outgoing connection may have it: choose another \
             port or reserve this one with `sysctl net.ipv4.ip_local_reserved_ports={}`",
            tcp.port()
        ),
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) => {
            format!("in use by another program (`ss -ltnp 'sport = {}'` shows which)", tcp.port())
        }
        (None, Address::Unix(_)) if error.kind() == io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another path".to_owned()
        }
        (Some(errno::EADDRNOTAVAIL | errno::EAFNOSUPPORT), Address::Tcp(tcp)) if tcp.is_ipv6() && !has_ipv6() => {
            "this host has no IPv6 (it is off in the kernel, or `sysctl net.ipv6.conf.all.disable_ipv6` is 1): write \
             an IPv4 address"
                .into()
        }
        (Some(errno::EADDRNOTAVAIL), _) => {
            "no interface of this host has that address (`ip address` shows them); where it is a virtual address that \
             moves here later, write `freebind = true` in the listener"
                .into()
        }
        (Some(errno::ENODEV), Address::Tcp(_)) => {
            "this host has no interface of that name (`ip link` shows them); to have ringway start without it, leave \
             out `interface`"
                .into()
        }
        // Ports below 1024 are EACCES.
        (Some(errno::EPERM), Address::Tcp(_)) if place.interface.is_some() => {
            "not allowed: before Linux 5.7 `interface` needs CAP_NET_RAW (AmbientCapabilities= in systemd) or root"
                .into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Tcp(_)) => {
            "not allowed: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd) or root".into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Unix(_)) => {
            "not allowed: the directory must be writable for ringway's user".into()
        }
        (Some(errno::ENOENT), Address::Unix(_)) => "its directory does not exist".into(),
        (Some(errno::EMFILE), _) => "too many open descriptors: raise the hard limit (`ulimit -Hn`)".into(),
        _ => error.to_string(),
    };
    anyhow::anyhow!("{key}: cannot listen on {place}: {why}")
}

/// Whether an interface has an IPv6 address.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

/// Whether the kernel gives this port to outgoing connections as well (ip_local_port_range), one of which may have it.
fn is_ephemeral(port: u16) -> bool {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    bounds.next().is_some_and(|low| low <= port) && bounds.next().is_some_and(|high| port <= high)
}
