//! Files that import each other in a circle can only be understood together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{File, files};

/// The circles that are meant. `relay/half` and `relay/splice` are two chapters of one thing: a half that becomes bulk
/// moves on in a pipe, and comes back.
const MEANT: &[&[&str]] = &[&["relay/half", "relay/splice"]];

/// What each file imports of ours outside of tests, by `use` lines and by paths within the code. A file does not import
/// those it is a part of: a child names its parent as a chapter names its book.
fn imports(all: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = all.iter().filter_map(|file| file.module().map(str::to_string)).collect();
    let mut found = BTreeMap::new();
    for file in all {
        let Some(module) = file.module() else { continue };
        let mut imported = BTreeSet::new();
        for path in used_paths(file).into_iter().chain(inline_paths(file)) {
            // The longest part of it that is a file.
            let mut parts: Vec<&str> = absolute(&path, module, &modules);
            while !parts.is_empty() && !modules.contains(&parts.join("/")) {
                parts.pop();
            }
            let target = parts.join("/");
            let is_ancestor = target.is_empty() || module == target || module.starts_with(&format!("{target}/"));
            if !is_ancestor {
                imported.insert(target);
            }
        }
        found.insert(module.to_string(), imported);
    }
    found
}

/// A path from the root of the crate, as parts.
fn absolute<'a>(path: &'a str, module: &'a str, modules: &BTreeSet<String>) -> Vec<&'a str> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let own: Vec<&str> = module.split('/').collect();
    match parts[0] {
        "crate" => parts.split_off(1),
        "super" => [&own[..own.len() - 1], &parts[1..]].concat(),
        "self" => [&own[..], &parts[1..]].concat(),
        first if modules.contains(&format!("{module}/{first}")) => [&own[..], &parts[..]].concat(),
        _ => Vec::new(),
    }
}

/// Every path of the `use` declarations of a file, with the groups written out.
fn used_paths(file: &File) -> Vec<String> {
    let code: Vec<String> = file.code().into_iter().map(|(_, line)| line).collect();
    let mut paths = Vec::new();
    let mut open: Option<String> = None;
    for line in code {
        let trimmed = line.trim();
        let bare = trimmed.split_once("use ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        let text = match (open.take(), bare) {
            (Some(begun), _) => begun + trimmed,
            (None, Some((_, rest))) => rest.to_string(),
            (None, None) => continue,
        };
        match text.split_once(';') {
            Some((whole, _)) => write_out("", whole, &mut paths),
            None => open = Some(text),
        }
    }
    paths
}

/// Every path that the code writes out from the root of the crate or from the parent of its file.
fn inline_paths(file: &File) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut paths = Vec::new();
    for (_, line) in file.code() {
        for word in
            line.split(|c| !is_part(c)).filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        {
            paths.push(word.trim_end_matches(':').to_string());
        }
    }
    paths
}

/// `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn write_out(prefix: &str, text: &str, into: &mut Vec<String>) {
    for part in crate::top_level(text) {
        let part = part.trim().split(" as ").next().unwrap_or_default();
        match part.split_once("::{") {
            Some((head, group)) => write_out(&format!("{prefix}{head}::"), group, into),
            None if part.is_empty() => {}
            None => into.push(format!("{prefix}{part}").trim_end_matches("::self").to_string()),
        }
    }
}

/// Every set of files that reach each other, in order.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached_from = |start: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(at) = next.pop() {
            for target in graph.get(at).into_iter().flatten() {
                if seen.insert(target.clone()) {
                    next.push(target);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|file| (file, reached_from(file))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, targets) in &reached {
        let mutual = |other: &&String| reached.get(*other).is_some_and(|back| back.contains(*file));
        let circle: Vec<String> = targets.iter().filter(mutual).cloned().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[test]
fn only_the_circles_of_imports_that_are_meant_exist() {
    let graph = imports(&files("src"));
    let ties = |circle: &Vec<String>| {
        let of = |file: &String| {
            format!("{file} -> {:?}", graph[file].iter().filter(|to| circle.contains(to)).collect::<Vec<_>>())
        };
        circle.iter().map(of).collect::<Vec<_>>()
    };
    let found = circles(&graph);
    let unmeant: Vec<_> =
        found.iter().filter(|circle| !MEANT.iter().any(|meant| *meant == **circle)).map(ties).collect();
    assert!(unmeant.is_empty(), "files import each other: {unmeant:#?}");
    assert_eq!(found.len(), MEANT.len(), "a circle that is meant is there no more: take it off the list");
}

/// A benchmark that can only be read as a whole is not read.
#[test]
fn the_macro_benchmark_has_no_circles_of_imports() {
    let mut all = files("benches/macro");
    assert!(!all.is_empty());
    for file in &mut all {
        file.path = file.path.replacen("benches/macro", "src", 1);
    }
    let found = circles(&imports(&all));
    assert!(found.is_empty(), "files import each other: {found:#?}");
}

#[test]
fn circles_are_found() {
    let file = |path: &str, text: &str| File { path: path.to_string(), text: text.to_string() };
    let all = [
        file("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\n"),
        file("src/a/b.rs", "use super::c::{C,\n    D};\nuse crate::a::A;\n"),
        file("src/a/c.rs", "use crate::{e, f::{F, g}};\n"),
        file("src/e.rs", "use crate::a::b::B;\n"),
        file("src/f.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::c::C;\n}\n"),
        file("src/g.rs", "fn g() {\n    crate::h::h(); // crate::e\n}\n"),
        file("src/h.rs", "fn h(g: &super::g::G) {}\n"),
    ];
    assert_eq!(circles(&imports(&all)), [vec!["a/b", "a/c", "e"], vec!["g", "h"]]);
}
