//! `ringway explain`: which backend a client gets, and why.
//!
//! The answer comes from [`snapshot::explain`](crate::snapshot::explain), which asks the same code that serves; here it
//! becomes text. Nothing runs, so every backend counts as up and idle.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::check;
use super::failure::Failure;
use super::paint::{Paint, Tone};
use crate::base::refused::Refused;
use crate::config::model::{Backend, Config, Pool, Role};
use crate::snapshot::explain::{ExplainQuestion, Explanation, SAMPLE, Without, explain as answer};
use crate::wire::first_bytes::Protocol;

/// A share below this many percent is shown as `<0.1 %`.
const LEAST_SHOWN: f64 = 0.1;

/// The command. `protocol`, `sni` and `alpn` are what the client would say; `without` is a backend to imagine away.
pub(super) fn explain(
    file: &Path,
    listener: &str,
    client: ClientArg,
    (protocol, sni, alpn): (Option<&str>, Option<&str>, Option<&str>),
    without: Option<&str>,
) -> Result<(), Failure> {
    let config = check::load(file)?;
    let ClientArg(client, port) = client;
    let protocol = protocol.and_then(Protocol::named);
    let paint = Paint::of_stdout();
    let explained = |pool: Option<&str>, without: Option<&str>| {
        let question = ExplainQuestion { listener, client, port, protocol, sni, alpn, pool, without };
        answer(&config, question).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
    };
    let first = explained(None, None)?;
    let mut text = split(&first, listener, paint);
    let used = first.split.iter().filter(|(_, weight)| *weight > 0).map(|(pool, _)| Some(&**pool));
    let pools: Vec<Option<&str>> = if text.is_empty() { vec![None] } else { used.collect() };
    for (place, pool) in pools.iter().enumerate() {
        // The backend to be imagined away is one of the pool that has it.
        let has_it = |pool: &Pool| pool.backends.iter().any(|backend| Some(&*backend.name) == without);
        let named = pool.and_then(|pool| config.pools.iter().find(|known| *known.name == *pool));
        let answer = explained(*pool, without.filter(|_| named.is_none_or(has_it)))?;
        if place > 0 {
            text.push('\n');
        }
        let listener = if pool.is_some() { None } else { Some(listener) };
        text += &show(&config, &answer, listener, without.filter(|_| answer.without.is_some()), paint);
    }
    super::print(text.as_bytes())
}

/// How such clients are divided among pools; empty if one pool gets all of them, or if this client is refused.
fn split(answer: &Explanation, listener: &str, paint: Paint) -> String {
    if answer.split.is_empty() || answer.refused.is_some() {
        return String::new();
    }
    let sum: u32 = answer.split.iter().map(|(_, weight)| u32::from(*weight)).sum();
    let share = |(pool, weight): &(Arc<str>, u16)| format!("pool {pool} {}", percent((*weight).into(), sum));
    let shares = answer.split.iter().map(share).collect::<Vec<_>>().join(", ");
    let what = |name: &str| paint.tone(Tone::Dim, &format!("{name:<9}"));
    format!(
        "{} {listener} → {shares}\n{} whose turn it is does not depend on the client\n\n",
        what("listener"),
        what("split")
    )
}

/// The client, as `IP`, `IP:PORT` or `[IP]:PORT`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ClientArg(IpAddr, Option<u16>);

impl std::str::FromStr for ClientArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ClientArg, &'static str> {
        let alone = text.parse::<IpAddr>().map(|ip| ClientArg(ip, None));
        let with_port = || text.parse::<SocketAddr>().map(|address| ClientArg(address.ip(), Some(address.port())));
        alone.or_else(|_| with_port()).map_err(|_| "write it as in 10.0.0.7, 10.0.0.7:40000 or [::1]:40000")
    }
}

/// The answer as text, one fact per line. Without the name of a listener it is the answer for one pool of a split.
fn show(config: &Config, answer: &Explanation, listener: Option<&str>, without: Option<&str>, paint: Paint) -> String {
    let pool = config.pools.iter().find(|pool| pool.name == answer.pool);
    let mut text = String::new();
    let mut line = |what: &str, detail: &str| {
        let what = paint.tone(Tone::Dim, &format!("{what:<9}"));
        let _ = writeln!(text, "{what} {detail}"); // writing to a String cannot fail
    };
    let first = answer.fallen.first().unwrap_or(&answer.pool);
    let balance = if answer.fallen.is_empty() { format!(", {}", answer.balance) } else { String::new() };
    match listener {
        Some(listener) => line("listener", &format!("{listener} → pool {first}{balance}")),
        None => line("pool", &format!("{first}{balance}")),
    }
    for (from, to) in answer.fallen.iter().zip(answer.fallen.iter().skip(1).chain([&answer.pool])) {
        let balance = if *to == answer.pool { format!(", {}", answer.balance) } else { String::new() };
        line("fallback", &format!("pool {from} has too few backends → pool {to}{balance}"));
    }
    if let Some(refused) = answer.refused {
        line("refused", &paint.tone(Tone::Strong, &format!("{}: the client is reset (PR)", refusal(refused))));
        return text;
    }
    match answer.order.first() {
        Some(first) => {
            line("backend", &format!("{}, if every backend is up and idle", paint.tone(Tone::Strong, first)));
        }
        None => line("backend", &nobody(pool)),
    }
    line("why", &answer.balance.why(answer.key.unwrap_or_default()));
    if let [_, others @ ..] = answer.order.as_slice()
        && !others.is_empty()
    {
        line("then", &format!("{}, each if the one before cannot be connected to", others.join(", ")));
    }
    if let Some(sticky) = pool.map(|pool| pool.sticky).filter(|sticky| !sticky.is_zero()) {
        let keeps = format!("{} after its last session", humantime::format_duration(sticky));
        line("sticky", &format!("a client that has been here keeps its backend until {keeps}"));
    }
    if pool.is_some_and(|pool| pool.awaits_first_byte) {
        line("when", "the client has sent its first byte (connect_on)");
    }
    if let Some(note) = pool.and_then(role_note) {
        line("but", note);
    }
    if let Some((fallback, up_min)) = pool.and_then(|pool| Some((pool.fallback.as_ref()?, pool.up_min))) {
        line("else", &format!("pool {fallback}, while fewer than {up_min} of these take sessions"));
    }
    line("shares", &shares(answer));
    if let (Some(name), Some(gone)) = (without, &answer.without) {
        line("without", &format!("{name}: {}", gone_backend(gone, &answer.pool)));
        line("moved", &moved(gone));
    }
    text
}

/// Why the client would be refused.
fn refusal(refused: Refused) -> &'static str {
    match refused {
        Refused::Unmatched => "no route fits, and `unmatched` is \"refuse\"",
        _ => "`allow` and `deny` of the listener or of the route",
    }
}

/// What checks add to the answer: the role of a backend is not known without them.
fn role_note(pool: &Pool) -> Option<&'static str> {
    match pool.check.as_ref()?.role? {
        Role::Primary => Some("checks find out which one is the primary, and only that one takes sessions"),
        Role::Replica => Some("checks find out which ones are replicas, and only those take sessions"),
    }
}

/// Which share of all clients each backend gets.
fn shares(answer: &Explanation) -> String {
    let share = |(name, count): &(Arc<str>, u32)| format!("{name} {}", percent(*count, SAMPLE));
    answer.shares.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// Why no backend of this pool serves.
fn nobody(pool: Option<&Pool>) -> String {
    let is_used = |backend: &&Backend| !backend.disabled && backend.weight > 0;
    let used = pool.map_or(0, |pool| pool.backends.iter().filter(is_used).count());
    match pool.filter(|_| used > 0) {
        Some(pool) => format!("none: fewer than {} take sessions (up_min), which counts as none", pool.up_min),
        None => "none: every backend is disabled or has weight 0".to_string(),
    }
}

/// Where this client goes without the backend; `pool` is where it went with it.
fn gone_backend(without: &Without, pool: &str) -> String {
    match without.order.first() {
        Some(name) if *without.pool != *pool => format!("this client gets {name} of pool {}", without.pool),
        Some(name) => format!("this client gets {name}"),
        None => "no backend is left, so this client is reset".to_string(),
    }
}

/// How many clients move without the backend, and how many of them have to.
fn moved(without: &Without) -> String {
    match without.moved {
        Some((owned, moved)) => {
            let (owned_share, moved_share) = (percent(owned, SAMPLE), percent(moved, SAMPLE));
            format!("{moved} of {SAMPLE} clients, {moved_share}; {owned} of them, {owned_share}, had to")
        }
        None => "no client is tied to a backend, so none moves".to_string(),
    }
}

/// A part of a whole, in percent with one digit.
fn percent(part: u32, whole: u32) -> String {
    let percent = f64::from(part) * 100.0 / f64::from(whole);
    if part > 0 && percent < LEAST_SHOWN { format!("<{LEAST_SHOWN} %") } else { format!("{percent:.1} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_with_or_without_a_port() {
        let read = |text: &str| text.parse::<ClientArg>().ok();
        assert_eq!(read("10.0.0.7"), Some(ClientArg(IpAddr::from([10, 0, 0, 7]), None)));
        assert_eq!(read("10.0.0.7:1"), Some(ClientArg(IpAddr::from([10, 0, 0, 7]), Some(1))));
        assert_eq!(read("[::1]:2"), Some(ClientArg("::1".parse().unwrap(), Some(2))));
        assert_eq!(read("::1"), Some(ClientArg("::1".parse().unwrap(), None)));
        assert!(["", "host", "10.0.0.7:", "10.0.0"].into_iter().all(|text| read(text).is_none()));
    }

    #[test]
    fn small_shares_are_not_shown_as_none() {
        assert_eq!((percent(0, 65_536), percent(3, 65_536)), ("0.0 %".to_string(), "<0.1 %".to_string()));
        assert_eq!(percent(16_384, 65_536), "25.0 %");
    }
}
