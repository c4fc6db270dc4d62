//! What clients have which backend (`sticky`), as one ringway tells it the next one: lines of text after the last word
//! of the protocol. Another version may say something else there, so a line that is not understood is skipped.
//!
//! ```text
//! pool NAME
//! backend NUMBER NAME ADDRESS
//! client BUCKET TAG NUMBER IDLE_MS
//! ```
//!
//! Numbers of backends hold for the lines of one pool. Bucket and tag are hexadecimal.

use std::collections::HashMap;
use std::fmt::Write;

use crate::balance::Counts;
use crate::balance::sticky::StickyEntry;
use crate::base::id::BackendId;
use crate::base::time::Moment;
use crate::snapshot::table::{BackendEntry, PoolEntry, Table};

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// Every client of every pool whose clients keep their backend.
pub(super) fn tell(table: &Table, counts: &Counts, now: Moment) -> String {
    let mut out = String::new();
    for pool in table.pools.iter().flatten().filter(|pool| pool.sticky_ns > 0) {
        let _ = writeln!(out, "pool {}", pool.name); // a String takes everything, also below
        for backend in backends_of(table, pool) {
            let _ = writeln!(out, "backend {} {}", backend.id.0, place_of(backend));
        }
        for entry in counts.sticky(pool.id).entries(pool.sticky_ns, now) {
            let StickyEntry { bucket, tag, backend, idle_since } = entry;
            let idle_ms = now.since_ns(idle_since) / MS;
            let _ = writeln!(out, "client {bucket:x} {tag:x} {} {idle_ms}", backend.0);
        }
    }
    out
}

/// Takes over what the ringway before has told. What is not there any more is left out.
pub(super) fn hear(text: &str, table: &Table, counts: &Counts, now: Moment) -> usize {
    let mut pool: Option<&PoolEntry> = None;
    let (mut ours, mut backends) = (HashMap::new(), HashMap::new());
    let mut heard = 0;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("pool", name)) => {
                pool = table.pools.iter().flatten().find(|pool| *pool.name == *name && pool.sticky_ns > 0);
                let its = pool.into_iter().flat_map(|pool| backends_of(table, pool));
                ours = its.map(|backend| (place_of(backend), backend.id)).collect();
                backends.clear();
            }
            Some(("backend", told)) => {
                let known = told
                    .split_once(' ')
                    .and_then(|(number, place)| Some((number.parse::<u32>().ok()?, *ours.get(place)?)));
                backends.extend(known);
            }
            Some(("client", told)) => {
                let entry = entry_of(told, &backends, now);
                if let Some((pool, entry)) = pool.zip(entry) {
                    counts.sticky(pool.id).restore(entry, pool.sticky_ns, now);
                    heard += 1;
                }
            }
            _ => {}
        }
    }
    heard
}

/// The backends of a pool that have an address.
fn backends_of<'t>(table: &'t Table, pool: &PoolEntry) -> impl Iterator<Item = &'t BackendEntry> {
    let id = pool.id;
    table.backends.iter().flatten().filter(move |backend| backend.pool == id && !backend.retired)
}

/// What tells a backend from the others of its pool: its name, and where it is.
fn place_of(backend: &BackendEntry) -> String {
    let address = backend.address.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{} {address}", backend.name)
}

/// The entry in a line.
fn entry_of(told: &str, backends: &HashMap<u32, BackendId>, now: Moment) -> Option<StickyEntry> {
    let mut parts = told.split(' ');
    let mut next = || parts.next();
    let (bucket, tag) = (u32::from_str_radix(next()?, 16).ok()?, u32::from_str_radix(next()?, 16).ok()?);
    let backend = *backends.get(&next()?.parse::<u32>().ok()?)?;
    let idle_ns = next()?.parse::<u64>().ok()?.saturating_mul(MS);
    Some(StickyEntry { bucket, tag, backend, idle_since: Moment(now.0.saturating_sub(idle_ns)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::snapshot::table::Phase;
    use std::sync::Arc;

    const NOW: Moment = Moment(1_000_000_000_000);
    const TEXT: &str = "[listeners.l]\nbind = \"127.0.0.1:1\"\npool = \"p\"\n[pools.p]\nsticky = \"1m\"\n";

    fn table(backends: &[(&str, u16)]) -> Table {
        let backend = |(name, port): &(&str, u16)| {
            format!("[[pools.p.backends]]\nname = \"{name}\"\naddress = \"10.0.0.1:{port}\"\n")
        };
        let text = TEXT.to_string() + &backends.iter().map(backend).collect::<String>();
        let config = crate::config::load(&text, "f", &|_: &str| None).unwrap();
        Fleet::new(Arc::new(config), NOW).table(None, Phase::Serving)
    }

    /// The backend of a client, by its name.
    fn backend_of(table: &Table, counts: &Counts, client: u64) -> Option<String> {
        let pool = table.pools[0].as_ref().unwrap();
        let sticky = counts.sticky(pool.id);
        let permit = sticky.enter(client, pool.sticky_ns, NOW).permit;
        Some(table.backend(sticky.backend(&permit)?)?.name.to_string())
    }

    #[test]
    fn clients_keep_their_backends_by_name_and_address_in_the_next_process() {
        let (before, counts) = (table(&[("a", 1), ("b", 2), ("c", 3)]), Counts::new());
        let pool = before.pools[0].as_ref().unwrap();
        for client in 1..=30u64 {
            let permit = counts.sticky(pool.id).enter(client << 40 | client, pool.sticky_ns, NOW).permit;
            counts.sticky(pool.id).remember(&permit, BackendId(client as u32 % 3));
        }
        let told = tell(&before, &counts, NOW);
        // `a` is gone, `b` is another server, and there is a new one.
        let (after, next) = (table(&[("d", 4), ("c", 3), ("b", 9)]), Counts::new());
        assert_eq!(hear(&told, &after, &next, NOW), 10);
        for client in 1..=30u64 {
            let expected = (client % 3 == 2).then_some("c");
            assert_eq!(backend_of(&after, &next, client << 40 | client).as_deref(), expected, "{client}");
        }
    }

    #[test]
    fn what_is_not_understood_is_skipped() {
        let (table, counts) = (table(&[("a", 1)]), Counts::new());
        let good = "pool p\nbackend 7 a 10.0.0.1:1\nclient 1 2 7 0\n";
        assert_eq!(hear(good, &table, &counts, NOW), 1);
        for bad in [
            "",
            "client 1 2 7 0",
            "pool q\nbackend 7 a 10.0.0.1:1\nclient 1 2 7 0",
            "pool p\nbackend x a 10.0.0.1:1\nclient 1 2 x 0",
            "pool p\nbackend 7 a 10.0.0.1:1\nclient 1 2 7",
            "pool p\nbackend 7 a 10.0.0.1:1\nclient g 2 7 0\nclient 1 2 8 0\nclient\nuser 1 2 7 0\n\u{1F600}",
        ] {
            assert_eq!(hear(bad, &table, &counts, NOW), 0, "{bad}");
        }
    }
}
