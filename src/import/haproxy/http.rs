//! Proxies in `mode http`: what only shows statistics or answers a health check needs nothing here. Everything else is
//! HTTP, and stays where it is.
//!
//! | section | becomes |
//! |---|---|
//! | `stats enable`, `stats uri /`, with `bind :7000` | a note: `admin.listen`, at a private address |
//! | `monitor-uri /healthz` | a note: `admin.probes` |
//! | `http-request use-service prometheus-exporter` | a note: `/metrics` of `admin.listen` |
//! | `http-request return` or `redirect`, beside statistics | a note |
//! | anything that leads to a server, or a page alone | refused |

use super::Job;
use super::section::Proxy;

/// Says what becomes of a proxy in `mode http`.
///
/// Where a section leads to servers, or is nothing but a page that something else may ask, it is refused: a user who
/// switches HAProxy off would miss it. A page of statistics is for people, and they find ringway's.
pub fn judge(job: &mut Job<'_>, proxy: &Proxy<'_>) {
    let origin = proxy.origin();
    let own = &proxy.section.lines;
    let is = |word: &str| own.iter().find(|line| line.word(0) == word);
    let leads =
        ["server", "server-template", "default_backend", "use_backend", "dispatch"].iter().find_map(|word| is(word));
    let answers = own.iter().find(|line| {
        line.word(0) == "http-request" && !["use-service"].contains(&line.word(1)) || line.word(0) == "redirect"
    });
    let (statistics, monitor) = (is("stats"), is("monitor-uri"));
    let exporter = own.iter().find(|line| line.is(&["http-request", "use-service"]));
    match (leads, answers) {
        (None, None) if statistics.is_some() || exporter.is_some() || monitor.is_some() => {
            let bound = is("bind").map_or(proxy.section.head.word(2), |line| line.word(1)).to_string();
            if statistics.or(exporter).is_some() {
                let text = format!(
                    "left out: statistics. ringway has `admin.listen` for its page and /metrics, which is not opened \
                     on `{bound}`: it has no password, so give it a private address, as in \"127.0.0.1:9900\""
                );
                job.notes.note(origin, text);
            }
            if monitor.is_some() {
                let text = format!(
                    "left out: a health page. `admin.probes` answers /live and /ready, and nothing else, at an address \
                     such as \"{}\"",
                    bound.replace('*', "0.0.0.0")
                );
                job.notes.note(origin, text);
            }
        }
        // A page of statistics may have more rules beside it, as long as no server is behind it.
        (None, Some(_)) if statistics.is_some() => {
            job.notes.note(
                origin,
                "left out: statistics and pages beside them; ringway has `admin.listen` and `admin.probes`",
            );
        }
        _ => job.notes.refuse(
            origin,
            "it is in mode http, and ringway passes on TCP alone; let HAProxy keep it, behind or beside",
        ),
    }
}
