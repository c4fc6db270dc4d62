//! `global`, and sections that are no proxies.
//!
//! | `global` | ringway |
//! |---|---|
//! | `maxconn`, `nbthread`, `user`, `group`, `hard-stop-after` | keys of `[process]` |
//! | `stats socket` | `admin.socket`, at the place where ringway's unit has it |
//! | `log`, with `log global` in a frontend | `access_log.output`, with `tcplog` and `dontlognull` of a frontend |
//! | `ca-base`, `ssl-server-verify` | what checks over TLS mean by them |
//! | `tune.rcvbuf`, `tune.notsent-lowat` | keys of every pool |
//! | `maxconnrate` and the like | refused: they are limits |
//!
//! `resolvers` become `[dns]`: name servers belong to the process, so there is room for one of them.

use super::Job;
use super::lex::Line;
use super::section::Section;
use super::words;
use crate::import::note::Origin;
use crate::import::sheet::Written;
use crate::import::time;

/// Where ringway's socket is, as its unit has it.
const SOCKET: &str = "/run/ringway/admin.sock";
/// Notes of accounts.
const NUMBER: &str = "ringway takes the name of an account, not its number";

/// A size as ringway writes it; `None` if it has no such form.
pub fn size(bytes: u64) -> Option<String> {
    (bytes > 0 && bytes.is_multiple_of(1024)).then(|| format!("{}KiB", bytes / 1024))
}

/// Translates `global`.
pub fn global(job: &mut Job<'_>, section: &Section) {
    for line in &section.lines {
        let number = line.word(1).parse::<u64>().ok();
        let (origin, process) = (&line.origin, &mut job.sheet.process);
        match (line.word(0), number) {
            ("maxconn", Some(number)) if number > 0 => process.set("connections_max", number, origin),
            ("nbthread", Some(number)) => process.set("workers", number.max(1), origin),
            ("user" | "group", _) => {
                let key = if line.word(0) == "user" { "user" } else { "group" };
                process.set(key, line.word(1), origin);
            }
            ("uid" | "gid", _) => job.notes.note(origin, NUMBER),
            ("hard-stop-after", _) => match time::of_haproxy(line.word(1)) {
                Some(us) => process.set("shutdown_grace", time::shown(us), origin),
                None => job.notes.note(origin, "that is no time"),
            },
            ("stats", _) if line.word(1) == "socket" => stats_socket(job, line),
            ("log", _) => job.log_targets.push(line.clone()),
            ("ca-base", _) => job.ca_base = Some(line.word(1).to_string()),
            ("ssl-server-verify" | "unix-bind" | "crt-base", _) => {}
            ("maxconnrate" | "maxsessrate" | "maxsslrate", _) => {
                job.notes.refuse(origin, "ringway limits new connections per client (source_rate_max), not in all");
            }
            (
                "tune.rcvbuf.client" | "tune.rcvbuf.server" | "tune.notsent-lowat.client" | "tune.notsent-lowat.server",
                Some(number),
            ) if size(number).is_some() => {}
            (word, _) => match words::idle_global(word) {
                Some(why) => job.notes.note(origin, format!("`{}` is left out: {why}", words::open(line))),
                None => job
                    .notes
                    .note(origin, format!("`{}` is no word of `global` that this importer knows", words::open(line))),
            },
        }
    }
}

/// The socket for commands.
///
/// Its path is that of HAProxy's own tools, which would find a server that does not understand them: so it is not taken
/// over. The mode is, if the socket could do everything there as well; else it stays at the owner's alone.
fn stats_socket(job: &mut Job<'_>, line: &Line) {
    let origin = &line.origin;
    let path = line.word(2);
    if !path.starts_with('/') && !path.starts_with("unix@") {
        job.notes.note(origin, "commands come over a unix socket here: admin.socket");
        return;
    }
    job.sheet.admin.set("socket", SOCKET, origin);
    let mode = line.words.iter().position(|word| word == "mode").map(|at| line.word(at + 1));
    let is_admin = line.words.windows(2).any(|pair| pair == ["level", "admin"]);
    if let Some(mode) = mode.filter(|mode| is_admin && mode.parse::<u32>().is_ok()) {
        job.sheet.admin.set("socket_mode", format!("{mode:0>4}"), origin);
    }
    job.notes
        .note(origin, format!("ringway's socket is {SOCKET}, for `ringway ctl`; it speaks HTTP, not HAProxy's words"));
}

/// A section that is no proxy.
pub fn other(job: &mut Job<'_>, section: &Section) {
    let origin = &section.head.origin;
    let note = match section.kind.as_str() {
        "resolvers" => return,
        "peers" => "left out: other machines are told nothing; a hash needs no telling, `sticky` is of one machine",
        "userlist" | "http-errors" | "cache" | "fcgi-app" => "left out: it is for HTTP",
        "program" => "left out: systemd starts programs",
        "mailers" => "left out: alerts come from the metrics",
        "crt-store" | "acme" => "left out: TLS is passed on as it comes",
        "log-forward" => {
            job.notes.refuse(origin, "ringway forwards no logs");
            return;
        }
        _ => "left out: ringway has nothing like it",
    };
    job.notes.note(origin, format!("`{}` is {note}", section.head.rest(0)));
}

/// `[dns]` from the `resolvers` that servers name.
///
/// `hold valid` and its relatives say how long an answer is used; here its TTL does. Name servers by name would have to
/// be looked up first, so they are left out.
pub fn dns(job: &mut Job<'_>) {
    let used = std::mem::take(&mut job.resolvers);
    let Some((first, _)) = used.first() else { return };
    if let Some((other, origin)) = used.iter().find(|(name, _)| name != first) {
        let text = format!("name servers are those of the whole process: {first}, not {other}");
        job.notes.refuse(&origin.clone(), text);
    }
    let section = job.sections.iter().find(|section| section.kind == "resolvers" && section.name == *first);
    let Some(section) = section else { return };
    let mut servers: Vec<(String, Origin)> = Vec::new();
    for line in &section.lines {
        let origin = &line.origin;
        match (line.word(0), line.word(1)) {
            ("nameserver", _) => {
                let at = line.word(2).trim_start_matches("ipv4@").trim_start_matches("ipv6@");
                let at = if at.contains(':') { at.to_string() } else { format!("{at}:53") };
                match at.parse::<std::net::SocketAddr>() {
                    Ok(at) => servers.push((at.to_string(), origin.clone())),
                    Err(_) => {
                        job.notes.note(origin, format!("`{at}` is no address; ringway asks name servers by theirs"))
                    }
                }
            }
            ("parse-resolv-conf", _) => {
                job.notes.note(origin, "the host's name servers are asked if no others are written")
            }
            ("resolve_retries", number) => match number.parse::<u64>() {
                Ok(number) => job.sheet.dns.set("attempts", number.clamp(1, 5), origin),
                Err(_) => job.notes.note(origin, "that is no number"),
            },
            ("timeout", "retry" | "resolve") => {
                if let Some(us) = time::of_haproxy(line.word(2)) {
                    job.sheet.dns.set("timeout", time::shown(us.clamp(100_000, 30_000_000)), origin);
                }
            }
            ("hold", "nx" | "obsolete") => {}
            ("hold", _) => {
                job.notes.note(origin, "an answer holds as long as its TTL says, and the last good one stays")
            }
            _ => job.notes.note(origin, format!("`{}` needs nothing here", line.rest(0))),
        }
    }
    if !servers.is_empty() {
        let origin = servers[0].1.clone();
        let all: Vec<String> = servers.into_iter().map(|(at, _)| at).collect();
        job.sheet.dns.set("servers", Written::Texts(all), &origin);
    }
}

/// The access log: where the first `log` leads, if a front logs at all.
///
/// HAProxy logs per proxy, to as many places as it has `log` lines. One place is left: the last one of the first front
/// that logs at all. A front that does not log is logged here, too.
pub fn access_log(job: &mut Job<'_>) {
    let fronts: Vec<_> = job.proxies.iter().filter(|proxy| proxy.is_front() && proxy.mode() != "http").collect();
    let logging = fronts.iter().find_map(|proxy| proxy.all("log").next_back());
    let Some(line) = logging else { return };
    let target = if line.word(1) == "global" { job.log_targets.first().cloned() } else { Some(line.clone()) };
    let Some(target) = target else { return };
    let at = target.word(1).trim_start_matches("udp@");
    let output = match at {
        "stdout" | "stderr" => at.to_string(),
        "fd@1" => "stdout".to_string(),
        "fd@2" => "stderr".to_string(),
        path if path.starts_with('/') => format!("syslog:{path}"),
        host => {
            let host = if host.contains(':') { host.to_string() } else { format!("{host}:514") };
            let host = host.replace("localhost:", "127.0.0.1:");
            if host.parse::<std::net::SocketAddr>().is_err() {
                job.notes.note(&target.origin, format!("`{host}` is no address; the access log is left out"));
                return;
            }
            format!("syslog:udp:{host}")
        }
    };
    job.sheet.access_log.set("output", output, &target.origin);
    job.notes.note(&target.origin, "ringway has one access log for all listeners, without facility and level");
    if let Some(line) = fronts.iter().find_map(|proxy| proxy.option("tcplog")) {
        job.sheet.access_log.set("format", "tcplog", &line.origin);
    }
    if let Some(line) = fronts.iter().find_map(|proxy| proxy.option("dontlognull")) {
        job.sheet.access_log.set("skip_empty", true, &line.origin);
    }
    for line in job.log_targets.iter().filter(|line| line.origin != target.origin) {
        job.notes.note(&line.origin, "ringway has one access log; this one is left out");
    }
}
