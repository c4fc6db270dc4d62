//! Comments are read by people whose first language is not English. They read a sentence of a dialect twice, so its
//! phrases are not allowed; and a stranger needs doc comments, so there is a floor for those.

use std::collections::BTreeMap;

use regex::Regex;

use crate::{File, files};

/// Phrases that have a plainer form, each with that form.
const DIALECT: &[(&str, &str)] = &[
    (r"who(ever|m)", "the client that, the thread that"),
    (r"(no|any|some)body('s)?", "no client, any worker, another program"),
    ("at once", "immediately, or together"),
    ("made[- ]up", "simulated, or invented"),
    ("so long", "as long as, or for this time"),
    ("(say|says|said|saying) so", "what is said"),
    ("begun", "started"),
    ("likewise", "the whole sentence once more"),
    ("may no", "must not, cannot"),
    ("(once|twice|line|bytes|one) a (second|turn|worker|core|session|direction)", "per second"),
];

/// `who` is for people: these words can stand before it. A program, a client or a backend is one `that` does something.
const PEOPLE: [&str; 9] =
    ["person", "people", "user", "users", "operator", "author", "reader", "attacker", "administrator"];

/// Doc comment lines per hundred lines of code in `src`, tests left out. It follows the tree upwards, never down.
const DOCS_PER_HUNDRED_MIN: usize = 25;

/// The comment that a line ends with, if it has one. A `//` inside a text is none.
fn comment(line: &str) -> Option<&str> {
    let (mut quoted, mut previous) = (false, ' ');
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quoted => _ = chars.next(),
            '"' if previous != '\'' => quoted = !quoted,
            '/' if !quoted && chars.peek().is_some_and(|(_, next)| *next == '/') => {
                return Some(line[at..].trim_start_matches(['/', '!']).trim());
            }
            _ => {}
        }
        previous = c;
    }
    None
}

/// A comment without what it quotes: names in code, and texts.
fn own_words(comment: &str) -> String {
    let mut words = String::new();
    for (quote, part) in comment.split('`').enumerate() {
        if quote % 2 == 0 {
            words.extend(part.split('"').step_by(2).collect::<Vec<_>>());
        }
        words.push_str(" _ "); // what was quoted is a word of its own
    }
    words
}

/// What of the dialect a comment has, with the plainer form.
fn dialect(comment: &str) -> Option<(String, &'static str)> {
    static PATTERNS: std::sync::LazyLock<Vec<(Regex, &str)>> = std::sync::LazyLock::new(|| {
        let pattern = |(phrase, plain): &(&str, &'static str)| {
            (Regex::new(&format!(r"(?i)\b({phrase})\b")).expect("a pattern"), *plain)
        };
        DIALECT.iter().map(pattern).collect()
    });
    let words = own_words(comment);
    let found = PATTERNS.iter().find_map(|(pattern, plain)| Some((pattern.find(&words)?.as_str().to_string(), *plain)));
    found.or_else(|| {
        let mut before = "";
        for word in words.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
            if word.eq_ignore_ascii_case("who") && !PEOPLE.contains(&before.to_lowercase().as_str()) {
                return Some((word.to_string(), "the client that, which user"));
            }
            before = word;
        }
        None
    })
}

/// Every comment of the dialect, with its place.
fn faults(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let of_line = |(at, line): (usize, &str)| {
        let (found, plain) = dialect(comment(line)?)?;
        Some(format!("{}:{}: `{found}`; write: {plain}", file.path, at + 1))
    };
    lines.filter_map(of_line).collect()
}

#[test]
fn comments_are_in_plain_english() {
    let all = ["src", "tests", "benches"].into_iter().flat_map(files);
    // This file quotes the dialect.
    let others = all.filter(|file| file.path != "tests/tidy/words.rs");
    let found: Vec<String> = others.flat_map(|file| faults(&file)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn there_are_enough_doc_comments_for_a_stranger() {
    let mut rooms: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for file in files("src").iter().filter(|file| !file.path.contains("tests")) {
        let room = file.module().and_then(|module| module.split('/').next()).unwrap_or_default();
        let counts = rooms.entry(room.to_string()).or_default();
        let code = file.code();
        for (number, code) in &code {
            let line = file.text.lines().nth(number - 1).unwrap_or_default().trim_start();
            let is_doc = line.starts_with("///") || line.starts_with("//!");
            counts.0 += usize::from(is_doc);
            counts.1 += usize::from(!code.trim().is_empty());
        }
    }
    let per_hundred = |(docs, code): (usize, usize)| docs * 100 / code.max(1);
    let all = rooms.values().fold((0, 0), |sum, room| (sum.0 + room.0, sum.1 + room.1));
    let shown: Vec<String> = rooms.iter().map(|(room, counts)| format!("{room} {}", per_hundred(*counts))).collect();
    println!("doc lines per hundred lines of code: {} of {all:?} ({})", per_hundred(all), shown.join(", "));
    assert!(per_hundred(all) >= DOCS_PER_HUNDRED_MIN, "{} of {DOCS_PER_HUNDRED_MIN}: {shown:?}", per_hundred(all));
}

#[test]
fn the_dialect_is_seen_and_nothing_else() {
    for (comment, found) in [
        ("/// Whoever waits is served.", Some("Whoever")),
        ("// Nobody else reads.", Some("Nobody")),
        ("let x = 1; // closed at once", Some("at once")),
        ("/// A made-up address.", Some("made-up")),
        ("/// To be called once a second.", Some("once a second")),
        ("//! The client, who has left.", Some("who")),
        ("/// The user who asks.", None),
        ("/// The client that asks.", None),
        ("/// `who` says it; \"at once\" is quoted.", None),
        ("let url = \"http://nobody\";", None),
        ("/// A whole second, a wholesome one.", None),
    ] {
        let seen = super::words::comment(comment).and_then(dialect).map(|(found, _)| found);
        assert_eq!(seen.as_deref(), found, "{comment}");
    }
}
