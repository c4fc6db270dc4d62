//! What the documents say, held against the code.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringway::base::termination::Termination;
use ringway::config::error::Problem;
use ringway::config::load;

#[path = "docs/live.rs"]
mod live;
mod program;

const API: &str = include_str!("../docs/api.md");
const CODES: &str = include_str!("../docs/codes.md");
const METRICS: &str = include_str!("../docs/metrics.md");

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

/// The part of a document below a heading of the second order.
fn part<'a>(text: &'a str, heading: &str) -> &'a str {
    let rest = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The part of `docs/codes.md` below a heading.
fn section(heading: &str) -> &'static str {
    part(CODES, heading)
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
    let documents = documents();
    let mut checked = 0;
    for (name, text) in &documents {
        for (number, block) in blocks(text, "toml").into_iter().enumerate() {
            checked += 1;
            let mut errors = load(block, name, &|_: &str| None).err().unwrap_or_default();
            if !block.contains("[listeners.") {
                errors.retain(|error| !matches!(error.problem, Problem::NoListener | Problem::EmptyPool(_)));
            }
            assert!(errors.is_empty(), "block {number} of {name}:\n{errors:#?}");
        }
    }
    assert!(checked >= 22, "{checked} blocks were found");
}

/// Labels of targets in files, which begin as metrics do.
const LABELS: [&str; 3] = ["ringway_weight", "ringway_backup", "ringway_name"];

#[test]
fn every_metric_that_a_document_names_is_there() {
    let known: Vec<&str> = ringway::stats::list::ALL.iter().map(|metric| metric.name).collect();
    let mut named = 0;
    for (name, text) in texts(&repository().join("docs"), ".md") {
        for metric in found(r"\b(ringway_[a-z_]+[a-z])\b", &text) {
            if LABELS.contains(&metric.as_str()) {
                continue;
            }
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

/// What the headings of a document are called in links.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let slug = |heading: String| heading.to_lowercase().replace(' ', "-").chars().filter(|c| kept(*c)).collect();
    found(r"(?m)^#+ (.*)$", &text).into_iter().map(slug).collect()
}

#[test]
fn no_link_between_documents_leads_nowhere() {
    let mut documents = texts(&repository().join("docs"), ".md");
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let path = repository().join(name);
        documents.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    }
    for (name, text) in documents {
        for link in found(r"\]\(([^):]+)\)", &text) {
            let (file, place) = link.split_once('#').unwrap_or((&link, ""));
            let path = Path::new(&name).parent().unwrap().join(file);
            assert!(path.exists(), "{name} leads to {link}");
            let target = if file.is_empty() { Path::new(&name) } else { &path };
            let is_page = !place.is_empty() && target.extension().is_some_and(|ending| ending == "md");
            assert!(
                !is_page || anchors(target).contains(place),
                "{name} leads to {link}, and there is no such heading"
            );
        }
    }
}

/// Paths and methods of a router in a source file.
fn routes(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join(file)).unwrap();
    let path_of = |expression: &str| match expression.trim_matches('"') {
        "PATH" => {
            found("const PATH: &str = \"([^\"]+)\"", include_str!("../src/take_over/mod.rs")).pop_first().unwrap()
        }
        path => path.to_string(),
    };
    let route = regex::Regex::new(r"\.route\(([^,]+), (.*)\)\n").unwrap();
    let method = regex::Regex::new(r"\b(get|post|put|patch|delete)\(").unwrap();
    let mut all = BTreeSet::new();
    for captures in route.captures_iter(&text) {
        let path = path_of(&captures[1]);
        all.extend(method.captures_iter(&captures[2]).map(|found| format!("{} {path}", found[1].to_uppercase())));
    }
    all
}

#[test]
fn every_route_of_the_api_is_described_and_no_other() {
    let api = routes("src/api/mod.rs");
    assert!(api.len() > 12, "{api:?}");
    let all: BTreeSet<String> = api.into_iter().chain(routes("src/take_over/giver.rs")).collect();
    assert_eq!(found(r"(?m)^## ([A-Z]+ /.*)$", API), all);
    // What the program calls the API elsewhere is the same.
    let total: usize =
        texts(&repository().join("src"), ".rs").iter().map(|(_, text)| text.matches(".route(\"").count()).sum();
    assert_eq!(
        total,
        std::fs::read_to_string(repository().join("src/api/mod.rs")).unwrap().matches(".route(\"").count()
    );
}

#[test]
fn every_state_of_a_backend_is_explained_and_no_other() {
    let states = ringway::health::State::ALL.map(|state| state.name().to_string());
    let explained = part(include_str!("../docs/concepts.md"), "States of a backend");
    let table = explained.split("\n\n").find(|part| part.trim().starts_with("| state")).unwrap();
    assert_eq!(set(quoted(table, 0)), states.into());
}

/// `docs/metrics.md` as the list of the code has it.
fn metrics_page() -> String {
    use ringway::stats::list::{ALL, MetricKind};
    let mut page = METRICS.split("| metric |").next().unwrap().to_string();
    page += "| metric | kind | labels | |\n|---|---|---|---|\n";
    for metric in ALL {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        page += &format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(" "), metric.help);
    }
    page
}

/// `RINGWAY_WRITE_DOCS=1 cargo test --test docs metrics` writes the table anew.
#[test]
fn the_list_of_metrics_is_that_of_the_code() {
    if std::env::var_os("RINGWAY_WRITE_DOCS").is_some() {
        std::fs::write(repository().join("docs/metrics.md"), metrics_page()).unwrap();
        return;
    }
    let remedy = "the list has changed: `RINGWAY_WRITE_DOCS=1 cargo test --test docs metrics` writes it anew";
    assert!(METRICS == metrics_page(), "{remedy}");
}

/// Command lines of ringway in a document: indented ones, those of shell blocks, and those in backquotes. What stands
/// behind a `#`, a `|` or an `&` is the shell's.
fn commands(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut language = None;
    for line in text.lines() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(fence) };
        } else if matches!(language, Some("sh")) || (language.is_none() && line.starts_with("    ")) {
            lines.push(line.to_string());
        }
    }
    let prose = regex::Regex::new(r"(?s)```.*?\n```").unwrap().replace_all(text, "");
    lines.extend(prose.split('`').skip(1).step_by(2).map(|quoted| quoted.replace('\n', " ")));
    let shell = regex::Regex::new(r"^(?:Exec[A-Z][a-z]+=.*/)?ringway ([a-z][^#|&;']*)").unwrap();
    let command = |line: &String| Some(shell.captures(line.trim_start_matches(['$', ' ']))?[1].trim().to_string());
    lines.iter().filter(|line| !line.contains("docker ")).filter_map(command).collect()
}

/// With `--help` at its end the program reads everything before it, and runs nothing.
#[test]
fn every_command_in_the_documents_is_one_that_the_program_takes() {
    let (mut seen, mut refused) = (0, Vec::new());
    for (name, text) in documents() {
        for command in commands(&text) {
            seen += 1;
            // What a reader puts something in place of stands in capitals; here, what fits there.
            let stand_ins = [("CIDR", "10.0.0.0/8"), ("ADDRESS", "10.0.0.7")];
            let filled = stand_ins.iter().fold(command.clone(), |line, (from, to)| line.replace(from, to));
            let words = filled.split_whitespace().filter(|word| *word != "||" && *word != "exit");
            let mut program = Command::new(program::program());
            let ended = program.args(words).arg("--help").env_clear().output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            if !ended.status.success() {
                refused.push(format!("`ringway {command}` of {name}: {said}"));
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(seen >= 40, "{seen} were found");
}

/// Every document for users, by its name.
fn documents() -> Vec<(String, String)> {
    let mut all = texts(&repository().join("docs"), ".md");
    for name in ["README.md", "SECURITY.md", "CHANGELOG.md"] {
        all.push((name.to_string(), std::fs::read_to_string(repository().join(name)).unwrap()));
    }
    all
}

#[test]
fn the_debian_package_has_every_document() {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    for entry in std::fs::read_dir(repository().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "README.md" {
            assert!(manifest.contains(&format!("[\"docs/{name}\", ")), "Cargo.toml does not have docs/{name}");
        }
    }
}

/// Both have one vocabulary, and one place.
#[test]
fn termination_codes_are_explained_in_one_place() {
    let row = regex::Regex::new(r"(?m)^\| `[-CSPLRIDKcs][-RQCDL]`").unwrap();
    for (name, text) in documents() {
        let is_free = name.ends_with("codes.md") || !row.is_match(&text);
        assert!(is_free, "{name} has a table of codes; docs/codes.md is the place");
    }
}

/// What `docs/sizing.md` reckons with, and the line of the code that it comes from.
#[test]
fn figures_for_sizing_are_those_of_the_code() {
    let page = std::fs::read_to_string(repository().join("docs/sizing.md")).unwrap();
    for (said, file, line) in [
        ("reserves | 24 MiB, and 8 MiB per worker", "src/app/limits.rs", "const OWN_MEMORY: u64 = 24 << 20;"),
        ("reserves | 24 MiB, and 8 MiB per worker", "src/app/limits.rs", "const MEMORY_PER_WORKER: u64 = 8 << 20;"),
        ("at 8 KiB per session", "src/app/limits.rs", "const MEMORY_PER_SESSION: u64 = 8 << 10;"),
        ("`receive_buffers_max`: 512 MiB, or a quarter", "src/app/limits.rs", "const BUFFERS_MAX: u64 = 512 << 20;"),
        ("`receive_buffers_max`: 512 MiB, or a quarter", "src/app/limits.rs", "const BUFFERS_PART: u64 = 4;"),
        ("at most 256 pipes per worker", "src/app/limits.rs", "const PIPES_MAX: u64 = 256;"),
        ("a pipe of 1 MiB in the kernel", "src/sys/pipes.rs", "const SIZES: [i32; 3] = [1 << 20, 1 << 19, 1 << 18];"),
        ("64 KiB and one buffer of 16 KiB", "src/relay/mod.rs", "pub const CREDIT: u32 = 64 * 1024;"),
        ("64 KiB and one buffer of 16 KiB", "src/base/lease.rs", "pub const BUFFER_LEN: usize = 16 * 1024;"),
        (
            "ten minutes for the status page | at most 16 MiB",
            "src/stats/history/mod.rs",
            "SAMPLES_BYTES_MAX: usize = 16 << 20;",
        ),
        (
            "may need 2 MiB of locked memory per worker",
            "src/cli/doctor/findings.rs",
            "const MEMLOCK_PER_WORKER: u64 = 2 << 20;",
        ),
    ] {
        assert!(page.contains(said), "docs/sizing.md no longer says {said:?}");
        let code = std::fs::read_to_string(repository().join(file)).unwrap();
        assert!(code.contains(line), "docs/sizing.md says {said:?}, and {file} no longer {line:?}");
    }
}

/// Readers whose first language is not English read each sentence of a dialect twice.
#[test]
fn documents_are_in_plain_english() {
    let dialect =
        "(?i)\\b(who|whoever|nobody|somebody|anybody|at once|made[- ]up|so long|say so|says so|begun|likewise)\\b";
    let dialect = regex::Regex::new(dialect).unwrap();
    let reference = std::fs::read_to_string(repository().join("conf/reference.toml")).unwrap();
    let all = documents().into_iter().chain([("conf/reference.toml".to_string(), reference)]);
    let found: Vec<String> = all
        .flat_map(|(name, text)| {
            let here = |found: regex::Match| format!("{name}: {}", found.as_str());
            dialect.find_iter(&text).map(here).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "write `the client that`, `no client`, `immediately` or `together`: {found:#?}");
}

#[test]
fn pictures_are_small_and_shown() {
    let shown: String = documents().into_iter().map(|(_, text)| text).collect();
    for entry in std::fs::read_dir(repository().join("docs/pictures")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(entry.metadata().unwrap().len() < 150_000, "{name} is too large");
        assert!(shown.contains(&format!("pictures/{name})")), "no document shows {name}");
    }
}
