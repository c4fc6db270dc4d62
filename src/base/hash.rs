//! The hash that many ringways must agree on.
//!
//! XXH3 (64 bit) with a fixed seed: the same on every worker, machine and version, because the backend of a client
//! under `consistent_hash` follows from it. It is predictable by design; tables that a client could flood use a keyed
//! hash instead.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hash of `bytes`; `seed` makes independent functions of the same bytes.
pub fn stable(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Hash key of a client by its address. An IPv4 address mapped into IPv6 counts as IPv4, so that the same client has
/// the same backend behind either kind of listener.
pub fn of_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => stable(&v4.octets(), 0),
        IpAddr::V6(v6) => stable(&v6.octets(), 0),
    }
}

/// Hash key of a client by address and port: spreads the connections of one client.
pub fn of_ip_port(ip: IpAddr, port: u16) -> u64 {
    stable(&port.to_be_bytes(), of_ip(ip))
}
