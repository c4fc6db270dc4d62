//! `ringway import` and `ringway diff`, as the built program does them.
//!
//! `tests/data/import` has small configurations in the words of published ones. Comments in them say what is expected:
//! `# has: LINE` is a line of the result, a line that ends with `# refused` is refused by its number, and `# partial:
//! TEXT` stands in what `--partial` writes. Whatever is written passes `ringway check`.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs ringway.
fn ringway(arguments: &[&str]) -> Output {
    Command::new(program::program()).args(arguments).output().expect("the program was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// What comments of a configuration say after that word.
fn said<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let start = format!("# {word}: ");
    text.lines().filter_map(|line| line.strip_prefix(&start)).collect()
}

/// The numbers of the lines that a message of the import refuses, of a file.
fn refused(messages: &str, file: &str) -> BTreeSet<usize> {
    let of = |line: &str| {
        let (number, text) = line.strip_prefix(file)?.strip_prefix(':')?.split_once(": ")?;
        text.starts_with("refused: ").then(|| number.parse().unwrap())
    };
    messages.lines().filter_map(of).collect()
}

/// Whether something was refused only because ringway does not have the key that says it.
fn is_pending(messages: &str) -> bool {
    let keys: Vec<&str> =
        messages.split("refused: ringway cannot say `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    let reference = ringway(&["reference"]);
    for key in keys.iter().filter(|key| !key.contains(' ')) {
        let is_there =
            text(&reference.stdout).lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")));
        assert!(!is_there, "ringway has `{key}`: {messages}");
    }
    !keys.is_empty()
}

/// A configuration passes `ringway check`.
fn is_taken(toml: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringway.toml");
    fs::write(&path, toml).unwrap();
    let output = ringway(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}{toml}", text(&output.stderr));
}

/// Whether a line, a key of an inline table or a value is written.
fn has(toml: &str, wanted: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([' ', ',', '\n']);
    toml.match_indices(wanted).any(|(at, _)| is_end(&toml[at + wanted.len()..]))
}

#[test]
fn every_published_configuration_is_carried_over_or_refused_by_line() {
    let all = fixtures();
    assert!(all.len() >= 37);
    let mut wrong = String::new();
    for path in all {
        let (file, given) = (path.to_str().unwrap(), fs::read_to_string(&path).unwrap());
        let output = ringway(&["import", file]);
        let messages = text(&output.stderr);
        if file.ends_with(".yaml") || file.ends_with(".yml") {
            assert_eq!(output.status.code(), Some(2), "{messages}");
            assert!(messages.contains("no configuration of HAProxy or nginx"), "{messages}");
            continue;
        }
        if is_pending(messages) {
            assert_eq!(output.status.code(), Some(1), "{messages}");
            continue;
        }
        let expected: BTreeSet<usize> =
            given.lines().enumerate().filter(|(_, line)| line.ends_with("# refused")).map(|(at, _)| at + 1).collect();
        let found = refused(messages, file);
        if found != expected {
            wrong += &format!("{file}: refused {found:?}, not {expected:?}\n{messages}\n");
            continue;
        }
        assert_eq!(output.status.code(), Some(i32::from(!expected.is_empty())), "{file}: {messages}");
        let partial = said(&given, "partial");
        let toml = match expected.is_empty() {
            true => text(&output.stdout).to_string(),
            false => {
                assert!(output.stdout.is_empty(), "{file}: a part is written without being asked for");
                let output = ringway(&["import", "--partial", file]);
                assert_eq!(output.status.code(), Some(1), "{file}");
                text(&output.stdout).to_string()
            }
        };
        assert_eq!(toml.is_empty(), !expected.is_empty() && partial.is_empty(), "{file}: {messages}{toml}");
        for line in said(&given, "has").into_iter().chain(partial) {
            if !has(&toml, line) {
                wrong += &format!("{file}: no `{line}` in\n{toml}{messages}\n");
            }
        }
        if !toml.is_empty() {
            is_taken(&toml);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_cannot_be_read_is_one_line_with_its_place_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    for (name, given, says) in [
        ("a.cfg", "global\n  maxconn 5\nfrontend x\n  bind :{{ port }}\n", "a.cfg:4: `{{` is of a template"),
        ("b.cfg", "frontend x\n  description \"a\n", "b.cfg:2: the quote \" is not closed"),
        ("c.cfg", "frontend x\n  bind :80\n%{ for s in servers }\n", "c.cfg:3: `%{` is of a template"),
        ("d.conf", "stream {\n  upstream <%= @name %> { }\n}\n", "d.conf:2: `<%` is of a template"),
        ("e.conf", "stream {\n  server {\n    listen 80;\n", "e.conf:2: the block `server {` does not end"),
        ("f.conf", "stream {\n  map $a $b {\n    \"x y;\n}\n", "f.conf:3: the quote \" is not closed"),
        ("g.conf", "stream {\n}\n}\n", "g.conf:3: this `}` closes nothing"),
        ("h.cfg", "frontend x\n.if defined(A)\n  bind :80\n.endif\n", "h.cfg:2: `.if` is decided by HAProxy itself"),
        ("i.cfg", "hello\n", "i.cfg looks like no configuration of HAProxy or nginx"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, given).unwrap();
        let output = ringway(&["import", path.to_str().unwrap()]);
        let messages = text(&output.stderr);
        assert_eq!((output.status.code(), messages.lines().count()), (Some(2), 1), "{name}: {messages}");
        assert!(messages.contains(says) && output.stdout.is_empty(), "{name}: {messages}");
    }
    let output = ringway(&["import", folder.path().join("none").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no file"));
}

#[test]
fn a_file_that_is_there_stays_as_it_was_when_something_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let good = "listen a\n  bind 127.0.0.1:80\n  server a 10.0.0.1:80\n";
    let bad = format!("{good}listen b\n  bind 127.0.0.1:81\n  rate-limit sessions 5\n  server b 10.0.0.1:81\n");
    fs::write(at("good.cfg"), good).unwrap();
    fs::write(at("bad.cfg"), &bad).unwrap();
    fs::write(at("out.toml"), "mine").unwrap();
    let output = ringway(&["import", &at("bad.cfg"), "-o", &at("out.toml")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(at("out.toml")).unwrap(), "mine");
    let output = ringway(&["import", &at("bad.cfg"), "-o", &at("out.toml"), "--partial"]);
    assert_eq!(output.status.code(), Some(1));
    let partial = fs::read_to_string(at("out.toml")).unwrap();
    assert!(partial.contains("[listeners.a]") && !partial.contains("[listeners.b]"), "{partial}");
    let output = ringway(&["import", &at("good.cfg"), "-o", &at("out.toml")]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
    is_taken(&fs::read_to_string(at("out.toml")).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside it");
}

#[test]
fn files_that_nginx_includes_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("stream.d")).unwrap();
    let server = |port: u16| format!("server {{\n  listen 127.0.0.1:{port};\n  proxy_pass 10.0.0.1:{port};\n}}\n");
    fs::write(folder.path().join("stream.d/b.conf"), server(82)).unwrap();
    fs::write(folder.path().join("stream.d/a.conf"), server(81) + "include more;\n").unwrap();
    fs::write(folder.path().join("more"), server(80)).unwrap();
    let main = folder.path().join("nginx.conf");
    fs::write(&main, "events {}\nstream {\n  include stream.d/*.conf;\n  include nowhere/*.conf;\n}\n").unwrap();
    let output = ringway(&["import", main.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let toml = text(&output.stdout);
    for port in 80..83 {
        assert!(toml.contains(&format!("bind = \"127.0.0.1:{port}\"")), "{toml}");
    }
    assert!(toml.contains("stream.d/a.conf:1"), "the line of the included file: {toml}");
    is_taken(toml);
    fs::write(&main, "events {}\nstream {\n  include gone.conf;\n}\n").unwrap();
    let output = ringway(&["import", main.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nginx.conf:3: refused: "), "{}", text(&output.stderr));
    // A file that includes itself ends.
    fs::write(&main, "events {}\nstream {\n  include nginx.conf;\n}\n").unwrap();
    assert_eq!(ringway(&["import", main.to_str().unwrap()]).status.code(), Some(2));
}

#[test]
fn two_files_that_differ_are_told_apart_by_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let old = "[listeners.l]\nbind = \"127.0.0.1:80\"\npool = \"p\"\n[pools.p]\n\
               backends = [{ name = \"a\", address = \"10.0.0.1:80\" }, { name = \"b\", address = \"10.0.0.2:80\" }]\n";
    let (one, same) = (write("one", old), write("same", &format!("# a comment\n{old}")));
    let output = ringway(&["diff", &one, &same]);
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
    let new = old.replace(":80\"\npool", ":81\"\npool").replace(", { name = \"b\", address = \"10.0.0.2:80\" }", "");
    let two = write("two", &format!("{new}[process]\nworkers = 3\n"));
    let output = ringway(&["diff", &one, &two]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(
        lines,
        [
            "process: workers auto → 3",
            "listeners.l: bind 127.0.0.1:80 → 127.0.0.1:81",
            "pools.p.backends.b removed (10.0.0.2:80)",
            "opens 127.0.0.1:81 (listener l)",
            "closes 127.0.0.1:80 (listener l): its open sessions go on",
            "drains b (10.0.0.2:80) of pool p, within 30s",
            "needs another process, by a restart or with --take-over: process: workers auto → 3",
        ]
    );
    let bad = write("bad", "nonsense = 1\n");
    for (old, new) in
        [(&one, &bad), (&bad, &one), (&bad, &bad), (&one, &folder.path().join("none").display().to_string())]
    {
        let output = ringway(&["diff", old, new]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{old} {new}");
        assert!(!output.stderr.is_empty());
    }
}
