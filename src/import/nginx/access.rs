//! Which clients can connect to a server, and how often.
//!
//! | nginx | ringway |
//! |---|---|
//! | `allow`, `deny` in order, the first one that fits | `allow`, `deny` (`nets`) |
//! | `limit_conn` by `$binary_remote_addr` | `source_connections_max`, by whole addresses |
//! | `limit_conn` by `$server_addr`, `$server_port` | `connections_max`: clients wait instead of being refused |
//! | `limit_conn` by anything else, or in a zone that several listeners share | refused |

use super::Job;
use super::tree::Directive;
use crate::import::nets::{self, Clients, Net};
use crate::import::note::Refusal;
use crate::import::sheet::{KeyTable, Written};

/// Sets the keys of a listener: `allow`, `deny`, and limits per client.
///
/// Rules of a server take the place of those of `stream`: nginx inherits them only where a level has none.
///
/// # Errors
/// The line that cannot be said.
pub fn access<'a>(job: &mut Job<'a>, server: &'a Directive, keys: &mut KeyTable) -> Result<(), Refusal> {
    let own: Vec<&Directive> = server.inner().iter().filter(|one| is_rule(one)).collect();
    let rules = if own.is_empty() { job.inherited.iter().copied().filter(|one| is_rule(one)).collect() } else { own };
    if let Some(first) = rules.first() {
        let mut read = Vec::new();
        for rule in &rules {
            let clients = clients(rule.arg(0))
                .ok_or_else(|| (rule.origin.clone(), format!("`{}` is no address and no network", rule.arg(0))))?;
            read.push((rule.name == "allow", clients));
        }
        let lists = nets::lists(&read).map_err(|why| (first.origin.clone(), why.to_string()))?;
        if let Some(allow) = lists.allow {
            keys.set("allow", allow.shown(), &first.origin);
        }
        if lists.deny != Clients::default() {
            keys.set("deny", lists.deny.shown(), &first.origin);
        }
    }
    limits(job, server, keys)
}

/// Whether this is one of the rules whose order counts.
fn is_rule(one: &Directive) -> bool {
    one.name == "allow" || one.name == "deny"
}

/// The clients of a rule.
fn clients(text: &str) -> Option<Clients> {
    match text {
        "all" => Some(Clients::every()),
        "unix:" => Some(Clients { unix: true, ..Clients::default() }),
        text => Some(Clients { nets: vec![Net::new(text)?], ..Clients::default() }),
    }
}

/// `limit_conn`: by the client's address, or for the whole server.
///
/// Several of them hold together. Refused clients are closed by nginx and reset by ringway.
fn limits<'a>(job: &mut Job<'a>, server: &'a Directive, keys: &mut KeyTable) -> Result<(), Refusal> {
    if let Some(line) = job.setting(server, "limit_conn_dry_run").filter(|line| line.arg(0) == "on") {
        job.notes.note(&line.origin, "limit_conn refuses no client there, and is left out");
        return Ok(());
    }
    for line in job.settings(server, "limit_conn") {
        let of = format!("zone={}:", line.arg(0));
        let zone = job.inherited.iter().find(|one| one.name == "limit_conn_zone" && one.arg(1).starts_with(&of));
        let number = line.arg(1).parse::<u64>().ok().filter(|number| *number > 0);
        let is_shared = job.zone_uses.get(line.arg(0)).is_some_and(|uses| *uses > 1);
        if is_shared && zone.is_some_and(|zone| zone.arg(0) != "$server_addr$server_port") {
            let text = "several listeners count in this zone, and here each would let so many in; give each a zone";
            return Err((line.origin.clone(), text.to_string()));
        }
        match (zone.map(|zone| zone.arg(0)), number) {
            (Some("$binary_remote_addr" | "$remote_addr"), Some(number)) => {
                let least = least(keys, "source_connections_max", number);
                keys.set("source_connections_max", least, &line.origin);
                // nginx counts whole addresses.
                keys.set("source_prefix_v6", 128, &line.origin);
            }
            (Some("$server_addr" | "$server_port" | "$server_addr$server_port"), Some(number)) => {
                let least = least(keys, "connections_max", number);
                keys.set("connections_max", least, &line.origin);
                job.notes.note(&line.origin, "beyond it clients wait to be accepted; nginx closes their connections");
            }
            (Some(other), Some(_)) => {
                return Err((line.origin.clone(), format!("ringway counts connections per client, not by `{other}`")));
            }
            (None, _) => return Err((line.origin.clone(), format!("there is no zone `{}`", line.arg(0)))),
            (_, None) => return Err((line.origin.clone(), format!("`{}` is no number of connections", line.arg(1)))),
        }
    }
    Ok(())
}

/// The smaller one of a number and the one that a key has already.
fn least(keys: &KeyTable, key: &str, number: u64) -> u64 {
    match keys.get(key) {
        Some(Written::Number(before)) => number.min(*before),
        _ => number,
    }
}
