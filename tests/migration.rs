//! The tables of `docs/migration.md`, row by row: what stands in the first cell is handed to `ringway import`, and what
//! it makes of it is compared with the second.
//!
//! Texts in a cell are alternatives if a comma stands between them, and belong together if `with` does. As many texts
//! in the second cell are those of each alternative; else all of them are expected of each. "refused": by that line;
//! "nothing": a note names the line; "accepted": neither.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod program;

use std::process::Command;

const PAGE: &str = include_str!("../docs/migration.md");

/// What an import said and wrote.
struct Imported {
    toml: String,
    messages: String,
}

/// Imports a text.
fn import(text: &str, name: &str) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let output = Command::new(program::program())
        .current_dir(folder.path())
        .args(["import", "--partial", name])
        .output()
        .unwrap();
    let status = output.status.code();
    assert!(status == Some(0) || status == Some(1), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    let [toml, messages] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Imported { toml, messages }
}

/// The rows of a table below a heading of the third order, in a part of the second.
fn rows(part: &str, heading: &str) -> Vec<(String, String)> {
    let part = PAGE.split(&format!("\n## {part}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let table = part.split(&format!("\n### {heading}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
    let cells = |line: &str| {
        let all: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        (all[0].to_string(), all[1].to_string())
    };
    table.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

/// The alternatives of a cell, each of which is a list of texts that belong together.
fn alternatives(cell: &str) -> Vec<Vec<String>> {
    let parts: Vec<&str> = cell.split('`').collect();
    let mut all: Vec<Vec<String>> = Vec::new();
    for (at, text) in parts.iter().enumerate().skip(1).step_by(2) {
        match parts[at - 1].trim() {
            "with" => all.last_mut().unwrap().push(text.to_string()),
            _ => all.push(vec![text.to_string()]),
        }
    }
    all
}

/// The numbers of the lines that hold one of these texts.
fn numbers(text: &str, lines: &[String]) -> Vec<usize> {
    let is_one = |line: &str| lines.iter().any(|one| line.trim().trim_end_matches([';']) == one.trim());
    text.lines().enumerate().filter(|(_, line)| is_one(line)).map(|(at, _)| at + 1).collect()
}

/// Whether a line of the messages is about one of the numbers, and refuses or not.
fn is_named(messages: &str, name: &str, numbers: &[usize], is_refused: bool) -> bool {
    messages.lines().any(|line| {
        numbers.iter().any(|number| {
            let rest = line.strip_prefix(&format!("{name}:{number}: "));
            rest.is_some_and(|rest| rest.starts_with("refused: ") == is_refused)
        })
    })
}

/// Whether something was refused, or left out, only because this ringway does not have what says it: a key that is not
/// in its reference, or a value.
fn is_pending(messages: &str) -> bool {
    let missing: Vec<&str> =
        messages.split("ringway cannot say `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    let reference = include_str!("../conf/reference.toml");
    for key in missing.iter().filter(|key| !key.contains(' ')) {
        let is_there = |line: &str| line.trim_start_matches('#').starts_with(&format!("{key} = "));
        assert!(!reference.lines().any(is_there), "ringway has `{key}`: {messages}");
    }
    !missing.is_empty()
}

/// Whether this key with this value is written.
fn has(toml: &str, wanted: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([' ', ',', '\n']);
    toml.match_indices(wanted).any(|(at, _)| is_end(&toml[at + wanted.len()..]))
}

/// Holds a table against the importer. `whole` makes a configuration of the lines of a first cell.
fn hold(part: &str, heading: &str, name: &str, whole: impl Fn(&[String]) -> String) {
    let rows = rows(part, heading);
    assert!(rows.len() >= 5, "{heading}");
    let mut wrong = String::new();
    for (left, right) in rows {
        let (given, expected) = (alternatives(&left), alternatives(&right));
        assert!(!given.is_empty() && (!expected.is_empty() || !right.contains('`')), "{left}");
        for (at, lines) in given.iter().enumerate() {
            let text = whole(lines);
            let Imported { toml, messages } = import(&text, name);
            let numbers = numbers(&text, lines);
            assert!(!numbers.is_empty(), "{lines:?} is not in {text}");
            let shown = format!("{heading}: {}\n{text}{messages}{toml}\n", lines.join(" / "));
            let is_right = match right.as_str() {
                _ if is_pending(&messages) => true,
                "refused" => is_named(&messages, name, &numbers, true),
                "nothing" => is_named(&messages, name, &numbers, false) && !messages.contains(": refused: "),
                "accepted" => !messages.contains(": refused: ") && !toml.is_empty(),
                _ => {
                    let of_each = expected.len() == given.len() && given.len() > 1;
                    let wanted = if of_each { expected[at].clone() } else { expected.concat() };
                    !messages.contains(": refused: ") && wanted.iter().all(|one| has(&toml, one))
                }
            };
            if !is_right {
                wrong += &format!("{right} is expected of {shown}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

const SERVER: &str = "server s 10.0.0.1:80";

#[test]
fn each_row_of_global_is_what_the_importer_does() {
    hold("HAProxy", "global", "haproxy.cfg", |lines| {
        format!("global\n  {}\nlisten l\n  bind 127.0.0.1:80\n  {SERVER}\n", lines.join("\n  "))
    });
}

#[test]
fn each_row_of_frontend_is_what_the_importer_does() {
    hold("HAProxy", "defaults, frontend, listen", "haproxy.cfg", |lines| {
        let has = |word: &str| lines.iter().any(|line| line.starts_with(word));
        let bind = if has("bind") { "" } else { "  bind 127.0.0.1:80\n" };
        let default = if has("default_backend") { "" } else { "  default_backend b\n" };
        format!(
            "frontend f\n{bind}  {}\n{default}backend b\n  {SERVER} check\n  \
             server t 10.0.0.3:80 check\nbackend x\n  server s 10.0.0.2:80 check\n",
            lines.join("\n  ")
        )
    });
}

#[test]
fn each_row_of_backend_is_what_the_importer_does() {
    hold("HAProxy", "backend", "haproxy.cfg", |lines| {
        format!(
            "frontend f\n  bind 127.0.0.1:80\n  default_backend b\nbackend b\n  {}\n  {SERVER} check\n  \
             server t 10.0.0.2:80 check\n",
            lines.join("\n  ")
        )
    });
}

#[test]
fn each_row_of_server_is_what_the_importer_does() {
    hold("HAProxy", "server", "haproxy.cfg", |lines| {
        format!("listen b\n  bind 127.0.0.1:80\n  {}\n", lines.join("\n  "))
    });
}

#[test]
fn each_row_of_nginx_main_is_what_the_importer_does() {
    hold("nginx stream", "main, events", "nginx.conf", |lines| {
        format!(
            "{};\nevents {{ }}\nstream {{\n  server {{ listen 80; proxy_pass 10.0.0.1:80; }}\n}}\n",
            lines.join(";\n")
        )
    });
}

#[test]
fn each_row_of_nginx_server_is_what_the_importer_does() {
    hold("nginx stream", "server", "nginx.conf", |lines| {
        let has = |word: &str| lines.iter().any(|line| line.starts_with(word));
        let listen = if has("listen") { "" } else { "listen 80;\n" };
        let pass = if has("proxy_pass") || has("pass") { "" } else { "proxy_pass u;\n" };
        format!(
            "stream {{\nupstream u {{ server 10.0.0.1:80; }}\nupstream x {{ server 10.0.0.2:80; }}\n\
             limit_conn_zone $binary_remote_addr zone=addr:1m;\n\
             map $ssl_preread_server_name $name {{ a.example x; }}\n\
             map $ssl_preread_server_name $names {{ hostnames; *.a.example x; .a.example 10.0.0.3:80; default u; }}\n\
             map $ssl_preread_alpn_protocols $alpn {{ h2 x; http/1.1 x; default u; }}\n\
             map $ssl_preread_protocol $version {{ \"\" u; default x; }}\n\
             geo $where {{ 10.0.0.0/8 x; default u; }}\n\
             split_clients $remote_addr $split {{ 90% x; * u; }}\n\
             server {{\n{listen}{};\n{pass}}}\n}}\n",
            lines.join(";\n")
        )
    });
}

#[test]
fn each_row_of_nginx_upstream_is_what_the_importer_does() {
    hold("nginx stream", "upstream", "nginx.conf", |lines| {
        let server = if lines.iter().any(|line| line.starts_with("server")) { "" } else { "server 10.0.0.9:80;\n" };
        format!(
            "stream {{\nupstream u {{\n{};\n{server}}}\nserver {{ listen 80; proxy_pass u; }}\n}}\n",
            lines.join(";\n")
        )
    });
}

/// What is printed under "becomes" is what comes out, without comments.
#[test]
fn the_examples_are_what_the_importer_writes() {
    for (language, name) in [("haproxy", "haproxy.cfg"), ("nginx", "nginx.conf")] {
        let (_, rest) = PAGE.split_once(&format!("```{language}\n")).unwrap();
        let (given, rest) = rest.split_once("```").unwrap();
        let (_, rest) = rest.split_once("```toml\n").unwrap();
        let expected = rest.split_once("```").unwrap().0;
        let Imported { toml, messages } = import(given, name);
        assert!(!messages.contains("refused"), "{messages}");
        let bare = |line: &str| line.split("  #").next().unwrap().trim_end().to_string();
        let lines: Vec<String> = toml.lines().filter(|line| !line.starts_with('#')).map(bare).collect();
        let written = lines.join("\n").trim().to_string();
        assert_eq!(expected.trim(), written, "{written}");
    }
}
