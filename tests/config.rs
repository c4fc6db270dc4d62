//! The configuration files that ringway ships, held against the code.

use ringway::config::keys::{self, Default, Key, Kind};
use ringway::config::load;

const REFERENCE: &str = include_str!("../conf/reference.toml");
const README: &str = include_str!("../README.md");
const MINIMAL: &str = include_str!("../conf/ringway.toml");

/// A key as `conf/reference.toml` has it.
struct Documented {
    section: String,
    name: String,
    value: toml::Value,
    comment: String,
}

impl Documented {
    /// Its default and range.
    fn last_line(&self) -> &str {
        self.comment.lines().last().unwrap_or_else(|| panic!("{} has no comment", self.name))
    }
}

/// What stands directly above a key is its comment.
fn documented() -> Vec<Documented> {
    let (mut section, mut found, mut above) = (String::new(), Vec::new(), Vec::new());
    for line in REFERENCE.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            above.push(text.trim());
            continue;
        }
        let comment = std::mem::take(&mut above).join("\n");
        // A table behind a `#` turns something on by being there.
        let table = line.trim_start_matches('#').trim();
        if table.starts_with('[') {
            section = table.to_string();
        } else if let Some((name, value)) = line.split_once(" = ") {
            // One that means something only beside another key.
            let name = name.trim_start_matches('#').to_string();
            let value: toml::Table = format!("v = {value}").parse().expect(line);
            found.push(Documented { section: section.clone(), name, value: value["v"].clone(), comment });
        }
    }
    found
}

fn entry<'a>(all: &'a [Documented], key: &Key) -> &'a Documented {
    let mut entries = all.iter().filter(|entry| entry.section == key.section.title() && entry.name == key.name);
    let entry = entries.next().unwrap_or_else(|| panic!("{} has no {}", key.section.title(), key.name));
    assert!(entries.next().is_none(), "{} stands there twice", key.name);
    entry
}

#[test]
fn what_is_shipped_loads() {
    let example = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    assert_eq!(example.lines().count(), 6);
    for (name, text) in [("reference.toml", REFERENCE), ("ringway.toml", MINIMAL), ("README.md", example)] {
        if let Err(errors) = load(text, name, &|_: &str| None) {
            panic!("{errors:#?}");
        }
    }
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let all = documented();
    for key in keys::KEYS {
        entry(&all, key);
    }
    assert_eq!(all.len(), keys::KEYS.len());
    let known: Vec<&str> = keys::KEYS.iter().map(|key| key.section.title()).collect();
    assert!(all.iter().all(|entry| known.contains(&entry.section.as_str())));
}

#[test]
fn each_key_of_the_reference_has_its_meaning_and_fits_on_a_screen() {
    for entry in documented() {
        assert!(entry.comment.lines().count() >= 2, "{} {} lacks its meaning or default", entry.section, entry.name);
    }
    for line in REFERENCE.lines() {
        assert!(line.chars().count() <= 120, "more than 120 columns: {line}");
    }
}

#[test]
fn the_reference_has_the_defaults_of_the_code() {
    let all = documented();
    for key in keys::KEYS {
        let entry = entry(&all, key);
        match key.default {
            Default::Is(text) => {
                let default: toml::Table = format!("v = {text}").parse().expect(text);
                assert_eq!(entry.value, default["v"], "{}", key.name);
                // What is said in words is the same.
                let said = entry.last_line().strip_prefix("Default: ").unwrap_or_else(|| panic!("{}", key.name));
                let value = entry.value.to_string();
                let rest = said.strip_prefix(&value).unwrap_or_else(|| panic!("{}: {value}, not {said}", key.name));
                assert!(rest.starts_with(['.', ',']), "{}: {said}", key.name);
            }
            Default::Required(_) => assert!(entry.last_line().starts_with("Required."), "{}", key.name),
            Default::Absent => assert!(entry.last_line().starts_with("Default: "), "{}", key.name),
        }
    }
}

#[test]
fn the_reference_has_the_ranges_of_the_code() {
    let all = documented();
    for key in keys::KEYS {
        let range = match key.kind {
            Kind::Integer(_, max) if max == u32::MAX as u64 => continue,
            Kind::Integer(min, max) | Kind::AutoOr(min, max) => format!("from {min} to {max}"),
            Kind::Duration(span) => span.range(),
            Kind::AutoOrSize(min, max) => keys::range_of_sizes(min, max),
            Kind::Word(words) | Kind::WordOrPath(words) | Kind::WordPathOrSyslog(words) => {
                let comment = &entry(&all, key).comment;
                assert!(words.iter().all(|word| comment.contains(&format!("{word:?}"))), "{}: {words:?}", key.name);
                continue;
            }
            _ => continue,
        };
        let comment = &entry(&all, key).comment;
        assert!(comment.contains(&range), "`{}` says {comment:?}, the code says {range:?}", key.name);
    }
}
