//! Tests of whole translations: what the languages mean, and that nothing in them can break the importer.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::config;

/// Files and variables of a test.
#[derive(Default)]
struct Given {
    files: HashMap<PathBuf, String>,
    variables: HashMap<String, String>,
}

impl Files for Given {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn matching(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut all: Vec<PathBuf> = self.files.keys().cloned().collect();
        all.sort();
        Ok(all)
    }
}

pub(super) fn haproxy(text: &str) -> Translation {
    translate(text, "haproxy.cfg", Language::Haproxy, &Given::default()).unwrap()
}

pub(super) fn nginx(text: &str) -> Translation {
    translate(text, "nginx.conf", Language::Nginx, &Given::default()).unwrap()
}

/// The lines that are refused.
pub(super) fn refused(translation: &Translation) -> Vec<usize> {
    translation.notes.iter().filter(|note| note.is_refused).map(|note| note.origin.line).collect()
}

#[test]
fn each_part_names_the_line_that_it_comes_from() {
    let all = haproxy("listen a\n  bind 127.0.0.1:80\n  balance leastconn\n  server s 10.0.0.1:80 weight 3\n");
    for line in [
        "# haproxy.cfg:1\n[listeners.a]\n",
        "bind = \"127.0.0.1:80\"  # haproxy.cfg:2\n",
        "balance = \"least_conn\"  # haproxy.cfg:3\n",
        "  { name = \"s\", address = \"10.0.0.1:80\", weight = 3 },  # haproxy.cfg:4\n",
    ] {
        assert!(all.toml.contains(line), "{line} {}", all.toml);
    }
}

/// What stands in a text of the original must not become a variable, a comment or another key here.
#[test]
fn texts_stay_texts() {
    let text = "listen \"a]\\\"#\"\n  bind 127.0.0.1:80\n  server 'x${HOME}' 10.0.0.1:80\n";
    let all = haproxy(text);
    assert!(all.toml.contains(r##"[listeners."a]\"#"]"##), "{}", all.toml);
    assert!(all.toml.contains("name = \"x$${HOME}\""), "{}", all.toml);
    let config = config::load(&all.toml, "f", &|_: &str| None).unwrap();
    assert_eq!((&*config.listeners[0].name, &*config.pools[0].backends[0].name), ("a]\"#", "x${HOME}"));
}

#[test]
fn variables_of_the_environment_stay_variables() {
    let text = "listen a\n  bind \"127.0.0.1:${PORT}\"\n  server s ${DB}:5432\n  server t \"$OTHER\":5432\n";
    let all = haproxy(text);
    assert!(all.toml.contains("bind = \"127.0.0.1:${PORT}\""), "{}", all.toml);
    assert!(all.toml.contains("address = \"${DB}:5432\"") && all.toml.contains("address = \"${OTHER}:5432\""));
    assert_eq!(all.notes.iter().filter(|note| note.text.contains("set it where ringway starts")).count(), 3);
    assert_eq!(refused(&all), [0; 0]);
    // One that is set is tried: this one would be no address.
    let given = Given { variables: [("PORT".to_string(), "x".to_string())].into(), ..Given::default() };
    let tried = translate(text, "haproxy.cfg", Language::Haproxy, &given).unwrap();
    assert_eq!((tried.toml.as_str(), refused(&tried)), ("", vec![2]));
}

#[test]
fn what_hangs_on_something_that_is_refused_is_left_out_with_it() {
    let text = "frontend a\n  bind 127.0.0.1:80\n  default_backend x\nfrontend b\n  bind 127.0.0.1:81\n  \
                default_backend y\nbackend x\n  option external-check\n  server s 10.0.0.1:80 check\nbackend y\n  \
                server s 10.0.0.2:80\n";
    let all = haproxy(text);
    assert_eq!(refused(&all), [8]);
    assert!(!all.toml.contains("[listeners.a]") && !all.toml.contains("[pools.x]"), "{}", all.toml);
    assert!(all.toml.contains("[listeners.b]") && all.toml.contains("[pools.y]"), "{}", all.toml);
    assert!(all.notes.iter().any(|note| note.origin.line == 1 && note.text.contains("left out with the pool `x`")));
    // The same where nothing else is there.
    let alone = haproxy(&text[..text.find("frontend b").unwrap()]);
    assert_eq!(alone.toml, "");
}

/// A listener is left out only with a refusal: the exit status says that something is missing.
#[test]
fn a_listener_that_leads_to_a_backend_of_http_is_refused() {
    let text = "frontend a\n  bind 127.0.0.1:80\n  default_backend x\nlisten b\n  bind 127.0.0.1:81\n  \
                server s 10.0.0.2:80\nbackend x\n  mode http\n  stats enable\n";
    let all = haproxy(text);
    assert_eq!(refused(&all), [1]);
    assert!(!all.toml.contains("[listeners.a]") && all.toml.contains("[listeners.b]"), "{}", all.toml);
}

/// A limit that is not carried over would let clients in that HAProxy refuses.
#[test]
fn a_rule_that_cannot_be_said_takes_its_listener_with_it() {
    for rule in [
        "tcp-request connection reject if { src_get_gpc0 gt 0 }",
        "tcp-request content reject if { req.len 0 }",
        "tcp-request connection reject if { src -f /nowhere }",
        "tcp-request content do-resolve(txn.ip,dns) req.ssl_sni",
        "use_backend other if { src 10.0.0.0/8 }",
        "bind 127.0.0.1:81 ssl crt /etc/x.pem",
        "rate-limit sessions 5",
        "no-such-word",
    ] {
        let all = haproxy(&format!("listen a\n  bind 127.0.0.1:80\n  {rule}\n  server s 10.0.0.1:80\n"));
        assert_eq!((all.toml.as_str(), refused(&all)), ("", vec![3]), "{rule}");
    }
}

/// Each of these is one of two limits, questions or answers; with one of them left out the result would be weaker.
#[test]
fn nothing_is_left_out_of_two_things_that_both_hold() {
    const TABLES: &str = "backend fast\n  stick-table type ip size 1m store conn_rate(3s)\n\
                          backend slow\n  stick-table type ip size 1m store conn_rate(1m),conn_cur\n";
    let listen = |rules: &str| {
        let all = format!("{TABLES}listen a\n  bind 127.0.0.1:80\n{rules}  server s 10.0.0.1:80 check\n");
        haproxy(&all)
    };
    let track =
        "  tcp-request connection track-sc0 src table fast\n  tcp-request connection track-sc1 src table slow\n";
    let reject = |what: &str| format!("  tcp-request connection reject if {{ {what} }}\n");
    // Each counter has its own table.
    let one = listen(&format!("{track}{}", reject("sc0_conn_rate gt 10")));
    assert!(one.toml.contains("source_rate_max = \"10/3s\""), "{}", one.toml);
    let other = listen(&format!("{track}{}", reject("sc_conn_rate(1) gt 10")));
    assert!(other.toml.contains("source_rate_max = \"10/1m\""), "{}", other.toml);
    let both = listen(&format!("{track}{}{}", reject("sc0_conn_rate gt 10"), reject("sc1_conn_rate gt 99")));
    assert_eq!((both.toml.as_str(), refused(&both)), ("", vec![10]));
    let least = listen(&format!("{track}{}{}", reject("sc1_conn_cur gt 3"), reject("sc1_conn_cur gt 9")));
    assert!(least.toml.contains("source_connections_max = 3"), "{}", least.toml);
    let counted = listen(&format!("{}{}", track.replace("fast\n", "fast if FALSE\n"), reject("sc0_conn_rate gt 10")));
    assert_eq!(refused(&counted), [7]);
    // An answer that is asked for beside the usual one.
    let check = "  option tcp-check\n  tcp-check send PING\\r\\n\n  tcp-check expect string +PONG\n";
    assert!(listen(check).toml.contains("type = \"redis\""));
    let more = listen(&format!("{check}  tcp-check expect string ready\n"));
    assert!(more.toml.contains("type = \"send_expect\"") && more.toml.contains("ready"), "{}", more.toml);
}

#[test]
fn a_key_of_a_map_is_a_name_with_a_star_only_where_it_says_that_it_is() {
    let map = |more: &str| {
        nginx(&format!(
            "stream {{\nmap $ssl_preread_server_name $to {{ {more}\n*.a.example 10.0.0.1:80; default 10.0.0.2:80; }}\n\
             server {{ listen 443; ssl_preread on; proxy_pass $to; }}\n}}\n"
        ))
    };
    assert!(map("hostnames;").toml.contains("sni = [\"*.a.example\"]"));
    assert_eq!(refused(&map("")), [3]);
}

#[test]
fn named_defaults_and_old_words_count_as_they_do_there() {
    let text = "defaults one\n  timeout connect 1s\n  retries 5\ndefaults two from one\n  contimeout 2000\n\
                listen a from two\n  bind 127.0.0.1:80\n  server s 10.0.0.1:80\nlisten b from one\n  \
                bind 127.0.0.1:81\n  server s 10.0.0.1:80\n";
    let all = haproxy(text).toml;
    let (a, b) = all.split_once("[pools.b]").unwrap();
    assert!(a.contains("connect_timeout = \"2s\"") && a.contains("connect_attempts = 6"), "{a}");
    assert!(b.contains("connect_timeout = \"1s\"") && b.contains("connect_attempts = 6"), "{b}");
    let unknown = translate("listen a from x\n", "haproxy.cfg", Language::Haproxy, &Given::default());
    assert!(unknown.unwrap_err().to_string().starts_with("haproxy.cfg:1: there is no `defaults x`"));
}

#[test]
fn a_condition_that_must_not_hold_becomes_the_listeners_own_pool() {
    let text = "frontend a\n  bind 127.0.0.1:80\n  tcp-request inspect-delay 2s\n  \
                use_backend plain if !{ req.ssl_sni -i a.example b.example }\n  default_backend tls\nbackend plain\n  \
                server s 10.0.0.1:80\nbackend tls\n  server s 10.0.0.2:80\n";
    let all = haproxy(text).toml;
    assert!(all.contains("pool = \"plain\"  # haproxy.cfg:4"), "{all}");
    assert!(all.contains("sni = [\"a.example\", \"b.example\"]\npool = \"tls\""), "{all}");
}

#[test]
fn lists_in_files_stay_in_their_files() {
    let text = "listen a\n  bind 127.0.0.1:80\n  tcp-request connection reject if { src -f /etc/bad.lst }\n  \
                server s 10.0.0.1:80\n";
    let files = HashMap::from([(PathBuf::from("/etc/bad.lst"), "# bad\n10.0.0.0/8\n192.0.2.7\n".to_string())]);
    let given = Given { files, ..Given::default() };
    let all = translate(text, "/etc/haproxy.cfg", Language::Haproxy, &given).unwrap();
    assert!(all.toml.contains("deny_file = \"/etc/bad.lst\""), "{}", all.toml);
    let map = "frontend f\n  bind 127.0.0.1:80\n  tcp-request inspect-delay 1s\n  \
               use_backend %[req.ssl_sni,lower,map_dom(/etc/bad.lst,b)]\nbackend b\n  server s 10.0.0.1:80\n";
    let files = HashMap::from([(PathBuf::from("/etc/bad.lst"), "# names\nA.example b\n".to_string())]);
    let all = translate(map, "f", Language::Haproxy, &Given { files, ..Given::default() }).unwrap();
    assert!(all.toml.contains("sni = [\"a.example\", \"*.a.example\"]"), "{}", all.toml);
}

#[test]
fn servers_of_nginx_at_one_address_are_one_listener() {
    let text = "stream {\nserver { listen 80; ssl_preread on; server_name a.example; proxy_pass 10.0.0.1:80; }\n\
                server { listen 80; ssl_preread on; server_name .b.example; proxy_pass 10.0.0.2:80; }\n}\n";
    let all = nginx(text);
    assert_eq!(all.toml.matches("[listeners.").count() - all.toml.matches("[[listeners.").count(), 1, "{}", all.toml);
    assert!(all.toml.contains("sni = [\"b.example\", \"*.b.example\"]"), "{}", all.toml);
    let server = |ip: &str| format!("server {{ listen 80; proxy_pass {ip}:80; }}\n");
    let twice = nginx(&format!("stream {{\n{}{}}}\n", server("10.0.0.1"), server("10.0.0.2")));
    assert_eq!(refused(&twice), [3]);
}

#[test]
fn settings_that_differ_make_two_pools_of_one_upstream() {
    let text = "stream {\nproxy_timeout 5m;\nupstream u { server 10.0.0.1:80; }\nserver { listen 80; proxy_pass u; }\n\
                server { listen 81; proxy_pass u; proxy_protocol on; }\nserver { listen 82; proxy_pass u; }\n}\n";
    let all = nginx(text).toml;
    assert!(all.contains("[pools.u]") && all.contains("[pools.u-2]") && !all.contains("[pools.u-3]"), "{all}");
    assert_eq!(all.matches("send_proxy = \"v1\"").count(), 1);
    assert_eq!(all.matches("idle_timeout = \"5m\"").count(), 2, "a setting of stream");
}

#[test]
fn what_leads_to_a_server_that_only_closes_is_refused() {
    let text = "stream {\nmap $ssl_preread_server_name $to { a.example 10.0.0.1:80; default 127.0.0.1:9; }\n\
                server { listen 443; ssl_preread on; proxy_pass $to; }\n\
                server { listen 127.0.0.1:9; return \"\"; }\n}\n";
    let all = nginx(text);
    assert_eq!(refused(&all), [0; 0]);
    assert!(all.toml.contains("unmatched = \"refuse\"") && !all.toml.contains("127.0.0.1:9"), "{}", all.toml);
}

#[test]
fn the_language_is_found_out_from_the_words() {
    assert_eq!(guess("# a comment\n\nglobal\n  daemon\n"), Some(Language::Haproxy));
    assert_eq!(guess("listen smtp :25\n  mode tcp\n"), Some(Language::Haproxy));
    assert_eq!(guess("user nginx;\nevents {}\n"), Some(Language::Nginx));
    assert_eq!(guess("stream {\n  server {\n    listen 80;\n"), Some(Language::Nginx));
    assert_eq!(guess("upstream u {\n"), Some(Language::Nginx));
    assert_eq!(guess("[listeners.a]\nbind = \"0.0.0.0:80\"\n"), None);
    assert_eq!(guess(""), None);
}

/// Configurations of both languages, which are mutated below.
const SEEDS: [(Language, &str); 8] = [
    (Language::Haproxy, include_str!("../../tests/data/import/octavia.cfg")),
    (Language::Haproxy, include_str!("../../tests/data/import/repmgr.cfg")),
    (Language::Haproxy, include_str!("../../tests/data/import/sni.cfg")),
    (Language::Haproxy, include_str!("../../tests/data/import/galera_writer.cfg")),
    (Language::Haproxy, include_str!("../../tests/data/import/minecraft.cfg")),
    (Language::Nginx, include_str!("../../tests/data/import/stream.conf")),
    (Language::Nginx, include_str!("../../tests/data/import/two_maps.conf")),
    (Language::Nginx, include_str!("../../tests/data/import/mail.conf")),
];

/// Whatever a text is, it is translated or not, and what is written is taken by ringway.
fn holds(text: &str, language: Language) {
    let known = Given::default();
    let Ok(all) = translate(text, "f", language, &known) else { return };
    assert!(!all.toml.is_empty() || all.refused() > 0, "nothing came of it, and nothing was refused: {text}");
    for note in &all.notes {
        assert!(!note.to_string().contains('\n'), "{note}");
    }
    if !all.toml.is_empty() && !all.toml.contains("${") {
        assert!(config::load(&all.toml, "f", &|_: &str| None).is_ok(), "{}", all.toml);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        holds(&text, Language::Haproxy);
        holds(&text, Language::Nginx);
    }

    #[test]
    fn words_in_any_order_are_read_or_refused(words in prop::collection::vec(0usize..64, 1..80)) {
        const WORDS: [&str; 64] = [
            "listen", "frontend", "backend", "defaults", "global", "a", "b", "bind", ":80", ":::81", "server",
            "10.0.0.1:80", "10.0.0.1", "check", "port", "8008", "addr", "default_backend", "use_backend", "if",
            "unless", "{", "}", "!", "||", "src", "10.0.0.0/8", "req.ssl_sni", "-i", "-m", "end", "found",
            "x.example", "nbsrv(b)", "gt", "0", "tcp-request", "connection", "content", "accept", "reject",
            "mode", "tcp", "http", "option", "httpchk", "tcp-check", "expect", "send", "string", "balance",
            "first", "backup", "maxconn", "timeout", "client", "5s", "stick-table", "stick", "on", "\n",
            "\n  ", "\n", ";",
        ];
        let text: Vec<&str> = words.into_iter().map(|at| WORDS[at]).collect();
        holds(&text.join(" "), Language::Haproxy);
        holds(&text.join(" "), Language::Nginx);
    }

    #[test]
    fn what_is_cut_doubled_and_swapped_is_read_or_refused(
        seed in 0..SEEDS.len(), edits in prop::collection::vec((0usize..4096, 0usize..4096, 0u8..5), 1..6),
    ) {
        let (language, text) = SEEDS[seed];
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        for (at, other, how) in edits {
            let (at, other) = (at % lines.len(), other % lines.len());
            match how {
                0 => lines.swap(at, other),
                1 => lines[at] = lines[other].clone(),
                2 => drop(lines.remove(at)),
                3 => lines[at] = lines[at].chars().skip(other % 20).collect(),
                _ => {
                    let line = lines[other].clone();
                    lines[at].push_str(&line);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        holds(&lines.join("\n"), language);
    }
}
