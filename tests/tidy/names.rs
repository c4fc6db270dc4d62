//! A name that two types share is misread by every reader that knows the other one.

use std::collections::{BTreeMap, BTreeSet};

use crate::files;

/// Per cent of the names of types that more than one type may have.
const SHARED_MAX: usize = 15;

/// Where each name of a type is defined, outside of tests.
fn types() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files("src") {
        let Some(module) = file.module().map(str::to_string) else { continue };
        for (_, line) in file.code() {
            if let Some(name) = defined(&line) {
                found.entry(name).or_default().insert(module.clone());
            }
        }
    }
    found
}

/// The type that a line defines: a struct, an enum, a trait, a union or an alias.
fn defined(line: &str) -> Option<String> {
    let bare = line.trim_start().trim_start_matches("unsafe ");
    let bare = match bare.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")) {
        Some((_, rest)) => rest,
        None => bare.trim_start_matches("pub "),
    };
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = bare.split(|c| !is_part(c)).filter(|word| !word.is_empty());
    let kind = words.next()?;
    // A type inside an `impl` or a trait is a part of that.
    let is_own = kind != "type" || !line.starts_with(' ');
    let is_type = ["struct", "enum", "trait", "union", "type"].contains(&kind) && is_own;
    words.next().filter(|_| is_type).map(str::to_string)
}

#[test]
fn few_types_share_a_name() {
    let all = types();
    let shared: BTreeMap<&String, &BTreeSet<String>> = all.iter().filter(|(_, places)| places.len() > 1).collect();
    let defined: usize = all.values().map(BTreeSet::len).sum();
    let sharing: usize = shared.values().map(|places| places.len()).sum();
    let percent = sharing * 100 / defined.max(1);
    assert!(percent <= SHARED_MAX, "{sharing} of {defined} types ({percent} %) share their name: {shared:#?}");
}

#[test]
fn types_are_found_and_nothing_else() {
    for (line, name) in [
        ("pub struct Half {", Some("Half")),
        ("pub(in crate::cli) enum Tone {", Some("Tone")),
        ("    struct Inner(u8);", Some("Inner")),
        ("pub type Word = X;", Some("Word")),
        ("    type Sample = X;", None),
        ("let structure = 1;", None),
        ("fn type_of() {", None),
    ] {
        assert_eq!(defined(line).as_deref(), name, "{line}");
    }
}
