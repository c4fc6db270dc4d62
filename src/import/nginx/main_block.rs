//! What stands around `stream`: the process, and `http`.
//!
//! `http` is no error by itself: many a balancer has a health page in it. What serves pages or leads to an application
//! is refused by the line that does, so that its user finds out before nginx is switched off.

use super::Job;
use super::tree::Directive;
use super::words;
use crate::import::time;

/// Translates everything that is not in `stream`.
pub fn main(job: &mut Job<'_>, all: &[Directive]) {
    let workers = all.iter().rfind(|one| one.name == "worker_processes").and_then(|one| one.arg(0).parse::<u64>().ok());
    for one in all {
        let origin = &one.origin;
        match one.name.as_str() {
            "stream" => {}
            "worker_processes" => match one.arg(0).parse::<u64>() {
                Ok(number) if number > 0 => job.sheet.process.set("workers", number.min(1024), origin),
                _ => {}
            },
            "worker_shutdown_timeout" => match time::of_nginx(one.arg(0)) {
                Some(us) => job.sheet.process.set("shutdown_grace", time::shown(us), origin),
                None => job.notes.note(origin, "that is no time"),
            },
            "user" => {
                job.sheet.process.set("user", one.arg(0), origin);
                if one.args.len() > 1 {
                    job.sheet.process.set("group", one.arg(1), origin);
                }
            }
            "error_log" => error_log(job, one),
            "events" => events(job, one, workers),
            "http" => http(job, one),
            "mail" => job.notes.refuse(origin, "ringway passes on TCP alone: a proxy for mail asks who the user is"),
            name => job.notes.note(origin, format!("`{}` is left out: {}", one.shown(), words::in_main(name))),
        }
    }
}

/// `events`: how many connections.
///
/// `worker_connections` counts connections of one worker, to clients and to servers. With `worker_processes auto` it
/// cannot be said here what that comes to.
fn events(job: &mut Job<'_>, events: &Directive, workers: Option<u64>) {
    for one in events.inner() {
        let number = one.arg(0).parse::<u64>().ok();
        match (one.name.as_str(), number, workers) {
            ("worker_connections", Some(number), Some(workers)) if number > 1 => {
                job.sheet.process.set(
                    "connections_max",
                    (number.saturating_mul(workers) / 2).min(1 << 30),
                    &one.origin,
                );
                job.notes.note(&one.origin, "a session has two connections there, and counts once here");
            }
            ("worker_connections", ..) => {
                job.notes.note(&one.origin, "it is left out: ringway works connections_max out from its descriptors");
            }
            (name, ..) => {
                job.notes.note(&one.origin, format!("`{}` is left out: {}", one.shown(), words::in_main(name)));
            }
        }
    }
}

/// ringway's own log.
///
/// The levels of nginx above `error` have no equal; they become `error`.
fn error_log(job: &mut Job<'_>, line: &Directive) {
    let output = match line.arg(0) {
        "stderr" | "/dev/stderr" => "stderr".to_string(),
        "/dev/stdout" => "stdout".to_string(),
        path if path.starts_with('/') && path != "/dev/null" => path.to_string(),
        other => {
            job.notes.note(
                &line.origin,
                format!("`{other}` is left out: ringway logs to standard error, which the journal keeps"),
            );
            return;
        }
    };
    job.sheet.log.set("output", output, &line.origin);
    let level = match line.arg(1) {
        "debug" => "debug",
        "info" | "notice" => "info",
        "warn" => "warn",
        _ => "error",
    };
    if level != "error" || !line.arg(1).is_empty() {
        job.sheet.log.set("level", level, &line.origin);
    }
    job.notes
        .once(&line.origin, "the file of a log belongs to one program: have nginx and ringway write to different ones");
}

/// `http`: a page that says that all is well stays where it is; what serves pages is refused.
fn http(job: &mut Job<'_>, http: &Directive) {
    const SERVES: [&str; 9] =
        ["proxy_pass", "root", "alias", "fastcgi_pass", "uwsgi_pass", "grpc_pass", "scgi_pass", "rewrite", "include"];
    fn find(all: &[Directive]) -> Option<&Directive> {
        let servers = all.iter().filter(|one| one.name == "server").flat_map(|server| server.inner());
        let inner =
            servers.flat_map(|one| std::iter::once(one).chain(if one.name == "location" { one.inner() } else { &[] }));
        inner.into_iter().find(|one| SERVES.contains(&one.name.as_str()))
    }
    match find(http.inner()) {
        Some(line) => {
            let text = format!(
                "`{}` is HTTP, and ringway passes on TCP alone; let nginx keep it, behind or beside",
                line.shown()
            );
            job.notes.refuse(&line.origin, text);
        }
        None => job.notes.note(&http.origin, "`http` is left out; what of it you still need stays in nginx"),
    }
}
