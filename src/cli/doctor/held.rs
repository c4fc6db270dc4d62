//! Which program listens where on this host, as `/proc` says it.
//!
//! It reads `/proc/net` for sockets that listen, and `/proc/PID/fd` for the programs that have them. Without root only
//! the user's own programs are seen.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::base::address::{Address, BindAddress};
use crate::sys::listener;

/// A socket that listens, in the column of states (`TCP_LISTEN`).
const LISTEN: &str = "0A";
/// A unix socket that listens, in the column of flags (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 1 << 16;

/// All sockets that listen, with the inodes by which their programs are found.
pub(super) struct Held {
    /// By address: the inode.
    tcp: Vec<(SocketAddr, u64)>,
    /// By path: the inode.
    unix: Vec<(String, u64)>,
    /// By inode of a socket: the programs that have it, as far as this user can see them.
    programs: HashMap<u64, Vec<Holder>>,
}

/// A program that listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Holder {
    /// Its name, such as `nginx`; empty if this user cannot see it.
    pub(super) name: String,
    /// The number of its process; 0 if this user cannot see it.
    pub(super) pid: u32,
}

impl Held {
    /// Reads `/proc`.
    pub(super) fn read() -> Held {
        let table = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut tcp = listening(&table("/proc/net/tcp"));
        tcp.extend(listening(&table("/proc/net/tcp6")));
        Held { tcp, unix: listening_unix(&table("/proc/net/unix")), programs: programs() }
    }

    /// The programs that keep this address from being listened on; one entry per program.
    pub(super) fn holders(&self, wanted: &BindAddress) -> Vec<Holder> {
        let inodes: Vec<u64> = match &wanted.address {
            // `/proc` does not show to which interface a socket is limited; to bind beside it tells.
            Address::Tcp(_) if wanted.interface.is_some() && !is_held(wanted) => Vec::new(),
            Address::Tcp(wanted) => {
                let held = self.tcp.iter().filter(|(held, _)| overlaps(*held, *wanted));
                held.map(|(_, inode)| *inode).collect()
            }
            Address::Unix(path) => {
                let held = self.unix.iter().filter(|(held, _)| Path::new(held) == path);
                held.map(|(_, inode)| *inode).collect()
            }
        };
        let unknown = || vec![Holder { name: String::new(), pid: 0 }];
        let holders = inodes.into_iter().flat_map(|inode| self.programs.get(&inode).cloned().unwrap_or_else(unknown));
        let mut holders: Vec<Holder> = holders.collect();
        holders.sort_by_key(|holder| holder.pid);
        holders.dedup();
        holders
    }
}

/// Whether another socket keeps this place from being listened on.
fn is_held(wanted: &BindAddress) -> bool {
    listener::ensure_unused(wanted, true).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Whether one of two addresses cannot be bound beside the other. A socket for every IPv6 address may also take every
/// IPv4 one, which `/proc` does not show; so that is found out by trying to bind.
fn overlaps(held: SocketAddr, wanted: SocketAddr) -> bool {
    if held.port() != wanted.port() {
        return false;
    }
    match (held.ip(), wanted.ip()) {
        (IpAddr::V6(all), IpAddr::V4(_)) if all.is_unspecified() => {
            std::net::TcpListener::bind(wanted).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
        }
        (held, wanted) if held.is_ipv4() == wanted.is_ipv4() => {
            held == wanted || held.is_unspecified() || wanted.is_unspecified()
        }
        _ => false,
    }
}

/// By inode of a socket: the programs that have it open.
fn programs() -> HashMap<u64, Vec<Holder>> {
    let mut found: HashMap<u64, Vec<Holder>> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for target in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                found.entry(inode).or_default().push(Holder { name: name(), pid });
            }
        }
    }
    found
}

/// The rows of `/proc/net/tcp` or `tcp6` for sockets that listen.
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = words.as_slice() else { return None };
        Some((socket_address(local)?, inode.parse().ok()?))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// An address as `/proc` writes it: `0100007F:1538` is 127.0.0.1:5432. The words have four bytes in the order of this
/// machine.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (number, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(number * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The rows of `/proc/net/unix` for sockets that listen and have a path.
fn listening_unix(table: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let flags = u32::from_str_radix(words.next()?, 16).ok()?;
        let inode = words.nth(2)?.parse().ok()?;
        let path = words.next().filter(|path| flags & ACCEPTS != 0 && path.starts_with('/'))?;
        Some((path.to_string(), inode))
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        let row = |number: u32, local: &str, state: &str, inode: u32| {
            format!(
                "   {number}: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0\n"
            )
        };
        let rows = [row(0, "0100007F:1538", "0A", 77), row(1, "0100007F:1539", "01", 78)];
        let tcp = format!("  sl  local_address rem_address   st\n{}", rows.concat());
        assert_eq!(listening(&tcp), [("127.0.0.1:5432".parse().unwrap(), 77)]);
        assert_eq!(socket_address("00000000000000000000000001000000:0050"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(socket_address("0100:50"), None);
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 41 /run/x.sock\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 42 /run/x.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 43 @abstract\n";
        assert_eq!(listening_unix(unix), [("/run/x.sock".to_string(), 41)]);
    }

    #[test]
    fn a_socket_leads_to_its_program() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holders = |address: SocketAddr| Held::read().holders(&BindAddress::everywhere(Address::Tcp(address)));
        let own = holders(address);
        assert!(matches!(own.as_slice(), [holder] if holder.pid == std::process::id()), "{own:?}");
        assert_eq!(holders(SocketAddr::new("0.0.0.0".parse().unwrap(), address.port())), own);
        assert_eq!(holders(SocketAddr::new("127.0.0.2".parse().unwrap(), address.port())), []);
        drop(listener);
        assert_eq!(holders(address), []);
    }
}
