//! `bind` lines. Those with the same options become one listener.
//!
//! | word | becomes |
//! |---|---|
//! | `accept-proxy` | `accept_proxy`; HAProxy trusts every peer, so every network is trusted here |
//! | `v6only`, `v4v6` | whether `0.0.0.0` is listened on beside `[::]` |
//! | `interface`, `backlog`, `maxconn`, `mode`, `tcp-ut` | the keys of those names |
//! | `transparent` | `freebind` at one address; at every address it means other hosts, which is refused |
//! | `ssl`, `crt` | refused (`tls`) |
//! | `tfo`, `defer-accept`, `thread`, `process`, `id`… | a note |

use super::section::Proxy;
use crate::import::address::{self, BindPlace};
use crate::import::note::{Notes, Origin};
use crate::import::time;

/// What was said of where a listener listens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BindOptions {
    /// A PROXY header comes first.
    pub accepts_proxy: bool,
    /// The only network interface.
    pub interface: Option<String>,
    /// Its addresses need not be of this host.
    pub is_free: bool,
    /// The mode of the file of a unix socket.
    pub mode: Option<String>,
    /// Connections that wait to be accepted.
    pub backlog: Option<u64>,
    /// Open connections.
    pub maxconn: Option<u64>,
    /// TCP_USER_TIMEOUT, in microseconds.
    pub user_timeout: u64,
}

/// Addresses with the same options.
#[derive(Clone, Debug)]
pub struct BindGroup {
    /// Where it listens.
    pub places: Vec<BindPlace>,
    /// Their options.
    pub options: BindOptions,
    /// The first line.
    pub origin: Origin,
}

/// All addresses of a proxy.
///
/// Only own lines count: `defaults` have no `bind`. The same address twice is what `[::]` and `0.0.0.0` of one port
/// come to when both are written and one would have covered the other.
///
/// # Errors
/// An address or an option that ringway does not have, with its line.
pub fn groups(proxy: &Proxy<'_>, notes: &mut Notes) -> Result<Vec<BindGroup>, (Origin, String)> {
    let mut groups: Vec<BindGroup> = Vec::new();
    // The old form: `listen NAME ADDRESS:PORT`.
    let head = &proxy.section.head;
    let old = head.words.get(2).filter(|word| *word != "from" && word.contains(':'));
    let mut all: Vec<(&Origin, &str, &[String])> =
        old.map(|at| (&head.origin, at.as_str(), &[][..])).into_iter().collect();
    for line in proxy.own("bind") {
        let rest = line.words.get(2..).unwrap_or_default();
        all.push((&line.origin, line.word(1), rest));
    }
    for (origin, at, words) in all {
        let fault = |text: String| (origin.clone(), text);
        let places = address::haproxy_binds(at).map_err(fault)?;
        let (options, has_v6only) = options(words, origin, notes).map_err(fault)?;
        if options.is_free
            && places.iter().any(|place| place.address.starts_with("0.0.0.0:") || place.every_v6.is_some())
        {
            return Err(fault(
                "`transparent` on every address takes connections to other hosts; ringway does not".into(),
            ));
        }
        let mut places = places;
        if !has_v6only {
            also_v4(&mut places);
        }
        match groups.iter_mut().find(|group| group.options == options) {
            Some(group) => group.places.extend(places),
            None => groups.push(BindGroup { places, options, origin: origin.clone() }),
        }
    }
    without_doubles(&mut groups);
    Ok(groups)
}

/// A socket for every IPv6 address also takes IPv4 clients, unless it is told not to.
///
/// This follows `net.ipv6.bindv6only`, which is 0 on nearly every host.
fn also_v4(places: &mut Vec<BindPlace>) {
    let ports: Vec<String> = places.iter().filter_map(|place| place.every_v6.clone()).collect();
    places.extend(ports.into_iter().map(|port| BindPlace { address: format!("0.0.0.0:{port}"), every_v6: None }));
}

/// The same address is listened on once: a second one was only needed for the other family.
fn without_doubles(groups: &mut Vec<BindGroup>) {
    let mut seen = std::collections::HashSet::new();
    for group in groups.iter_mut() {
        let interface = &group.options.interface;
        group.places.retain(|place| seen.insert((place.address.clone(), interface.clone())));
    }
    groups.retain(|group| !group.places.is_empty());
}

/// The options of one line, and whether it takes IPv6 alone.
///
/// Settings of TLS are passed over here: where they mean something, `ssl` stands beside them and is refused.
fn options(words: &[String], origin: &Origin, notes: &mut Notes) -> Result<(BindOptions, bool), String> {
    let (mut options, mut has_v6only) = (BindOptions::default(), false);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut argument = || words.next().ok_or_else(|| format!("`{word}` has no value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{word} {text}`: that is no number"));
        match word {
            "accept-proxy" => options.accepts_proxy = true,
            "v6only" => has_v6only = true,
            "v4v6" => {}
            "transparent" => {
                options.is_free = true;
                notes.note(origin, "freebind: the address need not be of this host; connections to others do not come");
            }
            "interface" => options.interface = Some(argument()?.to_string()),
            "mode" => options.mode = Some(format!("{:0>4}", argument()?)),
            "backlog" => options.backlog = Some(number(argument()?)?),
            "maxconn" => options.maxconn = Some(number(argument()?)?),
            "tcp-ut" => {
                let text = argument()?;
                options.user_timeout =
                    time::of_haproxy(text).ok_or_else(|| format!("`tcp-ut {text}`: that is no time"))?;
            }
            "ssl" | "crt" | "crt-list" => return Err(super::tls::LISTENER.to_string()),
            "namespace" | "proto" | "quic-cc-algo" => {
                let text = argument()?;
                if word != "proto" || text.starts_with("quic") {
                    return Err(format!("ringway has nothing like `{word} {text}`"));
                }
            }
            "name" | "id" | "nice" | "level" | "severity-output" | "process" | "thread" | "shards" | "mss" | "user"
            | "group" | "uid" | "gid" | "cc" | "guid-prefix" | "label" | "nbconn" | "idle-ping" => {
                let text = argument()?;
                if !["name", "id", "level"].contains(&word) {
                    notes.note(origin, format!("`{word} {text}` needs nothing here"));
                }
            }
            "tfo" | "defer-accept" | "expose-fd" => {
                if word == "expose-fd" {
                    argument()?;
                }
                notes.note(origin, format!("`{word}` is left out: clients connect without it"));
            }
            "alpn" | "ca-file" | "verify" | "ciphers" | "ciphersuites" | "npn" | "ssl-min-ver" | "ssl-max-ver"
            | "curves" | "ecdhe" | "crl-file" | "sigalgs" | "client-sigalgs" | "tls-ticket-keys" | "ca-verify-file" => {
                _ = argument()?
            }
            word if word.starts_with("no-") || word.starts_with("force-") || word.ends_with("tickets") => {}
            "prefer-client-ciphers" | "strict-sni" | "allow-0rtt" | "generate-certificates" => {}
            _ => return Err(format!("`{word}` is no word of a bind that this importer knows")),
        }
    }
    Ok((options, has_v6only))
}
