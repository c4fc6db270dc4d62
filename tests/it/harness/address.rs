//! Addresses that no other test has.
//!
//! Every test takes loopback addresses of its own. A port that is found free and released may be taken by another
//! program a
//! moment later; all ports of 127.135.17.3 are ours, also against outgoing connections, which come from 127.0.0.1.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);
const PER_PROCESS: u32 = 2048;

/// A loopback address that no other test has, in this process or in another one.
pub fn own_ip() -> Ipv4Addr {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < PER_PROCESS, "more addresses than one process has");
    let host = (std::process::id() % (1 << 12)) * PER_PROCESS + number;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 128, 0, 0)) + host)
}

/// Where nothing listens: a connection is refused.
pub fn refusing() -> String {
    format!("{}:7100", own_ip())
}

/// As [`socket2`] has it: `ip:port`, `[ip6]:port` or `unix:/path`.
pub fn sockaddr(address: &str) -> socket2::SockAddr {
    match address.strip_prefix("unix:") {
        Some(path) => socket2::SockAddr::unix(path).unwrap(),
        None => address.parse::<std::net::SocketAddr>().unwrap().into(),
    }
}
