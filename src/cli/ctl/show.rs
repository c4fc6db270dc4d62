//! The answers of the API as text for people. Pure: each function takes an answer and returns its text.
//!
//! Tables have a heading and one row per thing. What needs attention is coloured, what is nothing (a 0, no limit) is
//! dim, and times and sizes are written as people say them.

use std::fmt::Write;
use std::sync::Arc;

use super::table::{bytes, count, number, span, table, text, tone_of};
use crate::api::words::{
    BackendDetail, BackendStatus, CheckSettings, PastState, PoolStatus, SessionStatus, Sessions, Status, WorkerStatus,
};
use crate::cli::paint::{Paint, Tone};

/// `ctl status`: one line about the process, a table of workers, a table of pools.
pub(super) fn status(status: &Status, pools: &[PoolStatus], paint: Paint) -> String {
    let Status { version, io, io_reason, pid, uptime_ms, phase, generation, connections, .. } = status;
    let most = match status.limits.connections_max {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    let tone = if phase == "serving" { Tone::Good } else { Tone::Warn };
    let mut out = format!(
        "ringway {version}  {}  pid {pid}, up {}, configuration {generation}\n{io}: {io_reason}\n{}{most}\n\n",
        paint.tone(tone, phase),
        span(*uptime_ms),
        count(*connections, "session"),
    );
    let row = |worker: &WorkerStatus| {
        let share = worker.busy_seconds_total * 100_000.0 / (*uptime_ms).max(1) as f64;
        vec![
            number(worker.worker),
            number(worker.connections),
            number(worker.accepted_total),
            number(format!("{share:.1} %")),
            number(bytes(worker.copied_bytes_total)),
            number(bytes(worker.spliced_bytes_total)),
            text(if worker.is_running { "" } else { "ended" }).tone(Tone::Warn),
        ]
    };
    let rows: Vec<_> = status.workers.iter().map(row).collect();
    out += &table(&["WORKER", "SESSIONS", "ACCEPTED", "BUSY", "COPIED", "SPLICED", ""], &rows, paint);
    out += "\n";
    out += &self::pools(pools, paint);
    out += &sources(pools, paint);
    out
}

/// One row per source of backends; nothing if there is none.
fn sources(pools: &[PoolStatus], paint: Paint) -> String {
    let row = |pool: &PoolStatus| {
        let source = pool.discovery.as_ref()?;
        let state = match (&source.trouble, source.confirmed_ms) {
            (Some(why), _) => why.as_str(),
            (None, None) => "not asked yet",
            (None, Some(_)) if source.keeps_empty => "it has no backend any more; those from before stay",
            (None, Some(_)) => "up",
        };
        Some(vec![
            text(&*pool.name),
            text(&*source.kind),
            text(&*source.place),
            number(source.backends),
            number(source.confirmed_ms.map_or("never".to_string(), |ago_ms| format!("{} ago", span(ago_ms)))),
            text(state).tone(if state == "up" { Tone::Good } else { Tone::Warn }),
        ])
    };
    let rows: Vec<_> = pools.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["POOL", "SOURCE", "ASKED FOR", "FOUND", "HEARD", "STATE"];
    format!("\n{}", table(&heading, &rows, paint))
}

/// `ctl pools`: one row per pool.
pub(super) fn pools(pools: &[PoolStatus], paint: Paint) -> String {
    let row = |pool: &PoolStatus| {
        let usable =
            format!("{}/{}", pool.backends_up, pool.backends.iter().filter(|backend| !backend.removed).count());
        let tone = match pool.backends_up {
            0 => Tone::Bad,
            up if pool.backends.iter().any(|backend| backend.state == "down") && up > 0 => Tone::Warn,
            _ => Tone::Good,
        };
        vec![
            text(&*pool.name).dim_if(pool.removed),
            text(pool.balance.as_deref().unwrap_or("removed")),
            number(usable).tone(tone),
            number(pool.connections),
            number(pool.queue_length).dim_if(pool.queue_length == 0),
            number(pool.connections_total),
            number(pool.refused_total).dim_if(pool.refused_total == 0),
            text(listeners(pool)),
            text(instead(pool)).tone(Tone::Warn),
        ]
    };
    let rows: Vec<_> = pools.iter().map(row).collect();
    table(&["POOL", "BALANCE", "UP", "SESSIONS", "QUEUE", "TOTAL", "REFUSED", "LISTENERS", ""], &rows, paint)
}

/// The listeners that lead to a pool, each with the share of the pool if it has one.
fn listeners(pool: &PoolStatus) -> String {
    let shared = |name: &Arc<str>| match pool.shares.iter().find(|share| share.listener == *name) {
        Some(share) => format!("{name} {}/{}", share.weight, share.of),
        None => name.to_string(),
    };
    pool.listeners.iter().map(shared).collect::<Vec<_>>().join(", ")
}

/// What serves the clients of a pool in place of its usual backends; empty if these do.
fn instead(pool: &PoolStatus) -> String {
    match (&pool.falls_back_to, pool.backup_level) {
        (Some(fallback), _) => format!("falls back to {fallback}"),
        (None, 0) => String::new(),
        (None, 1) => "backups serve".to_string(),
        (None, level) => format!("backups of level {level} serve"),
    }
}

/// `ctl backends`: one row per backend, with the reason for its state.
pub(super) fn backends(pools: &[PoolStatus], paint: Paint) -> String {
    // Without a source and without changes at run time all come from the configuration, which needs no column.
    let has_others = pools.iter().flat_map(|pool| &pool.backends).any(|backend| backend.origin != "config");
    let row = |pool: &PoolStatus, backend: &BackendStatus| {
        let limit = if backend.connections_max == 0 { "-".to_string() } else { backend.connections_max.to_string() };
        let mut why = backend.reason.clone();
        if let Some(left_ms) = backend.drain_left_ms {
            let _ = write!(why, "; what is left is reset in {}", span(left_ms)); // a String takes everything
        }
        if !backend.set_by_hand.is_empty() {
            let _ = write!(why, " (by hand: {})", backend.set_by_hand.join(", "));
        }
        let origin = match backend.confirmed_ms {
            Some(ago_ms) => format!("{}, {} ago", backend.origin, span(ago_ms)),
            None => backend.origin.to_string(),
        };
        let from = has_others.then(|| text(origin));
        let place = [
            text(format!("{}/{}", pool.name, backend.name)).dim_if(backend.removed),
            text(backend.address.as_deref().unwrap_or("-")),
        ];
        let facts = [
            text(&*backend.state).tone(tone_of(&backend.state)),
            number(span(backend.since_ms)),
            number(backend.weight).dim_if(backend.weight == 0),
            number(backend.connections),
            number(&limit).dim_if(limit == "-"),
            number(backend.connections_total),
            number(backend.connect_errors_total).dim_if(backend.connect_errors_total == 0),
            text(why),
        ];
        place.into_iter().chain(from).chain(facts).collect()
    };
    let rows: Vec<Vec<_>> =
        pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| row(pool, backend))).collect();
    let mut heading =
        vec!["BACKEND", "ADDRESS", "STATE", "FOR", "WEIGHT", "SESSIONS", "LIMIT", "TOTAL", "FAILED", "REASON"];
    if has_others {
        heading.insert(2, "FROM");
    }
    table(&heading, &rows, paint)
}

/// `ctl sessions`: one row per session, and how many there are in all.
pub(super) fn sessions(found: &Sessions, paint: Paint) -> String {
    let row = |session: &SessionStatus| {
        let backend = session.backend.as_ref().map_or("-".to_string(), |name| format!("{}/{name}", session.pool));
        vec![
            number(&session.id),
            text(session.client.as_deref().unwrap_or("gone")),
            text(&*session.listener),
            text(backend),
            text(session.backend_local.as_deref().unwrap_or("-")),
            text(&*session.state).dim_if(session.state == "open"),
            number(span(session.age_ms)),
            number(span(session.idle_ms)),
            number(bytes(session.bytes_to_backend)),
            number(bytes(session.bytes_to_client)),
            number(session.worker),
        ]
    };
    let rows: Vec<_> = found.sessions.iter().map(row).collect();
    let heading = [
        "ID",
        "CLIENT",
        "LISTENER",
        "BACKEND",
        "BACKEND LOCAL",
        "STATE",
        "AGE",
        "IDLE",
        "TO BACKEND",
        "TO CLIENT",
        "WORKER",
    ];
    let mut out = if rows.is_empty() { String::new() } else { table(&heading, &rows, paint) };
    let shown = rows.len() as u64;
    let note = match found.matching {
        matching if matching > shown => format!("{shown} of {} (--limit shows more)", count(matching, "session")),
        matching => count(matching, "session"),
    };
    out += &(paint.tone(Tone::Dim, &note) + "\n");
    out
}

/// `ctl why`: the state of a backend and its reason, its past, and the steps of its last check.
pub(super) fn why(detail: &BackendDetail, paint: Paint) -> String {
    let BackendDetail { pool, backend, history, check, transcript } = detail;
    let address = backend.address.as_deref().unwrap_or("no address yet");
    let state = paint.tone(tone_of(&backend.state), &backend.state);
    let mut out = format!("{pool}/{}  {address}  {state} for {}\n\n", backend.name, span(backend.since_ms));
    let mut fact = |name: &str, what: &str| {
        let _ = writeln!(out, "{} {what}", paint.tone(Tone::Dim, &format!("{name:<9}"))); // as above
    };
    fact("reason", &backend.reason);
    if let Some(left_ms) = backend.drain_left_ms {
        fact("deadline", &format!("what is left is reset in {}", span(left_ms)));
    }
    if !backend.set_by_hand.is_empty() {
        fact("by hand", &format!("{} (kept until the file changes it)", backend.set_by_hand.join(", ")));
    }
    fact("takes", &takes(backend));
    fact("check", &check.as_ref().map_or("none".to_string(), |check| self::check(check, backend)));
    out += "\n";
    let past = |past: &PastState| {
        let since = past.since.replace('T', " ").trim_end_matches('Z').to_string();
        vec![text(since), text(&*past.state).tone(tone_of(&past.state)), text(&past.reason)]
    };
    out += &table(&["SINCE (UTC)", "STATE", "REASON"], &history.iter().map(past).collect::<Vec<_>>(), paint);
    if let Some(lines) = transcript {
        let rows: Vec<_> =
            lines.iter().map(|line| vec![number(format!("{} ms", line.at_ms)), text(&line.text)]).collect();
        out += "\n";
        out += &table(&["AT", "LAST CHECK"], &rows, paint);
    }
    out
}

/// What a backend takes: its weight, its sessions, its bytes.
fn takes(backend: &BackendStatus) -> String {
    let most = match backend.connections_max {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    let backup = match backend.backup_level {
        0 => String::new(),
        1 => ", a backup".to_string(),
        level => format!(", a backup of level {level}"),
    };
    let open = count(backend.connections.into(), "session");
    let (up, down) = (bytes(backend.bytes_to_backend), bytes(backend.bytes_to_client));
    format!(
        "weight {}{backup}; {open}{most} now, {} so far, {up} up, {down} down",
        backend.weight, backend.connections_total
    )
}

/// How a backend is checked, and how often that succeeded.
fn check(check: &CheckSettings, backend: &BackendStatus) -> String {
    let role = check.role.as_ref().map(|role| format!(" for the role {role}")).unwrap_or_default();
    let checks = &backend.checks;
    let mean = checks.mean_ms.map(|mean| format!(", {mean:.1} ms on average")).unwrap_or_default();
    format!(
        "{}{role} every {}, {} at the most, rise {}, fall {}; {} succeeded, {} failed{mean}",
        check.kind,
        span(check.interval_ms),
        span(check.timeout_ms),
        check.rise,
        check.fall,
        checks.success_total,
        checks.failure_total,
    )
}
