//! What the documents say, held against the code.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringway::base::termination::Termination;
use ringway::config::error::Problem;
use ringway::config::load;

const CODES: &str = include_str!("../docs/codes.md");

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every file with that ending below a folder.
fn texts(folder: &Path, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The blocks of a document in that language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    text.split(&format!("\n```{language}\n")).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// The part of `docs/codes.md` below a heading.
fn section(heading: &str) -> &'static str {
    let rest = CODES.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// What stands in backquotes in the given cell of each row of a table.
fn quoted(table: &str, cell: usize) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(cell + 1).unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>()).collect()
}

/// What a regular expression's only group finds in a text.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    regex::Regex::new(pattern).unwrap().captures_iter(text).map(|captures| captures[1].to_string()).collect()
}

fn set(names: Vec<String>) -> BTreeSet<String> {
    let count = names.len();
    let set: BTreeSet<String> = names.into_iter().collect();
    assert_eq!(set.len(), count, "something stands there twice: {set:?}");
    set
}

/// A block with a listener is whole; one without shows a part, which only the rest may be missing from.
#[test]
fn every_configuration_in_the_documents_is_accepted() {
    let mut documents = texts(&repository().join("docs"), ".md");
    documents.push(("README.md".to_string(), std::fs::read_to_string(repository().join("README.md")).unwrap()));
    let mut checked = 0;
    for (name, text) in &documents {
        for (number, block) in blocks(text, "toml").into_iter().enumerate() {
            checked += 1;
            let mut errors = load(block, name, &|_| None).err().unwrap_or_default();
            if !block.contains("[listeners.") {
                errors.retain(|error| !matches!(error.problem, Problem::NoListener | Problem::EmptyPool(_)));
            }
            assert!(errors.is_empty(), "block {number} of {name}:\n{errors:#?}");
        }
    }
    assert!(checked >= 22, "{checked} blocks were found");
}

#[test]
fn every_metric_that_a_document_names_is_there() {
    let known: Vec<&str> = ringway::stats::list::ALL.iter().map(|metric| metric.name).collect();
    let mut named = 0;
    for (name, text) in texts(&repository().join("docs"), ".md") {
        for metric in found(r"\b(ringway_[a-z_]+[a-z])\b", &text) {
            named += 1;
            let base = metric.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
            assert!(known.contains(&metric.as_str()) || known.contains(&base), "{metric} of {name}");
        }
    }
    assert!(named > 10, "{named} were found");
}

#[test]
fn the_letters_of_codes_are_those_of_the_code() {
    let all: Vec<String> = (0..Termination::COUNT).map(Termination::letters).collect();
    let letters = |at: usize| all.iter().map(|code| code[at..=at].to_string()).collect::<BTreeSet<_>>();
    let tables: Vec<&str> = section("Termination codes").split("\n\n").filter(|part| part.starts_with('|')).collect();
    assert_eq!(set(quoted(tables[0], 0)), letters(0));
    assert_eq!(set(quoted(tables[1], 0)), letters(1));
    let described = set(quoted(tables[2], 0));
    assert!(described.iter().all(|code| all.contains(code)), "{described:?}");
    for first in letters(0) {
        assert!(described.iter().any(|code| code.starts_with(&first)), "no code that begins with {first}");
    }
    // Whatever a test has seen happen is described.
    for (name, text) in texts(&repository().join("tests/it"), ".rs") {
        for code in found(r#"expect_code\("(..)""#, &text) {
            assert!(described.contains(&code), "{code} of {name}");
        }
    }
}

#[test]
fn every_reason_is_described_and_no_other() {
    let names = |file: &str, kind: &str| {
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        found(&format!("{kind}::[A-Za-z]+ => \"([a-z_]+)\""), &text)
    };
    let mut reasons = names("src/stats/record.rs", "Reason");
    let refused = names("src/base/refused.rs", "Refused");
    assert!(reasons.len() > 5 && refused.len() > 5, "{reasons:?} {refused:?}");
    reasons.extend(refused);
    assert_eq!(set(quoted(section("Reasons"), 0)), reasons);
    let codes: BTreeSet<String> = quoted(section("Reasons"), 1).into_iter().collect();
    let letters: Vec<String> = (0..Termination::COUNT).map(Termination::letters).collect();
    for code in codes.iter().filter(|code| !code.ends_with('.')) {
        assert!(letters.contains(code), "{code}");
    }
}

/// Of each line that is quoted, every piece stands in the code. Words in capitals and dots stand for something else.
#[test]
fn refusals_are_quoted_as_they_are_said() {
    let code: String = texts(&repository().join("src"), ".rs").into_iter().map(|(_, text)| text).collect();
    let code = regex::Regex::new(r"\\\n\s*").unwrap().replace_all(&code, "").into_owned();
    let lines = quoted(section("When it does not start"), 0);
    assert!(lines.len() > 10);
    for line in lines {
        for piece in line.split("...").flat_map(|part| part.split(": ")) {
            let piece = piece.trim().trim_end_matches(':');
            let is_stand_in = piece.is_empty() || piece.starts_with("FILE:LINE");
            assert!(is_stand_in || code.contains(piece), "nobody says {piece:?} of {line:?}");
        }
    }
}

#[test]
fn no_link_between_documents_leads_nowhere() {
    let mut documents = texts(&repository().join("docs"), ".md");
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let path = repository().join(name);
        documents.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    }
    for (name, text) in documents {
        for link in found(r"\]\(([^)#:]+)(?:#[^)]*)?\)", &text) {
            let path = Path::new(&name).parent().unwrap().join(&link);
            assert!(path.exists(), "{name} leads to {link}");
        }
    }
}
