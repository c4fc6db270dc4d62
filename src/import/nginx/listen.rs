//! `listen` lines of a server.
//!
//! | word | becomes |
//! |---|---|
//! | `5432`, `*:5432`, `[::]:5432`, `unix:/x`, `7000-7009` | `bind`; `[::]` is IPv6 alone unless `ipv6only=off` |
//! | `proxy_protocol` | `accept_proxy` |
//! | `so_keepalive=on`, `off`, `idle:pause:count` | `keepalive` of the pools |
//! | `backlog`, `rcvbuf` | the keys of that meaning |
//! | `udp`, `ssl` | refused |
//! | `reuseport`, `bind` | nothing |

use super::tree::Directive;
use crate::import::address::{self, BindPlace};
use crate::import::note::{Notes, Origin};
use crate::import::time;

/// An address with its options.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    /// Its line.
    pub origin: Origin,
    /// Where it listens.
    pub place: BindPlace,
    /// A PROXY header comes first.
    pub accepts_proxy: bool,
    /// Connections that wait to be accepted.
    pub backlog: Option<u64>,
    /// Idle time before TCP keepalive, as ringway writes it.
    pub keepalive: Option<String>,
    /// The server of those at this address that no name fits.
    pub is_default: bool,
    /// Size of the receive buffer, as ringway writes it.
    pub receive_buffer: Option<String>,
}

/// Reads the addresses of a server. Those for UDP are refused, and left out.
///
/// # Errors
/// An address or an option that ringway does not have, with its line.
pub fn listens(server: &Directive, notes: &mut Notes) -> Result<Vec<Listen>, (Origin, String)> {
    let mut all = Vec::new();
    for line in server.all("listen") {
        if line.args.iter().any(|arg| arg == "udp") {
            notes.refuse(&line.origin, "UDP: ringway passes on TCP alone");
            continue;
        }
        let listen = listen(line, notes).map_err(|text| (line.origin.clone(), text))?;
        let dual = line.args.iter().any(|arg| arg == "ipv6only=off");
        if let Some(port) = listen.place.every_v6.clone().filter(|_| dual) {
            let place = BindPlace { address: format!("0.0.0.0:{port}"), every_v6: None };
            all.push(Listen { place, ..listen.clone() });
        }
        all.push(listen);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|listen: &Listen| seen.insert(listen.place.address.clone()));
    Ok(all)
}

/// Reads one line.
///
/// TLS is refused in this one place, so that it is easy to take over when the importer writes `[listeners.NAME.tls]`.
fn listen(line: &Directive, notes: &mut Notes) -> Result<Listen, String> {
    let place = address::nginx_bind(line.arg(0))?;
    let mut listen = Listen {
        origin: line.origin.clone(),
        place,
        accepts_proxy: false,
        backlog: None,
        keepalive: None,
        is_default: false,
        receive_buffer: None,
    };
    for arg in &line.args[1.min(line.args.len())..] {
        let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
        match name {
            "ssl" => {
                return Err(
                    "TLS would be ended here; the importer does not write [listeners.NAME.tls] yet, and plain TCP \
                            would be weaker"
                        .to_string(),
                );
            }
            "proxy_protocol" => listen.accepts_proxy = true,
            "default_server" => listen.is_default = true,
            "backlog" => listen.backlog = value.parse().ok().filter(|number: &u64| (1..=65_535).contains(number)),
            "so_keepalive" => listen.keepalive = keepalive(value),
            "rcvbuf" => listen.receive_buffer = size(value),
            "reuseport" | "bind" | "ipv6only" => {}
            "sndbuf" | "fastopen" | "deferred" | "setfib" | "accept_filter" | "tcp_nodelay" | "multipath" => {
                notes.note(&line.origin, format!("`{arg}` is left out"));
            }
            _ => return Err(format!("`{arg}` is no word of `listen` that this importer knows")),
        }
    }
    Ok(listen)
}

/// `on`, `off`, or idle time, pause and count.
///
/// The pause and the count have no key here: a probe every 10 s, 6 times. `on` leaves the times to the kernel, which
/// waits two hours; ringway's default is better, so nothing is written.
fn keepalive(value: &str) -> Option<String> {
    match value {
        "off" => Some("0s".to_string()),
        "on" => None,
        times => {
            let idle = times.split(':').next().unwrap_or_default();
            time::of_nginx(idle).map(|us| format!("{}s", (us / 1_000_000).clamp(1, 32_767)))
        }
    }
}

/// A size as ringway writes it.
pub fn size(text: &str) -> Option<String> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    match &text[split..] {
        "k" | "K" => Some(format!("{number}KiB")),
        "m" | "M" => Some(format!("{number}MiB")),
        "" if number > 0 && number.is_multiple_of(1024) => Some(format!("{}KiB", number / 1024)),
        _ => None,
    }
}
