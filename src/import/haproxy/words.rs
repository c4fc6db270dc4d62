//! Every word that a proxy of HAProxy can have in `mode tcp`, and what becomes of it: it is carried over by the code
//! that looks for it, needs nothing, or cannot be carried over. A word that is not here is refused.
//!
//! Most files have the words of HTTP in `defaults` although every section is TCP; they are idle, and so are those of
//! logs and statistics. A note names each, as the user must be able to see that nothing was overlooked. The lists are
//! long because a word that is missing here is refused: it may be a limit.

use super::lex::Line;

use crate::import::note::Fate::{self, Carried, Idle, Refused};

/// For words of `mode http`.
const HTTP: &str = "it has no effect in mode tcp";
/// For words of logs.
const LOG: &str = "the fields of the access log are fixed: one line when a session has ended";
/// For words of statistics.
const STATS: &str =
    "ringway has `admin.listen` for its page and metrics, and leaves it off until you give it a private address";

/// By the first word of a line: words that have the same fate, and it.
const WORDS: &[(&str, Fate)] = &[
    (
        "mode bind server server-template default-server default_backend use_backend acl tcp-request \
         balance hash-type hash-balance-factor maxconn backlog timeout contimeout clitimeout srvtimeout \
         retries redispatch source stick-table stick http-check tcp-check log no option monitor-uri \
         disabled dispatch retry-on external-check clitcpka-idle srvtcpka-idle",
        Carried,
    ),
    ("enabled", Idle("a section is used unless it is left out")),
    ("description", Idle("write it as a comment")),
    ("id guid", Idle("ringway has no numbers for pools and listeners")),
    ("fullconn", Idle("it has no effect without minconn")),
    ("log-format log-format-sd error-log-format log-steps unique-id-format declare", Idle(LOG)),
    ("log-tag", Idle("ringway is called ringway")),
    (
        "unique-id-header max-keep-alive-queue max-session-srv-conns errorfile errorfiles errorloc \
         errorloc302 errorloc303 capture compression cookie dynamic-cookie-key http-request http-response \
         http-after-response http-error http-reuse http-send-name-header redirect reqadd reqrep rspadd \
         rsprep force-persist ignore-persist",
        Idle(HTTP),
    ),
    ("stats", Idle(STATS)),
    ("monitor", Idle("ringway's own /ready (admin.probes) says if it serves; pools are in the metrics")),
    ("monitor-net", Idle("ringway's own /ready (admin.probes) says if it serves")),
    ("bind-process", Idle("threads share all listeners")),
    ("grace", Idle("it is shutdown_delay in [process], if you want to keep it")),
    ("email-alert", Idle("alerts come from the metrics: docs/operating.md")),
    ("load-server-state-from-file server-state-file-name", Idle("what checks say is found out anew at a start")),
    ("rate-limit", Refused("ringway limits new connections per client (source_rate_max), not in all")),
    ("filter tcp-response persist", Refused("ringway does not look into the stream")),
    ("use-server", Refused("a condition leads to a pool, not to one server of it: make a pool of that server")),
    ("transparent", Refused("ringway does not know where a client wanted to go")),
    ("use-fcgi-app", Refused("FastCGI is not TCP alone")),
    ("clitcpka-cnt clitcpka-intvl srvtcpka-cnt srvtcpka-intvl", Idle("a probe every 10 s, 6 times")),
];

/// By the second word of `option`.
const OPTIONS: &[(&str, Fate)] = &[
    (
        "tcplog dontlognull redispatch tcpka clitcpka srvtcpka allbackups httpchk tcp-check pgsql-check \
         mysql-check redis-check smtpchk ldap-check ssl-hello-chk external-check",
        Carried,
    ),
    ("httplog", Idle("it has no effect in mode tcp; the access log has one line per session")),
    (
        "httpslog persist prefer-last-server originalto forwardfor forwarded forceclose checkcache \
         idle-close-on-response disable-h2-upgrade h1-case-adjust-bogus-client h1-case-adjust-bogus-server",
        Idle(HTTP),
    ),
    ("logasap log-separate-errors dontlog-normal", Idle(LOG)),
    ("log-health-checks", Idle("changes of state are logged, not each check")),
    ("contstats", Idle("counters of bytes are always live")),
    ("socket-stats", Idle("counters are per listener")),
    ("nolinger", Idle("a stream that is cut ends in a reset, others in a FIN")),
    ("splice-auto splice-request splice-response", Idle("bulk is spliced by itself")),
    ("tcp-smart-accept tcp-smart-connect", Idle("the kernel decides when it acknowledges")),
    ("abortonclose", Idle("a client that leaves the queue gives its place up")),
    ("independent-streams", Idle("idle_timeout waits for a byte of either side")),
    ("srvtcpka-idle", Idle("a probe every 10 s, 6 times")),
    ("spop-check", Refused("ringway has no such check")),
    ("transparent", Refused("ringway does not know where a client wanted to go")),
    ("http_proxy", Refused("ringway does not look into the stream")),
];

/// What becomes of a line of a proxy.
///
/// What has no effect in `mode tcp` has none here either. HAProxy warns of most of these words when it starts.
pub fn fate(line: &Line) -> Fate {
    let find = |words: &[(&str, Fate)], word: &str| {
        let row = words.iter().find(|(all, _)| all.split_whitespace().any(|known| known == word));
        row.map(|(_, fate)| *fate)
    };
    match (line.word(0), line.word(1)) {
        ("option", option) if option.starts_with("http") && option != "httpchk" => {
            find(OPTIONS, option).unwrap_or(Idle(HTTP))
        }
        ("option", option) if option.starts_with("accept-") => Idle(HTTP),
        ("option", option) => find(OPTIONS, option).unwrap_or(Refused("it is no option that this importer knows")),
        // Rules of HAProxy 1.x for requests and responses: reqirep, rspidel and their like.
        (word, _) if word.starts_with("reqi") || word.starts_with("rspi") => Idle(HTTP),
        (word, _) => find(WORDS, word).unwrap_or(Refused("it is no word that this importer knows")),
    }
}

/// What a message shows of a line that is left out: its first two words. Passwords and keys stand behind them.
pub fn open(line: &Line) -> String {
    let count = if line.word(0) == "dynamic-cookie-key" { 1 } else { 2 };
    let words = &line.words[..line.words.len().min(count)];
    Line { origin: line.origin.clone(), words: words.to_vec() }.rest(0)
}

/// By the first word of a line of `global`: why it needs nothing.
///
/// Settings of `global` tune one program and mean nothing to another one. Those that limit clients are refused by the
/// code that looks at them, before this is asked.
pub fn idle_global(word: &str) -> Option<&'static str> {
    const SYSTEMD: &str = "systemd keeps ringway running, in the foreground";
    const OWN: &str = "ringway needs no such setting";
    const TLS: &str = "TLS is passed on as it comes";
    const LUA: &str = "ringway has no programs in its configuration";
    Some(match word {
        "daemon" | "pidfile" | "master-worker" | "mworker-max-reloads" | "chroot" | "quiet" | "debug" | "nokqueue" => {
            SYSTEMD
        }
        "ulimit-n" | "fd-hard-limit" | "maxpipes" | "maxsock" => "ringway raises its own limit of descriptors",
        "cpu-map" | "cpu-policy" | "cpu-set" | "thread-groups" | "thread-group" | "numa-cpu-mapping" | "nbproc" => {
            "one thread per CPU, pinned: workers and pin_workers in [process]"
        }
        "description" | "node" | "log-tag" | "localpeer" | "log-send-hostname" | "email-alert" => OWN,
        "spread-checks" | "max-spread-checks" => "ringway spreads checks by itself",
        "ca-base" | "unix-bind" | "ssl-server-verify" => return None,
        "external-check" | "insecure-fork-wanted" => "checks start no programs here",
        "stats" => STATS,
        "server-state-base" | "server-state-file" => "what checks say is found out anew at a start",
        "busy-polling" => "it is busy_poll in [process], a time",
        "setenv" | "presetenv" => "it is put where the file uses it",
        "unsetenv" | "resetenv" => OWN,
        "set-dumpable" | "profiling.tasks" | "profiling.memory" | "anonkey" | "issuers-chain-path" => OWN,
        "hard-stop-after" | "maxconn" | "nbthread" | "user" | "group" | "uid" | "gid" | "log" => return None,
        "noepoll" | "nopoll" | "nosplice" | "nogetaddrinfo" | "noreuseport" | "noevports" => OWN,
        word if word.starts_with("ssl-") || word.starts_with("crt-") || word.starts_with("ocsp") => TLS,
        word if word.starts_with("lua") => LUA,
        word if word.starts_with("h1-") || word.starts_with("h2-") || word.starts_with("httpclient") => HTTP,
        word if word.starts_with("tune.") || word.starts_with("51degrees") || word.starts_with("wurfl") => OWN,
        word if word.starts_with("zero-warning") || word.starts_with("strict-limits") => OWN,
        word if word.starts_with("expose-") || word.starts_with("no") || word.starts_with("limited-quic") => OWN,
        _ => return None,
    })
}
